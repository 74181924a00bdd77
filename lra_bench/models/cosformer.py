"""Linear attention with ReLU features and cosine weights that favor neighbors.

Shapes: B batch, L length, D width, H heads, K head width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.landmarks import lengths_of
from lra_bench.models.layers import Projections
from lra_bench.models.precision import in_full_precision

# Least value of the sum of weights. It is below it only where ReLU has left a query or all keys
# without a feature; then the result is close to zero.
SMALLEST_SUM = 1e-6


@in_full_precision
def cosformer_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_BL: Tensor | None = None
) -> Tensor:
    """Weigh value j for query i by relu(q_i) . relu(k_j) cos(pi (i - j) / (2 n)), normalized.

    The cosine of a difference is a sum of two products, so that the weights are never written out.
    n is the number of real tokens of the example.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens, which come first; None if all are real.

    Returns:
        (B, H, L, K).
    """
    query, key = query.relu(), key.relu()
    if mask_BL is not None:
        shown = mask_BL[:, None, :, None]
        key, value = key.masked_fill(~shown, 0.0), value.masked_fill(~shown, 0.0)
    places_L = torch.arange(query.shape[2], device=query.device, dtype=query.dtype)
    lengths_B = lengths_of(mask_BL, query).clamp(min=1)
    angle = (math.pi / 2 * places_L / lengths_B[:, None])[:, None, :, None]
    query = torch.cat((query * angle.cos(), query * angle.sin()), dim=-1)
    key = torch.cat((key * angle.cos(), key * angle.sin()), dim=-1)
    sums = query @ key.sum(dim=2)[..., None]
    return (query @ (key.mT @ value)) / sums.clamp(min=SMALLEST_SUM)


class CosformerAttention(Mixer):
    """Linear attention of cosFormer; it has no options.

    Source: arXiv 2202.08791, the method (ReLU in place of softmax, "cos-based re-weighting"). The
    paper's scale M is to be at least the length; it is the length here, as in the released code,
    but the example's own instead of the padded one. The floor of the sum is the released code's.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.projections = Projections(spec)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        return self.projections.merge(cosformer_attention(*self.projections.split(x_BLD), mask_BL))

    if TYPE_CHECKING:
        __call__ = forward
