"""The verb ``run``: one run, or a sweep of runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench.cli.completion import KeyValueWords
from lra_bench.cli.parsing import (
    EXIT_FAILED,
    Parser,
    add_config_dir,
    make_importable,
    silence,
)
from lra_bench.errors import UserError

if TYPE_CHECKING:
    from lra_bench.compose import Request
    from lra_bench.record import RunRecord

_DESCRIPTION = """\
Train a model on a task under a setting, keep the weights that were best on validation, evaluate
the test split once with them, and write a record below results_dir.

  lra-bench run task=listops model=ernie_sparse
  lra-bench run task=text model=transformer setting=small seed=3 device=cuda
  lra-bench run task=text model=ernie_sparse objective=sar model.block_size=32
  lra-bench run -m task=listops,text 'model=glob(*)' seed=0,1,2
"""
_EPILOG = """\
groups (`lra-bench ls` lists what each takes)
  task=     model=     setting=cpu     objective=cross_entropy     tracker=none
keys
  seed=0  device=auto  num_threads=  results_dir=results  data_dir=  cache_dir=
  train.KEY=  trunk.KEY=  head.KEY=  task.KEY=  model.KEY=  objective.KEY=  tracker.KEY=
  force=true runs again what has been done; quiet=true prints the result only
  wait=false stops at once where the same run is under way elsewhere, instead of waiting for it
  checkpoint_seconds=60  checkpoint_share=0.01 are the time between two checkpoints, and the most
  of the time that they may take

A run that was interrupted goes on when the same line is given again.
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "run",
        summary="train a model on a task, choose by validation, test once, write a record",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    words = parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as below")
    words.completer = KeyValueWords("run")  # type: ignore[attr-defined]
    parser.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="run every combination of the listed values (Hydra's sweeps and launchers)",
    )
    add_config_dir(parser)
    parser.add_argument(
        "--cfg",
        action="store_true",
        help="print the whole configuration, with the files that made each part, and stop",
    )
    parser.set_defaults(function=_run)
    return parser


def _run(parsed: argparse.Namespace) -> int:
    from lra_bench.compose import compose

    make_importable(parsed.config_dir)
    if parsed.multirun:
        return _sweep(parsed.words, parsed.config_dir)
    request = compose(parsed.words, config_dirs=parsed.config_dir)
    if parsed.cfg:
        print(_configuration(request), end="")
        return 0
    record = _run_and_report(request)
    return 0 if record.status == "completed" else EXIT_FAILED


def _run_and_report(request: Request) -> RunRecord:
    from lra_bench.runner import run

    record = run(request)
    try:
        _report(record, Path(request.config.results_dir))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone; the record is there, and further runs of a sweep may follow.
        silence(sys.stdout)
    return record


def _report(record: RunRecord, results_dir: Path) -> None:
    """Print the outcome: the result on stdout, a failure on stderr."""
    from lra_bench.record import record_path

    path = record_path(results_dir, record.setting, record.task, record.model, record.run_id)
    if record.test is None:
        print(f"{record.status}: {record.error}\nrecord: {path}", file=sys.stderr)
        return
    labels = record.labels
    print(
        f"{labels['model']} on {labels['task']}, setting {labels['setting']}, seed {record.seed}: "
        f"test {_result(record)}"
    )
    if record.data.get("warning") or record.data.get("note"):
        print(f"data: {record.data['source']}")
    print(f"record: {path}")


def _result(record: RunRecord) -> str:
    """Return the metric that ranks in words, beside what always answering the same is worth."""
    from lra_bench.metrics import metric

    assert record.test is not None
    ranking, sums = metric(record.ranking_metric), record.test.sums
    form = ".2%" if ranking.is_share else ".4f"
    beside = []
    if ranking.name == "accuracy":
        beside.append(f"{sums['correct']:,} of {sums['targets']:,}")
    if record.majority_baseline is not None:
        always = "always answering the most frequent class"
        beside.append(f"{always}: {record.majority_baseline:{form}}")
    rest = f" ({'; '.join(beside)})" if beside else ""
    return f"{ranking.title} {record.test[ranking.name]:{form}}{rest}"


def _configuration(request: Request) -> str:
    """Return every option as YAML, each section under the files that made it."""
    import yaml

    from lra_bench.compose import files_of

    made = files_of(request)
    parts = [f"# {request.command()}\n"]
    for key, value in request.config.model_dump().items():
        if made.get(key):
            parts.append(f"# {', '.join(made[key])}\n")
        parts.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True))
    return "".join(parts)


def _sweep(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    from lra_bench import sweep
    from lra_bench.console import count

    words = sweep.spelt_out(words, config_dirs=config_dirs)
    if not sweep.chooses_itself(words):
        requests = sweep.expand(words, config_dirs=config_dirs)
        _check(requests)
        print(count(len(requests), "run"), file=sys.stderr)
    try:
        sweep.launch(words, partial(_one_of_a_sweep, config_dirs), config_dirs=config_dirs)
    except sweep.RunFailed:
        print("some runs of the sweep failed", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _check(requests: Sequence[Request]) -> None:
    """Find a class that cannot be had, or an option that it does not take, before a run starts.

    Raises:
        UserError: There is one.
    """
    from lra_bench.build import build_task, check_options

    seen = set()
    for request in requests:
        choice = repr((request.sections["task"], request.sections["model"]))
        if choice not in seen:
            seen.add(choice)
            build_task(request)
            check_options(request.config.model, "model", {"spec"})


def _one_of_a_sweep(config_dirs: Sequence[Path], words: Sequence[str]) -> float:
    """Do a run of a sweep, wherever it was launched, and return what a search maximizes.

    Raises:
        RunFailed: There is no result, which has been said.
    """
    from lra_bench.compose import compose
    from lra_bench.metrics import metric
    from lra_bench.sweep import RunFailed

    make_importable(config_dirs)
    try:
        # Composed again from the words of this run: Hydra's own object lacks the changes.
        record = _run_and_report(compose(words, config_dirs=config_dirs))
    except (UserError, OSError) as error:
        print(f"lra-bench: {error}", file=sys.stderr)
        raise RunFailed(str(error)) from None
    if record.status != "completed" or record.validation is None:
        raise RunFailed(record.error)
    # Of validation: a search must not see the test result.
    value = record.validation[record.ranking_metric]
    return value if metric(record.ranking_metric).higher_is_better else -value
