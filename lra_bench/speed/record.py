"""The record of a speed cell: one model at one length, a JSON file. Needs no torch, no Hydra.

A field that a newer minor version has added is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from lra_bench import identity, plain
from lra_bench.errors import UserError
from lra_bench.files import reason, write_atomically
from lra_bench.identity import NAMES, content_of, hash_of

# Major and minor: a new field is a new minor version; a field that is gone or means something
# else, or a step that is measured in another way, is a new major one.
SCHEMA_VERSION = "1.0"
Status = Literal["completed", "out_of_time", "out_of_memory", "failed"]
Mode = Literal["train", "inference"]
MODES: tuple[Mode, ...] = get_args(Mode)
# No honest step takes longer [seconds].
_LONGEST = 1e9
# Others may have this share of the cores before a cell counts as measured on a busy machine.
_QUIET_SHARE = 0.1
_ID_LENGTH = 16


class BadSpeedRecord(ValueError):
    """A file is no speed record that this program can read; the text says why, after "it"."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What the steps of one model in one mode took, round by round.

    Args:
        seconds_per_step: Time on the clock, a value a round [s].
        cpu_seconds_per_step: Time of all threads of the process, a value a round [s].
        steps_per_round: Steps that a value is the mean of.
        joules_per_step: Energy of the part of the machine that computed, a value a round [J];
            None where the machine does not tell.
        peak_memory_bytes: Highest memory use in this mode over what the process held before the
            model was built; what was allocated on a GPU. None where the system does not tell.
    """

    seconds_per_step: Sequence[float]
    cpu_seconds_per_step: Sequence[float]
    steps_per_round: int
    joules_per_step: Sequence[float] | None = None
    peak_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot have been measured.

        Raises:
            ValueError: A field is of the wrong type, or two do not go together.
        """
        plain.check_fields(self)
        rounds = len(self.seconds_per_step)
        if not rounds or self.steps_per_round < 1:
            raise ValueError("a timing needs at least one round of one step")
        if not all(0 < seconds < _LONGEST for seconds in self.seconds_per_step):
            raise ValueError("seconds_per_step must be positive, and below 1e9")
        others = [self.cpu_seconds_per_step]
        others += [] if self.joules_per_step is None else [self.joules_per_step]
        for values in others:
            if len(values) != rounds or not all(0 <= value < _LONGEST for value in values):
                raise ValueError("every round needs one value of each kind, none negative")


@dataclass(frozen=True, kw_only=True)
class SpeedRecord:
    """What one model costs at one length; units are in the names.

    Args:
        cell_id: `cell_id` of what was measured and where; in the name of the file.
        setting: Name of the setting, without what was changed about it; likewise the next three.
        task: Name of the task, whose vocabulary and classes the model has.
        model: Name of the model.
        objective: Name of the objective.
        changes: Options that differ from what the names above stand for, by dotted key.
        length: Tokens of an input, none of them padding.
        batch_size: Examples a step.
        status: ``completed``; ``out_of_time`` or ``out_of_memory``, by the limits; ``failed``.
        error: One line, unless completed.
        train: Forward, backward and optimizer, in training mode.
        inference: Forward in evaluation mode, without gradients.
        baseline: Name of the model that took turns with this one.
        baseline_train: Its rounds; None where it has no result.
        baseline_inference: Likewise.
        num_parameters: Trained numbers.
        config: The sections that can change the cost, with the classes that were built.
        code_sha256: See `lra_bench.speed.sources`; of the model and of the baseline.
        device: Hardware, threads, how they wait, allocator.
        num_threads: Threads of the CPU.
        num_cores: Cores of the machine.
        other_cores: Cores that anything but the two models kept busy, on average over the rounds;
            None where the system does not tell.
        warmup_steps: Steps of each mode before the first round.
        limit_seconds: Time that the model had for this cell.
        memory_limit_bytes: Memory that its process could get, None for no limit.
        total_seconds: Time of the whole cell, processes and warm-up included.
        command: A command that measures this cell.
        git_commit: Commit of the code, or None outside a checkout.
        git_dirty: Whether the checkout had uncommitted changes.
        versions: Versions of Python and of the packages that matter.
        started_at: UTC, ISO 8601.
        schema_version: Version of this layout; a newer minor one if it was read from such a file.
        extra: Fields that a newer minor version has, as they stand in the file.
    """

    cell_id: str
    setting: str
    task: str
    model: str
    objective: str
    length: int
    batch_size: int
    status: Status
    config: Mapping[str, Any]
    code_sha256: str
    baseline: str
    device: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    train: Timing | None = None
    inference: Timing | None = None
    baseline_train: Timing | None = None
    baseline_inference: Timing | None = None
    num_parameters: int | None = None
    num_threads: int = 1
    num_cores: int = 1
    other_cores: float | None = None
    warmup_steps: int = 0
    limit_seconds: float = 0.0
    memory_limit_bytes: int | None = None
    total_seconds: float = 0.0
    command: str = ""
    git_commit: str | None = None
    git_dirty: bool | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    started_at: str = ""
    schema_version: str = SCHEMA_VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a record that contradicts itself, whoever makes it.

        Raises:
            ValueError: A field is of the wrong type, or two do not go together.
        """
        plain.check_fields(self)
        for complaint in _contradictions(self):
            raise ValueError(complaint)

    @property
    def names(self) -> dict[str, str]:
        """The plain names by group."""
        return {group: getattr(self, group) for group in NAMES}

    @property
    def labels(self) -> dict[str, str]:
        """The names with what was changed about them."""
        return identity.labels(self.names, self.changes)

    @property
    def is_busy(self) -> bool:
        """Whether others used more than a tenth of the machine meanwhile."""
        return self.other_cores is not None and self.other_cores > _QUIET_SHARE * self.num_cores

    def timing(self, mode: Mode) -> Timing | None:
        """Return the rounds of the model in a mode."""
        return self.train if mode == "train" else self.inference

    def baseline_timing(self, mode: Mode) -> Timing | None:
        """Return the rounds of the baseline that were taken in turn with them."""
        return self.baseline_train if mode == "train" else self.baseline_inference


def _contradictions(record: SpeedRecord) -> Iterator[str]:
    """Yield what cannot be true of a record whose fields are each of the right type."""
    for name in (*NAMES, "cell_id", "baseline"):
        if not getattr(record, name):
            yield f"{name} is empty"
    for name in ("length", "batch_size", "num_threads", "num_cores"):
        if getattr(record, name) < 1:
            yield f"{name} is {getattr(record, name)}"
    if not re.fullmatch(r"[0-9a-f]{64}", record.code_sha256):
        yield f"code_sha256 {record.code_sha256!r:.80} is not 64 hexadecimal digits"
    if record.cell_id != cell_id(
        record.names,
        record.changes,
        record.config,
        length=record.length,
        batch_size=record.batch_size,
        device=record.device,
    ):
        yield f"cell_id {record.cell_id!r:.40} does not fit what was measured"
    completed = record.status == "completed"
    if completed != (record.error is None):
        yield f"it is {record.status} and has {'an' if record.error else 'no'} error"
    for mode in MODES:
        own, others = record.timing(mode), record.baseline_timing(mode)
        if completed != (own is not None):
            yield f"it is {record.status} and has {'no' if completed else 'a'} result of {mode}"
        elif own is None and others is not None:
            yield f"the baseline has rounds of {mode}, and the model has none"
        elif own and others and len(own.seconds_per_step) != len(others.seconds_per_step):
            yield f"model and baseline have different numbers of rounds of {mode}"


def cell_id(
    names: Mapping[str, str],
    changes: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    length: int,
    batch_size: int,
    device: str,
) -> str:
    """Return the identity of what is measured and where, 16 hexadecimal digits.

    Args:
        names: The chosen file of each group.
        changes: Options that differ from what the names stand for, by dotted key.
        config: The sections that can change the cost, with or without ``_target_``.
        length: Tokens of an input.
        batch_size: Examples a step.
        device: Hardware in words.
    """
    content = {
        "names": {name: names[name] for name in NAMES},
        "changes": dict(changes),
        "config": content_of(config),
        "length": length,
        "batch_size": batch_size,
        "device": device,
    }
    return hash_of(content)[:_ID_LENGTH]


def model_label(labels: Mapping[str, str]) -> str:
    """Return what a model is called in tables: with its changes, and an unusual objective.

    Args:
        labels: See `lra_bench.identity.labels`.
    """
    plain_objective = labels["objective"] == "cross_entropy"
    return labels["model"] if plain_objective else f"{labels['model']} + {labels['objective']}"


def record_path(results_dir: Path, record: SpeedRecord) -> Path:
    """Return where a record lies below a results folder."""
    return path_of(results_dir, record.names, record.length, record.cell_id)


def path_of(results_dir: Path, names: Mapping[str, str], length: int, identity: str) -> Path:
    """Return where the record of a cell lies below a results folder.

    Args:
        results_dir: The folder.
        names: Plain names.
        length: Tokens of an input.
        identity: See `cell_id`.
    """
    folders = (
        re.sub(r"^\.+$", "_", re.sub(r"[^\w.,=()+-]", "_", names[group])[:100])
        for group in ("setting", "task", "model")
    )
    return results_dir.joinpath("speed", *folders, f"{length}-{identity}.json")


def write(record: SpeedRecord, results_dir: Path) -> Path:
    """Write a record below a results folder and return its path.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    content = {item.name: getattr(record, item.name) for item in fields(record)}
    content |= content.pop("extra")
    for name, value in content.items():
        if isinstance(value, Timing):
            content[name] = asdict(value)
    path = record_path(results_dir, record)
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, text + "\n")
    return path


def read(path: Path) -> SpeedRecord:
    """Read a record.

    Raises:
        BadSpeedRecord: The file cannot be read, is cut short, or is something else.
    """
    try:
        return _from_dict(plain.load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadSpeedRecord(f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise BadSpeedRecord("is not JSON; it may be half written") from error
    except BadSpeedRecord:
        raise
    except ValueError as error:
        raise BadSpeedRecord(str(error)) from error


def _from_dict(content: Any) -> SpeedRecord:
    if not isinstance(content, dict) or "schema_version" not in content:
        raise BadSpeedRecord("is not a speed record: it has no schema_version")
    version, ours = content["schema_version"], SCHEMA_VERSION.split(".")
    parts = re.fullmatch(r"(\d{1,9})\.(\d{1,9})", version) if isinstance(version, str) else None
    if parts is None or parts[1] != ours[0]:
        raise BadSpeedRecord(
            f"has schema_version {version!r:.60}, this program reads up to {SCHEMA_VERSION}; a "
            f"newer one may read it"
        )
    try:
        known = {item.name for item in fields(SpeedRecord)} - {"extra"}
        if missing := known - set(content):
            raise ValueError(f"missing fields {', '.join(sorted(missing))}")
        extra = {name: value for name, value in content.items() if name not in known}
        if extra and int(parts[2]) <= int(ours[1]):
            raise ValueError(f"unknown fields {', '.join(sorted(extra))}")
        values = {name: content[name] for name in known}
        for name in ("train", "inference", "baseline_train", "baseline_inference"):
            values[name] = _timing_of(values[name], name)
        return SpeedRecord(**values, extra=extra)
    except ValueError as error:
        raise BadSpeedRecord(f"is not a speed record: {error}") from error


def _timing_of(content: Any, name: str) -> Timing | None:
    if content is None:
        return None
    known = {item.name for item in fields(Timing)}
    if not isinstance(content, dict) or set(content) != known:
        raise ValueError(f"{name} must have the fields {', '.join(sorted(known))}, and no others")
    try:
        return Timing(**content)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@dataclass(frozen=True)
class Collection:
    """What lay below a results folder.

    Args:
        records: Every cell once.
        skipped: Files that are no records, and why; the text follows "it".
    """

    records: Sequence[SpeedRecord]
    skipped: Mapping[Path, str]


def collect(results_dir: Path) -> Collection:
    """Read all records below a results folder, in the order of their files.

    Raises:
        UserError: There is no such folder.
    """
    if not results_dir.is_dir():
        raise UserError(f"{results_dir} is not a folder; name one that `lra-bench speed` wrote to")
    cells: dict[str, SpeedRecord] = {}
    skipped: dict[Path, str] = {}
    for path in sorted((results_dir / "speed").rglob("*")):
        if path.is_dir():
            if path.is_symlink():
                skipped[path] = "is a link to a folder, and those are not followed"
        elif path.suffix != ".json" or path.name.startswith("."):
            skipped[path] = "is not a speed record: its name does not end in .json"
        else:
            try:
                record = read(path)
                cells.setdefault(record.cell_id, record)
            except BadSpeedRecord as error:
                skipped[path] = str(error)
    return Collection(list(cells.values()), skipped)
