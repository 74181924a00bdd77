"""Noticing that somebody wants the work to stop, so that it can stop where it can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; it has been saved.

    No `Exception`: a sweep must stop too, not go on with its next run.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Interrupt(AbstractContextManager["Interrupt"]):
    """Notices SIGINT and SIGTERM, so that the loop can stop between two steps.

    A second signal is not held back: it ends the process as usual.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        """Begin to listen."""
        # Python hands signals to the main thread only; elsewhere there is nothing to listen to.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        self._restore()

    def _notice(self, number: int, _: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end work in the way that Ctrl-C does, which clears up, instead of at once.

    Raises:
        Interrupted: It came.
    """

    def end(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
