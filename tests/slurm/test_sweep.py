"""Sweeps over Slurm: what is done is not handed in, what is lost is handed in again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import Any

import pytest
from faults.harness import numbers

from slurm.cluster import wait_until
from slurm.conftest import OnCluster

pytestmark = pytest.mark.slurm

SHORT = ("train.num_steps=6", "train.eval_every=3")
Numbers = dict[int, dict[str, Any]]


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """Return what a sweep has said on stderr, once it has ended."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


def equal(bench: OnCluster, undisturbed: Numbers) -> None:
    """Check that the runs have the numbers of runs that nobody has disturbed."""
    found = bench.records()
    assert {seed: numbers(record) for seed, record in found.items()} == undisturbed


def resumes(bench: OnCluster) -> list[int]:
    return [record.num_resumes for _, record in sorted(bench.records().items())]


def test_only_what_is_not_done_is_handed_in(bench: OnCluster) -> None:
    rates = "train.learning_rate=1e-3,1e30"
    asked = (*SHORT, rates, "train.max_grad_norm=null", "quiet=false")
    said = ended(bench.sweep(*asked), 1)
    assert re.search(r"^handed in 4 jobs: (\d+)_0 to \1_3$", said, re.MULTILINE), said
    assert "2 done, 2 diverged, in " in said
    said = ended(bench.sweep(*asked), 1)
    assert "handed in 2 jobs" in said
    assert "2 reused, 2 diverged, in " in said
    said = ended(bench.sweep(*asked, rates.split(",")[0]))
    assert "handed in" not in said
    assert "2 reused, in " in said
    assert not bench.cluster.jobs()


def test_the_machine_fails_a_run_and_it_is_tried_again(bench: OnCluster) -> None:
    """A cache that cannot be written on the node fails the run, not the sweep."""
    (bench.folder / "cache").write_text("a file")
    said = ended(bench.sweep(*SHORT, f"cache_dir={bench.folder / 'cache'}"), 1)
    assert "2 failed, in " in said
    assert said.count("  failed: ") == 2
    assert "the same line does what is left, and tries again what failed" in said
    assert "failed" in bench.status()
    (bench.folder / "cache").unlink()
    assert "2 done, in " in ended(bench.sweep(*SHORT, f"cache_dir={bench.folder / 'cache'}"))


def test_what_slurm_refuses_is_one_line(bench: OnCluster) -> None:
    said = ended(bench.sweep("hydra.launcher.partition=nothing"), 2)
    assert "Slurm does not take the jobs: Batch job submission failed: Invalid partition" in said
    said = ended(bench.sweep("hydra.launcher.partitoin=grace"), 2)
    assert re.search(r"^lra-bench: .*partitoin.*", said, re.MULTILINE), said


def test_a_killed_job_goes_on_from_its_checkpoint(bench: OnCluster, undisturbed: Numbers) -> None:
    sweep = bench.sweep()
    victim, other = bench.wait_until_trained(2, step=700)
    said = bench.status()
    assert said.startswith("2 running, 0 failed, 0 interrupted, 0 waiting, 0 done\n")
    for live in (victim, other):
        assert f"process {live.pid} on {live.host}, Slurm job {live.job}" in said
    os.kill(victim.pid, signal.SIGKILL)
    said = ended(sweep)
    assert f": its job {victim.job} ended (failed); handing it in again\n" in said
    assert "2 done, in " in said
    equal(bench, undisturbed)
    assert sorted(resumes(bench)) == [0, 1]


def test_a_job_that_was_cancelled_is_not_handed_in_again(bench: OnCluster) -> None:
    sweep = bench.sweep()
    victim, _ = bench.wait_until_trained(2)
    bench.cluster.call("scancel", victim.job)
    said = ended(sweep, 1)
    assert "1 interrupted, 1 done, in " in said or "1 done, 1 interrupted, in " in said
    assert f": its job {victim.job} was cancelled\n" in said
    assert bench.status().startswith("0 running, 0 failed, 1 interrupted, 0 waiting, 1 done\n")
    assert "1 done, 1 reused" in ended(bench.sweep()).replace(
        "1 reused, 1 done", "1 done, 1 reused"
    )


def test_jobs_that_never_begin_are_given_up(bench: OnCluster) -> None:
    said = ended(bench.sweep("hydra.launcher.setup=['exit 1']", seeds="0"), 1)
    assert said.count("before it began, see ") == 2
    assert "1 failed, in " in said
    assert ": 3 jobs ended before they began with it; see " in said


@pytest.mark.parametrize("partition", ["grace", "atonce"])
def test_a_preempted_job_goes_on(bench: OnCluster, undisturbed: Numbers, partition: str) -> None:
    """With a time of grace it saves and is handed in again; without, Slurm puts it back itself."""
    sweep = bench.sweep(f"hydra.launcher.partition={partition}")
    bench.wait_until_trained(2, step=700)
    bench.cluster.submit("--partition=urgent", "--exclusive", "--nodelist=node1", "--wrap=sleep 2")
    said = ended(sweep)
    assert "2 done, in " in said
    if partition == "grace":
        assert " after it had saved; handing it in again\n" in said
    else:
        assert "Slurm has put its job" in said or "after it had saved" in said
    equal(bench, undisturbed)
    assert sorted(resumes(bench)) == [0, 1]


def test_a_job_that_runs_out_of_time_saves_and_goes_on(bench: OnCluster) -> None:
    """Slurm sends SIGUSR2 so long before the minute is over that no run can be done by then."""
    time = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=50")
    longer = "train.num_steps=20000"
    said = ended(bench.sweep(*time, longer, seeds="0"))
    assert " after it had saved; handing it in again\n" in said
    (disturbed,) = bench.records().values()
    assert disturbed.num_resumes >= 1
    ended(bench.start("run", *bench.words, "seed=0", longer, "force=true"))
    (undisturbed,) = bench.records().values()
    assert undisturbed.num_resumes == 0
    assert numbers(disturbed) == numbers(undisturbed)


def test_a_node_that_goes_down(bench: OnCluster, undisturbed: Numbers) -> None:
    sweep = bench.sweep()
    bench.wait_until_trained(2, step=700)
    cluster = bench.cluster
    cluster.call("scontrol", "update", "nodename=node1", "state=down", "reason=test")
    wait_until(lambda: bench.status().startswith("1 running, 0 failed, 1 interrupted"))
    cluster.call("scontrol", "update", "nodename=node1", "state=resume")
    said = ended(sweep)
    assert re.search(r": Slurm has put its job \d+_\d back into the queue$", said, re.MULTILINE)
    equal(bench, undisturbed)
    assert sorted(resumes(bench)) == [0, 1]


def test_a_node_whose_machine_has_gone(bench: OnCluster, undisturbed: Numbers) -> None:
    """All that ran on it is killed, Slurm's daemons too; the sweep as well, and asked for again."""
    sweep = bench.sweep()
    live = bench.wait_until_trained(2, step=700)
    cluster = bench.cluster
    on_node1 = cluster.call("squeue", "-h", "-r", "-w", "node1", "-o", "%i").split()
    cluster.kill_node("node1")
    sweep.kill()
    for one in live:
        if one.job in on_node1:
            os.kill(one.pid, signal.SIGKILL)
    assert bench.status().startswith("1 running, 0 failed, 1 interrupted, 0 waiting, 0 done\n")
    assert "its process has gone" in bench.status()
    again = bench.sweep()
    cluster.start_node("node1")
    said = ended(again)
    assert "the same run is under way: process" in said
    assert "waiting for it (wait=false stops instead)" in said
    equal(bench, undisturbed)
    assert sorted(resumes(bench)) == [0, 1]


def test_a_signal_to_the_sweep_reaches_its_jobs(bench: OnCluster, undisturbed: Numbers) -> None:
    bench.cluster.submit("--exclusive", "--nodelist=node2", "--wrap=sleep 60")
    sweep = bench.sweep()
    bench.wait_until_trained(1)
    sweep.send_signal(signal.SIGTERM)
    said = ended(sweep, 143)
    # The one in the queue may be gone from it by then.
    assert re.search(r"told (1 job|2 jobs) to save and to end", said)
    assert "1 interrupted, 1 not begun, in " in said
    assert len(bench.cluster.jobs()) == 1
    bench.cluster.call("scancel", *bench.cluster.jobs())
    assert "2 done, in " in ended(bench.sweep())
    equal(bench, undisturbed)
    assert sorted(resumes(bench)) == [0, 1]
