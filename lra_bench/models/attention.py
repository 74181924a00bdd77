"""Attention, what hides padding from it, heads, and the windows around blocks.

Shapes: B batch, L length, H heads, K head width, Q all heads (H * K), N blocks, W block size,
R context rows a block, M rows a block (R + W), S keys that a query sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Added to the score of a key that must not be seen. Finite, so that a query without any visible
# key (all padding) gets a finite output that later masking removes, instead of NaN.
HIDDEN = -1e9


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """Softmax attention by PyTorch's fused kernels; no L x S tensor where they apply.

    Args:
        query: (B, H, L, K).
        key: (B, H, S, K).
        value: (B, H, S, K).
        bias: Added to the scores, (B, 1, 1, S) or any shape that expands to (B, H, L, S). Left
            small on purpose: a kernel that has to copy it copies S numbers and not L * S.
        dropout_p: Probability on the weights; above 0 the CPU has no fused kernel.

    Returns:
        (B, H, L, K).
    """
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout_p)


def key_bias(mask_BS: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what hides padded keys when added to scores, (B, 1, 1, S), or None."""
    if mask_BS is None:
        return None
    bias = torch.zeros(mask_BS.shape, dtype=dtype, device=mask_BS.device)
    return bias.masked_fill_(~mask_BS, HIDDEN)[:, None, None]


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Put the heads before the positions, as a view: (..., L, Q) to (..., H, L, K)."""
    heads: Tensor = x.unflatten(-1, (num_heads, -1))
    return heads.transpose(-2, -3)


def split_qkv(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values, side by side in (..., L, 3 * Q), as (..., H, L, K) each."""
    query, key, value = (split_heads(part, num_heads) for part in qkv.chunk(3, -1))
    return query, key, value


def turned(x: Tensor, start: int = 0) -> Tensor:
    """Turn pairs of neighboring features by an angle that grows with the position.

    The inner product of two turned rows depends on the distance of their positions, and not on
    where they are.

    Args:
        x: Queries or keys, (..., L, K), K even.
        start: Position of the first row.

    Source: arXiv 2104.09864, equations 15 and 34; the angles are those of section 3.2.2.
    """
    length, width = x.shape[-2:]
    kind = torch.promote_types(x.dtype, torch.float32)
    places_L = torch.arange(start, start + length, dtype=kind, device=x.device)
    powers = torch.arange(0, width, 2, dtype=kind, device=x.device) / width
    angle = places_L[:, None] * 10_000.0**-powers
    first, second = x[..., 0::2], x[..., 1::2]
    sin, cos = angle.sin(), angle.cos()
    pairs = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return pairs.flatten(-2).to(x.dtype)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`: (..., H, L, K) to (..., L, Q)."""
    return x.transpose(-2, -3).flatten(-2)


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
