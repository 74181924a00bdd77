"""What tasks have in common that ask about texts: their spec, their cache, their baselines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import Example, Examples, Split, TaskSpec
from lra_tasks import _answers, _json, _reading
from lra_tasks._options import check_at_least, check_length
from lra_tasks._store import Layout
from lra_tasks.cached_task import CachedTask, Writer

Form = Literal["choice", "span"]
Files = TypeVar("Files")

# Said of every reader that has met samples and made-up files alone.
NEVER_SEEN = (
    "the reader was written from the documented layout and tried on samples and made-up files; "
    "nobody has yet run it on the whole set"
)


@dataclass(frozen=True)
class Text:
    """A text that is asked about.

    Args:
        text: Not empty.
        spans: First character of each answer and the one behind its last, (A, 2).
    """

    text: str
    spans: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True)
class Question:
    """A question about one text or several.

    Args:
        name: Tells it from all others.
        asks: The question, as ids.
        answers: All texts that answer it.
        texts: Those that are asked about; none if they are missing.
        candidates: Of a choice.
        right: Which of them is the answer.
    """

    name: str
    asks: _reading.Ids
    answers: Sequence[str]
    texts: Sequence[Text]
    candidates: Sequence[str] = ()
    right: int = 0


def spec_of(
    name: str, form: Form, *, max_length: int, max_pieces: int, answer_length: int
) -> TaskSpec:
    """Return what a model has to know of questions about texts.

    Raises:
        UserError: A number is out of range.
    """
    check_length(max_length)
    check_at_least(1, max_pieces=max_pieces, answer_length=answer_length)
    common: dict[str, Any] = {
        "name": name,
        "vocab_size": _reading.VOCAB_SIZE,
        "max_length": max_length,
        "symbol_bytes": _reading.SYMBOL_BYTES,
        "context": _reading.CONTEXT,
    }
    if form == "choice":
        return TaskSpec(
            **common, target="choice", num_inputs=max_pieces, candidate=_reading.CANDIDATE
        )
    return TaskSpec(
        **common,
        target="spans",
        metrics=("answer_f1", "exact_match"),
        answer_length=answer_length,
    )


class QuestionTask(CachedTask[Files]):
    """A task of questions about texts; a subclass reads them, and sets these besides ``spec``.

    Args of a subclass that the base reads: ``max_pieces``, ``rule``.
    """

    max_pieces: int
    rule: _answers.Rule

    def layout(self) -> Layout:
        """See `CachedTask.layout`: whole sequences, cut into pieces when they are read."""
        return Layout.of(replace(self.spec, num_inputs=1))

    def examples(self, split: Split) -> Examples:  # type: ignore[override]
        """See `Task.examples`."""
        cache = self.cache()
        flat, notes = cache.examples(split, max_length=1 << 62), cache.notes(split)
        common: dict[str, Any] = {
            "max_length": self.spec.max_length,
            "max_pieces": self.max_pieces,
            "name": self.spec.name,
        }
        if self.spec.target == "choice":
            return _reading.Choices(flat, notes["heads"], **common)
        return _reading.Passages(
            flat, notes, rule=self.rule, answered_only=split == "train", **common
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the question, its candidates, the text."""
        texts = [_reading.text_of(tokens) for tokens in example.inputs]
        if len(texts) == 1:
            return texts[0]
        return "\n\n".join(f"input {number}:\n{text}" for number, text in enumerate(texts, 1))

    def write(self, writer: Writer, split: Split, questions: Iterable[Question]) -> Tally:
        """Write a split, and return what was counted on the way."""
        tally = Tally(counts_simple=split == "test")
        if self.spec.target == "choice":
            writer.add_examples(split, self._choices(questions, tally))
        else:
            writer.add_examples(split, self._spans(questions, tally))
        writer.note(split, tally.notes)
        return tally

    def _choices(self, questions: Iterable[Question], tally: Tally) -> Iterator[Example]:
        for question in questions:
            texts = [one.text for one in question.texts]
            tokens, head = _reading.sequence_of(question.asks, question.candidates, texts)
            tally.notes["heads"].append(head)
            tally.count_choice(question)
            yield Example((tokens,), question.right)

    def _spans(self, questions: Iterable[Question], tally: Tally) -> Iterator[Example]:
        for question in questions:
            number = tally.count_span(question)
            for text in question.texts:
                tokens, head = _reading.sequence_of(question.asks, (), [text.text])
                tally.notes["heads"].append(head)
                tally.notes["of"].append(number)
                yield Example((tokens,), head + _places_in_bytes(text))


def _places_in_bytes(text: Text) -> NDArray[np.int64]:
    """Return first and last byte of each span, (A, 2)."""
    if not text.spans:
        return np.zeros((0, 2), np.int64)
    sizes = np.fromiter((len(one.encode()) for one in text.text), np.int64, len(text.text))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    spans = np.array(sorted(set(text.spans)))
    return np.stack((starts[spans[:, 0]], starts[spans[:, 1]] - 1), axis=1)


class Tally:
    """What is noted of a split while it is written, and what is right without any model.

    Args:
        counts_simple: Count what simple choices among candidates are worth.
    """

    def __init__(self, *, counts_simple: bool) -> None:
        self.counts_simple = counts_simple
        self.notes: dict[str, list[Any]] = {"questions": [], "of": [], "heads": []}
        self.num_questions = 0
        self.sums = dict.fromkeys(("most frequent candidate", "last candidate", "random"), 0.0)
        self.num_without_text = 0
        self.num_without_answer = 0

    def count_choice(self, question: Question) -> None:
        """Count a question with candidates."""
        self.num_questions += 1
        self._choose_simply(question)

    def _choose_simply(self, question: Question) -> None:
        """Count what simple choices among the candidates are worth."""
        if not (self.counts_simple and question.candidates):
            return
        text = "\n".join(one.text for one in question.texts).casefold()
        found = [
            [one.start() for one in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
            for name in (one.casefold() for one in question.candidates)
        ]
        # The first of equals, in the order in which they stand.
        frequent = max(range(len(found)), key=lambda at: (len(found[at]), -at))
        last = max(range(len(found)), key=lambda at: (max(found[at], default=-1), -at))
        self.sums["most frequent candidate"] += frequent == question.right
        self.sums["last candidate"] += last == question.right
        self.sums["random"] += 1 / len(found)

    def count_span(self, question: Question) -> int:
        """Note a question and return its number."""
        self.notes["questions"].append([question.name, list(question.answers)])
        self.num_questions += 1
        self._choose_simply(question)
        self.num_without_text += not question.texts
        self.num_without_answer += not any(one.spans for one in question.texts)
        return self.num_questions - 1

    def baselines(self) -> dict[str, float]:
        """Return what the ranking metric is worth without a model, by name."""
        number = max(self.num_questions, 1)
        # A random candidate is right now and then, wherever there are any.
        has_candidates = self.sums["random"] > 0
        simple = {name: total / number for name, total in self.sums.items() if has_candidates}
        # Without a word there is nothing in common with an answer: its F1 is 0.
        return simple | ({"empty answer": 0.0} if self.notes["questions"] else {})


def details_of(tallies: Mapping[Split, Tally]) -> dict[str, str]:
    """Return what a record says of what was counted."""
    details = {}
    for what in ("without_text", "without_answer"):
        numbers = {split: getattr(tally, f"num_{what}") for split, tally in tallies.items()}
        if any(numbers.values()):
            said = ", ".join(f"{number:,} in {split}" for split, number in numbers.items())
            details[f"questions {what.replace('_', ' ')}"] = said
    return details


def distinct(names: Iterable[str], place: str) -> list[str]:
    """Return names of questions, each of which must stand once.

    Raises:
        UserError: One stands twice.
    """
    seen: dict[str, None] = {}
    for name in names:
        if name in seen:
            raise UserError(f"{place} has two questions of the id {name!r:.80}; get it again")
        seen[name] = None
    return [*seen]


def held_out(names: Sequence[str], number: int, place: str) -> set[str]:
    """Return which training questions are for validation: those whose SHA-256 is smallest.

    Raises:
        UserError: None would be left to train on.
    """
    if number >= len(names):
        raise UserError(
            f"{place} has {len(names):,} questions; task.num_validation={number} leaves none to "
            f"train on"
        )
    return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:number])


def divided(
    parts: Mapping[str, Sequence[_json.Row]],
    key: str,
    num_validation: int,
    places: Mapping[str, str],
    folder: str,
) -> dict[Split, Sequence[_json.Row]]:
    """Return the rows of each split of a data set whose test answers are not public.

    The published development part is for test, and validation is a part of training.

    Args:
        parts: The rows of ``train`` and ``dev``.
        key: Of the id of a row.
        num_validation: Training questions held out; see `held_out`.
        places: What each part is called in messages.
        folder: What they are called together.

    Raises:
        UserError: An id stands twice, or none would be left to train on.
    """
    names = {
        part: distinct((row.get(key, str) for row in rows), places[part])
        for part, rows in parts.items()
    }
    distinct((name for some in names.values() for name in some), folder)
    out = held_out(names["train"], num_validation, places["train"])
    training = list(zip(names["train"], parts["train"], strict=True))
    return {
        "train": [row for name, row in training if name not in out],
        "validation": [row for name, row in training if name in out],
        "test": parts["dev"],
    }


def as_documented(counts: Mapping[str, int], official: Mapping[str, int], what: str) -> str:
    """Say why these cannot be the official files; nothing if they have as many questions."""
    if counts == official:
        return ""
    said, expected = (
        " and ".join(f"{number:,} {name}" for name, number in some.items())
        for some in (counts, official)
    )
    return f"these are not the official files of {what}: {said} questions, expected {expected}"
