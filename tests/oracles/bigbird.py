"""BigBird's attention as a dense table of who may look at whom, block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from oracles.attention import attend


def bigbird_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    block_size: int,
    num_window_blocks: int,
    num_global_blocks: int,
    num_random_blocks: int,
    priority_HNN: Tensor,
) -> Tensor:
    batch, num_heads, length, _ = query.shape
    if mask_BL is None:
        mask_BL = torch.ones(batch, length, dtype=torch.bool)
    visible = torch.zeros(batch, num_heads, length, length, dtype=torch.bool)
    for example in range(batch):
        num_real = int(mask_BL[example].sum())
        num_blocks = -(-num_real // block_size)
        for head in range(num_heads):
            for block in range(num_blocks):
                near = {
                    other
                    for other in range(num_blocks)
                    if abs(other - block) <= num_window_blocks // 2
                    or other < num_global_blocks
                    or block < num_global_blocks
                }
                others = sorted(
                    set(range(num_blocks)) - near,
                    key=lambda other: float(priority_HNN[head, block, other]),
                    reverse=True,
                )
                rows = slice(block * block_size, (block + 1) * block_size)
                for other in near | set(others[:num_random_blocks]):
                    columns = slice(other * block_size, (other + 1) * block_size)
                    visible[example, head, rows, columns] = True
    return attend(query, key, value, visible & mask_BL[:, None, None])
