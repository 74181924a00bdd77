"""What a sweep plans, and what has become of its runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lra_bench.sweep_folder import MAX_KILLS, Outcome, Planned, SweepFolder, planned, sweep_folders

RUNS = [Planned(f"{number:016x}", f"run {number}", f"lra-bench run {number}") for number in (1, 2)]
ONE, TWO = (run.request_id for run in RUNS)


def test_a_sweep_that_is_done_leaves_nothing(tmp_path: Path) -> None:
    with planned(tmp_path, RUNS) as folder:
        assert sweep_folders(tmp_path) == [folder]
        assert folder.plan() == RUNS
        assert folder.is_under_way() is True
        for key, state in ((ONE, "done"), (TWO, "reused")):
            assert folder.begin(key)
            assert folder.outcome(key).state == "running"
            folder.end(key, state)  # type: ignore[arg-type]
            # What has ended is not begun again.
            assert not folder.begin(key)
    assert sweep_folders(tmp_path) == []


def test_what_is_left_stays_until_the_same_sweep_comes_again(tmp_path: Path) -> None:
    with planned(tmp_path, RUNS) as folder:
        folder.begin(ONE)
        folder.end(ONE, "failed", "no data")
        folder.stop(signal.SIGTERM)
        folder.stop(signal.SIGINT)
        assert folder.stopped_by() == signal.SIGTERM
        assert not folder.begin(TWO)
    (left,) = sweep_folders(tmp_path)
    assert left.is_under_way() is False
    assert left.stopped_by() is None
    assert left.outcome(ONE) == Outcome("failed", "no data")
    # Another sweep leaves it alone; the same one begins anew.
    with planned(tmp_path, RUNS[:1]):
        assert len(sweep_folders(tmp_path)) == 2
    with planned(tmp_path, list(reversed(RUNS))) as again:
        assert again.outcome(ONE) == Outcome()
        assert again in sweep_folders(tmp_path)


def test_a_run_that_ends_its_processes_is_given_up(tmp_path: Path) -> None:
    with planned(tmp_path, RUNS) as folder:
        for _ in range(MAX_KILLS):
            assert folder.begin(ONE)
        assert not folder.begin(ONE)
        outcome = folder.outcome(ONE)
        assert outcome.state == "failed"
        assert "was killed 3 times" in outcome.reason


def test_a_run_that_gets_further_is_not_given_up(tmp_path: Path) -> None:
    """A cluster may take its machine as often as it likes."""
    with planned(tmp_path, RUNS) as folder:
        for attempt in range(3 * MAX_KILLS):
            assert folder.begin(ONE, from_step=100 * attempt)
            if attempt % 2:
                folder.end(ONE, "interrupted")
        last = 100 * (3 * MAX_KILLS - 1)
        assert [folder.begin(ONE, from_step=last) for _ in range(2)] == [True, False]
        assert "without getting further" in folder.outcome(ONE).reason


def test_a_job_that_comes_late_does_nothing(tmp_path: Path) -> None:
    """Its sweep was killed, and the same sweep has cleared up before it began again."""
    with planned(tmp_path, RUNS) as folder:
        assert folder.begin(ONE)
        folder.note(TWO, Outcome("done"))
        folder.plan_path.unlink()
        assert not folder.begin(TWO)
        folder.end(ONE, "done")
        assert folder.outcome(ONE).state == "running"


@pytest.mark.parametrize("content", ["", "[]", '{"state": "done", "x": 1}', "\xff"])
def test_files_that_cannot_be_read_say_nothing(tmp_path: Path, content: str) -> None:
    folder = SweepFolder(tmp_path)
    for name in (f"{ONE}.json", "plan.json", "stop"):
        (tmp_path / name).write_text(content, encoding="latin-1")
    assert folder.outcome(ONE) == Outcome()
    assert folder.plan() == []
    assert folder.stopped_by() is None


def test_what_was_killed_before_it_had_a_plan_is_cleared_up(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    host = socket.gethostname()[:40]
    dead = tmp_path / f"live/sweeps/abc-{host}-{ended.pid}"
    living = tmp_path / f"live/sweeps/abc-{host}-{os.getpid()}"
    for path in (dead, living):
        path.mkdir(parents=True)
        (path / "lock").touch()
    with planned(tmp_path, RUNS):
        assert not dead.exists()
        assert living.exists()
