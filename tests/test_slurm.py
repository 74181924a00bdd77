"""What Slurm is told and asked, and how it is understood; the commands are made up."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lra_bench import slurm
from lra_bench.errors import UserError

DOCS = Path(__file__).parents[1] / "docs/cluster.md"
RUN = ["task=listops", "model=local", "setting=smoke"]

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of commands that write down how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("srun", "sbatch", "scancel", "squeue"):
        say(folder, name, "")
    return folder


def say(folder: Path, name: str, text: str, code: int = 0) -> None:
    """Let a command print something."""
    stream = "1" if code == 0 else "2"
    script = folder / name
    script.write_text(
        f'#!/bin/sh\necho {name} "$@" >> {folder}/called\n'
        f"cat >&{stream} <<'END'\n{text}\nEND\nexit {code}\n"
    )
    script.chmod(0o755)


def called(folder: Path) -> list[str]:
    path = folder / "called"
    return path.read_text().splitlines() if path.exists() else []


def queue(tmp_path: Path, *words: str) -> slurm.Queue:
    return slurm.Queue([slurm.LAUNCHER, *words], [*RUN, f"results_dir={tmp_path}"])


def test_runs_become_an_array_with_the_options_of_the_launcher(
    commands: Path, tmp_path: Path
) -> None:
    say(commands, "sbatch", "Submitted batch job 7")
    made = queue(
        tmp_path,
        *("hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=90"),
        *("hydra.launcher.gpus_per_node=1", "+hydra.launcher.additional_parameters.mem=9G"),
    )
    assert made.submit(str, [["seed=0"], ["seed=1"], ["seed=2"]]) == ["7_0", "7_1", "7_2"]
    (script,) = tmp_path.glob("sweeps/*/*/.submitit/7/7_submission.sh")
    lines = script.read_text().splitlines()
    for option in (
        *("--array=0-2%3", "--partition=gpu", "--time=90", "--gpus-per-node=1", "--mem=9G"),
        *("--job-name=lra-bench", "--signal=USR2@120"),
    ):
        assert f"#SBATCH {option}" in lines
    assert made.submit(str, [["seed=3"]]) == ["7"]
    assert made.log("7_1").name == "7_1_0_log.err"
    assert made.log("7_1").parent.parent == script.parent.parent


def test_a_launcher_made_of_it_is_one_of_slurm(commands: Path, tmp_path: Path) -> None:
    place = tmp_path / "conf/hydra/launcher"
    place.mkdir(parents=True)
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    (place / "ours.yaml").write_text(blocks[0])
    folders = [tmp_path / "conf"]
    ours = ["hydra/launcher=ours", "hydra.launcher.timeout_min=30"]
    assert slurm.is_asked_for(ours, RUN, folders)
    say(commands, "sbatch", "Submitted batch job 7")
    run = [*RUN, f"results_dir={tmp_path}"]
    slurm.Queue(ours, run, folders).submit(str, [["seed=0"]])
    (script,) = tmp_path.glob("sweeps/*/*/.submitit/7/7_submission.sh")
    for option in ("--partition=gpu", "--cpus-per-task=8", "--time=30"):
        assert f"#SBATCH {option}\n" in script.read_text()
    assert slurm.is_asked_for([slurm.LAUNCHER], RUN)
    for other in ([], ["hydra/launcher=joblib"], ["hydra/launcher=basic"]):
        assert not slurm.is_asked_for(other, RUN)
    with pytest.raises(UserError, match=r"nothing.*lra_bench\[slurm\]"):
        slurm.is_asked_for(["hydra/launcher=nothing"], RUN)


def test_states_are_read_and_silence_is_told_apart(commands: Path, tmp_path: Path) -> None:
    made = queue(tmp_path)
    held = "7_2|PENDING|launch failed requeued held\n8|PENDING|JobHeldUser"
    say(commands, "squeue", f"7_0|RUNNING|None\n7_1|PENDING|Priority\n6|NODE_FAIL|None\n{held}")
    assert made.states() == {
        **{"7_0": "RUNNING", "7_1": "PENDING", "6": "NODE_FAIL"},
        **dict.fromkeys(("7_2", "8"), slurm.HELD),
    }
    assert not slurm.has_ended(slurm.HELD)
    say(commands, "squeue", "")
    assert made.states() == {}
    say(commands, "squeue", "Unable to contact slurm controller", 1)
    assert made.states() is None
    for state, ended in (
        *(("RUNNING", False), ("PENDING", False), ("COMPLETING", False), ("REQUEUED", False)),
        *(("COMPLETED", True), ("NODE_FAIL", True), ("PREEMPTED", True), (None, True)),
    ):
        assert slurm.has_ended(state) is ended


def test_waiting_jobs_are_cancelled_and_running_ones_signaled(
    commands: Path, tmp_path: Path
) -> None:
    made = queue(tmp_path)
    made.stop([])
    assert called(commands) == []
    made.stop(["7_0", "7_1"])
    assert called(commands) == [
        "scancel --state=PENDING 7_0 7_1",
        "scancel --state=RUNNING --signal=USR1 7_0 7_1",
    ]


def test_what_is_refused_is_one_line(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = queue(tmp_path)
    say(commands, "sbatch", "sbatch: error: Batch job submission failed: no such partition", 1)
    with pytest.raises(slurm.Refused, match=r"submission failed: no such partition$"):
        made.submit(str, [["seed=0"]])
    with pytest.raises(UserError, match=r"partitoin.*lra_bench\[slurm\]"):
        queue(tmp_path, "hydra.launcher.partitoin=gpu")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(UserError, match='Could not detect "srun"'):
        queue(tmp_path)
