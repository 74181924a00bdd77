"""Sparse Transformer: the strided and the fixed pattern.

Shapes: B batch, L length, D width, H heads, K head width, N blocks, W block size (the stride), C
summary positions of a block, S keys that a query sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import HIDDEN, attend
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections

Pattern = Literal["strided", "fixed"]


def sparse_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    pattern: Pattern,
    stride: int,
    num_summaries: int = 1,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at the real ones that a pattern shows it.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        pattern: See `SparseAttention`.
        stride: See `SparseAttention`.
        num_summaries: See `SparseAttention`.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    length = query.shape[2]
    extra = -length % stride
    query, key, value = (
        F.pad(rows, (0, 0, 0, extra)).unflatten(2, (-1, stride)) for rows in (query, key, value)
    )
    if mask_BL is None:
        mask_BL = torch.ones((1, length), dtype=torch.bool, device=query.device)
    mask_BNW = F.pad(mask_BL, (0, extra)).unflatten(1, (-1, stride))
    if pattern == "strided":
        out_BHNWK = _strided(query, key, value, mask_BNW, dropout_p)
    else:
        out_BHNWK = _fixed(query, key, value, mask_BNW, num_summaries, dropout_p)
    return out_BHNWK.flatten(2, 3)[:, :, :length]


def _strided(
    query_BHNWK: Tensor,
    key_BHNWK: Tensor,
    value_BHNWK: Tensor,
    mask_BNW: Tensor,
    dropout_p: float,
) -> Tensor:
    """Show the positions less than a stride away, and those a whole number of strides away."""
    num_blocks, stride = mask_BNW.shape[1:]
    query_BHNWK = query_BHNWK * query_BHNWK.shape[-1] ** -0.5
    around = [_around(rows, 2) for rows in (key_BHNWK, value_BHNWK)]
    near = torch.matmul(query_BHNWK, around[0].mT)
    place = torch.arange(stride, device=mask_BNW.device)
    offset_WS = torch.arange(3 * stride, device=mask_BNW.device) - stride - place[:, None]
    hidden = _around(~mask_BNW, 1, beyond=True)[:, None, :, None]
    near = near.masked_fill(hidden | (offset_WS.abs() >= stride), HIDDEN)

    # Positions a whole number of strides away have the same place in other blocks.
    far = torch.einsum("bhnwk,bhmwk->bhnwm", query_BHNWK, key_BHNWK)
    itself = torch.eye(num_blocks, dtype=torch.bool, device=mask_BNW.device)[:, None]
    hidden = ~mask_BNW.mT[:, None, None]
    # Of these, only the position itself is near, too; it is not to count twice.
    far = far.masked_fill(hidden | itself, HIDDEN)

    near, far = _shares(near, far, dropout_p)
    return torch.matmul(near, around[1]) + torch.einsum("bhnwm,bhmwk->bhnwk", far, value_BHNWK)


def _fixed(
    query_BHNWK: Tensor,
    key_BHNWK: Tensor,
    value_BHNWK: Tensor,
    mask_BNW: Tensor,
    num_summaries: int,
    dropout_p: float,
) -> Tensor:
    """Show the positions of the own block, and the last ones of all blocks."""
    num_blocks = mask_BNW.shape[1]
    hidden_BS = ~mask_BNW[..., -num_summaries:].flatten(1)
    # Those of the own block have been seen already.
    own = torch.eye(num_blocks, dtype=torch.bool, device=mask_BNW.device)
    own_NS = own.repeat_interleave(num_summaries, dim=1)
    hidden_BNS = torch.cat((~mask_BNW, hidden_BS[:, None] | own_NS), dim=-1)
    bias_BNS = torch.zeros(hidden_BNS.shape, dtype=query_BHNWK.dtype, device=own.device)
    bias_BNS = bias_BNS.masked_fill_(hidden_BNS, HIDDEN)
    key, value = (
        torch.cat((rows, _summaries(rows, num_summaries)), dim=3)
        for rows in (key_BHNWK, value_BHNWK)
    )
    # Copying the summaries for every block costs less than writing out the scores: every block is
    # an example of one head to the kernel.
    shape = query_BHNWK.shape
    bias_BHNS = bias_BNS[:, None].expand(*shape[:2], -1, -1)
    query, key, value, bias = (
        rows.flatten(0, 2)[:, None] for rows in (query_BHNWK, key, value, bias_BHNS)
    )
    return attend(query, key, value, bias[:, None], dropout_p).reshape(shape)


def _summaries(blocks_BHNWK: Tensor, num_summaries: int) -> Tensor:
    """Return the last rows of all blocks for every block: (B, H, N, N * C, K)."""
    last = blocks_BHNWK[..., -num_summaries:, :].flatten(2, 3)
    return last[:, :, None].expand(-1, -1, blocks_BHNWK.shape[2], -1, -1)


def _around(blocks: Tensor, dim: int, *, beyond: bool = False) -> Tensor:
    """Return each block between its neighbors: (..., N, W, ...) to (..., N, 3 * W, ...).

    Args:
        blocks: Blocks along ``dim``, their rows along the next dimension.
        dim: See there.
        beyond: What stands beyond the ends.
    """
    end = torch.full_like(blocks.narrow(dim, 0, 1), beyond)
    longer = torch.cat((end, blocks, end), dim)
    num_blocks = blocks.shape[dim]
    return torch.cat([longer.narrow(dim, shift, num_blocks) for shift in range(3)], dim + 1)


def _shares(near: Tensor, far: Tensor, dropout_p: float) -> tuple[Tensor, Tensor]:
    """Return the weights of one softmax over two kinds of scores."""
    weights = F.dropout(torch.cat((near, far), dim=-1).softmax(-1), dropout_p)
    near, far = weights.split((near.shape[-1], far.shape[-1]), dim=-1)
    return near, far


class SparseAttention(Mixer):
    """Softmax attention over two sparse patterns at once.

    Args:
        spec: Sizes.
        pattern: ``strided``: a position sees all that are less than ``stride`` away, and all that
            are a whole number of strides away; ``fixed``: it sees its own block of ``stride``
            positions, and the last ``num_summaries`` positions of every block.
        stride: The paper's l; near the root of the length it makes the cost L^1.5.
        num_summaries: The paper's c; for ``fixed`` alone.

    Source: arXiv 1904.10509, section 4.3, without causality, as suits an encoder; section 5.1:
    every head attends to the positions of both patterns at once. The other ways there, a pattern
    for a layer or for a head, are not offered. The released code of arXiv 2011.04006 is ``fixed``,
    causal even in this encoder, and computed as a dense table; it counts the first position of a
    block among the summaries, too.
    """

    turns = True

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        pattern: Pattern = "fixed",
        stride: int = 50,
        num_summaries: int = 10,
    ) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        if pattern == "fixed" and not 1 <= num_summaries <= stride:
            raise ValueError(
                f"num_summaries={num_summaries} must be at least 1 and at most stride={stride}"
            )
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        self.pattern = pattern
        self.stride = stride
        self.num_summaries = num_summaries

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = sparse_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            pattern=self.pattern,
            stride=self.stride,
            num_summaries=self.num_summaries,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
