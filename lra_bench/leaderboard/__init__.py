"""From records to tables. Needs no torch.

Records become rows, rows become cells, cells become tables: all frames before anybody formats.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.files import reason, write_atomically
from lra_bench.leaderboard import render
from lra_bench.leaderboard.board import Board, read_board
from lra_bench.leaderboard.cells import tabulate
from lra_bench.leaderboard.collect import collect


def publish(results_dirs: Sequence[Path], out: Path, *, board: Board | None = None) -> int:
    """Write the tables of all records below some folders, and print them.

    Args:
        results_dirs: Folders that hold records below ``runs``.
        out: Where ``leaderboard.md`` and ``leaderboard.csv`` are written.
        board: What is compared; by default Long Range Arena.

    Returns:
        1 if a cell was refused because its runs do not belong together, else 0.

    Raises:
        UserError: A folder does not exist, or the tables cannot be written.
    """
    for folder in results_dirs:
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; name the results folder of your runs, for example "
                f"`lra-bench leaderboard results`"
            )
    collection = collect(results_dirs)
    for path, why in collection.skipped.items():
        print(f"skipped {path}: it {why}", file=sys.stderr)
    tables = tabulate(collection.records, read_board() if board is None else board)
    for setting, number in sorted(tables.left_out.items()):
        print(
            f"left out {number} of setting {setting}, whose numbers mean nothing", file=sys.stderr
        )
    for complaint in tables.complaints:
        print(f"refused {complaint}", file=sys.stderr)
    text = render.markdown(tables)
    try:
        write_atomically(out / "leaderboard.md", f"# Leaderboard\n\n{text}")
        write_atomically(out / "leaderboard.csv", render.csv(tables))
    except OSError as error:
        raise UserError(f"cannot write the tables to {out}: {reason(error)}") from error
    print(text)
    runs = {str(folder / "runs") for folder in results_dirs}
    print(f"records: {', '.join(sorted(runs))}")
    print(f"tables:  {out / 'leaderboard.md'}, {out / 'leaderboard.csv'}")
    return 1 if tables.complaints else 0
