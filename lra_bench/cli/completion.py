"""The verb ``completion``, and what may follow on a line: from the parsers and ``conf/``.

argcomplete asks the parsers for verbs and options, and cuts words where bash breaks them; here is
added what stands behind ``KEY=VALUE``. Somebody waits for each answer, so that each pays only for
what it needs: the names of files nothing, keys Hydra, lists of values the schema.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench.cli.parsing import Parser
from lra_bench.errors import UserError

if TYPE_CHECKING:
    from argcomplete.finders import CompletionFinder

# The variable by which a shell asks for completions.
ASKED = "_ARGCOMPLETE"
_SHELLS = ("bash", "zsh", "fish")
# Sections whose keys the schema knows, with what they may be.
_OF_THE_SCHEMA = ("train", "trunk", "head")
# What Hydra itself lets choose, where a sweep is made.
_HYDRA_GROUPS = ("hydra/launcher", "hydra/sweeper")
_DESCRIPTION = """\
Print what makes a shell complete verbs, groups, options, keys and values.

  eval "$(lra-bench completion bash)"             # in ~/.bashrc
  eval "$(lra-bench completion zsh)"              # in ~/.zshrc, after compinit
  lra-bench completion fish | source              # in ~/.config/fish/config.fish
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb to the others."""
    parser: Parser = verbs.add_parser(
        "completion",
        summary="print what makes a shell complete groups, options and keys",
        description=_DESCRIPTION,
    )
    shell = parser.add_argument(
        "shell", nargs="?", metavar="SHELL", help=f"one of {', '.join(_SHELLS)}"
    )
    shell.completer = lambda **_: _SHELLS  # type: ignore[attr-defined]
    parser.set_defaults(function=_print_script)
    return parser


def _print_script(parsed: argparse.Namespace) -> int:
    if parsed.shell not in _SHELLS:
        raise UserError(
            f"completion takes one of {', '.join(_SHELLS)} (lra-bench completion --help)"
        )
    from argcomplete.shell_integration import shellcode

    print(shellcode(["lra-bench"], shell=parsed.shell), end="")
    return 0


def answer(parser: Parser, finder: CompletionFinder | None = None, **options: Any) -> None:
    """Tell the shell that asked what may follow, and end the process.

    Args:
        parser: Of the whole command line.
        finder: Finds it; None for argcomplete's own.
        options: For the finder: how to end, and where to write to.
    """
    from argcomplete.completers import SuppressCompleter
    from argcomplete.finders import CompletionFinder

    # What is a path the shell completes itself; help is known without being offered.
    (finder or CompletionFinder())(
        parser,
        always_complete_options=False,
        exclude=("-h", "--help"),
        default_completer=SuppressCompleter(),
        **options,
    )


class KeyValueWords:
    """Completes ``KEY=VALUE`` words: groups and their options, keys, and what a key may be.

    Args:
        primary: The file in ``conf/`` that the verb begins with.
        own: Keys of the verb's own and their values, where these can be told.
    """

    def __init__(self, primary: str, own: Mapping[str, Sequence[str]] | None = None) -> None:
        self.primary = primary
        self.own = own or {}

    def __call__(self, prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        """Return the words that may stand where the cursor is; argcomplete's contract.

        Args:
            prefix: What is there of the word.
            parsed_args: What the parser made of the words before it.
        """
        earlier = [word for word in _words_before_the_cursor() if "=" in word and word[0] != "-"]
        folders = [folder for folder in parsed_args.config_dir or () if folder.is_dir()]
        key, equals, value = prefix.partition("=")
        if equals:
            # A sweep lists several values: the last is the one to complete.
            listed, comma, last = value.rpartition(",")
            chosen = set(listed.split(","))
            values = [one for one in self._values(key, earlier, folders) if one not in chosen]
            return [f"{key}={listed}{comma}{one}" for one in values if one.startswith(last)]
        return list(self._keys(prefix, earlier, folders))

    def _values(self, key: str, earlier: Sequence[str], folders: Sequence[Path]) -> Sequence[str]:
        if key in self.own:
            return self.own[key]
        if key in (*self._groups(), *self._others()):
            return _options(key, folders)
        if key in _HYDRA_GROUPS:
            return _hydra_options(key)
        # Both would take too long.
        if key.split(".")[0] in _OF_THE_SCHEMA:
            return _may_be(key)
        return self._present(key, earlier, folders)

    def _keys(self, prefix: str, earlier: Sequence[str], folders: Sequence[Path]) -> Iterator[str]:
        """Yield keys down to the next dot; the keys of the run are found out only if needed."""
        groups = [*self._groups(), *self._others()]
        groups += _HYDRA_GROUPS if prefix.startswith("h") else ()
        yield from (f"{key}=" for key in [*self.own, *groups] if key.startswith(prefix))
        tree = self._tree(earlier, folders)
        keys = [key for key in _dotted(tree) if key.startswith(prefix)]
        cut = _until_next_dot(keys, prefix)
        while len(cut) == 1 and cut[0].endswith("."):
            # There is one way on: a word that is not complete must not be followed by a blank.
            prefix = cut[0]
            cut = _until_next_dot(keys, prefix)
        yield from cut

    def _groups(self) -> Sequence[str]:
        from lra_bench.identity import NAMES

        return (*NAMES, "tracker") if self.primary == "run" else ("task", "setting")

    def _others(self) -> Sequence[str]:
        """Return the folders of conf/ whose files can be named and are no part of a run."""
        return ("experiment",) if self.primary == "run" else ()

    def _tree(self, earlier: Sequence[str], folders: Sequence[Path]) -> Mapping[str, Any]:
        """Return the keys of a run with their values, as far as its groups have been chosen."""
        groups = self._groups()
        # Of several the first; the keys of the others are the same, or it is a sweep over both.
        named = dict(word.split(",")[0].split("=", 1) for word in earlier)
        chosen = {}
        for group in groups:
            known = _options(group, folders)
            if named.get(group) in known:
                chosen[group] = named[group]
            elif group in ("task", "model"):
                # What was not named yet, or is misspelt, is stood in for.
                chosen[group] = known[0]
        tree = _composed(self.primary, [f"{key}={name}" for key, name in chosen.items()], folders)
        # A task alone takes these, whatever else its setting says.
        if self.primary == "run":
            return tree
        return {key: tree[key] for key in ("task", "data_dir", "cache_dir")}

    def _present(self, key: str, earlier: Sequence[str], folders: Sequence[Path]) -> Sequence[str]:
        """Return the value that a key has now: something to change."""
        node: Any = self._tree(earlier, folders)
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, bool):
            return ("true", "false")
        plain = isinstance(node, (int, float)) or (isinstance(node, str) and node.isidentifier())
        return (str(node),) if plain else ()


def _options(group: str, folders: Sequence[Path]) -> list[str]:
    from lra_bench.paths import conf_dir

    places = [folder / group for folder in (conf_dir(), *folders)]
    return sorted({path.stem for place in places for path in place.glob("*.yaml")})


def _composed(primary: str, naming: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Return what files stand for, without asking whether a run could be made of it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from lra_bench.paths import conf_dir

    search = ",".join(f"'file://{folder.resolve()}'" for folder in folders)
    words = [*naming, f"hydra.searchpath=[{search}]"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose(primary, overrides=words))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _hydra_options(group: str) -> Sequence[str]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from lra_bench.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return GlobalHydra.instance().config_loader().get_group_options(group)


def _words_before_the_cursor() -> list[str]:
    """Return the whole words of the line; a parser keeps only those that stand together."""
    from argcomplete.lexers import split_line

    line = os.environ["COMP_LINE"]
    return list(split_line(line, int(os.environ["COMP_POINT"]))[3])


def _may_be(key: str) -> Sequence[str]:
    """Return the values that the schema lists for a key."""
    from typing import Literal, get_args, get_origin

    from lra_bench.schema import RunConfig, Section

    layout: type[Section] = RunConfig
    *sections, name = key.split(".")
    for section in sections:
        field = layout.model_fields.get(section)
        if field is None or not isinstance(field.annotation, type):
            return ()
        if not issubclass(field.annotation, Section):
            return ()
        layout = field.annotation
    field = layout.model_fields.get(name)
    if field is None:
        return ()
    if field.annotation is bool:
        return ("true", "false")
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys of all values, each with the ``=`` that follows it."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}="


def _until_next_dot(keys: Sequence[str], prefix: str) -> list[str]:
    """Return keys cut off after the first dot behind a prefix, each once."""
    ends = ((key, key.find(".", len(prefix))) for key in keys)
    return list(dict.fromkeys(key if end < 0 else key[: end + 1] for key, end in ends))
