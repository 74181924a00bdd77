"""The slow, obvious version of the trunk: one sequence, every formula written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Affine = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FeedForward:
    """Weights and biases of the norm, the way up and the way down."""

    norm: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True)
class Layer:
    """The norm before the mixer, the mixer as a function of the normalized states, and the rest."""

    norm: Affine
    mix: Callable[[Tensor], Tensor]
    feed_forward: FeedForward | None


def encode(
    tokens_L: Tensor,
    *,
    embedding_VD: Tensor,
    positions_PD: Tensor | None,
    layers: Sequence[Layer],
    norm: Affine | None,
) -> Tensor:
    """Return the states of one sequence, (L, D); without a last norm, norms come after the parts.

    Source: arXiv 2002.04745, table 1 (pre-LN and post-LN).
    """
    x_LD = torch.stack(
        [
            embedding_VD[token] + (0 if positions_PD is None else positions_PD[place])
            for place, token in enumerate(tokens_L.tolist())
        ]
    )
    for layer in layers:
        if norm is None:
            x_LD = layer_norm(x_LD + layer.mix(x_LD), layer.norm)
            if layer.feed_forward is not None:
                part = layer.feed_forward
                x_LD = layer_norm(x_LD + branch(x_LD, part), part.norm)
            continue
        x_LD = x_LD + layer.mix(layer_norm(x_LD, layer.norm))
        if layer.feed_forward is not None:
            x_LD = feed_forward(x_LD, layer.feed_forward)
    return x_LD if norm is None else layer_norm(x_LD, norm)


def layer_norm(x: Tensor, weights: Affine) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    deviation = (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centered / deviation * weights[0] + weights[1]


def feed_forward(x: Tensor, weights: FeedForward) -> Tensor:
    """Return the sum of the branch, norm first, and its input."""
    return x + branch(layer_norm(x, weights.norm), weights)


def branch(x: Tensor, weights: FeedForward) -> Tensor:
    hidden = x @ weights.up[0].T + weights.up[1]
    cube = hidden + 0.044715 * hidden**3
    hidden = hidden / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * cube))
    return hidden @ weights.down[0].T + weights.down[1]
