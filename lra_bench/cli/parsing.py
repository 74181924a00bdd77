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
    """A parser whose complaints are one line, and that knows the verbs below it.

    Args:
        summary: What the verb does, in a few words, for the help of what it belongs to.
        others: Of argparse.
    """

    def __init__(self, *, summary: str = "", **others: Any) -> None:
        self.summary = summary
        self.verbs: dict[str, Parser] = {}
        # The words of each option, and whether a value follows.
        self.options: dict[str, bool] = {}
        super().__init__(allow_abbrev=False, formatter_class=_Help, **others)

    def add_argument(self, *words: str, **others: Any) -> argparse.Action:
        """Add an argument, and remember the words of an option."""
        action = super().add_argument(*words, **others)
        self.options |= dict.fromkeys(action.option_strings, action.nargs != 0)
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words among which options stand anywhere.

        Written over what both parsing and completion call: argparse takes positional words only as
        long as they stand together.
        """
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(words if self.verbs else self._sorted(words), namespace)

    def _sorted(self, words: list[str]) -> list[str]:
        """Return words with the options, and their values, in front."""
        options, others = [], []
        while words:
            word = words.pop(0)
            name, equals, _ = word.partition("=")
            if name not in self.options:
                others.append(word)
            elif equals or not self.options[name]:
                options.append(word)
            elif words:
                options += [word, words.pop(0)]
            else:
                # It lacks its value, and must not take the next word for it.
                others.append(word)
        return [*options, *others]

    def add_verbs(self, *adders: Callable[[Any], Parser]) -> None:
        """Add the verbs that may stand first, and list them in the help.

        Args:
            adders: Each adds one to what argparse calls subparsers.
        """
        verbs = self.add_subparsers(metavar="VERB", help=argparse.SUPPRESS)
        for add in adders:
            add(verbs)
        self.verbs = verbs.choices
        self.usage = f"{self.prog} VERB ..."
        width = max(map(len, self.verbs)) + 2
        lines = (f"  {name:<{width}}{verb.summary}" for name, verb in self.verbs.items())
        self.epilog = "\n".join(["verbs:", *lines, "", self.epilog or ""])

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
            # Help, the version, or an option that there is not.
            verb.parse_args(words)
            verb.error(f"{verb.prog} takes one of {', '.join(verb.verbs)}")
        if words[0] not in verb.verbs:
            # Composing knows how to find what is near; help and completion do not need it.
            from lra_bench.words import nearest

            near = nearest(words[0], verb.verbs)
            known = near or f"; choose one of {', '.join(verb.verbs)}"
            verb.error(f"there is no verb {words[0]!r}{known}")
        verb, words = verb.verbs[words[0]], words[1:]
    parsed: argparse.Namespace
    parsed, unknown = verb.parse_known_args(words)
    if unknown:
        option = unknown[0].split("=")[0]
        others = [f"`{other.prog}`" for other in parser.leaves() if option in other.options]
        hint = (
            f"{option} belongs to {' and '.join(others)}"
            if others
            else f"there is no option {option}"
        )
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
