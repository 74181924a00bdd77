"""Published numbers as sections of their own, with ours beside them under the same protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.leaderboard.board import Board, Protocol
from lra_bench.leaderboard.cells import Tables
from lra_bench.leaderboard.layout import Entry, Note, Section, result
from lra_bench.leaderboard.published import Line, PublishedRow, lines_of, tasks_of

_WORDS = {"failed": "FAIL", "not run": "not run", "not given": ""}
LEGEND = (
    "FAIL: the source says no better than chance, or out of memory; an empty cell: it gives no "
    "number. A number behind ± is the source's. Averages are printed as the sources print them. "
    "Numbers of different protocols cannot be compared, and within one they come from different "
    "code, data preparation and selection."
)


def published_sections(rows: Sequence[PublishedRow], tables: Tables, board: Board) -> list[Section]:
    """Return a table for each protocol.

    Args:
        rows: What papers published.
        tables: Ours; a setting that follows a protocol stands beside its rows.
        board: Names the protocols.
    """
    if not rows:
        return []
    found = [Section("Published numbers", 2, notes=[Note(LEGEND)])]
    for protocol in board.protocols:
        lines = lines_of(rows, protocol.name)
        if lines:
            found.append(_of_protocol(protocol, lines, tables, board))
    return found


def _of_protocol(
    protocol: Protocol, lines: Sequence[Line], tables: Tables, board: Board
) -> Section:
    tasks = tasks_of(lines, board)
    items: list[str] = []
    content = []
    for line in lines:
        item = _source(line)
        if item not in items:
            items.append(item)
        texts = [_published(line.by_task.get(task)) for task in tasks]
        content.append([line.model, *texts, str(items.index(item) + 1)])
    notes = [Note(f"Protocol {protocol.name}: {protocol.title}.")]
    for setting in protocol.settings:
        ours = _ours(setting, tables, tasks)
        content += [[f"{method} (ours)", *texts, "ours"] for method, texts in ours.items()]
        if ours:
            notes.append(Note(f"Ours: setting {setting}, above."))
    return Section(
        protocol.name,
        3,
        ["model", *tasks, "source"],
        [[Entry(text) for text in texts] for texts in content],
        notes,
        items,
    )


def _published(row: PublishedRow | None) -> str:
    if row is None:
        return ""
    if row.accuracy is None:
        return _WORDS[row.status]
    return f"{row.accuracy:.2f}" + ("" if row.std is None else f" ± {row.std:.2f}")


def _source(line: Line) -> str:
    """Return where a line comes from, and what to know about it."""
    notes = "".join(f"; {note}" for note in line.notes)
    return f"{line.any.source_title} ({line.any.year}): {line.any.source}{notes}"


def _ours(setting: str, tables: Tables, tasks: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return our results by method, where they may stand for a published task.

    Only a setting without changes follows a protocol, and only accuracy on data that need no
    brackets is what was published.
    """
    cells = tables.cells
    if cells.empty:
        return {}
    allowed = cells[
        (cells["setting"] == setting)
        & (cells["title"] == cells["task"])
        & (cells["metric"] == "accuracy")
    ]
    found: dict[str, dict[str, str]] = {}
    for cell in allowed.to_dict("records"):
        if cell["counts_as"] in tasks:
            found.setdefault(cell["method"], {})[cell["counts_as"]] = result(cell)
    for average in _averages(setting, tables.averages):
        if average["average"] in tasks and average["method"] in found:
            found[average["method"]][average["average"]] = f"{100 * average['value']:.2f}"
    return {
        method: [texts.get(task, "") for task in tasks] for method, texts in sorted(found.items())
    }


def _averages(setting: str, averages: pd.DataFrame) -> list[dict[Any, Any]]:
    return averages[averages["setting"] == setting].dropna(subset=["value"]).to_dict("records")
