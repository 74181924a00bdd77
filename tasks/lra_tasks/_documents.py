"""Documents of a folder, an archive or a file of lines, read without trusting them.

Documents are files that end in .txt, .text or .md, and the lines of files that end in .jsonl, each
an object with a ``text``. An ``index.tsv`` beside them may say whose they are, and which part.
"""

from __future__ import annotations

import fnmatch
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from lra_bench.errors import UserError
from lra_bench.types import Progress, ProgressCallback, Split, ignore_progress
from lra_tasks._checksums import identity_of, identity_of_folder
from lra_tasks._sources import Member, RawFiles, archive_members, guarded, members_of

TEXT_ENDINGS = (".txt", ".text", ".md")
LINES_ENDING = ".jsonl"
ENDINGS = (*TEXT_ENDINGS, LINES_ENDING)
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
ARCHIVE_ENDINGS = (*TAR_ENDINGS, ".zip")
INDEX_NAME = "index.tsv"
REMEDY = "mend it, or get it again"
# What an archive may hold, unpacked, and a document, a line or an index.
_MAX_BYTES = 256 << 30
_MAX_DOCUMENT_BYTES = 256 << 20
# The columns of an index, whatever they are called.
_COLUMNS = {"file": "file", "path": "file", "name": "file", "author": "author"}
_COLUMNS |= {"part": "part", "split": "part"}
_PARTS: dict[str, Split] = {"train": "train", "training": "train", "test": "test"}
_PARTS |= dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation")


@dataclass(frozen=True, slots=True)
class Document:
    """A document.

    Args:
        name: Its file, with the folders; of a line also which one.
        text: UTF-8, without white space around it.
        author: Whose it is; empty where nobody says.
        part: Which split it belongs to; None where nobody says.
    """

    name: str
    text: bytes
    author: str = ""
    part: Split | None = None


@dataclass(frozen=True)
class Place:
    """Where documents lie: a folder, an archive, or a file.

    Args:
        path: Of it.
        pattern: Which files in it are meant, as a shell writes it; ``*`` stands for slashes, too.
    """

    path: Path
    pattern: str = "*"

    def identity(self, cache_dir: Path) -> str:
        """Return what tells the content from any other; see `identity_of`.

        Raises:
            UserError: Something cannot be read.
        """
        if self.path.is_dir():
            return identity_of_folder(self.path, self._may_be_read, cache_dir)
        return identity_of(self.path, cache_dir)

    def read(
        self,
        progress: ProgressCallback = ignore_progress,
        *,
        seen: Counter[str] | None = None,
    ) -> Iterator[Document | Index]:
        """Yield the documents, and the index where there is one: in no order to be relied on.

        Args:
            progress: Told how much has been read.
            seen: Counts what was left out: ``other files``, ``empty`` and ``not UTF-8``.

        Raises:
            UserError: An archive is broken or refused, or a line is no object with a text.
        """
        seen = Counter() if seen is None else seen
        matches = re.compile(fnmatch.translate(self.pattern)).fullmatch
        for member in self._members(progress):
            name = member.name.rpartition("/")[2]
            if name == INDEX_NAME:
                yield read_index(member)
            elif not name.endswith(ENDINGS) or name.startswith(".") or not matches(member.name):
                seen["other files"] += 1
            elif name.endswith(LINES_ENDING):
                yield from _kept(_lines(member, progress), seen)
            else:
                yield from _kept([Document(member.name, member.read(_MAX_DOCUMENT_BYTES))], seen)

    def _may_be_read(self, name: str) -> bool:
        last = name.rpartition("/")[2]
        return last == INDEX_NAME or (last.endswith(ENDINGS) and not last.startswith("."))

    def _members(self, progress: ProgressCallback) -> Iterator[Member]:
        path = self.path
        if path.is_dir():
            files = RawFiles(path, is_archive=False)
            return members_of(files, self._may_be_read, max_bytes=_MAX_BYTES, remedy=REMEDY)
        if path.name.endswith(".zip"):
            return zip_members(path, progress)
        if path.name.endswith(TAR_ENDINGS):
            return archive_members(path, max_bytes=_MAX_BYTES, remedy=REMEDY, progress=progress)
        return _file(path)


def find(data_dir: Path, path: str, pattern: str = "*") -> Place | None:
    """Return where documents lie; None if there is nothing.

    Args:
        data_dir: What a path is relative to.
        path: As the user writes it.
        pattern: See `Place`.
    """
    place = data_dir / Path(path).expanduser()
    return Place(place, pattern) if path and place.exists() else None


def check_path(data_dir: Path, path: str, option: str) -> None:
    """Refuse a path that is neither there nor looks like one of documents; nothing is read.

    Raises:
        UserError: It is such a path.
    """
    known = (*ENDINGS, *ARCHIVE_ENDINGS)
    if path and not path.endswith(known) and find(data_dir, path) is None:
        raise UserError(
            f"{option}={path}: there is no such folder in {data_dir}, and it ends in none of "
            f"{', '.join(known)}"
        )


def _file(path: Path) -> Iterator[Member]:
    folder = RawFiles(path.parent, is_archive=False)
    if not path.name.endswith(ENDINGS):
        raise UserError(
            f"{path} is no folder, and ends in none of {', '.join((*ENDINGS, *ARCHIVE_ENDINGS))}"
        )
    return members_of(folder, path.name.__eq__, max_bytes=_MAX_BYTES, remedy=REMEDY)


def zip_members(path: Path, progress: ProgressCallback = ignore_progress) -> Iterator[Member]:
    """Yield the files of a zip archive, in the order it has them.

    Raises:
        UserError: It is broken, encrypted, or holds names that climb out of its folder.
    """
    with _guarded_zip(path):
        archive = zipfile.ZipFile(path)
    with archive:
        # One without a name is no folder; a damaged archive can have it.
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        if sum(entry.file_size for entry in entries) > _MAX_BYTES:
            raise UserError(f"{path} unpacks to more than {_MAX_BYTES:,} bytes; {REMEDY}")
        for at, entry in enumerate(entries):
            parts = [part for part in entry.filename.split("/") if part not in ("", ".")]
            if not parts or entry.filename[0] == "/" or {"..", "\\"} & {*parts, *entry.filename}:
                raise UserError(
                    f"{path} is refused: it has a member {entry.filename!r} that climbs out of "
                    f"its folder; {REMEDY}"
                )
            if entry.flag_bits & 1:
                raise UserError(f"{path} is encrypted; unpack it")
            with _guarded_zip(path):
                file = archive.open(entry)
            name, place = "/".join(parts), f"{path}, member {entry.filename!r}"
            with file:
                reader = cast(IO[bytes], _OfZip(file, path))
                yield Member(name, entry.file_size, reader, place)
            if at % 1_000 == 0:
                progress(Progress(f"reading {path.name} [files]", at, len(entries)))


@contextmanager
def _guarded_zip(path: Path) -> Iterator[None]:
    """Turn whatever a broken zip archive causes into one clear error."""
    with guarded(path, REMEDY):
        try:
            yield
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError) as error:
            raise ValueError(str(error)) from error


class _OfZip:
    """A file inside a zip archive; what goes wrong in reading it is said of the archive."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        with _guarded_zip(self._path):
            return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        with _guarded_zip(self._path):
            return self._file.readline(size)


def _kept(documents: Iterator[Document] | list[Document], seen: Counter[str]) -> Iterator[Document]:
    """Yield those that have a text, without what stands around it; count the others."""
    for one in documents:
        try:
            text = one.text.removeprefix(b"\xef\xbb\xbf").strip()
            # Far quicker than to decode it.
            if not text.isascii():
                text.decode()
        except UnicodeDecodeError:
            seen["not UTF-8"] += 1
            continue
        if text:
            yield Document(one.name, text, one.author, one.part)
        else:
            seen["empty"] += 1


def _lines(member: Member, progress: ProgressCallback) -> Iterator[Document]:
    """Yield the documents of a file of lines.

    Raises:
        UserError: A line is no object with a text.
    """
    number = done = reported = 0
    while line := member.file.readline(_MAX_DOCUMENT_BYTES):
        number += 1
        done += len(line)
        place = f"{member.place}, line {number}"
        if line.strip():
            yield _of_line(line, f"{member.name}:{number}", place)
        if done - reported >= 1 << 22:
            reported = done
            progress(Progress(f"reading {member.name} [bytes]", done, member.size))


def _of_line(line: bytes, name: str, place: str) -> Document:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON; {REMEDY}") from error
    if not isinstance(content, dict) or not isinstance(content.get("text"), str):
        raise UserError(f"{place} is no object with a `text`; {REMEDY}")
    about = {_COLUMNS[key]: value for key, value in content.items() if key in _COLUMNS}
    author, part = about.get("author", ""), about.get("part")
    return Document(
        name,
        # A lone half of a pair of surrogates is no UTF-8; it is told as such.
        content["text"].encode("utf-8", "surrogatepass"),
        author if isinstance(author, str) else "",
        None if part is None else part_of(part, place),
    )


def part_of(name: Any, place: str) -> Split:
    """Return the split that a part is called.

    Raises:
        UserError: It is none.
    """
    if not isinstance(name, str) or name.strip().lower() not in _PARTS:
        raise UserError(f"{place}: the part {name!r:.60} is not one of {', '.join(_PARTS)}")
    return _PARTS[name.strip().lower()]


@dataclass(frozen=True)
class Index:
    """What an index says of documents.

    Args:
        place: How to name it to a person.
        folder: The folder in which it lies, with a slash; empty for the outermost.
        authors: By the name of the document.
        parts: Likewise.
    """

    place: str
    folder: str
    authors: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Split] = field(default_factory=dict)


def read_index(member: Member) -> Index:
    """Read a table with tabs and a header: a file, and its author or its part, or both.

    Raises:
        UserError: A column is missing, a line has another number of them, or a file stands twice.
    """
    try:
        text = member.read(_MAX_DOCUMENT_BYTES).decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"{member.place} is not UTF-8; {REMEDY}") from error
    rows = [line.split("\t") for line in text.splitlines()]
    header = [_COLUMNS.get(name.strip().lower(), "") for name in (rows[0] if rows else [])]
    if header.count("file") != 1 or not {"author", "part"} & set(header):
        raise UserError(
            f"{member.place}: the first line must name the columns, separated by tabs: file (or "
            f"path), and author or part (or split)"
        )
    folder = member.name.removesuffix(INDEX_NAME)
    found: dict[str, dict[str, Any]] = {"author": {}, "part": {}}
    for number, row in enumerate(rows[1:], start=2):
        place = f"{member.place}, line {number}"
        if len(row) != len(header):
            raise UserError(f"{place} has {len(row)} columns, the first line has {len(header)}")
        name = folder + row[header.index("file")].strip()
        for column, cells in found.items():
            if column in header:
                if name in cells:
                    raise UserError(f"{place}: {name} stands there twice")
                value = row[header.index(column)].strip()
                cells[name] = part_of(value, place) if column == "part" else value
    return Index(member.place, folder, found["author"], found["part"])
