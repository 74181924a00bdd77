"""Numbers that papers published, each with its source, its protocol and its pitfalls."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lra_bench.errors import UserError
from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.escape import line

FILE_NAME = "published.csv"
# `failed` is the source's word for no better than chance, or out of memory.
Status = Literal["reported", "failed", "not run", "not given"]
_COLUMNS = (
    *("protocol", "model", "year", "task", "accuracy", "std", "status", "parameters"),
    *("source", "source_title", "note"),
)


@dataclass(frozen=True)
class PublishedRow:
    """One published number, or the word that there is none.

    Args:
        protocol: How it was made; named in ``conf/board``.
        model: As the source calls it.
        year: Of the source.
        task: Plain name of a task, or of an average.
        accuracy: Percent.
        std: Its deviation [points], where the source gives one.
        status: What the source says.
        parameters: Number of them, as the source prints it.
        source: Where it stands.
        source_title: What the source is called.
        note: Everything to know before it is compared.
    """

    protocol: str
    model: str
    year: str
    task: str
    accuracy: float | None
    std: float | None
    status: Status
    parameters: str
    source: str
    source_title: str
    note: str


def read_published(path: Path, board: Board) -> list[PublishedRow]:
    """Read published numbers.

    Raises:
        UserError: The file cannot be read, or a row is not what it must be.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise UserError(f"{path} must have the columns {', '.join(_COLUMNS)}")
            content = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    known = {protocol.name for protocol in board.protocols}
    rows = []
    for number, row in enumerate(content, 2):
        try:
            rows.append(_row(row, known))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}") from error
    return rows


def _row(row: Mapping[str, str], protocols: Iterable[str]) -> PublishedRow:
    """Return a row of the file.

    Raises:
        ValueError: A value is missing, or makes no sense.
    """
    if any(not isinstance(row.get(name), str) for name in _COLUMNS) or None in row:
        raise ValueError(f"it must have {len(_COLUMNS)} values")
    text = {name: line(value) for name, value in row.items()}
    for name in ("model", "task", "source"):
        if not text[name]:
            raise ValueError(f"{name} is empty; every number needs it")
    if text["protocol"] not in protocols:
        raise ValueError(
            f"there is no protocol {text['protocol']!r}; choose one of {', '.join(protocols)}, or "
            f"add it to conf/board"
        )
    if text["status"] not in get_args(Status):
        raise ValueError(f"status must be one of {', '.join(get_args(Status))}")
    numbers = {name: _number(name, text[name]) for name in ("accuracy", "std")}
    if (numbers["accuracy"] is None) == (text["status"] == "reported"):
        raise ValueError(f"its accuracy is {text['accuracy']!r}, and its status {text['status']}")
    return PublishedRow(**{**text, **numbers})  # type: ignore[arg-type]


def _number(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise ValueError(f"{name} must be between 0 and 100 per cent, not {text!r:.60}")
    return value


@dataclass(frozen=True)
class Line:
    """All that a source has to say of a model under a protocol.

    Args:
        model: Its name.
        by_task: The rows by task.
    """

    model: str
    by_task: Mapping[str, PublishedRow]

    @property
    def any(self) -> PublishedRow:
        """One of its rows, for what they have in common."""
        return next(iter(self.by_task.values()))

    @property
    def notes(self) -> list[str]:
        """The notes, each with the tasks that it belongs to unless it is all of them."""
        tasks: dict[str, list[str]] = {}
        for task, row in self.by_task.items():
            if row.note:
                tasks.setdefault(row.note, []).append(task)
        return [
            note if len(of) == len(self.by_task) else f"{', '.join(of)}: {note}"
            for note, of in tasks.items()
        ]


def lines_of(rows: Iterable[PublishedRow], protocol: str) -> list[Line]:
    """Return the lines of a protocol's table, in the order of the file."""
    found: dict[tuple[str, str], dict[str, PublishedRow]] = {}
    for row in rows:
        if row.protocol == protocol:
            by_task = found.setdefault((row.model, row.source), {})
            by_task.setdefault(row.task, row)
    return [Line(model, by_task) for (model, _), by_task in found.items()]


def tasks_of(lines: Sequence[Line], board: Board) -> list[str]:
    """Return the tasks of some lines: those of averages in their order, others, averages."""
    of_averages = [task for average in board.averages for task in average.tasks]
    averages = [average.name for average in board.averages]
    present = dict.fromkeys(task for line in lines for task in line.by_task)
    first = [task for task in dict.fromkeys(of_averages) if task in present]
    last = [task for task in present if task in averages or task.startswith("avg")]
    others = [task for task in present if task not in first and task not in last]
    return [*first, *others, *sorted(last)]
