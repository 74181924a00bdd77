"""The leaderboard as one file for a browser: it sorts, filters, draws, and loads nothing.

The data go in as JSON that holds no markup, and the page makes elements of them by their text
alone; a policy in its head lets no other script or style run than the ones it was made with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lra_bench.console import count
from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.cells import ORDER, Tables
from lra_bench.leaderboard.collect import CELL, Run
from lra_bench.leaderboard.layout import Section, heading_of, legend, notes_of_task
from lra_bench.leaderboard.layout_equal_cost import LEGEND as EQUAL_COST
from lra_bench.leaderboard.layout_equal_cost import equal_cost_sections
from lra_bench.leaderboard.layout_published import LEGEND, published_sections
from lra_bench.leaderboard.published import PublishedRow
from lra_bench.metrics import metric

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("dom.js", "plots.js", "results.js", "tables.js", "dialog.js", "page.js")
_STYLES = ("theme.css", "page.css", "tables.css", "media.css")
# So that a full board stays below a megabyte: points of all curves together, and of one; a cell
# shows no more runs than this.
_MOST_POINTS, _MOST_POINTS_OF_A_RUN, _FEWEST_POINTS = 50_000, 60, 4
_MOST_RUNS_OF_A_CELL, _MOST_RUNS = 100, 20_000


def page(
    tables: Tables,
    published: Sequence[PublishedRow],
    board: Board,
    *,
    results_dirs: Sequence[Path],
    out: Path,
    families: Mapping[str, str] | None = None,
) -> str:
    """Return the page.

    Args:
        tables: What is shown.
        published: What papers published.
        board: What is compared.
        results_dirs: Where the records lie.
        out: Where the page will lie, for links to the records.
        families: The family of each model, by plain name; without, there is no such filter.
    """
    runs = [run for of in tables.runs.values() for run in of]
    links = _Links(results_dirs, out)
    per_run = min(_MOST_POINTS_OF_A_RUN, _MOST_POINTS // max(len(runs), 1))
    few = _MOST_RUNS_OF_A_CELL if len(runs) <= _MOST_RUNS else 5
    writer = _Writer(tables, families or {}, links, per_run, few)
    settings = [writer.setting(name) for name in sorted({run.cell[0] for run in runs})]
    sections = published_sections(published, tables, board)
    shown = {cell["family"] for setting in settings for cell in setting["cells"]}
    content = {
        "summary": _summary(runs),
        "families": sorted(shown - {""}),
        "settings": settings,
        "published": _tables(sections),
        "published_note": LEGEND,
        "legend": [note.text for note in legend(tables.cells)] if runs else [],
    }
    if equal := _tables(equal_cost_sections(tables)):
        content |= {"equal_cost": equal, "equal_cost_note": EQUAL_COST}
    return _filled(content)


def _tables(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Return those sections that are tables."""
    return [
        {
            "name": section.heading,
            "columns": section.columns,
            "rows": [[entry.text for entry in row] for row in section.rows],
            "notes": [note.text for note in section.notes],
            "items": section.items,
        }
        for section in sections
        if section.rows
    ]


def _summary(runs: Sequence[Run]) -> str:
    numbers = [
        count(len(runs), "run"),
        count(len({run.names[2] for run in runs}), "model"),
        count(len({run.names[1] for run in runs}), "task"),
        count(len({run.names[0] for run in runs}), "setting"),
    ]
    return ", ".join(numbers)


class _Links:
    """Where a record lies, seen from the page.

    Args:
        results_dirs: Folders with records below ``runs``.
        out: The folder of the page.
    """

    def __init__(self, results_dirs: Sequence[Path], out: Path) -> None:
        self.bases = [(folder, os.path.relpath(folder, out)) for folder in results_dirs]

    def of(self, path: Path) -> str:
        """Return the path of a record from the page."""
        for folder, base in self.bases:
            if path.is_relative_to(folder):
                inside = path.relative_to(folder).as_posix()
                return inside if base == "." else f"{Path(base).as_posix()}/{inside}"
        return path.as_posix()


class _Writer:
    """Turns frames into what the page reads.

    Args:
        tables: What is shown.
        families: The family of each model, by plain name.
        links: Where records lie.
        points_per_run: Points that a curve may have.
        runs_per_cell: Runs that a cell may list.
    """

    def __init__(
        self,
        tables: Tables,
        families: Mapping[str, str],
        links: _Links,
        points_per_run: int,
        runs_per_cell: int,
    ) -> None:
        self.tables, self.families, self.links = tables, families, links
        self.points_per_run, self.runs_per_cell = points_per_run, runs_per_cell

    def setting(self, name: str) -> dict[str, Any]:
        """Return a setting with its tasks, its cells and its averages."""
        cells = self.tables.cells[self.tables.cells["setting"] == name]
        cells = cells.sort_values(list(ORDER), kind="stable")
        titles = list(dict.fromkeys(cells["title"]))
        of_titles = [cells[cells["title"] == title] for title in titles]
        averages = self.tables.averages[self.tables.averages["setting"] == name]
        return {
            "name": name,
            "note": _note(cells),
            "seeds": int(cells["num_runs"].mode().iloc[0]),
            "tasks": [_task(of_title) for of_title in of_titles],
            "cells": [
                self.cell(index, row)
                for index, of_title in enumerate(of_titles)
                for row in of_title.to_dict("records")
            ],
            "averages": [
                {"name": average, "values": dict(_average(of))}
                for average, of in averages.groupby("average", sort=True)
            ],
        }

    def cell(self, task: int, row: Mapping[Any, Any]) -> dict[str, Any]:
        """Return a cell with the runs behind it."""
        runs = self.tables.runs[tuple(row[name] for name in CELL)]
        listed = runs[: self.runs_per_cell]
        folder = self.links.of(runs[0].path).rpartition("/")[0]
        command = runs[0].command.removesuffix(f"seed={runs[0].seed}")
        curves = [curve for run in listed if (curve := self.curve(run))]
        steps = curves[0][2] if curves else []
        return {
            "task": task,
            "model": row["method"],
            "family": self.families.get(runs[0].names[2], ""),
            "mean": _value(row["test_mean"]),
            "std": _value(row["test_std"]),
            "low": _value(row["test_low"]),
            "high": _value(row["test_high"]),
            "error": _value(row["sampling_error"]),
            "best": bool(row["is_best"]),
            "number": row["num_runs"],
            "completed": row["num_completed"],
            "failed": row["num_failed"],
            "diverged": row["num_diverged"],
            "at_baseline": row["num_at_baseline"],
            "seconds": _value(row["train_seconds_mean"]),
            "rate": _value(row["tokens_per_second_mean"]),
            "memory": _value(row["peak_memory_bytes_max"]),
            "parameters": _value(row["num_parameters"]),
            "passes": _value(row["encoder_passes_per_step"]),
            **_began(row),
            "devices": row["devices"],
            "commits": " ".join(commit[:12] for commit in row["commits"].split()),
            "remark": row["remark"],
            "folder": folder,
            "command": command,
            "runs": [self.run(run, folder, command) for run in listed],
            "steps": steps,
            "curves": [
                [seed, values] if own == steps else [seed, values, own]
                for seed, values, own in curves
            ],
        }

    def run(self, run: Run, folder: str, command: str) -> list[Any]:
        """Return what the table of runs says of one; what its cell says already is null.

        Returns:
            Seed, status, error, test, validation, seconds, file, command; without what is null at
            the end.
        """
        file = self.links.of(run.path).removeprefix(f"{folder}/")
        numbers = map(_value, (run.test, run.validation, run.train_seconds))
        own = None if run.command == f"{command}seed={run.seed}" else run.command
        content = [run.seed, run.status, run.error, *numbers, file, own]
        return content if own is not None else content[:-1]

    def curve(self, run: Run) -> tuple[int, list[float], list[int]] | None:
        """Return seed, values and steps of a learning curve, thinned out; its last point stays."""
        if self.points_per_run < _FEWEST_POINTS or len(run.curve) < 2:
            return None
        every = -(-len(run.curve) // self.points_per_run)
        kept = range(len(run.curve) - 1, -1, -every)[::-1]
        values = [float(f"{run.curve[index]:.4g}") for index in kept]
        return run.seed, values, [int(run.steps[index]) for index in kept]


def _began(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a cell cost with the runs that it began from; nothing if from scratch."""
    if pd.isna(row["pretraining_steps"]):
        return {}
    return {
        "pretrainings": row["num_pretrainings"],
        "pretraining_seconds": _value(row["pretraining_seconds_mean"]),
        "total_steps": _value(row["total_steps"]),
        "total_seconds": _value(row["total_train_seconds_mean"]),
    }


def _note(cells: pd.DataFrame) -> str:
    """Return what the overview says of seeds: the usual number, and what bold needs."""
    seeds = int(cells["num_runs"].mode().iloc[0])
    if cells["num_completed"].max() <= 1:
        return "1 seed a cell: no interval, no test over seeds, and no number wins."
    usual = count(seeds, "seed")
    return (
        f"{usual} a cell where nothing else is said. A bold green number is better than all "
        f"others of its column beyond the noise."
    )


def _task(cells: pd.DataFrame) -> dict[str, Any]:
    """Return what the cells of a title have in common."""
    first = cells.iloc[0]
    name = str(first["metric"])
    return {
        "title": first["title"],
        "data": first["data"],
        "metric": heading_of(name),
        "share": metric(name).is_share,
        "higher": metric(name).higher_is_better,
        "baseline": _value(cells["majority_baseline"].max()),
        "diagnostic": bool(first["is_diagnostic"]),
        **({"pretraining": True} if first["is_pretraining"] else {}),
        "notes": [{"text": note.text, "strong": note.strong} for note in notes_of_task(cells)],
    }


def _average(rows: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in rows.to_dict("records"):
        yield (
            row["method"],
            {
                "value": _value(row["value"]),
                "std": _value(row["std"]),
                "best": bool(row["is_best"]),
            },
        )


def _value(number: Any) -> float | int | None:
    """Return a number with the digits that anybody looks at, or None."""
    if number is None or pd.isna(number):
        return None
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) > 1 else rounded


def _filled(content: Mapping[str, Any]) -> str:
    """Return the page with everything in it."""
    script = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    style = "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in _STYLES)
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    # Nothing in the data can end the element that they stand in; ASCII alone is left by now.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    parts = {
        "style": style,
        "style-hash": _hash(style),
        "script": script,
        "script-hash": _hash(script),
        "data": text,
    }
    filled = (_ASSETS / "page.html").read_text(encoding="utf-8")
    # The data last: what stands in them is no place to be filled.
    for name, part in parts.items():
        filled = filled.replace(f"{{{{{name}}}}}", part)
    return filled


def _hash(text: str) -> str:
    """Return how a content security policy names a text."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
