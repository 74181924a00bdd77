"""What tells raw files from others: their checksum, remembered until they are touched."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.files import reason, sha256_of, write_atomically


def status_of_file(path: Path) -> os.stat_result:
    """Return the status of what can be opened: a pipe would be waited on for ever.

    Raises:
        UserError: It is no plain file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"cannot read {path}: it is no plain file")
    return status


def identity_of(
    path: Path, cache_dir: Path, *, checksum_of: Callable[[Path], str] = sha256_of
) -> str:
    """Return the SHA-256 (hex) of a file, remembered for as long as the file is not touched.

    Opening prepared data must not read gigabytes only to learn which data they are.

    Args:
        path: The file.
        cache_dir: Folder of prepared data, where checksums are remembered.
        checksum_of: Reads the file.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return _remembered(
            f"{path.resolve()} {_touched(path)}", cache_dir, lambda: checksum_of(path)
        )
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error


def identity_of_folder(folder: Path, is_wanted: Callable[[str], bool], cache_dir: Path) -> str:
    """Return a SHA-256 (hex) of the names and contents of files; see `identity_of`.

    Args:
        folder: Where they lie, at any depth.
        is_wanted: Told the path of one below the folder, with slashes.
        cache_dir: Folder of prepared data.

    Raises:
        UserError: One cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    def checksum() -> str:
        return _digest("\n".join(f"{sha256_of(folder / name)} {name}" for name in names))

    try:
        names = sorted(
            name
            for base, _, files in os.walk(folder, onerror=refuse)
            for name in ((Path(base) / file).relative_to(folder).as_posix() for file in files)
            if is_wanted(name)
        )
        # One note for all of them: there may be ten thousands.
        touched = _digest("\n".join(f"{_touched(folder / name)} {name}" for name in names))
        return _remembered(f"{folder.resolve()} {touched}", cache_dir, checksum)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {reason(error)}") from error


def _touched(path: Path) -> str:
    """Return what changes when a file is touched."""
    status = status_of_file(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _remembered(seen: str, cache_dir: Path, make: Callable[[], str]) -> str:
    """Return a checksum that was made of what was seen, or make it."""
    note = cache_dir / "checksums" / f"{_digest(seen)[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known == _note(seen, known["sha256"]):
            return str(known["sha256"])
    checksum = make()
    # Without the note the next call only takes longer.
    with suppress(OSError):
        write_atomically(note, json.dumps(_note(seen, checksum)))
    return checksum


def _note(seen: str, checksum: str) -> dict[str, str]:
    return {"seen": seen, "sha256": checksum, "check": _digest(f"{seen} {checksum}")}


def _digest(text: str) -> str:
    # Names of files need not be UTF-8.
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def identity_of_all(paths: Sequence[Path], cache_dir: Path) -> str:
    """Return what tells some files that belong together from others; see `identity_of`.

    Raises:
        UserError: One is missing, or cannot be read.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)} is missing; put it there")
    return " ".join(identity_of(path, cache_dir) for path in paths)
