"""Nystrom attention: softmax attention from segment means, in linear time.

Shapes: B batch, L length, D width, H heads, K head width, M landmarks (of a convolution: positions
that a block sees), S size of a kernel, N blocks, W positions a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import attend, key_bias
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.landmarks import inverse, lengths_of, segment_means
from lra_bench.models.layers import Projections
from lra_bench.models.precision import in_full_precision

# Positions that a product with a band takes together.
BLOCK = 64

# A step of the iteration multiplies by 13 / 4 what rounding leaves of a landmark that others make
# superfluous; after more of them, it would be seen in float32.
MAX_ITERATIONS = 16


@in_full_precision
def nystrom_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    num_landmarks: int,
    num_iterations: int,
) -> Tensor:
    """Approximate softmax attention by way of the means of segments.

    An example with fewer tokens than landmarks has a landmark a token, and then only the inverse
    is an approximation. The rows of padded queries have no meaning.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens, which come first; None if all are real.
        num_landmarks: Segments that each sequence is cut into (M).
        num_iterations: Steps of the iteration for the inverse.

    Returns:
        (B, H, L, K).
    """
    lengths_B = lengths_of(mask_BL, query)
    (query_means, key_means), used_BM = segment_means((query, key), lengths_B, num_landmarks)
    hidden = key_bias(used_BM, query.dtype)
    assert hidden is not None
    scores = query_means @ key_means.mT / query.shape[-1] ** 0.5
    # Without its rows and columns of unused landmarks; they stay zero in the inverse.
    among_BHMM = (scores + hidden).softmax(dim=-1) * used_BM[:, None, :, None]
    gathered = attend(query_means, key, value, key_bias(mask_BL, query.dtype))
    spread = inverse(among_BHMM, _start(among_BHMM), num_iterations) @ gathered
    return attend(query, key_means, spread, hidden)


def _start(matrix: Tensor) -> Tensor:
    """Return where the iteration starts: one that converges for every matrix."""
    columns = matrix.abs().sum(dim=-2).amax(dim=-1)
    rows = matrix.abs().sum(dim=-1).amax(dim=-1)
    return matrix.mT / (columns * rows)[..., None, None]


def convolution(value: Tensor, kernel_HS: Tensor) -> Tensor:
    """Weigh what is around each position by one kernel a head.

    Blocks of positions times a band of shifted kernels: on the CPU half the time of a depthwise
    convolution of PyTorch, forward and backward.

    Args:
        value: (B, H, L, K).
        kernel_HS: Weights from left to right, S odd; zeros are seen beyond the ends.

    Returns:
        (B, H, L, K).
    """
    length, size = value.shape[2], kernel_HS.shape[1]
    num_blocks = -(-length // BLOCK)
    reach = size // 2
    around = F.pad(value, (0, 0, reach, num_blocks * BLOCK - length + reach))
    windows_BHNKM = around.unfold(2, BLOCK + 2 * reach, BLOCK)
    # Row i is the kernel i places further right. Written one after another, rows that are one
    # longer than a window begin one place later in every window.
    rows = F.pad(kernel_HS, (0, BLOCK)).repeat(1, BLOCK)
    band_HWM = rows[:, : BLOCK * (BLOCK + 2 * reach)].unflatten(1, (BLOCK, -1))
    mixed = torch.einsum("bhnkm,hwm->bhnwk", windows_BHNKM, band_HWM)
    return mixed.flatten(2, 3)[:, :, :length]


class NystromAttention(Mixer):
    """Nystrom attention and a depthwise convolution of the values.

    Args:
        spec: Sizes; there is no dropout on weights that are never written out.
        num_landmarks: Segments whose means stand for all queries and keys; an example with fewer
            tokens has one a token.
        num_iterations: Steps of the iteration for the pseudo-inverse, 16 at most.
        kernel_size: Positions that the convolution sees, odd; one kernel a head. None for no
            convolution.

    Source: arXiv 2102.03902, algorithm 1 (landmarks, the three kernels, the iteration for the
    inverse, the convolution beside them). The paper appends zeros until the segments are equal and
    the released code takes their means too; here the segments are those of the example's own
    length, and differ by one token at most. The released code scales the start of the iteration by
    the largest sum in the whole batch; here each matrix has its own.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        num_landmarks: int = 64,
        num_iterations: int = 6,
        kernel_size: int | None = 35,
    ) -> None:
        super().__init__()
        if num_landmarks < 1 or not 0 <= num_iterations <= MAX_ITERATIONS:
            raise ValueError(
                f"num_landmarks={num_landmarks} must be at least 1, "
                f"num_iterations={num_iterations} at least 0 and at most {MAX_ITERATIONS}"
            )
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
            raise ValueError(f"kernel_size={kernel_size} must be odd and at least 1, or null")
        self.projections = Projections(spec)
        self.num_landmarks = num_landmarks
        self.num_iterations = num_iterations
        self.kernel = None
        if kernel_size is not None:
            self.kernel = nn.Parameter(torch.empty(spec.num_heads, kernel_size))
            # As a convolution of PyTorch starts: uniform within one over the root of the inputs.
            nn.init.uniform_(self.kernel, -(kernel_size**-0.5), kernel_size**-0.5)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        query, key, value = self.projections.split(x_BLD)
        mixed = nystrom_attention(
            query,
            key,
            value,
            mask_BL,
            num_landmarks=self.num_landmarks,
            num_iterations=self.num_iterations,
        )
        if self.kernel is not None:
            if mask_BL is not None:
                value = value * mask_BL[:, None, :, None]
            mixed = mixed + convolution(value, self.kernel)
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
