"""Image: which of ten things does a picture show? CIFAR-10 in gray, pixel by pixel.

Source: Krizhevsky 2009; as a task for long sequences, arXiv 2011.04006.

Shapes: N pictures, L = 1,024 pixels, row by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import About, Example, Progress, ProgressCallback, Split, TaskSpec
from lra_tasks._cache import CachedTask, Chunk, write
from lra_tasks._cifar_files import (
    BINARY_ARCHIVE,
    BINARY_FILES,
    BINARY_FOLDER,
    CLASSES,
    JPEG_ARCHIVE,
    PARTS,
    RECORD_BYTES,
    SIDE,
    URL,
    Records,
    find,
    is_jpeg,
)
from lra_tasks._download import download
from lra_tasks._sources import Source, identity_of, identity_of_all
from lra_tasks._tfds import prepared, rows_of

# Raised when the same files would give other bytes.
PREPARATION_VERSION = 1
OFFICIAL_BYTES = 170_052_171
OFFICIAL_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
OFFICIAL_COUNTS = {"train": 50_000, "test": 10_000}
JPEG_SHA256 = "baa3320bb465a82eacac490d9542e545f7bf805b9365be69ca9092f0451f2977"
# Of its records, whatever they were packed in; see `content_digest`.
JPEG_CONTENT = "26ceae287162817af0394873d8689086e8a4f46c6c45f145c4bea17b2de4be0c"
_NAME = "CIFAR-10"
_JPEG_NAME = "CIFAR-10 (JPEG copy)"
_AT_ONCE = 500


class Image(CachedTask):
    """CIFAR-10 as 1,024 gray levels; id = level, and 0 is black.

    The paper asks for pixels as tokens; the released code, which this task follows in the levels
    (see `gray`), takes black for padding besides and masks it. Here it is a pixel like the others.

    The 10,000 test pictures are the test split. Validation is the last tenth of the training
    pictures, in the order in which tensorflow-datasets has them, as in the released code.

    The pictures are not the official ones where only a JPEG copy of them is found: its pixels
    are near, its fine detail is gone, and as its official order is not known, another tenth is held
    out. Numbers made of it are shown under a name of their own.

    Args:
        data_dir: Folder that holds ``cifar-10-binary.tar.gz``, the folder
            ``cifar-10-batches-bin`` or ``cifar10_jpeg.tar.gz``, the first of them that is there;
            the first one is downloaded if there is none.
        cache_dir: Folder of prepared data.
    """

    def __init__(self, *, data_dir: Path, cache_dir: Path) -> None:
        self.spec = TaskSpec(
            name="image",
            vocab_size=256,
            max_length=SIDE * SIDE,
            num_classes=len(CLASSES),
            majority_baseline=0.1,
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir

    def _fetch(self) -> None:
        download(
            URL,
            self.data_dir / BINARY_ARCHIVE,
            what=_NAME,
            num_bytes=OFFICIAL_BYTES,
            sha256=OFFICIAL_SHA256,
            otherwise=f" (or {BINARY_FOLDER}/, its content, or {JPEG_ARCHIVE}, a lossy copy)",
        )

    def about(self) -> About:
        """See `Task.about`."""
        counts = OFFICIAL_COUNTS
        num_training = _num_training(counts["train"])
        return About(
            f"{_NAME}, {BINARY_ARCHIVE}",
            "no license; cite Krizhevsky 2009",
            {
                "train": num_training,
                "validation": counts["train"] - num_training,
                "test": counts["test"],
            },
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: what it shows, and how bright it is."""
        levels = example.inputs[0]
        return (
            f"{CLASSES[example.target]}, {SIDE} x {SIDE} pixels, gray levels {levels.min()} to "
            f"{levels.max()}, mean {levels.mean():.1f}"
        )

    def picture(self, example: Example) -> NDArray[np.uint8]:
        """See `Task.picture`."""
        return example.inputs[0].astype(np.uint8).reshape(SIDE, SIDE)

    def _options(self) -> dict[str, Any]:
        return {"version": PREPARATION_VERSION}

    def _place(self) -> Path | None:
        source = find(self.data_dir)
        return None if source is None else self._place_for(self._identity(source))

    def _identity(self, source: Source) -> str:
        if source.is_archive:
            return identity_of(source.path, self.cache_dir)
        paths = [source.path / name for name in BINARY_FILES]
        return identity_of_all(paths, self.cache_dir)

    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        source = find(self.data_dir)
        assert source is not None
        parts = _stored(source, self.cache_dir, progress)
        training, test = (parts[part] for part in PARTS)
        num_training = _num_training(len(training))
        if not num_training:
            raise UserError(
                f"{source.path} has {len(training)} training picture; one for training and one "
                f"for validation is the least; get {BINARY_ARCHIVE} from {URL}"
            )
        training = training[published_order(len(training))]
        splits: dict[Split, Records] = {
            "train": training[:num_training],
            "validation": training[num_training:],
            "test": test,
        }
        facts = self._facts(source, parts)
        write(place, {split: _chunks(records) for split, records in splits.items()}, facts)

    def _facts(self, source: Source, parts: Mapping[str, Records]) -> dict[str, Any]:
        """Say what the pictures are."""
        counts = {part: len(records) for part, records in parts.items()}
        digest = self._identity(source) if source.is_archive else None
        is_copy = content_digest(parts) == JPEG_CONTENT
        details = {
            "read": source.description,
            "validation": "the last tenth of the training pictures in tensorflow-datasets' order",
        }
        if digest is not None:
            details["archive_sha256"] = digest
        facts: dict[str, Any] = {"source": _NAME, "options": self._options(), "details": details}
        if is_copy or is_jpeg(source):
            facts["source"] = _JPEG_NAME
            details["note"] = "the pixels are not the official ones: they went through JPEG"
        is_known = is_copy or digest == (JPEG_SHA256 if is_jpeg(source) else OFFICIAL_SHA256)
        if not is_known or counts != OFFICIAL_COUNTS:
            why = (
                "the checksum of the unpacked files is not known"
                if digest is None
                else f"the SHA-256 of the archive, {digest[:16]}..., is not known"
            )
            facts["unofficial"] = (
                f"{source.description} cannot be told to be complete and unchanged: {why}; it has "
                f"{counts['train']:,} training and {counts['test']:,} test pictures, expected "
                f"{OFFICIAL_COUNTS['train']:,} and {OFFICIAL_COUNTS['test']:,}; use the archive "
                f"{BINARY_ARCHIVE} from {URL}"
            )
        return facts


def gray(records: Records) -> NDArray[np.uint8]:
    """Return the gray levels of records, shape (N, L), as the released code computes them.

    Levels are ``0.2989 red + 0.5870 green + 0.1140 blue`` of colors scaled to 0..1, times 255.5,
    truncated, in 32-bit floats and in this order of operations: checked against TensorFlow 2.21,
    all 16,777,216 colors agree. The paper says no more than that the pictures are gray;
    Pillow's ``convert("L")`` has other weights and rounding: about a quarter of the pixels differ,
    by one level.
    """
    planes = records[:, 1:].reshape(-1, 3, SIDE * SIDE).astype(np.float32)
    # Dividing by 255 instead rounds otherwise, and a few colors get another level.
    planes *= np.float32(1 / 255)
    red, green, blue = planes[:, 0], planes[:, 1], planes[:, 2]
    level = red * np.float32(0.2989) + green * np.float32(0.5870) + blue * np.float32(0.1140)
    levels_NL: NDArray[np.uint8] = (level * np.float32(255.5)).astype(np.uint8)
    return levels_NL


def published_order(number: int) -> list[int]:
    """Return the training pictures in the order of tensorflow-datasets, as indices into the files.

    That library orders by the MD5 of the split's name and the running number. It is computed here,
    so that no version of it changes the division into training and validation.
    """

    def key(at: int) -> bytes:
        return hashlib.md5(f"train{at}".encode(), usedforsecurity=False).digest()

    return sorted(range(number), key=key)


def content_digest(parts: Mapping[str, Records]) -> str:
    """Return the SHA-256 (hex) of all records: that of the official files one after the other."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(parts[part].data)
    return digest.hexdigest()


def _num_training(number: int) -> int:
    return number * 9 // 10


def _stored(source: Source, cache_dir: Path, progress: ProgressCallback) -> dict[str, Records]:
    """Store the pictures through tensorflow-datasets, and return them in the order of the files.

    Raises:
        UserError: The files are broken or incomplete, or the disk is full.
    """
    from lra_tasks._cifar_builder import LraCifar10

    def make(folder: str) -> LraCifar10:
        builder = LraCifar10(data_dir=folder, file_format="array_record")
        builder.source = source
        builder.progress = progress
        builder.count = lambda done, total: progress(Progress("storing pictures", done, total))
        return builder

    parts = {}
    with prepared(make, archive=source.path, cache_dir=cache_dir) as builder:
        for part in PARTS:
            number = builder.info.splits[part].num_examples
            records = np.empty((number, RECORD_BYTES), np.uint8)
            for row in rows_of(builder, part):
                at = int(row["id"].decode().removeprefix(f"{part}_"))
                records[at, 0] = row["label"]
                records[at, 1:] = row["image"].transpose(2, 0, 1).ravel()
            parts[part] = records
    return parts


def _chunks(records: Records) -> Iterator[Chunk]:
    for start in range(0, len(records), _AT_ONCE):
        some = records[start : start + _AT_ONCE]
        lengths = np.full(len(some), SIDE * SIDE, np.int64)
        yield Chunk(gray(some).ravel(), lengths, some[:, 0].astype(np.int64))
