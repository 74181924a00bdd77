"""How runs stand is read from what they have written; their locks tell who lives."""

from __future__ import annotations

import os
from pathlib import Path

from made_up_records import make

from lra_bench import locks
from lra_bench import record as records
from lra_bench.console import Screen
from lra_bench.runs import WRITE_SECONDS, LiveStatus, LiveTracker
from lra_bench.status import look, text_of
from lra_bench.sweep_folder import Planned, planned
from lra_bench.types import Progress

NAMES = {"setting": "cpu", "task": "t", "model": "m", "objective": "o", "tracker": "none"}


def under_way(results: Path, request_id: str, seed: int = 0) -> LiveTracker:
    """Write what a run writes that has made 50 of 200 steps, ten a second."""
    times = [0.0]
    status = LiveStatus(request_id, NAMES, {}, seed, f"lra-bench run seed={seed}")
    path = results / f"live/{request_id}.json"
    tracker = LiveTracker(path, status, lambda: times[0])
    for step in (0, 50):
        times[0] += WRITE_SECONDS + 4.0
        tracker.progress(Progress("training", step, 200))
    return tracker


def test_every_state_is_told_apart(tmp_path: Path) -> None:
    done = make(correct=720)
    records.write(done, tmp_path)
    records.write(make(status="failed", seed=1), tmp_path)
    (tmp_path / "runs/odd.json").write_text("{")
    for name, seed in (("a" * 16, 2), ("b" * 16, 3), ("c" * 16, 4)):
        tracker = under_way(tmp_path, name, seed)
    tracker.interrupted()
    # What a clock says about the files is nothing to go by.
    os.utime(tmp_path / f"live/{'a' * 16}.json", (0, 0))
    # The record was written, and its process killed before it cleared up.
    under_way(tmp_path, done.request_id)
    lock = locks.take(tmp_path / f"live/{'a' * 16}.lock")
    assert lock is not None
    waits = [Planned("d" * 16, "m on t, seed 5", "x"), Planned("a" * 16, "known", "y")]
    with planned(tmp_path, waits):
        overview = look(tmp_path)
    assert [run.request_id for run in overview.of("running")] == ["a" * 16]
    assert [run.request_id for run in overview.of("interrupted")] == ["b" * 16, "c" * 16]
    assert [run.request_id for run in overview.of("waiting")] == ["d" * 16]
    assert [run.test for run in overview.of("done")] == [0.36]
    (failed,) = overview.of("failed")
    assert failed.reason.startswith("failed: ")
    assert list(overview.unreadable) == [str(tmp_path / "runs/odd.json")]
    (running,) = overview.of("running")
    assert (running.what, running.done, running.total) == ("training", 50, 200)
    assert (running.per_second, running.seconds_left) == (10.0, 15.0)
    assert [run.reason for run in overview.of("interrupted")] == ["its process has gone", ""]
    text = text_of(overview, Screen())
    assert text.startswith("1 running, 1 failed, 2 interrupted, 1 waiting, 1 done\n")
    for part in ("training 50/200 (25%)", "10/s", "15s left", f"process {os.getpid()} on "):
        assert part in text
    assert "go on with: lra-bench run seed=3" in text
    lock.release()
    # Of a sweep that has ended nothing waits any more.
    overview = look(tmp_path)
    assert len(overview.of("interrupted")) == 4
    assert not overview.of("running")


def test_a_failed_run_that_is_tried_again_is_running(tmp_path: Path) -> None:
    failed = make(status="failed")
    records.write(failed, tmp_path)
    under_way(tmp_path, failed.request_id)
    lock = locks.take(tmp_path / f"live/{failed.request_id}.lock")
    assert lock is not None
    assert [run.state for run in look(tmp_path).runs] == ["running"]
    lock.release()
    # It was killed: the last that is known for certain is the record.
    assert [run.state for run in look(tmp_path).runs] == ["failed"]


def test_an_empty_folder(tmp_path: Path) -> None:
    assert (
        text_of(look(tmp_path), Screen()) == "0 running, 0 failed, 0 interrupted, 0 waiting, 0 done"
    )
