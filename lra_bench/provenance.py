"""Where a number comes from: code, versions, hardware, and what it took."""

from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("lra_bench", "torch", "numpy", "tensorflow-datasets", "hydra-core", "wandb", "pandas")

# mallopt's names for its parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the code and whether it was changed since; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        # A package that merely lies inside somebody's repository has no history there.
        if _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
            return None, None
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--", ":/lra_bench", ":/tasks", ":/conf")
    except FileNotFoundError:
        return None, None
    return commit, None if changed is None else bool(changed)


def _git(folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_device(device: torch.device) -> str:
    """Return the hardware in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


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
