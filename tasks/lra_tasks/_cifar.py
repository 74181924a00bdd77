"""CIFAR-10: what its files are, official records or JPEG pictures in a folder a class, and reading.

Both are read into records: a label, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lra_bench.errors import UserError
from lra_bench.types import ProgressCallback
from lra_tasks._checksums import identity_of, identity_of_all
from lra_tasks._download import Archive
from lra_tasks._sources import RawFiles, members_of

# Shape (N, RECORD_BYTES).
Records = NDArray[np.uint8]

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
PARTS = ("train", "test")
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
BINARY_FOLDER = "cifar-10-batches-bin"
BINARY_FILES = {
    **{f"data_batch_{number}.bin": "train" for number in range(1, 6)},
    "test_batch.bin": "test",
}
JPEG_ARCHIVE = "cifar10_jpeg.tar.gz"
_JPEG_NAME = re.compile(rf"(train|test)/({'|'.join(CLASSES)})/\d{{4}}\.jpg")

# Unpacked, the official archive has 184 MB, each of its files 31 MB, and a picture 1 kB.
_MAX_BYTES = 1 << 30
_MAX_FILE_BYTES = 64 << 20
_MAX_JPEG_BYTES = 1 << 16
# What Pillow's readers raise on broken files, and the warnings that are turned into errors.
_BROKEN_JPEG = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Warning,
)


@dataclass(frozen=True)
class Official:
    """What the official pictures are, and the copy of them that is known.

    Args:
        archive: The official one.
        url: From where it is downloaded.
        counts: Pictures of each part.
        jpeg_sha256: Checksum (hex) of the archive of JPEG copies.
        jpeg_content: SHA-256 (hex) of the records of the copies, whatever they are packed in; see
            `content_digest`.
    """

    archive: Archive
    url: str
    counts: Mapping[str, int]
    jpeg_sha256: str
    jpeg_content: str


OFFICIAL = Official(
    archive=Archive(
        "official archive",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    url=URL,
    counts={"train": 50_000, "test": 10_000},
    jpeg_sha256="baa3320bb465a82eacac490d9542e545f7bf805b9365be69ca9092f0451f2977",
    jpeg_content="26ceae287162817af0394873d8689086e8a4f46c6c45f145c4bea17b2de4be0c",
)


def find(data_dir: Path) -> RawFiles | None:
    """Look for the files, the best first; None if they are nowhere.

    Args:
        data_dir: Where to look, and in its folder ``lra_release``.
    """
    bases = (data_dir, data_dir / "lra_release")
    for base in bases:
        if (base / BINARY_ARCHIVE).is_file():
            return archive(base / BINARY_ARCHIVE)
    for folder in (*(base / BINARY_FOLDER for base in bases), data_dir):
        if any((folder / name).is_file() for name in BINARY_FILES):
            return RawFiles(folder, is_archive=False)
    for base in bases:
        if (base / JPEG_ARCHIVE).is_file():
            return RawFiles(base / JPEG_ARCHIVE, is_archive=True)
    return None


def archive(path: Path) -> RawFiles:
    """Return where in the official archive its files are."""
    return RawFiles(path, is_archive=True, prefixes=(f"{BINARY_FOLDER}/", ""))


def is_jpeg(source: RawFiles) -> bool:
    """Return whether a source holds pictures, not records."""
    return source.path.name == JPEG_ARCHIVE


def identity(source: RawFiles, cache_dir: Path) -> str:
    """Return what tells these files from others.

    Raises:
        UserError: One of them is missing, or cannot be read.
    """
    if source.is_archive:
        return identity_of(source.path, cache_dir)
    return identity_of_all([source.path / name for name in BINARY_FILES], cache_dir)


def content_digest(parts: Mapping[str, Records]) -> str:
    """Return the SHA-256 (hex) of all records: that of the official files one after the other."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(parts[part].data)
    return digest.hexdigest()


def remedy(source: RawFiles) -> str:
    """Return what to do about a source that is broken."""
    if is_jpeg(source):
        return f"get it again, or better {BINARY_ARCHIVE} from {URL}"
    if source.is_archive:
        return f"delete it to have it downloaded again, or get it from {URL}"
    return f"delete the folder and put {BINARY_ARCHIVE} from {URL} in its place"


def read(source: RawFiles, progress: ProgressCallback) -> dict[str, Records]:
    """Return the records of both parts.

    Those of the official files come in their order; pictures come in the order of the SHA-256 of
    "0|" and their name, in which the copies of them that have the official layout are, too.

    Args:
        source: What `find` found.
        progress: Told how far it is.

    Raises:
        UserError: Something is missing, broken, there twice, or of no known class.
    """
    if is_jpeg(source):
        return _read_pictures(source, progress)
    read_files: dict[str, Records] = {}
    for member in members_of(
        source,
        BINARY_FILES.__contains__,
        max_bytes=_MAX_BYTES,
        remedy=remedy(source),
        progress=progress,
    ):
        data = member.read(_MAX_FILE_BYTES)
        read_files[member.name] = records_of(data, member.place, remedy(source))
    missing = [name for name in BINARY_FILES if name not in read_files]
    if missing:
        raise UserError(f"{source.path} has no {', '.join(missing)}; {remedy(source)}")
    return {
        part: np.concatenate(
            [read_files[name] for name in BINARY_FILES if BINARY_FILES[name] == part]
        )
        for part in PARTS
    }


def records_of(data: bytes, place: str, remedy: str) -> Records:
    """Return the records of an official file.

    Args:
        data: Its content.
        place: How to name it to a person.
        remedy: What to do if it is broken, for the message.

    Raises:
        UserError: It is no whole number of records, or a label is none.
    """
    if not data or len(data) % RECORD_BYTES:
        raise UserError(
            f"{place} has {len(data):,} bytes, no whole number of records of {RECORD_BYTES:,}; "
            f"{remedy}"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(records[:, 0] >= len(CLASSES))
    if len(wrong):
        raise UserError(
            f"{place}, record {wrong[0]:,}: the label is {records[wrong[0], 0]}, expected 0 to "
            f"{len(CLASSES) - 1}; {remedy}"
        )
    return records


def record_of_jpeg(data: bytes, label: int, place: str, remedy: str) -> bytes:
    """Return the record of a JPEG picture.

    Args:
        data: The content of the file.
        label: Its class.
        place: How to name it to a person.
        remedy: What to do if it is broken, for the message.

    Raises:
        UserError: It cannot be decoded, or has another size or other colors.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of much that is wrong with a file.
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                # Known from the header: nothing large is decoded.
                form = f"{image.size[0]} x {image.size[1]}, {image.mode}"
                pixels = np.asarray(image) if form == f"{SIDE} x {SIDE}, RGB" else None
    except _BROKEN_JPEG as error:
        is_other = isinstance(error, UnidentifiedImageError)
        why = "no JPEG header" if is_other else str(error) or type(error).__name__
        raise UserError(f"{place} is no whole JPEG picture ({why}); {remedy}") from error
    if pixels is None:
        raise UserError(f"{place} is {form}, expected {SIDE} x {SIDE}, RGB; {remedy}")
    return bytes([label]) + pixels.transpose(2, 0, 1).tobytes()


def _read_pictures(source: RawFiles, progress: ProgressCallback) -> dict[str, Records]:
    by_part: dict[str, dict[str, bytes]] = {part: {} for part in PARTS}
    for name, record in _pictures(source, progress):
        by_part[name.split("/")[0]][name] = record
    missing = [part for part in PARTS if not by_part[part]]
    if missing:
        raise UserError(f"{source.path} has no pictures in {', '.join(missing)}; {remedy(source)}")
    return {part: _in_order(records) for part, records in by_part.items()}


def _pictures(source: RawFiles, progress: ProgressCallback) -> Iterator[tuple[str, bytes]]:
    """Yield names and records."""
    for member in members_of(
        source,
        lambda name: name.endswith(".jpg"),
        max_bytes=_MAX_BYTES,
        remedy=remedy(source),
        progress=progress,
    ):
        match = _JPEG_NAME.fullmatch(member.name)
        if match is None:
            raise UserError(
                f"{member.place} is not named as expected: train or test, a class "
                f"({', '.join(CLASSES)}), and four digits .jpg; {remedy(source)}"
            )
        data = member.read(_MAX_JPEG_BYTES)
        label = CLASSES.index(match[2])
        yield member.name, record_of_jpeg(data, label, member.place, remedy(source))


def _in_order(records: dict[str, bytes]) -> Records:
    names = sorted(records, key=lambda name: hashlib.sha256(f"0|{name}".encode()).digest())
    data = b"".join(records[name] for name in names)
    return np.frombuffer(data, np.uint8).reshape(-1, RECORD_BYTES)
