"""Longformer: a sliding window, and a few tokens that see and are seen by all.

Shapes: B batch, L length, D width, H heads, K head width, Q all heads (H * K), G global tokens, R
radius of the window, N chunks, W chunk size, S keys of a chunk (W + 2 * R), I interleaved
sequences (the dilation).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import HIDDEN, attend, key_bias, split_heads, turned
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections


def longformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    window: int,
    dilation: int = 1,
    across: tuple[Tensor, Tensor, Tensor] | None = None,
    chunk_size: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at the real ones around it and at the first, global tokens.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        window: Positions on both sides together (2 * R).
        dilation: Distance between neighboring positions of the window (I).
        across: With what global tokens look at everything: their queries, (B, H, G, K), and keys
            and values of all positions, (B, H, L, K) each; None if there are no such tokens.
        chunk_size: Queries that are computed together; changes nothing but the speed.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    batch, num_heads, length, width = query.shape
    num_global = 0 if across is None else across[0].shape[2]
    radius = window // 2
    if chunk_size is None:
        # Small ones waste fewer scores outside the window, large ones copy fewer keys.
        chunk_size = min(max(radius, 16), 128)

    # What hides padding is one more column of the keys, that all queries read as it is: a bias
    # would have to be written out for every query of every example.
    hidden_B1L1 = query.new_zeros((batch, 1, length, 1))
    if mask_BL is not None:
        hidden_B1L1 = hidden_B1L1.masked_fill(~mask_BL[:, None, :, None], HIDDEN)
    # Attention will divide by the root of the longer width.
    query = F.pad(query * math.sqrt((width + 1) / width), (0, 1), value=1.0)
    shared = None
    if num_global:
        first = slice(num_global)
        hidden_B1G1 = hidden_B1L1[:, :, first].expand(-1, num_heads, -1, -1)
        shared_key = torch.cat((key[:, :, first], hidden_B1G1), dim=-1)
        shared = shared_key, F.pad(value[:, :, first], (0, 1))
        # In a window they would count twice.
        hidden_B1L1 = F.pad(hidden_B1L1[:, :, num_global:], (0, 0, num_global, 0), value=HIDDEN)

    query, key, value = (_interleaved(rows, dilation, chunk_size) for rows in (query, key, value))
    hidden = _interleaved(hidden_B1L1.expand(-1, num_heads, -1, -1), dilation, chunk_size, HIDDEN)
    ends = (radius, radius)
    key = torch.cat((F.pad(key, (0, 0, *ends)), F.pad(hidden, (0, 0, *ends), value=HIDDEN)), -1)
    seen = [
        rows.unfold(1, chunk_size + 2 * radius, chunk_size).mT
        for rows in (key, F.pad(value, (0, 1, *ends)))
    ]
    if shared is not None:
        seen = [_beside(each, rows, dilation) for each, rows in zip(shared, seen, strict=True)]
    bias = _band(chunk_size, radius, num_global, query)
    query = query.unflatten(1, (-1, chunk_size))
    mixed = attend(query, seen[0], seen[1], bias, dropout_p)
    # (B * H * I, N, W, K) to (B, H, L, K).
    mixed = mixed[..., :width].flatten(1, 2).unflatten(0, (batch, num_heads, dilation))
    out_BHLK: Tensor = mixed.transpose(2, 3).flatten(2, 3)[:, :, :length]
    if across is None:
        return out_BHLK
    looked = attend(*across, key_bias(mask_BL, across[0].dtype), dropout_p)
    return torch.cat((looked.to(out_BHLK.dtype), out_BHLK[:, :, num_global:]), dim=2)


def _interleaved(rows: Tensor, dilation: int, chunk_size: int, fill: float = 0.0) -> Tensor:
    """Return the sequences that a dilated window walks along, filled up to whole chunks.

    (B, H, L, K) becomes (B * H * I, N * W, K).
    """
    extra = -rows.shape[2] % (dilation * chunk_size)
    rows = F.pad(rows, (0, 0, 0, extra), value=fill).unflatten(2, (-1, dilation))
    return rows.transpose(2, 3).flatten(0, 2)


def _beside(shared: Tensor, rows: Tensor, dilation: int) -> Tensor:
    """Put what all see, (B, H, G, K), before what a chunk sees, (B * H * I, N, S, K)."""
    shared = shared.flatten(0, 1).repeat_interleave(dilation, dim=0)
    return torch.cat((shared[:, None].expand(-1, rows.shape[1], -1, -1), rows), dim=2)


def _band(chunk_size: int, radius: int, num_global: int, like: Tensor) -> Tensor:
    """Return what hides all but the window of each query of a chunk, (1, 1, W, G + S)."""
    place_W1 = torch.arange(chunk_size, device=like.device)[:, None]
    ahead_WS = torch.arange(chunk_size + 2 * radius, device=like.device) - place_W1
    hidden_WS = (ahead_WS < 0) | (ahead_WS > 2 * radius)
    bias_WS = torch.zeros(hidden_WS.shape, dtype=like.dtype, device=like.device)
    return F.pad(bias_WS.masked_fill_(hidden_WS, HIDDEN), (num_global, 0))[None, None]


class LongformerAttention(Mixer):
    """Softmax attention over a sliding window and global tokens.

    Args:
        spec: Sizes.
        window: Positions on both sides together that a token sees besides itself.
        dilation: Distance between neighboring positions of the window.
        num_global_tokens: So many of the first tokens see everything and are seen by all, with
            projections of their own for what they see. With the class token as pooling, one of
            them is the class token.

    Topology ``wide``: twice the window.

    Source: arXiv 2004.05150, section 3.1: window, dilation, global attention and its projections;
    these put it above the ten per cent more parameters that the rules of the benchmark allow. All
    heads and layers have the same window and dilation; the paper varies both for language
    modeling. The released code of arXiv 2011.04006 has the projections and never makes a token
    global; it computes a dense table, with 255 positions on the left and 256 on the right.
    """

    turns = True
    topologies = ("wide",)

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        window: int = 512,
        dilation: int = 1,
        num_global_tokens: int = 1,
    ) -> None:
        super().__init__()
        if window < 2 or window % 2:
            raise ValueError(f"window={window} must be even and at least 2: half on either side")
        if not 1 <= dilation <= spec.max_length:
            raise ValueError(
                f"dilation={dilation} must be at least 1 and at most the longest sequence, "
                f"{spec.max_length} tokens"
            )
        if not 0 <= num_global_tokens <= spec.max_length:
            raise ValueError(
                f"num_global_tokens={num_global_tokens} must be at least 0 and at most the longest "
                f"sequence, {spec.max_length} tokens"
            )
        self.projections = Projections(spec)
        self.num_heads = spec.num_heads
        self.attention_dropout = spec.attention_dropout
        self.window = window
        self.dilation = dilation
        self.num_global_tokens = num_global_tokens
        if num_global_tokens:
            self.across = nn.Linear(spec.width, 3 * spec.qkv_width, bias=False)
            for weight in self.across.weight.split(spec.qkv_width):
                nn.init.xavier_uniform_(weight.detach())

    def forward(
        self, x_BLD: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `Mixer.forward`."""
        mixed = longformer_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            window=self.window * 2 if topology == "wide" else self.window,
            dilation=self.dilation,
            across=self._across(x_BLD) if self.num_global_tokens else None,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    def _across(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of the global tokens, and keys and values of all for them."""
        to_query_QD, *others = self.across.weight.chunk(3)
        query = F.linear(x_BLD[:, : self.num_global_tokens], to_query_QD)
        key, value = F.linear(x_BLD, torch.cat(others)).chunk(2, -1)
        query, key, value = (split_heads(rows, self.num_heads) for rows in (query, key, value))
        if self.projections.turns:
            # Global tokens are the first ones, so that their positions begin at 0 as well.
            query, key = turned(query), turned(key)
        return query, key, value

    if TYPE_CHECKING:
        __call__ = forward
