"""The slow, obvious version of hierarchical attention: every pair of tokens meets somewhere."""

from __future__ import annotations

import torch
from torch import Tensor


def hierarchical_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    block_size: int,
) -> Tensor:
    length = query.shape[2]
    out = []
    for row in range(len(query)):
        size = length if mask_BL is None else int(mask_BL[row].sum())
        heads = []
        for head in range(query.shape[1]):
            q, k, v = (x[row, head, :size] for x in (query, key, value))
            weights = torch.stack(
                [
                    torch.stack([weight(q, k, place, other, block_size) for other in range(size)])
                    for place in range(size)
                ]
            )
            mixed = weights @ v / weights.sum(-1, keepdim=True)
            heads.append(torch.cat((mixed, v.new_zeros(length - size, v.shape[-1]))))
        out.append(torch.stack(heads))
    return torch.stack(out)


def level_of(place: int, other: int, block_size: int) -> int:
    """Return the finest level at which two tokens are in the same block or in neighbors."""
    level = 0
    while abs(place // (block_size << level) - other // (block_size << level)) > 1:
        level += 1
    return level


def weight(q: Tensor, k: Tensor, place: int, other: int, block_size: int) -> Tensor:
    """Return the weight of a pair of tokens: that of the means of their runs at their level."""
    run = 1 << level_of(place, other, block_size)
    of_query = q[place // run * run : (place // run + 1) * run].mean(0)
    of_key = k[other // run * run : (other // run + 1) * run].mean(0)
    scaled: Tensor = of_query @ of_key / q.shape[-1] ** 0.5
    return scaled.exp()
