"""Files: written whole or not at all, hashed, measured.

Tasks may import this; it needs nothing but the standard library.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lra_bench.errors import UserError

# A draft older than this belongs to no living process [seconds].
_ABANDONED_AFTER_SECONDS = 24 * 3600.0
_BLOCK = 1 << 20


def draft_of(path: Path) -> Path:
    """Return a name beside a file to write to before renaming.

    Two processes never share it, not even on two machines that share the folder.
    """
    owner = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[:150]}.{owner}.tmp")


@contextmanager
def atomic(path: Path, *, durable: bool = True, previous: Path | None = None) -> Iterator[Path]:
    """Give a name to write to; afterwards the file has the whole new content, or its old one.

    Args:
        path: The file; its folder is made if it is not there.
        durable: Flush content and name to the disk, so that they survive a loss of power; False
            for what is of no use afterwards.
        previous: The old file is kept under this name. Who is killed between the two renamings
            leaves this one alone.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        yield draft
        if durable:
            _flush(draft)
        if previous is not None and path.exists():
            path.replace(previous)
        draft.replace(path)
        if durable:
            _flush(path.parent)
    finally:
        # The error that led here matters more than one of clearing up.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            # Not every system opens a folder.
            return
        raise
    try:
        os.fsync(number)
    except OSError:
        # Nor does every file system flush one.
        if not path.is_dir():
            raise
    finally:
        os.close(number)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    Args:
        path: The file.
        content: What it holds afterwards.
        durable: See `atomic`.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is untouched.
    """
    with atomic(path, durable=durable) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_abandoned_drafts(path: Path) -> None:
    """Remove what processes that were killed left of a file; drafts of living ones stay.

    Of a process of another machine only the age of the draft tells.
    """
    oldest = time.time() - _ABANDONED_AFTER_SECONDS
    with suppress(OSError):
        for draft in path.parent.glob(f".{glob.escape(path.name[:150])}.*.tmp"):
            if _is_dead(draft) or draft.stat().st_mtime < oldest:
                draft.unlink(missing_ok=True)


def _is_dead(draft: Path) -> bool:
    """Return whether the process that made a draft ran here and has ended."""
    owner = re.fullmatch(r".*\.(.+)-(\d+)-[0-9a-f]{8}\.tmp", draft.name)
    # What PID namespaces hide from each other has host names of its own.
    if owner is None or not draft.name.endswith(f".{_host()}-{owner[2]}-{draft.name[-12:]}"):
        return False
    return has_ended(_host(), int(owner[2]))


def has_ended(host: str, pid: int) -> bool:
    """Return whether a process has ended, where that can be known: on this machine."""
    if host != _host():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _host() -> str:
    return socket.gethostname()[:40]


def check_writable(folder: Path, name: str) -> None:
    """Find out now, not after hours, that nothing could be written to a folder.

    Args:
        folder: Made if it is not there.
        name: What it is called in the message.

    Raises:
        UserError: It cannot be written; the text says why.
    """
    probe = draft_of(folder / "writable")
    remove_abandoned_drafts(folder / "writable")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"lra_bench")
    except OSError as error:
        raise UserError(
            f"cannot write to {name}={folder}: {reason(error)}; free some space or choose another "
            f"folder"
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """Return why the system refused, in words that name the remedy where there is one."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if error.errno == errno.EDQUOT:
        return "the quota of the disk is used up"
    return error.strerror or str(error)


def is_there(path: Path) -> bool:
    """Return whether there is such a file or folder; no text is too long or strange to ask."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def size_of(folder: Path) -> int:
    """Return the size of all files below a folder [bytes]."""
    return sum(
        (Path(base) / name).stat().st_size for base, _, names in os.walk(folder) for name in names
    )
