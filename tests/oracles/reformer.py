"""LSH attention as sets: who meets whom in some round, and one softmax over all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from oracles.attention import attend


def reformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    rotations_XKR: Tensor,
    chunk_size: int,
) -> Tensor:
    batch, num_heads, length, _ = query.shape
    visible = torch.zeros(batch, num_heads, length, length, dtype=torch.bool)
    for example in range(batch):
        num_real = length if mask_BL is None else int(mask_BL[example].sum())
        for head in range(num_heads):
            met: list[set[int]] = [set() for _ in range(num_real)]
            for rotations_KR in rotations_XKR:
                buckets = [
                    bucket_of(query[example, head, row].detach(), rotations_KR)
                    for row in range(num_real)
                ]
                order = sorted(range(num_real), key=lambda row: (buckets[row], row))
                for row in range(num_real):
                    for other in range(num_real):
                        chunks = [order.index(one) // chunk_size for one in (row, other)]
                        if buckets[row] == buckets[other] and 0 <= chunks[0] - chunks[1] <= 1:
                            met[row].add(other)
            for row, others in enumerate(met):
                for other in others - {row} or {row}:
                    visible[example, head, row, other] = True
    return attend(query, key, value, visible)


def bucket_of(row_K: Tensor, rotations_KR: Tensor) -> int:
    rotated = [float(row_K @ direction) for direction in rotations_KR.T]
    rotated += [-each for each in rotated]
    return max(range(len(rotated)), key=rotated.__getitem__)
