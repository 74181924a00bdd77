"""Starting processes of one's own, which end when this one does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any


def start(process: BaseProcess) -> None:
    """Start a process so that it imports nothing of a script, and Ctrl-C does not end it at once.

    Ctrl-C goes to every process of a terminal: it is held back there until `hear_interrupts`, and
    what comes meanwhile reaches this one afterwards.
    """
    with _interrupts_held(), _main_hidden(), _known_start_method():
        process.start()


def hear_interrupts() -> None:
    """Let Ctrl-C reach this process, which `start` has started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def end_with_parent() -> None:
    """See to it that this process ends when its parent is gone, which may have been killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


@contextmanager
def _known_start_method() -> Iterator[None]:
    """Keep from a process what joblib calls its own way of starting, which it would not know."""
    method = multiprocessing.get_start_method(allow_none=True)
    if method in (None, *multiprocessing.get_all_start_methods()):
        yield
        return
    multiprocessing.set_start_method("spawn", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(method, force=True)


@contextmanager
def _main_hidden() -> Iterator[None]:
    main = sys.modules["__main__"]
    names = ("__spec__", "__file__")
    hidden: dict[str, Any] = {name: vars(main)[name] for name in names if name in vars(main)}
    try:
        main.__spec__ = None
        vars(main).pop("__file__", None)
        yield
    finally:
        vars(main).update(hidden)
