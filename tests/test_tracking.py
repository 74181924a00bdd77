"""Trackers: several as one, and what wandb keeps of a run that was interrupted or repeated."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lra_bench.errors import UserError
from lra_bench.tracking import RunInfo, Tracker, Trackers, WandbTracker, last_step_of
from lra_bench.types import Progress

CURVE = [{"step": step, "validation_loss": 1.0 / step} for step in (10, 20, 30)]


def info(directory: Path, **changed: Any) -> RunInfo:
    return RunInfo(
        run_id="0123456789abcdef-01234567",
        title="local on listops, seed 0",
        group="smoke/listops/local/cross_entropy",
        tags=["smoke", "listops"],
        config={"train": {"num_steps": 40}},
        directory=directory,
        **changed,
    )


def mirror(run: RunInfo, rows: Sequence[Mapping[str, float]], summary: Mapping[str, Any]) -> None:
    """Follow a run with wandb, offline."""
    tracker = WandbTracker()
    tracker.start(run)
    for row in rows:
        tracker.log({"validation_loss": row["validation_loss"]}, step=int(row["step"]))
    tracker.finish(summary, failed=False)


def mirrors(directory: Path, number: int) -> Iterator[dict[str, list[Any]]]:
    """Yield what wandb wrote of the last runs, in order, as its own program reads it."""
    folders = (directory / "wandb").glob("offline-run-*")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    for folder in sorted(folders, key=lambda path: path.stat().st_mtime)[-number:]:
        done = subprocess.run([*inspect, str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        kept: dict[str, list[Any]] = {}
        for line in filter(None, map(str.strip, done.stdout.splitlines())):
            entry = json.loads(line)
            kept.setdefault(entry["type"], []).append(entry[entry["type"]])
        yield kept


def curve_of(kept: Mapping[str, list[Any]]) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row["item"].items() if not name.startswith("_")}
        for row in kept["history"]
    ]


def test_wandb_keeps_the_whole_curve_of_a_run_that_was_interrupted(tmp_path: Path) -> None:
    # Stopped after two rows, gone on from a checkpoint that holds them, then repeated by force.
    mirror(info(tmp_path), CURVE[:2], {})
    mirror(info(tmp_path, curve=CURVE[:2]), CURVE[2:], {"status": "completed"})
    mirror(info(tmp_path, attempt="2026-01-02T03:04:05+00:00"), CURVE[:1], {})
    resumed, repeated = mirrors(tmp_path, 2)
    assert curve_of(resumed) == CURVE
    assert curve_of(repeated) == CURVE[:1]
    assert resumed["run"][0]["run_id"] == "0123456789abcdef-01234567"
    # Of its own, and without what wandb does not allow.
    assert repeated["run"][0]["run_id"] == "0123456789abcdef-01234567-2026-01-02T03-04-05-00-00"
    (run,) = resumed["run"]
    assert run["display_name"] == "local on listops, seed 0"
    assert run["run_group"] == "smoke/listops/local/cross_entropy"
    assert run["tags"] == ["smoke", "listops"]
    assert run["config"]["update"]["train"] == {"num_steps": 40}
    assert {"status": "completed"} in [entry.get("update") for entry in resumed["summary"]]
    assert {"step_metric": "step"}.items() <= resumed["metric"][0].items()


def test_rows_that_a_server_has_are_not_sent_twice() -> None:
    assert last_step_of(SimpleNamespace(resumed=True, summary={"step": 20})) == 20
    assert last_step_of(SimpleNamespace(resumed=True, summary={})) == 0
    assert last_step_of(SimpleNamespace(resumed=False, summary={"step": 20})) == 0
    sent: list[dict[str, float]] = []
    tracker = WandbTracker()
    tracker.run, tracker.mirrored_step = SimpleNamespace(log=sent.append), 20
    for row in CURVE:
        tracker.log({"validation_loss": row["validation_loss"]}, step=int(row["step"]))
    assert [row["step"] for row in sent] == [30]


def test_wandb_that_refuses_is_a_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"^wandb: .*; tracker\.mode=offline needs no account$"):
        WandbTracker(mode="online").start(info(tmp_path))


def test_a_run_that_never_began_can_be_finished() -> None:
    WandbTracker().finish({}, failed=True)


class Listening(Tracker):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def start(self, info: RunInfo) -> None:
        self.heard.append(info.title)

    def progress(self, progress: Progress) -> None:
        self.heard.append(progress)

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.heard.append((dict(metrics), step))

    def message(self, text: str) -> None:
        self.heard.append(text)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        self.heard.append((dict(summary), failed))


def test_several_trackers_hear_the_same(tmp_path: Path) -> None:
    first, second = Listening(), Listening()
    tracker = Trackers(first, Tracker(), second)
    tracker.start(info(tmp_path))
    tracker.progress(Progress("training", 1, 2))
    tracker.log({"loss": 1.0}, step=3)
    tracker.message("hello")
    tracker.finish({"status": "failed"}, failed=True)
    assert first.heard == second.heard
    assert first.heard == [
        "local on listops, seed 0",
        Progress("training", 1, 2),
        ({"loss": 1.0}, 3),
        "hello",
        ({"status": "failed"}, True),
    ]
