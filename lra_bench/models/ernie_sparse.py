"""ERNIE-Sparse: a hierarchical sparse Transformer.

The sequence is cut into blocks. Every block has representatives, learned tokens that live through
all layers. In a layer the tokens of a block and its representatives attend to the tokens around
them and to the representatives (local step); then the representatives of all blocks attend to one
another (global step). What a representative has gathered comes back to the tokens in the local
step of the next layer; the last layer has no global step, since no layer would read it. The cost
grows with L * (window) + (L / W)^2 instead of L^2.

Shapes: B batch, L length, D width, H heads, K head width, N blocks, W block size, R
representatives a block, G global tokens, S keys that a query sees.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import HIDDEN, attend, key_bias, windows_of
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.layers import (
    Dropout,
    Embedding,
    FeedForward,
    Projections,
    layer_norm,
    positions,
)

Context = Literal["representatives", "global_tokens", "none"]


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

    topologies: ClassVar[tuple[str, ...]] = ("shifted", "wide", "dense", "no_representatives")

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
        self.block_size = block_size
        self.window_radius = window_radius
        self.context = context
        self.embedding = Embedding(spec)
        if context != "none":
            self.representatives = nn.Parameter(torch.randn(num_representatives, spec.width))
        if context == "representatives":
            # One more than the blocks of the longest sequence: a shifted grid needs it.
            self.block_positions = positions(spec, math.ceil(spec.max_length / block_size) + 1)
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
        """See `SequenceEncoder.forward`.

        Args:
            tokens_BL: Token ids.
            mask_BL: True at real tokens; None if all are real.
            topology: One of `topologies`, or None for the encoder's own.

        Raises:
            ValueError: The topology is unknown.
        """
        if topology is not None and topology not in self.topologies:
            raise ValueError(
                f"unknown topology {topology!r}; choose from {', '.join(self.topologies)}"
            )
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
        if topology == "dense":
            view: _View = _Everything(mask_BL, num_own, self.block_size, rows_BNMD)
        else:
            radius = self.window_radius + (topology == "wide")
            view = _Window(mask_BL, num_own, self.block_size, rows_BNMD, radius)
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
        own_NRD = self.representatives + self.block_positions[:num_blocks, None]
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
            rows_BNMD = rows_BNMD + self.dropout(view.local(self.local, qkv, None, dropout_p))
        else:
            shared_qkv = self.local.qkv(self.local_norm(shared_BGD))
            gathered = view.gather(self.local, qkv, shared_qkv, dropout_p)
            mixed = view.local(self.local, qkv, shared_qkv, dropout_p)
            rows_BNMD = rows_BNMD + self.dropout(mixed)
            shared_BGD = self.feed_forward(shared_BGD + self.dropout(gathered))
        if self.is_global and view.num_own:
            own = rows_BNMD[:, :, : view.num_own].flatten(1, 2)
            qkv = self.across.qkv(self.global_norm(own))
            own = own + self.dropout(view.across(self.across, qkv, dropout_p))
            own = own.unflatten(1, (-1, view.num_own))
            rows_BNMD = torch.cat((own, rows_BNMD[:, :, view.num_own :]), dim=2)
        return self.feed_forward(rows_BNMD), shared_BGD


class _View(ABC):
    """Who sees whom; made once a forward pass, used by all layers.

    Args:
        mask_BL: True at real tokens, padded to whole blocks; None if all are real.
        num_own: Representatives a block (R).
        block_size: Tokens a block (W).
        like: A tensor of the wanted type, device and batch, (B, N, M, D).
    """

    def __init__(self, mask_BL: Tensor | None, num_own: int, block_size: int, like: Tensor) -> None:
        self.num_own = num_own
        self.mask_BNW = None if mask_BL is None else mask_BL.unflatten(1, (-1, block_size))
        self.all_rows = self._all_rows_bias(like)
        self.across_bias = None
        if self.mask_BNW is not None and num_own:
            # A block of padding alone has representatives, but nobody listens to them.
            occupied_BN = self.mask_BNW.any(dim=2).repeat_interleave(num_own, dim=1)
            self.across_bias = key_bias(occupied_BN, like.dtype)

    def _all_rows_bias(self, like: Tensor) -> Tensor | None:
        """Return what hides padding from one who sees all rows of all blocks, (B, 1, 1, N * M)."""
        if self.mask_BNW is None:
            return None
        own_BNR = self.mask_BNW.any(dim=2, keepdim=True).expand(-1, -1, self.num_own)
        return key_bias(torch.cat((own_BNR, self.mask_BNW), dim=2).flatten(1), like.dtype)

    @abstractmethod
    def local(
        self, to: Projections, qkv_BNMQ: Tensor, shared_BGQ: Tensor | None, dropout_p: float
    ) -> Tensor:
        """Let the rows of each block look around; returns (B, N, M, D)."""

    def gather(
        self, to: Projections, qkv_BNMQ: Tensor, shared_BGQ: Tensor, dropout_p: float
    ) -> Tensor:
        """Let the global tokens look at everything; returns (B, G, D)."""
        num_shared = shared_BGQ.shape[1]
        everything = torch.cat((shared_BGQ, qkv_BNMQ.flatten(1, 2)), dim=1)
        bias = None if self.all_rows is None else F.pad(self.all_rows, (num_shared, 0))
        query, key, value = map(to.heads, everything.chunk(3, -1))
        return attend(to, query[:, :, :num_shared], key, value, bias, dropout_p)

    def across(self, to: Projections, qkv_BOQ: Tensor, dropout_p: float) -> Tensor:
        """Let all representatives look at one another; returns (B, N * R, D)."""
        query, key, value = map(to.heads, qkv_BOQ.chunk(3, -1))
        return attend(to, query, key, value, self.across_bias, dropout_p)


class _Window(_View):
    """A block sees itself, ``radius`` blocks on either side, and the context rows."""

    def __init__(
        self,
        mask_BL: Tensor | None,
        num_own: int,
        block_size: int,
        like: Tensor,
        radius: int,
    ) -> None:
        super().__init__(mask_BL, num_own, block_size, like)
        self.radius = radius
        batch, num_blocks = like.shape[:2]
        seen_BNW = self.mask_BNW
        if seen_BNW is None:
            seen_BNW = torch.ones((1, num_blocks, block_size), dtype=torch.bool, device=like.device)
        # Beyond either end of the sequence there are only blocks that nobody sees.
        beyond = F.pad(seen_BNW, (0, 0, radius, radius))
        around = [beyond[:, at : at + num_blocks] for at in range(2 * radius + 1)]
        own = seen_BNW.new_ones((seen_BNW.shape[0], num_blocks, num_own))
        seen_BNS = torch.cat((own, *around), dim=2)
        bias = torch.zeros(seen_BNS.shape, dtype=like.dtype, device=like.device)
        bias = bias.masked_fill_(~seen_BNS, HIDDEN)
        self.bias = bias.expand(batch, -1, -1).flatten(0, 1)[:, None, None]

    def local(
        self, to: Projections, qkv_BNMQ: Tensor, shared_BGQ: Tensor | None, dropout_p: float
    ) -> Tensor:
        batch, num_blocks = qkv_BNMQ.shape[:2]
        query, key, value = windows_of(qkv_BNMQ, self.num_own, self.radius)
        bias = self.bias
        if shared_BGQ is not None:
            shared = shared_BGQ[:, None].expand(-1, num_blocks, -1, -1).chunk(3, -1)
            key = torch.cat((shared[1], key), dim=2)
            value = torch.cat((shared[2], value), dim=2)
            bias = F.pad(bias, (shared_BGQ.shape[1], 0))
        query, key, value = (to.heads(rows.flatten(0, 1)) for rows in (query, key, value))
        mixed = attend(to, query, key, value, bias, dropout_p)
        states_BNMD: Tensor = mixed.unflatten(0, (batch, num_blocks))
        return states_BNMD


class _Everything(_View):
    """Every row sees every row; the dense topology."""

    def local(
        self, to: Projections, qkv_BNMQ: Tensor, shared_BGQ: Tensor | None, dropout_p: float
    ) -> Tensor:
        num_blocks = qkv_BNMQ.shape[1]
        flat = qkv_BNMQ.flatten(1, 2)
        query = to.heads(flat[..., : to.qkv_width])
        bias = self.all_rows
        if shared_BGQ is not None:
            flat = torch.cat((shared_BGQ, flat), dim=1)
            bias = None if bias is None else F.pad(bias, (shared_BGQ.shape[1], 0))
        key, value = map(to.heads, flat[..., to.qkv_width :].chunk(2, -1))
        mixed = attend(to, query, key, value, bias, dropout_p)
        states_BNMD: Tensor = mixed.unflatten(1, (num_blocks, -1))
        return states_BNMD
