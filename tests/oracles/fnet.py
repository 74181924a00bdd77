"""The slow, obvious version of Fourier mixing: cosines and sines, one example at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def fourier_mixing(x_BLD: Tensor, mask_BL: Tensor | None = None, *, scale: str) -> Tensor:
    out = []
    for row in range(len(x_BLD)):
        length, width = x_BLD.shape[1:]
        size = length if mask_BL is None else int(mask_BL[row].sum())
        x_LD = x_BLD[row, :size]
        mixed = []
        for k in range(size):
            features = []
            for h in range(width):
                # The real part of exp(-2 pi i (k m / L + h n / D)) is the cosine of the sum.
                angle = (
                    k * torch.arange(size, dtype=x_BLD.dtype)[:, None] / size
                    + h * torch.arange(width, dtype=x_BLD.dtype) / width
                ) * (2 * math.pi)
                features.append((angle.cos() * x_LD).sum())
            mixed.append(torch.stack(features))
        total = torch.stack(mixed)
        if scale == "orthonormal":
            total = total / (size * width) ** 0.5
        out.append(torch.cat((total, x_BLD.new_zeros(length - size, width))))
    return torch.stack(out)
