"""Denoising: some positions are hidden, and the model says what stood there.

A task becomes another one: of its inputs alone, with an answer at each hidden position. How it is
trained, evaluated and counted is as with any task that asks about positions.

Shapes: L length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.objective import CrossEntropy
from lra_bench.types import (
    IGNORED,
    SPLITS,
    DataInfo,
    Example,
    Examples,
    ProgressCallback,
    Split,
    Task,
    TaskSpec,
    Verification,
    ignore_progress,
    lengths_of,
)

Symbols = Literal["mask", "mixed"]

# Of what the rule 80/10/10 hides: this share gets the mask, and half of the rest any symbol.
_MASKED = 0.8
_REPLACED = 0.9
# Which documents are held out is the same for every run.
_SEED_OF_HELD_OUT = 0
# At most this part of the documents is held out for each of validation and test.
_MOST_HELD_OUT = 0.05
# What keeps the draws of training and of evaluation apart.
_TRAINING, _EVALUATION = 0, 1


class Denoising(CrossEntropy):
    """Mean cross entropy of the hidden symbols, over the task's own vocabulary.

    What is hidden is drawn anew in each update, as a function of the seed, the update and the
    document; in evaluation it is always the same. Nothing but the training split is used: some of
    its documents are held out for validation and for the one look at the end. A corpus is used as
    it is divided. A document is one input of an example.

    Args:
        share: Share of the positions that is hidden, each for itself, between 0 and 1.
        symbols: ``mask``, all hidden positions get the mask; ``mixed``, 80 % get the mask, 10 %
            any symbol of the vocabulary, 10 % stay as they are.
        span: Neighbors that are hidden or shown together; where the first group begins is drawn.
        num_held_out: Documents held out for each of validation and test, at most a twentieth of
            the training split.

    Source: self-pretraining on the data of a task, arXiv 2310.02980, sections 2 and C; the rule
    80/10/10 from arXiv 1810.04805, section 3.1. There the masked value of a picture has a second
    input channel; here it has a state of its own (`lra_bench.models.layers.Embedding`).

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        *,
        share: float = 0.15,
        symbols: Symbols = "mask",
        span: int = 1,
        num_held_out: int = 1_000,
    ) -> None:
        if not 0 < share < 1:
            raise UserError(f"objective.share={share} must lie between 0 and 1")
        for name, value in (("span", span), ("num_held_out", num_held_out)):
            if value < 1:
                raise UserError(f"objective.{name}={value} must be at least 1")
        self.rule = Rule(share, symbols, span)
        self.num_held_out = num_held_out

    def ask(self, task: Task) -> Task:
        """See `Objective.ask`: the task of saying what is hidden in its inputs."""
        if self.rule.span > task.spec.max_length:
            raise UserError(
                f"objective.span={self.rule.span} is more than the longest input of task "
                f"{task.spec.name}, {task.spec.max_length:,} tokens"
            )
        return DenoisingTask(task, self.rule, num_held_out=self.num_held_out)


@dataclass(frozen=True)
class Rule:
    """What is hidden, and how; see `Denoising`."""

    share: float
    symbols: Symbols
    span: int

    def hide(
        self, tokens_L: NDArray[np.int64], rng: np.random.Generator, *, num_symbols: int
    ) -> Example:
        """Return a document with some positions hidden, and what stood there.

        At least one position is hidden, or there would be nothing to learn from it.

        Args:
            tokens_L: Token ids, below ``num_symbols``.
            rng: What is drawn with.
            num_symbols: Size of the vocabulary; the id of the mask.
        """
        length = len(tokens_L)
        offset = int(rng.integers(self.span))
        groups = rng.random(-(-(length + offset) // self.span)) < self.share
        is_hidden = np.repeat(groups, self.span)[offset : offset + length]
        if not is_hidden.any():
            is_hidden[rng.integers(length)] = True
        inputs = np.where(is_hidden, num_symbols, tokens_L)
        if self.symbols == "mixed":
            kind = rng.random(length)
            any_symbol = rng.integers(num_symbols, size=length)
            inputs = np.where(is_hidden & (kind >= _MASKED), any_symbol, inputs)
            inputs = np.where(is_hidden & (kind >= _REPLACED), tokens_L, inputs)
        return Example((inputs,), np.where(is_hidden, tokens_L, IGNORED))

    def __str__(self) -> str:
        """Return the rule in words."""
        together = "" if self.span == 1 else f", {self.span} neighbors together"
        how = {"mask": "all by the mask", "mixed": "80 % by the mask, 10 % by any symbol"}
        return f"{self.share:.1%} of the positions{together}, {how[self.symbols]}"


class DenoisingTask(Task):
    """The task of saying what is hidden in the inputs of another.

    Args:
        task: The other one; its answers are not read.
        rule: What is hidden.
        num_held_out: See `Denoising`.
    """

    def __init__(self, task: Task, rule: Rule, *, num_held_out: int) -> None:
        self.task = task
        self.rule = rule
        self.num_held_out = num_held_out

    @property
    def spec(self) -> TaskSpec:  # type: ignore[override]
        """What a model has to know; some of it may be known only once the data are prepared."""
        of = self.task.spec
        metrics: tuple[str, ...] = ("loss", "accuracy")
        sizes = of.symbol_bytes
        if sizes is not None:
            # What the mask itself stands for is never asked.
            sizes = (*sizes, 0) if sizes else ()
            metrics = ("bits_per_byte", *metrics)
        return TaskSpec(
            name=of.name,
            vocab_size=of.vocab_size + 1,
            max_length=of.max_length,
            num_classes=of.vocab_size,
            target="tokens",
            metrics=metrics,
            quantities=of.quantities,
            symbol_bytes=sizes,
            has_mask=True,
        )

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:
        """See `Task.prepare`."""
        self.task.prepare(progress)

    def is_prepared(self) -> bool | None:
        """See `Task.is_prepared`."""
        return self.task.is_prepared()

    def fingerprint(self) -> str:
        """See `Task.fingerprint`: that of the content, whatever is asked about it."""
        return self.task.fingerprint()

    def info(self) -> DataInfo:
        """See `Task.info`."""
        info = self.task.info()
        if not info.source:
            return info
        splits = {split: self.examples(split) for split in SPLITS}
        details = {**info.details, "hidden": f"{self.rule}; {self._share:.2%} in validation"}
        if not self.task.spec.is_corpus:
            details["documents"] = "of the training split alone, some of them held out"
        counts: dict[Split, int] = {split: len(of) for split, of in splits.items()}
        # What is said of simple methods is about the task's own question.
        return replace(info, num_examples=counts, details=details, baselines={})

    @cached_property
    def _share(self) -> float:
        """The share of the positions that is hidden in validation; it takes a look at them all."""
        hidden, known = self.examples("validation").num_hidden()
        return hidden / known

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`."""
        yield from self.task.verify()

    def decode(self, example: Example) -> str:
        """See `Task.decode`: ids, with a question mark where one is hidden."""
        mask = self.task.spec.vocab_size
        return " ".join("?" if token == mask else str(token) for token in example.inputs[0])

    def examples(self, split: Split) -> HiddenExamples:
        """See `Task.examples`."""
        of = self.task.spec
        examples = self.task.examples(split if of.is_corpus else "train")
        documents = None
        if not of.is_corpus:
            documents = _part(len(examples), split, self.num_held_out, of.name)
        # Pieces of one text that every example has: the first.
        num_inputs = 1 if of.target == "choice" else of.num_inputs
        return HiddenExamples(
            examples, documents, self.rule, num_inputs=num_inputs, num_symbols=of.vocab_size
        )


def _part(number: int, split: Split, num_held_out: int, name: str) -> NDArray[np.int64]:
    """Return which examples of the training split belong to a split; each belongs to one."""
    held_out = min(num_held_out, math.floor(number * _MOST_HELD_OUT))
    if not held_out:
        raise UserError(
            f"task {name} has {number:,} training examples, too few to hold some out; "
            f"objective=denoising needs {math.ceil(1 / _MOST_HELD_OUT)}"
        )
    keys = np.random.PCG64(_SEED_OF_HELD_OUT).random_raw(number)
    order = np.argsort(keys, kind="stable")
    cuts = {"validation": slice(held_out), "test": slice(held_out, 2 * held_out)}
    return np.sort(order[cuts.get(split, slice(2 * held_out, None))])


class HiddenExamples:
    """Documents in which something is hidden: the same when evaluated, drawn anew in training.

    Args:
        examples: Where the documents come from.
        chosen: Which of the examples, in this order; None for all.
        rule: What is hidden.
        num_inputs: Documents an example.
        num_symbols: Size of the vocabulary.
    """

    def __init__(
        self,
        examples: Examples,
        chosen: NDArray[np.int64] | None,
        rule: Rule,
        *,
        num_inputs: int,
        num_symbols: int,
    ) -> None:
        self._examples = examples
        self._chosen = np.arange(len(examples)) if chosen is None else chosen
        self._rule = rule
        self._num_inputs = num_inputs
        self._num_symbols = num_symbols

    def __len__(self) -> int:
        return len(self._chosen) * self._num_inputs

    def __getitem__(self, index: int) -> Example:
        return self._hide(index, (_EVALUATION, index))

    def draw(self, index: int, *, seed: int, step: int) -> Example:
        """See `lra_bench.types.DrawnAnew`."""
        return self._hide(index, (_TRAINING, seed, step, index))

    def lengths(self) -> NDArray[np.int64]:
        """See `lra_bench.types.LengthsKnown`."""
        if self._num_inputs == 1:
            known: NDArray[np.int64] = lengths_of(self._examples)[self._chosen]
            return known
        # Of several inputs only the longest is known.
        return np.array([len(self._document(index)) for index in range(len(self))], np.int64)

    def num_hidden(self) -> tuple[int, int]:
        """Return how many positions are hidden in evaluation, and of how many."""
        targets = [np.asarray(self[index].target) for index in range(len(self))]
        return sum(int((of != IGNORED).sum()) for of in targets), sum(map(len, targets))

    def _hide(self, index: int, key: Sequence[int]) -> Example:
        rng = np.random.default_rng(key)
        return self._rule.hide(self._document(index), rng, num_symbols=self._num_symbols)

    def _document(self, index: int) -> NDArray[np.int64]:
        row, which = divmod(index, self._num_inputs)
        return self._examples[int(self._chosen[row])].inputs[which].astype(np.int64)
