"""The verb ``compare``: two records side by side."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lra_bench.cli.parsing import Parser
from lra_bench.cli.show import EPILOG, add_runs, found

_DESCRIPTION = """\
Show in what two records differ: result, cost, data, code and configuration, and their learning
curves side by side.

  lra-bench compare 2fa8c852 a285bafe
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "compare",
        summary="show in what two records differ",
        description=_DESCRIPTION,
        epilog=EPILOG,
    )
    add_runs(parser, 2)
    parser.set_defaults(function=_compare)
    return parser


def _compare(parsed: argparse.Namespace) -> int:
    from lra_bench import report
    from lra_bench.console import Screen

    (first, _), (second, _) = found(parsed)
    print(report.two(first, second, Screen.of(sys.stdout)))
    return 0
