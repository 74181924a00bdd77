"""The words on the command line: Hydra's grammar, and what is said about a word that is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from lra_bench import paths
from lra_bench.errors import UserError
from lra_bench.schema import GROUPS, VERBATIM


@contextmanager
def hydra_at(config_dirs: Sequence[Path] = (), conf_dir: Path | None = None) -> Iterator[list[str]]:
    """Point Hydra at the folders of the configuration; gives the words that add further ones.

    Args:
        config_dirs: Further folders laid out like ``conf/``, searched as well.
        conf_dir: Folder of the harness's own configuration; None for the one it comes with.

    Raises:
        UserError: A folder does not exist.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder} is not a folder")
    # Inside a job of a sweep Hydra is at work already; its state is put back afterwards.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        initialize_config_dir(str(conf_dir or paths.conf_dir()), version_base="1.3")
        yield search_words(config_dirs)
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = outer


def search_words(config_dirs: Sequence[Path]) -> list[str]:
    """Return the words that tell Hydra to search further folders."""
    paths_of = (str(folder.resolve()).replace("'", "\\'") for folder in config_dirs)
    urls = ",".join(f"'file://{path}'" for path in paths_of)
    return [f"hydra.searchpath=[{urls}]"] if config_dirs else []


def options(
    group: str, config_dirs: Sequence[Path] = (), conf_dir: Path | None = None
) -> list[str]:
    """Return the names of the files of a group.

    Raises:
        UserError: A folder does not exist.
    """
    found: set[str] = set()
    for folder in (conf_dir or paths.conf_dir(), *config_dirs):
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder} is not a folder")
        found.update(path.stem for path in (folder / group).glob("*.yaml"))
    return sorted(found)


def expand_sweep(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each run of a sweep over listed values (``a,b``, ``range``, ``glob``).

    Raises:
        UserError: A word cannot be parsed.
    """
    # Hydra offers no public way to ask what a sweep will run.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with hydra_at():
        parsed = [item for item in parse(words) if not for_hydra(item)]
        try:
            batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        except HydraException as error:
            raise UserError(f"cannot sweep over {' '.join(words)}: {error}") from error
    return [list(run) for batch in batches for run in batch]


def spell_out_globs(words: Sequence[str], config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the words with each ``glob(...)`` of a group replaced by the names it matches.

    Hydra would match the files of the harness alone, not those of further folders.

    Raises:
        UserError: A word cannot be parsed, or nothing matches.
    """
    spelt = []
    for item in parse(words):
        group, value = item.get_key_element(), item.value()
        if isinstance(value, Glob) and group in GROUPS:
            known = options(group, config_dirs)
            names = value.filter(known)
            if not names:
                raise UserError(
                    f"{item.input_line} matches no {group} ({group}= takes one of "
                    f"{', '.join(known)})"
                )
            spelt.append(f"{group}={','.join(names)}")
        else:
            spelt.append(str(item.input_line))
    return spelt


def quote_paths(words: Sequence[str]) -> list[str]:
    """Return the words with values quoted that may hold what Hydra's grammar would read: folders.

    Args:
        words: ``key=value`` words.
    """
    quoted = []
    for word in words:
        key, _, value = word.partition("=")
        if key in VERBATIM and value not in ("", "null") and value[0] not in "'\"":
            value = value.replace("\\'", "'").replace("'", "\\'")
            # Not an interpolation: the characters themselves.
            value = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
            word = f"{key}='{value}'"
        quoted.append(word)
    return quoted


def parse(words: Sequence[str]) -> list[Override]:
    """Return what Hydra makes of words.

    Raises:
        UserError: One is not ``key=value``.
    """
    parser, parsed = OverridesParser.create(), []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except HydraException as error:
            raise UserError(
                f"cannot read {word!r}: expected key=value, for example seed=1"
            ) from error
    return parsed


def section_of(item: Override) -> str:
    """Return the first part of a word's key."""
    return str(item.key_or_group).split(".")[0]


def for_hydra(item: Override) -> bool:
    """Return whether a word is about Hydra itself, its launchers and sweepers."""
    return str(item.key_or_group).startswith(("hydra.", "hydra/"))


def check_name(item: Override, config_dirs: Sequence[Path], conf_dir: Path | None) -> None:
    """Refuse the choice of a file that does not exist.

    Raises:
        UserError: There is none of that name, or several are named.
    """
    group = item.get_key_element()
    known = options(group, config_dirs, conf_dir)
    if item.is_sweep_override():
        raise UserError(f"{item.input_line} names several; add -m to run each of them")
    name = str(item.value())
    if name not in known:
        raise UserError(
            f"there is no {group} {name!r}{nearest(name, known)} "
            f"({group}= takes one of {', '.join(known)})"
        )


def check_keys(items: Sequence[Override], known: Collection[str]) -> None:
    """Refuse keys that nothing would read, and values that belong to a sweep.

    Raises:
        UserError: A word has such a key or value.
    """
    for item in items:
        key = str(item.key_or_group)
        if for_hydra(item):
            raise UserError(f"{item.input_line} belongs to sweeps; add -m")
        if key not in known:
            raise UserError(
                f"there is no option {key!r}{nearest(key, {*known, *GROUPS})} "
                f"(lra-bench run --cfg shows all options of a run)"
            )
        if item.is_add() or item.is_delete():
            raise UserError(
                f"{item.input_line}: options can be changed, not added or removed; "
                f"write {key}=VALUE"
            )
        if item.is_sweep_override():
            raise UserError(f"{item.input_line} lists several values; add -m to run each")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` where some known word is close, else nothing."""

    def likeness(other: str) -> float:
        # The last part of a dotted key is what people misspell.
        last = word.split(".")[-1]
        matcher = difflib.SequenceMatcher(None, last, other.split(".")[-1])
        shared = matcher.find_longest_match().size / max(len(last), 1)
        return matcher.ratio() + shared + difflib.SequenceMatcher(None, word, other).ratio() / 10

    best = max(sorted(known), key=likeness, default="")
    return f"; did you mean {best}?" if best and likeness(best) > 1.1 else ""
