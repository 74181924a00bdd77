"""Work done ahead by as many processes as there are cores, its results taken in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from lra_bench.errors import UserError

A = TypeVar("A")
R = TypeVar("R")


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    function: Callable[[A], R], arguments: Iterable[A], *, num_workers: int
) -> Generator[R, None, None]:
    """Yield ``function(argument)`` for each argument; these may go on for ever.

    Args:
        function: Of the top level of a module, so that another process finds it; not of the
            script that is run, which the processes do not import.
        arguments: Small things that can be pickled.
        num_workers: Processes; with one, the work is done here.

    Raises:
        UserError: A process was killed.
    """
    if num_workers <= 1:
        yield from map(function, arguments)
        return
    with ExitStack() as stack:
        pool = ProcessPoolExecutor(
            num_workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
        )
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        ahead: deque[Future[R]] = deque()
        try:
            for argument in arguments:
                with _interrupts_held(), _main_hidden():
                    ahead.append(pool.submit(function, argument))
                if len(ahead) > 2 * num_workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that prepares data was ended from outside, perhaps for want of "
                "memory; run again"
            ) from error


def _begin_worker() -> None:
    # Ctrl-C goes to every process of a terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone: one that was killed could not tell it to."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep processes that are started from importing what this one runs.

    Nothing of a script or a notebook is needed by them, and one without ``if __name__ ==
    "__main__"`` would begin its work again in each.
    """
    main = sys.modules["__main__"]
    names = ("__spec__", "__file__")
    hidden: dict[str, Any] = {name: vars(main)[name] for name in names if name in vars(main)}
    try:
        main.__spec__ = None
        vars(main).pop("__file__", None)
        yield
    finally:
        vars(main).update(hidden)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait while processes are started: a pool that is half set up cannot be ended.

    The processes inherit that the signal is held back, so that none dies of it before it has
    learned to ignore it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(*came[0])
