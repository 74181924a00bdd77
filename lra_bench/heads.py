"""From states to classes: pooling, and the heads for one or two inputs.

Shapes: B batch, I inputs an example, L length, D width, C classes, T sequences (B * I).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from lra_bench.models.encoder import SequenceEncoder
from lra_bench.types import Batch, TaskSpec

Pooling = Literal["cls", "first", "mean", "max"]
Interaction = Literal["concatenate", "nli"]


class SequenceClassifier(nn.Module):
    """An encoder, a pooling and a head.

    Args:
        encoder: Gives one state a position.
        task: Number of classes and inputs.
        width: Width of the encoder's states (D).
        hidden_width: Width of the head's hidden layer.
        pooling: ``first``, the state of the first token; ``cls``, that of a class token put in
            front, whose id is ``task.vocab_size``; ``mean`` and ``max`` over real tokens.
        interaction: What the head sees of two inputs: both states, or also their product and
            difference.

    Source: arXiv 2011.04006, released code: hidden layer with ReLU (two layers for two inputs).
    The pair features ``nli`` are in its paper, ``concatenate`` in its code.
    """

    def __init__(
        self,
        encoder: SequenceEncoder,
        task: TaskSpec,
        *,
        width: int,
        hidden_width: int,
        pooling: Pooling,
        interaction: Interaction = "concatenate",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.interaction = interaction
        self.cls_id = task.vocab_size if pooling == "cls" else None
        features = task.num_inputs * width
        if task.num_inputs == 2 and interaction == "nli":
            features *= 2
        sizes = [features, hidden_width]
        if task.num_inputs == 2:
            sizes.append(hidden_width // 2)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [_linear(fan_in, fan_out), nn.ReLU()]
        self.head = nn.Sequential(*layers, _linear(sizes[-1], task.num_classes))

    def forward(self, batch: Batch, *, topology: str | None = None) -> Tensor:
        """Classify a batch.

        Args:
            batch: Padded examples.
            topology: Passed on to the encoder if given.

        Returns:
            logits_BC, in float32.
        """
        num_inputs = batch.tokens_BIL.shape[1]
        tokens_TL = batch.tokens_BIL.flatten(0, 1)
        mask_TL = None if batch.mask_BIL is None else batch.mask_BIL.flatten(0, 1)
        if self.cls_id is not None:
            tokens_TL = nn.functional.pad(tokens_TL, (1, 0), value=self.cls_id)
            mask_TL = None if mask_TL is None else nn.functional.pad(mask_TL, (1, 0), value=True)
        if topology is None:
            states_TLD = self.encoder(tokens_TL, mask_TL)
        else:
            states_TLD = self.encoder(tokens_TL, mask_TL, topology=topology)  # type: ignore[call-arg]
        pooled_BID = self._pool(states_TLD, mask_TL).unflatten(0, (-1, num_inputs))
        features = pooled_BID.flatten(1)
        if num_inputs == 2 and self.interaction == "nli":
            first, second = pooled_BID.unbind(1)
            features = torch.cat((features, first * second, first - second), dim=1)
        logits_BC: Tensor = self.head(features)
        return logits_BC.float()

    def _pool(self, states_TLD: Tensor, mask_TL: Tensor | None) -> Tensor:
        if self.pooling in ("first", "cls"):
            return states_TLD[:, 0]
        if self.pooling == "max":
            if mask_TL is not None:
                states_TLD = states_TLD.masked_fill(~mask_TL[..., None], -torch.inf)
            return states_TLD.amax(dim=1)
        if mask_TL is None:
            return states_TLD.mean(dim=1)
        total = (states_TLD * mask_TL[..., None]).sum(dim=1)
        return total / mask_TL.sum(dim=1, keepdim=True)

    if TYPE_CHECKING:
        __call__ = forward


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    """Return a linear layer initialized as LeCun normal with zero bias."""
    linear = nn.Linear(fan_in, fan_out)
    nn.init.normal_(linear.weight, std=fan_in**-0.5)
    nn.init.zeros_(linear.bias)
    return linear
