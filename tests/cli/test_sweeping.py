"""Sweeps: what is done is reused, what failed is told apart, what was interrupted goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.conftest import records_in
from lra_bench.cli import main

Cli = list[str]


def test_failures_are_told_apart_and_tried_again(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf/task").mkdir(parents=True)
    # Broken as long as a file is not there, and not before the data are wanted.
    (tmp_path / "conf/task/late.yaml").write_text("# Late.\n_target_: late_task.Late\n")
    (tmp_path / "conf/late_task.py").write_text(
        f"""
from pathlib import Path
import numpy as np
from lra_bench.errors import UserError
from lra_bench.types import Example, Task, TaskSpec

class Late(Task):
    spec = TaskSpec("late", vocab_size=5, max_length=9, num_classes=2)

    def prepare(self, tell):
        if not Path({str(tmp_path / "there")!r}).exists():
            raise UserError("the data are late")

    def examples(self, split):
        return [Example((np.array([1, 2]),), 0)] * 4

    def fingerprint(self):
        return "0" * 64
"""
    )
    sweep = [word for word in words if not word.startswith(("task=", "model="))]
    sweep += ["--config-dir", str(tmp_path / "conf"), "-m", "quiet=true", "model=local"]
    sweep += ["train.max_grad_norm=null", "train.learning_rate=1e-3,1e30"]
    assert main([*sweep, "task=late", "seed=0,1"]) == 1
    said = capsys.readouterr().err
    assert "4 failed, in " in said
    assert said.count(": the data are late\n") == 8
    assert "tries again what failed" in said
    assert main(["status", str(tmp_path / "results")]) == 0
    assert "the data are late" in capsys.readouterr().out
    (tmp_path / "there").write_text("")
    assert main([*sweep, "task=late", "seed=0,1"]) == 1
    said = capsys.readouterr().err
    assert "2 done, 2 diverged, in " in said
    assert "force=true repeats it" in said
    assert (
        sorted(record.status for record in records_in(tmp_path))
        == ["completed"] * 2 + ["diverged"] * 2
    )
    assert main([*sweep[:-1], "train.learning_rate=1e-3", "task=late", "seed=0,1"]) == 0
    assert "2 reused, in " in capsys.readouterr().err


LONG = ("train.num_steps=120", "train.eval_every=120", "checkpoint_seconds=1000")


def start(words: Cli, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lra_bench.cli", *words, "-m", *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def live_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "results/live").glob("*.json"))


@pytest.mark.slow
def test_workers_share_the_cores_and_stop_when_the_sweep_is_told_to(
    words: Cli, tmp_path: Path
) -> None:
    """SIGTERM reaches the sweep alone; the same line goes on."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2"]
    with start(words, *parallel, *LONG) as process:
        deadline = time.monotonic() + 120
        while len(live_files(tmp_path)) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "2 interrupted, 1 not begun, in " in errors
    assert "Traceback" not in errors
    assert len(list((tmp_path / "results/checkpoints").glob("*.pt"))) == 2
    with start(words, *parallel, *LONG) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "3 done, in " in errors
    done = records_in(tmp_path)
    assert sorted(record.seed for record in done) == [0, 1, 2]
    assert sorted(record.num_resumes for record in done) == [0, 1, 1]
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    assert all(f", {cores} thread" in record.device for record in done)
    assert live_files(tmp_path) == []
    assert list((tmp_path / "results/live/sweeps").iterdir()) == []


def test_a_launcher_that_is_not_there_is_a_clear_line(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "-m", "seed=0,1", "hydra/launcher=nothing"]) == 2
    said = capsys.readouterr().err
    assert "hydra/launcher" in said
    assert "lra_bench[sweeps]" in said
    assert "Traceback" not in said


def test_a_search_shows_validation_and_its_setting_can_be_run(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    asked = [*words, "-m", "quiet=true", "hydra/sweeper=optuna"]
    asked.append("train.learning_rate=tag(log,interval(1e-4,1e-2))")
    assert main([*asked, "hydra.sweeper.n_trials=1"]) == 0
    assert main([*asked, "hydra.sweeper.n_trials=2"]) == 0
    said = capsys.readouterr()
    assert "test accuracy" not in said.out + said.err
    assert said.out.count("validation accuracy") == 2
    found = records_in(tmp_path)
    assert len(found) == 2
    best = max(record.metrics["accuracy"]["validation"] or 0.0 for record in found)
    assert f"best on validation: {best:.4f} with train.learning_rate=" in said.err
    line = said.err.rpartition("run it with new seeds: ")[2].split()
    assert main([*line[1:], "quiet=true", *words[-2:]]) == 0
    assert len(records_in(tmp_path)) == 4


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_run(words: Cli, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2", *LONG]
    with start(words, *parallel) as process:
        while not live_files(tmp_path):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(json.loads(live_files(tmp_path)[0].read_text())["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "a job was killed; handing out again what is left\n" in errors
    assert "3 done, in " in errors
    assert sorted(record.seed for record in records_in(tmp_path)) == [0, 1, 2]
