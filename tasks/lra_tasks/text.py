"""Text: is a film review positive? The Large Movie Review Dataset, byte by byte.

Source: Maas et al., ACL 2011; as a task for long sequences, arXiv 2011.04006.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.errors import UserError
from lra_bench.types import DataInfo, Example, ProgressCallback, Split
from lra_tasks import _bytes, _imdb
from lra_tasks._options import check_counts, check_length, check_seed
from lra_tasks._store import Layout
from lra_tasks.cached_task import CachedTask, Source, Writer

# Raised when the same archive and options would give other bytes.
PREPARATION_VERSION = 1

# Text and class of reviews.
Reviews = list[tuple[bytes, int]]


class Text(CachedTask[Path]):
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
        official: What the official reviews are.

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
        official: _imdb.Official = _imdb.OFFICIAL,
    ) -> None:
        check_length(max_length)
        check_seed(validation_seed, name="validation_seed")
        check_counts({"validation": num_validation}, least=2, even=True)
        if num_validation >= official.num_reviews:
            raise UserError(
                f"task.num_validation={num_validation} must be below {official.num_reviews:,}, "
                f"the number of training reviews"
            )
        self.spec = _bytes.spec_of("text", max_length=max_length, majority_baseline=0.5)
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.num_validation = num_validation
        self.validation_seed = validation_seed
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        number = self.official.num_reviews
        return DataInfo(
            origin=f"IMDB reviews, {_imdb.ARCHIVE_NAME}",
            terms=_imdb.TERMS,
            num_examples={
                "train": number - self.num_validation,
                "validation": self.num_validation,
                "test": number,
            },
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the text."""
        return _bytes.text_of(example.inputs[0])

    def layout(self) -> Layout:
        """See `CachedTask.layout`: ids as they are, since UTF-8 lacks the one of 256."""
        return Layout.of(self.spec, num_ids=256)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {
            "version": PREPARATION_VERSION,
            "num_validation": self.num_validation,
            "validation_seed": self.validation_seed,
        }

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        return _imdb.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        _imdb.fetch(self.data_dir, self.official)

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        reviews = _read(source.files, self.cache_dir, progress)
        held_out = self._held_out(reviews["train"], source.files)
        training = list(zip(reviews["train"], held_out, strict=True))
        splits: dict[Split, Reviews] = {
            "train": [row for row, is_out in training if not is_out],
            "validation": [row for row, is_out in training if is_out],
            "test": reviews["test"],
        }
        for split, rows in splits.items():
            texts = (((text,), label) for text, label in rows)
            writer.add(split, _bytes.chunks_of(texts, first_id=writer.layout.first_id))
        validation = (
            f"{self.num_validation:,} of the training reviews, stratified, "
            f"seed {self.validation_seed}"
        )
        return DataInfo(
            # Whatever it was packed in: the fingerprint tells the reviews.
            source="IMDB reviews",
            warning=self._warning(reviews, source.files),
            details=_imdb.details_of(source, self.official) | {"validation": validation},
        )

    def _held_out(self, training: Reviews, path: Path) -> list[bool]:
        """Return which training reviews are for validation.

        Raises:
            UserError: None of a class would be left to train on.
        """
        labels = [label for _, label in training]
        for label in (0, 1):
            if labels.count(label) <= self.num_validation // 2:
                raise UserError(
                    f"{path} has {labels.count(label):,} training reviews of class {label}; "
                    f"task.num_validation={self.num_validation} leaves none to train on"
                )
        return _stratified(labels, self.num_validation, self.validation_seed)

    def _warning(self, reviews: Mapping[str, Reviews], path: Path) -> str:
        """Say why these are not the official reviews; nothing if they are."""
        official, content = self.official, _imdb.content_digest(reviews)
        if content == official.content:
            return ""
        return (
            f"{path.name} does not hold the official reviews: {len(reviews['train']):,} training "
            f"and {len(reviews['test']):,} test reviews, SHA-256 of their content "
            f"{content[:16]}..., expected {official.num_reviews:,}, {official.num_reviews:,} and "
            f"{official.content[:16]}...; get it from {official.url}"
        )


def _read(path: Path, cache_dir: Path, progress: ProgressCallback) -> dict[str, Reviews]:
    """Read the labeled reviews of both parts, in the order of their names.

    Raises:
        UserError: The archive is broken, holds what is no review, or a part has none.
    """
    # It takes a second, and only preparing needs it.
    from lra_tasks._imdb_builder import ImdbReviews

    by_name: dict[str, dict[str, tuple[bytes, int]]] = {part: {} for part in _imdb.PARTS}
    # The builder writes nothing; it must be told a folder.
    builder = ImdbReviews(data_dir=str(cache_dir))
    for part, example in builder.examples(path, progress):
        by_name[part][example["id"].item()] = example["text"].item(), example["label"]
    if not all(by_name.values()):
        raise UserError(
            f"{path} has no examples in one of its parts; it is not what its name says, get it "
            f"again"
        )
    return {part: [rows[name] for name in sorted(rows)] for part, rows in by_name.items()}


def _stratified(labels: list[int], number: int, seed: int) -> list[bool]:
    """Choose ``number`` of the rows, equally from both classes, the same on every machine."""
    # The raw output of the bit generator is promised never to change.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    chosen = np.zeros(len(labels), np.bool_)
    for label in (0, 1):
        rows = np.flatnonzero(np.array(labels) == label)
        chosen[rows[np.argsort(keys[rows], kind="stable")[: number // 2]]] = True
    return chosen.tolist()
