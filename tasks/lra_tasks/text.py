"""Text: is a film review positive? The Large Movie Review Dataset, byte by byte.

Source: Maas et al., ACL 2011; as a task for long sequences, arXiv 2011.04006.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import logging
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.types import (
    Example,
    Progress,
    ProgressCallback,
    Split,
    TaskSpec,
    UserError,
)
from lra_tasks._cache import CachedTask, Chunk, FlatCache, sha256_of, write

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
# Raised when the same archive and options would give other bytes.
PREPARATION_VERSION = 1
_CONNECT_SECONDS = 10.0
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

    def _make_cache(self, progress: ProgressCallback) -> Path:
        """Find or download the archive and encode it."""
        found = self._find()
        if found is None:
            # What was prepared from either archive will do when the archive is gone.
            for place in map(self._place, KNOWN):
                if FlatCache.exists(place):
                    return place
            self._download()
            found = OFFICIAL
        return self._prepare_from(found, progress)

    def provenance(self) -> dict[str, str]:
        """See `Task.provenance`."""
        facts = self._opened().facts
        return {
            # Both archives hold the same reviews: the fingerprint tells, not the wrapping.
            "source": "IMDB reviews",
            "archive": str(facts["archive"]),
            "validation": f"{self.num_validation:,} of the training reviews, stratified, "
            f"seed {self.validation_seed}",
        }

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the text."""
        ids = example.inputs[0].astype(np.int64)
        return bytes((ids - 1).tolist()).decode("utf-8", errors="replace")

    def _place(self, archive: Archive) -> Path:
        key = f"{PREPARATION_VERSION} {archive.sha256} {self.num_validation} {self.validation_seed}"
        return self.cache_dir / f"text-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def _find(self) -> Archive | None:
        """Return which archive lies in ``data_dir``, by its size."""
        path = self.data_dir / ARCHIVE_NAME
        if not path.exists():
            return None
        size = path.stat().st_size
        for archive in KNOWN:
            if size == archive.num_bytes:
                return archive
        expected = " or ".join(f"{archive.num_bytes:,} ({archive.name})" for archive in KNOWN)
        raise UserError(
            f"{path} has {size:,} bytes, expected {expected}; it is incomplete or another file: "
            f"delete it to have it downloaded again, or get it from {URL}"
        )

    def _download(self) -> None:
        """Put the official archive into ``data_dir``.

        Raises:
            UserError: There is no network, the server refuses, or the checksum differs.
        """
        target = self.data_dir / ARCHIVE_NAME
        by_hand = (
            f"put {ARCHIVE_NAME} ({OFFICIAL.num_bytes:,} bytes, from {URL}) into "
            f"{self.data_dir} and run again, or name the folder that has it with data_dir="
        )
        # The library below retries for minutes before it gives up; ask once, briefly, first.
        try:
            request = urllib.request.Request(URL, method="HEAD")
            urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"cannot download the IMDB reviews ({reason}): {by_hand}") from error
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import units
        from tensorflow_datasets.core.download.checksums import UrlInfo
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

        known = UrlInfo(
            size=units.Size(OFFICIAL.num_bytes), checksum=OFFICIAL.sha256, filename=ARCHIVE_NAME
        )
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.data_dir, prefix=".download-") as folder:
                manager = tfds.download.DownloadManager(
                    download_dir=folder, url_infos={URL: known}, dataset_name="text"
                )
                Path(manager.download(URL)).replace(target)
        except NonMatchingChecksumError as error:
            raise UserError(f"the download failed (wrong checksum): {by_hand}") from error
        except (OSError, tfds.download.DownloadError, ValueError) as error:
            raise UserError(f"the download failed ({error}): {by_hand}") from error

    def _prepare_from(self, archive: Archive, progress: ProgressCallback) -> Path:
        place = self._place(archive)
        if FlatCache.exists(place):
            return place
        path = self.data_dir / ARCHIVE_NAME
        digest = sha256_of(path)
        if digest != archive.sha256:
            raise UserError(
                f"{path} is damaged: its SHA-256 is {digest}, expected {archive.sha256}; delete "
                f"it to have it downloaded again, or get it from {URL}"
            )
        with _reviews(path, self.cache_dir, progress) as reviews:
            training, test = (reviews[split] for split in ("train", "test"))
            held_out = _stratified(
                [label for _, label in training], self.num_validation, self.validation_seed
            )
            splits: dict[Split, list[tuple[bytes, int]]] = {
                "train": [row for row, out in zip(training, held_out, strict=True) if not out],
                "validation": [row for row, out in zip(training, held_out, strict=True) if out],
                "test": test,
            }
            write(
                place,
                {split: _chunks(rows) for split, rows in splits.items()},
                {"archive": archive.name, "archive_sha256": archive.sha256},
            )
        return place


@contextmanager
def _reviews(
    path: Path, cache_dir: Path, progress: ProgressCallback
) -> Iterator[dict[str, list[tuple[bytes, int]]]]:
    """Read the labelled reviews through tensorflow-datasets, in the order of their file names.

    Raises:
        UserError: The disk is full.
    """
    import tensorflow_datasets as tfds

    from lra_tasks._imdb_builder import NUM_LABELLED, LraImdb

    with _quiet(tfds):
        folder = None
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(dir=cache_dir, prefix=".tfds-", suffix=".partial")
            builder = LraImdb(data_dir=folder, file_format="array_record")
            builder.count = lambda done: progress(Progress("reading reviews", done, NUM_LABELLED))
            config = tfds.download.DownloadConfig(manual_dir=str(path.parent))
            builder.download_and_prepare(download_config=config)
            yield {split: _rows(builder, split) for split in ("train", "test")}
        except OSError as error:
            raise UserError(
                f"cannot prepare the reviews in {cache_dir}: {error.strerror or error}; free some "
                f"space or choose another folder with cache_dir="
            ) from error
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _rows(builder: Any, split: str) -> list[tuple[bytes, int]]:
    source = builder.as_data_source(split=split)
    # Some formats of the library lose examples without a word; count what can really be read.
    assert len(source) == builder.info.splits[split].num_examples == _NUM_TRAINING
    rows = []
    for start in range(0, len(source), _READ_AT_ONCE):
        rows += source.__getitems__(list(range(start, min(start + _READ_AT_ONCE, len(source)))))
    rows.sort(key=lambda row: row["id"])
    return [(row["text"], int(row["label"])) for row in rows]


@contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    """Silence the library, which prints to stdout: progress is shown in one way only."""
    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tfds.enable_progress_bar()


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
        # UTF-8 has no byte 255, so that byte + 1 still fits into a byte.
        assert data.max() < 255, "a review is not UTF-8"
        lengths = np.array([len(text) for text, _ in some], np.int64)
        yield Chunk(data + np.uint8(1), lengths, np.array([label for _, label in some], np.int64))
