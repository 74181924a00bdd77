"""The released Pathfinder images: finding them, their metadata, their PNG files, their order."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.files import reason
from lra_bench.types import SPLITS, ProgressCallback, Split
from lra_tasks._checksums import identity_of
from lra_tasks._pathfinder_draw import Difficulty, Images
from lra_tasks._sources import (
    RELEASE_MAX_BYTES,
    RELEASE_URL,
    Member,
    RawFiles,
    find_release,
    members_of,
)
from lra_tasks.cached_task import Source

FOLDERS: dict[Difficulty, str] = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}
_CHUNK_BYTES = 16 << 20

_METADATA = re.compile(r"metadata/([0-9]{1,9})\.npy")
_IMAGE = re.compile(r"imgs/[0-9]{1,9}/sample_[0-9]{1,9}\.png")
_LENGTH = re.compile(rb"[0-9]{1,4}")
_NUM_FIELDS = 11
_MAX_METADATA_BYTES = 64 << 20
_MAX_PNG_BYTES = 1 << 20
# The head of a NumPy array of texts; Python 2 wrote an L behind whole numbers.
_ARRAY = re.compile(
    rb"\x93NUMPY[\x01\x02]\x00(?s:.{2}|.{4})\{'descr': '([<>|])([SU])([0-9]{1,6})', "
    rb"'fortran_order': False, 'shape': \(([0-9]{1,9})L?, 11L?\), \} *\n"
)
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of metadata.

    Args:
        name: Path of the image below the folder of its difficulty.
        label: 1 where both discs sit on one contour.
        number: Its line in the metadata file, from 1.
        contour_length: Strokes of a target; None if the file says something else.
    """

    name: str
    label: int
    number: int
    contour_length: int | None = None


def parse_metadata(content: bytes, place: str) -> list[Row]:
    """Read a metadata file: text in spite of its name, or an array of texts.

    Raises:
        UserError: A line is not one of eleven fields, names no image, or has another label than 0
            or 1.
    """
    if content.startswith(b"\x93NUMPY"):
        lines = _array_lines(content, place)
    else:
        whole = content.removesuffix(b"\n").split(b"\n") if content else []
        lines = [line.rstrip(b"\r").split(b" ") for line in whole]
    rows = []
    for number, fields in enumerate(lines, start=1):
        name = b"/".join(fields[:2]).decode("ascii", errors="replace")
        label = fields[3] if len(fields) == _NUM_FIELDS else b""
        if not _IMAGE.fullmatch(name) or label not in (b"0", b"1"):
            raise UserError(
                f"{place}, line {number}: expected {_NUM_FIELDS} fields with an image and a label "
                f"of 0 or 1, found {b' '.join(fields)[:80]!r}; get it again from {RELEASE_URL}"
            )
        length = int(fields[5]) if _LENGTH.fullmatch(fields[5]) else None
        rows.append(Row(name, int(label), number, length))
    if not rows:
        raise UserError(f"{place} is empty; get it again from {RELEASE_URL}")
    return rows


def _array_lines(content: bytes, place: str) -> list[list[bytes]]:
    """Read the form that the generator itself writes: an array of texts, shape (images, 11)."""
    header = _ARRAY.match(content)
    if header is not None:
        order, kind, width, number = header[1], header[2], int(header[3]), int(header[4])
        dtype = np.dtype("u1" if kind == b"S" else order.decode() + "u4")
        body = content[header.end() :]
        if width and number * _NUM_FIELDS * width * dtype.itemsize == len(body):
            codes = np.frombuffer(body, dtype)
            if codes.max(initial=0) < 128:
                texts = codes.astype(np.uint8).view(f"S{width}").reshape(number, _NUM_FIELDS)
                lines: list[list[bytes]] = texts.tolist()
                return lines
    raise UserError(
        f"{place} is no whole array of ASCII texts with {_NUM_FIELDS} columns; get it again from "
        f"{RELEASE_URL}"
    )


def decode_png(content: bytes, resolution: int, place: str) -> NDArray[np.uint8]:
    """Return the gray levels of a PNG, shape (resolution, resolution).

    Raises:
        UserError: It is broken, or of another size or kind.
    """
    from PIL import Image

    try:
        chunks = _png_chunks(content)
        header = chunks[0][4:]
        width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
        depth, color = header[8], header[9]
        if (width, height, depth, color) != (resolution, resolution, 8, 0):
            raise UserError(
                f"{place} is an image of {width} by {height}, {depth} bits, color type {color}; "
                f"expected gray of 8 bits (color type 0), {resolution} by {resolution}; get it "
                f"again from {RELEASE_URL}"
            )
        plain = _PNG + b"".join(map(_as_chunk, chunks))
        with Image.open(io.BytesIO(plain), formats=["PNG"]) as image:
            return np.array(image, np.uint8)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise UserError(
            f"{place} is no readable PNG ({error}); get it again from {RELEASE_URL}"
        ) from error


def _png_chunks(content: bytes) -> list[bytes]:
    """Return header, data and end of a PNG, each its name and what it holds.

    Checked here, because the library does not look at the checksums of the data, and all that is
    not needed is left out.

    Raises:
        ValueError: It is broken.
    """
    if not content.startswith(_PNG):
        raise ValueError("it does not begin as one")
    chunks = []
    begin = len(_PNG)
    while begin < len(content):
        size = int.from_bytes(content[begin : begin + 4], "big")
        end = begin + 8 + size
        named, check = content[begin + 4 : end], content[end : end + 4]
        if len(check) < 4 or zlib.crc32(named) != int.from_bytes(check, "big"):
            raise ValueError(f"a checksum differs or it is cut short, at byte {begin}")
        if named[:4] in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(named)
        begin = end + 4
    names = [named[:4] for named in chunks]
    if names != [b"IHDR", *[b"IDAT"] * (len(names) - 2), b"IEND"] or len(chunks[0]) != 4 + 13:
        raise ValueError("its parts are not those of one image")
    return chunks


def _as_chunk(named: bytes) -> bytes:
    size, check = len(named) - 4, zlib.crc32(named)
    return size.to_bytes(4, "big") + named + check.to_bytes(4, "big")


def find(
    data_dir: Path, cache_dir: Path, resolution: int, difficulty: Difficulty
) -> Source[RawFiles] | None:
    """Return where the images of one size and difficulty are, None if nowhere.

    Raises:
        UserError: They cannot be read.
    """
    folder = FOLDERS[difficulty]
    files = find_release(data_dir, f"pathfinder{resolution}", (folder,))
    if files is None:
        return None
    if files.is_archive:
        return Source(identity_of(files.path, cache_dir), files)
    return Source(_listing_digest(files.path / folder), files)


def published_splits(rows: Sequence[Row], difficulty: Difficulty) -> dict[Split, list[Row]]:
    """Divide images as published: 80, 10 and 10 per cent in the order of tensorflow-datasets."""
    ordered = sorted(rows, key=lambda row: _published_key(row, difficulty))
    bounds = [round(len(rows) * share / 100) for share in (0, 80, 90, 100)]
    return {
        split: ordered[start:stop]
        for split, (start, stop) in zip(SPLITS, pairwise(bounds), strict=True)
    }


def _published_key(row: Row, difficulty: Difficulty) -> bytes:
    """Return what tensorflow-datasets sorts by: the MD5 of the key, salted with the split."""
    folder, _, name = row.name.rpartition("/")
    key = f"{difficulty}{folder}_{name}_{row.number}"
    return hashlib.md5(key.encode(), usedforsecurity=False).digest()


class ReleasedImages(ABC):
    """The images of one difficulty: what the metadata say, and how to get at the pixels."""

    prefix = ""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution
        self.rows: list[Row] = []

    @abstractmethod
    def is_empty(self, name: str) -> bool:
        """Return whether a file has no bytes."""

    @abstractmethod
    def load(self, rows: Sequence[Row]) -> Images:
        """Return pixels and labels of some images."""

    def portions(self, rows: Sequence[Row]) -> Iterator[Images]:
        """Yield pixels and labels of images, some megabytes at a time."""
        rest = iter(rows)
        while portion := list(islice(rest, max(1, _CHUNK_BYTES // self.resolution**2))):
            yield self.load(portion)

    def add_metadata(self, files: dict[int, tuple[bytes, str]]) -> None:
        """Take over metadata files, by number, and refuse images named twice."""
        named: set[str] = set()
        for _, (content, place) in sorted(files.items()):
            for row in parse_metadata(content, place):
                if row.name in named:
                    raise UserError(
                        f"{place}, line {row.number}: {row.name} was named before; get it again "
                        f"from {RELEASE_URL}"
                    )
                named.add(row.name)
                self.rows.append(row)


class _InFolder(ReleasedImages):
    """Images in an unpacked folder, opened when they are wanted."""

    def __init__(self, folder: Path, resolution: int) -> None:
        super().__init__(resolution)
        self.folder = folder
        files = {}
        for number, path in _metadata_files(folder):
            try:
                files[number] = path.read_bytes(), str(path)
            except OSError as error:
                raise UserError(f"cannot read {path}: {reason(error)}") from error
        self.add_metadata(files)
        self._sizes: dict[str, int] = {}
        for sub in sorted({row.name.rpartition("/")[0] for row in self.rows}):
            try:
                with os.scandir(folder / sub) as entries:
                    for one in entries:
                        # A link may lead nowhere.
                        with suppress(FileNotFoundError):
                            self._sizes[f"{sub}/{one.name}"] = one.stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise UserError(f"cannot read {folder / sub}: {reason(error)}") from error
        missing = [row.name for row in self.rows if row.name not in self._sizes]
        if missing:
            raise UserError(
                f"{folder / missing[0]} and {len(missing) - 1:,} more images of the metadata are "
                f"missing; unpack the release again"
            )

    def is_empty(self, name: str) -> bool:
        return not self._sizes[name]

    def load(self, rows: Sequence[Row]) -> Images:
        pixels = np.empty((len(rows), self.resolution, self.resolution), np.uint8)
        for at, row in enumerate(rows):
            path = self.folder / row.name
            try:
                with path.open("rb") as file:
                    content = file.read(_MAX_PNG_BYTES)
            except OSError as error:
                raise UserError(f"cannot read {path}: {reason(error)}") from error
            pixels[at] = decode_png(content, self.resolution, str(path))
        return pixels, np.array([row.label for row in rows], np.int64)


class _FromArchive(ReleasedImages):
    """Images of an archive, decoded as they come by into a file where each can be found again."""

    def __init__(
        self,
        source: RawFiles,
        folder: str,
        resolution: int,
        scratch: Path,
        progress: ProgressCallback,
    ) -> None:
        super().__init__(resolution)
        files: dict[int, tuple[bytes, str]] = {}
        self._index: dict[str, int] = {}
        self._empty: set[str] = set()

        def is_wanted(name: str) -> bool:
            inside = name.removeprefix(f"{folder}/")
            return name != inside and bool(_METADATA.fullmatch(inside) or _IMAGE.fullmatch(inside))

        members = members_of(
            source,
            is_wanted,
            max_bytes=RELEASE_MAX_BYTES,
            remedy=f"get it again from {RELEASE_URL}",
            progress=progress,
        )
        path = scratch / "pixels"
        with path.open("wb") as pixels:
            for member in members:
                name = member.name.removeprefix(f"{folder}/")
                metadata = _METADATA.fullmatch(name)
                if metadata is not None:
                    files[int(metadata[1])] = member.read(_MAX_METADATA_BYTES), member.place
                    self.prefix = member.prefix
                else:
                    self._add_image(name, member, pixels.write)
        if not files:
            raise UserError(
                f"{source.path} holds no metadata of {folder}; get it again from {RELEASE_URL}"
            )
        self.add_metadata(files)
        missing = [
            row.name
            for row in self.rows
            if row.name not in self._index and row.name not in self._empty
        ]
        if missing:
            raise UserError(
                f"{source.path} lacks {missing[0]} and {len(missing) - 1:,} more images of the "
                f"metadata of {folder}; get it again from {RELEASE_URL}"
            )
        shape = (len(self._index), resolution, resolution)
        self._pixels = np.memmap(path, np.uint8, "r", shape=shape) if self._index else None

    def _add_image(self, name: str, member: Member, save: Callable[[bytes], Any]) -> None:
        content = member.read(_MAX_PNG_BYTES)
        if not content:
            self._empty.add(name)
            return
        save(decode_png(content, self.resolution, member.place).tobytes())
        self._index[name] = len(self._index)

    def is_empty(self, name: str) -> bool:
        return name in self._empty

    def load(self, rows: Sequence[Row]) -> Images:
        assert self._pixels is not None
        numbers = [self._index[row.name] for row in rows]
        return self._pixels[numbers], np.array([row.label for row in rows], np.int64)


@contextmanager
def images_of(
    source: RawFiles, folder: str, resolution: int, cache_dir: Path, progress: ProgressCallback
) -> Iterator[ReleasedImages]:
    """Open the released images of one difficulty.

    Raises:
        UserError: They are not there, not whole, or not what they should be; or the disk is full.
    """
    if not source.is_archive:
        yield _InFolder(source.path / folder, resolution)
        return
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(dir=cache_dir, prefix=".pixels-", suffix=".partial")
    except OSError as error:
        raise UserError(f"cannot write to cache_dir={cache_dir}: {reason(error)}") from error
    try:
        try:
            images = _FromArchive(source, folder, resolution, Path(scratch), progress)
        except OSError as error:
            raise UserError(
                f"cannot keep the pixels of {source.path} in {cache_dir}: "
                f"{reason(error)}; free some space or choose another folder with "
                f"cache_dir="
            ) from error
        yield images
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _metadata_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the metadata files of a difficulty with their numbers, in order."""
    files = []
    for path in (folder / "metadata").glob("*.npy"):
        name = _METADATA.fullmatch(f"metadata/{path.name}")
        if name is not None:
            files.append((int(name[1]), path))
    if not files:
        raise UserError(
            f"{folder / 'metadata'} holds no metadata; unpack the release again, or get it from "
            f"{RELEASE_URL}"
        )
    return sorted(files)


def _listing_digest(folder: Path) -> str:
    """Return what tells an unpacked folder from another one without reading the images.

    Names, sizes and times of the metadata, and the times of the folders of images, which change
    with every file that comes or goes.
    """
    seen: list[Any] = [str(folder.resolve())]
    try:
        for number, path in _metadata_files(folder):
            status = path.stat()
            seen.append([number, status.st_size, status.st_mtime_ns])
        with os.scandir(folder / "imgs") as entries:
            seen += sorted([one.name, one.stat().st_mtime_ns] for one in entries)
    except OSError as error:
        raise UserError(
            f"cannot read {folder / 'imgs'}: {reason(error)}; unpack the release again"
        ) from error
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()
