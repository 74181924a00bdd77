"""Files: written whole or not at all, hashed, measured.

Tasks may import this; it needs nothing but the standard library.
"""

from __future__ import annotations

import errno
import hashlib
import os
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
    owner = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name[:150]}.{owner}.tmp")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a name to write to; afterwards the file has the whole new content, or its old one.

    What has been written is flushed to the disk before it takes the name.

    Args:
        path: The file; its folder is made if it is not there.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        # The error that led here matters more than one of clearing up.
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the whole new one, never a part.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is untouched.
    """
    with atomic(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)


def remove_abandoned_drafts(path: Path) -> None:
    """Remove what processes that were killed left of a file; drafts of living ones stay."""
    oldest = time.time() - _ABANDONED_AFTER_SECONDS
    with suppress(OSError):
        for draft in path.parent.glob(f".{path.name[:150]}.*.tmp"):
            if draft.stat().st_mtime < oldest:
                draft.unlink(missing_ok=True)


def check_writable(folder: Path, name: str) -> None:
    """Find out now, not after hours, that nothing could be written to a folder.

    Args:
        folder: Made if it is not there.
        name: What it is called in the message.

    Raises:
        UserError: It cannot be written; the text says why.
    """
    probe = draft_of(folder / "writable")
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
