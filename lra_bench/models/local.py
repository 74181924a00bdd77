"""Block-local attention: a position sees the positions of its own block.

Shapes: B batch, L length, D width, H heads, K head width, N blocks, W block size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import attend, key_bias, split_qkv
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections

Layout = Literal["contiguous", "strided"]


def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    block_size: int,
    layout: Layout = "contiguous",
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at the real ones of its own block.

    Args:
        query: (B, H, L, K), whole blocks: L = N * W.
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        block_size: Positions a block (W).
        layout: See `LocalAttention`.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    batch = len(query)
    bias = None
    if mask_BL is not None:
        bias = key_bias(_blocks(mask_BL, block_size, layout), query.dtype)
    query, key, value = (
        _blocks(rows.transpose(1, 2), block_size, layout).transpose(1, 2)
        for rows in (query, key, value)
    )
    mixed = attend(query, key, value, bias, dropout_p).transpose(1, 2).unflatten(0, (batch, -1))
    if layout == "strided":
        mixed = mixed.transpose(1, 2)
    out_BLHK: Tensor = mixed.flatten(1, 2)
    return out_BLHK.transpose(1, 2)


def _blocks(x_BL: Tensor, block_size: int, layout: Layout) -> Tensor:
    """Cut into blocks: (B, N * W, ...) to (B * N, W, ...)."""
    blocks: Tensor
    if layout == "contiguous":
        blocks = x_BL.unflatten(1, (-1, block_size))
    else:
        blocks = x_BL.unflatten(1, (block_size, -1)).transpose(1, 2)
    return blocks.flatten(0, 1)


class LocalAttention(Mixer):
    """Softmax attention inside blocks that do not overlap.

    Args:
        spec: Sizes.
        block_size: Positions a block.
        layout: ``contiguous`` blocks of neighbors, as the paper describes; or ``strided``, as the
            released code computes it: a sequence of N * W positions, and position t meets t + N,
            t + 2N and so on.

    Topology ``shifted``, of contiguous blocks: the grid moved by half a block.

    Source: arXiv 2011.04006, section 3.1 (the local baseline; it is no method of its own), block
    size of the released code. In its strided
    form the code also appended a whole block where the length was a multiple already and let
    appended positions be seen; ``strided`` appends it too, but padding is never seen here.
    """

    turns = True

    def __init__(
        self, spec: EncoderSpec, *, block_size: int = 50, layout: Layout = "contiguous"
    ) -> None:
        super().__init__()
        if block_size < 1:
            raise ValueError(f"block_size={block_size} must be at least 1")
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        self.block_size = block_size
        self.layout = layout
        # Groups of strided positions have no neighbors to move to.
        self.topologies = ("shifted",) if layout == "contiguous" else ()

    def forward(
        self, x_BLD: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `Mixer.forward`."""
        batch, length, _ = x_BLD.shape
        lead = self.block_size // 2 if topology == "shifted" else 0
        extra = -(lead + length) % self.block_size
        if self.layout == "strided" and not extra:
            extra = self.block_size
        if (lead or extra) and mask_BL is None:
            mask_BL = x_BLD.new_ones((batch, length)).bool()
        qkv = F.pad(self.projections.project(x_BLD), (0, 0, lead, extra))
        mixed = local_attention(
            *split_qkv(qkv, self.projections.num_heads),
            None if mask_BL is None else F.pad(mask_BL, (lead, extra)),
            block_size=self.block_size,
            layout=self.layout,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed[:, :, lead : lead + length])

    if TYPE_CHECKING:
        __call__ = forward
