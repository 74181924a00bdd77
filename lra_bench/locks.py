"""Locks that the system takes from a process when it ends, however it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lra_bench import files
from lra_bench.errors import UserError

# Whoever asks whether a lock is held disturbs it for as long at most [seconds].
_BLINK_SECONDS = 0.05
_BLINKS = 3
# Time between two looks at a lock that another process holds [seconds].
_PAUSE_SECONDS = 0.5


def take(path: Path) -> FileLock | None:
    """Return a lock that is held from now on, or None where another process holds it.

    Args:
        path: The file that is locked; its folder must be there.

    Raises:
        OSError: The folder cannot be written, or its file system has no locks.
    """
    _check_that_there_are_locks(path)
    lock = FileLock(path)
    for _ in range(_BLINKS):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            time.sleep(_BLINK_SECONDS)
        else:
            return lock
    return None


def _check_that_there_are_locks(path: Path) -> None:
    """Find out whether the system can lock a file there.

    Otherwise filelock would make do with a mark, which a process that is killed leaves behind.

    Raises:
        OSError: It cannot.
    """
    try:
        import fcntl
    except ImportError:
        return
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(number)


@contextmanager
def held(
    path: Path,
    *,
    wait: bool,
    owner: Callable[[], str],
    refusal: Callable[[str], UserError],
    risk: str,
    say: Callable[[str], None],
    check: Callable[[], None],
) -> Iterator[bool]:
    """Hold a lock, whoever has to be waited for; gives False where the folder has no locks.

    Args:
        path: The file that is locked; its folder must be there.
        wait: Wait for an owner to end; False to refuse at once.
        owner: Tells in words who holds it.
        refusal: Makes the error of these words.
        risk: What may happen where there are no locks.
        say: Is told whom is waited for, or that there are no locks.
        check: Called while waiting; may raise, to stop it.

    Raises:
        UserError: The refusal: somebody else holds it, and ``wait`` is False.
    """
    said = False
    lock = None
    try:
        while (lock := take(path)) is None:
            if not wait:
                raise refusal(owner())
            if not said:
                say(f"{owner()}; waiting for it (wait=false stops instead)")
                said = True
            check()
            time.sleep(_PAUSE_SECONDS)
    except OSError as error:
        say(f"warning: {path} cannot be locked ({files.reason(error)}): {risk}")
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def is_held(path: Path) -> bool | None:
    """Return whether a process holds a lock, on whatever machine; None if it cannot be known.

    Nothing is written: the folder may be somebody else's.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        number = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        # A shared lock is refused as long as somebody holds the other kind.
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(number)
    return False
