"""From records to files: tables, and pictures where these can be drawn. Needs no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from lra_bench.console import count
from lra_bench.errors import UserError
from lra_bench.files import reason, write_atomically
from lra_bench.speed import figures, render
from lra_bench.speed.published import read_published
from lra_bench.speed.record import collect
from lra_bench.speed.tables import frame, newest


@dataclass(frozen=True)
class Report:
    """What was written.

    Args:
        text: The tables as Markdown.
        brief: The part of them that a terminal has room for.
        paths: The files.
    """

    text: str
    brief: str
    paths: tuple[Path, ...]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def publish(
    results_dir: Path,
    *,
    out: Path | None = None,
    cell_ids: Collection[str] | None = None,
    draws: Callable[[], bool] = figures.can_draw,
    say: Callable[[str], None] = _to_stderr,
) -> Report:
    """Write the tables of all records below a results folder, and the pictures.

    Args:
        results_dir: Holds records below ``speed``.
        out: Where ``speed.md``, ``speed.csv`` and pictures go; None for the results folder.
        cell_ids: What the brief text is about: the tables that have one of these; None for all.
        draws: Whether there can be pictures.
        say: Is told which files are no records, and what is left out.

    Raises:
        UserError: There is no such folder, or the tables cannot be written.
    """
    out = results_dir if out is None else out
    collection = collect(results_dir)
    for path, why in collection.skipped.items():
        say(f"skipped {path}: it {why}")
    shown, replaced = newest(collection.records)
    if replaced:
        say(f"left out {count(len(replaced), 'record')}: newer ones have the same names and place")
    rows = frame(shown)
    can_draw = draws()
    if not can_draw and not rows.empty:
        say("no pictures: they need matplotlib (pip install 'lra_bench[figures]')")
    pictures, files = {}, {}
    for group, cells in render.groups(rows):
        measured = cells[cells["status"] == "completed"]
        if can_draw and not measured.empty:
            name = f"figures/{figures.file_name(group)}"
            pictures[render.picture_key(group)] = name
            files[out / name] = figures.draw(measured, render.title_of(group))
    text = render.markdown(rows, shown, read_published(), pictures)
    files[out / "speed.md"] = f"# Speed and memory\n\n{text}"
    files[out / "speed.csv"] = render.csv(rows)
    try:
        for path, content in files.items():
            write_atomically(path, content)
    except OSError as error:
        raise UserError(f"cannot write the tables to {out}: {reason(error)}") from error
    return Report(text, render.brief(rows, cell_ids), tuple(files))
