"""ERNIE-Sparse: a hierarchical sparse Transformer.

The sequence is cut into blocks. Every block has representatives, learned tokens that live through
all layers. In a layer the tokens of a block and its representatives attend to the tokens around
them and to the representatives (local step); then the representatives of all blocks attend to one
another (global step). What a representative has gathered comes back to the tokens in the local
step of the next layer; the last layer has no global step, since no layer would read it. The cost
grows with L * (window) + (L / W)^2 instead of L^2.

Shapes: B batch, L length, D width, H heads, Q all heads, E queries, keys and values side by side
(3 * Q), N blocks, W block size, R representatives a block, M rows a block (R + W), O
representatives of all blocks (N * R), G global tokens, S keys that a query sees.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import (
    HIDDEN,
    attend,
    key_bias,
    merge_heads,
    split_heads,
    windows_of,
)
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.layers import (
    Dropout,
    Embedding,
    FeedForward,
    Projections,
    layer_norm,
    position_table,
)

Context = Literal["representatives", "global_tokens", "none"]


def window_attention(
    qkv_BNME: Tensor,
    shared_BGE: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    num_heads: int,
    num_own: int,
    radius: int,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let the rows of each block look at their context rows and at the tokens around the block.

    Args:
        qkv_BNME: Of the rows of each block: ``num_own`` context rows, then its tokens. Side by
            side, so that the windows are cut from one tensor and their gradients added in one.
        shared_BGE: Of global tokens, which all rows see; None if there are none.
        bias: From `window_bias`.
        num_heads: Number of heads (H).
        num_own: Context rows of a block (R).
        radius: Blocks on either side that are seen.
        dropout_p: Probability on the weights.

    Returns:
        (B, N, M, Q).
    """
    batch, num_blocks = qkv_BNME.shape[:2]
    query, key, value = windows_of(qkv_BNME, num_own, radius)
    if shared_BGE is not None:
        shared = shared_BGE[:, None].expand(-1, num_blocks, -1, -1).chunk(3, -1)
        key = torch.cat((shared[1], key), dim=2)
        value = torch.cat((shared[2], value), dim=2)
        bias = None if bias is None else F.pad(bias, (shared_BGE.shape[1], 0))
    query, key, value = (split_heads(rows.flatten(0, 1), num_heads) for rows in (query, key, value))
    mixed_BNMQ: Tensor = merge_heads(attend(query, key, value, bias, dropout_p)).unflatten(
        0, (batch, num_blocks)
    )
    return mixed_BNMQ


def window_bias(mask_BNW: Tensor | None, num_own: int, radius: int, like: Tensor) -> Tensor:
    """Return what hides padding, and what lies beyond the ends, from the windows of the blocks.

    Args:
        mask_BNW: True at real tokens; None if all are real.
        num_own: Context rows of a block (R).
        radius: Blocks on either side that are seen.
        like: The rows of the blocks, (B, N, M, D).

    Returns:
        (B * N, 1, 1, S), to be added to the scores.
    """
    batch, num_blocks, num_rows, _ = like.shape
    seen_BNW = mask_BNW
    if seen_BNW is None:
        # The same for all examples; expanding it below costs no memory.
        ones = (1, num_blocks, num_rows - num_own)
        seen_BNW = torch.ones(ones, dtype=torch.bool, device=like.device)
    # Beyond either end of the sequence there are only blocks that nobody sees.
    beyond = F.pad(seen_BNW, (0, 0, radius, radius))
    around = [beyond[:, first : first + num_blocks] for first in range(2 * radius + 1)]
    own = seen_BNW.new_ones((seen_BNW.shape[0], num_blocks, num_own))
    seen_BNS = torch.cat((own, *around), dim=2)
    bias_BNS = torch.zeros(seen_BNS.shape, dtype=like.dtype, device=like.device)
    bias_BNS = bias_BNS.masked_fill_(~seen_BNS, HIDDEN)
    return bias_BNS.expand(batch, -1, -1).flatten(0, 1)[:, None, None]


def full_attention(
    query_BXQ: Tensor,
    qkv_BXE: Tensor,
    bias: Tensor | None = None,
    *,
    num_heads: int,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let some rows look at all rows.

    Args:
        query_BXQ: Queries of those that look.
        qkv_BXE: Of those that are looked at; their queries are not used.
        bias: Hides some of them, (B, 1, 1, S).
        num_heads: Number of heads (H).
        dropout_p: Probability on the weights.

    Returns:
        (B, X, Q), X those that look.
    """
    _, key, value = qkv_BXE.chunk(3, -1)
    query, key, value = (split_heads(rows, num_heads) for rows in (query_BXQ, key, value))
    return merge_heads(attend(query, key, value, bias, dropout_p))


class ErnieSparseEncoder(SequenceEncoder):
    """Hierarchical sparse Transformer (HST) with the switches of its ablations.

    Args:
        spec: Sizes.
        block_size: Tokens a block.
        window_radius: How many blocks on either side a token sees besides its own.
        num_representatives: Representatives a block; with ``context=global_tokens``, the number
            of global tokens of the whole sequence.
        share_projections: Use the matrices of the local step for the global step as well, which
            keeps the encoder within the ten per cent more parameters than a Transformer that the
            rules of the benchmark allow.
        context: What carries information beyond the window. ``representatives``: the hierarchy.
            ``global_tokens``: a few tokens that see and are seen by all, the bottleneck that the
            paper sets out from. ``none``: the window alone.

    Topologies (for `lra_bench.objective.SelfAttentionRegularization`): ``shifted``, the block grid
    moved by half a block; ``wide``, one more block on either side; ``dense``, every token sees
    every token; ``no_representatives``, the window alone.

    Source: arXiv 2203.12276. Its abstract fixes the two steps and their purpose. The block layout,
    the form of the representatives and the order of the steps inside a layer are choices made
    here; all but the order can be varied by the options above.
    """

    topologies = ("shifted", "wide", "dense", "no_representatives")
    takes = ("positions=none", "input=linear")

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        block_size: int = 64,
        window_radius: int = 1,
        num_representatives: int = 1,
        share_projections: bool = True,
        context: Context = "representatives",
    ) -> None:
        super().__init__()
        if block_size < 1 or num_representatives < 1 or window_radius < 0:
            raise ValueError(
                f"block_size={block_size} and num_representatives={num_representatives} must be "
                f"at least 1, window_radius={window_radius} at least 0"
            )
        self.width = spec.width
        self.num_heads = spec.num_heads
        self.block_size = block_size
        self.window_radius = window_radius
        self.context = context
        self.embedding = Embedding(spec)
        if context != "none":
            self.representatives = nn.Parameter(torch.randn(num_representatives, spec.width))
        if context == "representatives":
            # One more than the blocks of the longest sequence: a shifted grid needs it.
            self.block_positions = position_table(spec, math.ceil(spec.max_length / block_size) + 1)
        self.layers = nn.ModuleList(
            _Layer(
                spec,
                # Nothing would read what the representatives learn after the last local step.
                is_global=context == "representatives" and number + 1 < spec.num_layers,
                share_projections=share_projections,
            )
            for number in range(spec.num_layers)
        )
        self.norm = layer_norm(spec)

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `SequenceEncoder.forward`."""
        self.check_topology(topology)
        length = tokens_BL.shape[1]
        lead = self.block_size // 2 if topology == "shifted" else 0
        tail = -(lead + length) % self.block_size
        x_BNWD = F.pad(self.embedding(tokens_BL), (0, 0, lead, tail))
        x_BNWD = x_BNWD.unflatten(1, (-1, self.block_size))
        if (lead or tail) and mask_BL is None:
            mask_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
        if mask_BL is not None:
            mask_BL = F.pad(mask_BL, (lead, tail))

        context = "none" if topology == "no_representatives" else self.context
        rows_BNMD, shared_BGD = self._with_context(x_BNWD, context)
        num_own = rows_BNMD.shape[2] - self.block_size
        radius = None if topology == "dense" else self.window_radius + (topology == "wide")
        mask_BNW = None if mask_BL is None else mask_BL.unflatten(1, (-1, self.block_size))
        view = _View(self.num_heads, num_own, radius, rows_BNMD, mask_BNW)
        for layer in self.layers:
            rows_BNMD, shared_BGD = layer(rows_BNMD, shared_BGD, view)
        states_BLD: Tensor = self.norm(rows_BNMD[:, :, num_own:].flatten(1, 2))
        return states_BLD[:, lead : lead + length]

    def _with_context(self, x_BNWD: Tensor, context: Context) -> tuple[Tensor, Tensor | None]:
        """Return the rows of each block, representatives first, and the global tokens or None."""
        batch, num_blocks = x_BNWD.shape[:2]
        if context == "none":
            return x_BNWD, None
        if context == "global_tokens":
            return x_BNWD, self.representatives.expand(batch, -1, -1)
        own_NRD = self.representatives.expand(num_blocks, -1, -1)
        if self.block_positions is not None:
            own_NRD = own_NRD + self.block_positions[:num_blocks, None]
        return torch.cat((own_NRD.expand(batch, -1, -1, -1), x_BNWD), dim=2), None

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    """Local step, global step, feed-forward; each pre-norm with a residual.

    M rows a block: its R representatives, then its W tokens, so that both go through one matrix
    product.
    """

    def __init__(self, spec: EncoderSpec, *, is_global: bool, share_projections: bool) -> None:
        super().__init__()
        self.local_norm = layer_norm(spec)
        self.local = Projections(spec)
        self.is_global = is_global
        if is_global:
            self.global_norm = layer_norm(spec)
            self.across = self.local if share_projections else Projections(spec)
        self.feed_forward = FeedForward(spec)
        self.dropout = Dropout(spec.dropout)
        self.attention_dropout = spec.attention_dropout

    def forward(
        self, rows_BNMD: Tensor, shared_BGD: Tensor | None, view: _View
    ) -> tuple[Tensor, Tensor | None]:
        dropout_p = self.attention_dropout if self.training else 0.0
        qkv = self.local.qkv(self.local_norm(rows_BNMD))
        if shared_BGD is None:
            mixed = self.local.out(view.local(qkv, None, dropout_p))
            rows_BNMD = rows_BNMD + self.dropout(mixed)
        else:
            shared_qkv = self.local.qkv(self.local_norm(shared_BGD))
            gathered = self.local.out(view.gather(qkv, shared_qkv, dropout_p))
            mixed = self.local.out(view.local(qkv, shared_qkv, dropout_p))
            rows_BNMD = rows_BNMD + self.dropout(mixed)
            shared_BGD = self.feed_forward(shared_BGD + self.dropout(gathered))
        if self.is_global and view.num_own:
            own = rows_BNMD[:, :, : view.num_own].flatten(1, 2)
            qkv = self.across.qkv(self.global_norm(own))
            own = own + self.dropout(self.across.out(view.across(qkv, dropout_p)))
            own = own.unflatten(1, (-1, view.num_own))
            rows_BNMD = torch.cat((own, rows_BNMD[:, :, view.num_own :]), dim=2)
        return self.feed_forward(rows_BNMD), shared_BGD


class _View:
    """Who sees whom; made once a forward pass, used by all layers.

    Args:
        num_heads: Number of heads (H).
        num_own: Representatives a block (R).
        radius: Blocks on either side that a block sees; None if every row sees every row.
        like: The rows of the blocks, (B, N, M, D).
        mask_BNW: True at real tokens; None if all are real.
    """

    def __init__(
        self,
        num_heads: int,
        num_own: int,
        radius: int | None,
        like: Tensor,
        mask_BNW: Tensor | None,
    ) -> None:
        self.num_heads = num_heads
        self.num_own = num_own
        self.radius = radius
        self.window_bias = None
        self.all_rows_bias = None
        self.across_bias = None
        if radius is not None:
            self.window_bias = window_bias(mask_BNW, num_own, radius, like)
        if mask_BNW is not None:
            # A block of padding alone has representatives, but nobody listens to them.
            occupied_BNR = mask_BNW.any(dim=2, keepdim=True).expand(-1, -1, num_own)
            rows_BNM = torch.cat((occupied_BNR, mask_BNW), dim=2)
            self.all_rows_bias = key_bias(rows_BNM.flatten(1), like.dtype)
            if num_own:
                self.across_bias = key_bias(occupied_BNR.flatten(1), like.dtype)

    def local(self, qkv_BNME: Tensor, shared_BGE: Tensor | None, dropout_p: float) -> Tensor:
        """Let the rows of each block look around; returns (B, N, M, Q)."""
        if self.radius is not None:
            return window_attention(
                qkv_BNME,
                shared_BGE,
                self.window_bias,
                num_heads=self.num_heads,
                num_own=self.num_own,
                radius=self.radius,
                dropout_p=dropout_p,
            )
        num_blocks = qkv_BNME.shape[1]
        rows_BXE = qkv_BNME.flatten(1, 2)
        mixed = self._all(rows_BXE, rows_BXE, shared_BGE, dropout_p)
        mixed_BNMQ: Tensor = mixed.unflatten(1, (num_blocks, -1))
        return mixed_BNMQ

    def gather(self, qkv_BNME: Tensor, shared_BGE: Tensor, dropout_p: float) -> Tensor:
        """Let the global tokens look at everything; returns (B, G, Q)."""
        return self._all(shared_BGE, qkv_BNME.flatten(1, 2), shared_BGE, dropout_p)

    def across(self, qkv_BOE: Tensor, dropout_p: float) -> Tensor:
        """Let all representatives look at one another; returns (B, O, Q)."""
        query = qkv_BOE.chunk(3, -1)[0]
        return full_attention(
            query, qkv_BOE, self.across_bias, num_heads=self.num_heads, dropout_p=dropout_p
        )

    def _all(
        self, looking_BXE: Tensor, rows_BXE: Tensor, shared_BGE: Tensor | None, dropout_p: float
    ) -> Tensor:
        """Let some rows look at all rows and at the global tokens."""
        bias = self.all_rows_bias
        if shared_BGE is not None:
            rows_BXE = torch.cat((shared_BGE, rows_BXE), dim=1)
            bias = None if bias is None else F.pad(bias, (shared_BGE.shape[1], 0))
        query = looking_BXE.chunk(3, -1)[0]
        return full_attention(query, rows_BXE, bias, num_heads=self.num_heads, dropout_p=dropout_p)
