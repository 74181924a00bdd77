"""Review pairs: are two film reviews about the same film? Made of the IMDB reviews, as bytes.

Source: the reviews of Maas et al., ACL 2011; the question is of the kind that the matching task of
arXiv 2011.04006 asks, on other texts.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import (
    SPLITS,
    About,
    Example,
    Progress,
    ProgressCallback,
    Split,
    ignore_progress,
)
from lra_tasks import _imdb_archive, _pairs, text
from lra_tasks._cache import CachedTask, write
from lra_tasks._imdb_archive import ARCHIVE_NAME, REMEDY, FilmList
from lra_tasks._sources import identity_of

# Raised when the same archive and options would give other pairs.
PREPARATION_VERSION = 1
# Of the films of the official reviews; see `_films_digest`.
OFFICIAL_FILMS = "5d27c74a6d443d18eb26264b8d6898b775b71fc37513f4297bbf970acd19aeab"
ANSWERS = ("two films", "the same film")

_FILM = re.compile(r"https?://[^/\s]+/title/(tt[0-9]{1,10})(/\S*)?")
_FOLDERS = tuple((part, mood) for part in ("train", "test") for mood in ("neg", "pos"))


class ReviewPairs(CachedTask):
    """Pairs of reviews as bytes; id = byte + 1, 0 is padding.

    - No film and no text is in two splits. The training reviews of the archive give the training
      pairs; its test reviews give validation and test, a film to one of them, and nothing of films
      that have training reviews. A text that stands under several films is left out; of copies
      under one film one is kept (case, blanks and punctuation make no difference).
    - Half of the pairs of each split are of one film. The films provide them in turn, each first
      those that have no review in common.
    - The other half has the same texts on the same sides, the right ones exchanged among reviews
      of the same polarity. So a single text tells nothing of the answer, nor does it whether both
      reviews praise: either rule is right in exactly one case of two.

    All order comes from SHA-256 of the seed. For the official reviews, seed 0 and the default
    numbers, the pairs written as lines of label (``1.0`` or ``0.0``), both ids and both texts,
    with tabs in between, have these SHA-256: training c2dbae87f56ccf8d..., validation
    32e36adaabc51d33..., test 2d724afc05f3435e....

    Args:
        data_dir: Folder that holds ``aclImdb_v1.tar.gz``; it is downloaded there if it does not.
        cache_dir: Folder of prepared data.
        num_train: Training pairs, an even number; up to 377,648 can be had.
        num_validation: Validation pairs, an even number.
        num_test: Test pairs, an even number.
        seed: Which pairs, in which order.
        max_length: Reviews are cut to this [bytes].

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        num_train: int = 80_000,
        num_validation: int = 2_000,
        num_test: int = 2_000,
        seed: int = 0,
        max_length: int = 4_000,
    ) -> None:
        self.counts: dict[Split, int] = {
            "train": num_train,
            "validation": num_validation,
            "test": num_test,
        }
        for split, number in self.counts.items():
            if number < 4 or number % 2:
                raise UserError(f"task.num_{split}={number} must be even and at least 4")
        if max_length < 1 or seed < 0:
            raise UserError(
                f"task.max_length={max_length} must be at least 1, task.seed={seed} not negative"
            )
        self.spec = _pairs.spec_of("review_pairs", max_length, 0.5)
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.seed = seed

    def about(self) -> About:
        """See `Task.about`."""
        return About(
            f"IMDB review pairs, {ARCHIVE_NAME}",
            "no license; cite Maas et al. 2011",
            self.counts,
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: both texts, and what the label means."""
        return _pairs.decode(example, ANSWERS)

    def _options(self) -> dict[str, Any]:
        return {"version": PREPARATION_VERSION, "seed": self.seed, "counts": self.counts}

    def _place(self) -> Path | None:
        path = self.data_dir / ARCHIVE_NAME
        return self._place_for(identity_of(path, self.cache_dir)) if path.exists() else None

    def _fetch(self) -> None:
        text.download_archive(self.data_dir)

    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        path = self.data_dir / ARCHIVE_NAME
        digest = identity_of(path, self.cache_dir)
        names = {archive.sha256: archive.name for archive in text.KNOWN}
        facts: dict[str, Any] = {
            "source": f"IMDB review pairs, seed {self.seed}",
            "options": self._options(),
            "details": {
                "archive": names.get(digest, "unknown archive"),
                "archive_sha256": digest,
            },
        }
        reviews, is_official = read_reviews(path, progress)
        if not is_official:
            facts["unofficial"] = (
                f"{path.name} does not hold the official reviews and films: another SHA-256 of its "
                f"{len(reviews['train']):,} training and {len(reviews['test']):,} test reviews or "
                f"of their films; get it from {text.URL}"
            )
        pairs = make_pairs(reviews, self.counts, self.seed, path, progress)
        splits = {split: _pairs.chunks_of(_encoded(matches)) for split, matches in pairs.items()}
        write(place, splits, facts, num_inputs=2, first_id=_pairs.FIRST_ID)


def _encoded(matches: Iterable[Match]) -> Iterator[_pairs.Pair]:
    for first, second, label in matches:
        yield first.text.encode(), second.text.encode(), label


# Reading the reviews and their films.


def read_reviews(
    path: Path, progress: ProgressCallback = ignore_progress
) -> tuple[dict[str, list[Review]], bool]:
    """Read the labeled reviews of an archive, of ``train`` and of ``test``, in order.

    Returns:
        The reviews, and whether they and their films are the official ones.

    Raises:
        UserError: The archive is broken, a review is none, or the films of some are not known.
    """
    files: dict[tuple[str, str], list[_imdb_archive.Review]] = {where: [] for where in _FOLDERS}
    lists: dict[tuple[str, str], bytes] = {}
    for found in _imdb_archive.read_archive(path, progress):
        if isinstance(found, FilmList):
            lists[found.part, found.mood] = found.content
        else:
            files[found.part, found.mood].append(found)
    films: dict[tuple[str, str], list[str]] = {}
    reviews: dict[str, list[Review]] = {"train": [], "test": []}
    rows: dict[str, list[tuple[bytes, int]]] = {"train": [], "test": []}
    for (part, mood), some in files.items():
        place = f"{path}, {part}/urls_{mood}.txt"
        films[part, mood] = _films(lists.get((part, mood)), len(some), place)
        reviews[part] += _numbered(some, films[part, mood], path)
        some.sort(key=lambda review: review.name)
        rows[part] += [(review.text, int(mood == "pos")) for review in some]
    is_official = (
        text.content_digest(rows) == text.OFFICIAL_CONTENT
        and _films_digest(films) == OFFICIAL_FILMS
    )
    return reviews, is_official


def _films(content: bytes | None, number: int, place: str) -> list[str]:
    """Return the films of the reviews of a folder, in the order of their numbers.

    Raises:
        UserError: The list is missing, holds something else, or is not one of ``number`` reviews.
    """
    if content is None:
        raise UserError(f"{place} is missing; {REMEDY}")
    lines = [line.decode("ascii", "backslashreplace") for line in content.splitlines()]
    if len(lines) != number:
        raise UserError(f"{place} has {len(lines):,} lines for {number:,} reviews; {REMEDY}")
    films = []
    for at, line in enumerate(lines, start=1):
        found = _FILM.fullmatch(line)
        if found is None:
            raise UserError(f"{place}, line {at}: {line[:80]!r} is no film of IMDB; {REMEDY}")
        films.append(found[1])
    return films


def _numbered(
    some: Sequence[_imdb_archive.Review], films: Sequence[str], path: Path
) -> list[Review]:
    """Return the reviews of a folder in the order of their numbers, each with its film.

    Raises:
        UserError: Their numbers are not 0, 1, 2 and so on, or one is not UTF-8.
    """
    # As text: a number may have more digits than Python converts.
    by_number = {review.number: review for review in some}
    missing = [number for number in map(str, range(len(some))) if number not in by_number]
    if missing:
        raise UserError(
            f"{path} has {len(some):,} reviews beside {some[0].name}, but none of number "
            f"{missing[0]}; {REMEDY}"
        )
    reviews = []
    for number, film in enumerate(films):
        file = by_number[str(number)]
        try:
            line = re.sub(r"[\t\r\n]+", " ", file.text.decode()).strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, member {file.name} is not UTF-8; {REMEDY}") from error
        if not line:
            raise UserError(f"{path}, member {file.name} is empty; {REMEDY}")
        reviews.append(Review(f"{file.part}-{file.mood}-{number}", film, file.mood, line))
    return reviews


def _films_digest(films: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Return a SHA-256 (hex) of which review is of which film."""
    digest = hashlib.sha256()
    for part, mood in _FOLDERS:
        digest.update(f"{part} {mood} {' '.join(films[part, mood])}\n".encode())
    return digest.hexdigest()
