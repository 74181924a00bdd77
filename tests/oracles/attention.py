"""The slow, obvious versions of attention: a dense table of who may look at whom, and loops.

Each function has the signature of the one that it is the oracle of.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Visible = Callable[[int, int], bool]


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Attend where a table says so, with the softmax written out.

    Args:
        query: (..., H, L, K).
        key: (..., H, S, K).
        value: (..., H, S, K).
        visible: True where a query may look at a key; expands to (..., H, L, S). A query that may
            look at nothing gets zeros.
    """
    scores = torch.einsum("...qk,...sk->...qs", query, key) / query.shape[-1] ** 0.5
    weights = torch.where(visible, scores.exp(), 0.0)
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(total > 0, total, 1.0)
    return torch.einsum("...qs,...sk->...qk", weights, value)


def table(num_rows: int, visible: Visible) -> Tensor:
    """Return the table of a rule, (L, L)."""
    rows = range(num_rows)
    return torch.tensor([[visible(row, other) for other in rows] for row in rows])


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_BL: Tensor | None = None
) -> Tensor:
    length = query.shape[2]
    visible = torch.ones(len(query), 1, length, length, dtype=torch.bool)
    if mask_BL is not None:
        visible = visible & mask_BL[:, None, None]
    return attend(query, key, value, visible)


def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    block_size: int,
    layout: str = "contiguous",
) -> Tensor:
    """Any length will do."""
    length = query.shape[2]
    # The released code has a block more where the length is a multiple already.
    num_blocks = length // block_size + 1

    def together(row: int, other: int) -> bool:
        if layout == "contiguous":
            return row // block_size == other // block_size
        return row % num_blocks == other % num_blocks

    visible = table(length, together)[None, None]
    if mask_BL is not None:
        visible = visible & mask_BL[:, None, None]
    return attend(query, key, value, visible)


def windows_of(qkv_BNME: Tensor, num_own: int, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    query, *others = qkv_BNME.chunk(3, -1)
    num_blocks, num_rows = qkv_BNME.shape[1:3]
    nothing = torch.zeros_like(others[0][:, 0, num_own:])
    windows = []
    for rows in others:
        blocks = []
        for block in range(num_blocks):
            parts = [rows[:, block, :num_own]]
            for near in range(block - radius, block + radius + 1):
                inside = 0 <= near < num_blocks
                parts.append(rows[:, near, num_own:num_rows] if inside else nothing)
            blocks.append(torch.cat(parts, dim=1))
        windows.append(torch.stack(blocks, dim=1))
    return query, windows[0], windows[1]
