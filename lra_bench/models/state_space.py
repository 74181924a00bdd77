"""What state space models share: where they start, and what they refuse; and quick transforms.

Shapes: N states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec


def hippo_normal(state_size: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of the normal part of HiPPO-LegS, half of each.

    That matrix plus its rank-one part is -1/2 on the diagonal plus an antisymmetric matrix, whose
    entries below the diagonal are -sqrt((2n + 1) (2k + 1)) / 2.

    Returns:
        Of each pair of conjugates the one above the real axis: the values rising, (N / 2,), and
        the vectors, (N, N / 2); complex, in double precision.

    Source: arXiv 2206.11893, section 4 (S4D-LegS), and arXiv 2208.04933, appendix B.
    """
    root = (2 * torch.arange(state_size, dtype=torch.float64) + 1).sqrt()
    below = torch.tril(root[:, None] * root, diagonal=-1) / 2
    turning = torch.complex(torch.zeros_like(below), below - below.T)
    frequencies, vectors = torch.linalg.eigh(turning)
    half = state_size // 2
    imag = frequencies[half:]
    return torch.complex(torch.full_like(imag, -0.5), imag), vectors[:, half:]


def exp_minus_one(real: Tensor, imag: Tensor) -> Tensor:
    """Return exp - 1 of complex numbers, however small; an input held over a step is that over A.

    Taking 1 away at the end would cost three digits at the shortest steps.
    """
    part = real.expm1() * imag.cos() - 2 * (imag / 2).sin().square()
    return torch.complex(part, real.exp() * imag.sin())


def fast_length(least: int) -> int:
    """Return the next length that has no prime factor above 5: transforms of such are quick."""
    best = 1 << (least - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            quotient = -(-least // three)
            best = min(best, three << (quotient - 1).bit_length())
            three *= 3
        five *= 5
    return best


def draw_log_steps(number: int, min_step: float, max_step: float) -> nn.Parameter:
    """Return logarithms of steps between two, drawn uniformly.

    Raises:
        ValueError: There is nothing between the two.
    """
    if not 0 < min_step <= max_step:
        raise ValueError(f"min_step={min_step} must be above 0 and at most max_step={max_step}")
    low, high = math.log(min_step), math.log(max_step)
    return nn.Parameter(low + torch.rand(number) * (high - low))


def refuse_blind_class_token(spec: EncoderSpec, bidirectional: bool) -> None:
    """Refuse to read an answer in front that only the past reaches, at the class or first token.

    Raises:
        ValueError: The model is causal and the answer is read there.
    """
    if (spec.has_cls or spec.reads_first) and not bidirectional:
        token = "class token, which comes first," if spec.has_cls else "first token"
        raise ValueError(
            f"bidirectional=false lets the {token} see nothing else, and the answer is read there; "
            "choose bidirectional=true or head.pooling=mean"
        )
