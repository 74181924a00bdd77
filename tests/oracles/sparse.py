"""The patterns of the Sparse Transformer as a dense table of who may look at whom."""

from __future__ import annotations

from torch import Tensor

from oracles.attention import attend, table


def sparse_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    pattern: str,
    stride: int,
    num_summaries: int = 1,
) -> Tensor:
    def strided(row: int, other: int) -> bool:
        return abs(row - other) < stride or (row - other) % stride == 0

    def fixed(row: int, other: int) -> bool:
        return row // stride == other // stride or other % stride >= stride - num_summaries

    visible = table(query.shape[2], strided if pattern == "strided" else fixed)[None, None]
    if mask_BL is not None:
        visible = visible & mask_BL[:, None, None]
    return attend(query, key, value, visible)
