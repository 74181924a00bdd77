"""The machine while it is measured: who else computes, what energy it takes, whose turn it is."""

from __future__ import annotations

import json
import os
import platform
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lra_bench import files, locks
from lra_bench.errors import UserError

# What a measurement may need of the memory that is free.
_SHARE_OF_FREE_MEMORY = 0.9


def num_cores() -> int:
    """Return the number of cores of the machine."""
    return os.cpu_count() or 1


def busy_seconds(stat: Path = Path("/proc/stat")) -> float | None:
    """Return the time that all cores together have computed since the machine started [seconds].

    What a hypervisor gave to other machines counts as well.

    Args:
        stat: Linux's file of it.

    Returns:
        None where the system does not tell.
    """
    try:
        name, *fields = stat.read_text().splitlines()[0].split()
        user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    except (OSError, ValueError, IndexError):
        return None
    if name != "cpu":
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def busy_cores(seconds: float) -> float | None:
    """Watch the machine for a while and return how many cores computed on average.

    Args:
        seconds: How long to watch.

    Returns:
        None where the system does not tell.
    """
    before, began = busy_seconds(), time.monotonic()
    time.sleep(seconds)
    after = busy_seconds()
    if before is None or after is None:
        return None
    return (after - before) / (time.monotonic() - began)


def memory_for_one_process(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return how much a process may take without putting the machine at risk [bytes].

    Args:
        meminfo: Linux's file of it.

    Returns:
        None where the system does not tell.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(_SHARE_OF_FREE_MEMORY * int(line.split()[1]) * 1024)
    return None


def limit_memory(limit_bytes: int) -> bool:
    """Let this process get no more memory than this, so that asking for more is an error.

    Without it the system would end some process, and not always the right one.

    Returns:
        Whether the system does so.
    """
    if platform.system() != "Linux":
        return False
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, hard))
    return True


class EnergyCounters:
    """Counters of energy that can be read here: of processors (RAPL), and of one GPU (NVML).

    They count what the whole part takes, whoever uses it.

    Args:
        gpu: NVML's UUID of the GPU that is measured, None for the processors.
        powercap: Linux's folder of processors' counters.
    """

    def __init__(
        self, *, gpu: str | None = None, powercap: Path = Path("/sys/class/powercap")
    ) -> None:
        self.domains = [] if gpu is not None else sorted(powercap.glob("intel-rapl:?"))
        self.gpu: Any = None if gpu is None else _nvml_handle(gpu)
        # A counter begins again at its range: what it had counted until then.
        self._before: dict[Path, int] = {}
        self._wrapped: dict[Path, int] = {}

    def joules(self) -> float | None:
        """Return the energy since some point in the past [J], None where nobody tells."""
        if self.gpu is not None:
            import pynvml

            with suppress(pynvml.NVMLError):
                return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self.gpu)) / 1e3
            return None
        try:
            return sum(map(self._microjoules, self.domains)) / 1e6 if self.domains else None
        except (OSError, ValueError):
            return None

    def _microjoules(self, domain: Path) -> int:
        now = int((domain / "energy_uj").read_text())
        if now < self._before.get(domain, 0):
            size = int((domain / "max_energy_range_uj").read_text())
            self._wrapped[domain] = self._wrapped.get(domain, 0) + size
        self._before[domain] = now
        return now + self._wrapped.get(domain, 0)


def _nvml_handle(uuid: str) -> Any:
    """Return what NVML calls a GPU, None where the library is missing or has no such GPU."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None


def lock_path() -> Path:
    """Return the file that is locked on this machine while something is measured."""
    return Path(tempfile.gettempdir()) / "lra_bench_speed.lock"


@contextmanager
def turn(
    path: Path,
    *,
    wait: bool,
    command: str,
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Keep others on this machine from measuring at the same time, which would spoil both.

    The system gives the lock back when its owner ends, however it ends.

    Args:
        path: The file to lock.
        wait: Wait for an owner to end; False to refuse at once.
        command: What the owner does, for others.
        say: Is told whom is waited for, or that there are no locks.
        check: Called while waiting; may raise, to stop it.

    Raises:
        UserError: Somebody else measures, and ``wait`` is False.
    """
    told = path.with_suffix(".json")
    with locks.held(
        path,
        wait=wait,
        owner=lambda: _owner(told),
        refusal=lambda who: UserError(f"{who}; give wait=true to wait for it"),
        risk="nothing else may measure meanwhile",
        say=say,
        check=check,
    ) as is_locked:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        me = {"host": socket.gethostname(), "pid": os.getpid(), "since": now, "command": command}
        with suppress(OSError):
            files.write_atomically(told, json.dumps(me))
        try:
            yield
        finally:
            if is_locked:
                with suppress(OSError):
                    told.unlink(missing_ok=True)


def _owner(told: Path) -> str:
    """Return in words who measures."""
    try:
        me = json.loads(told.read_text(encoding="utf-8"))
        who = f"process {me['pid']} on {me['host']}, since {me['since']}: {me['command']}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        who = f"{told.with_suffix('.lock')} is locked"
    return f"another measurement is under way on this machine ({who})"
