"""Attention whose weights are products of features, in time linear in the length.

Shapes: B batch, L length, H heads, K head width, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def feature_attention(
    query_BHLF: Tensor,
    key_BHLF: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    epsilon: float,
) -> Tensor:
    """Let every position look at every real one, weighing them by products of features.

    Args:
        query_BHLF: Features of the queries, none negative.
        key_BHLF: Features of the keys, none negative.
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        epsilon: Added to the sum of the weights; keeps a sequence without any real key from
            dividing by zero.

    Returns:
        (B, H, L, K).
    """
    if mask_BL is not None:
        key_BHLF = key_BHLF * mask_BL[:, None, :, None]
    summary_BHFK = torch.matmul(key_BHLF.mT, value)
    total_BHL1 = torch.matmul(query_BHLF, key_BHLF.sum(-2)[..., None])
    return torch.matmul(query_BHLF, summary_BHFK) / (total_BHL1 + epsilon)
