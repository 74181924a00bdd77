"""What the verbs share: their parser, their exit codes, and the options that several take.

A parser is the one place that tells of a verb: help and completion are derived from it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lra_bench.errors import UserError

EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_PREEMPTED = 1, 2, 130, 143

# Of a verb that has been parsed: does it, and returns the exit code.
Function = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, and that knows the verbs below it."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **options)
        self.verbs: dict[str, Parser] = {}
        self.option_words: list[str] = []

    def add_argument(self, *words: str, **options: Any) -> argparse.Action:
        """Add an argument, and remember the words of an option."""
        action = super().add_argument(*words, **options)
        # argparse adds --help while it is still being made.
        self.__dict__.setdefault("option_words", []).extend(action.option_strings)
        return action

    def add_verbs(self, adders: Sequence[Callable[[Any], Parser]], title: str) -> None:
        """Add the verbs that may stand first.

        Args:
            adders: Each adds one to what argparse calls subparsers, and returns its parser.
            title: What help calls them.
        """
        verbs = self.add_subparsers(title=title, metavar=title.split()[0].upper())
        for add in adders:
            add(verbs)
        self.verbs = verbs.choices

    def error(self, message: str) -> NoReturn:
        """Refuse what cannot be parsed.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{message} ({self.prog} --help)")

    def leaves(self) -> Iterator[Parser]:
        """Yield the parsers of all verbs that have no verbs below them."""
        for verb in self.verbs.values():
            yield from verb.leaves() if verb.verbs else (verb,)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size((100, 24)).columns, 100)
        super().__init__(prog, max_help_position=22, width=width)


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse words with the parser of the verb they begin with; options may stand anywhere.

    Raises:
        UserError: A word makes no sense; the text names one that does, where there is one.
        SystemExit: Help was asked for, and has been printed.
    """
    verb = parser
    while verb.verbs:
        if not words or words[0].startswith("-"):
            verb.parse_args(words)
            verb.error(f"choose one of {', '.join(verb.verbs)}")
        if words[0] not in verb.verbs:
            # Composing knows how to find what is near; help and completion do not need it.
            from lra_bench.words import nearest

            near = nearest(words[0], verb.verbs)
            verb.error(f"{words[0]!r} is not one of {', '.join(verb.verbs)}{near}")
        verb, words = verb.verbs[words[0]], words[1:]
    parsed, unknown = verb.parse_known_intermixed_args(words)
    if unknown:
        option = unknown[0].split("=")[0]
        others = [f"`{other.prog}`" for other in parser.leaves() if option in other.option_words]
        hint = f"{option} belongs to {' and '.join(others)}" if others else f"no option {option}"
        verb.error(hint)
    return parsed


def add_config_dir(parser: Parser) -> None:
    """Add the option that adds folders of configuration."""
    parser.add_argument(
        "--config-dir",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="take groups from this folder, too; may be given several times",
    )


def make_importable(config_dirs: Sequence[Path]) -> None:
    """Let classes named in a user's own configuration be imported from beside it.

    At the end of the path, so that nothing there can hide an installed package.
    """
    for folder in (Path.cwd(), *config_dirs):
        if str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))


def silence(stream: Any) -> None:
    """Let what is still written to a stream vanish, whose reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
