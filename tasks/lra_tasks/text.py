"""Text: is a film review positive? The Large Movie Review Dataset, byte by byte.

Source: Maas et al., ACL 2011; as a task for long sequences, arXiv 2011.04006.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.errors import UserError
from lra_bench.types import About, Example, Progress, ProgressCallback, Split, TaskSpec
from lra_tasks._cache import CachedTask, Chunk, write
from lra_tasks._download import download
from lra_tasks._imdb_archive import ARCHIVE_NAME as ARCHIVE_NAME
from lra_tasks._imdb_archive import URL as URL
from lra_tasks._sources import identity_of
from lra_tasks._tfds import prepared, rows_of

# Raised when the same archive and options would give other bytes.
PREPARATION_VERSION = 1
_NUM_TRAINING = 25_000
_READ_AT_ONCE = 500


@dataclass(frozen=True)
class Archive:
    """An archive that is known to hold the reviews.

    Args:
        name: What it is, for records.
        num_bytes: Its size.
        sha256: Its checksum (hex).
    """

    name: str
    num_bytes: int
    sha256: str


OFFICIAL = Archive(
    "official archive",
    84_125_825,
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
# The same labelled reviews, packed anew without the bag-of-words files.
REPACKED = Archive(
    "repacked archive",
    56_524_153,
    "cc214112d203dd70c2cf8a7f522f91dc6cceb8226afb7dd34623afda7d5e56ce",
)
KNOWN = (OFFICIAL, REPACKED)
# Of the labeled reviews themselves, the same in both; see `content_digest`.
OFFICIAL_CONTENT = "c9146d4e1b24e1c8dff46135443fcb09edbd2219edd993f17ddc4d49f24b087b"


class Text(CachedTask):
    """IMDB reviews as UTF-8 bytes; id = byte + 1, 0 is padding.

    The 25,000 test reviews are the test split, whole. Validation is a fixed part of the 25,000
    training reviews, drawn with a seed and equally from both classes: unlike in the released code,
    the test reviews choose nothing.

    Args:
        data_dir: Folder that holds ``aclImdb_v1.tar.gz``; it is downloaded there if it does not.
        cache_dir: Folder of prepared data.
        max_length: Reviews are cut to this [bytes].
        num_validation: Training reviews held out, an even number.
        validation_seed: Which ones.

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        max_length: int = 4_000,
        num_validation: int = 2_500,
        validation_seed: int = 0,
    ) -> None:
        if max_length < 1 or validation_seed < 0:
            raise UserError(
                f"task.max_length={max_length} must be at least 1, "
                f"task.validation_seed={validation_seed} not negative"
            )
        if not 2 <= num_validation < _NUM_TRAINING or num_validation % 2:
            raise UserError(
                f"task.num_validation={num_validation} must be even, at least 2, and below "
                f"{_NUM_TRAINING:,}"
            )
        # Bytes 0..255 are ids 1..256.
        self.spec = TaskSpec(
            name="text",
            vocab_size=257,
            max_length=max_length,
            num_classes=2,
            majority_baseline=0.5,
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.num_validation = num_validation
        self.validation_seed = validation_seed

    def _fetch(self) -> None:
        download_archive(self.data_dir)

    def about(self) -> About:
        """See `Task.about`."""
        training = _NUM_TRAINING - self.num_validation
        return About(
            f"IMDB reviews, {ARCHIVE_NAME}",
            "no license; cite Maas et al. 2011",
            {"train": training, "validation": self.num_validation, "test": _NUM_TRAINING},
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the text."""
        ids = example.inputs[0].astype(np.int64)
        return bytes((ids - 1).tolist()).decode("utf-8", errors="replace")

    def _options(self) -> dict[str, Any]:
        return {
            "version": PREPARATION_VERSION,
            "num_validation": self.num_validation,
            "validation_seed": self.validation_seed,
        }

    def _place(self) -> Path | None:
        path = self.data_dir / ARCHIVE_NAME
        return self._place_for(identity_of(path, self.cache_dir)) if path.exists() else None

    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        path = self.data_dir / ARCHIVE_NAME
        reviews = _reviews(path, self.cache_dir, progress)
        training, test = (reviews[split] for split in ("train", "test"))
        labels = [label for _, label in training]
        for label in (0, 1):
            if labels.count(label) <= self.num_validation // 2:
                raise UserError(
                    f"{path} has {labels.count(label):,} training reviews of class {label}; "
                    f"task.num_validation={self.num_validation} leaves none to train on"
                )
        held_out = _stratified(labels, self.num_validation, self.validation_seed)
        splits: dict[Split, list[tuple[bytes, int]]] = {
            "train": [row for row, out in zip(training, held_out, strict=True) if not out],
            "validation": [row for row, out in zip(training, held_out, strict=True) if out],
            "test": test,
        }
        digest = identity_of(path, self.cache_dir)
        names = {archive.sha256: archive.name for archive in KNOWN}
        facts: dict[str, Any] = {
            # Whatever it was packed in: the fingerprint tells the reviews.
            "source": "IMDB reviews",
            "options": self._options(),
            "details": {
                "archive": names.get(digest, "unknown archive"),
                "archive_sha256": digest,
                "validation": f"{self.num_validation:,} of the training reviews, stratified, "
                f"seed {self.validation_seed}",
            },
        }
        content = content_digest(reviews)
        if content != OFFICIAL_CONTENT:
            facts["unofficial"] = (
                f"{path.name} does not hold the official reviews: {len(training):,} training and "
                f"{len(test):,} test reviews, SHA-256 of their content {content[:16]}..., "
                f"expected {_NUM_TRAINING:,}, {_NUM_TRAINING:,} and "
                f"{OFFICIAL_CONTENT[:16]}...; get it from {URL}"
            )
        write(place, {split: _chunks(rows) for split, rows in splits.items()}, facts)


def download_archive(data_dir: Path) -> None:
    """Put the official archive of the reviews into a folder.

    Raises:
        UserError: There is no network, the server refuses, or the checksum differs.
    """
    download(
        URL,
        data_dir / ARCHIVE_NAME,
        what="the IMDB reviews",
        num_bytes=OFFICIAL.num_bytes,
        sha256=OFFICIAL.sha256,
    )


def content_digest(reviews: Mapping[str, list[tuple[bytes, int]]]) -> str:
    """Return a SHA-256 (hex) of the labeled reviews, whatever they were packed in."""
    digest = hashlib.sha256()
    for split in ("train", "test"):
        for text, label in reviews[split]:
            digest.update(b"%s %d %d\n%s" % (split.encode(), label, len(text), text))
    return digest.hexdigest()


def _reviews(
    path: Path, cache_dir: Path, progress: ProgressCallback
) -> dict[str, list[tuple[bytes, int]]]:
    """Read the labelled reviews through tensorflow-datasets, in the order of their file names.

    Raises:
        UserError: The archive is broken, holds what is no review, or the disk is full.
    """
    from lra_tasks._imdb_builder import NUM_LABELLED, LraImdb

    def make(folder: str) -> LraImdb:
        builder = LraImdb(data_dir=folder, file_format="array_record")
        builder.count = lambda done: progress(Progress("reading reviews", done, NUM_LABELLED))
        return builder

    reviews = {}
    with prepared(make, archive=path, cache_dir=cache_dir) as builder:
        for split in ("train", "test"):
            rows = sorted(rows_of(builder, split), key=lambda row: str(row["id"]))
            reviews[split] = [(row["text"], int(row["label"])) for row in rows]
    return reviews


def _stratified(labels: list[int], number: int, seed: int) -> list[bool]:
    """Choose ``number`` of the rows, equally from both classes, the same on every machine."""
    # The raw output of the bit generator is promised never to change.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    chosen = np.zeros(len(labels), np.bool_)
    for label in (0, 1):
        rows = np.flatnonzero(np.array(labels) == label)
        chosen[rows[np.argsort(keys[rows], kind="stable")[: number // 2]]] = True
    return chosen.tolist()


def _chunks(rows: list[tuple[bytes, int]]) -> Iterator[Chunk]:
    for start in range(0, len(rows), _READ_AT_ONCE):
        some = rows[start : start + _READ_AT_ONCE]
        data = np.frombuffer(b"".join(text for text, _ in some), np.uint8)
        # UTF-8 has no byte 255, so that byte + 1 still fits into a byte; the builder checks it.
        lengths = np.array([len(text) for text, _ in some], np.int64)
        yield Chunk(data + np.uint8(1), lengths, np.array([label for _, label in some], np.int64))
