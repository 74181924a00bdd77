"""Records that no run has made, for tests of what is done with records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lra_bench import identity, leaderboard
from lra_bench import record as records
from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.cells import Tables, tabulate
from lra_bench.leaderboard.collect import runs_of
from lra_bench.metrics import Evaluation, measured
from lra_bench.record import RunRecord
from lra_bench.schema import Extension
from lra_bench.weights import Parent

CONFIG: Mapping[str, Any] = {
    "task": {"_target_": "lra_tasks.x.X", "seed": 0},
    "model": {"_target_": "lra_bench.models.x.X", "mixer": {"_target_": "lra_bench.models.x.M"}},
    "train": {"learning_rate": 0.001, "num_steps": 200},
}
DATA_SHA256 = "0123456789abcdef" * 4


def counted(correct: int, examples: int = 2000, loss: float = 10.5, **more: float) -> Evaluation:
    """Return the evaluation of a task that asks for one class an example."""
    sums = {"examples": examples, "targets": examples, "correct": correct, "exact": correct}
    return Evaluation({**sums, "loss": loss, **more})


def two_classes(tp: int, fp: int, fn: int, tn: int) -> Evaluation:
    """Return the evaluation of a task with the classes 0 and 1, given the counts of class 1."""
    counts = {"tp/1": tp, "fp/1": fp, "fn/1": fn, "tp/0": tn, "fp/0": fn, "fn/0": fp}
    return counted(tp + tn, tp + fp + fn + tn, **counts)


def make(seed: int = 0, correct: int = 700, **fields: Any) -> RunRecord:
    """Return a record; ids, hashes and metrics are made to fit, unless they are given.

    Args:
        seed: Seed of the run.
        correct: Right answers to 2,000 examples of test, unless ``test`` is given.
        fields: Fields of the record.
    """
    made: dict[str, Any] = {
        "setting": "cpu",
        "task": "listops",
        "model": "transformer",
        "objective": "cross_entropy",
        "changes": {},
        "seed": seed,
        "status": "completed",
        "test": counted(correct),
        "validation": counted(720, loss=10.0),
        "majority_baseline": 0.17,
        "num_parameters": 205_258,
        "encoder_passes_per_step": 1,
        "train_seconds": 61.5,
        "tokens_per_second": 1000.0,
        "peak_memory_bytes": 10**9,
        "data": told("generated, seed 0"),
        "data_sha256": DATA_SHA256,
        "config": CONFIG,
        "ranking_metric": "accuracy",
        **fields,
    }
    if made["status"] != "completed":
        made = {"error": "the machine said no", **made, "test": None, "validation": None}
    names = {group: made[group] for group in identity.NAMES}
    parent = identity.parent_id(made.get("pretraining"))
    request = identity.request_id(names, made["changes"], made["config"], seed, parent)
    fitting = {
        "request_id": request,
        "run_id": identity.run_id(request, made["data_sha256"]),
        "config_sha256": identity.config_sha256(made["config"]),
        "metrics": measured(
            [made["ranking_metric"]], test=made["test"], validation=made["validation"]
        ),
    }
    return RunRecord(**{**fitting, **made})


def make_pretrained(seed: int = 0, loss: float = 1.5, **fields: Any) -> RunRecord:
    """Return the record of a run that said what was hidden, to be begun from.

    Args:
        seed: Seed of the run.
        loss: Mean loss on test [nats].
        fields: Fields of the record.
    """
    made: dict[str, Any] = {
        "objective": "denoising",
        "ranking_metric": "loss",
        "test": counted(900, loss=2000 * loss),
        "majority_baseline": 2.5,
        "num_steps": 1000,
        "train_seconds": 300.0,
        "weights_sha256": f"{seed:064x}",
        **fields,
    }
    return make(seed, **made)


def begun(
    parent: RunRecord,
    seed: int = 0,
    correct: int = 700,
    positions: Extension = "refuse",
    **fields: Any,
) -> RunRecord:
    """Return the record of a run that began from another; see `make`."""
    of = Parent(parent, Path(), positions)
    pretraining = of.pretraining(make(seed, correct, **fields).labels)
    return make(seed, correct, parent=parent.run_id, pretraining=pretraining, **fields)


def told(source: str, *, warning: str = "", note: str = "", **details: str) -> dict[str, Any]:
    """Return what a record says of its data."""
    return {"source": source, "warning": warning, "note": note, "details": details}


def published(tmp_path: Path, *made: RunRecord, out: str = "out") -> tuple[str, str, int]:
    """Write records to a results folder and make its tables.

    Returns:
        The Markdown, the CSV and the exit code.
    """
    for record in made:
        records.write(record, tmp_path)
    code = leaderboard.publish([tmp_path], tmp_path / out)
    folder = tmp_path / out
    text = (folder / "leaderboard.md").read_text()
    return text, (folder / "leaderboard.csv").read_text(), code


def tables_of(*made: RunRecord, board: Board | None = None) -> Tables:
    """Return the tables of records that are in memory."""
    board = Board() if board is None else board
    return tabulate(runs_of(made, board), board)


def overview_of(text: str) -> list[str]:
    """Return the lines above the first table of a task."""
    return text.split("###")[0].splitlines()
