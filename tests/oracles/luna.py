"""The slow, obvious version of Luna: one sequence, every head by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oracles.trunk import Affine, FeedForward, feed_forward, layer_norm


@dataclass(frozen=True)
class Layer:
    """The norms of the sequence and the memory, the five matrices, and the feed-forward part."""

    norm: Affine
    memory_norm: Affine
    memory_query: Tensor
    query: Tensor
    context: Tensor
    packed_context: Tensor
    out: Tensor
    feed_forward: FeedForward


def encode(
    tokens_L: Tensor,
    *,
    embedding_VD: Tensor,
    positions_PD: Tensor,
    memory_MD: Tensor,
    layers: Sequence[Layer],
    norm: Affine,
    num_heads: int,
) -> Tensor:
    """Return the states of one sequence, (L, D)."""
    x_LD = torch.stack(
        [embedding_VD[token] + positions_PD[place] for place, token in enumerate(tokens_L.tolist())]
    )
    for layer in layers:
        x, memory = layer_norm(x_LD, layer.norm), layer_norm(memory_MD, layer.memory_norm)
        context = x @ layer.context.T
        packed = attend(memory @ layer.memory_query.T, context, num_heads)
        mixed = attend(x @ layer.query.T, packed @ layer.packed_context.T, num_heads)
        x_LD = feed_forward(x_LD + mixed @ layer.out.T, layer.feed_forward)
        memory_MD = memory_MD + packed @ layer.out.T
    return layer_norm(x_LD, norm)


def attend(query: Tensor, context: Tensor, num_heads: int) -> Tensor:
    """Return attention of rows to rows, whose keys are their values."""
    size = query.shape[-1] // num_heads
    heads = []
    for head in range(num_heads):
        own = slice(head * size, (head + 1) * size)
        scores = query[:, own] @ context[:, own].T / size**0.5
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        heads.append(weights @ context[:, own])
    return torch.cat(heads, dim=-1)
