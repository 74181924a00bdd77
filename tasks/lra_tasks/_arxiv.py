"""Papers of eleven classes: folders of texts, or tables, and how they are divided.

Source: He et al., IEEE Access 2019; LiqunW/Long-document-dataset on GitHub.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import ProgressCallback, Split, ignore_progress
from lra_tasks._checksums import identity_of, identity_of_folder
from lra_tasks._documents import TAR_ENDINGS, zip_members
from lra_tasks._sources import Member, RawFiles, archive_members, members_of
from lra_tasks.cached_task import Source

FOLDER = "arxiv11"
URL = "https://github.com/LiqunW/Long-document-dataset"
TERMS = "no license; cite He et al. 2019"
CLASSES = (
    *("cs.AI", "cs.CE", "cs.CV", "cs.DS", "cs.IT", "cs.NE", "cs.PL", "cs.SY"),
    *("math.AC", "math.GR", "math.ST"),
)
# As the README of the repository counts them.
OFFICIAL_COUNTS = (2_995, 2_505, 2_525, 4_136, 3_233, 3_012, 2_901, 3_106, 2_885, 3_065, 6_025)
REMEDY = f"get it again from {URL}"
TABLE_ENDINGS = (".jsonl", ".csv", ".tsv")
ARCHIVES = tuple(f"{FOLDER}{ending}" for ending in (*TAR_ENDINGS, ".zip"))
_MAX_FILE_BYTES, _MAX_TABLE_BYTES, _MAX_BYTES = 64 << 20, 4 << 30, 64 << 30
_NUMBERS = {name.lower(): number for number, name in enumerate(CLASSES)}
# What the server prints on the margin of a first page; it names the class.
_STAMP = re.compile(rb"arXiv:\S+\s+\[[^\]\r\n]{1,40}\](?:\s+\d{1,2}\s+\w{3}\s+\d{4})?")


@dataclass(frozen=True)
class Paper:
    """A paper.

    Args:
        name: Class and file; for a row of a table, the SHA-256 of the text in the file's place.
        text: UTF-8, as it stands there.
        label: Its class.
    """

    name: str
    text: bytes
    label: int


def find(data_dir: Path, cache_dir: Path) -> Source[Path] | None:
    """Return the folder or the archive; None if there is none.

    Raises:
        UserError: Something cannot be read.
    """
    folder = data_dir / FOLDER
    if folder.is_dir():
        return Source(identity_of_folder(folder, _may_be_read, cache_dir), folder)
    for name in ARCHIVES:
        if (data_dir / name).is_file():
            return Source(identity_of(data_dir / name, cache_dir), data_dir / name)
    return None


def read(
    path: Path, progress: ProgressCallback = ignore_progress, *, seen: Counter[str] | None = None
) -> Iterator[Paper]:
    """Yield the papers, in no order to be relied on.

    Args:
        path: What `find` found.
        progress: Told how much of an archive has been read.
        seen: Counts ``empty`` texts, and those ``not UTF-8``, whose other bytes are replaced.

    Raises:
        UserError: An archive is broken or refused, or a row has no text or no class.
    """
    seen = Counter() if seen is None else seen
    for member in _members(path, progress):
        if not _may_be_read(member.name):
            continue
        if member.name.endswith(TABLE_ENDINGS):
            papers = _rows(member)
        else:
            papers = iter([_of_file(member)])
        for paper in papers:
            text = paper.text.strip()
            if not text:
                seen["empty"] += 1
                continue
            try:
                text.decode()
            except UnicodeDecodeError:
                seen["not UTF-8"] += 1
                text = text.decode("utf-8", errors="replace").encode()
            own = f"{CLASSES[paper.label]}/{hashlib.sha256(text).hexdigest()}"
            yield Paper(paper.name or own, text, paper.label)


def without_stamp(text: bytes) -> tuple[bytes, bool]:
    """Return a text without what names its class, and whether there was any."""
    # A quick look spares most texts the slow one.
    if b"arXiv:" not in text:
        return text, False
    cleaned, number = _STAMP.subn(b"", text)
    return (cleaned.strip() or text), bool(number)


def divided(names: Sequence[str], labels: Sequence[int]) -> list[Split]:
    """Return the split of each paper: of each class 80, 10 and 10 %, by SHA-256 of the name.

    Raises:
        UserError: A class has too few.
    """
    splits: list[Split] = ["train"] * len(names)
    for label, name in enumerate(CLASSES):
        own = [at for at, one in enumerate(labels) if one == label]
        if len(own) < 3:
            raise UserError(f"the class {name} has {len(own)} papers; at least 3 are needed")
        own.sort(key=lambda at: hashlib.sha256(names[at].encode()).digest())
        tenth = max(1, round(len(own) / 10))
        for at in own[:tenth]:
            splits[at] = "test"
        for at in own[tenth : 2 * tenth]:
            splits[at] = "validation"
    return splits


def _may_be_read(name: str) -> bool:
    *folders, last = name.split("/")
    if last.startswith("."):
        return False
    if last.endswith(TABLE_ENDINGS):
        return True
    return last.endswith(".txt") and bool(folders) and folders[-1].lower() in _NUMBERS


def _members(path: Path, progress: ProgressCallback) -> Iterator[Member]:
    if path.is_dir():
        files = RawFiles(path, is_archive=False)
        return members_of(files, _may_be_read, max_bytes=_MAX_BYTES, remedy=REMEDY)
    if path.suffix == ".zip":
        return zip_members(path, progress)
    return archive_members(path, max_bytes=_MAX_BYTES, remedy=REMEDY, progress=progress)


def _of_file(member: Member) -> Paper:
    folder, _, name = member.name.rpartition("/")
    label = _NUMBERS[folder.rpartition("/")[2].lower()]
    return Paper(f"{CLASSES[label]}/{name}", member.read(_MAX_FILE_BYTES), label)


def _rows(member: Member) -> Iterator[Paper]:
    """Yield the papers of a table.

    Raises:
        UserError: A row has no text or no class, or the table cannot be read.
    """
    if member.name.endswith(".jsonl"):
        rows = _json_rows(member)
    else:
        rows = _csv_rows(member, "\t" if member.name.endswith(".tsv") else ",")
    for place, row in rows:
        text, label = (row.get("text"), row.get("label")) if isinstance(row, dict) else (None, None)
        if not isinstance(text, str) or isinstance(label, (bool, float)) or label is None:
            raise UserError(f"{place} has no text and label; {REMEDY}")
        yield Paper("", text.encode("utf-8", "replace"), _class_of(label, place))


def _class_of(label: Any, place: str) -> int:
    """Return the class that a table writes as a number or as a name.

    Raises:
        UserError: It is none.
    """
    said = str(label).strip().lower()
    if said in _NUMBERS:
        return _NUMBERS[said]
    if re.fullmatch(r"[0-9]{1,2}", said) and int(said) < len(CLASSES):
        return int(said)
    raise UserError(f"{place}: the label {said!r:.40} is not one of {', '.join(CLASSES)}")


def _json_rows(member: Member) -> Iterator[tuple[str, Any]]:
    number = 0
    while line := member.file.readline(_MAX_FILE_BYTES):
        number += 1
        place = f"{member.place}, line {number}"
        try:
            yield place, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON; {REMEDY}") from error


def _csv_rows(member: Member, separator: str) -> Iterator[tuple[str, Any]]:
    try:
        text = member.read(_MAX_TABLE_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{member.place} is not UTF-8; {REMEDY}") from error
    limit = csv.field_size_limit(_MAX_FILE_BYTES)
    try:
        for number, row in enumerate(
            csv.DictReader(io.StringIO(text, newline=""), delimiter=separator), start=1
        ):
            yield f"{member.place}, row {number}", row
    except csv.Error as error:
        raise UserError(f"{member.place} cannot be read ({error}); {REMEDY}") from error
    finally:
        csv.field_size_limit(limit)
