"""Fourier mixing: the real part of a discrete Fourier transform over positions and features.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.precision import in_full_precision, uncompiled

Scale = Literal["orthonormal", "none"]


@uncompiled
@in_full_precision
def fourier_mixing(
    x_BLD: Tensor, mask_BL: Tensor | None = None, *, scale: Scale = "orthonormal"
) -> Tensor:
    """Transform each example over its features and over its own positions.

    A transform has no mask: its frequencies are those of a length. So every example is transformed
    over its own length, all examples of a length in one call, and padding takes no part. The
    lengths are read for that: a GPU is waited for where there is padding.

    Args:
        x_BLD: States; anything where padded.
        mask_BL: True at real tokens, which come first; None if all are real.
        scale: See `FourierMixing`.

    Returns:
        (B, L, D); zero where padded.
    """
    length = x_BLD.shape[1]
    lengths_B = [length] * len(x_BLD) if mask_BL is None else mask_BL.sum(dim=1).tolist()
    if min(lengths_B) == length:
        return _real_part(x_BLD, scale)
    order_B = sorted(range(len(lengths_B)), key=lengths_B.__getitem__)
    distinct = sorted(set(lengths_B))
    groups = x_BLD[order_B].split([lengths_B.count(size) for size in distinct])
    mixed = [
        F.pad(_real_part(group[:, :size], scale), (0, 0, 0, length - size))
        for group, size in zip(groups, distinct, strict=True)
    ]
    back_B = sorted(range(len(order_B)), key=order_B.__getitem__)
    return torch.cat(mixed)[back_B]


def _real_part(x_BLD: Tensor, scale: Scale) -> Tensor:
    """Return the real part of the transform over both axes of real numbers."""
    length, width = x_BLD.shape[1:]
    half = torch.fft.rfft2(x_BLD, dim=(1, 2)).real
    # Half of the spectrum of real numbers is the other half turned around on both axes:
    # Y[k, h] is the conjugate of Y[-k, -h].
    rest = half[:, :, 1 : (width + 1) // 2].flip(1, 2).roll(1, dims=1)
    mixed = torch.cat((half, rest), dim=2)
    return mixed / math.sqrt(length * width) if scale == "orthonormal" else mixed


class FourierMixing(Mixer):
    """Mixing of positions without a parameter.

    Args:
        spec: Sizes; heads and their width are not used.
        scale: ``orthonormal`` divides by the square root of positions times features, which keeps
            the size of the states; ``none`` does not.

    Source: arXiv 2105.03824, section 3.2 and equation 3. The paper normalizes after each residual
    sum, which undoes the size of the transform. The layers here normalize before, and an unscaled
    transform, some thousand times its input, would drown all that the feed-forward parts add:
    hence the orthonormal scale. The paper transforms padding along with the text; here each
    example is transformed over its own length.
    """

    def __init__(self, spec: EncoderSpec, *, scale: Scale = "orthonormal") -> None:
        super().__init__()
        if scale not in ("orthonormal", "none"):
            raise ValueError(f"scale={scale!r} must be orthonormal or none")
        self.scale: Scale = scale

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        return fourier_mixing(x_BLD, mask_BL, scale=self.scale)

    if TYPE_CHECKING:
        __call__ = forward
