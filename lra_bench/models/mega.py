"""Mega: a moving average in front of gated attention with one head.

Shapes: B batch, L length, D width, R directions (1 or 2), N averages a feature, Z key width, V
value width, C positions a chunk.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import attend, key_bias, turned
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.layers import Dropout, Embedding, make_norm
from lra_bench.models.precision import in_full_precision, uncompiled
from lra_bench.models.state_space import fast_length

Attention = Literal["softmax", "laplace"]
Bias = Literal["simple", "rotary"]

# An average forgets no more of itself than this in one step: the logarithm must be a number.
LARGEST_LOSS = 1 - 1e-6


def ema_kernel(loss_RDN: Tensor, weight_RDN: Tensor, *, length: int) -> Tensor:
    """Return what an impulse leaves behind after 0, 1, ... L - 1 steps, (R, D, L).

    Step l is a = l mod S and b = l div S, so that all powers are the products of two short tables.

    Args:
        loss_RDN: What an average loses of itself in a step, between 0 and 1.
        weight_RDN: What an impulse puts into an average, times the average's weight in the sum.
        length: Steps (L).
    """
    fine = math.isqrt(length - 1) + 1
    coarse = -(-length // fine)
    log_kept = torch.log1p(-loss_RDN.clamp(max=LARGEST_LOSS))[..., None]
    places = torch.arange(max(fine, coarse), dtype=loss_RDN.dtype, device=loss_RDN.device)
    fine_RDNS = (log_kept * places[:fine]).exp()
    coarse_RDNT = (log_kept * (places[:coarse] * fine)).exp() * weight_RDN[..., None]
    kernel_RDL: Tensor = (coarse_RDNT.mT @ fine_RDNS).flatten(2)[..., :length]
    return kernel_RDL


@uncompiled
@in_full_precision
def damped_ema(
    x_BLD: Tensor,
    mask_BL: Tensor | None = None,
    *,
    gain_RDN: Tensor,
    damping_RDN: Tensor,
    input_RDN: Tensor,
    output_RDN: Tensor,
) -> Tensor:
    """Average each feature over what came before, N times, and sum; with two directions, of both.

    Forward, h(t) = gain input x(t) + (1 - gain damping) h(t - 1), and y(t) = output . h(t).
    Backward the same from the right, without the position itself, which forward has counted.

    Args:
        x_BLD: Inputs; padding, which comes last, is set to zero and so enters no average.
        mask_BL: True at real tokens; None if all are real.
        gain_RDN: Weight of what comes in (the paper's alpha), between 0 and 1.
        damping_RDN: Part of the gain that an average loses (delta), between 0 and 1.
        input_RDN: Expansion of a feature (beta).
        output_RDN: Weights of the averages (eta).

    Returns:
        (B, L, D).
    """
    if mask_BL is not None:
        x_BLD = x_BLD.masked_fill(~mask_BL[..., None], 0.0)
    length = x_BLD.shape[1]
    weight_RDN = gain_RDN * input_RDN * output_RDN
    kernel_RDL = ema_kernel(gain_RDN * damping_RDN, weight_RDN, length=length)
    size = fast_length(2 * length)
    kernel = F.pad(kernel_RDL[0], (0, size - length))
    if len(kernel_RDL) == 2:
        # Steps back in time are the last places of a circle.
        kernel = kernel + F.pad(kernel_RDL[1, :, 1:].flip(-1), (size - length + 1, 0))
    spectrum = torch.fft.rfft(x_BLD.mT, n=size) * torch.fft.rfft(kernel)
    mixed_BDL: Tensor = torch.fft.irfft(spectrum, n=size)[..., :length]
    return mixed_BDL.mT


def mega_attention(
    query_BLZ: Tensor,
    key_BLZ: Tensor,
    value_BLV: Tensor,
    mask_BL: Tensor | None = None,
    *,
    bias_CC: Tensor,
    attention: Attention = "softmax",
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at the real ones of its own chunk, with one head.

    Args:
        query_BLZ: Queries.
        key_BLZ: Keys.
        value_BLV: Values.
        mask_BL: True at real tokens; None if all are real.
        bias_CC: Added to the scores of each query for each key of a chunk; a chunk may be all.
        attention: ``softmax`` of scores over the root of the key width; or ``laplace``, a
            function of each score over the number of real keys.
        dropout_p: Probability on the weights.

    Returns:
        (B, L, V).
    """
    batch, length, _ = query_BLZ.shape
    size = len(bias_CC)
    extra = -length % size
    if extra:
        if mask_BL is None:
            mask_BL = torch.ones((batch, length), dtype=torch.bool, device=query_BLZ.device)
        mask_BL = F.pad(mask_BL, (0, extra))
    # (B, L, ...) to (B * chunks, 1, C, ...).
    query, key, value = (
        F.pad(rows, (0, 0, 0, extra)).unflatten(1, (-1, size)).flatten(0, 1)[:, None]
        for rows in (query_BLZ, key_BLZ, value_BLV)
    )
    seen = None if mask_BL is None else mask_BL.unflatten(1, (-1, size)).flatten(0, 1)
    if attention == "softmax":
        hidden = key_bias(seen, query.dtype)
        bias = bias_CC[None, None].to(query.dtype)
        mixed = attend(query, key, value, bias if hidden is None else bias + hidden, dropout_p)
    else:
        number: Tensor | int = size
        if seen is not None:
            number = seen.sum(dim=1).clamp(min=1)[:, None, None, None]
        weights = laplace(query @ key.mT / number + bias_CC)
        if seen is not None:
            weights = weights * seen[:, None, None]
        mixed = F.dropout(weights, dropout_p) @ value
    mixed_BLV: Tensor = mixed[:, 0].unflatten(0, (batch, -1)).flatten(1, 2)[:, :length]
    return mixed_BLV


def laplace(x: Tensor) -> Tensor:
    """Return the distribution function of a normal variable, in place of a squared ReLU.

    Source: arXiv 2209.10655, section 3.3: the mean is the root of 1 / 2, the deviation that of
    1 / (4 pi), at which value and slope meet those of the squared ReLU.
    """
    value: Tensor = torch.special.ndtr((x - math.sqrt(0.5)) * math.sqrt(4 * math.pi))
    return value


class MegaEncoder(SequenceEncoder):
    """Layers of a moving average, gated attention that it steers, and a feed-forward part.

    Args:
        spec: Sizes; heads and their width are not used.
        ema_size: Averages a feature (N).
        key_width: Width of queries and keys (Z).
        expansion: Width of the values (V), as a multiple of the width of the states.
        attention: ``softmax``, or ``laplace``, which weighs each key by itself.
        bias: What the scores know of positions: ``simple``, a learned number for each distance; or
            ``rotary``, the product of two learned vectors turned by their positions.
        chunk_size: Attention inside chunks of so many positions, in linear time (Mega-chunk); None
            for all of the sequence.

    Source: arXiv 2209.10655: section 3.1 (multi-dimensional damped moving average), 3.2 (gated
    attention: shared representation, reset and update gate; the block with its feed-forward part),
    3.3 (the Laplace function) and 3.5 (chunks). As in the released code, averages are divided by
    the root of their number, a weighted input is added to their sum, and then comes SiLU; in two
    directions each has its own averages; the feed-forward part has SiLU; weights start normal with
    a deviation of 0.02, inputs of averages near 1 and -1 in turn. Here a length need not be a
    multiple of the chunk: the last chunk is shorter; and moving averages see a whole sequence where
    the code by default cuts them off after 1,024 positions.

    Raises:
        ValueError: A size is below 1, or keys of an odd width are to be turned.
    """

    takes = (
        "positions=none",
        "input=linear",
        "norm=batch",
        "norm=scale",
        "norm_place=post",
        "tied_dropout=true",
    )

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        ema_size: int = 16,
        key_width: int = 64,
        expansion: int = 2,
        attention: Attention = "softmax",
        bias: Bias = "simple",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if min(ema_size, key_width, expansion) < 1:
            raise ValueError(
                f"ema_size={ema_size}, key_width={key_width} and expansion={expansion} must be at "
                "least 1"
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size} must be at least 1, or null for no chunks")
        if bias == "rotary" and key_width % 2:
            raise ValueError(
                f"bias=rotary turns pairs of features; key_width={key_width} must be even"
            )
        self.width = spec.width
        self.embedding = Embedding(spec)
        sizes = (ema_size, key_width, expansion * spec.width)
        self.layers = nn.ModuleList(
            _Layer(spec, sizes, attention, bias, chunk_size) for _ in range(spec.num_layers)
        )
        self.norm = make_norm(spec) if spec.norm_place == "pre" else None

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `SequenceEncoder.forward`."""
        self.check_topology(topology)
        x_BLD = self.embedding(tokens_BL)
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_BL)
        return x_BLD if self.norm is None else self.norm(x_BLD, mask_BL)

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    def __init__(
        self,
        spec: EncoderSpec,
        sizes: tuple[int, int, int],
        attention: Attention,
        bias: Bias,
        chunk_size: int | None,
    ) -> None:
        super().__init__()
        self.attend = GatedAttention(spec, sizes, attention, bias, chunk_size)
        self.is_pre = spec.norm_place == "pre"
        self.norm = make_norm(spec)
        self.up = _linear(spec.width, spec.ffn_width)
        self.down = _linear(spec.ffn_width, spec.width)
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        x_BLD = self.attend(x_BLD, mask_BL)
        before = self.norm(x_BLD, mask_BL) if self.is_pre else x_BLD
        out_BLD = x_BLD + self.dropout(self.down(F.silu(self.up(before))))
        return out_BLD if self.is_pre else self.norm(out_BLD, mask_BL)

    if TYPE_CHECKING:
        __call__ = forward


class GatedAttention(nn.Module):
    """The moving average, attention whose queries and keys are made of it, and two gates.

    Args:
        spec: Sizes.
        sizes: Averages a feature (N), key width (Z), value width (V).
        attention: See `MegaEncoder`.
        bias: See `MegaEncoder`.
        chunk_size: See `MegaEncoder`.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        sizes: tuple[int, int, int],
        attention: Attention,
        bias: Bias,
        chunk_size: int | None,
    ) -> None:
        super().__init__()
        ema_size, key_width, value_width = sizes
        width = spec.width
        self.is_pre = spec.norm_place == "pre"
        self.norm = make_norm(spec)
        self.average = MovingAverage(width, ema_size)
        self.values = _linear(width, value_width)
        # Update gate, shared representation, reset gate, and what the output has beside them.
        self.parts = (width, key_width, value_width, width)
        self.gates = _linear(width, sum(self.parts))
        self.out = _linear(value_width, width)
        self.scale_2Z = nn.Parameter(torch.randn(2, key_width) * 0.02)
        self.shift_2Z = nn.Parameter(torch.zeros(2, key_width))
        self.attention: Attention = attention
        self.attention_dropout = spec.attention_dropout
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)
        longest = spec.max_length if chunk_size is None else min(chunk_size, spec.max_length)
        self.chunk_size = longest if chunk_size is not None else None
        self.bias: nn.Module
        self.bias = SimpleBias(longest) if bias == "simple" else RotaryBias(key_width)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Return the states of the layer before its feed-forward part, (B, L, D)."""
        before = self.norm(x_BLD, mask_BL) if self.is_pre else x_BLD
        value_BLV = F.silu(self.values(before))
        averaged = self.dropout(self.average(before, mask_BL))
        update, shared, reset, beside = self.gates(averaged).split(self.parts, dim=-1)
        query, key = (F.silu(shared)[..., None, :] * self.scale_2Z + self.shift_2Z).unbind(-2)
        size = x_BLD.shape[1] if self.chunk_size is None else self.chunk_size
        mixed_BLV = mega_attention(
            query,
            key,
            value_BLV,
            mask_BL,
            bias_CC=self.bias(min(size, x_BLD.shape[1])),
            attention=self.attention,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        new = self.dropout(F.silu(beside + self.out(mixed_BLV * F.silu(reset))))
        out_BLD = x_BLD + update.sigmoid() * (new - x_BLD)
        return out_BLD if self.is_pre else self.norm(out_BLD, mask_BL)

    if TYPE_CHECKING:
        __call__ = forward


class MovingAverage(nn.Module):
    """The damped moving average in both directions, a weighted input, and SiLU."""

    def __init__(self, width: int, ema_size: int) -> None:
        super().__init__()
        shape = (2, width, ema_size)
        self.gain_RDN = nn.Parameter(torch.randn(shape) * 0.2)
        self.damping_RDN = nn.Parameter(torch.randn(shape) * 0.2)
        signs_N = 1.0 - 2.0 * (torch.arange(ema_size) % 2)
        self.input_RDN = nn.Parameter(torch.randn(shape) * 0.02 + signs_N)
        self.output_RDN = nn.Parameter(torch.randn(shape))
        self.skip_D = nn.Parameter(torch.randn(width))

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Average over positions: (B, L, D) to (B, L, D)."""
        averaged = damped_ema(
            x_BLD,
            mask_BL,
            gain_RDN=self.gain_RDN.sigmoid(),
            damping_RDN=self.damping_RDN.sigmoid(),
            input_RDN=self.input_RDN,
            output_RDN=self.output_RDN * self.output_RDN.shape[-1] ** -0.5,
        )
        return F.silu(averaged + x_BLD * self.skip_D)

    if TYPE_CHECKING:
        __call__ = forward


class SimpleBias(nn.Module):
    """A learned number for each distance between two positions."""

    def __init__(self, num_positions: int) -> None:
        super().__init__()
        self.by_distance = nn.Parameter(torch.randn(2 * num_positions - 1) * 0.02)

    def forward(self, size: int) -> Tensor:
        """Return what is added to the score of each query for each key, (C, C)."""
        middle = len(self.by_distance) // 2
        near = self.by_distance[middle - size + 1 : middle + size]
        # Row r of the windows begins with distance r - C + 1: that of the last query to the first.
        return near.unfold(0, size, 1).flip(0)


class RotaryBias(nn.Module):
    """The product of two learned vectors, turned by the positions of query and key."""

    def __init__(self, key_width: int) -> None:
        super().__init__()
        self.vectors_2Z = nn.Parameter(torch.randn(2, key_width) * 0.02)

    def forward(self, size: int) -> Tensor:
        """Return what is added to the score of each query for each key, (C, C)."""
        left, right = (turned(vector.expand(size, -1)) for vector in self.vectors_2Z)
        return left @ right.mT


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    linear = nn.Linear(fan_in, fan_out)
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
