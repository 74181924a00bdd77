"""Linear Transformer: attention with a kernel in place of the softmax, linear in the length.

Shapes: B batch, L length, D width, H heads, K head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.feature_maps import feature_attention
from lra_bench.models.layers import Projections


def linear_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_BL: Tensor | None = None
) -> Tensor:
    """Let every position look at every real one, weighing them by phi(q) . phi(k).

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.

    Returns:
        (B, H, L, K).
    """
    # The products below would copy strided rows anyway.
    query, key = (_features(rows.contiguous()) for rows in (query, key))
    # What is added to the sum of the weights is the released code's.
    return feature_attention(query, key, value, mask_BL, epsilon=1e-6)


def _features(rows: Tensor) -> Tensor:
    """Return phi(x) = elu(x) + 1 of each number."""
    features: Tensor = _EluPlusOne.apply(rows)  # type: ignore[no-untyped-call]
    return features


class _EluPlusOne(torch.autograd.Function):
    # Half the time of PyTorch's elu and its derivative on the CPU: what it returns is the
    # exponential of a negative number, or one more than a positive one; its derivative is what it
    # returns, but at most one.

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        features = x.clamp(max=0.0).exp_().add_(x.clamp(min=0.0))
        ctx.save_for_backward(features)
        return features

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0].clamp(max=1.0)
        return slope.mul_(grads[0])


class LinearAttention(Mixer):
    """Attention with the kernel phi(x) = elu(x) + 1.

    Source: arXiv 2006.16236, equations 4 to 7 of section 3.2, without causality. Queries and keys
    are not divided by the root of their width, as there and in the released code of arXiv
    2011.04006. That code uses no mask; here padding is never seen. Neither has dropout on the
    weights, which are never written out.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.projections = Projections(spec)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        return self.projections.merge(linear_attention(*self.projections.split(x_BLD), mask_BL))

    if TYPE_CHECKING:
        __call__ = forward
