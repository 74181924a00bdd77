"""Sparse Sinkhorn attention: a block sees itself and a block that a learned sorting brings to it.

Shapes: B batch, L length, D width, H heads, K head width, N blocks, M blocks of the longest
sequence, W block size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import HIDDEN, attend
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections


def sinkhorn_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    sorting_BHNN: Tensor,
    block_size: int,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at the real ones of its own block, and at its sorted block.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        sorting_BHNN: What share of each block (last) comes to each block (last but one).
        block_size: Positions a block (W).
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    length = query.shape[2]
    mask_BNW = _blocks_of(mask_BL, query, block_size)
    extra = -length % block_size
    query, key, value = (
        F.pad(rows, (0, 0, 0, extra)).unflatten(2, (-1, block_size)) for rows in (query, key, value)
    )
    seen = []
    for own in (key, value):
        # What fills the last block is zero as it is.
        real = own if mask_BL is None else own * mask_BNW[:, None, :, :, None]
        moved = torch.matmul(sorting_BHNN, real.flatten(-2)).unflatten(-1, own.shape[-2:])
        seen.append(torch.cat((moved.to(own.dtype), own), dim=-2))
    bias = None
    if mask_BL is not None or extra:
        # A place is empty in a sorted block if it is so in all blocks.
        in_any_BNW = mask_BNW.any(1, keepdim=True).expand_as(mask_BNW)
        seen_BNS = torch.cat((in_any_BNW, mask_BNW), dim=-1)
        bias_BNS = torch.zeros(seen_BNS.shape, dtype=query.dtype, device=query.device)
        bias_BNS = bias_BNS.masked_fill_(~seen_BNS, HIDDEN)
        bias = bias_BNS[:, None].expand(*query.shape[:2], -1, -1).flatten(0, 2)[:, None, None]
    # Every block is an example of one head to the kernel: so its gradients need no copy.
    rows, key, value = (x.flatten(0, 2)[:, None] for x in (query, *seen))
    mixed = attend(rows, key, value, bias, dropout_p)
    out_BHLK: Tensor = mixed.reshape(query.shape).flatten(2, 3)
    return out_BHLK[:, :, :length]


def sinkhorn(scores_BHNN: Tensor, occupied_BN: Tensor, num_iterations: int) -> Tensor:
    """Make rows and then columns of exponentials sum to one, again and again.

    Args:
        scores_BHNN: Logarithms of a matrix.
        occupied_BN: True at blocks with a real token; rows and columns of the others become zero.
        num_iterations: Times that rows and columns are normalized.

    Returns:
        (B, H, N, N), nearly doubly stochastic.
    """
    occupied_B1NN = (occupied_BN[:, :, None] & occupied_BN[:, None])[:, None]
    for _ in range(num_iterations):
        for dim in (-1, -2):
            scores_BHNN = scores_BHNN.masked_fill(~occupied_B1NN, HIDDEN)
            scores_BHNN = scores_BHNN - scores_BHNN.logsumexp(dim, keepdim=True)
    sorting_BHNN: Tensor = scores_BHNN.exp() * occupied_B1NN
    return sorting_BHNN


def _blocks_of(mask_BL: Tensor | None, rows: Tensor, block_size: int) -> Tensor:
    """Return the mask in blocks, (B or 1, N, W); without one, all but the filling is real."""
    length = rows.shape[-2]
    if mask_BL is None:
        mask_BL = torch.ones((1, length), dtype=torch.bool, device=rows.device)
    filled = F.pad(mask_BL, (0, -length % block_size))
    mask_BNW: Tensor = filled.unflatten(1, (-1, block_size))
    return mask_BNW


class SinkhornAttention(Mixer):
    """Softmax attention over the own block and a sorted one, a soft permutation of all blocks.

    Args:
        spec: Sizes.
        block_size: Positions a block.
        num_iterations: Normalizations of rows and columns.
        temperature: The scores of the sorting are divided by it; the lower, the harder.

    In training the scores get Gumbel noise, drawn where dropout is.

    Source: arXiv 2002.11296, section 3.1 (sorting network of sums of blocks, Gumbel noise,
    Sinkhorn normalization) and 3.2 (attention to the sorted and to the own block, here in one
    softmax over both). The sorting network is one linear layer for each head, on the sums of its
    keys, so that it stays small. Padding is part of no sum and of no sorted block, and blocks of
    padding are not sorted. In the released code of arXiv 2011.04006 the sorting has no effect on
    the result and gets no gradient, blocks are strided groups, and the two attentions are added.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        block_size: int = 50,
        num_iterations: int = 7,
        temperature: float = 0.75,
    ) -> None:
        super().__init__()
        if block_size < 1 or num_iterations < 1:
            raise ValueError(
                f"block_size={block_size} and num_iterations={num_iterations} must be at least 1"
            )
        if temperature <= 0.0:
            raise ValueError(f"temperature={temperature} must be above 0")
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        self.block_size = block_size
        self.num_iterations = num_iterations
        self.temperature = temperature
        num_blocks = math.ceil(spec.max_length / block_size)
        head_width = spec.qkv_width // spec.num_heads
        self.sort_HKM = nn.Parameter(torch.empty(spec.num_heads, head_width, num_blocks))
        for matrix in self.sort_HKM.detach():
            nn.init.xavier_uniform_(matrix)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        query, key, value = self.projections.split(x_BLD)
        mixed = sinkhorn_attention(
            query,
            key,
            value,
            mask_BL,
            sorting_BHNN=self._sorting(key, mask_BL),
            block_size=self.block_size,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    def _sorting(self, key: Tensor, mask_BL: Tensor | None) -> Tensor:
        """Return the soft permutation of the blocks of keys, (B, H, N, N)."""
        mask_BNW = _blocks_of(mask_BL, key, self.block_size)
        # What is lost in a number of 16 bits would add up over blocks and iterations.
        with torch.autocast(key.device.type, enabled=False):
            key = key.to(torch.promote_types(key.dtype, torch.float32))
            key = F.pad(key, (0, 0, 0, -key.shape[2] % self.block_size))
            key_BHNWK = key.unflatten(2, (-1, self.block_size))
            if mask_BL is not None:
                key_BHNWK = key_BHNWK * mask_BNW[:, None, ..., None]
            pooled_BHNK = key_BHNWK.sum(3)
            scores_BHNN = torch.matmul(
                pooled_BHNK, self.sort_HKM[..., : pooled_BHNK.shape[2]].to(key.dtype)
            )
            if self.training:
                uniform = torch.rand_like(scores_BHNN)
                smallest = torch.finfo(uniform.dtype).tiny
                noise = -(-uniform.clamp(min=smallest).log()).clamp(min=smallest).log()
                scores_BHNN = scores_BHNN + noise
            scores_BHNN = scores_BHNN / self.temperature
            return sinkhorn(scores_BHNN, mask_BNW.any(-1), self.num_iterations)

    if TYPE_CHECKING:
        __call__ = forward
