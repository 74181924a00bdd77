"""From records to tables. Needs no torch.

Records become runs, runs become cells, cells become frames; frames are laid out as sections of
texts, and only then does a format come in.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lra_bench.console import count
from lra_bench.errors import UserError
from lra_bench.files import reason, write_atomically
from lra_bench.leaderboard import escape, export
from lra_bench.leaderboard.board import Board, read_board
from lra_bench.leaderboard.cells import Tables, tabulate
from lra_bench.leaderboard.check import problems
from lra_bench.leaderboard.collect import Collection, collect
from lra_bench.leaderboard.latex import latex
from lra_bench.leaderboard.layout import sections
from lra_bench.leaderboard.layout_equal_cost import equal_cost_sections
from lra_bench.leaderboard.layout_published import published_sections
from lra_bench.leaderboard.markdown import markdown
from lra_bench.leaderboard.page import page
from lra_bench.leaderboard.pictures import check_installed, pictures
from lra_bench.leaderboard.published import FILE_NAME, PublishedRow, read_published

# A folder full of something else is not to fill the screen.
_MOST_COMPLAINTS = 20


def publish(
    results_dirs: Sequence[Path],
    out: Path,
    *,
    board: Board | None = None,
    published: Path | None = None,
    families: Mapping[str, str] | None = None,
    with_pictures: bool = False,
) -> int:
    """Write the tables of all records below some folders, and print ours.

    Args:
        results_dirs: Folders that hold records below ``runs``.
        out: Where ``leaderboard.md``, ``.tex``, ``.csv``, ``.json`` and ``.html`` are written.
        board: What is compared; by default Long Range Arena.
        published: The file of published numbers; by default ``published.csv`` in the first of the
            folders that has one.
        families: The family of each model, by plain name, for the filter of the page.
        with_pictures: Whether pictures are drawn, too, below ``pictures``.

    Returns:
        1 if a cell was refused because its runs do not belong together, else 0.

    Raises:
        UserError: A folder does not exist, or the tables cannot be written.
    """
    check_folders(results_dirs)
    if with_pictures:
        check_installed()
    board = read_board() if board is None else board
    rows = _published(results_dirs, published, board)
    collection = collect(results_dirs, board)
    tables = tabulate(collection.runs, board)
    _complain(collection, tables)
    ours = [*sections(tables), *equal_cost_sections(tables)]
    theirs = published_sections(rows, tables, board)
    files: dict[str, str | bytes] = {
        "leaderboard.md": f"# Leaderboard\n\n{markdown([*ours, *theirs])}",
        "leaderboard.tex": latex([*ours, *theirs]),
        "leaderboard.csv": export.csv(tables),
        "leaderboard.json": export.json_text(tables, rows),
        "leaderboard.html": page(
            tables, rows, board, results_dirs=results_dirs, out=out, families=families
        ),
    }
    if with_pictures:
        files |= {f"pictures/{name}": content for name, content in pictures(tables)}
    try:
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise UserError(f"cannot write the tables to {out}: {reason(error)}") from error
    print(markdown(ours))
    runs = {str(folder / "runs") for folder in results_dirs}
    print(f"records: {', '.join(sorted(runs))}")
    written = [str(out / name) for name in files if "/" not in name]
    print(f"tables:  {', '.join(written)}")
    if with_pictures:
        print(f"pictures: {out / 'pictures'}")
    return 1 if tables.complaints else 0


def check(results_dirs: Sequence[Path], *, board: Board | None = None) -> int:
    """Say whether the records below some folders can be added to a leaderboard.

    Returns:
        1 if something is in the way, or there is no record, else 0.

    Raises:
        UserError: A folder does not exist.
    """
    check_folders(results_dirs)
    found, number = problems(results_dirs, read_board() if board is None else board)
    for problem in found:
        print(problem, file=sys.stderr)
    if not number:
        print("there are no records", file=sys.stderr)
    elif not found:
        print(f"{count(number, 'record')}, and nothing is in the way of adding them")
    return 1 if found or not number else 0


def check_folders(results_dirs: Sequence[Path]) -> None:
    """Find out that folders are there.

    Raises:
        UserError: One is not.
    """
    for folder in results_dirs:
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; name the results folder of your runs, for example "
                f"`lra-bench leaderboard results`"
            )


def _published(
    results_dirs: Sequence[Path], asked_for: Path | None, board: Board
) -> list[PublishedRow]:
    if asked_for is not None:
        return read_published(asked_for, board)
    found = [path for folder in results_dirs if (path := folder / FILE_NAME).is_file()]
    return read_published(found[0], board) if found else []


def _complain(collection: Collection, tables: Tables) -> None:
    """Say on stderr what is not in the tables."""
    lines = [
        f"skipped {escape.line(str(path))}: it {escape.line(why)}"
        for path, why in collection.skipped.items()
    ]
    if len(lines) > _MOST_COMPLAINTS:
        more = len(lines) - _MOST_COMPLAINTS
        lines = [*lines[:_MOST_COMPLAINTS], f"skipped {more:,} more files"]
    lines += [
        f"left out {number} of setting {setting}, whose numbers mean nothing"
        for setting, number in sorted(tables.left_out.items())
    ]
    lines += [f"refused {complaint}" for complaint in tables.complaints]
    for line in lines:
        print(line, file=sys.stderr)
