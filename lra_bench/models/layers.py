"""The parts that encoders are made of, whatever mixes their positions.

Shapes: B batch, L length, D width, H heads, K head width, Q all heads (H * K).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import merge_heads, split_qkv
from lra_bench.models.encoder import EncoderSpec


class Embedding(nn.Module):
    """Token embedding plus positions, then dropout."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.tokens = nn.Embedding(spec.vocab_size, spec.width)
        self.positions = position_table(spec, spec.max_length)
        self.dropout = Dropout(spec.dropout)
        if spec.has_cls:
            nn.init.zeros_(self.tokens.weight[-1].detach())

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Embed token ids: (B, L) to (B, L, D).

        Raises:
            ValueError: The sequence is longer than the table of positions.
        """
        length = tokens_BL.shape[1]
        if length > len(self.positions):
            raise ValueError(
                f"a sequence of {length} tokens is longer than max_length={len(self.positions)}"
            )
        x_BLD: Tensor = self.dropout(self.tokens(tokens_BL) + self.positions[:length])
        return x_BLD

    if TYPE_CHECKING:
        __call__ = forward


class FeedForward(nn.Module):
    """Pre-norm feed-forward residual branch with GELU; returns the sum with its input."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.norm = layer_norm(spec)
        self.up = nn.Linear(spec.width, spec.ffn_width)
        self.down = nn.Linear(spec.ffn_width, spec.width)
        self.dropout = Dropout(spec.dropout)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position: (..., D) to (..., D)."""
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """Return what is added to each position, (..., D)."""
        hidden = self.dropout(F.gelu(self.up(self.norm(x)), approximate="tanh"))
        added: Tensor = self.dropout(self.down(hidden))
        return added

    if TYPE_CHECKING:
        __call__ = forward


class Projections(nn.Module):
    """Queries, keys and values from one matrix product, and the way back; no biases."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        self.qkv = nn.Linear(spec.width, 3 * spec.qkv_width, bias=False)
        self.out = nn.Linear(spec.qkv_width, spec.width, bias=False)
        for weight in (*self.qkv.weight.split(spec.qkv_width), self.out.weight):
            nn.init.xavier_uniform_(weight.detach())

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values with heads first: (..., L, D) to (..., H, L, K) each."""
        return split_qkv(self.qkv(x), self.num_heads)

    def merge(self, x: Tensor) -> Tensor:
        """Put the heads together and project back: (..., H, L, K) to (..., L, D)."""
        merged: Tensor = self.out(merge_heads(x))
        return merged


class Dropout(nn.Module):
    """Dropout whose random numbers are cheap on the CPU.

    PyTorch draws one Bernoulli number an element there, on one thread; that costs as much as the
    feed-forward part of a narrow model. Here one 64-bit draw serves four elements. The probability
    is met to 1/65536. Elsewhere, and inside a compiled graph, it is PyTorch's own dropout.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements at random and scale the others up, in training mode only."""
        if not self.training or self.probability == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.probability)
        dropped: Tensor = _CheapDropout.apply(x, self.probability)  # type: ignore[no-untyped-call]
        return dropped

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"{self.probability}"

    if TYPE_CHECKING:
        __call__ = forward


class _CheapDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        drawn = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(
            torch.iinfo(torch.int64).min, None
        )
        sixteen_bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        cut = round(probability * 65536)
        kept = sixteen_bits >= cut - 32768
        ctx.scale = 65536 / (65536 - cut)
        ctx.save_for_backward(kept)
        # Multiplying by a boolean would write it out as numbers first.
        return torch.where(kept, x, 0.0).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, grads[0], 0.0).mul_(ctx.scale), None


def layer_norm(spec: EncoderSpec) -> nn.LayerNorm:
    """Return a LayerNorm over the width of the states."""
    return nn.LayerNorm(spec.width, eps=1e-6)


def position_table(spec: EncoderSpec, num_positions: int) -> Tensor:
    """Return a table of positions, (num_positions, D): a parameter or a buffer to assign."""
    if spec.positions == "learned":
        return nn.Parameter(torch.randn(num_positions, spec.width) * 0.02)
    return nn.Buffer(sinusoids(num_positions, spec.width), persistent=False)


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Return sines in even and cosines in odd columns, (num_positions, width).

    Source: section 3.5 of arXiv 1706.03762.
    """
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(num_positions)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :width]
