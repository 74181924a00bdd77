"""The verb ``ls``: what there is to choose from."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from lra_bench.cli.parsing import Parser, add_config_dir, make_importable
from lra_bench.errors import UserError

# Each is a group of the configuration and an s.
_KINDS = ("tasks", "models", "settings", "objectives", "trackers")
_DESCRIPTION = """\
List what there is to choose from, with what each says about itself.

  lra-bench ls            all of them
  lra-bench ls tasks      with what always answering the most frequent class is worth
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "ls", summary="list tasks, models, settings, objectives", description=_DESCRIPTION
    )
    kinds = parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(_KINDS))
    # Not argparse's choices, which an empty list would have to be one of.
    kinds.completer = lambda **_: _KINDS  # type: ignore[attr-defined]
    add_config_dir(parser)
    parser.set_defaults(function=_ls)
    return parser


def _ls(parsed: argparse.Namespace) -> int:
    kinds = [f"{kind.removesuffix('s')}s" for kind in parsed.kinds]
    for kind, word in zip(kinds, parsed.kinds, strict=True):
        if kind not in _KINDS:
            raise UserError(f"ls takes {', '.join(_KINDS)}, not {word!r}")
    from lra_bench.catalogue import choices
    from lra_bench.console import Screen

    make_importable(parsed.config_dir)
    screen = Screen.of(sys.stdout)
    for kind in kinds or _KINDS:
        group = kind.removesuffix("s")
        print(kind)
        print(choices(group, screen, config_dirs=parsed.config_dir))
    return 0
