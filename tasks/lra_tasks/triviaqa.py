"""TriviaQA, Wikipedia domain: a question of a quiz, answered from articles of Wikipedia.

Source: Joshi et al., ACL 2017; as a task for long sequences, arXiv 2004.05150.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.files import reason
from lra_bench.types import DataInfo, Progress, ProgressCallback
from lra_tasks import _answers, _json, _reading
from lra_tasks._checksums import identity_of_all, status_of_file
from lra_tasks._options import check_counts
from lra_tasks._question_task import (
    NEVER_SEEN,
    Question,
    QuestionTask,
    Text,
    as_documented,
    details_of,
    divided,
    spec_of,
)
from lra_tasks.cached_task import Source, Writer

# Raised when the same files and options would give other bytes.
PREPARATION_VERSION = 1
FOLDERS = ("triviaqa-rc", "triviaqa")
PARTS = ("train", "dev")
EVIDENCE = "evidence/wikipedia"
URL = "https://nlp.cs.washington.edu/triviaqa"
OFFICIAL = {"train": 61_888, "dev": 7_993}
_REMEDY = f"get triviaqa-rc.tar.gz from {URL} and unpack it there"


class TriviaQA(QuestionTask[Path]):
    """Questions and the articles that they are asked about, as bytes.

    Every match of an alias in an article is an answer, whatever its case, on the borders of words.
    The answer to a question is the one with the highest score over its articles. The test
    answers are not public: the published development part is the test split, and validation is a
    part of the training questions.

    Args:
        data_dir: Folder that holds ``triviaqa-rc`` or ``triviaqa``, unpacked.
        cache_dir: Folder of prepared data.
        max_length: Of a piece of an article, with the question [tokens].
        max_pieces: So many pieces of an article are read.
        answer_length: The longest answer that is looked for [tokens].
        num_validation: Training questions held out, by the SHA-256 of their ids.
        official: How many questions the official files have.

    Raises:
        UserError: A number is out of range.
    """

    rule: _answers.Rule = "triviaqa"

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        max_length: int = 4_096,
        max_pieces: int = 1,
        answer_length: int = 120,
        num_validation: int = 2_000,
        official: Mapping[str, int] = OFFICIAL,
    ) -> None:
        check_counts({"validation": num_validation})
        self.spec = spec_of(
            "triviaqa",
            "span",
            max_length=max_length,
            max_pieces=max_pieces,
            answer_length=answer_length,
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.max_pieces = max_pieces
        self.num_validation = num_validation
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"TriviaQA, Wikipedia domain, {FOLDERS[0]}; {NEVER_SEEN}",
            terms="questions Apache-2.0, articles CC BY-SA; cite Joshi et al. 2017",
        )

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION, "num_validation": self.num_validation}

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`: articles are told by their names and sizes."""
        for name in FOLDERS:
            place = self.data_dir / name
            if place.is_dir():
                files = [place / f"qa/wikipedia-{part}.json" for part in PARTS]
                identity = f"{identity_of_all(files, self.cache_dir)} {_names_of(place / EVIDENCE)}"
                return Source(identity, place)
        return None

    def fetch(self) -> None:
        """See `CachedTask.fetch`: nothing is downloaded.

        Raises:
            UserError: Always; the text says what to get.
        """
        raise UserError(f"{self.data_dir} has no folder {FOLDERS[0]}; {_REMEDY}")

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        parts = {part: _read(source.files / f"qa/wikipedia-{part}.json") for part in PARTS}
        places = {part: f"wikipedia-{part}.json" for part in PARTS}
        splits = divided(parts, "QuestionId", self.num_validation, places, str(source.files))
        seen: Counter[str] = Counter()
        tallies = {
            split: self.write(
                writer, split, _questions(rows, source.files / EVIDENCE, seen, split, progress)
            )
            for split, rows in splits.items()
        }
        if not seen["articles"]:
            raise UserError(f"{source.files / EVIDENCE} has none of the articles; {_REMEDY}")
        counts = {part: len(rows) for part, rows in parts.items()}
        return DataInfo(
            source="TriviaQA, Wikipedia domain",
            warning=as_documented(counts, self.official, "TriviaQA"),
            note=NEVER_SEEN,
            baselines=tallies["test"].baselines(),
            details=details_of(tallies)
            | {f"articles {name}": f"{seen[name]:,}" for name in ("missing", "empty") if seen[name]}
            | {
                "test": "the published development part; the test answers are not public",
                "validation": f"{self.num_validation:,} training questions, by SHA-256 of the id",
            },
        )


def _names_of(folder: Path) -> str:
    """Return a SHA-256 (hex) of the names and sizes in a folder.

    Raises:
        UserError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with os.scandir(folder) as entries:
            found = sorted((os.fsencode(one.name), one.stat().st_size) for one in entries)
    except OSError as error:
        raise UserError(f"cannot read {folder}: {reason(error)}; {_REMEDY}") from error
    for name, size in found:
        digest.update(b"%d %s\n" % (size, name))
    return digest.hexdigest()


def _read(path: Path) -> list[_json.Row]:
    return _json.Row(_json.load(path, _REMEDY), str(path)).rows("Data")


def _questions(
    rows: Sequence[_json.Row],
    evidence: Path,
    seen: Counter[str],
    split: str,
    progress: ProgressCallback,
) -> Iterator[Question]:
    for number, row in enumerate(rows):
        if number % 100 == 0:
            progress(Progress(f"reading {split} [questions]", number, len(rows)))
        answer = _json.Row(row.get("Answer", dict), f"{row.place}, Answer")
        human = answer.texts("HumanAnswers") if "HumanAnswers" in answer.value else []
        right = answer.texts("NormalizedAliases")
        right += [_answers.plain(one, "triviaqa") for one in human]
        if not right:
            raise UserError(f"{answer.place} has no aliases")
        # The normalized ones lack punctuation, which stands in the text.
        sought = [answer.get("Value", str), *answer.texts("Aliases"), *human, *right]
        texts = []
        for page in row.rows("EntityPages"):
            text = _article(evidence, page, seen)
            if text:
                texts.append(Text(text, matches(text, sought)))
        yield Question(
            row.get("QuestionId", str),
            _reading.ids_of(row.get("Question", str)),
            [*dict.fromkeys(right)],
            texts,
        )


def _article(evidence: Path, page: _json.Row, seen: Counter[str]) -> str:
    """Return the text of an article; nothing if it is not there, or empty, which is counted.

    Raises:
        UserError: It cannot be read, is no UTF-8, or its name climbs out of the folder.
    """
    name: str = page.get("Filename", str)
    if "/" in name or "\0" in name or name in (".", ".."):
        raise UserError(f"{page.place}: Filename {name!r:.80} is no name of a file")
    path = evidence / name
    try:
        if not path.exists():
            seen["missing"] += 1
            return ""
        status_of_file(path)
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}; {_REMEDY}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8; {_REMEDY}") from error
    if not text.strip():
        seen["empty"] += 1
        return ""
    seen["articles"] += 1
    return text


def matches(text: str, aliases: Sequence[str]) -> list[tuple[int, int]]:
    """Return where aliases stand in a text, whatever their case, on the borders of words.

    First character and the one behind the last of each, in their order. An alias is a text and no
    pattern: ``C++`` is found in ``C++,`` and not in ``C++17``, ``york`` not in ``yorkshire``.
    Where the script of arXiv 2004.05150 looks for normalized aliases in words joined by blanks,
    any white space stands for a blank here.
    """
    plain = _folded(text)
    found = set()
    for alias in dict.fromkeys(" ".join(_folded(one).split()) for one in aliases):
        at = plain.find(alias) if alias else -1
        while at >= 0:
            stop = at + len(alias)
            # Nothing that belongs to a word stands on either side.
            if not (plain[at - 1 : at].isalnum() or plain[stop : stop + 1].isalnum()):
                found.add((at, stop))
            at = plain.find(alias, at + 1)
    return sorted(found)


def _folded(text: str) -> str:
    """Return a text in small letters and with plain blanks, each character at its place."""
    small: str = text.lower()
    if len(small) != len(text):
        # Some capital letters have a small one of two characters.
        small = "".join(one.lower() if len(one.lower()) == 1 else one for one in text)
    return re.sub(r"\s", " ", small)
