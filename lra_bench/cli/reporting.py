"""The outcome of a run for people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lra_bench.cli.parsing import silence
from lra_bench.places import speaks

if TYPE_CHECKING:
    from lra_bench.compose import Request
    from lra_bench.metrics import Evaluation
    from lra_bench.record import RunRecord


def run_and_report(
    request: Request,
    *,
    stop_file: Path | None = None,
    split: Literal["test", "validation"] = "test",
) -> tuple[RunRecord, bool]:
    """Do a run, print what came out; return its record, and whether that was there before.

    Args:
        request: What was asked for.
        stop_file: Interrupts it, from when it is there.
        split: The split whose result is printed.

    Raises:
        UserError: Something the user wrote or provided is wrong.
        Interrupted: A signal came; the state has been saved.
        OSError: The record cannot be written.
    """
    from lra_bench.runner import run_or_reuse

    record, reused = run_or_reuse(request, stop_file=stop_file)
    if not speaks():
        return record, reused
    try:
        _report(record, Path(request.config.results_dir), split)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone; the record is there, and further runs of a sweep may follow.
        silence(sys.stdout)
    return record, reused


def _report(record: RunRecord, results_dir: Path, split: Literal["test", "validation"]) -> None:
    """Print the outcome: the result on stdout, a failure on stderr."""
    from lra_bench.record import record_path

    path = record_path(results_dir, record.setting, record.task, record.model, record.run_id)
    evaluation = record.test if split == "test" else record.validation
    if record.test is None or evaluation is None:
        print(f"{record.status}: {record.error}\nrecord: {path}", file=sys.stderr)
        return
    labels = record.labels
    usual = record.objective == "cross_entropy"
    objective = "" if usual else f", objective {labels['objective']}"
    print(
        f"{labels['model']} on {labels['task']}, setting {labels['setting']}{objective}, "
        f"seed {record.seed}: {split} {_result(record, evaluation)}"
    )
    if record.data.get("warning") or record.data.get("note"):
        print(f"data: {record.data['source']}")
    print(f"record: {path}")


def _result(record: RunRecord, evaluation: Evaluation) -> str:
    """Return the metric that ranks in words, beside what always answering the same is worth."""
    from lra_bench.metrics import metric

    ranking, sums = metric(record.ranking_metric), evaluation.sums
    form = ".2%" if ranking.is_share else ".4f"
    beside = []
    if ranking.name == "accuracy":
        beside.append(f"{sums['correct']:,} of {sums['targets']:,}")
    if record.majority_baseline is not None and evaluation is record.test:
        beside.append(f"{ranking.constant}: {record.majority_baseline:{form}}")
    if evaluation is record.test:
        found = record.data.get("baselines", {})
        beside += [f"{name}: {value:{form}}" for name, value in found.items()]
    rest = f" ({'; '.join(beside)})" if beside else ""
    return f"{ranking.title} {evaluation[ranking.name]:{form}}{rest}"
