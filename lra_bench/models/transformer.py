"""Dense softmax attention: every position sees every other.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import key_bias
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections


class DenseAttention(Mixer):
    """Softmax attention by PyTorch's fused kernels; no L x L tensor where they apply.

    Source: arXiv 1706.03762, without biases as in the released code of arXiv 2011.04006.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        query, key, value = map(self.projections.heads, self.projections.qkv(x_BLD).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=key_bias(mask_BL, query.dtype),
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
