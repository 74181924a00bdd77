"""Attention by random features with every weight written out."""

from __future__ import annotations

import torch
from torch import Tensor


def performer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    directions_FK: Tensor,
    kernel: str = "softmax",
) -> Tensor:
    examples = []
    for example in range(len(query)):
        length = query.shape[2] if mask_BL is None else int(mask_BL[example].sum())
        heads = []
        for head in range(query.shape[1]):
            if kernel == "softmax":
                scale = query.shape[-1] ** -0.25
                rows = query[example, head] * scale
                # Every query has a scale of its own.
                queries = torch.cat([exponential(row[None], directions_FK) for row in rows])
                keys = exponential(key[example, head, :length] * scale, directions_FK)
            else:
                queries, keys = (
                    torch.clamp(rows @ directions_FK.T, min=0) / len(directions_FK) ** 0.5 + 1e-3
                    for rows in (query[example, head], key[example, head, :length])
                )
            weights = queries @ keys.T
            weights = weights / weights.sum(-1, keepdim=True)
            heads.append(weights @ value[example, head, :length])
        examples.append(torch.stack(heads))
    return torch.stack(examples)


def exponential(rows: Tensor, directions_FK: Tensor) -> Tensor:
    """Return exp(w . x - |x|^2 / 2), scaled so that the largest is one."""
    exponents = torch.stack(
        [torch.stack([row @ w - row @ row / 2 for w in directions_FK]) for row in rows]
    )
    features: Tensor = exponents.exp() / exponents.detach().max().exp()
    return features + 1e-6
