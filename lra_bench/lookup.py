"""Finding a record by its file, by the id of its run, or by how the id begins."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lra_bench import record as records
from lra_bench.errors import UserError
from lra_bench.files import is_there
from lra_bench.record import BadRecord, RunRecord

_MOST_LISTED = 5


def find(
    run: str, results_dirs: Sequence[Path], *, remedy: str = "--results names another folder"
) -> tuple[RunRecord, Path]:
    """Return the record that a word means, and its file.

    Args:
        run: A file, a ``run_id``, or how one begins.
        results_dirs: Folders that hold records below ``runs``; not needed for a file.
        remedy: What to do where there is none, for the message.

    Raises:
        UserError: There is none, there are several, or the file is no record.
    """
    path = Path(run)
    there = is_there(path)
    if there and path.is_dir():
        raise UserError(f"{run} is a folder; name one of the records in it")
    if there and path.is_file():
        return _read(path), path
    found = [path for path in _files(results_dirs) if path.stem.startswith(run)]
    if not found:
        # A file of an older version is called otherwise than its run.
        found = [path for path in _files(results_dirs) if _run_id(path).startswith(run)]
    ids = {_run_id(path) or path.stem: path for path in reversed(found)}
    if not ids:
        where = ", ".join(str(folder / "runs") for folder in results_dirs)
        raise UserError(
            f"there is no file {run[:80]!r}, and no run whose id begins so below {where}; {remedy}"
        )
    if len(ids) > 1:
        listed = ", ".join(sorted(ids)[:_MOST_LISTED])
        more = ", ..." if len(ids) > _MOST_LISTED else ""
        raise UserError(f"{len(ids)} runs begin with {run!r}: {listed}{more}; give more of the id")
    (path,) = ids.values()
    return _read(path), path


def run_ids(results_dirs: Sequence[Path]) -> list[str]:
    """Return the ids of all runs below results folders, as their files are called."""
    return sorted({path.stem for path in _files(results_dirs)})


def _files(results_dirs: Sequence[Path]) -> Iterator[Path]:
    for results_dir in results_dirs:
        for base, folders, names in os.walk(results_dir / "runs"):
            folders.sort()
            for name in sorted(names):
                if name.endswith(".json") and not name.startswith("."):
                    yield Path(base, name)


def _run_id(path: Path) -> str:
    """Return the id that a record has inside, or nothing if it is none."""
    try:
        return records.read(path).run_id
    except BadRecord:
        return ""


def _read(path: Path) -> RunRecord:
    try:
        return records.read(path)
    except BadRecord as error:
        raise UserError(f"{path}: it {error}") from error
