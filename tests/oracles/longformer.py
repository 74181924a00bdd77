"""Longformer's attention as a dense table of who may look at whom."""

from __future__ import annotations

import torch
from torch import Tensor

from oracles.attention import attend, table


def longformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    window: int,
    dilation: int = 1,
    across: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    num_global = 0 if across is None else across[0].shape[2]

    def together(row: int, other: int) -> bool:
        steps = abs(row - other) / dilation
        return other < num_global or (steps <= window // 2 and steps == int(steps))

    real = torch.ones(len(query), 1, 1, query.shape[2], dtype=torch.bool)
    if mask_BL is not None:
        real = mask_BL[:, None, None]
    out = attend(query, key, value, table(query.shape[2], together) & real)
    if across is None:
        return out
    return torch.cat((attend(*across, real), out[:, :, num_global:]), dim=2)
