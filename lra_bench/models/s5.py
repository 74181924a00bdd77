"""S5: one diagonal state space for all features together, run by a parallel scan.

Shapes: B batch, L length, D width, P pairs of conjugate states, R directions (1 or 2), S steps a
chunk, T chunks, X all positions (B * L).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec, KernelPart, Mixer
from lra_bench.models.layers import Dropout
from lra_bench.models.precision import in_full_precision, uncompiled
from lra_bench.models.state_space import (
    draw_log_steps,
    exp_minus_one,
    hippo_normal,
    refuse_blind_class_token,
)

# Steps that one matrix product takes. More of them waste work on it, fewer waste passes over the
# states; between 16 and 64 it makes little difference.
CHUNK = 32

Activation = Literal["half_glu1", "half_glu2"]
OutputInit = Literal["fan_in", "lecun_normal", "trunc_standard_normal", "complex_normal"]

# Real parts of the diagonal stay below this: a state that grows would overflow.
LARGEST_REAL = -1e-4


def linear_scan(
    log_decay_P: Tensor, real_PBL: Tensor, imag_PBL: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the states h(t) = exp(log_decay) h(t - 1) + input(t), all at once.

    Within a chunk the states are a product of the inputs with a triangular table of powers; from
    chunk to chunk the last states obey a recurrence of the same form, which is solved in the same
    way. So there are as many rounds as the logarithm of the length, to the base of a chunk.

    All products are of real matrices, with the steps side by side: PyTorch copies complex ones
    matrix by matrix, which takes longer than multiplying them.

    Args:
        log_decay_P: Complex, with a real part that is not positive.
        real_PBL: Real parts of the inputs.
        imag_PBL: Imaginary parts.
        reverse: From right to left: h(t) = exp(log_decay) h(t + 1) + input(t).

    Returns:
        Real and imaginary parts of the states, (P, B, L).
    """
    batch, length = real_PBL.shape[1:]
    size = min(CHUNK, length)
    extra = -length % size
    steps_S = torch.arange(size, device=real_PBL.device)
    lags_SS = (steps_S - steps_S[:, None]) * (-1 if reverse else 1)
    table_PSS = (log_decay_P[:, None, None] * lags_SS.clamp(min=0)).exp() * (lags_SS >= 0)
    inputs = tuple(
        F.pad(part, (0, extra)).unflatten(2, (-1, size)).flatten(1, 2)
        for part in (real_PBL, imag_PBL)
    )
    if length > size:
        # The state that leaves a chunk, and the place where it enters the next one.
        first, last = (size - 1, 0) if reverse else (0, size - 1)
        leaving, entering = (slice(1, None), (0, 1)) if reverse else (slice(-1), (1, 0))
        ends = _product(inputs, table_PSS[:, :, last : last + 1])
        ends_PBT = (part.unflatten(1, (batch, -1))[:, :, leaving, 0] for part in ends)
        carried = linear_scan(log_decay_P * size, *ends_PBT, reverse=reverse)
        before = tuple(F.pad(part, entering).flatten(1)[..., None] for part in carried)
        decayed = _product(before, log_decay_P.exp()[:, None, None])
        place = F.one_hot(steps_S[first], size).to(real_PBL.dtype)
        inputs = tuple(
            torch.addcmul(part, more, place) for part, more in zip(inputs, decayed, strict=True)
        )
    real, imag = (
        part.unflatten(1, (batch, -1)).flatten(2)[..., :length]
        for part in _product(inputs, table_PSS)
    )
    return real, imag


def _product(left: tuple[Tensor, ...], right: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply complex matrices, the left ones in real and imaginary parts, into such parts."""
    real, imag = left
    return (
        torch.baddbmm(imag @ right.imag, real, right.real, beta=-1),
        torch.baddbmm(imag @ right.real, real, right.imag),
    )


@uncompiled
@in_full_precision
def s5_scan(
    x_BLD: Tensor,
    mask_BL: Tensor | None = None,
    *,
    step_P: Tensor,
    real_P: Tensor,
    imag_P: Tensor,
    input_PD2: Tensor,
    output_RDP2: Tensor,
    skip_D: Tensor,
) -> Tensor:
    """Run one state space with many inputs and outputs: forward, or in both directions.

    Args:
        x_BLD: Inputs; padding, which comes last, is set to zero and so enters no state, in neither
            direction.
        mask_BL: True at real tokens; None if all are real.
        step_P: Length of a step of each state in the time of the system.
        real_P: Real parts of the diagonal; what lies above -0.0001 is taken as that.
        imag_P: Imaginary parts of the diagonal; each stands for itself and its conjugate.
        input_PD2: Weights of the inputs (B), real and imaginary parts.
        output_RDP2: Weights of the states forward (C), and backward if there are two.
        skip_D: Weight of the input itself.

    Returns:
        (B, L, D). A position sees itself in both directions.
    """
    if mask_BL is not None:
        x_BLD = x_BLD.masked_fill(~mask_BL[..., None], 0.0)
    diagonal_P = torch.complex(real_P.clamp(max=LARGEST_REAL), imag_P)
    log_decay_P = diagonal_P * step_P
    # The input is held over a step.
    held_P = exp_minus_one(log_decay_P.real, log_decay_P.imag) / diagonal_P
    weight_PD = torch.view_as_complex(input_PD2.contiguous()) * held_P[:, None]
    # States first, and steps last, from here to the way back.
    x_XD = x_BLD.flatten(0, 1)
    inputs = [(part @ x_XD.mT).unflatten(1, x_BLD.shape[:2]) for part in _parts(weight_PD)]
    mixed_XD = x_XD * skip_D
    for number, output_DP2 in enumerate(output_RDP2):
        real, imag = linear_scan(log_decay_P, inputs[0], inputs[1], reverse=number == 1)
        # Twice the real part of C h.
        mixed_XD = torch.addmm(mixed_XD, real.flatten(1).mT, 2 * output_DP2[..., 0].mT)
        mixed_XD = torch.addmm(mixed_XD, imag.flatten(1).mT, -2 * output_DP2[..., 1].mT)
    return mixed_XD.view(x_BLD.shape)


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary parts, each in one piece."""
    return x.real.contiguous(), x.imag.contiguous()


class S5(Mixer):
    """A state space of all features together, GELU, and a gate.

    The part that mixes features is inside: layers need no feed-forward part beside it.

    Args:
        spec: Sizes; heads and their width are not used.
        state_size: States of the layer; they come in pairs.
        num_blocks: Blocks of the matrix that the start is the diagonal form of.
        bidirectional: Let a position see both sides; otherwise it sees the past alone.
        min_step: Least step of a state at the start; steps are drawn log-uniformly.
        max_step: Largest step at the start.
        activation: ``half_glu1``: GELU(y) times a gate made of it; ``half_glu2``: y times that.
        output_init: Variance of C at the start. ``fan_in``: one over the states. The released
            code's names and what it has under them: ``lecun_normal``, two over states and
            features; ``trunc_standard_normal``, two over the states; ``complex_normal``, one.

    Source: arXiv 2208.04933, sections 3 (many inputs and outputs, parallel scan, held inputs) and
    appendix B (start: block-diagonal HiPPO-N). Both gates are the released code's, the first by
    default. Real parts of the diagonal are clipped, which in the release is an
    option; B and C are drawn with a variance of one over the numbers they sum. The released code
    gives the state space a learning rate of its own; that is a matter of the optimizer
    (``train.diagonal_learning_rate`` and its like).
    """

    kernel_parts: Mapping[str, KernelPart] = {
        "log_step_P": "step",
        "real_P": "diagonal",
        "imag_P": "diagonal",
        "input_PD2": "input",
    }

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        state_size: int = 64,
        num_blocks: int = 4,
        bidirectional: bool = True,
        min_step: float = 0.001,
        max_step: float = 0.1,
        activation: Activation = "half_glu1",
        output_init: OutputInit = "fan_in",
    ) -> None:
        super().__init__()
        if num_blocks < 1 or state_size < 2 or state_size % (2 * num_blocks):
            raise ValueError(
                f"state_size={state_size} must be a multiple of twice num_blocks={num_blocks}"
            )
        refuse_blind_class_token(spec, bidirectional)
        width = spec.width
        values, vectors = hippo_normal(state_size // num_blocks)
        vectors = torch.block_diag(*[vectors] * num_blocks)
        self.real_P = nn.Parameter(values.real.repeat(num_blocks).float())
        self.imag_P = nn.Parameter(values.imag.repeat(num_blocks).float())
        self.log_step_P = draw_log_steps(state_size // 2, min_step, max_step)
        into = torch.randn(state_size, width, dtype=torch.float64) * width**-0.5
        self.input_PD2 = nn.Parameter(_real(vectors.mH @ into.to(vectors.dtype)))
        shape = (1 + bidirectional, width, state_size)
        variance = {
            "fan_in": 1 / state_size,
            "lecun_normal": 2 / (state_size * width),
            "trunc_standard_normal": 2 / state_size,
            "complex_normal": 1.0,
        }[output_init]
        out = torch.randn(shape, dtype=vectors.dtype) * variance**0.5
        self.output_RDP2 = nn.Parameter(_real(out @ vectors))
        self.skip_D = nn.Parameter(torch.randn(width))
        self.activation = activation
        self.gate = nn.Linear(width, width)
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = s5_scan(
            x_BLD,
            mask_BL,
            step_P=self.log_step_P.exp(),
            real_P=self.real_P,
            imag_P=self.imag_P,
            input_PD2=self.input_PD2,
            output_RDP2=self.output_RDP2,
            skip_D=self.skip_D,
        )
        bent = self.dropout(F.gelu(mixed))
        gate = self.gate(bent).sigmoid()
        gated: Tensor = (bent if self.activation == "half_glu1" else mixed) * gate
        return gated

    if TYPE_CHECKING:
        __call__ = forward


def _real(x: Tensor) -> Tensor:
    """Return complex numbers in double precision as pairs of real ones in single."""
    return torch.view_as_real(x).float().contiguous()
