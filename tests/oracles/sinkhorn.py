"""Sinkhorn attention block by block, and the sorting in plain numbers instead of logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from oracles.attention import attend


def sinkhorn_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    sorting_BHNN: Tensor,
    block_size: int,
) -> Tensor:
    batch, num_heads, length, width = query.shape
    out = torch.zeros_like(query)
    for example in range(batch):
        num_real = length if mask_BL is None else int(mask_BL[example].sum())
        starts = range(0, num_real, block_size)
        for head in range(num_heads):
            keys, values = key[example, head, :num_real], value[example, head, :num_real]
            for block, start in enumerate(starts):
                moved = []
                for place in range(min(block_size, num_real)):
                    # What lies at this place in the blocks that reach so far.
                    rows = [first + place for first in starts if first + place < num_real]
                    shares = sorting_BHNN[example, head, block, : len(rows)]
                    moved.append(torch.stack((shares @ keys[rows], shares @ values[rows])))
                own = slice(start, start + block_size)
                seen_keys = torch.cat((torch.stack(moved)[:, 0], keys[own]))
                seen_values = torch.cat((torch.stack(moved)[:, 1], values[own]))
                rows_LK = query[example, head, :num_real][own]
                visible = torch.ones(len(rows_LK), len(seen_keys), dtype=torch.bool)
                mixed = attend(rows_LK, seen_keys, seen_values, visible)
                before = out.clone()
                before[example, head, start : start + len(rows_LK)] = mixed
                out = before
    assert out.shape[-1] == width
    return out


def sorting(
    key_HLK: Tensor, weight_HKM: Tensor, *, block_size: int, num_iterations: int, temperature: float
) -> Tensor:
    """Return the soft permutation of one sequence without padding, (H, N, N)."""
    pooled = torch.stack([rows.sum(1) for rows in key_HLK.split(block_size, dim=1)], dim=1)
    matrix = torch.einsum("hnk,hkm->hnm", pooled, weight_HKM[..., : pooled.shape[1]])
    matrix = (matrix / temperature).exp()
    for _ in range(num_iterations):
        matrix = matrix / matrix.sum(2, keepdim=True)
        matrix = matrix / matrix.sum(1, keepdim=True)
    return matrix
