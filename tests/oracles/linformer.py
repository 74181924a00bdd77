"""Linformer's attention as loops over slots."""

from __future__ import annotations

import torch
from torch import Tensor

from oracles.attention import attend


def linformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    to_keys_SLR: Tensor,
    to_values_SLR: Tensor,
) -> Tensor:
    rows = []
    for example in range(len(query)):
        length = query.shape[2] if mask_BL is None else int(mask_BL[example].sum())
        heads = []
        for head in range(query.shape[1]):
            projections = (each[head % len(each), :length] for each in (to_keys_SLR, to_values_SLR))
            slots = [
                torch.stack(
                    [
                        sum((weight * row for weight, row in zip(column, rows_LK, strict=True)))
                        for column in projection.T
                    ]
                )
                for projection, rows_LK in zip(
                    projections,
                    (key[example, head, :length], value[example, head, :length]),
                    strict=True,
                )
            ]
            seen = torch.ones(query.shape[2], len(slots[0]), dtype=torch.bool)
            heads.append(attend(query[example, head], slots[0], slots[1], seen))
        rows.append(torch.stack(heads))
    return torch.stack(rows)
