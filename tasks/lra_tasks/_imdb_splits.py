"""The labeled IMDB reviews in splits: the test reviews whole, validation drawn from training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lra_bench.errors import UserError
from lra_bench.types import DataInfo, ProgressCallback, Split
from lra_tasks import _imdb
from lra_tasks._options import check_counts

# Text and class of reviews.
Reviews = list[tuple[bytes, int]]


def check_number(num_validation: int, official: _imdb.Official) -> None:
    """Refuse a number of validation reviews that cannot be held out.

    Raises:
        UserError: It is odd, too small or too large.
    """
    check_counts({"validation": num_validation}, least=2, even=True)
    if num_validation >= official.num_reviews:
        raise UserError(
            f"task.num_validation={num_validation} must be below {official.num_reviews:,}, "
            f"the number of training reviews"
        )


def about(num_validation: int, official: _imdb.Official) -> DataInfo:
    """Return what is known of the reviews before they are read."""
    number = official.num_reviews
    return DataInfo(
        origin=f"IMDB reviews, {_imdb.ARCHIVE_NAME}",
        terms=_imdb.TERMS,
        num_examples={
            "train": number - num_validation,
            "validation": num_validation,
            "test": number,
        },
    )


def told(number: int, seed: int) -> str:
    """Return what a record says of validation."""
    return f"{number:,} of the training reviews, stratified, seed {seed}"


def divided(
    reviews: Mapping[str, Reviews], num_validation: int, seed: int, path: Path
) -> dict[Split, Reviews]:
    """Return the reviews of each split.

    Raises:
        UserError: None of a class would be left to train on.
    """
    held_out = _held_out(reviews["train"], num_validation, seed, path)
    training = list(zip(reviews["train"], held_out, strict=True))
    return {
        "train": [row for row, is_out in training if not is_out],
        "validation": [row for row, is_out in training if is_out],
        "test": reviews["test"],
    }


def _held_out(training: Reviews, number: int, seed: int, path: Path) -> list[bool]:
    """Return which training reviews are for validation.

    Raises:
        UserError: None of a class would be left to train on.
    """
    labels = [label for _, label in training]
    for label in (0, 1):
        if labels.count(label) <= number // 2:
            raise UserError(
                f"{path} has {labels.count(label):,} training reviews of class {label}; "
                f"task.num_validation={number} leaves none to train on"
            )
    return _stratified(labels, number, seed)


def warning_of(reviews: Mapping[str, Reviews], path: Path, official: _imdb.Official) -> str:
    """Say why these are not the official reviews; nothing if they are."""
    content = _imdb.content_digest(reviews)
    if content == official.content:
        return ""
    return (
        f"{path.name} does not hold the official reviews: {len(reviews['train']):,} training "
        f"and {len(reviews['test']):,} test reviews, SHA-256 of their content "
        f"{content[:16]}..., expected {official.num_reviews:,}, {official.num_reviews:,} and "
        f"{official.content[:16]}...; get it from {official.url}"
    )


def read(path: Path, cache_dir: Path, progress: ProgressCallback) -> dict[str, Reviews]:
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
