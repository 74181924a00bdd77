"""Attention and what hides padding from it; blocks and the windows around them.

Shapes: B batch, L length, H heads, K head width, N blocks, M rows a block, Q all heads (H * K),
R context rows a block, W block size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.layers import Projections

# Added to the score of a key that must not be seen. Finite, so that a query without any visible
# key (all padding) gets a finite output that later masking removes, instead of NaN.
HIDDEN = -1e9


def key_bias(mask_BL: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what hides padded keys when added to scores, (B, 1, 1, L), or None."""
    if mask_BL is None:
        return None
    bias = torch.zeros(mask_BL.shape, dtype=dtype, device=mask_BL.device)
    return bias.masked_fill_(~mask_BL, HIDDEN)[:, None, None]


def attend(
    to: Projections,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    dropout_p: float,
) -> Tensor:
    """Attend by PyTorch's fused kernel, (..., H, queries, K), merge heads and project."""
    if bias is not None:
        # The kernel wants the shape of the scores; a dimension of stride 0 costs no memory.
        bias = bias.expand(-1, -1, query.shape[-2], -1)
    return to.merge(
        F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout_p)
    )


def windows_of(qkv_BNME: Tensor, num_own: int, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, and keys and values of all that the rows of a block see.

    Args:
        qkv_BNME: Queries, keys and values side by side (E = 3 * Q) of the rows of each block:
            ``num_own`` context rows, then its tokens.
        num_own: Context rows of a block (R).
        radius: Blocks on either side.

    Returns:
        Queries (B, N, M, Q); keys and values (B, N, R + (2 * radius + 1) * W, Q): the block's own
        context rows, then the blocks around it from left to right, zeros beyond the ends.
    """
    query, key, value = _Windows.apply(qkv_BNME, num_own, radius)  # type: ignore[no-untyped-call]
    return query, key, value


class _Windows(torch.autograd.Function):
    # Slicing, padding and concatenating say the same; their backward passes write a tensor of
    # zeros for every slice. Here each gradient is added once where it belongs.

    @staticmethod
    def forward(
        ctx: Any, qkv_BNME: Tensor, num_own: int, radius: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, num_blocks, num_rows, _ = qkv_BNME.shape
        size = num_rows - num_own
        ctx.layout = (num_own, radius, size)
        query, *others = qkv_BNME.chunk(3, dim=-1)
        windows = []
        for rows in others:
            window = rows.new_empty(
                (batch, num_blocks, num_own + (2 * radius + 1) * size, rows.shape[-1])
            )
            window[:, :, :num_own] = rows[:, :, :num_own]
            for part, here, there in _shifts(window, num_own, radius, size):
                part[:, here] = rows[:, there, num_own:]
                part[:, : here.start] = 0
                part[:, here.stop :] = 0
            windows.append(window)
        return query.clone(), windows[0], windows[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        num_own, radius, size = ctx.layout
        grad_query, *others = grads
        batch, num_blocks, num_rows, width = grad_query.shape
        grad_qkv = grad_query.new_empty((batch, num_blocks, num_rows, 3 * width))
        into_query, *into_others = grad_qkv.chunk(3, dim=-1)
        into_query.copy_(grad_query)
        for into, grad in zip(into_others, others, strict=True):
            into[:, :, :num_own] = grad[:, :, :num_own]
            own = num_own + radius * size
            into[:, :, num_own:] = grad[:, :, own : own + size]
            for part, here, there in _shifts(grad, num_own, radius, size):
                if here != there:
                    into[:, there, num_own:] += part[:, here]
        return grad_qkv, None, None


def _shifts(
    windows: Tensor, num_own: int, radius: int, size: int
) -> Iterator[tuple[Tensor, slice, slice]]:
    """Yield each part of the windows, the blocks that have it and the blocks that it shows."""
    num_blocks = windows.shape[1]
    for number, shift in enumerate(range(-radius, radius + 1)):
        first = num_own + number * size
        low, high = max(0, -shift), max(0, -shift, min(num_blocks, num_blocks - shift))
        yield (
            windows[:, :, first : first + size],
            slice(low, high),
            slice(low + shift, high + shift),
        )
