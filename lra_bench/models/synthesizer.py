"""Synthesizer: attention whose scores do not come from comparing positions with one another.

Shapes: B batch, L length, D width, H heads, K head width, Q all heads (H * K), R rank, T length of
the longest sequence, A and C factors of a row of scores (A * C >= T), E examples that have scores
of their own (B or 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import attend, key_bias, split_heads
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections

Variant = Literal["dense", "random", "factorized_dense", "factorized_random"]
DotProduct = Literal["none", "added", "weighted"]


def synthesizer_attention(
    query: Tensor | None,
    key: Tensor | None,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    scores_EHLL: Tensor,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at every real one, by scores that are given.

    Args:
        query: (B, H, L, K); None if nothing is compared.
        key: (B, H, L, K); None if nothing is compared.
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        scores_EHLL: Synthesized scores, of each query for each key; added to those of the dot
            product if there are queries and keys.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    bias = key_bias(mask_BL, scores_EHLL.dtype)
    if bias is not None:
        scores_EHLL = scores_EHLL + bias
    if query is not None and key is not None:
        return attend(query, key, value, scores_EHLL, dropout_p)
    weights = F.dropout(scores_EHLL.softmax(-1), dropout_p)
    return torch.matmul(weights, value)


class SynthesizerAttention(Mixer):
    """Softmax attention over synthesized scores.

    Args:
        spec: Sizes.
        variant: Where the scores come from. ``random``: a learned table for each head;
            ``factorized_random``: the product of two thin tables; ``dense``: two layers that make
            a position's scores out of its state; ``factorized_dense``: two such pairs of layers,
            that make two short rows, of which every product is a score.
        rank: Columns of a thin table; the paper's k.
        dot_product: What the dot product of queries and keys adds. ``none``: nothing, there are no
            queries and keys; ``added``: itself, as in the released code; ``weighted``: a mixture,
            with one learned weight for each of the two, which sum to one.

    Source: arXiv 2005.00743: section 3.1 (dense), 3.2 (random), 3.3 (factorized), 3.4 (mixture).
    A shorter sequence uses the first rows and columns of a table. The released code of arXiv
    2011.04006 is ``random`` with the dot product ``added`` whatever its configurations say, a
    Transformer with a learned bias of T * T numbers a head.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        variant: Variant = "factorized_random",
        rank: int = 8,
        dot_product: DotProduct = "none",
    ) -> None:
        super().__init__()
        if not 1 <= rank <= spec.max_length:
            raise ValueError(
                f"rank={rank} must be at least 1 and at most the longest sequence, "
                f"{spec.max_length} tokens"
            )
        self.num_heads = spec.num_heads
        self.attention_dropout = spec.attention_dropout
        self.compares = dot_product != "none"
        # Without comparison there are no queries and keys to project to.
        self.projections = Projections(spec)
        if not self.compares:
            self.projections.qkv = nn.Linear(spec.width, spec.qkv_width, bias=False)
            nn.init.xavier_uniform_(self.projections.qkv.weight)
        self.mixture = nn.Parameter(torch.zeros(2)) if dot_product == "weighted" else None
        self.synthesize: nn.Module
        if variant == "random":
            self.synthesize = _Random(spec)
        elif variant == "factorized_random":
            self.synthesize = _FactorizedRandom(spec, rank)
        elif variant == "dense":
            self.synthesize = _Dense(spec, spec.max_length)
        else:
            self.synthesize = _FactorizedDense(spec)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        query, key = None, None
        scores_EHLL = self.synthesize(x_BLD)
        if self.compares:
            query, key, value = self.projections.split(x_BLD)
            if self.mixture is not None:
                weights = self.mixture.softmax(0)
                scores_EHLL, query = scores_EHLL * weights[0], query * weights[1]
        else:
            value = split_heads(self.projections.qkv(x_BLD), self.num_heads)
        mixed = synthesizer_attention(
            query,
            key,
            value,
            mask_BL,
            scores_EHLL=scores_EHLL,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward


class _Random(nn.Module):
    """A learned table of scores for each head."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        length = spec.max_length
        # Xavier with heads counted among the fans, as in the released code.
        bound = math.sqrt(3.0 / (spec.num_heads * length))
        self.table_HTT = nn.Parameter(
            torch.empty(spec.num_heads, length, length).uniform_(-bound, bound)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        length = x_BLD.shape[1]
        return self.table_HTT[None, :, :length, :length]


class _FactorizedRandom(nn.Module):
    """The product of two thin learned tables."""

    def __init__(self, spec: EncoderSpec, rank: int) -> None:
        super().__init__()
        shape = (spec.num_heads, spec.max_length, rank)
        # The scores start with a variance of one.
        std = rank**-0.25
        self.left_HTR = nn.Parameter(torch.randn(shape) * std)
        self.right_HTR = nn.Parameter(torch.randn(shape) * std)

    def forward(self, x_BLD: Tensor) -> Tensor:
        length = x_BLD.shape[1]
        return torch.matmul(self.left_HTR[None, :, :length], self.right_HTR[:, :length].mT)


class _Dense(nn.Module):
    """Two layers, from a state to a row of numbers for each head."""

    def __init__(self, spec: EncoderSpec, num_columns: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(spec.width, spec.qkv_width)
        head_width = spec.qkv_width // spec.num_heads
        self.weight_HKT = nn.Parameter(torch.empty(spec.num_heads, head_width, num_columns))
        self.bias_H1T = nn.Parameter(torch.zeros(spec.num_heads, 1, num_columns))
        nn.init.xavier_uniform_(self.hidden.weight)
        nn.init.zeros_(self.hidden.bias)
        for matrix in self.weight_HKT.detach():
            nn.init.xavier_uniform_(matrix)

    def forward(self, x_BLD: Tensor, num_columns: int | None = None) -> Tensor:
        if num_columns is None:
            num_columns = x_BLD.shape[1]
        hidden_BHLK = split_heads(F.relu(self.hidden(x_BLD)), len(self.weight_HKT))
        weight, bias = (each[..., :num_columns] for each in (self.weight_HKT, self.bias_H1T))
        return torch.matmul(hidden_BHLK, weight) + bias


class _FactorizedDense(nn.Module):
    """Two short rows for a state; the score of key c * A + a is the product of a and c."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        # As square as can be: the fewest parameters.
        self.num_inner = math.ceil(math.sqrt(spec.max_length))
        self.num_outer = math.ceil(spec.max_length / self.num_inner)
        self.inner = _Dense(spec, self.num_inner)
        self.outer = _Dense(spec, self.num_outer)

    def forward(self, x_BLD: Tensor) -> Tensor:
        inner_BHLA = self.inner(x_BLD, self.num_inner)
        outer_BHLC = self.outer(x_BLD, self.num_outer)
        scores_BHLCA = outer_BHLC[..., None] * inner_BHLA[..., None, :]
        scores_BHLL: Tensor = scores_BHLCA.flatten(-2)[..., : x_BLD.shape[1]]
        return scores_BHLL
