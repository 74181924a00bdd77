"""Cells for programs: CSV and JSON, in full precision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from lra_bench.leaderboard import escape
from lra_bench.leaderboard.cells import Tables
from lra_bench.leaderboard.collect import CELL, Run
from lra_bench.leaderboard.published import PublishedRow

# Of the layout of the JSON: a new field is a new minor version.
VERSION = "1.1"
# Columns that only say how to call something, what it counts as, or that are no plain value.
_FOR_PEOPLE = ["counts_as", "title", "method", "not_beaten", "is_diagnostic", "place", "baselines"]
# Columns that stand in the CSV where some run began from another or was made to be begun from.
_OF_PRETRAINING = (
    *("is_pretraining", "num_steps", "num_pretrainings", "pretraining_steps"),
    *("pretraining_seconds_mean", "total_steps", "total_train_seconds_mean", "test_std_of_runs"),
)
_OF_A_RUN = (
    *("run_id", "seed", "status", "error", "test", "validation", "train_seconds"),
    *("tokens_per_second", "peak_memory_bytes", "device", "git_commit", "git_dirty", "command"),
    "parent",
)


def csv(tables: Tables) -> str:
    """Return all cells as CSV; no text begins as a formula would."""
    cells = tables.cells.drop(columns=_FOR_PEOPLE, errors="ignore")
    if cells.empty or not (cells["is_pretraining"] | cells["pretraining_steps"].notna()).any():
        cells = cells.drop(columns=list(_OF_PRETRAINING), errors="ignore")
    for name in cells.columns:
        if any(isinstance(value, str) for value in cells[name]):
            cells[name] = [escape.spreadsheet(value) for value in cells[name]]
    text: str = cells.to_csv(index=False, lineterminator="\n")
    return text


def json_text(tables: Tables, published: Sequence[PublishedRow] = ()) -> str:
    """Return cells with their runs, averages and published numbers as JSON.

    Numbers that are missing are null; values of metrics are as recorded, published ones percent.
    ``equal_cost`` names cells that belong side by side, by their keys.
    """
    cells = (
        {**_plain(row), "runs": [_run(run) for run in tables.runs[tuple(row[n] for n in CELL)]]}
        for row in tables.cells.to_dict("records")
    )
    averages = (_plain(row) for row in tables.averages.to_dict("records"))
    pairs = (_plain(row) for row in tables.equal_cost.to_dict("records"))
    theirs = (asdict(row) for row in published)
    parts = {"cells": cells, "averages": averages, "equal_cost": pairs, "published": theirs}
    lists = (f'"{name}": {_lines(content)}' for name, content in parts.items())
    return "{\n" + ",\n".join([f'"version": "{VERSION}"', *lists]) + "\n}\n"


def _lines(content: Iterable[Mapping[str, Any]]) -> str:
    """Return a list with an object a line: to be compared line by line, and quick to make."""
    lines = [json.dumps(one, allow_nan=False) for one in content]
    return "[\n" + ",\n".join(lines) + "\n]" if lines else "[]"


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of a frame without what only pandas knows: NaN, whole numbers as floats."""
    content: dict[str, Any] = {}
    for name, value in row.items():
        if name == "baselines" and not value:
            # Where there are none, nothing is said.
            continue
        if isinstance(value, (str, dict, list)):
            content[name] = value
        elif pd.isna(value):
            content[name] = None
        elif name.startswith("num_") or name.endswith(("_bytes_max", "per_step", "_steps")):
            content[name] = int(value)
        else:
            content[name] = value
    return content


def _run(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _OF_A_RUN}
