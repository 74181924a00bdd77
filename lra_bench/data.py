"""From examples to batches: the only place that pads, masks, shuffles and groups by length.

Which examples are in the batch of a step is a function of the seed and the step alone, so that a
run resumes exactly, on any number of workers, without a stored sampler.

Shapes: B batch, I inputs an example, L length, N examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_bench.errors import UserError
from lra_bench.types import Batch, Example, Examples, LengthsKnown, TaskSpec

# Examples of similar length are gathered within this many batches: enough to save most of the
# padding, few enough that a batch still mixes the whole data set.
POOL_BATCHES = 32


def collate(examples: Sequence[Example]) -> Batch:
    """Pad examples to the longest input among them.

    Raises:
        ValueError: There is no example, or an input is empty.
    """
    if not examples:
        raise ValueError("a batch needs at least one example")
    num_inputs = len(examples[0].inputs)
    lengths = np.array([[len(tokens) for tokens in example.inputs] for example in examples])
    if lengths.min() < 1:
        raise ValueError("an input without tokens cannot be encoded")
    longest = int(lengths.max())
    # Pages that the padding alone would touch are not touched: zeros() gets them from the system.
    tokens_BIL = np.zeros((len(examples), num_inputs, longest), np.int64)
    for row, example in zip(tokens_BIL, examples, strict=True):
        for cells, tokens in zip(row, example.inputs, strict=True):
            cells[: len(tokens)] = tokens
    mask_BIL = None
    if lengths.min() < longest:
        mask_BIL = torch.from_numpy(np.arange(longest) < lengths[..., None])
    targets = torch.tensor([example.target for example in examples], dtype=torch.int64)
    return Batch(torch.from_numpy(tokens_BIL), mask_BIL, targets, int(lengths.sum()))


def lengths_of(examples: Examples) -> NDArray[np.int64]:
    """Return the length of the longest input of each example, shape (N,) [tokens]."""
    if hasattr(examples, "lengths"):
        return cast(LengthsKnown, examples).lengths()
    return np.array(
        [max(map(len, examples[index].inputs)) for index in range(len(examples))], np.int64
    )


def majority_baseline(training: Examples, test: Examples) -> float:
    """Return the test accuracy of always answering the most frequent training class."""
    classes = [training[index].target for index in range(len(training))]
    answer = int(np.bincount(classes).argmax())
    right = sum(test[index].target == answer for index in range(len(test)))
    return right / len(test)


@dataclass(frozen=True)
class TrainingPlan:
    """Which examples make up the batch of a step.

    Every epoch is a fresh permutation; each example occurs in it exactly once, the last short
    batch included.

    Args:
        lengths: Length of each example [tokens], shape (N,).
        batch_size: Examples a batch.
        seed: Seed of the order.
        bucketing: Put examples of similar length into one batch, to save padding. The order of
            the batches stays random.
    """

    lengths: NDArray[np.int64]
    batch_size: int
    seed: int
    bucketing: bool

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Return the batches of an epoch, each the indices of its examples."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.lengths))
        if not self.bucketing:
            return self._cut(order)
        batches = []
        pool = POOL_BATCHES * self.batch_size
        for start in range(0, len(order), pool):
            members = order[start : start + pool]
            batches += self._cut(members[np.argsort(self.lengths[members], kind="stable")])
        return [batches[at] for at in rng.permutation(len(batches))]

    def batches(self, start: int, stop: int) -> Iterator[NDArray[np.int64]]:
        """Yield the batches of steps ``start`` to ``stop - 1``."""
        number = -1
        for step in range(start, stop):
            if step // self.steps_per_epoch != number:
                number = step // self.steps_per_epoch
                epoch = self.epoch(number)
            yield epoch[step % self.steps_per_epoch]

    def _cut(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [
            order[start : start + self.batch_size]
            for start in range(0, len(order), self.batch_size)
        ]


def evaluation_plan(
    lengths: NDArray[np.int64], batch_size: int, *, bucketing: bool
) -> list[NDArray[np.int64]]:
    """Cut all examples into batches, each example once; by length if ``bucketing``."""
    order = np.argsort(lengths, kind="stable") if bucketing else np.arange(len(lengths))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class Loader:
    """Makes the batches of one split on one device.

    Args:
        examples: The split.
        batch_size: Examples a batch.
        bucketing: Put examples of similar length into one batch.
        device: Where the batches are wanted.
        spec: What the task promises, to be checked; None for no checks.

    Raises:
        UserError: The split is empty, or breaks the promise.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        bucketing: bool,
        device: torch.device,
        spec: TaskSpec | None = None,
    ) -> None:
        if not len(examples):
            raise UserError("the task has a split without examples")
        self.examples = examples
        self.spec = spec
        self.batch_size = batch_size
        self.bucketing = bucketing
        self.device = device
        self.lengths = lengths_of(examples)
        if self.lengths.min() < 1:
            raise UserError("the task has an input without tokens")
        if spec is not None and self.lengths.max() > spec.max_length:
            raise UserError(
                f"the task has an input of {self.lengths.max():,} tokens, its spec says at most "
                f"{spec.max_length:,}"
            )

    def training(self, *, seed: int, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of training steps ``start`` to ``stop - 1``."""
        plan = TrainingPlan(self.lengths, self.batch_size, seed, self.bucketing)
        yield from map(self._load, plan.batches(start, stop))

    def evaluation(self) -> Iterator[Batch]:
        """Yield batches that hold every example exactly once."""
        plan = evaluation_plan(self.lengths, self.batch_size, bucketing=self.bucketing)
        yield from map(self._load, plan)

    def _load(self, indices: NDArray[np.int64]) -> Batch:
        batch = collate([self.examples[index] for index in indices.tolist()])
        if self.spec is not None:
            _check_range("token id", batch.tokens_BIL, self.spec.vocab_size)
            _check_range("label", batch.targets, self.spec.num_classes)
        if self.device.type != "cuda":
            return batch
        # From pinned pages the copy runs beside the computation.
        return batch.map(lambda x: x.pin_memory().to(self.device, non_blocking=True))


def _check_range(what: str, values: Tensor, limit: int) -> None:
    """Refuse what would otherwise fail deep inside a lookup, or not at all."""
    low, high = values.min().item(), values.max().item()
    if low < 0 or high >= limit:
        raise UserError(
            f"the task has a {what} of {low if low < 0 else high}; its spec allows 0 to {limit - 1}"
        )
