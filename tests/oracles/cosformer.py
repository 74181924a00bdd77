"""The slow, obvious version of cosFormer's attention: every weight of every pair."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosformer_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_BL: Tensor | None = None
) -> Tensor:
    length = query.shape[2]
    out = []
    for row in range(len(query)):
        size = length if mask_BL is None else int(mask_BL[row].sum())
        places = torch.arange(length, dtype=query.dtype)
        near = torch.cos(math.pi / 2 * (places[:, None] - places[:size]) / size)
        weights = query[row].relu() @ key[row, :, :size].relu().mT * near
        sums = torch.clamp(weights.sum(-1, keepdim=True), min=1e-6)
        out.append(weights / sums @ value[row, :, :size])
    return torch.stack(out)
