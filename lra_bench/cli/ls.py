"""The verb ``ls``: what there is to choose from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lra_bench.cli.completion import KeyValueWords
from lra_bench.cli.parsing import Parser, add_config_dir, make_importable
from lra_bench.errors import UserError

# Each is a group of the configuration, or experiment, and an s.
_KINDS = ("tasks", "models", "settings", "objectives", "trackers", "experiments")
_DESCRIPTION = """\
List what there is to choose from, with what each says about itself.

  lra-bench ls            all of them
  lra-bench ls tasks      with what always answering the most frequent class is worth
  lra-bench ls models     family, paper, cost, limits
  lra-bench ls models setting=small task=text        with the parameters there
"""
_EPILOG = """\
With models alone, setting=cpu, task=listops and options like trunk.num_layers=4 add a column: the
parameters of each model with its head. A model states family, paper and so on in the comment that
its file begins with (docs/extending.md). Through a pipe, a model is one line, columns are two or
more blanks apart, and what is not known is a -.
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "ls",
        summary="list tasks, models, settings, objectives",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    words = parser.add_argument(
        "words", nargs="*", metavar="KIND", help=f"{', '.join(_KINDS)}; KEY=VALUE after models"
    )
    # Not argparse's choices, which an empty list would have to be one of.
    words.completer = _complete  # type: ignore[attr-defined]
    add_config_dir(parser)
    parser.set_defaults(function=_ls)
    return parser


def _complete(prefix: str, parsed_args: argparse.Namespace, **others: Any) -> Sequence[str]:
    """Complete a kind, and behind models what says where they are counted."""
    if "models" not in (parsed_args.words or ()):
        return [kind for kind in _KINDS if kind.startswith(prefix)]
    words = KeyValueWords("run")(prefix, parsed_args, **others)
    return [word for word in words if not word.startswith("model=")]


def _ls(parsed: argparse.Namespace) -> int:
    changes = [word for word in parsed.words if "=" in word]
    words = [word for word in parsed.words if "=" not in word]
    kinds = [f"{kind.removesuffix('s')}s" for kind in words]
    for kind, word in zip(kinds, words, strict=True):
        if kind not in _KINDS:
            raise UserError(f"ls takes {', '.join(_KINDS)}, not {word!r}")
    if changes and kinds != ["models"]:
        raise UserError(f"{changes[0]} says where models are counted: lra-bench ls models ...")
    if any(word.startswith("model=") for word in changes):
        raise UserError("ls models counts all models; leave out model=")
    from lra_bench.catalogue import choices
    from lra_bench.console import Screen

    make_importable(parsed.config_dir)
    screen = Screen.of(sys.stdout)
    if kinds == ["models"]:
        return _ls_models(changes, parsed, screen)
    for kind in kinds or _KINDS:
        group = kind.removesuffix("s")
        print(kind)
        print(choices(group, screen, config_dirs=parsed.config_dir))
    return 0


def _ls_models(changes: Sequence[str], parsed: argparse.Namespace, screen: Any) -> int:
    """Print the table of models, counted where some words say."""
    from lra_bench import zoo

    words = list(changes)
    for group, default in (("setting", "cpu"), ("task", "listops")):
        if words and not any(word.startswith(f"{group}=") for word in changes):
            words.append(f"{group}={default}")
    models = zoo.models_of(words, config_dirs=parsed.config_dir)
    print(f"models, with {' '.join(words)}" if words else "models")
    print(zoo.table_of(models, screen, counted=bool(words)))
    if screen.is_terminal:
        print(f"\n{zoo.LEGEND}")
    return 0
