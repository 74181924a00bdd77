"""Single runs as jobs: the scripts of docs/cluster.md, several ranks, pre-emption, requeuing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from faults.harness import numbers

from slurm.cluster import wait_until
from slurm.conftest import OnCluster

pytestmark = pytest.mark.slurm

DOCS = Path(__file__).parents[2] / "docs/cluster.md"


def script(bench: OnCluster, name: str, words: str) -> Path:
    """Return a script of the documentation, with the words of a run instead of its own."""
    blocks: list[str] = re.findall(r"^```bash\n(#!.*?)^```", DOCS.read_text(), re.M | re.S)
    (text,) = [block for block in blocks if f"--job-name={name}\n" in block]
    text, number = re.subn(
        r"lra-bench run .*?(?= &| \|\||$)", f"lra-bench run {words}", text, flags=re.M
    )
    assert number == 1, text
    # What this machine has not.
    text = re.sub(r"^#SBATCH --(gpus|mem|time|partition).*\n", "", text, flags=re.M)
    text = re.sub(r"--cpus-per-task=\d+", "--cpus-per-task=1", text)
    path = bench.folder / f"{name}.sh"
    path.write_text(text)
    return path


def submit(bench: OnCluster, path: Path, *words: str) -> str:
    environment = {**bench.cluster.environment}
    bench.cluster.environment.update(bench.environment)
    try:
        return bench.cluster.submit(f"--chdir={bench.folder}", "--time=5", *words, str(path))
    finally:
        bench.cluster.environment.clear()
        bench.cluster.environment.update(environment)


def wait_for(bench: OnCluster, job: str) -> str:
    """Return the last state of a job, once it has ended."""
    wait_until(lambda: job not in bench.cluster.jobs(), seconds=240)
    return bench.cluster.state(job)


def said(bench: OnCluster) -> str:
    return "\n".join(path.read_text() for path in bench.folder.glob("*.out"))


@pytest.mark.parametrize("how", ["requeue", "preempt", "atonce", "signal"])
def test_the_script_of_a_run_goes_on_after_whatever_befalls_it(
    bench: OnCluster, undisturbed: dict[int, dict[str, Any]], how: str
) -> None:
    path = script(bench, "lra-run", " ".join([*bench.words, "seed=0"]))
    partition = "atonce" if how == "atonce" else "grace"
    job = submit(bench, path, f"--partition={partition}", "--nodelist=node1", "--exclusive")
    bench.wait_until_trained(step=700)
    cluster = bench.cluster
    assert f"Slurm job {job}" in bench.status()
    if how == "requeue":
        cluster.call("scontrol", "requeue", job)
    elif how == "signal":
        # What --signal=USR1@... does some time before the end.
        cluster.call("scancel", "--signal=USR1", job)
    else:
        words = ("--partition=urgent", "--exclusive", "--nodelist=node1", "--wrap=sleep 2")
        cluster.submit(*words)
    wait_until(lambda: cluster.state(job) != "RUNNING")
    assert wait_for(bench, job) == "COMPLETED", said(bench)
    record = bench.records()[0]
    assert record.num_resumes == 1, said(bench)
    assert numbers(record) == undisturbed[0]
    assert "Traceback" not in said(bench)


def test_a_run_of_two_ranks(bench: OnCluster, undisturbed: dict[int, dict[str, Any]]) -> None:
    """It goes on after a signal, and computes what one process does but for the last digits."""
    path = script(bench, "lra-ranks", " ".join([*bench.words, "seed=0"]))
    job = submit(bench, path)
    bench.wait_until_trained(step=300)
    bench.cluster.call("scancel", "--signal=USR1", job)
    assert wait_for(bench, job) == "COMPLETED", said(bench)
    record = bench.records()[0]
    assert (record.num_processes, record.num_resumes) == (2, 1), said(bench)
    assert record.curve[0]["train_loss"] == pytest.approx(
        undisturbed[0]["curve"][0]["train_loss"], rel=1e-2
    )
    assert "Traceback" not in said(bench)


def test_a_sweep_whose_jobs_have_two_ranks(bench: OnCluster) -> None:
    words = ("hydra.launcher.tasks_per_node=2", "hydra.launcher.cpus_per_task=1")
    sweep = bench.sweep(*words)
    live, _ = bench.wait_until_trained(2, step=300)
    bench.cluster.call("scancel", "--signal=USR2", live.job)
    _, errors = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, errors
    assert f": its job {live.job} ended (completed) after it had saved; handing it in" in errors
    found = bench.records()
    assert [record.num_processes for record in found.values()] == [2, 2]
    assert sorted(record.num_resumes for record in found.values()) == [0, 1]
