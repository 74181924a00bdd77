"""Review pairs: are two film reviews about the same film? Made of the IMDB reviews, as bytes.

Source: the reviews of Maas et al., ACL 2011; the question is of the kind that the matching task of
arXiv 2011.04006 asks, on other texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import DataInfo, Example, ProgressCallback, Split, ignore_progress
from lra_tasks import _bytes, _imdb
from lra_tasks._options import check_counts, check_length, check_seed
from lra_tasks._pairing import FilmReview, make_pairs
from lra_tasks._store import Layout
from lra_tasks.cached_task import CachedTask, Source, Writer

# Raised when the same archive and options would give other pairs.
PREPARATION_VERSION = 1
ANSWERS = ("two films", "the same film")

_FILM = re.compile(r"https?://[^/\s]+/title/(tt[0-9]{1,10})(/\S*)?")
_FOLDERS = tuple((part, mood) for part in _imdb.PARTS for mood in _imdb.MOODS)


class ReviewPairs(CachedTask[Path]):
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
        official: What the official reviews and films are.

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
        official: _imdb.Official = _imdb.OFFICIAL,
    ) -> None:
        self.counts: dict[Split, int] = {
            "train": num_train,
            "validation": num_validation,
            "test": num_test,
        }
        check_counts(self.counts, least=4, even=True)
        check_length(max_length)
        check_seed(seed)
        self.spec = _bytes.spec_of(
            "review_pairs", max_length=max_length, majority_baseline=0.5, num_inputs=2
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.seed = seed
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"IMDB review pairs, {_imdb.ARCHIVE_NAME}",
            terms=_imdb.TERMS,
            num_examples=self.counts,
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: both texts, and what the label means."""
        return _bytes.pair_of(example.inputs, ANSWERS[int(example.target)])

    def layout(self) -> Layout:
        """See `CachedTask.layout`: bytes as they are."""
        return Layout.of(self.spec, first_id=_bytes.FIRST_ID)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION, "seed": self.seed, "counts": self.counts}

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        return _imdb.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        _imdb.fetch(self.data_dir, self.official)

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        path = source.files
        reviews, is_official = read_reviews(path, progress, official=self.official)
        pairs = make_pairs(reviews, self.counts, self.seed, path, progress)
        for split, matches in pairs.items():
            rows = (
                ((first.text.encode(), second.text.encode()), label)
                for first, second, label in matches
            )
            writer.add(split, _bytes.chunks_of(rows))
        warning = (
            ""
            if is_official
            else (
                f"{path.name} does not hold the official reviews and films: another SHA-256 of its "
                f"{len(reviews['train']):,} training and {len(reviews['test']):,} test reviews or "
                f"of their films; get it from {self.official.url}"
            )
        )
        return DataInfo(
            source=f"IMDB review pairs, seed {self.seed}",
            warning=warning,
            details=_imdb.details_of(source, self.official),
        )


def read_reviews(
    path: Path,
    progress: ProgressCallback = ignore_progress,
    *,
    official: _imdb.Official = _imdb.OFFICIAL,
) -> tuple[dict[str, list[FilmReview]], bool]:
    """Read the labeled reviews of an archive, of ``train`` and of ``test``, in order.

    Returns:
        The reviews, and whether they and their films are the official ones.

    Raises:
        UserError: The archive is broken, a review is none, or the films of some are not known.
    """
    return join(_imdb.read_archive(path, progress), path, official)


def join(
    members: Iterable[_imdb.Review | _imdb.FilmList], path: Path, official: _imdb.Official
) -> tuple[dict[str, list[FilmReview]], bool]:
    """Put reviews and their films together; see `read_reviews`.

    Args:
        members: What the archive has.
        path: The archive, for the messages.
        official: What the official reviews and films are.

    Raises:
        UserError: A review is none, or the films of some are not known.
    """
    files: dict[tuple[str, str], list[_imdb.Review]] = {folder: [] for folder in _FOLDERS}
    lists: dict[tuple[str, str], bytes] = {}
    for member in members:
        if isinstance(member, _imdb.FilmList):
            lists[member.part, member.mood] = member.content
        else:
            files[member.part, member.mood].append(member)
    films: dict[tuple[str, str], list[str]] = {}
    reviews: dict[str, list[FilmReview]] = {part: [] for part in _imdb.PARTS}
    rows: dict[str, list[tuple[bytes, int]]] = {part: [] for part in _imdb.PARTS}
    for (part, mood), folder in files.items():
        place = f"{path}, {part}/urls_{mood}.txt"
        films[part, mood] = _films(lists.get((part, mood)), len(folder), place)
        reviews[part] += _numbered(folder, films[part, mood], path)
        folder.sort(key=lambda review: review.name)
        rows[part] += [(review.text, int(mood == "pos")) for review in folder]
    is_official = (
        _imdb.content_digest(rows) == official.content
        and _imdb.films_digest(films) == official.films
    )
    return reviews, is_official


def _films(content: bytes | None, number: int, place: str) -> list[str]:
    """Return the films of the reviews of a folder, in the order of their numbers.

    Raises:
        UserError: The list is missing, holds something else, or is not one of ``number`` reviews.
    """
    if content is None:
        raise UserError(f"{place} is missing; {_imdb.REMEDY}")
    lines = [line.decode("ascii", "backslashreplace") for line in content.splitlines()]
    if len(lines) != number:
        raise UserError(f"{place} has {len(lines):,} lines for {number:,} reviews; {_imdb.REMEDY}")
    films = []
    for number_of_line, line in enumerate(lines, start=1):
        match = _FILM.fullmatch(line)
        if match is None:
            raise UserError(
                f"{place}, line {number_of_line}: {line[:80]!r} is no film of IMDB; {_imdb.REMEDY}"
            )
        films.append(match[1])
    return films


def _numbered(folder: Sequence[_imdb.Review], films: Sequence[str], path: Path) -> list[FilmReview]:
    """Return the reviews of a folder in the order of their numbers, each with its film.

    Raises:
        UserError: Their numbers are not 0, 1, 2 and so on, or one is not UTF-8.
    """
    # As text: a number may have more digits than Python converts.
    by_number = {review.number: review for review in folder}
    missing = [number for number in map(str, range(len(folder))) if number not in by_number]
    if missing:
        raise UserError(
            f"{path} has {len(folder):,} reviews beside {folder[0].name}, but none of number "
            f"{missing[0]}; {_imdb.REMEDY}"
        )
    reviews = []
    for number, film in enumerate(films):
        file = by_number[str(number)]
        try:
            line = re.sub(r"[\t\r\n]+", " ", file.text.decode()).strip()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, member {file.name} is not UTF-8; {_imdb.REMEDY}") from error
        if not line:
            raise UserError(f"{path}, member {file.name} is empty; {_imdb.REMEDY}")
        reviews.append(FilmReview(f"{file.part}-{file.mood}-{number}", film, file.mood, line))
    return reviews
