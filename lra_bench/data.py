"""From examples to batches: the only place that pads, masks, shuffles and groups by length.

Which examples are in the batch of a step is a function of the seed and the step alone, so that a
run resumes exactly, on any number of workers, without a stored sampler.

Shapes: B batch, I inputs an example, L length, N examples.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_bench.errors import UserError
from lra_bench.metrics import Evaluation, constant_answer, metrics_of
from lra_bench.promises import check_classes, check_example, check_range, question_length
from lra_bench.types import (
    IGNORED,
    Batch,
    DrawnAnew,
    Example,
    Examples,
    Judged,
    Target,
    TaskSpec,
    lengths_of,
)

# Examples of similar length are gathered within this many batches: enough to save most of the
# padding, few enough that a batch still mixes the whole data set.
POOL_BATCHES = 32
# Batches that are made while a GPU computes with others.
AHEAD = 2
# Of examples that are drawn anew, how many tell what their answers are like.
_FEW = 4_096
# Time after which a thread that waits looks whether it is still wanted [seconds].
_LOOK_SECONDS = 0.1

T = TypeVar("T")


def collate(
    examples: Sequence[Example],
    *,
    target: Target = "class",
    lengths: Sequence[int] = (),
    candidate: int | None = None,
    context: int | None = None,
) -> Batch:
    """Pad examples to the longest input among them.

    Args:
        examples: At least one.
        target: What is asked about them.
        candidate: See `TaskSpec`; likewise the next one.
        context: See there.
        lengths: Pad to the shortest of these that suffices, so that few shapes occur; empty for
            no more padding than needed.

    Raises:
        ValueError: There is no example, or an input is empty.
        UserError: A token or an answer is no whole number.
    """
    if not examples:
        raise ValueError("a batch needs at least one example")
    num_inputs = max(len(example.inputs) for example in examples)
    if target != "choice" and any(len(example.inputs) != num_inputs for example in examples):
        raise ValueError("a batch of this shape cannot be: examples have unlike numbers of inputs")
    sizes_BI = np.zeros((len(examples), num_inputs), np.int64)
    for sizes, example in zip(sizes_BI, examples, strict=True):
        sizes[: len(example.inputs)] = [len(tokens) for tokens in example.inputs]
        if not example.inputs or not sizes[: len(example.inputs)].all():
            raise ValueError("an input without tokens cannot be encoded")
    longest = int(sizes_BI.max())
    longest = min((length for length in lengths if length >= longest), default=longest)
    # Pages that the padding alone would touch are not touched: zeros() gets them from the system.
    tokens_BIL = np.zeros((len(examples), num_inputs, longest), np.int64)
    for row, example in zip(tokens_BIL, examples, strict=True):
        for cells, tokens in zip(row, example.inputs, strict=False):
            if tokens.dtype.kind not in "uib":
                raise UserError(f"token ids must be whole numbers, not {tokens.dtype}")
            cells[: len(tokens)] = tokens
    mask_BIL = None
    if sizes_BI.min() < longest:
        mask_BIL = torch.from_numpy(np.arange(longest) < sizes_BI[..., None])
    targets, asked_N = _targets_of(examples, target, longest)
    is_there = sizes_BI.ravel() > 0
    return Batch(
        torch.from_numpy(tokens_BIL),
        mask_BIL,
        targets,
        int(sizes_BI.sum()),
        asked_N,
        candidates_BC=None if candidate is None else _candidates_of(examples, candidate),
        context_B=None if context is None else _contexts_of(examples, context),
        rows_T=None if is_there.all() else torch.from_numpy(np.flatnonzero(is_there)),
    )


def _candidates_of(examples: Sequence[Example], candidate: int) -> Tensor:
    """Return where the candidates of each example stand, (B, C), -1 where there are fewer."""
    places = [np.flatnonzero(example.inputs[0] == candidate) for example in examples]
    places_BC = np.full((len(places), max(map(len, places))), -1, np.int64)
    for cells, some in zip(places_BC, places, strict=True):
        cells[: len(some)] = some
    return torch.from_numpy(places_BC)


def _contexts_of(examples: Sequence[Example], context: int) -> Tensor:
    """Return how many of the first tokens of each example ask, (B,)."""
    return torch.tensor([question_length(example.inputs[0], context) for example in examples])


def _targets_of(
    examples: Sequence[Example], target: Target, length: int
) -> tuple[Tensor, Tensor | None]:
    """Return the targets of a batch, and where classes of positions are asked."""
    if target == "spans":
        spans = [np.reshape(example.target, (-1, 2)) for example in examples]
        spans_BA2 = np.full((len(spans), max(1, *map(len, spans)), 2), IGNORED, np.int64)
        for cells, some in zip(spans_BA2, spans, strict=True):
            cells[: len(some)] = some
        return torch.from_numpy(spans_BA2), None
    if target != "tokens":
        answers = np.array([example.target for example in examples])
        if answers.dtype.kind not in "uib":
            raise UserError(f"answers must be whole numbers, not {answers.dtype}")
        return torch.tensor(answers, dtype=torch.int64), None
    targets_BL = np.full((len(examples), length), IGNORED, np.int64)
    for cells, example in zip(targets_BL, examples, strict=True):
        classes = np.asarray(example.target)
        cells[: len(classes)] = classes
    asked_N = np.flatnonzero(targets_BL != IGNORED)
    return torch.from_numpy(targets_BL), torch.from_numpy(asked_N)


def majority_baseline(training: Examples, test: Examples, spec: TaskSpec) -> float | None:
    """Return what can be had on the test split by knowing how often each class is the answer.

    Returns:
        The ranking metric of the task, of always answering the most frequent training class. Where
        that metric is a loss: of always giving each class the share of the training answers that
        it has. None for spans and candidates, which are no classes.

    Raises:
        UserError: A class is none of those that the task promises, or a split asks nothing.
    """
    if spec.target not in ("class", "tokens"):
        return None
    seen, asked = (_class_counts(split, spec) for split in (training, test))
    answer = int(seen.argmax())
    counts = dict(enumerate(asked.tolist()))
    sums = dict(constant_answer(counts, answer, spec.num_classes, len(test)).sums)
    # Once more each, so that no class is impossible.
    shares = (seen + 1) / (seen + 1).sum()
    sums["loss"] = float(-(asked * np.log(shares)).sum())
    if spec.symbol_bytes is not None:
        sums["bytes"] = int((asked * np.array(spec.symbol_bytes)[: len(asked)]).sum())
    return Evaluation(sums)[metrics_of(spec)[0].name]


def _class_counts(examples: Examples, spec: TaskSpec) -> NDArray[np.int64]:
    """Return how often each class is an answer; of what is drawn anew, in some of the examples."""
    number = len(examples)
    few = min(number, _FEW) if isinstance(examples, DrawnAnew) else number
    counts = np.zeros(spec.num_classes, np.int64)
    if spec.target == "class":
        classes = np.array([examples[index].target for index in range(number)])
        check_range("class", classes.min(), classes.max(), spec.num_classes, spec)
        return counts + np.bincount(classes, minlength=spec.num_classes)
    for index in (np.arange(few) * number // few).tolist():
        target = np.asarray(examples[index].target)
        classes = target[target != IGNORED]
        if len(classes):
            check_range("class", classes.min(), classes.max(), spec.num_classes, spec)
            counts += np.bincount(classes, minlength=spec.num_classes)
    if not counts.any():
        raise UserError(f"task {spec.name} has a split that asks nothing at all")
    return counts


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


def made_ahead(items: Iterator[T], number: int) -> Generator[T, None, None]:
    """Yield what an iterator gives, in its order, while a thread already makes what follows.

    Args:
        items: Used by the thread alone; what it raises is raised here, in its place.
        number: Items that are kept ready; 0 for no thread.
    """
    if not number:
        yield from items
        return
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(number)
    given_up = threading.Event()

    def put(item: T | None, error: BaseException | None = None) -> bool:
        while not given_up.is_set():
            try:
                ready.put((item, error), timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=make, name="batches ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        # Whoever asked wants no more: the run is interrupted, or all is done.
        given_up.set()
        thread.join()


class Loader:
    """Makes the batches of one split on one device.

    Args:
        examples: The split.
        spec: What the task promises; it is checked.
        batch_size: Examples a batch.
        bucketing: Put examples of similar length into one batch.
        device: Where the batches are wanted.
        lengths: Lengths to pad to [tokens]; empty for no more padding than needed.
        ahead: Batches that a thread makes while others are computed with; 0 for none. The batches
            and their order are the same.
        rank: Of each batch, every ``size``-th example from this one on is this process's share.
        size: Processes that share each batch.

    Raises:
        UserError: The split is empty, or breaks the promise.
    """

    def __init__(
        self,
        examples: Examples,
        spec: TaskSpec,
        *,
        batch_size: int,
        bucketing: bool,
        device: torch.device,
        lengths: Sequence[int] = (),
        ahead: int = 0,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        if not len(examples):
            raise UserError(f"task {spec.name} has a split without examples")
        for metric in metrics_of(spec):
            if metric.needs_judge and not isinstance(examples, Judged):
                raise UserError(
                    f"task {spec.name}: the metric {metric.name} judges texts, and its examples "
                    f"have no judge(); choose exact_match, or make them lra_bench.types.Judged"
                )
        self.examples = examples
        self.spec = spec
        self.batch_size = batch_size
        self.bucketing = bucketing
        self.device = device
        self.padded_lengths = lengths
        self.ahead = ahead
        self.rank, self.size = rank, size
        self.lengths = np.asarray(lengths_of(examples))
        if self.lengths.shape != (len(examples),):
            raise UserError(
                f"task {spec.name} tells the lengths of {self.lengths.size:,} examples, and has "
                f"{len(examples):,}"
            )
        if self.lengths.min() < 1:
            raise UserError(f"task {spec.name} has an input without tokens")
        if self.lengths.max() > spec.max_length:
            raise UserError(
                f"task {spec.name} has an input of {self.lengths.max():,} tokens, its spec says "
                f"at most {spec.max_length:,}"
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.lengths)

    def training(self, *, seed: int, start: int, stop: int) -> Generator[Batch, None, None]:
        """Yield the batches of training steps ``start`` to ``stop - 1``; close it if it is left.

        Of several processes each gets its share, as it lies in the whole batch: padded alike. One
        that has none gets a stand-in, an example of another's with ``num_tokens=0``, which must
        count for nothing: all processes take part in every step.
        """
        plan = TrainingPlan(self.lengths, self.batch_size, seed, self.bucketing)

        # Whatever makes the examples of an update is known from the update alone.
        def load(numbered: tuple[int, NDArray[np.int64]]) -> Batch:
            step, indices = numbered
            return self._load_share(indices, drawn=(seed, step))

        yield from made_ahead(map(load, enumerate(plan.batches(start, stop), start)), self.ahead)

    def evaluation(self) -> Generator[Batch, None, None]:
        """Yield batches that hold every example exactly once; close it if it is left.

        Of several processes each gets its share or a stand-in; see `training`.
        """
        plan = evaluation_plan(self.lengths, self.batch_size, bucketing=self.bucketing)
        yield from made_ahead(map(self._load_share, plan), self.ahead)

    def _load_share(
        self, indices: NDArray[np.int64], drawn: tuple[int, int] | None = None
    ) -> Batch:
        """Return the share of this process in a batch, or a stand-in.

        Args:
            indices: The examples of the batch.
            drawn: Seed and update, where those that are drawn anew are to be drawn for it.
        """
        share = indices[self.rank :: self.size]
        is_none = not len(share)
        chosen = (indices[:1] if is_none else share).tolist()
        if drawn is not None and isinstance(self.examples, DrawnAnew):
            seed, step = drawn
            examples = [self.examples.draw(index, seed=seed, step=step) for index in chosen]
        else:
            examples = [self.examples[index] for index in chosen]
        longest = 0 if self.size == 1 else int(self.lengths[indices].max())
        batch = self._load(examples, longest)
        if drawn is None:
            batch = replace(batch, indices=tuple(chosen))
        return replace(batch, num_tokens=0) if is_none else batch

    def _load(self, examples: Sequence[Example], longest: int = 0) -> Batch:
        spec = self.spec
        for example in examples:
            check_example(example, spec)
        lengths = self.padded_lengths
        if longest:
            lengths = [min((one for one in lengths if one >= longest), default=longest)]
        batch = collate(
            examples,
            target=spec.target,
            lengths=lengths,
            candidate=spec.candidate,
            context=spec.context,
        )
        if spec.target == "class":
            check_classes(batch.targets, spec)
        if batch.tokens_BIL.shape[-1] > self.spec.max_length:
            raise UserError(
                f"task {self.spec.name} has an input of {batch.tokens_BIL.shape[-1]:,} tokens, its "
                f"spec says at most {self.spec.max_length:,}"
            )
        low, high = batch.tokens_BIL.min().item(), batch.tokens_BIL.max().item()
        check_range("token id", low, high, self.spec.vocab_size, self.spec)
        if self.device.type != "cuda":
            return batch
        # From pinned pages the copy runs beside the computation. PyTorch keeps them, and gives them
        # out again once the copy is over.
        return batch.map(lambda x: x.pin_memory().to(self.device, non_blocking=True))
