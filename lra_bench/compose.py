"""Composing a run from ``conf/`` and the command line.

Composing is the first thing that happens: a misspelt name, an unknown key or a wrong type is
refused here, before torch is imported or data are looked at.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lra_bench import identity, paths, plain, record, schema, weights, words
from lra_bench.errors import UserError
from lra_bench.files import is_there
from lra_bench.schema import GROUPS, NAMED_GROUPS, PATHS, SECTIONS, RunConfig
from lra_bench.weights import Parent

# The file in `conf/` that a verb begins with.
RUN, DATA = "run", "data"
# Groups and keys of a task that is composed without a model.
_DATA_GROUPS = ("task", "setting")
# What tells one run from another.
_OF_A_RUN = (*NAMED_GROUPS, *SECTIONS, "seed", "init_from", "init_positions")
_DATA_KEYS = ("data_dir", "cache_dir")


@dataclass(frozen=True)
class Request:
    """A run that was asked for.

    Args:
        config: Every option, typed and checked.
        names: The chosen file of each group.
        changes: Options of `schema.SECTIONS` that differ from what the names stand for, by dotted
            key.
        words: The words that it was composed from.
        config_dirs: Folders that were searched besides the harness's own.
        parent: The run whose encoder it begins from.
    """

    config: RunConfig
    names: Mapping[str, str]
    changes: Mapping[str, Any]
    words: Sequence[str]
    config_dirs: Sequence[Path] = ()
    parent: Parent | None = None

    @cached_property
    def pretraining(self) -> dict[str, Any] | None:
        """What the record holds of the run that it begins from."""
        if self.parent is None:
            return None
        return self.parent.pretraining(identity.labels(self.names, self.changes))

    @cached_property
    def began_from(self) -> str:
        """The same in a few words, nothing if it begins from fresh weights."""
        return "" if self.pretraining is None else str(self.pretraining["label"])

    @cached_property
    def sections(self) -> dict[str, Any]:
        """The options that can change the number, as plain data, without the seed."""
        return {name: _plain(getattr(self.config, name)) for name in SECTIONS}

    @cached_property
    def request_id(self) -> str:
        """What tells this run from every other that can be asked for; see `identity`."""
        names = {name: self.names[name] for name in NAMED_GROUPS}
        parent = identity.parent_id(self.pretraining)
        return identity.request_id(names, self.changes, self.sections, self.config.seed, parent)

    @property
    def labels(self) -> dict[str, str]:
        """The names with what was changed about them."""
        names = {name: self.names[name] for name in NAMED_GROUPS}
        return identity.labels(names, self.changes, self.began_from)

    @property
    def title(self) -> str:
        """The run in one line for people."""
        return identity.title(self.names, self.changes, self.config.seed, self.began_from)

    def command(self) -> str:
        """Return a command that repeats the run on any machine."""
        words = [f"{group}={self.names[group]}" for group in NAMED_GROUPS]
        words += [f"{key}={schema.literal(value)}" for key, value in self.changes.items()]
        if self.parent is not None:
            words.append(f"init_from={self.parent.record.run_id}")
            if self.parent.positions != "refuse":
                words.append(f"init_positions={self.parent.positions}")
        return shlex.join(["lra-bench", "run", *words, f"seed={self.config.seed}"])


@dataclass(frozen=True)
class TaskRequest:
    """A task that was asked for, without a model.

    Args:
        name: The name of its configuration.
        node: Its options, with the ``_target_`` that builds it.
        data_dir: Where raw files lie; None for the default.
        cache_dir: Where prepared data lie; None for the default.
    """

    name: str
    node: dict[str, Any]
    data_dir: str | None
    cache_dir: str | None


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, schema.Section) else value


def compose(
    asked: Sequence[str], *, config_dirs: Sequence[Path] = (), conf_dir: Path | None = None
) -> Request:
    """Compose a run from the command line's ``key=value`` words.

    Args:
        asked: Words of Hydra's override grammar, without sweeps.
        config_dirs: Further folders laid out like ``conf/``, searched as well.
        conf_dir: Folder of the harness's own configuration; None for the one it comes with.

    Raises:
        UserError: A name, a key or a value is wrong.
    """
    composing = _Composing(RUN, asked, GROUPS, config_dirs, conf_dir)
    composing.refuse_sections_but({*RunConfig.model_fields, *GROUPS})
    composing.require("task", "model")
    standard, config, names = composing.compose(RunConfig.model_fields)
    before = dict(plain.leaves({name: standard[name] for name in SECTIONS if name in standard}))
    for name in config:
        if name in SECTIONS:
            config[name] = _as_in_the_file(config[name], name, before)
        elif name in PATHS:
            config[name] = _expanded(config[name])
    checked = schema.check(config)
    after = plain.leaves({section: _plain(getattr(checked, section)) for section in SECTIONS})
    changes = {key: value for key, value in after if key not in before or before[key] != value}
    parent = None
    if checked.init_from is not None:
        parent = _parent_of(checked, asked, config_dirs, conf_dir)
    elif checked.init_positions != "refuse":
        raise UserError(
            f"init_positions={checked.init_positions} says how to begin from another run; name it "
            f"with init_from="
        )
    chosen = {group: names[group] for group in GROUPS}
    return Request(checked, chosen, changes, tuple(asked), config_dirs, parent)


def _parent_of(
    config: RunConfig, asked: Sequence[str], config_dirs: Sequence[Path], conf_dir: Path | None
) -> Parent:
    """Return the run that another begins from.

    Words say in what it was another run than this one: what is asked, for how long and how is
    said anew, all else that makes an encoder stays.
    """
    assert config.init_from is not None
    results_dir = Path(config.results_dir)
    if "=" not in config.init_from or is_there(Path(config.init_from).expanduser()):
        return weights.find(config.init_from, results_dir, config.init_positions)
    try:
        given = shlex.split(config.init_from)
    except ValueError as error:
        raise UserError(f"init_from={config.init_from} cannot be read: {error}") from error
    named = {word.partition("=")[0] for word in given}
    if strange := [key for key in named if key.split(".")[0] not in _OF_A_RUN]:
        raise UserError(
            f"init_from: {', '.join(sorted(strange))} is nothing in which a run can be another "
            f"one; name a run, or give words such as objective=denoising"
        )
    stays = [
        str(item.input_line)
        for item in words.parse(words.quote_paths(asked))
        # Options of a task or a model are not those of another one.
        if not _said_anew(item) and not {item.key_or_group, words.section_of(item)} & named
    ]
    try:
        request = compose([*stays, *given], config_dirs=config_dirs, conf_dir=conf_dir)
    except UserError as error:
        raise UserError(f"init_from: {str(error).removeprefix('init_from: ')}") from error
    found = record.find_all(results_dir, request.names, request.request_id)
    if len(found) != 1:
        number = "no" if not found else f"{len(found)} (on other data)"
        raise UserError(
            f"init_from: there is {number} finished run of {request.title} below {results_dir}; "
            + (
                f"name one by its id: {', '.join(one.run_id for one in found)}"
                if found
                else f"run it first: {request.command()} keep_weights=true"
            )
        )
    folder = weights.folder_of(results_dir, found[0].run_id)
    return weights.of_record(found[0], folder, config.init_positions)


def _said_anew(item: Override) -> bool:
    """Return whether a word is about this run alone, and not about the one it begins from."""
    section = words.section_of(item)
    return section in ("objective", "train", "head", "init_from", "init_positions", "tracker")


def compose_task(
    asked: Sequence[str], *, config_dirs: Sequence[Path] = (), conf_dir: Path | None = None
) -> TaskRequest:
    """Compose a task alone, as a setting asks for it.

    Args:
        asked: The words ``task=``, ``setting=``, ``task.KEY=`` and the folders of data.
        config_dirs: Further folders laid out like ``conf/``, searched as well.
        conf_dir: Folder of the harness's own configuration; None for the one it comes with.

    Raises:
        UserError: A name, a key or a value is wrong.
    """
    composing = _Composing(DATA, asked, _DATA_GROUPS, config_dirs, conf_dir)
    composing.require("task")
    standard, config, names = composing.compose(("task", *_DATA_KEYS))
    before = dict(plain.leaves({"task": standard["task"]}))
    task = _as_in_the_file(config["task"], "task", before)
    return TaskRequest(names["task"], task, *(_expanded(config[key]) for key in _DATA_KEYS))


def files_of(request: Request, *, conf_dir: Path | None = None) -> dict[str, list[str]]:
    """Return the files that made each section of a run, in the order in which they were read.

    Those of the harness are named from its ``conf/`` on.
    """
    composing = _Composing(RUN, request.words, GROUPS, request.config_dirs, conf_dir)
    own, further = conf_dir or paths.conf_dir(), request.config_dirs
    with words.hydra_at(further, own):
        loader = GlobalHydra.instance().config_loader()
        read = loader.compute_defaults_list(RUN, composing.naming, RunMode.RUN).defaults
    made: dict[str, list[str]] = {section: [] for section in (*SECTIONS, "tracker")}
    for entry in read:
        name = Path(f"{entry.config_path}.yaml").as_posix()
        path = next(
            (folder / name for folder in (own, *further) if (folder / name).is_file()), None
        )
        if path is None:
            continue
        text = path.read_text(encoding="utf-8")
        for section in made:
            says = re.search(rf"^{section}:", text, flags=re.MULTILINE) is not None
            if entry.package == section or (not entry.package and says):
                made[section].append(name if path.is_relative_to(own) else str(path))
    return made


class _Composing:
    """The words of one request: names of files apart from values."""

    def __init__(
        self,
        primary: str,
        asked: Sequence[str],
        groups: Collection[str],
        config_dirs: Sequence[Path],
        conf_dir: Path | None,
    ) -> None:
        self.primary, self.config_dirs = primary, config_dirs
        self.conf_dir = conf_dir or paths.conf_dir()
        parsed = words.parse(words.quote_paths(asked))
        self.chosen = [item for item in parsed if item.get_key_element() in groups]
        self.values = [item for item in parsed if item not in self.chosen]
        search = words.search_words(config_dirs)
        self.naming = [*(str(item.input_line) for item in self.chosen), *search]

    def require(self, *groups: str) -> None:
        """Refuse a request that does not choose from some groups, or chooses what is not there."""
        for item in self.chosen:
            words.check_name(item, self.config_dirs, self.conf_dir)
        for group in groups:
            if group not in {item.get_key_element() for item in self.chosen}:
                known = ", ".join(words.options(group, self.config_dirs, self.conf_dir))
                raise UserError(f"{group}= is missing; choose one of {known}")

    def refuse_sections_but(self, known: Collection[str]) -> None:
        """Refuse words whose key begins with nothing that is known, before anything is read."""
        unknown = [item for item in self.values if words.section_of(item) not in known]
        words.check_keys(unknown, known)

    def compose(
        self, keys: Collection[str]
    ) -> tuple[dict[str, Any], dict[str, Any], Mapping[str, str]]:
        """Return some keys of what the names stand for, the same changed, and the names."""
        folders = (self.conf_dir, *map(Path, self.config_dirs))
        composed, choices = _what_names_stand_for(
            self.primary, tuple(self.naming), folders, _stamp_of(folders)
        )
        if self.primary == DATA:
            composed = OmegaConf.masked_copy(composed, list(keys))
        with _one_line():
            standard = _plain_of(composed)
        words.check_keys(self.values, {key for key, _ in plain.leaves(standard, inner=True)})
        if not self.values:
            return standard, _plain_of(composed), choices
        changed = copy.deepcopy(composed)
        with _one_line():
            for item in self.values:
                OmegaConf.update(changed, str(item.key_or_group), item.value(), merge=True)
            return standard, _plain_of(changed), choices


def _stamp_of(folders: Sequence[Path]) -> int:
    """Return what changes when a configuration file is added, edited or removed."""
    stamps = []
    for path in sorted(path for folder in folders for path in folder.rglob("*.yaml")):
        # Editors leave links to nowhere beside the files they edit.
        with suppress(OSError):
            stamps.append((str(path), path.stat().st_mtime_ns))
    return hash(tuple(stamps))


@lru_cache(maxsize=256)
def _what_names_stand_for(
    primary: str, naming: Sequence[str], folders: Sequence[Path], stamp: int
) -> tuple[DictConfig, Mapping[str, str]]:
    """Return a composition of files alone, interpolations open, and the chosen file of each group.

    A sweep asks for few of these, with many changes and seeds.
    """
    del stamp
    conf_dir, *config_dirs = folders
    with words.hydra_at(config_dirs, conf_dir), _one_line():
        composed = hydra_compose(primary, overrides=list(naming), return_hydra_config=True)
        choices = {str(key): str(value) for key, value in composed.hydra.runtime.choices.items()}
    with open_dict(composed):
        del composed["hydra"]
    return composed, choices


def _plain_of(composed: DictConfig) -> dict[str, Any]:
    """Return a composition as plain data, interpolations resolved."""
    config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what Hydra and OmegaConf have to say into one line for the user."""
    try:
        yield
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from error
    except (YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"a configuration file cannot be read: {reason}") from error


def _expanded(folder: Any) -> Any:
    """Return a folder with ``~`` spelt out; anything else is for the schema to refuse."""
    if not isinstance(folder, str) or not folder:
        return folder
    try:
        return str(Path(folder).expanduser())
    except RuntimeError as error:
        raise UserError(f"{folder}: there is no such user here; name the folder in full") from error


def _as_in_the_file(tree: Any, prefix: str, before: Mapping[str, Any]) -> Any:
    """Return options with the type that a number has in its file: 1 is 1.0 where that is a float.

    What is written in two ways must not become two runs.
    """
    if isinstance(tree, Mapping):
        return {
            key: _as_in_the_file(value, f"{prefix}.{key}", before) for key, value in tree.items()
        }
    own = before.get(prefix)
    numbers = all(type(value) in (int, float) for value in (tree, own))
    if numbers and tree == own:
        return own
    if isinstance(own, float) and type(tree) is int:
        return float(tree)
    return int(tree) if type(own) is int and type(tree) is float and tree.is_integer() else tree


def _explain(error: Exception) -> str:
    """Return one line for what Hydra says in several."""
    text = str(error)
    cause = error.__cause__ if error.__cause__ is not None else error
    key = getattr(cause, "full_key", None)
    reason = (str(cause).splitlines() or [type(cause).__name__])[0]
    if getattr(cause, "key", None) is not None and "mandatory" in reason.lower():
        return f"{key} has no value; the setting must give one"
    if text.startswith("Error merging override "):
        return f"{text.splitlines()[0].removeprefix('Error merging override ')}: {reason}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [reason]
    return f"{lines[0]}" if reason in lines[0] else f"{lines[0]}: {reason}"
