"""What every encoder is made of, and the trunk that most of them share.

Shapes: B batch, L length, D width, H heads, K head width, Q all heads (H * K).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Added to the score of a key that must not be seen. Finite, so that a query without any visible
# key (all padding) gets a finite output that later masking removes, instead of NaN.
HIDDEN = -1e9


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that a task and a setting ask of an encoder, whatever the encoder is.

    Args:
        vocab_size: Rows of the embedding table.
        max_length: Longest sequence [tokens].
        num_layers: Number of layers.
        width: Width of the states (D).
        num_heads: Number of attention heads.
        qkv_width: Width of all heads together (Q).
        ffn_width: Hidden width of the feed-forward part.
        dropout: Probability on embeddings and residual branches.
        attention_dropout: Probability on attention weights; above 0 the fused kernels of the CPU
            are out of reach and a step takes several times as long.
        positions: Learned table, or sinusoids.
        has_cls: The last vocabulary row is a class token that starts at zero.
    """

    vocab_size: int
    max_length: int
    num_layers: int
    width: int
    num_heads: int
    qkv_width: int
    ffn_width: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    positions: Literal["learned", "sinusoidal"] = "learned"
    has_cls: bool = False

    def __post_init__(self) -> None:
        """Refuse what no encoder can be built from.

        Raises:
            ValueError: A size is not positive, a probability not in [0, 1), or the heads do not
                divide their width.
        """
        for name in ("vocab_size", "max_length", "num_layers", "width", "num_heads", "ffn_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.qkv_width < 1 or self.qkv_width % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide the attention width "
                f"{self.qkv_width}; choose a number of heads that does"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1)")


class SequenceEncoder(nn.Module, ABC):
    """Contract of an encoder: token ids in, one state a position out.

    ``topologies`` names further attention patterns that the same weights can run with; an encoder
    that has some takes ``topology=`` in ``forward``.
    """

    topologies: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def forward(self, tokens_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Encode sequences.

        Args:
            tokens_BL: Token ids; anything where padded.
            mask_BL: True at real tokens; None if all are real.

        Returns:
            states_BLD; padding has no influence on the states of real tokens.
        """

    if TYPE_CHECKING:
        __call__ = forward


class Mixer(nn.Module, ABC):
    """Contract of a mixer: the part of a layer in which positions exchange information."""

    @abstractmethod
    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Mix positions; padded ones must not reach real ones.

        Args:
            x_BLD: Normalized states.
            mask_BL: True at real tokens; None if all are real.

        Returns:
            What is added to the residual stream, (B, L, D).
        """

    if TYPE_CHECKING:
        __call__ = forward


MixerFactory = Callable[[EncoderSpec], Mixer]


class TransformerEncoder(SequenceEncoder):
    """The shared trunk: embedding, positions, pre-norm layers of a mixer and a feed-forward part.

    Args:
        spec: Sizes.
        mixer: Makes the mixer of one layer.

    Source: arXiv 2011.04006, released code; the initialization follows it.
    """

    def __init__(self, spec: EncoderSpec, *, mixer: MixerFactory) -> None:
        super().__init__()
        self.embedding = Embedding(spec)
        self.layers = nn.ModuleList(_Layer(spec, mixer(spec)) for _ in range(spec.num_layers))
        self.norm = layer_norm(spec)

    def forward(self, tokens_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `SequenceEncoder.forward`."""
        x_BLD = self.embedding(tokens_BL)
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_BL)
        return self.norm(x_BLD)  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    def __init__(self, spec: EncoderSpec, mixer: Mixer) -> None:
        super().__init__()
        self.mixer_norm = layer_norm(spec)
        self.mixer = mixer
        self.dropout = Dropout(spec.dropout)
        self.feed_forward = FeedForward(spec)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        x_BLD = x_BLD + self.dropout(self.mixer(self.mixer_norm(x_BLD), mask_BL))
        return self.feed_forward(x_BLD)


class Embedding(nn.Module):
    """Token embedding plus positions, then dropout."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.tokens = nn.Embedding(spec.vocab_size, spec.width)
        self.positions = positions(spec, spec.max_length)
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
        hidden = self.dropout(F.gelu(self.up(self.norm(x)), approximate="tanh"))
        return x + self.dropout(self.down(hidden))

    if TYPE_CHECKING:
        __call__ = forward


class Projections(nn.Module):
    """Queries, keys and values from one matrix product, and the way back; no biases."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        self.qkv_width = spec.qkv_width
        self.qkv = nn.Linear(spec.width, 3 * spec.qkv_width, bias=False)
        self.out = nn.Linear(spec.qkv_width, spec.width, bias=False)
        for weight in (*self.qkv.weight.split(spec.qkv_width), self.out.weight):
            nn.init.xavier_uniform_(weight.detach())

    def heads(self, x: Tensor) -> Tensor:
        """Split heads and put them before the positions: (..., L, Q) to (..., H, L, K)."""
        split: Tensor = x.unflatten(-1, (self.num_heads, -1))
        return split.transpose(-2, -3)

    def merge(self, x: Tensor) -> Tensor:
        """Undo `heads` and project: (..., H, L, K) to (..., L, D)."""
        merged: Tensor = self.out(x.transpose(-2, -3).flatten(-2))
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


def positions(spec: EncoderSpec, num_positions: int) -> Tensor:
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


def key_bias(mask_BL: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what hides padded keys when added to scores, (B, 1, 1, L), or None."""
    if mask_BL is None:
        return None
    bias = torch.zeros(mask_BL.shape, dtype=dtype, device=mask_BL.device)
    return bias.masked_fill_(~mask_BL, HIDDEN)[:, None, None]
