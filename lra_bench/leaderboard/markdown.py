"""Sections as Markdown, as GitHub reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from lra_bench.leaderboard import escape
from lra_bench.leaderboard.layout import EMPTY, Entry, Note, Section


def markdown(sections: Iterable[Section]) -> str:
    """Return sections as Markdown."""
    return "\n".join(part for section in sections for part in _parts(section))


def _parts(section: Section) -> list[str]:
    parts = []
    if section.heading:
        parts.append(f"{'#' * section.level} {escape.markdown(section.heading)}\n")
    if section.rows:
        parts.append(_table(section.columns, section.rows))
    if section.notes:
        parts.append(" ".join(map(_note, section.notes)) + "\n")
    if section.items:
        lines = (
            f"{number}. {escape.markdown(item)}" for number, item in enumerate(section.items, 1)
        )
        parts.append("\n".join(lines) + "\n")
    return parts


def _note(note: Note) -> str:
    # The one text of ours that has markup of its own.
    text = note.text if note.text == EMPTY else escape.markdown(note.text)
    return f"**{text}**" if note.strong else text


def _table(columns: Sequence[str], rows: Sequence[Sequence[Entry]]) -> str:
    """Return a table whose first column is text, and the others numbers."""
    text: str = tabulate(
        [[_entry(entry) for entry in row] for row in rows],
        [escape.markdown(column) for column in columns],
        tablefmt="pipe",
        colalign=["left", *["right"] * (len(columns) - 1)],
        disable_numparse=True,
    )
    return text + "\n"


def _entry(entry: Entry) -> str:
    text = escape.markdown(entry.text)
    return f"**{text}**" if entry.bold and text else text
