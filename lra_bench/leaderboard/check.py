"""Whether records are fit to be shown to others: what a contribution of results must be."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lra_bench import plain
from lra_bench import record as records
from lra_bench.identity import NAMES
from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.cells import judge
from lra_bench.leaderboard.collect import collect
from lra_bench.leaderboard.escape import line
from lra_bench.paths import conf_dir
from lra_bench.record import RunRecord

# Without these a number cannot be made again.
_VERSIONS = ("python", "torch", "lra_bench")


def problems(results_dirs: Sequence[Path], board: Board) -> tuple[list[str], int]:
    """Return what keeps records from being added to a leaderboard.

    Args:
        results_dirs: Folders that hold records below ``runs``.
        board: What is compared.

    Returns:
        A line each problem, and the number of records.
    """
    collection = collect(results_dirs, board)
    found = [f"{path}: it {why}" for path, why in collection.skipped.items()]
    paths = {run.run_id: run.path for run in collection.runs}
    for run in collection.runs:
        record = records.read(run.path)
        reasons = [*_of_place(record, run.path, results_dirs), *_of_record(record, board)]
        reasons += _of_parent(record, paths)
        found += [f"{run.path}: {reason}" for reason in reasons]
    _, complaints = judge(collection.runs)
    return [line(text) for text in [*found, *complaints]], len(collection.runs)


def _of_place(record: RunRecord, path: Path, results_dirs: Sequence[Path]) -> Iterator[str]:
    names = record.setting, record.task, record.model, record.run_id
    places = [records.record_path(folder, *names) for folder in results_dirs]
    if path not in places:
        yield f"it belongs to {places[0]}"


def _of_record(record: RunRecord, board: Board) -> Iterator[str]:
    """Yield what is wrong with a record that can be read."""
    if record.setting in board.left_out:
        yield f"setting {record.setting} makes no results"
    for group, name in record.names.items():
        if not (conf_dir() / group / f"{name}.yaml").is_file():
            yield f"{group} {name} is not in conf/{group}, so that nobody else can run it"
    if record.data["warning"]:
        yield f"its data are not the official ones: {record.data['warning']}"
    yield from _of_repeating(record)
    length = dict(plain.leaves(record.config)).get("train.num_steps")
    if record.status == "completed" and length is not None and record.num_steps != length:
        yield f"it ended after {record.num_steps} of {length} steps"


def _of_parent(record: RunRecord, paths: Mapping[str, Path]) -> Iterator[str]:
    """Yield what is missing to know what a run began from.

    Args:
        record: Of the run.
        paths: Where the records of runs lie, by ``run_id``.
    """
    if record.parent is None:
        return
    if record.pretraining is None:
        yield f"it names the parent {record.parent} and not what that run was; run it again"
        return
    if record.parent not in paths:
        yield (
            f"the record of the run that it began from, {record.parent}, is not among these; add "
            f"it, or make it: {record.pretraining['command']}"
        )
    elif records.read(paths[record.parent]).weights_sha256 != record.pretraining["weights_sha256"]:
        yield (
            f"the weights that it began from are not those of {paths[record.parent]}; run it "
            f"again, with init_from={record.parent}"
        )


def _of_repeating(record: RunRecord) -> Iterator[str]:
    """Yield what is missing to make the number again."""
    wanted = {**record.names, "seed": record.seed}
    try:
        words = shlex.split(record.command)
    except ValueError:
        words = []
    missing = [name for name in (*NAMES, "seed") if f"{name}={wanted[name]}" not in words]
    missing += [key for key in record.changes if not any(w.startswith(f"{key}=") for w in words)]
    if record.pretraining is not None:
        wanted |= {"init_from": record.parent}
        if record.pretraining["positions"] != "as they were":
            wanted |= {"init_positions": record.pretraining["positions"]}
        began = ("init_from", "init_positions")
        missing += [key for key in began if key in wanted and f"{key}={wanted[key]}" not in words]
    if words[:2] != ["lra-bench", "run"] or missing:
        asked = " ".join(f"{name}={wanted.get(name, '...')}" for name in missing)
        yield f"its command does not repeat it: it lacks {asked or '`lra-bench run`'}"
    if record.git_commit is None:
        yield "it names no commit; run from a checkout of the repository"
    elif record.git_dirty is not False:
        yield "its code had changes that are in no commit; commit them and run it again"
    for name in _VERSIONS:
        if name not in record.versions:
            yield f"it does not name the version of {name}"
    for name in ("device", "dtype", "started_at"):
        if not getattr(record, name):
            yield f"its {name} is empty"
