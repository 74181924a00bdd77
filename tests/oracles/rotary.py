"""The slow, obvious version of rotary positions: complex numbers, one pair at a time."""

from __future__ import annotations

import cmath

import torch
from torch import Tensor


def turned(x_LK: Tensor, start: int = 0) -> Tensor:
    """Multiply each pair of features, as a complex number, by exp(i m theta), one by one."""
    width = x_LK.shape[1]
    rows = []
    for place, row_K in enumerate(x_LK):
        pairs = []
        for number in range(width // 2):
            factor = cmath.exp(1j * (start + place) * 10_000 ** (-2 * number / width))
            pair = torch.complex(row_K[2 * number], row_K[2 * number + 1]) * factor
            pairs += [pair.real, pair.imag]
        rows.append(torch.stack(pairs))
    return torch.stack(rows)
