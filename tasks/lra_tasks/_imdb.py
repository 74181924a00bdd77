"""Reading the archive of the IMDB reviews, in one pass, without trusting it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.types import ProgressCallback, ignore_progress
from lra_tasks._sources import archive_members

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
REMEDY = f"delete it to have it downloaded again, or get it from {URL}"
# Unpacked, the official archive has 490 MB; its longest review has 14 KB, a list of films 613 KB.
_MAX_BYTES = 2 << 30
_MAX_FILE_BYTES = 1 << 20
_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/([0-9]+)_[0-9]+\.txt")
_FILMS = re.compile(r"aclImdb/(train|test)/urls_(neg|pos)\.txt")


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
    seen = set()
    for member in archive_members(path, max_bytes=_MAX_BYTES, remedy=REMEDY, progress=progress):
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
            # UTF-8 has no byte 255; the ids of the text task rely on that.
            if not text or b"\xff" in text:
                what = "not UTF-8" if text else "empty"
                raise UserError(f"{member.place} is {what}; {REMEDY}")
            yield Review(member.name, review[1], review[2], review[3], text)
