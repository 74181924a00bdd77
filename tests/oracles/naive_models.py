"""The slow, obvious versions of the encoders: loops over queries, no blocks, no padding.

They use the weights of the encoder under test, handle one sequence at a time, know nothing of
masks (padding is simply not there), and say in `visible` rules who may look at whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.layers import FeedForward, Projections

Visible = Callable[[int, int], bool]


def attend(to: Projections, rows_LD: Tensor, visible: Visible) -> Tensor:
    """Let every row look at the rows it may see, one query and one head at a time."""
    query, key, value = to.qkv(rows_LD).chunk(3, dim=-1)
    width = to.qkv_width // to.num_heads
    out = []
    for at in range(len(rows_LD)):
        seen = [other for other in range(len(rows_LD)) if visible(at, other)]
        heads = []
        for head in range(to.num_heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.stack([query[at, part] @ key[other, part] for other in seen])
            weights = torch.softmax(scores * width**-0.5, dim=0)
            heads.append(
                sum(w * value[other, part] for w, other in zip(weights, seen, strict=True))
            )
        out.append(torch.cat(heads))
    return F.linear(torch.stack(out), to.out.weight)


def feed_forward(part: FeedForward, x: Tensor) -> Tensor:
    """Apply the feed-forward part."""
    hidden = F.gelu(part.up(part.norm(x)), approximate="tanh")
    result: Tensor = x + part.down(hidden)
    return result


def trunk(encoder: Any, tokens_L: Tensor, visible: Visible) -> Tensor:
    """Encode one sequence with a shared-trunk encoder, (L, D)."""
    length = len(tokens_L)
    x = encoder.embedding.tokens.weight[tokens_L] + encoder.embedding.positions[:length]
    for layer in encoder.layers:
        x = x + attend(layer.mixer.projections, layer.mixer_norm(x), visible)
        x = feed_forward(layer.feed_forward, x)
    states: Tensor = encoder.norm(x)
    return states


def ernie_sparse(encoder: Any, tokens_L: Tensor, topology: str | None = None) -> Tensor:
    """Encode one sequence with ERNIE-Sparse, (L, D)."""
    length, size = len(tokens_L), encoder.block_size
    lead = size // 2 if topology == "shifted" else 0
    context = "none" if topology == "no_representatives" else encoder.context
    radius = encoder.window_radius + (topology == "wide")
    x = encoder.embedding.tokens.weight[tokens_L] + encoder.embedding.positions[:length]
    # One list of rows: kind, block, and what it holds.
    rows: list[tuple[str, int]] = []
    states = []
    num_blocks = (lead + length - 1) // size + 1
    if context == "representatives":
        for block in range(num_blocks):
            for one in encoder.representatives:
                rows.append(("representative", block))
                states.append(one + encoder.block_positions[block])
    if context == "global_tokens":
        for one in encoder.representatives:
            rows.append(("global", -1))
            states.append(one)
    for at in range(length):
        rows.append(("token", (lead + at) // size))
        states.append(x[at])
    state = torch.stack(states)

    def local(at: int, other: int) -> bool:
        (kind, block), (other_kind, other_block) = rows[at], rows[other]
        if "global" in (kind, other_kind) or topology == "dense":
            return True
        if other_kind == "representative":
            return block == other_block
        return bool(abs(block - other_block) <= radius)

    chosen = [at for at, (kind, _) in enumerate(rows) if kind == "representative"]
    for layer in encoder.layers:
        state = state + attend(layer.local, layer.local_norm(state), local)
        if chosen and layer is not encoder.layers[-1]:
            own = state[chosen]
            own = own + attend(layer.across, layer.global_norm(own), lambda *_: True)
            state = torch.cat((own, state[len(chosen) :]))
        state = feed_forward(layer.feed_forward, state)
    final: Tensor = encoder.norm(state[-length:])
    return final
