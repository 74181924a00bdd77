"""COVID-QA: questions of experts about scientific articles, each answered by a span of one.

Source: Moeller et al., NLP-COVID workshop at ACL 2020; the release of 23 April 2020.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.files import reason
from lra_bench.types import DataInfo, ProgressCallback, Split
from lra_tasks import _answers, _json, _reading
from lra_tasks._checksums import identity_of, status_of_file
from lra_tasks._question_task import (
    Question,
    QuestionTask,
    Text,
    details_of,
    distinct,
    spec_of,
)
from lra_tasks.cached_task import Source, Writer

# Raised when the same file would give other bytes.
PREPARATION_VERSION = 1
FILES = ("covid_qa_200423.json.gz", "covid_qa_200423.json", "200423_covidQA.json")
URL = "https://github.com/deepset-ai/COVID-QA"
# SHA-256 of the file, unpacked.
OFFICIAL = ("ab310b4e39f726e087c8fa3d1787c73771dacddc584977204ebe3cc889ee1264",)
_REMEDY = f"get data/question-answering/200423_covidQA.json from {URL}"
# Unpacked, the file has 2.7 MB.
_MAX_BYTES = 256 << 20


class CovidQA(QuestionTask[Path]):
    """Questions about articles, as bytes; an article is read in pieces.

    There is no official division: a tenth of the articles each are for validation and test, by the
    SHA-256 of their ids; no article is in two splits.

    Args:
        data_dir: Folder that holds the file, packed or not.
        cache_dir: Folder of prepared data.
        max_length: Of a piece, with the question [tokens].
        max_pieces: So many pieces of an article are read; 20 are all of the longest.
        answer_length: The longest answer that is looked for [tokens].
        official: SHA-256 of the official file, unpacked, and of others with its content.

    Raises:
        UserError: A number is out of range.
    """

    rule: _answers.Rule = "squad"

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        max_length: int = 4_096,
        max_pieces: int = 20,
        answer_length: int = 400,
        official: Sequence[str] = OFFICIAL,
    ) -> None:
        self.spec = spec_of(
            "covid_qa",
            "span",
            max_length=max_length,
            max_pieces=max_pieces,
            answer_length=answer_length,
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.max_pieces = max_pieces
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"COVID-QA, {FILES[0]}",
            terms="Apache-2.0, articles have licenses of their own; cite Moeller et al. 2020",
        )

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION}

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        for name in FILES:
            path = self.data_dir / name
            if path.exists():
                return Source(identity_of(path, self.cache_dir), path)
        return None

    def fetch(self) -> None:
        """See `CachedTask.fetch`: nothing is downloaded.

        Raises:
            UserError: Always; the text says what to get.
        """
        raise UserError(f"{self.data_dir} has no file {FILES[0]}; {_REMEDY}")

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        del progress
        content = _content_of(source.files)
        outer = _json.Row(_json.parsed(content, str(source.files), _REMEDY), str(source.files))
        seen: Counter[str] = Counter()
        articles = [one for row in outer.rows("data") for one in _articles(row, seen)]
        distinct((one.name for article in articles for one in article.questions), outer.place)
        splits = _divided(articles, outer.place)
        tallies = {
            split: self.write(writer, split, (one for article in some for one in article.questions))
            for split, some in splits.items()
        }
        digest = hashlib.sha256(content).hexdigest()
        warning = ""
        if digest not in self.official:
            warning = (
                f"{source.files.name} is not the official file of 23 April 2020: SHA-256 of its "
                f"content {digest[:16]}..., expected {self.official[0][:16]}...; {_REMEDY}"
            )
        said = ", ".join(f"{len(some)} {split}" for split, some in splits.items())
        return DataInfo(
            source="COVID-QA (23 April 2020)",
            warning=warning,
            baselines=tallies["test"].baselines(),
            details=details_of(tallies)
            | {
                "articles": f"{said}, by SHA-256 of their ids",
                "answers mended": f"{seen['mended']:,}: their text is not where the file says",
            },
        )


@dataclass(frozen=True)
class Article:
    """An article and what is asked about it.

    Args:
        name: Its id.
        questions: At least one.
    """

    name: str
    questions: Sequence[Question]


def _content_of(path: Path) -> bytes:
    """Return what a file holds, unpacked.

    Raises:
        UserError: It cannot be read, or is too large.
    """
    try:
        status_of_file(path)
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_packed else path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read {path}: {why}; {_REMEDY}") from error
    if len(content) > _MAX_BYTES:
        raise UserError(f"{path} unpacks to more than {_MAX_BYTES:,} bytes; {_REMEDY}")
    return content


def _articles(row: _json.Row, seen: Counter[str]) -> Iterator[Article]:
    for paragraph in row.rows("paragraphs"):
        text = paragraph.get("context", str)
        questions = [_question(one, text, seen) for one in paragraph.rows("qas")]
        if questions:
            yield Article(str(paragraph.get("document_id", int)), questions)


def _question(row: _json.Row, text: str, seen: Counter[str]) -> Question:
    spans, answers = [], []
    for answer in row.rows("answers"):
        said, at = answer.get("text", str).strip(), answer.get("answer_start", int)
        found = nearest(text, said, at)
        if found is None:
            raise UserError(f"{answer.place}: {said!r:.60} is nowhere in the article; {_REMEDY}")
        # As the file has it, blanks at the ends included.
        as_said = answer.get("text", str)
        seen["mended"] += text[at : at + len(as_said)] != as_said if at >= 0 else 1
        spans.append((found, found + len(said)))
        answers.append(said)
    if not spans:
        raise UserError(f"{row.place} has no answer; {_REMEDY}")
    return Question(
        str(row.get("id", int)),
        _reading.ids_of(row.get("question", str)),
        [*dict.fromkeys(answers)],
        [Text(text, spans)],
    )


def nearest(text: str, sought: str, at: int) -> int | None:
    """Return the place of a text in another that is nearest to one; None if it is nowhere."""
    at = min(max(at, 0), len(text))
    before, after = text.rfind(sought, 0, at + len(sought)), text.find(sought, at)
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: (abs(place - at), place), default=None)


def _divided(articles: Sequence[Article], place: str) -> dict[Split, list[Article]]:
    """Return the articles of each split, in the order of the file.

    Raises:
        UserError: There are too few.
    """
    names = [*dict.fromkeys(article.name for article in articles)]
    if len(names) < 3:
        raise UserError(f"{place} has {len(names)} articles with questions; 3 are needed")
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    number = max(1, len(names) // 10 + (len(names) % 10 > 4))
    parts: dict[Split, set[str]] = {
        "test": {*ranked[:number]},
        "validation": {*ranked[number : 2 * number]},
        "train": {*ranked[2 * number :]},
    }
    return {
        split: [article for article in articles if article.name in parts[split]]
        for split in ("train", "validation", "test")
    }
