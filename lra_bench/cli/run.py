"""The verb ``run``: one run, or a sweep of runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lra_bench.cli.completion import KeyValueWords
from lra_bench.cli.parsing import EXIT_FAILED, Parser, add_config_dir, make_importable
from lra_bench.errors import UserError
from lra_bench.places import started_place

if TYPE_CHECKING:
    from lra_bench.compose import Request

_DESCRIPTION = """\
Train a model on a task under a setting, keep the weights that were best on validation, evaluate
the test split once with them, and write a record below results_dir.

  lra-bench run task=listops model=ernie_sparse
  lra-bench run task=text model=transformer setting=small seed=3 device=cuda
  lra-bench run task=text model=ernie_sparse objective=sar model.block_size=32
  lra-bench run -m task=listops,text 'model=glob(*)' seed=0,1,2
  lra-bench run -m experiment=ernie_sparse_ablation     # `lra-bench ls experiments`
  torchrun --nproc-per-node 8 -m lra_bench.cli run task=text model=mega setting=s4
"""
_EPILOG = """\
groups (`lra-bench ls` lists what each takes)
  task=     model=     setting=cpu     objective=cross_entropy     tracker=none
keys
  seed=0  device=auto  num_threads=  results_dir=results  data_dir=  cache_dir=
  train.KEY=  trunk.KEY=  head.KEY=  task.KEY=  model.KEY=  objective.KEY=  tracker.KEY=
  force=true runs again what has been done; quiet=true prints the result only
  wait=false stops at once where the same run is under way elsewhere, instead of waiting for it
  num_processes=N shares each batch among N processes on this machine, each with a GPU of its own
  or its part of the cores; torchrun and srun may start them instead, here and elsewhere
  checkpoint_seconds=60  checkpoint_share=0.01 are the time between two checkpoints, and the most
  of the time that they may take
  keep_weights=true keeps the encoder; init_from=RUN begins from that of a run: its id, its record,
  a folder, or in what it was another run, as in init_from=objective=denoising
  init_positions=tile repeats or cuts its positions, where there it had another number of them

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
    if parsed.multirun and parsed.cfg:
        raise UserError("--cfg prints the configuration of one run: leave out -m, and lists")
    if parsed.multirun:
        from lra_bench.cli.sweeping import sweep

        if started_place() is not None:
            raise UserError(
                "a sweep is one process, and this is one of several that torchrun or srun has "
                "started; start one, with num_processes=N for the processes of each run"
            )

        return sweep(parsed.words, parsed.config_dir)
    if any(word.startswith("experiment=") for word in parsed.words):
        raise UserError("an experiment is a sweep: add -m")
    from lra_bench.cli.reporting import run_and_report

    request = compose(parsed.words, config_dirs=parsed.config_dir)
    if parsed.cfg:
        print(_configuration(request), end="")
        return 0
    record, _ = run_and_report(request)
    return 0 if record.status == "completed" else EXIT_FAILED


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
