"""The record of a run: one JSON file, the only source of every table. Needs no torch, no Hydra.

A record of an older version is upgraded when it is read. A field that a newer minor version has
added is kept, and written back.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from lra_bench import identity, plain
from lra_bench.errors import UserError
from lra_bench.files import reason, remove_abandoned_drafts, write_atomically
from lra_bench.identity import NAMES
from lra_bench.metrics import Evaluation, measured, metric
from lra_bench.record_versions import SCHEMA_VERSION as SCHEMA_VERSION
from lra_bench.record_versions import BadRecord as BadRecord
from lra_bench.record_versions import is_newer, upgrade
from lra_bench.types import DataInfo

Status = Literal["completed", "failed", "diverged"]
# What a record holds of the run that its weights began from; see `lra_bench.weights.Parent`.
PRETRAINING: Mapping[str, Any] = {
    "run_id": str,
    "label": str,
    "positions": str,
    "config_sha256": str,
    "weights_sha256": str,
    "seed": int,
    "num_steps": int,
    "num_tokens": int | None,
    "train_seconds": float | None,
    "command": str,
}
# No honest duration or rate is as large [seconds, 1/second].
_LONGEST = 1e15


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run was and what came out; numbers are numbers or None, units are in the names.

    Args:
        run_id: What `lra_bench.identity` calls the request on these data; the name of the file.
        request_id: What it calls the names, changes, configuration and seed.
        setting: Name of the setting, without what was changed about it; likewise the next three.
        task: Name of the task.
        model: Name of the model.
        objective: Name of the objective.
        changes: Options that differ from what the names above stand for, by dotted key.
        seed: Seed of initialization, order and dropout.
        status: ``completed``; ``diverged``, the loss stopped being finite; ``failed``.
        error: One line, unless completed.
        parent: The ``run_id`` of the run whose weights this one began from, or None.
        pretraining: What that run was; see `lra_bench.weights.Parent`. None without one.
        weights_sha256: Of the file with the weights of the encoder, where they were kept.
        command: A command that repeats the run.
        ranking_metric: The metric that chose the weights on validation, and that tables rank by.
        metrics: Values by name and split, as `measured` reads them from the sums; None where
            there is no evaluation.
        test: Over the test split, evaluated once with the weights that validation chose.
        validation: Of the same weights over the validation split.
        best_step: Update after which validation was best.
        num_steps: Updates made.
        curve: One row an evaluation: step, losses, metrics, learning rate, seconds.
        majority_baseline: The ranking metric on the test split of always answering the most
            frequent training class; of a loss, of always giving each class its share of training.
        num_parameters: Trained numbers.
        encoder_passes_per_step: Forward passes through the encoder in one training step.
        train_seconds: Time in training steps.
        total_seconds: Time of the run, evaluation included; of the last session if resumed.
        peak_memory_bytes: Highest memory use: of the process on the CPU, allocated on a GPU.
        examples_per_second: Training examples a second of ``train_seconds``.
        tokens_per_second: Real training tokens a second of ``train_seconds``.
        data: What was read, in words; see `data_of`.
        data_sha256: Fingerprint of the content that was read.
        config: The resolved configuration, with the classes that were built.
        config_sha256: Of what it says; see `identity.config_sha256`.
        git_commit: Commit of the code, or None outside a checkout.
        git_dirty: Whether the checkout had uncommitted changes.
        versions: Versions of Python and of the packages that matter.
        device: Hardware.
        dtype: Precision of the matrix products.
        started_at: UTC, ISO 8601.
        num_resumes: How often the run was continued from a checkpoint.
        sessions: The processes that made the steps, one more than resumes: ``from_step``,
            ``started_at``, ``device``, ``torch``, ``git_commit`` and ``num_processes`` of each.
            Where these are not all the same, the last digits may differ from those of an
            undisturbed run. Empty in records of before version 2.1; ``num_processes`` came with
            2.2.
        num_processes: Processes that trained together, in the last of the sessions.
        schema_version: Version of this layout; a newer minor one if it was read from such a file.
        extra: Fields that a newer minor version has, as they stand in the file.
    """

    run_id: str
    request_id: str
    setting: str
    task: str
    model: str
    objective: str
    seed: int
    status: Status
    data_sha256: str
    config: Mapping[str, Any]
    config_sha256: str
    ranking_metric: str
    metrics: Mapping[str, Mapping[str, float | None]]
    changes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    parent: str | None = None
    pretraining: Mapping[str, Any] | None = None
    weights_sha256: str | None = None
    command: str = ""
    test: Evaluation | None = None
    validation: Evaluation | None = None
    best_step: int | None = None
    num_steps: int = 0
    curve: Sequence[Mapping[str, Any]] = field(default_factory=list)
    majority_baseline: float | None = None
    num_parameters: int | None = None
    encoder_passes_per_step: int | None = None
    train_seconds: float | None = None
    total_seconds: float | None = None
    peak_memory_bytes: int | None = None
    examples_per_second: float | None = None
    tokens_per_second: float | None = None
    data: Mapping[str, Any] = field(default_factory=lambda: data_of(DataInfo()))
    git_commit: str | None = None
    git_dirty: bool | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    started_at: str = ""
    num_resumes: int = 0
    sessions: Sequence[Mapping[str, Any]] = field(default_factory=list)
    num_processes: int = 1
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
        """The names with what was changed about them, the same in whatever order it was."""
        return identity.labels(self.names, self.changes, self.began_from)

    @property
    def began_from(self) -> str:
        """What it began from, in a few words; nothing if from fresh weights."""
        return "" if self.pretraining is None else str(self.pretraining["label"])


def data_of(info: DataInfo) -> dict[str, Any]:
    """Return what a record keeps of what is known about a task's data.

    What simple methods reach stands in ``baselines``, where any is known.
    """
    baselines = {_text(name): float(value) for name, value in info.baselines.items()}
    return {
        "source": _text(info.source),
        "warning": _text(info.warning),
        "note": _text(info.note),
        "details": {_text(name): _text(text) for name, text in info.details.items()},
        **({"baselines": baselines} if baselines else {}),
    }


def _text(value: Any) -> str:
    """Return a value as text that a file can hold.

    A task that gives a number here, or the name of a file that is not UTF-8, must not cost a run
    its record.
    """
    text = "" if value is None else str(value)
    return text.encode("utf-8", "backslashreplace").decode()


def record_path(results_dir: Path, setting: str, task: str, model: str, run_id: str) -> Path:
    """Return where the record of a run lies below a results folder.

    Args:
        results_dir: The folder.
        setting: Plain name, as the next two: what was changed is in the record.
        task: Plain name.
        model: Plain name.
        run_id: See `RunRecord`.
    """
    folders = (re.sub(r"[^\w.,=()+-]", "_", name)[:100] for name in (setting, task, model))
    safe = (re.sub(r"^\.+$", "_", name) for name in folders)
    return results_dir.joinpath("runs", *safe, f"{run_id}.json")


def find_all(results_dir: Path, names: Mapping[str, str], request_id: str) -> list[RunRecord]:
    """Return the records of a request below a results folder, one for each data that it met.

    Args:
        results_dir: The folder.
        names: The chosen file of each group.
        request_id: See `RunRecord`.

    Raises:
        UserError: A file there is no record.
    """
    path = record_path(results_dir, names["setting"], names["task"], names["model"], request_id)
    found = []
    for one in sorted(path.parent.glob(f"{request_id}-*.json")):
        try:
            found.append(read(one))
        except BadRecord as error:
            raise UserError(f"{one} {error}; delete it to run again") from error
    return found


def write(record: RunRecord, results_dir: Path) -> Path:
    """Write a record below a results folder and return its path.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is left behind.
        ValueError: A number in it is not finite.
    """
    path = record_path(results_dir, record.setting, record.task, record.model, record.run_id)
    text = json.dumps(as_dict(record), indent=1, sort_keys=True, allow_nan=False)
    write_atomically(path, text + "\n")
    remove_abandoned_drafts(path)
    return path


def as_dict(record: RunRecord) -> dict[str, Any]:
    """Return a record as plain data, as it stands in its file."""
    content = {item.name: getattr(record, item.name) for item in fields(record)}
    content |= content.pop("extra")
    for split in ("test", "validation"):
        if content[split] is not None:
            content[split] = dict(content[split].sums)
    return content


def read(path: Path) -> RunRecord:
    """Read a record; one of an older version is upgraded.

    Raises:
        BadRecord: The file cannot be read, is cut short, or is something else.
    """
    try:
        content = plain.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecord(f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise BadRecord("is not JSON; it may be half written") from error
    except ValueError as error:
        raise BadRecord(str(error)) from error
    return from_dict(content)


def from_dict(content: Any) -> RunRecord:
    """Return the record that plain data hold; data of an older version are upgraded.

    Raises:
        BadRecord: They are no record.
    """
    if not isinstance(content, dict) or "schema_version" not in content:
        raise BadRecord("is not a run record: it has no schema_version")
    try:
        content = upgrade(content)
        known = {item.name for item in fields(RunRecord)} - {"extra"}
        if missing := known - set(content):
            raise ValueError(f"missing fields {', '.join(sorted(missing))}")
        extra = {name: value for name, value in content.items() if name not in known}
        if extra and not is_newer(content["schema_version"]):
            raise ValueError(f"unknown fields {', '.join(sorted(extra))}")
        if content["status"] not in get_args(Status):
            raise BadRecord(f"has the unknown status {content['status']!r:.60}")
        values = {name: content[name] for name in known}
        for split in ("test", "validation"):
            if values[split] is not None:
                values[split] = Evaluation.from_dict(values[split])
        return RunRecord(**values, extra=extra)
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord(f"is not a run record: {error}") from error


def _contradictions(record: RunRecord) -> Iterator[str]:
    """Yield what cannot be true of a record whose fields are each of the right type."""
    for name in (*NAMES, "request_id"):
        if not getattr(record, name):
            yield f"{name} is empty"
    if not re.fullmatch(r"[0-9a-f]{64}", record.data_sha256):
        yield f"data_sha256 {record.data_sha256!r:.80} is not 64 hexadecimal digits"
    if record.run_id != identity.run_id(record.request_id, record.data_sha256):
        yield f"run_id {record.run_id!r} does not fit request_id and data_sha256"
    yield from _wrong_pretraining(record)
    if record.request_id != identity.request_id(
        record.names,
        record.changes,
        record.config,
        record.seed,
        identity.parent_id(record.pretraining),
    ):
        yield (
            f"request_id {record.request_id!r} does not fit names, changes, config, seed and "
            f"pretraining"
        )
    if record.config_sha256 != identity.config_sha256(record.config):
        yield f"config_sha256 {record.config_sha256!r} does not fit config"
    if (record.status == "completed") != (record.test is not None):
        yield f"it is {record.status} and has {'no' if record.test is None else 'a'} test result"
    if (record.status == "completed") != (record.error is None):
        yield f"it is {record.status} and has {'no' if record.error is None else 'an'} error"
    if record.best_step is not None and record.best_step > record.num_steps:
        yield f"best_step {record.best_step} lies after num_steps {record.num_steps}"
    for name in ("train_seconds", "total_seconds", "examples_per_second", "tokens_per_second"):
        value = getattr(record, name)
        if value is not None and not 0 <= value < _LONGEST:
            yield f"{name} is {value}"
    if record.num_processes < 1:
        yield f"num_processes is {record.num_processes}"
    data = {name: record.data.get(name) for name in ("source", "warning", "note")}
    if not plain.fits({**data}, Mapping[str, str]) or not plain.fits(
        record.data.get("details"), Mapping[str, str]
    ):
        yield "data must hold the texts source, warning and note, and texts in details"
    if not plain.fits(record.data.get("baselines", {}), Mapping[str, float]):
        yield "data must hold numbers in baselines"
    yield from _wrong_metrics(record)


def _wrong_pretraining(record: RunRecord) -> Iterator[str]:
    """Yield what cannot be true of the run that this one began from."""
    if record.pretraining is None:
        return
    for name, kind in PRETRAINING.items():
        if not plain.fits(record.pretraining.get(name), kind):
            # Nothing else can be looked at.
            raise ValueError(f"pretraining must have {name}, {plain.in_words(kind)}")
    if record.parent != record.pretraining["run_id"]:
        yield f"parent {record.parent!r} is not the run_id of pretraining"


def _wrong_metrics(record: RunRecord) -> Iterator[str]:
    """Yield which metrics are not those of the sums."""
    if record.ranking_metric not in record.metrics:
        yield f"the ranking_metric {record.ranking_metric!r} is not among the metrics"
    for name, values in record.metrics.items():
        if set(values) != {"test", "validation"}:
            yield f"the metric {name} must have a value for test and one for validation"
            return
        try:
            metric(name)
        except UserError:
            # A newer version may know metrics that this one cannot recompute.
            if not is_newer(record.schema_version):
                raise
            continue
        expected = measured([name], test=record.test, validation=record.validation)[name]
        for split, value in expected.items():
            written = values[split]
            if value is None or written is None:
                wrong = value is not written
            else:
                wrong = not math.isclose(value, written, rel_tol=1e-9, abs_tol=1e-12)
            if wrong:
                yield f"{name} on {split} is {written}, and {value} according to the sums"
