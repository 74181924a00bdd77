"""The cluster, and runs on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faults.harness import numbers

from lra_bench import record as records
from lra_bench.record import RunRecord
from lra_bench.runs import LiveStatus
from slurm.cluster import Cluster, is_installed, running, wait_until

# Set by `make test-slurm`, which installs Slurm.
ASKED = "LRA_BENCH_SLURM"
# A run of some ten seconds.
RUN = (
    *("task=listops", "model=local", "setting=smoke", "num_threads=1", "train.num_steps=2000"),
    *("train.eval_every=500", "checkpoint_seconds=2", "checkpoint_share=0.2", "quiet=true"),
)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster of two nodes, which ends with the tests."""
    if ASKED not in os.environ:
        pytest.skip(f"needs Slurm: make test-slurm ({ASKED}=1 takes what is installed)")
    assert is_installed(), f"{ASKED} is set, but munged, slurmctld or slurmd is not installed"
    pytest.importorskip("submitit")
    # Otherwise it would leave the daemons behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@dataclass
class OnCluster:
    """Runs of one results folder, asked for on a machine of the cluster.

    Args:
        cluster: The cluster.
        folder: Holds the results folder, and what the processes say.
        words: What every run is asked for.
        started: The processes.
    """

    cluster: Cluster
    folder: Path
    words: Sequence[str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, sys.path))
        places = {"PYTHONPATH": path, "PATH": f"{self.folder}:{os.environ['PATH']}"}
        return {**self.cluster.environment, **places}

    def install(self) -> None:
        """Put the command line where the jobs find it."""
        script = self.folder / "lra-bench"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lra_bench.cli "$@"\n')
        script.chmod(0o755)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command line."""
        process = subprocess.Popen(
            ["lra-bench", *words],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def sweep(self, *words: str, seeds: str = "0,1") -> subprocess.Popen[str]:
        """Start a sweep over Slurm."""
        launcher = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5")
        cores = "hydra.launcher.cpus_per_task=2"
        asked = [*self.words, f"seed={seeds}", *launcher, cores, *words]
        # The last word on an option counts.
        keys = {word.partition("=")[0]: word for word in asked}
        return self.start("run", "-m", *keys.values())

    def status(self) -> str:
        """Return what `lra-bench status` says."""
        said, errors = self.start("status", "results").communicate(timeout=120)
        assert not errors
        return said

    def wait_until_trained(self, num_runs: int = 1, step: int = 100) -> list[LiveStatus]:
        """Wait until runs have made steps; return how they stand."""

        def training() -> list[LiveStatus]:
            for process in self.started:
                # Who has ended makes no steps any more.
                assert process.poll() in (None, 0), process.communicate()
            read = map(LiveStatus.read, sorted((self.results / "live").glob("*.json")))
            return [live for live in read if live and live.done >= step]

        wait_until(lambda: len(training()) >= num_runs)
        return training()

    def records(self) -> dict[int, RunRecord]:
        """Return the records by their seeds."""
        read = [records.read(path) for path in (self.results / "runs").rglob("*.json")]
        return {record.seed: record for record in read}


@pytest.fixture
def bench(cluster: Cluster, cache_dir: Path, tmp_path: Path) -> Iterator[OnCluster]:
    """Return an empty results folder."""
    cluster.wait_for_nodes()
    words = [*RUN, f"cache_dir={cache_dir}", "results_dir=results"]
    made = OnCluster(cluster, tmp_path, words)
    made.install()
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
    cluster.call("scancel", "--user", str(os.getuid()))


@pytest.fixture(scope="session")
def undisturbed(
    cluster: Cluster, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Any]]:
    """Return the numbers of runs that nobody disturbs, by their seeds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    bench = OnCluster(cluster, folder, [*RUN, f"cache_dir={cache_dir}", "results_dir=results"])
    bench.install()
    _, errors = bench.start("run", "-m", *bench.words, "seed=0,1").communicate(timeout=300)
    found = bench.records()
    assert sorted(found) == [0, 1], errors
    return {seed: numbers(record) for seed, record in found.items()}
