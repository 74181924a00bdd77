"""Image: which of ten things does a picture show? CIFAR-10 in gray, pixel by pixel.

Source: Krizhevsky 2009; as a task for long sequences, arXiv 2011.04006.

Shapes: N pictures, L = 1,024 pixels, row by row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import (
    DataInfo,
    Example,
    Progress,
    ProgressCallback,
    Quantities,
    Split,
    TaskSpec,
)
from lra_tasks import _cifar
from lra_tasks._cifar import BINARY_ARCHIVE, CLASSES, PARTS, SIDE
from lra_tasks._download import download
from lra_tasks._sources import RawFiles
from lra_tasks.cached_task import CachedTask, Chunk, Source, Writer

if TYPE_CHECKING:
    from lra_tasks._cifar_builder import Cifar10

# Raised when the same files would give other bytes.
PREPARATION_VERSION = 1
_NAME = "CIFAR-10"
_JPEG_NAME = "CIFAR-10 (JPEG copy)"
_AT_ONCE = 500

# Gray levels, shape (N, L), and labels, shape (N,).
Levels = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Image(CachedTask[RawFiles]):
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
        official: What the official pictures are.
    """

    has_pictures = True

    def __init__(
        self, *, data_dir: Path, cache_dir: Path, official: _cifar.Official = _cifar.OFFICIAL
    ) -> None:
        self.spec = TaskSpec(
            name="image",
            vocab_size=256,
            max_length=SIDE * SIDE,
            num_classes=len(CLASSES),
            majority_baseline=0.1,
            # Mean and deviation of the training pictures, as state-spaces/s4 at e757cef has them in
            # src/dataloaders/basic.py.
            quantities=Quantities(mean=122.6, deviation=61.0),
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        counts = self.official.counts
        num_training = _num_training(counts["train"])
        return DataInfo(
            origin=f"{_NAME}, {BINARY_ARCHIVE}",
            terms="no license; cite Krizhevsky 2009",
            num_examples={
                "train": num_training,
                "validation": counts["train"] - num_training,
                "test": counts["test"],
            },
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: what it shows, and how bright it is."""
        levels = example.inputs[0]
        return (
            f"{CLASSES[int(example.target)]}, {SIDE} x {SIDE} pixels, gray levels "
            f"{levels.min()} to {levels.max()}, mean {levels.mean():.1f}"
        )

    def picture(self, example: Example) -> NDArray[np.uint8]:
        """See `Task.picture`."""
        return example.inputs[0].astype(np.uint8).reshape(SIDE, SIDE)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION}

    def source(self) -> Source[RawFiles] | None:
        """See `CachedTask.source`."""
        files = _cifar.find(self.data_dir)
        return None if files is None else Source(_cifar.identity(files, self.cache_dir), files)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        download(
            self.official.url,
            self.data_dir / BINARY_ARCHIVE,
            self.official.archive,
            what=_NAME,
            otherwise=f" (or {_cifar.BINARY_FOLDER}/, its content, or {_cifar.JPEG_ARCHIVE}, a "
            f"lossy copy)",
        )

    def encode(
        self, source: Source[RawFiles], writer: Writer, progress: ProgressCallback
    ) -> DataInfo:
        """See `CachedTask.encode`."""
        # It takes a second, and only preparing needs it.
        from lra_tasks._cifar_builder import Cifar10

        parts = _cifar.read(source.files, progress)
        info = self._info_of(source, parts)
        number = len(parts["train"])
        num_training = _num_training(number)
        if not num_training:
            raise UserError(
                f"{source.files.path} has {number} training picture; one for training and one for "
                f"validation is the least; get {BINARY_ARCHIVE} from {self.official.url}"
            )
        # The builder writes nothing; it must be told a folder.
        builder = Cifar10(data_dir=str(self.cache_dir))
        (train, train_labels), test = _grayed(builder, parts, progress)
        order = published_order(number)
        splits: dict[Split, Levels] = {
            "train": (train[order[:num_training]], train_labels[order[:num_training]]),
            "validation": (train[order[num_training:]], train_labels[order[num_training:]]),
            "test": test,
        }
        for split, (levels, labels) in splits.items():
            lengths = np.full(len(labels), SIDE * SIDE, np.int64)
            writer.add(split, [Chunk(levels.ravel(), lengths, labels)])
        return info

    def _info_of(self, source: Source[RawFiles], parts: Mapping[str, _cifar.Records]) -> DataInfo:
        """Say what the pictures are."""
        files, official = source.files, self.official
        counts = {part: len(records) for part, records in parts.items()}
        digest = source.identity if files.is_archive else None
        is_jpeg = _cifar.is_jpeg(files)
        is_copy = _cifar.content_digest(parts) == official.jpeg_content
        details = {
            "read": files.description,
            "validation": "the last tenth of the training pictures in tensorflow-datasets' order",
        }
        if digest is not None:
            details["archive_sha256"] = digest
        known_digest = official.jpeg_sha256 if is_jpeg else official.archive.sha256
        warning = ""
        if not (is_copy or digest == known_digest) or counts != official.counts:
            why = (
                "the checksum of the unpacked files is not known"
                if digest is None
                else f"the SHA-256 of the archive, {digest[:16]}..., is not known"
            )
            warning = (
                f"{files.description} cannot be told to be complete and unchanged: {why}; it has "
                f"{counts['train']:,} training and {counts['test']:,} test pictures, expected "
                f"{official.counts['train']:,} and {official.counts['test']:,}; use the archive "
                f"{BINARY_ARCHIVE} from {official.url}"
            )
        if not (is_copy or is_jpeg):
            return DataInfo(source=_NAME, warning=warning, details=details)
        note = "the pixels are not the official ones: they went through JPEG"
        return DataInfo(source=_JPEG_NAME, warning=warning, note=note, details=details)


def gray(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the gray levels of colors, shape (..., 3) to (...), as the released code does.

    Levels are ``0.2989 red + 0.5870 green + 0.1140 blue`` of colors scaled to 0..1, times 255.5,
    truncated, in 32-bit floats and in this order of operations: checked against TensorFlow 2.21,
    all 16,777,216 colors agree. The paper says no more than that the pictures are gray;
    Pillow's ``convert("L")`` has other weights and rounding: about a quarter of the pixels differ,
    by one level.
    """
    # Dividing by 255 instead rounds otherwise, and a few colors get another level.
    scaled = pixels.astype(np.float32) * np.float32(1 / 255)
    red, green, blue = np.moveaxis(scaled, -1, 0)
    level = red * np.float32(0.2989) + green * np.float32(0.5870) + blue * np.float32(0.1140)
    levels: NDArray[np.uint8] = (level * np.float32(255.5)).astype(np.uint8)
    return levels


def published_order(number: int) -> list[int]:
    """Return the training pictures in the order of tensorflow-datasets, as indices into the files.

    That library orders by the MD5 of the split's name and the running number. It is computed here,
    so that no version of it changes the division into training and validation.
    """

    def key(number: int) -> bytes:
        return hashlib.md5(f"train{number}".encode(), usedforsecurity=False).digest()

    return sorted(range(number), key=key)


def _num_training(number: int) -> int:
    return number * 9 // 10


def _grayed(
    builder: Cifar10, parts: Mapping[str, _cifar.Records], progress: ProgressCallback
) -> Iterator[Levels]:
    """Yield the pictures of both parts in gray, in the order of the records."""
    done, total = 0, sum(map(len, parts.values()))
    for part in PARTS:
        number = len(parts[part])
        levels = np.empty((number, SIDE * SIDE), np.uint8)
        labels = np.empty(number, np.int64)
        examples = builder.examples(part, parts[part])
        for start in range(0, number, _AT_ONCE):
            portion = list(islice(examples, _AT_ONCE))
            images = np.stack([example["image"] for example in portion])
            levels[start : start + len(portion)] = gray(images).reshape(len(portion), -1)
            labels[start : start + len(portion)] = [example["label"] for example in portion]
            done += len(portion)
            progress(Progress("turning pictures gray", done, total))
        yield levels, labels
