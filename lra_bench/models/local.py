"""Block-local attention: a position sees the positions of its own block.

Shapes: B batch, L length, D width, N blocks, W block size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import key_bias
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections


class LocalAttention(Mixer):
    """Softmax attention inside blocks that do not overlap.

    Args:
        spec: Sizes.
        block_size: Positions a block.
        layout: ``contiguous`` blocks of neighbors, as the paper describes; or ``strided``, as the
            released code computes it: a sequence of N * W positions, and position t meets t + N,
            t + 2N and so on.

    Source: arXiv 2011.04006, "local attention", block size of the released code. In its strided
    form the code also appended a whole block where the length was a multiple already and let
    appended positions be seen; ``strided`` appends it too, but padding is never seen here.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        block_size: int = 50,
        layout: Literal["contiguous", "strided"] = "contiguous",
    ) -> None:
        super().__init__()
        if block_size < 1:
            raise ValueError(f"block_size={block_size} must be at least 1")
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        self.block_size = block_size
        self.layout = layout

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        batch, length, _ = x_BLD.shape
        extra = -length % self.block_size
        if self.layout == "strided" and not extra:
            extra = self.block_size
        qkv = F.pad(self.projections.qkv(x_BLD), (0, 0, 0, extra))
        if extra and mask_BL is None:
            mask_BL = x_BLD.new_ones((batch, length)).bool()
        mask_BL = None if mask_BL is None else F.pad(mask_BL, (0, extra))

        query, key, value = map(self.projections.heads, self._blocks(qkv).chunk(3, -1))
        bias = None if mask_BL is None else key_bias(self._blocks(mask_BL), query.dtype)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        merged = self.projections.merge(mixed).unflatten(0, (batch, -1))
        if self.layout == "strided":
            merged = merged.transpose(1, 2)
        states_BLD: Tensor = merged.flatten(1, 2)[:, :length]
        return states_BLD

    def _blocks(self, x_BL: Tensor) -> Tensor:
        """Cut into blocks: (B, N * W, ...) to (B * N, W, ...)."""
        blocks: Tensor
        if self.layout == "contiguous":
            blocks = x_BL.unflatten(1, (-1, self.block_size))
        else:
            blocks = x_BL.unflatten(1, (self.block_size, -1)).transpose(1, 2)
        return blocks.flatten(0, 1)

    if TYPE_CHECKING:
        __call__ = forward
