"""Dense softmax attention: every position sees every other.

Shapes: B batch, L length, D width, H heads, K head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lra_bench.models.attention import attend, key_bias
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at every real one.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    return attend(query, key, value, key_bias(mask_BL, query.dtype), dropout_p)


class DenseAttention(Mixer):
    """Softmax attention over the whole sequence.

    Source: arXiv 1706.03762, section 3.2 (equation 1, and the heads of section 3.2.2), without
    biases as in the released code of arXiv 2011.04006.
    """

    turns = True

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = dense_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
