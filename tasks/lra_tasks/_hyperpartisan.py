"""Hyperpartisan news, the part labeled by article: its files, read without trusting them.

Source: Kiesel et al., SemEval-2019 task 4. The text is prepared as Longformer's authors describe
it (arXiv 2004.05150; scripts/hp_preprocess.py of allenai/longformer at caefee6).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lra_bench.errors import UserError
from lra_bench.types import Split
from lra_tasks._checksums import identity_of, identity_of_all
from lra_tasks._documents import zip_members
from lra_tasks._sources import archive_members
from lra_tasks.cached_task import Source

ARCHIVE_NAME = "hyperpartisan_byarticle.tar.gz"
FOLDER = "hyperpartisan_byarticle"
URL = "https://zenodo.org/records/1489920"
TERMS = "CC BY 4.0 (dataset card), texts are their publishers'; cite Kiesel et al. 2019"
ARTICLES, TRUTH = "articles", "ground-truth"
PARTS = {"training": "training-byarticle-20181122", "test": "test-byarticle-20181207"}
SPLITS_NAMES = ("longformer-hp-splits.json", "hp-splits.json")
FILES = tuple(f"{kind}-{part}.xml" for part in PARTS.values() for kind in (ARTICLES, TRUTH))
LABELS = {"false": 0, "true": 1}
# SHA-256 of the official files.
OFFICIAL: Mapping[str, str] = {
    "articles-training-byarticle-20181122.xml": (
        "d891f8e01317aadc2fc547f9265866c351e36f0962619e50c966684cb5f7ae8a"
    ),
    "ground-truth-training-byarticle-20181122.xml": (
        "17cd01260c99739d4f3ac25f99ed39361cfde851bf018b675800a2b639bce790"
    ),
    "articles-test-byarticle-20181207.xml": (
        "8a82656527a196c9b9c5d028d7cfbc7675037a67c9f230c8e5907f783a48ca34"
    ),
    "ground-truth-test-byarticle-20181207.xml": (
        "9780405de1b00002a9b951a1fd776592c30c47517a863242c9dd3569cb2683d7"
    ),
}
REMEDY = f"get it again from {URL}"
# The official files have 2.8 MB at most.
_MAX_FILE_BYTES, _MAX_BYTES = 64 << 20, 1 << 30
_PARTS_OF_SPLITS: dict[str, Split] = {"train": "train", "dev": "validation", "test": "test"}

# What is done to a text, in this order.
_CHANGES = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<=[A-Za-z])/(?=[A-Za-z])", " "),
        (r"\n", " "),
        (r"&#160;", ""),
        (r"(?:https?|www|href)\S*", ""),
        (r"\s+", " "),
        (r"[!?.]+([!?.])", r"\1"),
        (r"([A-Za-z])\1{2,}\b", r"\1"),
    )
)


@dataclass(frozen=True)
class Article:
    """An article.

    Args:
        id: As the files write it.
        text: As it is prepared; empty where nothing is left.
        raw: As it stands there, tags removed.
        label: 1 if it is hyperpartisan.
    """

    id: str
    text: bytes
    raw: bytes
    label: int


@dataclass(frozen=True)
class Found:
    """Where the files lie.

    Args:
        archive: The archive that has all of them, or None.
        files: Otherwise each: the XML file, or a zip archive with it.
    """

    archive: Path | None
    files: Mapping[str, Path]


def find(data_dir: Path, cache_dir: Path, *, with_splits: bool) -> Source[Found] | None:
    """Return where the files lie: the archive, or all of them one by one; None if nowhere.

    Args:
        data_dir: Where to look, also in its folder of the archive's name.
        cache_dir: Where checksums are remembered.
        with_splits: Whether the file of the released division is needed.

    Raises:
        UserError: Some are there and others missing, or one cannot be read.
    """
    archive = data_dir / ARCHIVE_NAME
    if archive.exists():
        return Source(identity_of(archive, cache_dir), Found(archive, {}))
    for folder in (data_dir / FOLDER, data_dir):
        files = {name: path for name in FILES if (path := _file(folder, name)) is not None}
        if not files:
            continue
        if with_splits:
            files |= {name: path for name in SPLITS_NAMES if (path := folder / name).exists()}
        missing = [name for name in FILES if name not in files]
        if missing:
            raise UserError(
                f"{', '.join(missing)} is missing in {folder}, as .xml or .zip; put it there, from "
                f"{URL}"
            )
        return Source(identity_of_all(list(files.values()), cache_dir), Found(None, files))
    return None


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / name, (folder / name).with_suffix(".zip")):
        if path.exists():
            return path
    return None


def read(found: Found) -> dict[str, bytes]:
    """Return the content of the files by their names.

    Raises:
        UserError: One is missing, there twice, broken or refused.
    """
    contents: dict[str, bytes] = {}
    wanted = {*FILES, *SPLITS_NAMES}
    for member in _members(found):
        name = member.name.rpartition("/")[2]
        if name in wanted:
            if name in contents:
                raise UserError(f"{member.place} is there twice; {REMEDY}")
            contents[name] = member.read(_MAX_FILE_BYTES)
    if missing := [name for name in FILES if name not in contents]:
        where = found.archive or next(iter(found.files.values())).parent
        raise UserError(f"{where} has no {', '.join(missing)}; {REMEDY}")
    return contents


def _members(found: Found) -> Iterator[Any]:
    if found.archive is not None:
        yield from archive_members(found.archive, max_bytes=_MAX_BYTES, remedy=REMEDY)
        return
    for name, path in found.files.items():
        if path.suffix == ".zip":
            yield from (one for one in zip_members(path) if one.name.endswith(name))
        else:
            yield _Plain(name, path)


@dataclass(frozen=True)
class _Plain:
    """A file that lies there by itself."""

    name: str
    path: Path

    @property
    def place(self) -> str:
        return str(self.path)

    def read(self, max_bytes: int) -> bytes:
        try:
            size = self.path.stat().st_size
            if size > max_bytes:
                raise UserError(f"{self.path} has {size:,} bytes, at most {max_bytes:,}; {REMEDY}")
            return self.path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from error


def articles_of(contents: Mapping[str, bytes], part: str) -> list[Article]:
    """Return the articles of a part, ``training`` or ``test``, in the order of their ids.

    Raises:
        UserError: A file is no such XML, an id stands twice, or the two files do not fit.
    """
    names = [f"{kind}-{PARTS[part]}.xml" for kind in (ARTICLES, TRUTH)]
    texts, labels = (_by_id(contents[name], name) for name in names)
    for (own, other), these, those in ((names, texts, labels), (names[::-1], labels, texts)):
        if missing := sorted(set(these) - set(those)):
            raise UserError(
                f"{other} has nothing of {len(missing):,} articles of {own}, the first of which is "
                f"{missing[0]!r:.40}; {REMEDY}"
            )
    articles = []
    for number in sorted(texts):
        label = labels[number].get("hyperpartisan", "")
        if label not in LABELS:
            raise UserError(
                f"{names[1]}: the article {number!r:.40} has hyperpartisan={label!r:.40}, expected "
                f"true or false; {REMEDY}"
            )
        raw = "".join(texts[number].itertext())
        text = prepared(raw).encode()
        articles.append(Article(number, text, raw.encode(), LABELS[label]))
    return articles


def _by_id(content: bytes, name: str) -> dict[str, ElementTree.Element]:
    """Return the articles of a file.

    Raises:
        UserError: It is no XML, or an id is missing or stands twice.
    """
    # The files need none, and entities can be made to grow without end.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise UserError(f"{name} is refused: it declares entities; {REMEDY}")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{name} is no XML ({error}); {REMEDY}") from error
    found: dict[str, ElementTree.Element] = {}
    for article in root.iter("article"):
        number = article.get("id", "")
        if not number or number in found:
            what = f"has the id {number!r:.40} twice" if number else "has an article without an id"
            raise UserError(f"{name} {what}; {REMEDY}")
        found[number] = article
    if not found:
        raise UserError(f"{name} has no articles; {REMEDY}")
    return found


def prepared(text: str) -> str:
    """Return a text without addresses, and without more signs and blanks than are needed."""
    for pattern, by in _CHANGES:
        text = pattern.sub(by, text)
    return text.strip()


def released_splits(
    contents: Mapping[str, bytes], articles: list[Article]
) -> dict[Split, list[Article]]:
    """Return the division that was released with Longformer, of the training articles alone.

    Raises:
        UserError: The file is missing, is no such division, or names articles that are not there.
    """
    name = next((one for one in SPLITS_NAMES if one in contents), None)
    if name is None:
        raise UserError(
            f"task.split=released needs {SPLITS_NAMES[0]} beside the articles: scripts/"
            f"{SPLITS_NAMES[1]} of github.com/allenai/longformer"
        )
    try:
        content = json.loads(contents[name])
        numbers = {_PARTS_OF_SPLITS[part]: list(map(int, ids)) for part, ids in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{name} is no object of train, dev and test with ids") from error
    if set(numbers) != set(_PARTS_OF_SPLITS.values()) or not all(numbers.values()):
        raise UserError(f"{name} must name articles of train, dev and test")
    by_number = {int(one.id): one for one in articles if one.id.isdecimal()}
    for ids in numbers.values():
        for number in ids:
            if number not in by_number:
                raise UserError(f"{name} names the article {number}, which is not there")
    return {split: [by_number[number] for number in ids] for split, ids in numbers.items()}
