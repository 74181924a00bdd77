"""The archive of the IMDB reviews: what it is, getting it, and reading it without trusting it.

Source: Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.types import ProgressCallback, ignore_progress
from lra_tasks._checksums import identity_of
from lra_tasks._download import Archive, download
from lra_tasks._sources import Member, archive_members
from lra_tasks.cached_task import Source

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
TERMS = "no license; cite Maas et al. 2011"
PARTS = ("train", "test")
MOODS = ("neg", "pos")
REMEDY = f"delete it to have it downloaded again, or get it from {URL}"
# Unpacked, the official archive has 490 MB; its longest review has 14 KB, a list of films 613 KB.
_MAX_BYTES = 2 << 30
_MAX_FILE_BYTES = 1 << 20
_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/([0-9]+)_[0-9]+\.txt")
_FILMS = re.compile(r"aclImdb/(train|test)/urls_(neg|pos)\.txt")


@dataclass(frozen=True)
class Official:
    """What the official reviews are.

    Args:
        archives: Those that are known to hold them; the first one is downloaded.
        url: From where.
        num_reviews: Labeled reviews of each part.
        content: SHA-256 (hex) of the labeled reviews themselves; see `content_digest`.
        films: SHA-256 (hex) of which review is of which film; see `films_digest`.
    """

    archives: tuple[Archive, ...]
    url: str
    num_reviews: int
    content: str
    films: str


OFFICIAL = Official(
    archives=(
        Archive(
            "official archive",
            84_125_825,
            "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        ),
        # The same labeled reviews, packed anew without the bag-of-words files.
        Archive(
            "repacked archive",
            56_524_153,
            "cc214112d203dd70c2cf8a7f522f91dc6cceb8226afb7dd34623afda7d5e56ce",
        ),
    ),
    url=URL,
    num_reviews=25_000,
    content="c9146d4e1b24e1c8dff46135443fcb09edbd2219edd993f17ddc4d49f24b087b",
    films="5d27c74a6d443d18eb26264b8d6898b775b71fc37513f4297bbf970acd19aeab",
)


@dataclass(frozen=True, slots=True)
class Review:
    """A labeled review.

    Args:
        name: Of the file, with its folders.
        part: ``train`` or ``test``.
        mood: ``neg`` or ``pos``.
        number: Its number in its folder, as it is written.
        text: Without white space around it.
    """

    name: str
    part: str
    mood: str
    number: str
    text: bytes


@dataclass(frozen=True, slots=True)
class FilmList:
    """The addresses of the films of the reviews of one folder, a line each.

    Args:
        part: ``train`` or ``test``.
        mood: ``neg`` or ``pos``.
        content: The file.
    """

    part: str
    mood: str
    content: bytes


def read_archive(
    path: Path, progress: ProgressCallback = ignore_progress
) -> Iterator[Review | FilmList]:
    """Yield the labeled reviews and the lists of their films, in the order of the archive.

    Args:
        path: The archive.
        progress: Told the bytes of it that have been read.

    Raises:
        UserError: The archive is broken, or holds what is no review.
    """
    members = archive_members(path, max_bytes=_MAX_BYTES, remedy=REMEDY, progress=progress)
    return reviews_of(members)


def reviews_of(members: Iterable[Member]) -> Iterator[Review | FilmList]:
    """Yield the labeled reviews and the lists of their films among the members of an archive.

    Raises:
        UserError: One is no review.
    """
    seen = set()
    for member in members:
        review, films = _REVIEW.fullmatch(member.name), _FILMS.fullmatch(member.name)
        if review is None and films is None:
            continue
        content = member.read(_MAX_FILE_BYTES)
        if member.name in seen:
            raise UserError(f"{member.place} is there twice; {REMEDY}")
        seen.add(member.name)
        if films is not None:
            yield FilmList(films[1], films[2], content)
        elif review is not None:
            # The stock builder of tensorflow-datasets strips white space too.
            text = content.strip()
            # UTF-8 has no byte 255; what is stored of the text task relies on that.
            if not text or b"\xff" in text:
                what = "not UTF-8" if text else "empty"
                raise UserError(f"{member.place} is {what}; {REMEDY}")
            yield Review(member.name, review[1], review[2], review[3], text)


def find(data_dir: Path, cache_dir: Path) -> Source[Path] | None:
    """Return the archive that lies in a folder, None if there is none.

    Raises:
        UserError: It cannot be read.
    """
    path = data_dir / ARCHIVE_NAME
    return Source(identity_of(path, cache_dir), path) if path.exists() else None


def fetch(data_dir: Path, official: Official) -> None:
    """Put the official archive into a folder.

    Raises:
        UserError: There is no network, the server refuses, or the checksum differs.
    """
    download(official.url, data_dir / ARCHIVE_NAME, official.archives[0], what="the IMDB reviews")


def details_of(source: Source[Path], official: Official) -> dict[str, str]:
    """Return what a record says of the archive that was read."""
    names = {archive.sha256: archive.name for archive in official.archives}
    return {
        "archive": names.get(source.identity, "unknown archive"),
        "archive_sha256": source.identity,
    }


def content_digest(reviews: Mapping[str, Sequence[tuple[bytes, int]]]) -> str:
    """Return a SHA-256 (hex) of the labeled reviews, whatever they were packed in.

    Args:
        reviews: Text and class of each, in the order of their names, by part.
    """
    digest = hashlib.sha256()
    for part in PARTS:
        for text, label in reviews[part]:
            digest.update(b"%s %d %d\n%s" % (part.encode(), label, len(text), text))
    return digest.hexdigest()


def films_digest(films: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Return a SHA-256 (hex) of which review is of which film.

    Args:
        films: Names of the films in the order of the reviews, by part and mood.
    """
    digest = hashlib.sha256()
    for part in PARTS:
        for mood in MOODS:
            digest.update(f"{part} {mood} {' '.join(films[part, mood])}\n".encode())
    return digest.hexdigest()
