"""WikiHop: which candidate answers a query, by several paragraphs of Wikipedia together?

Source: Welbl et al., TACL 2018 (QAngaroo 1.1); as a task for long sequences, arXiv 2004.05150.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import DataInfo, Progress, ProgressCallback
from lra_tasks import _answers, _json, _reading
from lra_tasks._checksums import identity_of_all
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
FOLDERS = ("qangaroo_v1.1/wikihop", "wikihop")
PARTS = ("train", "dev")
URL = "https://qangaroo.cs.ucl.ac.uk"
OFFICIAL = {"train": 43_738, "dev": 5_129}
_REMEDY = f"get qangaroo_v1.1.zip from {URL} and unpack it there"


class WikiHop(QuestionTask[Path]):
    """Queries with candidates and paragraphs, as bytes.

    The test set was never released: the published development part is the test split, and
    validation is a part of the training questions.

    Args:
        data_dir: Folder that holds ``qangaroo_v1.1/wikihop`` or ``wikihop``, unpacked.
        cache_dir: Folder of prepared data.
        max_length: Of a piece, with query and candidates [tokens].
        max_pieces: So many pieces of the paragraphs are read, each behind query and candidates.
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
        num_validation: int = 2_000,
        official: Mapping[str, int] = OFFICIAL,
    ) -> None:
        check_counts({"validation": num_validation})
        self.spec = spec_of(
            "wikihop", "choice", max_length=max_length, max_pieces=max_pieces, answer_length=1
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.max_pieces = max_pieces
        self.num_validation = num_validation
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"WikiHop, {FOLDERS[0]}/*.json; {NEVER_SEEN}",
            terms="CC BY-SA 3.0; cite Welbl et al. 2018",
            num_examples={
                "train": self.official["train"] - self.num_validation,
                "validation": self.num_validation,
                "test": self.official["dev"],
            },
        )

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION, "num_validation": self.num_validation}

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        for name in FOLDERS:
            place = self.data_dir / name
            if place.is_dir():
                files = [place / f"{part}.json" for part in PARTS]
                return Source(identity_of_all(files, self.cache_dir), place)
        return None

    def fetch(self) -> None:
        """See `CachedTask.fetch`: nothing is downloaded.

        Raises:
            UserError: Always; the text says what to get.
        """
        raise UserError(f"{self.data_dir} has no folder {FOLDERS[0]}; {_REMEDY}")

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        parts = {}
        for at, part in enumerate(PARTS):
            progress(Progress("reading WikiHop [files]", at, len(PARTS)))
            parts[part] = _read(source.files / f"{part}.json")
        places = {part: str(source.files / f"{part}.json") for part in PARTS}
        splits = divided(parts, "id", self.num_validation, places, str(source.files))
        tallies = {
            split: self.write(writer, split, map(_question, rows)) for split, rows in splits.items()
        }
        counts = {part: len(rows) for part, rows in parts.items()}
        return DataInfo(
            source="WikiHop (QAngaroo 1.1)",
            warning=as_documented(counts, self.official, "WikiHop"),
            note=NEVER_SEEN,
            baselines=tallies["test"].baselines(),
            details=details_of(tallies)
            | {
                "test": "the published development part; the test set was never released",
                "validation": f"{self.num_validation:,} training questions, by SHA-256 of the id",
            },
        )


def _read(path: Path) -> list[_json.Row]:
    rows = _json.load(path, _REMEDY)
    outer = _json.Row({"questions": rows}, str(path))
    return outer.rows("questions")


def _question(row: _json.Row) -> Question:
    """Return a question of the file.

    Raises:
        UserError: A field is missing or wrong, or the answer is not among the candidates.
    """
    candidates, supports = [*dict.fromkeys(row.texts("candidates"))], row.texts("supports")
    answer = row.get("answer", str)
    place = f"{row.place} ({row.get('id', str)!r:.40})"
    if answer not in candidates:
        raise UserError(f"{place}: the answer {answer!r:.60} is not among the candidates")
    if not supports:
        raise UserError(f"{place} has no supports")
    return Question(
        row.get("id", str),
        _reading.ids_of(cleaned(row.get("query", str))),
        [answer],
        [Text(cleaned(one)) for one in supports],
        [cleaned(one) for one in candidates],
        candidates.index(answer),
    )


def cleaned(text: str) -> str:
    """Return a text without the blanks that a tokenizer has put around punctuation."""
    return re.sub(r"\( ", "(", re.sub(r" (?=[.,!?)])", "", text)).strip() or text
