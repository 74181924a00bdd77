"""Noticing that somebody wants the work to stop, so that it can stop where it can be saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

# Windows has no SIGUSR1 and SIGUSR2.
SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; it has been saved.

    No `Exception`: a sweep must stop too, not go on with its next run.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Interrupt(AbstractContextManager["Interrupt"]):
    """Notices the signals that ask for an end, so that the loop can stop between two steps.

    SIGINT is Ctrl-C; SIGTERM is what Slurm and others send before they take a machine away, and
    SIGUSR1 what Slurm is asked to send some time before (``sbatch --signal=USR1@120``); submitit
    asks for SIGUSR2. A second signal of the same kind is not held back: it ends the process as
    usual.

    Args:
        stop_file: Asks for an end as SIGTERM does, from when it is there; looked for once a second.
        clock: Tells the time [seconds].
    """

    def __init__(
        self, stop_file: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.signal_number: int | None = None
        self.stop_file, self.clock = stop_file, clock
        self._looked_at = float("-inf")
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        """Begin to listen."""
        # Python hands signals to the main thread only; elsewhere there is nothing to listen to.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _notice(self, number: int, _: FrameType | None) -> None:
        # The first decides: a cluster may send several kinds, one soon after the other.
        self.signal_number = self.signal_number or number
        signal.signal(number, self._before[number])

    def noticed(self) -> int | None:
        """Return the number of the signal that has come; SIGTERM if the file is there."""
        if self.stop_file is not None and self.clock() - self._looked_at >= 1.0:
            self._looked_at = self.clock()
            if self.stop_file.exists():
                self.signal_number = self.signal_number or signal.SIGTERM
        return self.signal_number

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come, or the file is there."""
        number = self.noticed()
        if number is not None:
            raise Interrupted(number)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end work in the way that Ctrl-C does, which clears up, instead of at once.

    SIGUSR1 and SIGUSR2 likewise; see `Interrupt`.

    Raises:
        Interrupted: It came.
    """

    def end(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [number for number in SIGNALS if number != signal.SIGINT]
    before = {number: signal.signal(number, end) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
