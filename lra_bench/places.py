"""Where a process stands among those of its run: what torchrun, Slurm or the user says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

from lra_bench.errors import UserError

# Runs that this process has done with others; their words must not be mixed.
_numbers = count()


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of its run.

    Args:
        rank: Its number.
        size: How many there are.
        local_rank: Its number on this machine.
        local_size: How many there are on this machine.
        address: The machine of the first.
        port: Where it listens; 0 as long as nobody does.
        is_hosted: Somebody else has made the store there, as torchrun does.
        number: Of the run, where the same processes do several.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    port: int = 0
    is_hosted: bool = False
    number: int = 0


def started_place(environ: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that torchrun or Slurm has given to this process, None if it is alone.

    Raises:
        UserError: What they say makes no sense.
    """
    try:
        if "RANK" in environ and "WORLD_SIZE" in environ:
            found = _of_torchrun(environ)
        elif "SLURM_STEP_NUM_TASKS" in environ and "SLURM_PROCID" in environ:
            # `srun` sets it for each of its tasks. A script has SLURM_NTASKS too, and is alone.
            found = _of_slurm(environ)
        else:
            return None
    except (KeyError, ValueError) as error:
        raise UserError(
            f"this process was started as one of several, and its environment does not tell "
            f"which: {error!r:.100}; use torchrun, srun or num_processes=N"
        ) from error
    if not 0 <= found.rank < found.size:
        raise UserError(f"this process has rank {found.rank} of {found.size}; it must be less")
    return found if found.size > 1 else None


def speaks() -> bool:
    """Return whether this process is the one of its run that people hear: the first, or alone."""
    try:
        found = started_place()
    except UserError:
        return True
    return found is None or found.rank == 0


def _of_torchrun(environ: Mapping[str, str]) -> Place:
    size = int(environ["WORLD_SIZE"])
    if size == 1:
        return Place()
    rank = int(environ["RANK"])
    return Place(
        rank,
        size,
        int(environ.get("LOCAL_RANK", rank)),
        int(environ.get("LOCAL_WORLD_SIZE", size)),
        environ["MASTER_ADDR"],
        int(environ["MASTER_PORT"]),
        environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _of_slurm(environ: Mapping[str, str]) -> Place:
    size = int(environ["SLURM_STEP_NUM_TASKS"])
    if size == 1:
        return Place()
    nodes = environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"]
    # Two jobs may share a machine, and two steps a job.
    number = int(environ["SLURM_JOB_ID"]) * 8 + int(environ.get("SLURM_STEP_ID", 0))
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", str(size))
    alone = environ.get("SLURM_STEP_NUM_NODES") == "1"
    return Place(
        int(environ["SLURM_PROCID"]),
        size,
        int(environ["SLURM_LOCALID"]),
        # As many as on the first node; "2(x3),1" is two on each of three nodes and one on another.
        int(tasks.split(",")[0].split("(")[0]),
        # One node needs no name, which not every network knows.
        environ.get("MASTER_ADDR") or ("127.0.0.1" if alone else first_host(nodes)),
        int(environ.get("MASTER_PORT") or 20_000 + number % 20_000),
    )


def first_host(nodes: str) -> str:
    """Return the first machine of a list as Slurm writes it, such as ``gpu[003-007,9],cpu1``."""
    name, bracket, rest = nodes.partition("[")
    if "," in name or not bracket:
        return name.split(",")[0]
    inside, _, behind = rest.partition("]")
    return name + inside.split(",")[0].split("-")[0] + behind.split(",")[0].split("[")[0]


def place(asked: int) -> Place:
    """Return where this process stands among those that the environment or ``asked`` tell of.

    Args:
        asked: ``num_processes`` of the configuration.

    Raises:
        UserError: They contradict each other.
    """
    found = started_place()
    if found is None:
        return Place(size=asked, local_size=asked)
    if asked not in (1, found.size):
        raise UserError(
            f"num_processes={asked}, but {found.size} processes were started already; leave it out"
        )
    return replace(found, number=next(_numbers))
