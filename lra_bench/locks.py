"""Locks that the system takes from a process when it ends, however it ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

# Whoever asks whether a lock is held disturbs it for as long at most [seconds].
_BLINK_SECONDS = 0.05
_BLINKS = 3


def take(path: Path) -> FileLock | None:
    """Return a lock that is held from now on, or None where another process holds it.

    Args:
        path: The file that is locked; its folder must be there.

    Raises:
        OSError: The folder cannot be written, or its file system has no locks.
    """
    lock = FileLock(path)
    for _ in range(_BLINKS):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            time.sleep(_BLINK_SECONDS)
        else:
            return lock
    return None


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
