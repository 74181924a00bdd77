"""Where a run lies, who is at it, and how it goes."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock

from lra_bench.errors import UserError
from lra_bench.runs import WRITE_SECONDS, LiveStatus, LiveTracker, RunFolder
from lra_bench.types import Progress

NAMES = {"setting": "cpu", "task": "t", "model": "m", "objective": "o", "tracker": "none"}
DATA = "ab" * 32


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def folder(tmp_path: Path, *, forced: bool = False) -> RunFolder:
    return RunFolder(tmp_path, NAMES, "0123456789abcdef", forced=forced)


def status() -> LiveStatus:
    return LiveStatus("0123456789abcdef", NAMES, {"train.num_steps": 3}, 7, "lra-bench run x")


def test_where_files_lie(tmp_path: Path) -> None:
    run = folder(tmp_path)
    name = "0123456789abcdef-abababab"
    assert run.record_path(DATA) == tmp_path / f"runs/cpu/t/m/{name}.json"
    assert run.checkpoint_path(DATA) == tmp_path / f"checkpoints/{name}.pt"
    forced = folder(tmp_path, forced=True)
    assert forced.checkpoint_path(DATA) != run.checkpoint_path(DATA)
    assert forced.record_path(DATA) == run.record_path(DATA)


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    run = folder(tmp_path)
    assert run.finished(DATA) is None
    path = run.record_path(DATA)
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_ver')
    with pytest.raises(UserError, match=rf"{path} is not JSON.*delete it to run again"):
        run.finished(DATA)


def test_one_at_a_time(tmp_path: Path) -> None:
    run = folder(tmp_path)
    said: list[str] = []
    with run.lock(wait=False, say=said.append):
        with (
            pytest.raises(UserError, match="the same run is under way elsewhere"),
            folder(tmp_path).lock(wait=False, say=said.append),
        ):
            pass
        # Forced or not: both would write the same record.
        with (
            pytest.raises(UserError, match="wait=true"),
            folder(tmp_path, forced=True).lock(wait=False, say=said.append),
        ):
            pass
        clock = Clock()
        tracker = LiveTracker(run.live_path, status(), clock)
        clock.now = WRITE_SECONDS + 1
        tracker.progress(Progress("training", 5, 20))
        with (
            pytest.raises(UserError, match=r"process \d+ on .*, training 5 of 20"),
            run.lock(wait=False, say=said.append),
        ):
            pass
    assert not said
    with run.lock(wait=False, say=said.append):
        assert not said


def test_waiting_says_whom_it_waits_for_and_can_be_stopped(tmp_path: Path) -> None:
    run = folder(tmp_path)
    said: list[str] = []
    looks: list[int] = []
    owner = FileLock(run.lock_path)
    run.lock_path.parent.mkdir(parents=True)
    owner.acquire()

    def check() -> None:
        looks.append(1)
        if len(looks) == 2:
            owner.release()

    with run.lock(wait=True, say=said.append, check=check):
        pass
    (text,) = said
    assert "waiting for it (wait=false stops instead)" in text
    owner.acquire()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), run.lock(wait=True, say=said.append, check=stop):
        pass


def test_the_live_status_is_written_now_and_then(tmp_path: Path) -> None:
    path, clock = tmp_path / "live/x.json", Clock()
    tracker = LiveTracker(path, status(), clock)
    first = LiveStatus.read(path)
    assert first is not None
    assert (first.state, first.seed, first.changes) == ("preparing", 7, {"train.num_steps": 3})
    tracker.progress(Progress("training", 1, 20))
    tracker.progress(Progress("training", 2, 20))
    live = LiveStatus.read(path)
    assert live is not None
    # It was written less than a second ago.
    assert (live.state, live.done) == ("preparing", 0)
    clock.now = WRITE_SECONDS + 1
    tracker.log({"validation_accuracy": 0.5}, step=2)
    tracker.progress(Progress("training", 3, 20))
    live = LiveStatus.read(path)
    assert live is not None
    assert (live.done, live.metrics) == (2, {"validation_accuracy": 0.5, "step": 2})
    clock.now = 2 * WRITE_SECONDS + 2
    tracker.progress(Progress("training", 3, 20))
    live = LiveStatus.read(path)
    assert live is not None
    assert live.done == 3
    tracker.interrupted()
    live = LiveStatus.read(path)
    assert live is not None
    assert live.state == "interrupted"
    tracker.remove()
    assert LiveStatus.read(path) is None
    tracker.remove()


def test_where_a_run_is_and_where_it_went_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert status().where == f"process {os.getpid()} on {socket.gethostname()}, Slurm job 12"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "11")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert status().where.endswith(", Slurm job 11_3")
    clock = Clock()
    tracker = LiveTracker(tmp_path / "x.json", status(), clock)
    for progress in (("preparing", 3), ("training", 501), ("validating", 8), ("training", 600)):
        clock.now += WRITE_SECONDS + 1
        tracker.progress(Progress(*progress, 1000))
    live = LiveStatus.read(tmp_path / "x.json")
    assert live is not None
    assert (live.from_step, live.done) == (500, 600)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 3}', "[" * 10_000, '{"x": 1}'])
def test_a_live_status_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert LiveStatus.read(path) is None


def test_nothing_about_the_live_status_can_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracker = LiveTracker(tmp_path / "file/x.json", status())
    tracker.log({"validation_loss": float("nan")}, step=3)
    tracker.progress(Progress("training", 1, 20))
    tracker.remove()
    assert json.dumps(asdict(status()))
