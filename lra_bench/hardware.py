"""The machine: threads and how they wait, the allocator, memory, the device and its description.

Importing this does not import torch: how threads wait has to be settled before.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench.errors import UserError

if TYPE_CHECKING:
    import torch

# mallopt's names for its parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# OpenMP reads it once, when its library is loaded with torch.
_WAIT_POLICY = "OMP_WAIT_POLICY"


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, instead of spinning.

    Spinning threads take the cores from whatever else runs, two runs at once included, and a step
    takes several times as long. It is settled when torch is loaded, so this comes before; what the
    user has set stays.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(_WAIT_POLICY, "PASSIVE")


def num_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many cores this process may use.

    Args:
        environment: Variables that tell what Slurm has given, which it need not enforce.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return min(cores, cores_from_slurm(environment) or cores)


def cores_from_slurm(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return how many cores Slurm has given to this process; None outside of a job."""
    if "SLURM_JOB_ID" not in environment:
        return None
    given, on_node = (
        int(environment.get(name, 0)) for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
    )
    # Who asked for no number of cores a task is told how many there are for all of them.
    return given or on_node // _tasks_of_slurm(environment) or None


def _tasks_of_slurm(environment: Mapping[str, str]) -> int:
    """Return how many processes srun has started on this machine, by this and its like."""
    # "2(x3),1" is two on each of three machines and one on another.
    told = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    return int(told.split(",")[0].split("(")[0])


def choose_device(name: str, *, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """Return a device by its name; of several processes, each gets a GPU of its own.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        local_rank: The number of this process among those of the run on this machine.
        local_size: How many these are.

    Raises:
        UserError: There is no such device here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and local_size > 1:
        return _gpu_of(name, local_rank, local_size)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device={name}: PyTorch sees {torch.cuda.device_count()} GPUs here; use device=cpu, "
            f"or install a PyTorch with CUDA"
        )
    return device


def _gpu_of(name: str, local_rank: int, local_size: int) -> torch.device:
    """Return the GPU of one of several processes.

    Raises:
        UserError: There are too few, or a certain one was asked for.
    """
    import torch

    if name != "cuda":
        raise UserError(f"device={name}: each of {local_size} processes has its own; use cuda")
    number = torch.cuda.device_count()
    if number == 1 and "SLURM_STEP_NUM_TASKS" in os.environ:
        # Slurm shows each task its own GPU alone, as it does with --gpus-per-task.
        return torch.device("cuda", 0)
    if local_size > number:
        raise UserError(
            f"device=cuda: PyTorch sees {number} GPUs here, and each of {local_size} processes "
            f"needs one; use num_processes={max(1, number)}, or device=cpu"
        )
    return torch.device("cuda", local_rank)


def share_cores(local_size: int, environment: Mapping[str, str] = os.environ) -> None:
    """Let a process have as many threads as it has cores, of which others may have a part.

    What the user, or torchrun, has said in OMP_NUM_THREADS stays. What Slurm has given is kept to:
    not every cluster keeps a job from the cores of its neighbors.

    Args:
        local_size: Processes of the run on this machine.
        environment: Variables that tell what Slurm has given.
    """
    import torch

    given = cores_from_slurm(environment)
    if "OMP_NUM_THREADS" in environment or (local_size == 1 and given is None):
        return
    # Of what Slurm gives to each of several tasks nobody else has a part.
    shared_by = 1 if given is not None and _tasks_of_slurm(environment) > 1 else local_size
    torch.set_num_threads(max(1, num_cores(environment) // shared_by))


def describe(device: torch.device) -> str:
    """Return the hardware in words, with what was settled about threads."""
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    policy = os.environ.get(_WAIT_POLICY, "").strip().lower()
    waiting = f", waiting {policy}ly" if policy in ("passive", "active") else ""
    number = torch.get_num_threads()
    return f"{_cpu_name()}, {number} thread{'s' if number != 1 else ''}{waiting}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Start to measure the peak afresh, where the system can.

    Memory that an earlier run of this process has freed is given back first.
    """
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the highest memory use since the last reset [bytes].

    That of the whole process on the CPU, what was allocated for tensors on a GPU.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep large blocks instead of returning them to the system.

    Each activation of a training step is otherwise mapped and page-faulted anew, which can cost a
    third of the step on a CPU. The price is memory that stays with the process until it ends.

    Returns:
        Whether the allocator took it; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1))
