"""The record of a run: one JSON file, the only source of every table."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

SCHEMA_VERSION = 1
Status = Literal["completed", "failed", "diverged"]


# The sums of an evaluation: num_examples, num_correct, loss_sum [nats]. Ratios are read from them,
# never averaged.
Sums = dict[str, Any]


@dataclass
class RunRecord:
    """What a run was and what came out; numbers are numbers or None, units are in the names.

    Args:
        run_id: Hash of all that can change the number.
        setting: Name of the setting.
        task: Name of the task.
        model: Name of the model.
        objective: Name of the objective.
        seed: Seed of initialization, order and dropout.
        status: ``completed``; ``diverged``, the loss stopped being finite; ``failed``.
        changes: Options that differ from what the names above stand for, by dotted key.
        error: One line, unless completed.
        command: A command that repeats the run.
        test: Sums over the test split, evaluated once with the weights that validation chose:
            ``num_examples``, ``num_correct``, ``loss_sum`` [nats].
        validation: Sums of the same weights over the validation split.
        best_step: Update after which validation was best.
        num_steps: Updates made.
        curve: One row an evaluation: step, losses, accuracies, learning rate, seconds.
        majority_baseline: Share of the test examples that have the most frequent training class.
        num_parameters: Trained numbers.
        encoder_passes_per_step: Forward passes through the encoder in one training step.
        train_seconds: Time in training steps.
        total_seconds: Time of the run, evaluation included; of the last session if resumed.
        peak_memory_bytes: Highest memory use: of the process on the CPU, allocated on a GPU.
        examples_per_second: Training examples a second of ``train_seconds``.
        tokens_per_second: Real training tokens a second of ``train_seconds``.
        data: What was read, in words.
        data_sha256: Fingerprint of the content that was read.
        config: The resolved configuration.
        config_sha256: Hash of the part of it that can change the number.
        git_commit: Commit of the code, or None outside a checkout.
        git_dirty: Whether the checkout had uncommitted changes.
        versions: Versions of Python and of the packages that matter.
        device: Hardware.
        dtype: Precision of the matrix products.
        started_at: UTC, ISO 8601.
        num_resumes: How often the run was continued from a checkpoint.
        schema_version: Version of this layout.
    """

    run_id: str
    setting: str
    task: str
    model: str
    objective: str
    seed: int
    status: Status
    changes: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    command: str = ""
    test: Sums | None = None
    validation: Sums | None = None
    best_step: int | None = None
    num_steps: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    majority_baseline: float | None = None
    num_parameters: int | None = None
    encoder_passes_per_step: int | None = None
    train_seconds: float | None = None
    total_seconds: float | None = None
    peak_memory_bytes: int | None = None
    examples_per_second: float | None = None
    tokens_per_second: float | None = None
    data: dict[str, str] = field(default_factory=dict)
    data_sha256: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    config_sha256: str = ""
    git_commit: str | None = None
    git_dirty: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    started_at: str = ""
    num_resumes: int = 0
    schema_version: int = SCHEMA_VERSION

    def path(self, results_dir: Path) -> Path:
        """Return where the record lies below a results folder."""
        return record_path(results_dir, self.setting, self.task, self.model, self.run_id)


class BadRecord(ValueError):
    """A file is not a run record of this version; the text says why."""


def record_path(results_dir: Path, setting: str, task: str, model: str, run_id: str) -> Path:
    """Return where the record of a run lies below a results folder."""
    folders = (re.sub(r"[^\w.,=()+-]", "_", name)[:100] for name in (setting, task, model))
    return results_dir.joinpath("runs", *folders, f"{run_id}.json")


def hash_of(content: Any) -> str:
    """Return the SHA-256 (hex) of plain data, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(record: RunRecord, results_dir: Path) -> Path:
    """Write a record below a results folder and return its path.

    Raises:
        OSError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    path = record.path(results_dir)
    content = asdict(record)
    write_atomically(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return path


def read(path: Path) -> RunRecord:
    """Read a record.

    Raises:
        BadRecord: The file cannot be read, is cut short, or is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecord(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadRecord("is not JSON; it may be half written") from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise BadRecord("is not a run record: it has no schema_version")
    if content["schema_version"] != SCHEMA_VERSION:
        raise BadRecord(
            f"has schema_version {content['schema_version']!r}, this program reads {SCHEMA_VERSION}"
        )
    known = {item.name for item in fields(RunRecord)}
    if set(content) != known:
        wrong = sorted(set(content) ^ known)
        raise BadRecord(f"is not a run record: missing or unknown fields {', '.join(wrong)}")
    if content["status"] not in get_args(Status):
        raise BadRecord(f"has the unknown status {content['status']!r}")
    try:
        for split in ("test", "validation"):
            if content[split] is not None:
                _check_sums(content[split])
        record = RunRecord(**content)
        if record.status == "completed" and record.test is None:
            raise ValueError("it is completed and has no test result")
        for name in ("config", "changes", "data"):
            if not isinstance(content[name], dict):
                raise TypeError(f"{name} must be an object")
        for name in ("run_id", "setting", "task", "model", "objective", "device"):
            if not isinstance(content[name], str):
                raise TypeError(f"{name} must be a text")
    except (TypeError, ValueError) as error:
        raise BadRecord(f"is not a run record: {error}") from error
    return record


def _check_sums(sums: Any) -> None:
    if set(sums) != {"num_examples", "num_correct", "loss_sum"}:
        raise ValueError(f"{sums!r} are not the sums of an evaluation")
    if not 0 <= sums["num_correct"] <= sums["num_examples"] or not sums["num_examples"]:
        raise ValueError(f"{sums['num_correct']} correct of {sums['num_examples']} cannot be")


def accuracy(sums: Sums) -> float:
    """Return the share of the examples that were classified correctly."""
    return float(sums["num_correct"] / sums["num_examples"])
