"""Finding raw files, in folders and archives, and reading them without trusting them.

Nothing is unpacked to disk: members are read as they come by. An archive is refused if it holds
what no data set needs and an attacker might want: names that climb out of its folder, links,
devices, sparse files, or more bytes than the task allows.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

from lra_bench.errors import UserError
from lra_bench.types import Progress, ProgressCallback, ignore_progress
from lra_tasks._checksums import status_of_file

# Where a folder of the release lies: the inner of the two copies that the archive has comes
# first; then the outer one; then the folder itself, put into the data folder by hand.
RELEASE_PREFIXES = ("lra_release/lra_release/", "lra_release/", "")
RELEASE_URL = "https://storage.googleapis.com/long-range-arena/lra_release.gz"
RELEASE_ARCHIVES = ("lra_release.gz", "lra_release.tar.gz", "lra_release.tgz", "lra_release.tar")
# Unpacked, the release has 18.6 GB.
RELEASE_MAX_BYTES = 64 << 30

# All headers of one member together: names and sizes fit a tenth. The library keeps what they say
# in memory, and some of its versions take a time quadratic in their length.
MAX_HEADER_BYTES = 32 << 10
_SKIP_BYTES = 1 << 20
# The highest level of compression takes 65 MB.
_XZ_MEMORY_BYTES = 256 << 20
_BROKEN = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    IndexError,
    OverflowError,
    RecursionError,
)


class _Refused(Exception):
    """An archive holds what it must not; the text completes 'it ...'."""


class _Forward(io.RawIOBase):
    """The bytes of a stream that can only be read forward, with upper limits.

    ``header_bytes_left`` is what the library may read before it is set anew; None is no limit.
    """

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._position = 0
        # tarfile looks at the byte before the next header: one must be kept.
        self._last = b""
        self._is_one_back = False
        self.header_bytes_left: int | None = None
        self.last_header = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position - self._is_one_back

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            raise _Refused(f"has a header of {size} bytes")
        if self.header_bytes_left is not None:
            self.header_bytes_left -= size
            if self.header_bytes_left < 0:
                raise _Refused(f"has a header of more than {MAX_HEADER_BYTES:,} bytes")
        return self._read(size)

    def _read(self, size: int) -> bytes:
        kept = b""
        if self._is_one_back and size:
            kept, self._is_one_back, size = self._last, False, size - 1
        data = self._stream.read(size) if size else b""
        self._position += len(data)
        if self._position > self._max_bytes:
            raise _Refused(f"unpacks to more than the {self._max_bytes:,} bytes that it may hold")
        if data:
            self._last = data[-1:]
        if len(kept) + size == tarfile.BLOCKSIZE:
            self.last_header = kept + data
        return kept + data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise _Refused("has members out of order")
        distance = offset - self.tell()
        if distance == -1 and self._last and not self._is_one_back:
            self._is_one_back = True
            distance = 0
        if distance < 0:
            raise _Refused("has members out of order")
        while distance:
            skipped = len(self._read(min(distance, _SKIP_BYTES)))
            if not skipped:
                break
            distance -= skipped
        return self.tell()


@dataclass(frozen=True)
class Member:
    """A file of a folder or an archive, to be read before the next one is asked for.

    Args:
        name: Its path, with slashes, below the folder that was asked for.
        size: What is said of its length [bytes].
        file: Its content.
        place: How to name it to a person.
        prefix: Which of the prefixes of an archive it was found under.
    """

    name: str
    size: int
    file: IO[bytes]
    place: str
    prefix: str = ""

    def read(self, max_bytes: int) -> bytes:
        """Return the content.

        Raises:
            UserError: It is longer than ``max_bytes``, or not as long as was said.
        """
        if self.size > max_bytes:
            raise UserError(
                f"{self.place} has {self.size:,} bytes, at most {max_bytes:,} are possible; it is "
                f"not what its name says, get it again"
            )
        # As many bytes as are asked for are reserved beforehand.
        data = self.file.read(self.size + 1)
        if len(data) != self.size:
            raise UserError(f"{self.place} was changed while it was read; run again")
        return data


@contextmanager
def guarded(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a broken archive causes into one clear error."""
    try:
        yield
    except UserError:
        raise
    except _Refused as error:
        raise UserError(f"{path} is refused: it {error}; {remedy}") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        why = str(error) or type(error).__name__
        raise UserError(f"{path} is broken or cut short ({why}); {remedy}") from error


def archive_members(
    path: Path,
    *,
    max_bytes: int,
    remedy: str,
    progress: ProgressCallback = ignore_progress,
) -> Iterator[Member]:
    """Yield the files of a tar archive, plain or compressed with gzip or xz, in its own order.

    Args:
        path: The archive; its name does not matter.
        max_bytes: What it may hold at most, unpacked.
        remedy: What to do if it is broken, for the message.
        progress: Told the bytes of the archive that have been read.

    Raises:
        UserError: It is broken, cut short, or refused. Raised where the harm shows: what has been
            yielded before was read correctly, but belongs to a bad archive.
    """
    with guarded(path, remedy):
        size = path.stat().st_size
        raw = path.open("rb")
    with raw:
        # What the consumer does between two members is not the archive's fault.
        walk = _walk(raw, path, max_bytes)
        reported = 0
        while True:
            with guarded(path, remedy):
                member = next(walk, None)
            if member is None:
                break
            yield Member(
                member.name,
                member.size,
                cast(IO[bytes], _Guarded(member.file, path, remedy)),
                member.place,
            )
            if raw.tell() - reported >= 1 << 22:
                reported = raw.tell()
                progress(Progress(f"reading {path.name} [bytes]", reported, size))
        progress(Progress(f"reading {path.name} [bytes]", size, size))


class _Guarded(io.RawIOBase):
    """A file inside an archive; what goes wrong in reading it is said of the archive."""

    def __init__(self, file: IO[bytes], path: Path, remedy: str) -> None:
        self._file, self._path, self._remedy = file, path, remedy

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with guarded(self._path, self._remedy):
            return self._file.read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        with guarded(self._path, self._remedy):
            return self._file.readline(-1 if size is None else size)


def _walk(raw: IO[bytes], path: Path, max_bytes: int) -> Iterator[Member]:
    forward = _Forward(_unpacked(raw), max_bytes)
    forward.header_bytes_left = MAX_HEADER_BYTES
    try:
        tar = tarfile.TarFile(fileobj=cast(IO[bytes], forward))
    except tarfile.ReadError as error:
        raise _Refused("is no tar archive, plain or compressed with gzip or xz") from error
    with tar:
        while (member := tar.next()) is not None:
            forward.header_bytes_left = None
            # The library keeps every header it has seen; a release has a million.
            cast(Any, tar).members.clear()
            name = _safe(member)
            if not member.isdir():
                file = tar.extractfile(member)
                assert file is not None, f"{name} is a regular file"
                yield Member(name, member.size, file, f"{path}, member {_shown(member.name)}")
            forward.header_bytes_left = MAX_HEADER_BYTES
    # The library takes a damaged header for the end.
    if not forward.last_header or forward.last_header.strip(b"\0"):
        raise tarfile.ReadError("the end is missing, or a header is damaged")
    # To the very end: there a compressed one has its checksum, and behind a header that was
    # overwritten with zeros the other members follow.
    forward.header_bytes_left = None
    while rest := forward.read(_SKIP_BYTES):
        if rest.count(0) != len(rest):
            raise tarfile.ReadError("it goes on behind its end")


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    """Return what a file holds, by its first bytes and not by its name."""
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    return cast(IO[bytes], _Xz(raw)) if magic == b"\xfd7zXZ\x00" else raw


class _Xz(io.RawIOBase):
    """The content of an xz file; the standard reader takes as much memory as the file says."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decompressor: lzma.LZMADecompressor | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts = []
        while size > 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        """Return at least a byte, nothing at the end."""
        while True:
            one = self._decompressor
            if one is not None and not one.eof:
                given = b"" if not one.needs_input else self._raw.read(_SKIP_BYTES)
                if one.needs_input and not given:
                    raise EOFError("it ends too early")
                if part := one.decompress(given, size):
                    return part
                continue
            # A file may be several, one after the other, with zeros in between.
            rest = (b"" if one is None else one.unused_data).lstrip(b"\0")
            while not rest:
                if not (given := self._raw.read(_SKIP_BYTES)):
                    return b""
                rest = given.lstrip(b"\0")
            self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
            if part := self._decompressor.decompress(rest, size):
                return part


def _shown(name: str) -> str:
    """Return a name as it may be printed: a stranger's can hold commands for the terminal."""
    return name if name.isprintable() else repr(name)


def _safe(member: tarfile.TarInfo) -> str:
    """Return the name of a member in plain form."""
    # Not with pathlib, which would remember the parts of a million names.
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or not {"\\", "\0"}.isdisjoint(member.name):
        raise _Refused(f"has a member {member.name!r} that climbs out of its folder")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise _Refused(f"has a member {member.name!r} that is a link or no plain file")
    if not parts and not member.isdir():
        raise _Refused(f"has a file named {member.name!r}")
    if member.size < 0:
        raise _Refused(f"has a member {member.name!r} of {member.size} bytes")
    return "/".join(parts)


@dataclass(frozen=True)
class RawFiles:
    """Where the raw files of a task were found.

    Args:
        path: A folder, or an archive.
        is_archive: Which of the two.
        prefixes: Where below it the files may lie, the best first; each empty or ending in a
            slash.
        found_as: How a folder was reached from the data folder; empty for its name.
    """

    path: Path
    is_archive: bool
    prefixes: Sequence[str] = ("",)
    found_as: str = field(default="", compare=False)

    @property
    def description(self) -> str:
        """What was read, for a record: no path of the machine."""
        if self.is_archive:
            return f"archive {self.path.name}"
        return f"folder {self.found_as or self.path.name}"


def find_release(data_dir: Path, folder: str, files: Sequence[str] = ()) -> RawFiles | None:
    """Look for a folder of the release: unpacked, in the release's archive, or in one of its own.

    Args:
        data_dir: Where to look; it may also be the release's folder itself.
        folder: Name of the folder in the release, for example ``listops-1000``.
        files: Files or folders one of which must be in it for a folder to count; where given, they
            are also looked for in ``data_dir`` itself.

    Returns:
        Where it is; for a folder the only prefix is empty. None if it is nowhere.
    """
    places = [f"{prefix}{folder}" for prefix in RELEASE_PREFIXES]
    if files:
        places.append("")
    for found_as in places:
        place = data_dir / found_as
        if place.is_dir() and (not files or any((place / name).exists() for name in files)):
            return RawFiles(place, is_archive=False, found_as=found_as)
    own = [f"{folder}{suffix}" for suffix in (".tar.gz", ".tgz", ".tar", ".gz")]
    for base in (data_dir, data_dir / "lra_release"):
        for name in (*own, *RELEASE_ARCHIVES):
            if (base / name).is_file():
                inside = [f"{prefix}{folder}/" for prefix in RELEASE_PREFIXES]
                if name in own:
                    inside.append("")
                return RawFiles(base / name, is_archive=True, prefixes=inside)
    return None


def members_of(
    source: RawFiles,
    is_wanted: Callable[[str], bool],
    *,
    max_bytes: int,
    remedy: str,
    progress: ProgressCallback = ignore_progress,
) -> Iterator[Member]:
    """Yield the wanted files of a source: of a folder sorted, of an archive as they come by.

    Of several prefixes only the first is used under which a wanted file lies.

    Args:
        source: Where to look.
        is_wanted: Told the path below the source's folder, with slashes.
        max_bytes: What an archive may hold at most, unpacked.
        remedy: What to do if it is broken, for the message.
        progress: Told the bytes of an archive that have been read.

    Raises:
        UserError: A file cannot be read, or the archive is broken, refused, or has a wanted file
            twice.
    """
    if not source.is_archive:
        yield from _folder_members(source.path, is_wanted, remedy)
        return
    for prefix in source.prefixes:
        seen: set[str] = set()
        for member in archive_members(
            source.path, max_bytes=max_bytes, remedy=remedy, progress=progress
        ):
            name = member.name.removeprefix(prefix)
            if member.name.startswith(prefix) and is_wanted(name):
                if name in seen:
                    raise UserError(f"{member.place} is there twice; {remedy}")
                seen.add(name)
                yield replace(member, name=name, prefix=prefix)
        if seen:
            return


def _folder_members(
    folder: Path, is_wanted: Callable[[str], bool], remedy: str
) -> Iterator[Member]:
    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename}: {error.strerror or error}") from error

    names = []
    for base, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        below = Path(base).relative_to(folder)
        names += [(below / name).as_posix() for name in files]
    for name in sorted(filter(is_wanted, names)):
        path = folder / name
        try:
            size = status_of_file(path).st_size
            file = path.open("rb")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        with file:
            yield Member(name, size, cast(IO[bytes], _Guarded(file, path, remedy)), str(path))
