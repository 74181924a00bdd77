"""What a training step minimizes.

Shapes: B batch, C choices; dots stand for the answers of an example, of which there may be one (a
class), two (a span) or one a position.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from lra_bench.counting import spans_loss, targets_of
from lra_bench.errors import UserError
from lra_bench.heads import TaskModel
from lra_bench.types import IGNORED, Batch, Target, Task


@dataclass(frozen=True)
class Loss:
    """A loss and what it is made of.

    Args:
        total: What is minimized, a scalar.
        terms: Its parts by name, detached scalars, before weighting.
        number: Answers that the total is a mean over, a number or a scalar on the device; where
            several processes share a batch, each counts as much as it has answers. None if it is
            no such mean, or does not tell: then it is minimized by one process alone.
    """

    total: Tensor
    terms: dict[str, Tensor]
    number: Tensor | int | None = None


class Objective(ABC):
    """Contract of an objective. Evaluation never uses it; see `lra_bench.counting`."""

    # What a step costs, in passes through the encoder; the record and the tables state it.
    passes_per_step: ClassVar[int] = 1

    @abstractmethod
    def __call__(self, model: TaskModel, batch: Batch) -> Loss:
        """Return the mean loss over the answers of a batch."""

    def ask(self, task: Task) -> Task:
        """Return the task that the model has to answer: what the task itself asks.

        An objective that asks something else about the same data returns another one.

        Raises:
            UserError: The task asks nothing.
        """
        if task.spec.is_corpus:
            raise UserError(
                f"task {task.spec.name} is a corpus, of which nothing is asked; give "
                f"objective=denoising"
            )
        return task

    def check(self, topologies: tuple[str, ...]) -> None:  # noqa: B027 - an optional part of the contract
        """Refuse an encoder that this objective cannot train.

        Args:
            topologies: The further attention patterns that the encoder offers.

        Raises:
            ValueError: The encoder lacks what the objective needs.
        """


class CrossEntropy(Objective):
    """Mean cross entropy of the answers."""

    def __call__(self, model: TaskModel, batch: Batch) -> Loss:
        """See `Objective`."""
        loss = _mean(F.cross_entropy, model(batch), batch, model.head.target)
        number = num_asked(batch, model.head.target)
        return Loss(loss, {"cross_entropy": loss.detach()}, number)


class SelfAttentionRegularization(Objective):
    """Two attention topologies, one set of weights: both must be right, and must agree.

    ``(CE(p1, y) + CE(p2, y)) / 2 + alpha * (KL(p1 || p2) + KL(p2 || p1)) / 2``, where p1 comes
    from the encoder's own topology, the one used for evaluation, and p2 from ``topology``. Every
    dropout mask is drawn independently for the two passes.

    Args:
        alpha: Weight of the divergence.
        topology: The second pattern, one of the encoder's ``topologies``.

    Source: arXiv 2203.12276, "self-attention regularization", which minimizes the distance
    between Transformers of different attention topologies; the symmetric Kullback-Leibler
    divergence of the probabilities, averaged over the answers, is the choice made here.
    """

    passes_per_step: ClassVar[int] = 2

    def __init__(self, *, alpha: float = 1.0, topology: str = "shifted") -> None:
        if alpha < 0:
            raise ValueError(f"alpha={alpha} must not be negative")
        self.alpha = alpha
        self.topology = topology

    def check(self, topologies: tuple[str, ...]) -> None:
        """See `Objective.check`."""
        if not topologies:
            raise ValueError(
                "self-attention regularization needs a model with a second attention topology, "
                "and this one has none; use one that has, like model=ernie_sparse, or "
                "objective=cross_entropy"
            )
        if self.topology not in topologies:
            raise ValueError(
                f"objective.topology={self.topology} is not offered by this model; "
                f"choose from {', '.join(topologies)}"
            )

    def __call__(self, model: TaskModel, batch: Batch) -> Loss:
        """See `Objective`."""
        target = model.head.target
        first = F.log_softmax(model(batch), dim=-1)
        second = F.log_softmax(model(batch, topology=self.topology), dim=-1)
        cross_entropy = (
            _mean(F.nll_loss, first, batch, target) + _mean(F.nll_loss, second, batch, target)
        ) / 2
        # The sum of both directions is the sum of (p1 - p2) * (log p1 - log p2).
        both_ways = ((first.exp() - second.exp()) * (first - second)).sum(-1)
        if target == "class":
            divergence = both_ways.mean() / 2
        else:
            is_asked = _is_asked(batch, target).expand(both_ways.shape)
            divergence = (both_ways * is_asked).sum() / is_asked.sum().clamp(min=1) / 2
        return Loss(
            cross_entropy + self.alpha * divergence,
            {"cross_entropy": cross_entropy.detach(), "divergence": divergence.detach()},
            num_asked(batch, target),
        )


def num_asked(batch: Batch, target: Target) -> Tensor | int:
    """Return how many answers the mean is over, without waiting for the device; see `Loss`."""
    return batch.size if batch.targets.ndim == 1 else _is_asked(batch, target).sum()


def _is_asked(batch: Batch, target: Target) -> Tensor:
    """Return which answers are asked for, of the shape of the answers or (B, 1)."""
    if target == "spans":
        return (batch.targets[..., 0] != IGNORED).any(dim=1, keepdim=True)
    return targets_of(batch, target) != IGNORED


def _mean(loss: Callable[..., Tensor], scores: Tensor, batch: Batch, target: Target) -> Tensor:
    """Return the mean of a loss over the answers that are asked for; 0 if none is.

    Args:
        loss: Of PyTorch, with a target that it leaves out.
        scores: Logits, or logarithms of probabilities; the last dimension is the choice.
        batch: Has the answers.
        target: What is asked.
    """
    if target == "spans":
        losses_B2, is_asked_B = spans_loss(scores, batch.targets)
        return losses_B2.sum() / 2 / is_asked_B.sum().clamp(min=1)
    targets, scores = targets_of(batch, target), scores.flatten(0, -2)
    if targets.ndim == 1 and len(targets):
        # Nothing is left out, and the plain mean is what other versions gave, to the last bit.
        return loss(scores, targets)
    total = loss(scores, targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)
