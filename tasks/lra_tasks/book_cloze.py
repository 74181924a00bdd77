"""Book cloze: which name was taken out of the sentence behind a context? From old novels.

A stand-in that everybody can have for questions over long texts: neither WikiHop nor TriviaQA.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, ProgressCallback, Split
from lra_tasks import _answers, _cloze, _reading
from lra_tasks._checksums import identity_of
from lra_tasks._options import check_choice
from lra_tasks._question_task import Form, Question, QuestionTask, Text, details_of, spec_of
from lra_tasks._sources import archive_members
from lra_tasks.cached_task import Source, Writer

# Raised when the same file would give other bytes.
PREPARATION_VERSION = 1
ARCHIVE_NAME = "classic_books.tar.xz"
FOLDER = "classic_books/"
OFFICIAL = ("8dac8f95201d5e9eb67d1c625b7fcad05b896860b559c8a1d59c09c07662dafe",)
_REMEDY = f"put {ARCHIVE_NAME} there: Markdown files of books, and {FOLDER}index.tsv"
# Unpacked, the archive has 64 MB, its longest book 1.7 MB.
_MAX_BYTES, _MAX_BOOK_BYTES = 1 << 30, 64 << 20
_COLUMNS = ("path", "author", "split")


class BookCloze(QuestionTask[Path]):
    """Names to find again in what stands before them, as bytes.

    A context of at most 3,600 bytes of a book, and a sentence behind it from which a name of the
    context was taken out. Contexts do not overlap. No author is in two splits. As a ``choice``, up
    to ten names of the context are candidates; as a ``span``, every place of the name in the
    context is right.

    Args:
        data_dir: Folder that holds ``classic_books.tar.xz``.
        cache_dir: Folder of prepared data.
        form: ``choice`` or ``span``; the same questions.
        max_length: The context is cut behind this [tokens].
        answer_length: The longest answer that is looked for, of a ``span`` [tokens].
        official: SHA-256 of the archive, and of others with its content.

    Raises:
        UserError: An option is out of range.
    """

    rule: _answers.Rule = "squad"

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        form: Form = "choice",
        max_length: int = 4_096,
        answer_length: int = 30,
        official: Sequence[str] = OFFICIAL,
    ) -> None:
        check_choice("form", form, get_args(Form))
        self.max_pieces = 1
        self.spec = spec_of(
            "book_cloze", form, max_length=max_length, max_pieces=1, answer_length=answer_length
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.form = form
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"books up to 1899, {ARCHIVE_NAME}", terms="public domain, says their source"
        )

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION, "form": self.form}

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        path = self.data_dir / ARCHIVE_NAME
        return Source(identity_of(path, self.cache_dir), path) if path.exists() else None

    def fetch(self) -> None:
        """See `CachedTask.fetch`: nothing is downloaded.

        Raises:
            UserError: Always; the text says what to get.
        """
        raise UserError(f"{self.data_dir} has no {ARCHIVE_NAME}; {_REMEDY}")

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        books = _books(source.files, progress)
        tallies = {split: self.write(writer, split, _questions(books[split])) for split in SPLITS}
        for split, tally in tallies.items():
            if not tally.num_questions:
                raise UserError(f"{source.files} has no question for {split}; {_REMEDY}")
        warning = ""
        if source.identity not in self.official:
            warning = (
                f"{source.files.name} is not the archive that the numbers of this task are on: "
                f"SHA-256 {source.identity[:16]}..., expected {self.official[0][:16]}..."
            )
        said = ", ".join(f"{len(some)} {split}" for split, some in books.items())
        return DataInfo(
            source="cloze of classic books",
            warning=warning,
            baselines=tallies["test"].baselines(),
            details=details_of(tallies) | {"books": f"{said}; no author is in two of them"},
        )


@dataclass(frozen=True)
class Book:
    """A book.

    Args:
        name: Its file.
        text: Markdown.
    """

    name: str
    text: str


def _books(path: Path, progress: ProgressCallback) -> Mapping[Split, list[Book]]:
    """Return the books of each split, in the order of their names.

    Raises:
        UserError: The archive is broken, a book or the index is missing or not UTF-8, or an author
            is in two splits.
    """
    index = b""
    texts: dict[str, str] = {}
    for member in archive_members(path, max_bytes=_MAX_BYTES, remedy=_REMEDY, progress=progress):
        name = member.name.removeprefix(FOLDER)
        if name == "index.tsv":
            index = member.read(_MAX_BOOK_BYTES)
        elif name.endswith(".md"):
            if name in texts:
                raise UserError(f"{member.place} is there twice; {_REMEDY}")
            texts[name] = _decoded(member.read(_MAX_BOOK_BYTES), member.place)
    splits: dict[Split, list[Book]] = {split: [] for split in SPLITS}
    authors: dict[str, str] = {}
    for place, row in _rows_of(index, path):
        name, author, split = (row[column] for column in _COLUMNS)
        if split not in SPLITS:
            raise UserError(f"{place}: split {split!r:.40} is not one of {', '.join(SPLITS)}")
        if name not in texts:
            raise UserError(f"{place}: {name!r:.80} is not in the archive, or named twice")
        if authors.setdefault(author, split) != split:
            raise UserError(f"{place}: {author!r:.80} is in {authors[author]} and in {split}")
        splits[split].append(Book(name, texts.pop(name)))
    return {split: sorted(some, key=lambda book: book.name) for split, some in splits.items()}


def _rows_of(index: bytes, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of the index with their places."""
    text = _decoded(index, f"{path}, member {FOLDER}index.tsv")
    reader = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        for row in reader:
            place = f"{path}, member {FOLDER}index.tsv, line {reader.line_num}"
            if missing := [name for name in _COLUMNS if not row.get(name)]:
                raise UserError(f"{place} has no {', '.join(missing)}")
            yield place, row
    except csv.Error as error:
        raise UserError(f"{path}, member {FOLDER}index.tsv: {error}; {_REMEDY}") from error


def _decoded(content: bytes, place: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is not UTF-8; {_REMEDY}") from error


def _questions(books: Sequence[Book]) -> Iterator[Question]:
    for book in books:
        for number, cloze in enumerate(_cloze.questions_of(book.text, name=book.name)):
            before, after = map(_reading.ids_of, (cloze.before, cloze.after))
            pattern = rf"(?<![^\W\d_]){re.escape(cloze.answer)}(?![^\W\d_])"
            spans = [one.span() for one in re.finditer(pattern, cloze.context)]
            yield Question(
                f"{book.name} {number}",
                np.concatenate((before, [_reading.BLANK], after)),
                [cloze.answer],
                [Text(cloze.context, spans)],
                cloze.candidates,
                cloze.candidates.index(cloze.answer),
            )
