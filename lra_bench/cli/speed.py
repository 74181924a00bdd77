"""The verb ``speed``: what models cost, measured in turn with the dense transformer."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench.cli.completion import KeyValueWords
from lra_bench.cli.parsing import EXIT_FAILED, Parser, add_config_dir, make_importable
from lra_bench.errors import UserError

if TYPE_CHECKING:
    from lra_bench.speed.measure import Plan
    from lra_bench.speed.session import Effort

# Keys of this verb's own, with what they are if nothing is said.
_LENGTHS, _BATCH_SIZE = (1024, 2048, 3072, 4096), 8
# What is chosen if nothing is said; the setting has its default in conf/.
_CHOSEN = {"model": "glob(*)", "task": "text"}
# Of a run, what would be read by nobody here.
_NOT_HERE = ("tracker", "checkpoint_seconds", "num_processes")
_LONGEST_LENGTH, _LARGEST_BATCH = 1 << 20, 1 << 16
_DESCRIPTION = """\
Measure time, memory and energy of training and inference steps, each model in a process of its own
that takes turns with one of the dense transformer; write records, tables and pictures.

  lra-bench speed
  lra-bench speed model=local,ernie_sparse length=1024,4096,16384 --limit 60
  lra-bench speed model=ernie_sparse setting=small batch_size=32 device=cuda
  lra-bench speed --tables
"""
_EPILOG = f"""\
keys; those of a run (`lra-bench run --help`), of which several values may be listed, and
  model=glob(*)  task=text  setting=cpu  objective=cross_entropy
  length={",".join(map(str, _LENGTHS))}   tokens of an input: made up, none of them padding
  batch_size={_BATCH_SIZE}                    examples a step, whatever the setting has
  trunk.KEY=  head.KEY=  model.KEY=  device=auto  num_threads=  results_dir=results
  force=true measures again what has been measured; wait=false stops where somebody else measures

What has been measured with the same code is not measured again, so that a table that was
interrupted goes on when the same line is given again. A model that runs out of time or memory is a
line that says so. docs/speed.md tells what each number means.
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "speed",
        summary="measure time and memory of models over the length",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    words = parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as below")
    own = {"length": tuple(map(str, _LENGTHS)), "batch_size": (str(_BATCH_SIZE),)}
    words.completer = KeyValueWords("run", own)  # type: ignore[attr-defined]
    add_config_dir(parser)
    parser.add_argument(
        "--limit",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="time that a model may take for a length (default: 300)",
    )
    parser.add_argument(
        "--memory-limit",
        type=float,
        metavar="GB",
        help="memory that its process may get (default: nine tenths of what is free)",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="turns of each model (default: 5)"
    )
    parser.add_argument(
        "--round-seconds",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="a turn has as many steps as fit, and at least one (default: 0.1)",
    )
    parser.add_argument(
        "--busy", action="store_true", help="measure again what was measured on a busy machine"
    )
    parser.add_argument(
        "--tables", action="store_true", help="make tables and pictures only, of all records"
    )
    parser.set_defaults(function=_speed)
    return parser


def _speed(parsed: argparse.Namespace) -> int:
    from lra_bench.speed.report import publish

    make_importable(parsed.config_dir)
    if parsed.tables:
        results_dir, shown, code = _results_dir(parsed.words), None, 0
    else:
        effort = _effort(parsed)
        plan, quiet = _plan(parsed, effort)
        from lra_bench.speed.measure import run

        written = run(plan, quiet=quiet)
        results_dir, shown = plan.results_dir, {cell.cell_id for cell in plan.cells}
        failed = [record for record in written if record.status == "failed"]
        code = EXIT_FAILED if failed else 0
    report = publish(results_dir, cell_ids=shown)
    print(report.brief)
    print(f"records: {results_dir / 'speed'}")
    print(f"tables:  {', '.join(map(str, report.paths))}")
    sys.stdout.flush()
    return code


def _results_dir(words: Sequence[str]) -> Path:
    """Return the folder to make tables of, the only thing that there is to choose then."""
    folder = "results"
    for word in words:
        key, _, folder = word.partition("=")
        if key != "results_dir":
            raise UserError(f"{word}: --tables takes results_dir= alone; it shows all records")
    return Path(folder).expanduser()


def _effort(parsed: argparse.Namespace) -> Effort:
    """Return how much to measure.

    Raises:
        UserError: A number is out of range.
    """
    from lra_bench.speed.session import Effort

    limits = {
        "--limit": parsed.limit,
        "--memory-limit": parsed.memory_limit,
        "--rounds": parsed.rounds,
    }
    for option, value in limits.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{option} {value} must be positive")
    if not 0 <= parsed.round_seconds <= parsed.limit:
        raise UserError(f"--round-seconds {parsed.round_seconds} must be from 0 to --limit")
    memory = parsed.memory_limit
    return Effort(
        num_rounds=parsed.rounds,
        round_seconds=parsed.round_seconds,
        # The optimizer has its state after the first; the second has all that a step needs.
        warmup_steps=3,
        limit_seconds=parsed.limit,
        memory_limit_bytes=None if memory is None else int(memory * 1e9),
    )


def _plan(parsed: argparse.Namespace, effort: Effort) -> tuple[Plan, bool]:
    """Return what to measure, and whether to be silent about it.

    Raises:
        UserError: A name, a key or a value is wrong.
    """
    from lra_bench.sweep import expand, spelt_out

    own = {"length": _LENGTHS, "batch_size": (_BATCH_SIZE,)}
    others = []
    for word in parsed.words:
        key, equals, value = word.partition("=")
        if word.startswith(("hydra.", "hydra/")):
            raise UserError(f"{word} belongs to `lra-bench run -m`")
        if key.split(".")[0] in _NOT_HERE:
            raise UserError(f"{word} belongs to `lra-bench run`: nothing is trained here")
        if key in own and equals:
            own[key] = _whole(key, value)
        else:
            others.append(word)
    if len(own["batch_size"]) > 1:
        raise UserError("batch_size= takes one number; different batches are different tables")
    given = {word.partition("=")[0] for word in others}
    others += [f"{key}={value}" for key, value in _CHOSEN.items() if key not in given]
    words = spelt_out(others, config_dirs=parsed.config_dir)
    requests = expand(words, config_dirs=parsed.config_dir)

    # After everything that can be refused without torch.
    from lra_bench.speed.cell import cells_of
    from lra_bench.speed.measure import Plan, describe_machine

    configs = [request.config for request in requests]
    chosen = {(one.device, one.num_threads, one.results_dir, one.cache_dir) for one in configs}
    if len(chosen) > 1:
        raise UserError("device=, num_threads= and results_dir= take one value; run speed again")
    config = configs[0]
    device = describe_machine(config)
    cells = cells_of(requests, own["length"], own["batch_size"][0], device=device)
    return Plan(
        cells,
        effort,
        Path(config.results_dir),
        force=config.force,
        busy=parsed.busy,
        wait=config.wait,
    ), config.quiet


def _whole(key: str, value: str) -> tuple[int, ...]:
    """Return the whole numbers that a word lists.

    Raises:
        UserError: It lists something else.
    """
    most = _LONGEST_LENGTH if key == "length" else _LARGEST_BATCH
    numbers = value.split(",")
    if not all(one.isdecimal() and len(one) < 9 and 1 <= int(one) <= most for one in numbers):
        raise UserError(f"{key}={value} must be whole numbers from 1 to {most:,}")
    return tuple(map(int, numbers))
