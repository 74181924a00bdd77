"""The verb ``leaderboard``: the tables from the records."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lra_bench.cli.parsing import Parser

_DESCRIPTION = """\
Read every record below the results folders and print the comparison tables; write them as
leaderboard.md, .tex, .csv and .json, and as a page for a browser, leaderboard.html.

  lra-bench leaderboard
  lra-bench leaderboard results ../cluster/results --out tables
"""
_EPILOG = """\
A line is a model: mean test accuracy and standard deviation over seeds, the 95% interval of the
mean, the number of seeds, and what they cost. Bold is better than all others beyond the noise.
Settings are never mixed; a setting or model with changed options is a line of its own. Runs that
failed, diverged or stayed at the majority baseline are counted. Files that are not records are
named and skipped; setting=smoke is left out.
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "leaderboard",
        summary="make the tables from the records",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "results_dirs",
        nargs="*",
        type=Path,
        default=[Path("results")],
        metavar="RESULTS_DIR",
        help="folders that runs wrote to (default: results)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write the tables (default: the first results folder)",
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="published numbers to add (default: published.csv in a results folder, if there)",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="draw accuracy against time, learning curves and ranks, too (needs matplotlib)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; say what keeps the records from being added to a leaderboard",
    )
    parser.set_defaults(function=_leaderboard)
    return parser


def _leaderboard(parsed: argparse.Namespace) -> int:
    from lra_bench import leaderboard

    if parsed.check:
        return leaderboard.check(parsed.results_dirs)
    return leaderboard.publish(
        parsed.results_dirs,
        parsed.out or parsed.results_dirs[0],
        published=parsed.published,
        families=_families(),
        with_pictures=parsed.pictures,
    )


def _families() -> dict[str, str]:
    """Return the family of each model of the harness that states one, by its name."""
    from lra_bench.about import facts_of
    from lra_bench.paths import conf_dir

    files = sorted((conf_dir() / "model").glob("*.yaml"))
    stated = {path.stem: facts_of(path).get("family", "") for path in files}
    return {name: family for name, family in stated.items() if family}
