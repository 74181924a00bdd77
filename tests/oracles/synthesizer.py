"""Attention by given scores, with the softmax written out; and the scores as loops."""

from __future__ import annotations

import torch
from torch import Tensor


def synthesizer_attention(
    query: Tensor | None,
    key: Tensor | None,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    scores_EHLL: Tensor,
) -> Tensor:
    if query is not None and key is not None:
        products = torch.einsum("bhqk,bhsk->bhqs", query, key)
        scores_EHLL = scores_EHLL + products / query.shape[-1] ** 0.5
    weights = scores_EHLL.exp().expand(len(value), -1, -1, -1)
    if mask_BL is not None:
        weights = torch.where(mask_BL[:, None, None], weights, 0.0)
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.einsum("bhqs,bhsk->bhqk", weights, value)


def dense_scores(
    x_LD: Tensor, hidden: tuple[Tensor, Tensor], weight_HKT: Tensor, bias_H1T: Tensor
) -> Tensor:
    """Return (H, L, T)."""
    num_heads, width, _ = weight_HKT.shape
    states = torch.clamp(x_LD @ hidden[0].T + hidden[1], min=0)
    heads = [
        states[:, head * width : (head + 1) * width] @ weight_HKT[head] + bias_H1T[head]
        for head in range(num_heads)
    ]
    return torch.stack(heads)


def factorized_dense_scores(inner_HLA: Tensor, outer_HLC: Tensor) -> Tensor:
    """Return (H, L, L)."""
    length, num_inner = inner_HLA.shape[1:]
    columns = [
        inner_HLA[..., key % num_inner] * outer_HLC[..., key // num_inner] for key in range(length)
    ]
    return torch.stack(columns, dim=-1)
