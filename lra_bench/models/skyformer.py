"""Kernelized attention: a Gaussian kernel instead of softmax, approximated from random landmarks.

Shapes: B batch, L length, D width, H heads, K head width, M landmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.landmarks import inverse, lengths_of, sampled_rows
from lra_bench.models.layers import Projections
from lra_bench.models.precision import in_full_precision


@in_full_precision
def skyformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    query_draws_M: Tensor,
    key_draws_M: Tensor,
    num_iterations: int,
    ridge: float,
) -> Tensor:
    """Weigh value j for query i by exp(-|q_i - k_j|^2 / (2 sqrt(K))), approximately; no softmax.

    The kernel among queries and keys together is positive definite. Some of its columns, those of
    landmarks among both, give the part between queries and keys (the Nystrom method). The rows of
    padded queries have no meaning.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens, which come first; None if all are real.
        query_draws_M: Where in its part of the sequence each landmark among the queries lies, in
            [0, 1).
        key_draws_M: The same among the keys.
        num_iterations: Steps of the iteration for the inverse.
        ridge: Added to the diagonal before inverting.

    Returns:
        (B, H, L, K).
    """
    scale = query.shape[-1] ** -0.25
    query, key = query * scale, key * scale
    if mask_BL is not None:
        shown = mask_BL[:, None, :, None]
        key, value = key.masked_fill(~shown, 0.0), value.masked_fill(~shown, 0.0)
    lengths_B = lengths_of(mask_BL, query)
    of_queries, used_queries = sampled_rows(query, lengths_B, query_draws_M)
    of_keys, used_keys = sampled_rows(key, lengths_B, key_draws_M)
    landmarks_BHMK = torch.cat((of_queries, of_keys), dim=2)
    used_BM = torch.cat((used_queries, used_keys), dim=1)[:, None, :, None]

    # An unused landmark has a row and a column of zeros, but for the ridge.
    among_BHMM = gaussian_kernel(landmarks_BHMK, landmarks_BHMK) * used_BM * used_BM.mT
    among_BHMM = among_BHMM + ridge * torch.eye(
        among_BHMM.shape[-1], dtype=query.dtype, device=query.device
    )
    gathered = gaussian_kernel(landmarks_BHMK, key) @ value * used_BM
    root = among_BHMM.sum(dim=-1, keepdim=True).rsqrt()
    scaled = among_BHMM * root * root.mT
    start = scaled.mT / scaled.sum(dim=-2).amax(dim=-1)[..., None, None]
    spread = root * (inverse(scaled, start, num_iterations) @ (root * gathered))
    return gaussian_kernel(query, landmarks_BHMK) @ (spread * used_BM)


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return exp(-|x_i - y_j|^2 / 2): (..., L, K) and (..., M, K) to (..., L, M)."""
    halves = x.square().sum(-1)[..., None] / 2 + y.square().sum(-1)[..., None, :] / 2
    return (x @ y.mT - halves).exp()


class SkyformerAttention(Mixer):
    """Gaussian kernel attention by the Nystrom method.

    Args:
        spec: Sizes; there is no dropout on weights that are never written out.
        num_landmarks: Landmarks, half of them among the queries, half among the keys. An example
            with fewer tokens than half of that has one a query and one a key.
        num_iterations: Steps of the iteration for the inverse.
        ridge: Added to the diagonal of the kernel among the landmarks.

    Source: arXiv 2111.00035, the method (kernelized attention; the Nystrom method on the positive
    definite kernel among queries and keys together; its normalized inverse). The landmarks are
    drawn uniformly over the example's own length, as in the released code, one in each of as many
    equal parts, so that none is drawn twice. The paper draws anew in every pass; here they are
    drawn at construction and belong to the state of the layer, so that an answer depends on the
    example alone. The released code scales the start of the iteration by the largest sum in the
    whole batch; here each matrix has its own.
    """

    query_draws_M: Tensor
    key_draws_M: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        num_landmarks: int = 128,
        num_iterations: int = 6,
        ridge: float = 0.1,
    ) -> None:
        super().__init__()
        if num_landmarks < 2 or num_landmarks % 2:
            raise ValueError(f"num_landmarks={num_landmarks} must be even and at least 2")
        if num_iterations < 0 or ridge <= 0:
            raise ValueError(
                f"num_iterations={num_iterations} must be at least 0, ridge={ridge} above 0"
            )
        self.projections = Projections(spec)
        self.num_iterations = num_iterations
        self.ridge = ridge
        self.query_draws_M = nn.Buffer(torch.rand(num_landmarks // 2))
        self.key_draws_M = nn.Buffer(torch.rand(num_landmarks // 2))

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = skyformer_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            query_draws_M=self.query_draws_M,
            key_draws_M=self.key_draws_M,
            num_iterations=self.num_iterations,
            ridge=self.ridge,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
