"""Attention whose weights are products of features, in time linear in the length.

Shapes: B batch, L length, H heads, K head width, F features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_attention(
    query_BHLF: Tensor,
    key_BHLF: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    floor: float = 0.0,
    epsilon: float,
) -> Tensor:
    """Let every position look at every real one, weighing them by products of features.

    Args:
        query_BHLF: Features of the queries, none negative.
        key_BHLF: Features of the keys, none negative.
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        floor: Added to every feature, without writing the features once more.
        epsilon: Added to the sum of the weights; keeps a sequence without any real key from
            dividing by zero.

    Returns:
        (B, H, L, K).
    """
    # With a column of ones, the sum of the weights comes from the same products.
    value = F.pad(value, (0, 1), value=1.0)
    if mask_BL is not None:
        value = value * mask_BL[:, None, :, None]
    summary_BHFK = torch.matmul(key_BHLF.mT, value)
    if floor:
        summary_BHFK = summary_BHFK + floor * value.sum(-2, keepdim=True)
    mixed = torch.matmul(query_BHLF, summary_BHFK)
    if floor:
        mixed = mixed + floor * summary_BHFK.sum(-2, keepdim=True)
    return mixed[..., :-1] / (mixed[..., -1:] + epsilon)
