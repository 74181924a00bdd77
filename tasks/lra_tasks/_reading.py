"""Questions about texts as tokens, and reading them: symbols, pieces, another order, judging.

A sequence begins with what is asked, the question and its candidates, and goes on with the text:

    question [CANDIDATE name] [CANDIDATE name] ... CONTEXT passage [PASSAGE passage] ...

Bytes are ids as in `_bytes`; the symbols are the ids above them. All that knows so is here.

Shapes: L length, A spans, H tokens that ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import Answers, Example
from lra_tasks import _answers, _bytes
from lra_tasks._store import FlatExamples

# What stands before a candidate, before the text, before each further passage of it, and where
# something was taken out.
CANDIDATE, CONTEXT, PASSAGE, BLANK = range(_bytes.VOCAB_SIZE, _bytes.VOCAB_SIZE + 4)
VOCAB_SIZE = BLANK + 1
# Bytes of text that each id stands for.
SYMBOL_BYTES = (0, *(1,) * 256, 0, 0, 0, 0)
_SHOWN = {CANDIDATE: "\n- ", CONTEXT: "\n\n", PASSAGE: "\n\n", BLANK: "____"}

Ids = NDArray[np.int64]


def ids_of(text: str) -> Ids:
    """Return a text as ids."""
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64) + _bytes.FIRST_ID


def sequence_of(asks: Ids, candidates: Sequence[str], passages: Sequence[str]) -> tuple[Ids, int]:
    """Return a question about passages as a sequence, and how many of its tokens ask (H)."""
    head = [asks]
    for candidate in candidates:
        head += [np.array([CANDIDATE]), ids_of(candidate)]
    head.append(np.array([CONTEXT]))
    text = [ids_of(passages[0])]
    for passage in passages[1:]:
        text += [np.array([PASSAGE]), ids_of(passage)]
    return np.concatenate([*head, *text]), sum(map(len, head))


def text_of(ids: NDArray[Any]) -> str:
    """Return a sequence, or a part of one, for people."""
    places = np.flatnonzero(ids >= CANDIDATE)
    parts = []
    for start, stop in zip([0, *places + 1], [*places, len(ids)], strict=True):
        parts.append(_bytes.text_of(ids[start:stop]))
        if stop < len(ids):
            parts.append(_SHOWN[int(ids[stop])])
    return "".join(parts)


def check_room(heads: NDArray[np.int64], max_length: int, name: str) -> None:
    """Refuse a length that leaves no room for a text behind what is asked.

    Raises:
        UserError: It does not.
    """
    most = int(heads.max(initial=0))
    if most >= max_length:
        raise UserError(
            f"task.max_length={max_length} leaves no room for the text: in {name} the longest "
            f"question takes {most:,} tokens, with its candidates; choose at least {most + 1}"
        )


class Choices:
    """Questions with candidates.

    In training their order, and that of the passages, is drawn anew each time: it says nothing of
    the answer. A text that is too long is read in pieces, each behind the whole question.

    Args:
        flat: The sequences, uncut.
        heads: How many tokens of each ask (H).
        max_length: Of a piece, with its question [tokens].
        max_pieces: So many pieces are read; what follows is not.
        name: Of the task, for messages.

    Raises:
        UserError: A piece has no room for a text.
    """

    def __init__(
        self,
        flat: FlatExamples,
        heads: Sequence[int],
        *,
        max_length: int,
        max_pieces: int,
        name: str,
    ) -> None:
        self._flat = flat
        self._heads = np.asarray(heads, np.int64)
        self._max_length = max_length
        self._max_pieces = max_pieces
        check_room(self._heads, max_length, name)

    def __len__(self) -> int:
        return len(self._flat)

    def __getitem__(self, index: int) -> Example:
        example = self._flat[index]
        head = int(self._heads[index])
        return Example(self._pieces(example.inputs[0], head), example.target)

    def draw(self, index: int, *, seed: int, step: int) -> Example:
        """See `lra_bench.types.DrawnAnew`: candidates and passages in another order."""
        rng = np.random.default_rng((seed, step, index))
        example = self._flat[index]
        tokens, head = example.inputs[0], int(self._heads[index])
        question, *candidates = _cut(tokens[: head - 1], CANDIDATE)
        passages = _cut(tokens[head:], PASSAGE)
        order = rng.permutation(len(candidates))
        mixed = [question]
        for at in order:
            mixed += [np.array([CANDIDATE]), candidates[at]]
        for number, at in enumerate(rng.permutation(len(passages))):
            mixed += [np.array([PASSAGE if number else CONTEXT]), passages[at]]
        # Where the right one has gone.
        right = int(np.flatnonzero(order == example.target)[0])
        return Example(self._pieces(np.concatenate(mixed), head), right)

    def lengths(self) -> NDArray[np.int64]:
        """See `lra_bench.types.LengthsKnown`."""
        return np.minimum(self._flat.lengths(), self._max_length)

    def _pieces(self, tokens: NDArray[Any], head: int) -> tuple[NDArray[Any], ...]:
        room = self._max_length - head
        starts = range(head, len(tokens), room)[: self._max_pieces]
        return tuple(
            np.concatenate((tokens[:head], tokens[start : start + room])) for start in starts
        )


def _cut(tokens: NDArray[Any], symbol: int) -> list[NDArray[Any]]:
    """Return what stands between symbols, without them."""
    places = np.flatnonzero(tokens == symbol)
    ends = [*places, len(tokens)]
    return [tokens[start:end] for start, end in zip([0, *places + 1], ends, strict=True)]


class Passages:
    """Questions whose answers are spans of a text; a question may have several texts.

    A text that is too long is read in pieces, each behind the whole question, and each an example
    of its own. An answer that a cut divides is none. The answer to a question is the one with the
    highest score over all of its examples.

    Args:
        flat: The sequences, uncut.
        notes: Of the split: ``questions``, a name and all texts that answer it each; ``of``, which
            question each sequence is about; ``heads``, how many of its tokens ask (H).
        rule: How answers are judged.
        max_length: Of a piece, with its question [tokens].
        max_pieces: So many pieces of a text are read; what follows is not.
        answered_only: Leave out pieces without an answer: nothing can be learned from them.
        name: Of the task, for messages.

    Raises:
        UserError: A piece has no room for a text.
    """

    def __init__(
        self,
        flat: FlatExamples,
        notes: dict[str, Any],
        *,
        rule: _answers.Rule,
        max_length: int,
        max_pieces: int,
        answered_only: bool,
        name: str,
    ) -> None:
        self._flat = flat
        self._questions: list[tuple[str, list[str]]] = notes["questions"]
        self._question_of: list[int] = notes["of"]
        self._rule = rule
        heads = np.array(notes["heads"], np.int64)
        check_room(heads, max_length, name)
        rooms, sizes = max_length - heads, flat.lengths() - heads
        numbers = np.minimum(-(-sizes // rooms), max_pieces)
        # Which sequence each piece is of, and where in its text it begins and ends.
        self._of = np.repeat(np.arange(len(flat)), numbers)
        within = np.arange(len(self._of)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        self._heads = heads[self._of]
        self._starts = self._heads + within * rooms[self._of]
        self._stops = np.minimum(self._starts + rooms[self._of], flat.lengths()[self._of])
        if answered_only:
            answered = [at for at in range(len(self)) if len(self._spans(at))]
            for name in ("_of", "_heads", "_starts", "_stops"):
                setattr(self, name, getattr(self, name)[answered])

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Example:
        head, start, stop = self._heads[index], self._starts[index], self._stops[index]
        tokens = self._flat[int(self._of[index])].inputs[0]
        piece = np.concatenate((tokens[:head], tokens[start:stop]))
        return Example((piece,), self._spans(index))

    def lengths(self) -> NDArray[np.int64]:
        """See `lra_bench.types.LengthsKnown`."""
        lengths: NDArray[np.int64] = self._heads + self._stops - self._starts
        return lengths

    def judge(self, answers: Answers) -> dict[str, float]:
        """See `lra_bench.types.Judged`: over all questions, those without a text included."""
        best: dict[int, tuple[float, int]] = {}
        # Of answers with one score the first example's, in whatever order they come.
        for at in np.argsort(answers.indices_N):
            question = self._question_of[self._of[answers.indices_N[at]]]
            score = float(answers.scores_N[at])
            if score > best.get(question, (-np.inf, 0))[0]:
                best[question] = score, int(at)
        said = {}
        for question, (_, at) in best.items():
            first, last = answers.spans_N2[at].tolist()
            tokens = self[int(answers.indices_N[at])].inputs[0][first : last + 1]
            said[self._questions[question][0]] = text_of(tokens)
        return _answers.judge(said, self._questions, self._rule)

    def _spans(self, index: int) -> NDArray[np.int64]:
        """Return the spans that lie within a piece, (A, 2), as positions of its own."""
        spans: NDArray[Any] = np.asarray(self._flat[int(self._of[index])].target)
        start, stop = self._starts[index], self._stops[index]
        inside = (spans[:, 0] >= start) & (spans[:, 1] < stop)
        moved: NDArray[np.int64] = spans[inside] - (start - self._heads[index])
        return moved
