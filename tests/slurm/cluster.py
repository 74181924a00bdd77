"""A cluster of two nodes on this machine: Slurm's own daemons, in a temporary folder."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
# Two nodes that are one machine, a partition whose jobs are pre-empted after a time of grace, one
# whose jobs are at once, and one that pre-empts. What takes Slurm minutes by default (noticing that
# a node is silent, beginning again what was put back) takes seconds here.
_CONFIGURATION = """\
ClusterName=lra-bench-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=1
SlurmdTimeout=10
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=2
PartitionName=grace Nodes=ALL Default=YES PriorityTier=1 GraceTime=30 MaxTime=60
PartitionName=atonce Nodes=ALL PriorityTier=1 MaxTime=60
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=60
"""


@dataclass(frozen=True)
class Cluster:
    """The daemons, and Slurm's commands.

    Args:
        folder: Their configuration, logs and state.
        environment: Variables under which Slurm's commands find them.
    """

    folder: Path
    environment: dict[str, str]

    def call(self, *command: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *words: str) -> str:
        """Return the job that sbatch makes."""
        return self.call("sbatch", "--parsable", *words)

    def state(self, job: str) -> str:
        """Return the state of a job."""
        return self.call("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")

    def jobs(self) -> dict[str, str]:
        """Return the state of each job that has not ended."""
        told = self.call("squeue", "--noheader", "--array", "--format=%i %T")
        return dict(line.split() for line in told.splitlines())

    def start_node(self, name: str) -> None:
        """Start the daemon of a node."""
        self.call("slurmd", "-f", str(self.folder / "slurm.conf"), "-N", name)

    def kill_node(self, name: str) -> None:
        """Kill the daemon of a node, as if its machine had gone."""
        pid_file = self.folder / f"slurmd-{name}.pid"
        os.kill(int(pid_file.read_text()), signal.SIGKILL)

    def wait_for_nodes(self) -> None:
        """Wait until all nodes take jobs."""
        wait_until(
            lambda: self.call("sinfo", "-h", "-N", "-p", "grace", "-o", "%T") == "idle\nidle"
        )


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start a cluster; afterwards none of its processes is left."""
    munge = folder / "munge"
    munge.mkdir(mode=0o755)
    (munge / "key-file").write_bytes(secrets.token_bytes(128))
    (munge / "key-file").chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            folder=folder,
            ports=_free_ports(3),
        )
    )
    (folder / "state").mkdir()
    cluster = Cluster(folder, {**os.environ, "SLURM_CONF": str(configuration)})
    places = [f"--{name}={munge / name}" for name in ("socket", "key-file", "log-file", "pid-file")]
    try:
        # Its socket lies where others may write, in a test's folder.
        cluster.call("munged", "--force", *places, f"--seed-file={munge / 'seed'}")
        cluster.call("slurmctld", "-f", str(configuration))
        for name in ("node1", "node2"):
            cluster.start_node(name)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        with suppress(AssertionError):
            cluster.call("scancel", "--user", getpass.getuser())
            wait_until(lambda: not cluster.jobs())
        for pid_file in (*folder.glob("*.pid"), munge / "pid-file"):
            _end(pid_file)


def _end(pid_file: Path) -> None:
    """End the daemon that wrote its number to a file, and wait until it has gone."""
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        try:
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), seconds=20)
        except AssertionError:
            os.kill(pid, signal.SIGKILL)


def _free_ports(number: int) -> list[int]:
    """Return ports in a row that nobody listens to."""
    for first in range(20_000, 30_000, number):
        sockets: list[socket.socket] = []
        try:
            for port in range(first, first + number):
                sockets.append(socket.socket())
                sockets[-1].bind(("", port))
            return list(range(first, first + number))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("there is no free port")


def is_installed() -> bool:
    """Return whether the daemons are there."""
    return all(map(shutil.which, DAEMONS))


def wait_until(what: Callable[[], object], *, seconds: float = 120.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
