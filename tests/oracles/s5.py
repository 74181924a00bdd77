"""The slow, obvious version of a state space with many inputs: a step at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_scan(log_decay_P: Tensor, inputs_BLP: Tensor) -> Tensor:
    decay = log_decay_P.exp()
    state = torch.zeros_like(inputs_BLP[:, 0])
    states = []
    for place in range(inputs_BLP.shape[1]):
        state = decay * state + inputs_BLP[:, place]
        states.append(state)
    return torch.stack(states, dim=1)


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
    # With both of each pair of conjugates.
    half = torch.complex(real_P, imag_P)
    diagonal = torch.cat((half, half.conj()))
    step = torch.cat((step_P, step_P))
    weight = torch.complex(input_PD2[..., 0], input_PD2[..., 1])
    weight = torch.cat((weight, weight.conj()))
    decay = torch.exp(diagonal * step)
    held = ((decay - 1) / diagonal)[:, None] * weight
    output = torch.complex(output_RDP2[..., 0], output_RDP2[..., 1])
    output = torch.cat((output, output.conj()), dim=-1)
    out = []
    for row in range(len(x_BLD)):
        length = x_BLD.shape[1]
        size = length if mask_BL is None else int(mask_BL[row].sum())
        states = [skip_D * x_BLD[row, place] for place in range(size)]
        for direction, matrix in enumerate(output):
            state = torch.zeros_like(diagonal)
            for place in reversed(range(size)) if direction else range(size):
                state = decay * state + held @ x_BLD[row, place].to(held.dtype)
                read = matrix @ state
                assert float(read.imag.detach().abs().max()) < 1e-9
                states[place] = states[place] + read.real
        rest = x_BLD.new_zeros(length - size, x_BLD.shape[2])
        out.append(torch.cat((torch.stack(states), rest)))
    return torch.stack(out)
