"""What a training step minimizes.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from lra_bench.classifier import SequenceClassifier
from lra_bench.types import Batch


@dataclass(frozen=True)
class Loss:
    """A loss and what it is made of.

    Args:
        total: What is minimized, a scalar.
        terms: Its parts by name, detached scalars, before weighting.
    """

    total: Tensor
    terms: dict[str, Tensor]


class Objective(ABC):
    """Contract of an objective. Evaluation never uses it: it is accuracy and cross entropy."""

    # What a step costs, in passes through the encoder; the record and the tables state it.
    passes_per_step: ClassVar[int] = 1

    @abstractmethod
    def __call__(self, classifier: SequenceClassifier, batch: Batch) -> Loss:
        """Return the mean loss over the examples of a batch."""

    def check(self, topologies: tuple[str, ...]) -> None:  # noqa: B027 - an optional part of the contract
        """Refuse an encoder that this objective cannot train.

        Args:
            topologies: The further attention patterns that the encoder offers.

        Raises:
            ValueError: The encoder lacks what the objective needs.
        """


class CrossEntropy(Objective):
    """Mean cross entropy."""

    def __call__(self, classifier: SequenceClassifier, batch: Batch) -> Loss:
        """See `Objective`."""
        loss = F.cross_entropy(classifier(batch), batch.targets)
        return Loss(loss, {"cross_entropy": loss.detach()})


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
    divergence of the class probabilities is the choice made here.
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
                "and this one has none; use model=ernie_sparse, or objective=cross_entropy"
            )
        if self.topology not in topologies:
            raise ValueError(
                f"objective.topology={self.topology} is not offered by this model; "
                f"choose from {', '.join(topologies)}"
            )

    def __call__(self, classifier: SequenceClassifier, batch: Batch) -> Loss:
        """See `Objective`."""
        first_BC = F.log_softmax(classifier(batch), dim=-1)
        second_BC = F.log_softmax(classifier(batch, topology=self.topology), dim=-1)
        cross_entropy = (
            F.nll_loss(first_BC, batch.targets) + F.nll_loss(second_BC, batch.targets)
        ) / 2
        # The sum of both directions is the sum of (p1 - p2) * (log p1 - log p2).
        difference_BC = first_BC - second_BC
        divergence = ((first_BC.exp() - second_BC.exp()) * difference_BC).sum(-1).mean() / 2
        return Loss(
            cross_entropy + self.alpha * divergence,
            {"cross_entropy": cross_entropy.detach(), "divergence": divergence.detach()},
        )
