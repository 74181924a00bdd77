"""The verb ``show``: one record."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench.cli.parsing import Parser

if TYPE_CHECKING:
    from lra_bench.record import RunRecord

_DESCRIPTION = """\
Show a record: the result and how sure it is, what it cost, the data, the code, the learning curve,
and the command that repeats it.

  lra-bench show 2fa8c852
  lra-bench show results/runs/cpu/listops/local/a285bafe9c6a8bf7-c4d83e2b.json
"""
EPILOG = """\
RUN is a file, the id of a run, or how one begins, as long as there is one such run below the
results folders.
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "show",
        summary="show a record: result, cost, data, code, curve",
        description=_DESCRIPTION,
        epilog=EPILOG,
    )
    add_runs(parser, 1)
    parser.set_defaults(function=_show)
    return parser


def add_runs(parser: Parser, number: int) -> None:
    """Add the words that name records, and where they are looked for."""
    runs = parser.add_argument("runs", nargs=number, metavar="RUN", help="a file, or an id")
    runs.completer = _known  # type: ignore[attr-defined]
    parser.add_argument(
        "--results",
        action="append",
        type=Path,
        metavar="DIR",
        help="where to look for it (default: results); may be given several times",
    )


def found(parsed: argparse.Namespace) -> list[tuple[RunRecord, Path]]:
    """Return the records that were named, and their files.

    Raises:
        UserError: One cannot be found.
    """
    from lra_bench.lookup import find

    return [find(run, _folders(parsed)) for run in parsed.runs]


def _known(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from lra_bench.lookup import run_ids

    return run_ids(_folders(parsed_args))


def _folders(parsed: argparse.Namespace) -> list[Path]:
    return parsed.results or [Path("results")]


def _show(parsed: argparse.Namespace) -> int:
    from lra_bench import report
    from lra_bench.console import Screen

    ((record, path),) = found(parsed)
    print(report.one(record, path, Screen.of(sys.stdout)))
    return 0
