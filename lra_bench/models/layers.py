"""The parts that encoders are made of, whatever mixes their positions.

Shapes: B batch, L length, D width, H heads, K head width, Q all heads (H * K).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import merge_heads, split_qkv, turned
from lra_bench.models.encoder import EncoderSpec
from lra_bench.models.precision import in_full_precision


class Embedding(nn.Module):
    """Token embedding, or quantities through a linear map; plus positions, then dropout.

    What is hidden has a vector of its own instead, which is no part of the table or the map.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.max_length = spec.max_length
        self.quantities = spec.quantities if spec.input == "linear" else None
        self.tokens: nn.Embedding | nn.Linear
        if self.quantities is None:
            self.tokens = nn.Embedding(spec.vocab_size - spec.has_mask, spec.width)
        else:
            self.tokens = nn.Linear(1, spec.width)
        self.positions = position_table(spec, spec.max_length)
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)
        if spec.has_cls:
            nn.init.zeros_(self.tokens.weight[-1].detach())
        # Of no use where there is no mask.
        self.mask_id = spec.vocab_size - 1 - spec.has_cls
        # Begun at zero, it draws nothing: all else begins as without it.
        self.mask = nn.Parameter(torch.zeros(spec.width)) if spec.has_mask else None

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Embed token ids: (B, L) to (B, L, D).

        Raises:
            ValueError: The sequence is longer than the longest that was promised.
        """
        length = tokens_BL.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"a sequence of {length} tokens is longer than max_length={self.max_length}"
            )
        if self.quantities is None:
            x_BLD = F.embedding(tokens_BL, self._table())
        else:
            levels_BL = tokens_BL.to(self.tokens.weight.dtype)
            scaled_BL = (levels_BL - self.quantities.mean) / self.quantities.deviation
            x_BLD = self.tokens(scaled_BL[..., None])
            if self.mask is not None:
                is_hidden_BL1 = (tokens_BL == self.mask_id)[..., None]
                x_BLD = torch.where(is_hidden_BL1, self.mask, x_BLD)
        if self.positions is not None:
            x_BLD = x_BLD + self.positions[:length]
        embedded_BLD: Tensor = self.dropout(x_BLD)
        return embedded_BLD

    def _table(self) -> Tensor:
        """Return a row for each id."""
        if self.mask is None:
            return self.tokens.weight
        rows = self.tokens.weight
        return torch.cat((rows[: self.mask_id], self.mask[None], rows[self.mask_id :]))

    if TYPE_CHECKING:
        __call__ = forward


class FeedForward(nn.Module):
    """Feed-forward residual branch with GELU and a norm before or after it; returns the sum."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.is_pre = spec.norm_place == "pre"
        self.norm = make_norm(spec)
        self.up = nn.Linear(spec.width, spec.ffn_width)
        self.down = nn.Linear(spec.ffn_width, spec.width)
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Transform each position: (..., D) to (..., D).

        Args:
            x: States.
            mask_BL: True at real tokens; None if all are real. A norm over a batch needs it.
        """
        if self.is_pre:
            return x + self.branch(x, mask_BL)
        return self.norm(x + self.branch(x, mask_BL), mask_BL)

    def branch(self, x: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Return what is added to each position, (..., D)."""
        before = self.norm(x, mask_BL) if self.is_pre else x
        hidden = self.dropout(F.gelu(self.up(before), approximate="tanh"))
        added: Tensor = self.dropout(self.down(hidden))
        return added

    if TYPE_CHECKING:
        __call__ = forward


class Projections(nn.Module):
    """Queries, keys and values from one matrix product, and the way back; no biases.

    With rotary positions queries and keys come turned.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        self.turns = spec.positions == "rotary"
        self.qkv = nn.Linear(spec.width, 3 * spec.qkv_width, bias=False)
        self.out = nn.Linear(spec.qkv_width, spec.width, bias=False)
        for weight in (*self.qkv.weight.split(spec.qkv_width), self.out.weight):
            nn.init.xavier_uniform_(weight.detach())

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values side by side: (..., L, D) to (..., L, 3 * Q)."""
        qkv: Tensor = self.qkv(x)
        if not self.turns:
            return qkv
        query, key, value = split_qkv(qkv, self.num_heads)
        return torch.cat([merge_heads(part) for part in (turned(query), turned(key), value)], -1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values with heads first: (..., L, D) to (..., H, L, K) each."""
        return split_qkv(self.project(x), self.num_heads)

    def merge(self, x: Tensor) -> Tensor:
        """Put the heads together and project back: (..., H, L, K) to (..., L, D)."""
        merged: Tensor = self.out(merge_heads(x))
        return merged


class Dropout(nn.Module):
    """Dropout whose random numbers are cheap on the CPU.

    PyTorch draws one Bernoulli number an element there, on one thread; that costs as much as the
    feed-forward part of a narrow model. Here one 64-bit draw serves four elements. The probability
    is met to 1/65536. Elsewhere, and inside a compiled graph, it is PyTorch's own dropout.

    Args:
        probability: Of an element to become zero.
        tied: Let a feature fall out at all positions of a sequence together.
    """

    def __init__(self, probability: float, *, tied: bool = False) -> None:
        super().__init__()
        self.probability = probability
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements at random and scale the others up, in training mode only.

        Args:
            x: (..., L, D), or of any shape if nothing is tied.
        """
        if not self.training or self.probability == 0.0:
            return x
        if self.tied:
            return x * F.dropout(x.new_ones((*x.shape[:-2], 1, x.shape[-1])), self.probability)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.probability)
        dropped: Tensor = _CheapDropout.apply(x, self.probability)  # type: ignore[no-untyped-call]
        return dropped

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"{self.probability}{', tied' if self.tied else ''}"

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


class LayerNorm(nn.LayerNorm):
    """PyTorch's, which knows no padding and needs not."""

    def forward(self, x: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Normalize each state: (..., D) to (..., D)."""
        del mask_BL
        return super().forward(x)

    if TYPE_CHECKING:
        __call__ = forward


class BatchNorm(nn.Module):
    """Norm of each feature over all real tokens of a batch; in evaluation, of what training saw.

    Mean and variance that were seen are part of the state dict.

    Args:
        width: Features (D).
        eps: Added to the variance.
        momentum: Weight of a batch in what is remembered.

    Source: arXiv 1502.03167, algorithms 1 and 2; the variance that is remembered is unbiased, as
    in PyTorch. Padding has no part in the statistics.
    """

    mean_D: Tensor
    variance_D: Tensor

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("variance_D", torch.ones(width))
        # Adds up over the processes that share a batch; None where one has it all.
        self.total: Callable[[Tensor], Tensor] | None = None

    @in_full_precision
    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Normalize each feature: (B, L, D) to (B, L, D).

        Args:
            x_BLD: States.
            mask_BL: True at real tokens; None if all are real.
        """
        if not self.training:
            scale_D = self.weight * (self.variance_D + self.eps).rsqrt()
            return x_BLD * scale_D + (self.bias - self.mean_D * scale_D)
        if mask_BL is None:
            mask_BL = x_BLD.new_ones((1, 1), dtype=torch.bool).expand(x_BLD.shape[:2])
        hidden_BL1 = ~mask_BL[..., None]
        number = mask_BL.sum().clamp(min=1)
        sum_D = x_BLD.masked_fill(hidden_BL1, 0.0).sum(dim=(0, 1))
        if self.total is not None:
            mine = mask_BL.sum()[None].to(sum_D.dtype)
            sum_D, number = self.total(torch.cat((sum_D, mine))).split((len(sum_D), 1))
            number = number.clamp(min=1)
        mean_D = sum_D / number
        centered_BLD = x_BLD - mean_D
        squares_D = centered_BLD.masked_fill(hidden_BL1, 0.0).square().sum(dim=(0, 1))
        if self.total is not None:
            squares_D = self.total(squares_D)
        with torch.no_grad():
            self.mean_D.lerp_(mean_D, self.momentum)
            self.variance_D.lerp_(squares_D / (number - 1).clamp(min=1), self.momentum)
        return centered_BLD * (squares_D / number + self.eps).rsqrt() * self.weight + self.bias

    if TYPE_CHECKING:
        __call__ = forward


class ScaleNorm(nn.Module):
    """A state over its root mean square, times one learned number.

    Source: arXiv 1910.05895, equation 2, with the root of the mean square in place of that of the
    sum, as in the released code of arXiv 2209.10655; the number starts at 1.
    """

    def __init__(self, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Normalize each state: (..., D) to (..., D)."""
        del mask_BL
        return x * (x.square().mean(dim=-1, keepdim=True) + self.eps).rsqrt() * self.scale

    if TYPE_CHECKING:
        __call__ = forward


def make_norm(spec: EncoderSpec) -> LayerNorm | BatchNorm | ScaleNorm:
    """Return the norm that a setting asks for; it is called with states and mask."""
    if spec.norm == "batch":
        return BatchNorm(spec.width)
    return ScaleNorm() if spec.norm == "scale" else layer_norm(spec)


def layer_norm(spec: EncoderSpec) -> LayerNorm:
    """Return a LayerNorm over the width of the states."""
    return LayerNorm(spec.width, eps=1e-6)


def position_table(spec: EncoderSpec, num_positions: int) -> Tensor | None:
    """Return a table of positions, (num_positions, D): a parameter or a buffer to assign.

    None where nothing is added to the input.
    """
    if spec.positions in ("none", "rotary"):
        return None
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
