"""From records to rows: every run once, files that are no records named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lra_bench import record as records
from lra_bench.errors import UserError
from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.statistics import is_at_baseline
from lra_bench.metrics import metric
from lra_bench.record import BadRecord, RunRecord

# What tells one cell from another: names with what was changed about them, and the data.
CELL = ("setting", "task", "model", "objective", "data")

# Columns that a run takes over from its record as they are.
_AS_RECORDED = (
    "seed",
    "status",
    "majority_baseline",
    "num_parameters",
    "encoder_passes_per_step",
    "train_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "run_id",
)
_COLUMNS = (
    *CELL,
    "counts_as",
    "warning",
    "metric",
    "test",
    "validation",
    "at_baseline",
    "device",
    *_AS_RECORDED,
)


@dataclass(frozen=True)
class Collection:
    """What lay below the results folders.

    Args:
        records: Every run once.
        skipped: Files that are no records, and why; the text follows "it".
    """

    records: list[RunRecord]
    skipped: dict[Path, str]


def collect(results_dirs: Iterable[Path]) -> Collection:
    """Read all records below the folders; the same run met twice counts once."""
    runs: dict[str, RunRecord] = {}
    skipped: dict[Path, str] = {}
    for folder in results_dirs:
        for path in sorted((folder / "runs").rglob("*")):
            if path.is_dir():
                if path.is_symlink():
                    skipped[path] = "is a link to a folder, and those are not followed"
                continue
            if path.suffix != ".json" or path.name.startswith("."):
                skipped[path] = "is not a run record: its name does not end in .json"
                continue
            try:
                record = records.read(path)
                metric(record.ranking_metric)
            except BadRecord as error:
                skipped[path] = str(error)
                continue
            except UserError as error:
                skipped[path] = f"cannot be ranked by this program: {error}"
                continue
            known = runs.get(record.run_id)
            # Of two tries at the same run, the one with a result counts.
            if known is None or known.status == "failed":
                runs[record.run_id] = record
    return Collection(list(runs.values()), skipped)


def cell_of(record: RunRecord) -> tuple[str, ...]:
    """Return the cell that a run belongs to, in the order of `CELL`."""
    labels = record.labels
    return (*(in_a_table(labels[name]) for name in CELL[:-1]), _data_name(record))


def runs_frame(runs: Iterable[RunRecord], board: Board) -> pd.DataFrame:
    """Return a tidy table, one row a run."""
    return pd.DataFrame([_row(record, board) for record in runs], columns=list(_COLUMNS))


def _row(record: RunRecord, board: Board) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(CELL, cell_of(record), strict=True))
    row |= {name: getattr(record, name) for name in _AS_RECORDED}
    values = record.metrics[record.ranking_metric]
    return row | {
        "counts_as": board.counts_as(record.task, record.changes),
        "warning": _warning(record),
        "metric": record.ranking_metric,
        "test": values["test"],
        "validation": values["validation"],
        "at_baseline": record.test is not None
        and is_at_baseline(record.test, record.ranking_metric, record.majority_baseline),
        "device": in_a_table(record.device),
    }


def in_a_table(text: str) -> str:
    """Return a text that stays in its line and in its column; a bar would begin another."""
    return " ".join(text.split()).replace("|", "/")


def _data_name(record: RunRecord) -> str:
    """Return the name of the data in tables: two sets that are not the official one differ."""
    name = in_a_table(record.data["source"]) or "unknown"
    if record.data["warning"]:
        name += f", SHA-256 {record.data_sha256[:8]}"
    return name


def _warning(record: RunRecord) -> str:
    """Return why the data are not the set that the task's name promises, or nothing."""
    return in_a_table(record.data["warning"] or record.data["note"])
