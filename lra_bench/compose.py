"""The schema of a run, and composing one from ``conf/`` and the command line.

Composing is the first thing that happens: a misspelt name, an unknown key or a wrong type is
refused here, before torch is imported or data are looked at.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

# The groups whose files give a run its names; tracker is one too, but changes no number.
NAMED_GROUPS = ("setting", "task", "model", "objective")
GROUPS = (*NAMED_GROUPS, "tracker")
# The options that hold a folder.
PATHS = ("data_dir", "cache_dir", "results_dir")
# What of a configuration can change the number; the seed is kept apart.
SECTIONS = ("task", "model", "objective", "trunk", "head", "train")


class ConfigError(ValueError):
    """What the user asked for cannot be composed; the text says what and how to mend it."""


@dataclass
class TrunkConfig:
    """Sizes that a setting gives to every model; see `lra_bench.models.encoder.EncoderSpec`."""

    num_layers: int = MISSING
    width: int = MISSING
    num_heads: int = MISSING
    qkv_width: int = MISSING
    ffn_width: int = MISSING
    dropout: float = MISSING
    attention_dropout: float = MISSING
    positions: str = MISSING


@dataclass
class HeadConfig:
    """From states to classes; see `lra_bench.classifier.SequenceClassifier`."""

    pooling: str = MISSING
    hidden_width: int = MISSING
    interaction: str = MISSING


@dataclass
class TrainConfig:
    """How long and how; units: steps are updates, batch sizes are examples."""

    num_steps: int = MISSING
    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    eval_every: int = MISSING
    bucketing: bool = MISSING
    learning_rate: float = MISSING
    schedule: str = MISSING
    num_warmup_steps: int = MISSING
    weight_decay: float = MISSING
    decay: str = MISSING
    beta1: float = MISSING
    beta2: float = MISSING
    eps: float = MISSING
    max_grad_norm: float | None = MISSING
    precision: str = MISSING
    compile: bool = False


@dataclass
class RunConfig:
    """A run. What stands above ``seed`` can change the number, and so can the seed.

    Args:
        task: What ``conf/task`` says; an object to build.
        model: What ``conf/model`` says; an object to build.
        objective: What ``conf/objective`` says; an object to build.
        trunk: Sizes of the encoder.
        head: Pooling and head.
        train: Training.
        seed: Of initialization, order and dropout.
        tracker: What ``conf/tracker`` says; an object to build.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        num_threads: Threads of the CPU; None for one a core.
        data_dir: Where raw files lie or are downloaded to; None for the default.
        cache_dir: Where prepared data lie; None for the default.
        results_dir: Where records go.
        checkpoint_seconds: Time between two checkpoints.
        force: Run again although there is a record.
        quiet: Print the result only.
    """

    task: Any = MISSING
    model: Any = MISSING
    objective: Any = MISSING
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seed: int = 0
    tracker: Any = MISSING
    device: str = "auto"
    num_threads: int | None = None
    data_dir: str | None = None
    cache_dir: str | None = None
    results_dir: str = "results"
    checkpoint_seconds: float = 300.0
    force: bool = False
    quiet: bool = False


ConfigStore.instance().store(name="run_schema", node=RunConfig)


@dataclass(frozen=True)
class Composed:
    """A configuration and where it comes from.

    Args:
        config: Plain values, all interpolations resolved; the layout of `RunConfig`.
        names: The chosen file of each group.
        changes: Options of `SECTIONS` that differ from what the names stand for, by dotted key.
    """

    config: dict[str, Any]
    names: dict[str, str]
    changes: dict[str, Any]

    @property
    def numeric(self) -> dict[str, Any]:
        """The part of the configuration that can change the number, without the seed."""
        return {section: self.config[section] for section in SECTIONS}

    @property
    def label(self) -> dict[str, str]:
        """The names with what was changed about them: the cell that the result belongs to.

        Options of the trunk, the head and the training belong to the setting.
        """
        labels = dict(self.names)
        for group in NAMED_GROUPS:
            owned = {
                key: value
                for key, value in self.changes.items()
                if (key.split(".")[0] if key.split(".")[0] in NAMED_GROUPS else "setting") == group
            }
            if owned:
                shown = (f"{_shorten(key, group)}={value}" for key, value in owned.items())
                labels[group] += f"({','.join(shown)})"
        return labels

    def command(self) -> str:
        """Return a command that repeats the run on any machine."""
        words = [f"{group}={self.names[group]}" for group in NAMED_GROUPS]
        words += [f"{key}={_literal(value)}" for key, value in self.changes.items()]
        return shlex.join(["lra-bench", "run", *words, f"seed={self.config['seed']}"])


def _shorten(key: str, group: str) -> str:
    return key.removeprefix(f"{group}.").removeprefix("mixer.")


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_literal, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./:-]*", value):
        escaped = value.replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)


def compose(
    overrides: Sequence[str], *, conf_dir: Path, config_dirs: Sequence[Path] = ()
) -> Composed:
    """Compose a run from the command line's ``key=value`` words.

    Args:
        overrides: Hydra's override grammar, without sweeps.
        conf_dir: Folder of the harness's own configuration.
        config_dirs: Further folders laid out like it, searched as well.

    Raises:
        ConfigError: A name, a key or a value is wrong.
    """
    with Searching(conf_dir, config_dirs) as search:
        parsed = _parse(quote_paths(overrides), OverridesParser.create())
        naming = [item for item in parsed if item.get_key_element() in GROUPS]
        values = [item for item in parsed if item not in naming]
        sections = {item.name for item in fields(RunConfig)}
        _check_keys([item for item in values if _section(item) not in sections], sections)
        for item in naming:
            _check_name(item, conf_dir, config_dirs)
        for group in ("task", "model"):
            if group not in {item.get_key_element() for item in naming}:
                known_options = options(group, conf_dir=conf_dir, config_dirs=config_dirs)
                raise ConfigError(f"{group}= is missing; choose one of {', '.join(known_options)}")
        standard, names = _compose([*_words(naming), *search])
        _check_keys(values, {key for key, _ in _flatten(standard, inner=True)})
        config, _ = _compose([*_words(naming), *_words(values), *search])
    before = dict(_flatten({section: standard[section] for section in SECTIONS}))
    after = _flatten({section: config[section] for section in SECTIONS})
    changes = {key: value for key, value in after if before.get(key, MISSING) != value}
    for name in PATHS:
        if config[name] is not None:
            config[name] = str(Path(config[name]).expanduser())
    return Composed(config, names, changes)


def expand_sweep(
    overrides: Sequence[str], *, conf_dir: Path, config_dirs: Sequence[Path] = ()
) -> list[list[str]]:
    """Return the words of each run of a sweep over listed values (``a,b``, ``range``, ``glob``).

    Raises:
        ConfigError: A word cannot be parsed.
    """
    # Hydra offers no public way to ask what a sweep will run.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    with Searching(conf_dir, config_dirs):
        parsed = _parse(overrides, OverridesParser.create())
        try:
            batches = BasicSweeper.split_arguments(
                [item for item in parsed if not _for_hydra(item)], max_batch_size=None
            )
        except HydraException as error:
            raise ConfigError(f"cannot sweep over {' '.join(overrides)}: {error}") from error
    return [list(words) for batch in batches for words in batch]


def spell_out_globs(
    overrides: Sequence[str], *, conf_dir: Path, config_dirs: Sequence[Path] = ()
) -> list[str]:
    """Return the words with each ``glob(...)`` of a group replaced by the names it matches.

    Hydra would match the files of the harness alone, not those of further folders.

    Raises:
        ConfigError: A word cannot be parsed, or nothing matches.
    """
    words = []
    for item in _parse(overrides, OverridesParser.create()):
        group, value = item.get_key_element(), item.value()
        if isinstance(value, Glob) and group in GROUPS:
            known = options(group, conf_dir=conf_dir, config_dirs=config_dirs)
            names = value.filter(known)
            if not names:
                raise ConfigError(
                    f"{item.input_line} matches no {group} ({group}= takes one of "
                    f"{', '.join(known)})"
                )
            words.append(f"{group}={','.join(names)}")
        else:
            words.append(str(item.input_line))
    return words


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Return the words with folders quoted, whose names may hold what Hydra's grammar would read.

    Args:
        overrides: ``key=value`` words.
    """
    words = []
    for word in overrides:
        key, _, value = word.partition("=")
        if key in PATHS and value not in ("", "null") and value[0] not in "'\"":
            escaped = value.replace("\\'", "'").replace("'", "\\'")
            word = f"{key}='{escaped}'"
        words.append(word)
    return words


def options(group: str, *, conf_dir: Path, config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the names of the files of a group.

    Raises:
        ConfigError: A folder does not exist.
    """
    found: set[str] = set()
    for folder in (conf_dir, *config_dirs):
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder} is not a folder")
        found.update(path.stem for path in (folder / group).glob("*.yaml"))
    return sorted(found)


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


def search_words(config_dirs: Sequence[Path]) -> list[str]:
    """Return the words that tell Hydra to search further folders."""
    urls = ",".join(f"'file://{folder.resolve()}'" for folder in config_dirs)
    return [f"hydra.searchpath=[{urls}]"] if config_dirs else []


class Searching:
    """Points Hydra at the folders while it is entered; gives the words that add further ones.

    Raises:
        ConfigError: A folder does not exist.
    """

    def __init__(self, conf_dir: Path, config_dirs: Sequence[Path]) -> None:
        for folder in config_dirs:
            if not folder.is_dir():
                raise ConfigError(f"--config-dir {folder} is not a folder")
        self.words = search_words(config_dirs)
        self.conf_dir = conf_dir

    def __enter__(self) -> list[str]:
        # Inside a job of a sweep Hydra is at work already; its state is put back afterwards.
        self.outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        initialize_config_dir(str(self.conf_dir), version_base="1.3")
        return self.words

    def __exit__(self, *error: object) -> None:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = self.outer


def _compose(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        composed = hydra_compose("run", overrides=list(words), return_hydra_config=True)
        choices = dict(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error)) from error
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"a configuration file is no YAML: {reason}") from error
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items()}
    _check_sections(plain)
    return plain, {group: str(choices[group]) for group in GROUPS}


def _parse(words: Sequence[str], parser: OverridesParser) -> list[Override]:
    parsed = []
    for word in words:
        try:
            parsed += parser.parse_overrides([word])
        except HydraException as error:
            raise ConfigError(
                f"cannot read {word!r}: expected key=value, for example seed=1"
            ) from error
    return parsed


def _words(parsed: Sequence[Override]) -> list[str]:
    return [str(item.input_line) for item in parsed]


def _section(item: Override) -> str:
    return str(item.key_or_group).split(".")[0]


def _for_hydra(item: Override) -> bool:
    return str(item.key_or_group).startswith(("hydra.", "hydra/"))


def _check_name(item: Override, conf_dir: Path, config_dirs: Sequence[Path]) -> None:
    group = item.get_key_element()
    known = options(group, conf_dir=conf_dir, config_dirs=config_dirs)
    if item.is_sweep_override():
        raise ConfigError(f"{item.input_line} names several; add -m to run each of them")
    name = str(item.value())
    if name not in known:
        raise ConfigError(
            f"there is no {group} {name!r}{nearest(name, known)} "
            f"({group}= takes one of {', '.join(known)})"
        )


def _check_keys(items: Sequence[Override], known: set[str]) -> None:
    """Refuse keys that nothing would read, and values that belong to a sweep."""
    for item in items:
        key = str(item.key_or_group)
        if _for_hydra(item):
            raise ConfigError(f"{item.input_line} belongs to sweeps; add -m")
        if key not in known:
            raise ConfigError(
                f"there is no option {key!r}{nearest(key, {*known, *GROUPS})} "
                f"(lra-bench run --cfg shows all options of a run)"
            )
        if item.is_add() or item.is_delete():
            raise ConfigError(
                f"{item.input_line}: options can be changed, not added or removed; "
                f"write {key}=VALUE"
            )
        if item.is_sweep_override():
            raise ConfigError(f"{item.input_line} lists several values; add -m to run each")


def _check_sections(config: dict[str, Any]) -> None:
    """Refuse a configuration file that sets something nobody reads."""
    schema = {"trunk": TrunkConfig, "head": HeadConfig, "train": TrainConfig}
    unknown = set(config) - {item.name for item in fields(RunConfig)}
    for section, layout in schema.items():
        known = {item.name for item in fields(layout)}
        unknown |= {f"{section}.{key}" for key in set(config[section]) - known}
    if unknown:
        raise ConfigError(f"a configuration file sets what nothing reads: {sorted(unknown)}")


def _explain(error: Exception) -> str:
    """Return one line for what Hydra says in several."""
    text = str(error)
    cause = error.__cause__ if error.__cause__ is not None else error
    key = getattr(cause, "full_key", None)
    reason = str(cause).splitlines()[0]
    if wrong := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", reason):
        kind = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"{key}={wrong[1]} is not {kind.get(wrong[2], wrong[2])}"
    if getattr(cause, "key", None) is not None and "mandatory" in reason.lower():
        return f"{key} has no value; the setting must give one"
    if text.startswith("Error merging override "):
        return f"{text.splitlines()[0].removeprefix('Error merging override ')}: {reason}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{lines[0]}" if reason in lines[0] else f"{lines[0]}: {reason}"


def _flatten(
    tree: Mapping[str, Any], prefix: str = "", *, inner: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves by dotted key, and the nodes above them if ``inner``."""
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if inner:
                yield dotted, value
            yield from _flatten(value, f"{dotted}.", inner=inner)
        else:
            yield dotted, value
