"""What papers print of speed and memory against the Transformer, each row with its source."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.paths import conf_dir

_COLUMNS = (
    "model",
    "name",
    "task",
    "length",
    "train_speed_ratio",
    "memory_ratio",
    "printed_speed",
    "printed_memory",
    "batch_size",
    "hardware",
    "source",
    "year",
    "note",
)
_RATIOS, _WHOLE = ("train_speed_ratio", "memory_ratio"), ("length", "batch_size")


@dataclass(frozen=True)
class Published:
    """A row of a paper's table.

    Args:
        model: Name of the model here, empty if there is none that is the same.
        name: What the source calls it.
        task: Name of the task, ``all`` for one figure of all tasks.
        length: Tokens of an input, None where the source does not tell.
        train_speed_ratio: Times as fast in training as the source's Transformer, or None.
        memory_ratio: Peak memory as a part of its, or None.
        batch_size: Examples a step, None where the source does not tell.
        hardware: What it was measured on, as far as the source tells.
        source: Where it is printed.
    """

    model: str
    name: str
    task: str
    length: int | None
    train_speed_ratio: float | None
    memory_ratio: float | None
    batch_size: int | None
    hardware: str
    source: str

    @property
    def protocol(self) -> str:
        """How it was measured, in words."""
        batch = "batch not stated" if self.batch_size is None else f"batch {self.batch_size}"
        return f"{self.source}: {batch}, {self.hardware or 'hardware not stated'}"


def read_published(path: Path | None = None) -> list[Published]:
    """Read what papers print.

    Args:
        path: A CSV file; by default the one of the harness.

    Raises:
        UserError: It cannot be read, or a row lacks a source or holds no number where one must
            stand.
    """
    path = conf_dir() / "board" / "published_speed.csv" if path is None else path
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise UserError(f"{path} must have the columns {','.join(_COLUMNS)}")
    return [_checked(row, f"{path}, line {line}") for line, row in enumerate(rows, 2)]


def _checked(row: dict[str, str], where: str) -> Published:
    if None in row or None in row.values():
        raise UserError(f"{where}: it must have {len(_COLUMNS)} columns")
    if not row["source"] or not row["name"] or not row["task"]:
        raise UserError(f"{where}: a published row needs a name, a task and a source")
    try:
        speed, memory = (float(row[key]) if row[key] else None for key in _RATIOS)
        length, batch_size = (int(row[key]) if row[key] else None for key in _WHOLE)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    for number in (speed, memory, length, batch_size):
        if number is not None and not (math.isfinite(number) and number > 0):
            raise UserError(f"{where}: {number} must be positive")
    return Published(
        model=row["model"],
        name=row["name"],
        task=row["task"],
        length=length,
        train_speed_ratio=speed,
        memory_ratio=memory,
        batch_size=batch_size,
        hardware=row["hardware"],
        source=row["source"],
    )
