"""The verb ``status``: how runs stand, while they are under way and afterwards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lra_bench.cli.parsing import Parser
from lra_bench.errors import UserError

_DESCRIPTION = """\
Show how the runs below a results folder stand: which run, how fast and for how long, which have
failed and why, which were interrupted, which wait in a sweep, and which are done. The folder may be
shared with other machines; nothing is written to it.

  lra-bench status
  lra-bench status /shared/results --json
  watch -n 5 lra-bench status
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "status", summary="show how runs stand, live and afterwards", description=_DESCRIPTION
    )
    folder = parser.add_argument(
        "results_dir",
        nargs="?",
        default=Path("results"),
        type=Path,
        metavar="RESULTS_DIR",
        help="where the runs write to (default: results)",
    )
    folder.completer = _folders  # type: ignore[attr-defined]
    parser.add_argument("--json", action="store_true", help="print it for programs")
    parser.set_defaults(function=_status)
    return parser


def _folders(prefix: str, **_: Any) -> list[str]:
    from argcomplete.completers import DirectoriesCompleter

    return list(DirectoriesCompleter()(prefix))


def _status(parsed: argparse.Namespace) -> int:
    import json

    from lra_bench.console import Screen
    from lra_bench.status import look, text_of

    if not parsed.results_dir.is_dir():
        raise UserError(f"{parsed.results_dir} is not a folder; name the results_dir of the runs")
    overview = look(parsed.results_dir)
    if parsed.json:
        content = {"results_dir": str(parsed.results_dir), **overview.as_dict()}
        json.dump(content, sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        print(text_of(overview, Screen.of(sys.stdout)))
    return 0
