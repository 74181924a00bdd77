"""Diagonal state spaces: a long convolution whose kernel a few oscillations make up.

Shapes: B batch, L length, D width, N states a feature, R directions (1 or 2), S and T steps with
S * T >= L.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec, KernelPart, Mixer
from lra_bench.models.layers import Dropout
from lra_bench.models.precision import in_full_precision, uncompiled
from lra_bench.models.state_space import (
    draw_log_steps,
    exp_minus_one,
    fast_length,
    hippo_normal,
    refuse_blind_class_token,
)

Init = Literal["lin", "inv", "legs", "real"]


class Poles(NamedTuple):
    """Where the states of a continuous system decay and turn: its diagonal (A)."""

    real: Tensor
    imag: Tensor


def s4d_kernel(
    step_D: Tensor, real_DN: Tensor, imag_DN: Tensor, output_RDN2: Tensor, *, length: int
) -> Tensor:
    """Return what an impulse leaves behind after 0, 1, ... L - 1 steps, (R, D, L).

    Step l is a = l mod S and b = l div S, and the power of the decay is the product of those of
    both: so all powers come from two short tables and one matrix product.

    Args:
        step_D: Length of a step of each feature in the time of its system.
        real_DN: Real parts of the diagonal (A), negative.
        imag_DN: Imaginary parts. Each stands for itself and its conjugate; where all are zero, the
            system counts twice.
        output_RDN2: Real and imaginary parts of the weights of the states (C); the weights of the
            input (B) are one.
        length: Steps (L).
    """
    fine = math.isqrt(length - 1) + 1
    coarse = -(-length // fine)
    log_decay = (step_D[:, None] * real_DN, step_D[:, None] * imag_DN)
    held = exp_minus_one(*log_decay) / torch.complex(real_DN, imag_DN)
    weight = torch.view_as_complex(output_RDN2.contiguous()) * held
    places = torch.arange(fine, dtype=step_D.dtype, device=step_D.device)
    fine_DNS = torch.complex(*_powers(log_decay, places))
    places = torch.arange(coarse, dtype=step_D.dtype, device=step_D.device) * fine
    coarse_RDNT = torch.complex(*_powers(log_decay, places)) * weight[..., None]
    # Twice the real part of the complex product, as one product of real matrices.
    left = torch.cat((coarse_RDNT.real, -coarse_RDNT.imag), dim=-2).mT
    right = torch.cat((fine_DNS.real, fine_DNS.imag), dim=-2)
    kernel_RDL: Tensor = 2 * (left @ right).flatten(2)[..., :length]
    return kernel_RDL


def _powers(log_decay: tuple[Tensor, Tensor], places: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp(log_decay * place) as real and imaginary parts, (D, N, places)."""
    size = (log_decay[0][..., None] * places).exp()
    angle = log_decay[1][..., None] * places
    return size * angle.cos(), size * angle.sin()


@uncompiled
@in_full_precision
def s4d_convolution(
    x_BLD: Tensor,
    mask_BL: Tensor | None = None,
    *,
    step_D: Tensor,
    real_DN: Tensor,
    imag_DN: Tensor,
    output_RDN2: Tensor,
    skip_D: Tensor,
) -> Tensor:
    """Run a diagonal state space over each feature: forward, or in both directions.

    Args:
        x_BLD: Inputs; padding, which comes last, is set to zero and so enters no state, in neither
            direction.
        mask_BL: True at real tokens; None if all are real.
        step_D: See `s4d_kernel`, as the next three.
        real_DN: Real parts of the diagonal.
        imag_DN: Imaginary parts of the diagonal.
        output_RDN2: Weights of the states forward, and backward if there are two.
        skip_D: Weight of the input itself.

    Returns:
        (B, L, D). Going backward, a position sees what comes after it; going forward, itself too.
    """
    if mask_BL is not None:
        x_BLD = x_BLD.masked_fill(~mask_BL[..., None], 0.0)
    length = x_BLD.shape[1]
    kernel_RDL = s4d_kernel(step_D, real_DN, imag_DN, output_RDN2, length=length)
    size = fast_length(2 * length)
    kernel = F.pad(kernel_RDL[0], (0, size - length))
    if len(kernel_RDL) == 2:
        # Steps back in time are the last places of a circle.
        kernel = kernel + F.pad(kernel_RDL[1].flip(-1), (size - length, 0))
    x_BDL = x_BLD.mT
    spectrum = torch.fft.rfft(x_BDL, n=size) * torch.fft.rfft(kernel)
    mixed_BDL: Tensor = torch.fft.irfft(spectrum, n=size)[..., :length]
    return mixed_BDL.mT + x_BLD * skip_D


def poles(init: Init, state_size: int) -> Poles:
    """Return the start of the diagonal, one of each pair of conjugates.

    Source: arXiv 2206.11893, section 4: S4D-Lin, S4D-Inv, S4D-LegS and S4D-Real.
    """
    if init == "real":
        return Poles(-torch.arange(1.0, state_size + 1), torch.zeros(state_size))
    number = torch.arange(state_size // 2, dtype=torch.float64)
    if init == "lin":
        imag = math.pi * number
    elif init == "inv":
        imag = state_size / math.pi * (state_size / (2 * number + 1) - 1)
    else:
        imag = hippo_normal(state_size)[0].imag
    return Poles(torch.full((state_size // 2,), -0.5), imag.float())


class S4D(Mixer):
    """A diagonal state space a feature, GELU, and a gated linear map of all features.

    The part that mixes features is inside: layers need no feed-forward part beside it.

    Args:
        spec: Sizes; heads and their width are not used.
        state_size: States a feature (N); complex ones come in pairs.
        init: Start of the diagonal. Complex: ``lin``, ``inv`` or ``legs``; or ``real``.
        bidirectional: Let a position see both sides; otherwise it sees the past alone.
        min_step: Least step of a feature at the start; steps are drawn log-uniformly.
        max_step: Largest step at the start.

    Source: arXiv 2206.11893: section 3 (the kernel, held inputs, B = 1 and a trained C), section 4
    (starts of the diagonal). The layer (GELU, gated linear map), the two directions (two C, one A)
    and the range of steps are those of the released code of arXiv 2111.00396. The released code
    gives the diagonal and the steps a learning rate of their own and no weight decay; that is a
    matter of the optimizer (``train.diagonal_learning_rate`` and its like), not of this layer.
    """

    kernel_parts: Mapping[str, KernelPart] = {
        "log_step_D": "step",
        "log_decay_DN": "diagonal",
        "imag_DN": "diagonal",
    }

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        state_size: int = 64,
        init: Init = "lin",
        bidirectional: bool = True,
        min_step: float = 0.001,
        max_step: float = 0.1,
    ) -> None:
        super().__init__()
        if state_size < 2 or state_size % 2:
            raise ValueError(f"state_size={state_size} must be even and at least 2")
        if init not in ("lin", "inv", "legs", "real"):
            raise ValueError(f"init={init!r} must be lin, inv, legs or real")
        refuse_blind_class_token(spec, bidirectional)
        width = spec.width
        real, imag = poles(init, state_size)
        self.log_step_D = draw_log_steps(width, min_step, max_step)
        # The real part stays negative whatever is learned.
        self.log_decay_DN = nn.Parameter((-real).log().expand(width, -1).clone())
        imag_DN = imag.expand(width, -1).clone()
        self.imag_DN = nn.Buffer(imag_DN) if init == "real" else nn.Parameter(imag_DN)
        output = torch.randn(1 + bidirectional, width, len(real), 1 if init == "real" else 2)
        self.output_RDN2 = nn.Parameter(output * (0.5 if init == "real" else 0.5**0.5))
        self.skip_D = nn.Parameter(torch.randn(width))
        self.gate = nn.Linear(width, 2 * width)
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        output = self.output_RDN2
        mixed = s4d_convolution(
            x_BLD,
            mask_BL,
            step_D=self.log_step_D.exp(),
            real_DN=-self.log_decay_DN.exp(),
            imag_DN=self.imag_DN,
            output_RDN2=output if output.shape[-1] == 2 else F.pad(output, (0, 1)),
            skip_D=self.skip_D,
        )
        return F.glu(self.gate(self.dropout(F.gelu(mixed))), dim=-1)

    if TYPE_CHECKING:
        __call__ = forward
