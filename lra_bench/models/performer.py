"""Performer: softmax attention approximated by positive orthogonal random features (FAVOR+).

Shapes: B batch, L length, D width, H heads, K head width, F features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import HIDDEN
from lra_bench.models.draws import Drawn
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.feature_maps import feature_attention
from lra_bench.models.layers import Projections
from lra_bench.models.precision import in_full_precision

Kernel = Literal["softmax", "relu"]
# Keeps features from vanishing altogether; the authors' code has the same two numbers.
_FLOOR = {"softmax": 1e-6, "relu": 1e-3}


# The exponential would magnify what is lost in a number of 16 bits.
@in_full_precision
def performer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    directions_FK: Tensor,
    kernel: Kernel = "softmax",
) -> Tensor:
    """Let every position look at every real one, weighing them by products of random features.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        directions_FK: What queries and keys are projected on; see `orthogonal_directions`.
        kernel: See `PerformerAttention`.

    Returns:
        (B, H, L, K).
    """
    if kernel == "relu":
        directions_KF = directions_FK.mT / math.sqrt(len(directions_FK))
        query, key = (torch.relu(rows @ directions_KF) for rows in (query, key))
    else:
        query = _exponential(query, directions_FK, None, together=False)
        key = _exponential(key, directions_FK, mask_BL, together=True)
    # What is added to the sum of the weights is far below the smallest of a sequence with a real
    # key.
    floor = _FLOOR[kernel]
    return feature_attention(query, key, value, mask_BL, floor=floor, epsilon=1e-20)


def _exponential(
    rows: Tensor, directions_FK: Tensor, mask_BL: Tensor | None, *, together: bool
) -> Tensor:
    """Return the positive features of the softmax kernel, (B, H, L, F), up to constants.

    Args:
        rows: Queries or keys, (B, H, L, K).
        directions_FK: What they are projected on.
        mask_BL: True at real tokens; None if all are real.
        together: Scale all positions alike, and not each, so that the largest feature is one. A
            scale of a query, or one of all keys, has no influence on the weights.
    """
    rows = rows * math.pow(rows.shape[-1], -0.25)
    # The exponent w . x - |x|^2 / 2 as one product; a tensor of features is large.
    rows = torch.cat((rows, rows.square().sum(-1, keepdim=True)), dim=-1)
    exponent = rows @ F.pad(directions_FK, (0, 1), value=-0.5).mT
    largest = exponent.detach().amax(-1, keepdim=True)
    if mask_BL is not None:
        real = mask_BL[:, None, :, None]
        largest = torch.where(real, largest, HIDDEN)
    if together:
        largest = largest.amax(-2, keepdim=True)
    if mask_BL is not None:
        # A feature of padding could be too large for a number.
        largest = torch.where(real, largest, -HIDDEN)
    features: Tensor = exponent.sub_(largest).exp_()
    return features


def orthogonal_directions(num_directions: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw directions, orthogonal in groups of ``width``, each as long as a normal vector.

    Returns:
        (num_directions, width), every row with the distribution of a standard normal vector.
    """
    groups = []
    for _ in range(-(-num_directions // width)):
        normal = torch.randn(width, width, generator=generator, dtype=torch.float64)
        rotation, triangle = torch.linalg.qr(normal)
        # Without the signs, some rotations would be likelier than others.
        groups.append((rotation * triangle.diagonal().sign()).mT)
    lengths = torch.randn(num_directions, width, generator=generator, dtype=torch.float64)
    directions: Tensor = torch.cat(groups)[:num_directions] * lengths.norm(dim=-1, keepdim=True)
    return directions.float()


class PerformerAttention(Mixer):
    """Attention by FAVOR+: positive features of random, orthogonal directions.

    Args:
        spec: Sizes.
        num_features: Random features; the more, the closer to softmax attention.
        kernel: ``softmax``: exponential features, the approximation of softmax attention;
            ``relu``: the generalized attention of the paper, with a kernel of its own.
        redraw_every: Training steps after which other directions are drawn; 0 for never.

    Source: arXiv 2009.14794, lemma 1 and section 2.4 (positive orthogonal features), section 2.2
    (other kernels). Padding is never seen, and the weights, never written out, have no dropout.
    The released code of arXiv 2011.04006 uses no mask, and is a linear attention with ReLU and
    without any random direction in all tasks but ListOps, where it has two features, drawn anew at
    every call.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        num_features: int = 256,
        kernel: Kernel = "softmax",
        redraw_every: int = 0,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features={num_features} must be at least 1")
        self.projections = Projections(spec)
        # Those of the softmax know the inner product of two turned rows; relu's are not of it.
        self.turns = kernel == "softmax"
        self.kernel: Kernel = kernel
        head_width = spec.qkv_width // spec.num_heads
        self.directions = Drawn(
            lambda generator: orthogonal_directions(num_features, head_width, generator),
            every=redraw_every,
        )

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = performer_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            directions_FK=self.directions(),
            kernel=self.kernel,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
