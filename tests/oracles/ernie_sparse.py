"""The slow, obvious version of ERNIE-Sparse: a list of rows, and a rule of who may look at whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oracles.attention import attend, table
from oracles.trunk import Affine, FeedForward, feed_forward, layer_norm


@dataclass(frozen=True)
class Step:
    """An attention step: its norm, queries, keys and values side by side, and the way back."""

    norm: Affine
    qkv: Tensor
    out: Tensor


@dataclass(frozen=True)
class Layer:
    """The local step, the step across all representatives or None, and the feed-forward part."""

    local: Step
    across: Step | None
    feed_forward: FeedForward


@dataclass(frozen=True)
class Weights:
    """All weights of the encoder; representatives (R, D) and positions of the blocks may lack."""

    embedding_VD: Tensor
    positions_PD: Tensor
    representatives_RD: Tensor | None
    block_positions_ND: Tensor | None
    layers: Sequence[Layer]
    norm: Affine


def window_attention(
    qkv_BNME: Tensor,
    shared_BGE: Tensor | None,
    mask_BNW: Tensor | None,
    *,
    num_heads: int,
    num_own: int,
    radius: int,
) -> Tensor:
    """Gather what each block sees, one block at a time, and look at it."""
    num_blocks, num_rows = qkv_BNME.shape[1:3]
    blocks = []
    for block in range(num_blocks):
        near = range(max(0, block - radius), min(num_blocks, block + radius + 1))
        parts = [qkv_BNME[:, block, :num_own]]
        parts += [qkv_BNME[:, other, num_own:] for other in near]
        real = torch.ones(len(qkv_BNME), num_own + len(near) * (num_rows - num_own)).bool()
        if mask_BNW is not None:
            real[:, num_own:] = torch.cat([mask_BNW[:, other] for other in near], dim=1)
        if shared_BGE is not None:
            parts.insert(0, shared_BGE)
            real = torch.cat((real.new_ones(shared_BGE.shape[:2]), real), dim=1)
        seen = torch.cat(parts, dim=1)
        blocks.append(_look(qkv_BNME[:, block], seen, num_heads, real[:, None, None]))
    return torch.stack(blocks, dim=1)


def _look(rows: Tensor, seen: Tensor, num_heads: int, visible: Tensor) -> Tensor:
    query = rows.chunk(3, -1)[0]
    _, key, value = seen.chunk(3, -1)
    query, key, value = (
        x.unflatten(-1, (num_heads, -1)).movedim(-2, -3) for x in (query, key, value)
    )
    return attend(query, key, value, visible).movedim(-3, -2).flatten(-2)


def encode(
    tokens_L: Tensor,
    weights: Weights,
    *,
    num_heads: int,
    block_size: int,
    window_radius: int = 1,
    context: str = "representatives",
    topology: str | None = None,
) -> Tensor:
    """Encode one sequence; returns (L, D)."""
    length = len(tokens_L)
    lead = block_size // 2 if topology == "shifted" else 0
    context = "none" if topology == "no_representatives" else context
    radius = window_radius + (topology == "wide")
    # Every row: its kind, its block, and what it holds.
    rows: list[tuple[str, int]] = []
    states = []
    if context == "representatives":
        assert weights.representatives_RD is not None
        assert weights.block_positions_ND is not None
        for block in range((lead + length - 1) // block_size + 1):
            for own in weights.representatives_RD:
                rows.append(("representative", block))
                states.append(own + weights.block_positions_ND[block])
    if context == "global_tokens":
        assert weights.representatives_RD is not None
        for own in weights.representatives_RD:
            rows.append(("global", -1))
            states.append(own)
    for place, token in enumerate(tokens_L.tolist()):
        rows.append(("token", (lead + place) // block_size))
        states.append(weights.embedding_VD[token] + weights.positions_PD[place])
    state = torch.stack(states)

    def local(row: int, other: int) -> bool:
        (kind, block), (other_kind, other_block) = rows[row], rows[other]
        if "global" in (kind, other_kind) or topology == "dense":
            return True
        if other_kind == "representative":
            return block == other_block
        return abs(block - other_block) <= radius

    visible = table(len(rows), local)
    num_own = sum(kind == "representative" for kind, _ in rows)
    for number, layer in enumerate(weights.layers):
        state = state + _step(state, layer.local, num_heads, visible)
        if num_own and number + 1 < len(weights.layers):
            assert layer.across is not None
            own = state[:num_own]
            everyone = torch.ones(num_own, num_own, dtype=torch.bool)
            own = own + _step(own, layer.across, num_heads, everyone)
            state = torch.cat((own, state[num_own:]))
        state = feed_forward(state, layer.feed_forward)
    return layer_norm(state[-length:], weights.norm)


def _step(state: Tensor, step: Step, num_heads: int, visible: Tensor) -> Tensor:
    rows = layer_norm(state, step.norm) @ step.qkv.T
    return _look(rows, rows, num_heads, visible) @ step.out.T
