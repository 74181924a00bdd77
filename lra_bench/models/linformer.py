"""Linformer: keys and values projected along the length to a few slots.

Shapes: B batch, L length, D width, H heads, K head width, R slots (the rank), S heads that have a
projection of their own (H or 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from lra_bench.models.attention import attend
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections

Sharing = Literal["none", "headwise", "key_value"]


def linformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    to_keys_SLR: Tensor,
    to_values_SLR: Tensor,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at slots, each a weighted sum of the real positions.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        to_keys_SLR: How much of each position goes into the key of each slot; for all heads alike
            if S is 1.
        to_values_SLR: The same for values.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    if mask_BL is not None:
        real_BHLK = mask_BL[:, None, :, None]
        key, value = key * real_BHLK, value * real_BHLK
    key_BHRK = torch.matmul(to_keys_SLR.mT, key)
    value_BHRK = torch.matmul(to_values_SLR.mT, value)
    return attend(query, key_BHRK, value_BHRK, None, dropout_p)


class LinformerAttention(Mixer):
    """Softmax attention over a fixed number of slots.

    Args:
        spec: Sizes.
        rank: Number of slots; the paper's k.
        sharing: ``none``: every head has a projection for keys and one for values; ``headwise``:
            all heads have the same two; ``key_value``: all heads have the same one for both.

    Source: arXiv 2006.04768, equation 7 of section 4, and its section on sharing. A layer has its
    own projections; sharing them by layers as well is not offered. A position has its own row of
    the projection, so that a shorter sequence uses the first rows. The released code of arXiv
    2011.04006 is ``key_value`` without a mask: padding went into the slots; here it never does.
    """

    def __init__(
        self, spec: EncoderSpec, *, rank: int = 16, sharing: Sharing = "key_value"
    ) -> None:
        super().__init__()
        if not 1 <= rank <= spec.max_length:
            raise ValueError(
                f"rank={rank} must be at least 1 and at most the longest sequence, "
                f"{spec.max_length} tokens"
            )
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        num_sets = spec.num_heads if sharing == "none" else 1
        num_projections = 1 if sharing == "key_value" else 2
        self.along_length = nn.Parameter(
            torch.empty(num_projections, num_sets, spec.max_length, rank)
        )
        for matrix in self.along_length.detach().flatten(0, 1):
            nn.init.xavier_uniform_(matrix)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`.

        Raises:
            ValueError: The sequence is longer than the projections.
        """
        length, longest = x_BLD.shape[1], self.along_length.shape[2]
        if length > longest:
            raise ValueError(f"a sequence of {length} tokens is longer than max_length={longest}")
        along_length = self.along_length[:, :, :length]
        mixed = linformer_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            to_keys_SLR=along_length[0],
            to_values_SLR=along_length[-1],
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
