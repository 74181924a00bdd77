"""The slow, obvious version of a diagonal state space: a step at a time."""

from __future__ import annotations

import torch
from torch import Tensor


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
    diagonal = torch.complex(real_DN, imag_DN)
    decay = torch.exp(step_D[:, None] * diagonal)
    held = (decay - 1) / diagonal
    outputs = torch.complex(output_RDN2[..., 0], output_RDN2[..., 1])
    out = []
    for row in range(len(x_BLD)):
        length = x_BLD.shape[1]
        size = length if mask_BL is None else int(mask_BL[row].sum())
        states = [x_BLD[row, place] * skip_D for place in range(size)]
        state = torch.zeros_like(diagonal)
        for place in range(size):
            state = decay * state + held * x_BLD[row, place][:, None]
            states[place] = states[place] + 2 * (outputs[0] * state).real.sum(-1)
        if len(outputs) == 2:
            state = torch.zeros_like(diagonal)
            for place in reversed(range(size)):
                # What a position gets from the right does not contain itself.
                states[place] = states[place] + 2 * (outputs[1] * state).real.sum(-1)
                state = decay * state + held * x_BLD[row, place][:, None]
        rest = x_BLD.new_zeros(length - size, x_BLD.shape[2])
        out.append(torch.cat((torch.stack(states), rest)))
    return torch.stack(out)


def legs_matrix(state_size: int) -> Tensor:
    """Return HiPPO-LegS plus its rank-one part, (N, N), entry by entry."""
    rows = []
    for n in range(state_size):
        row = []
        for k in range(state_size):
            root = float((2 * n + 1) * (2 * k + 1)) ** 0.5
            legs = -root if n > k else -(n + 1.0) if n == k else 0.0
            row.append(legs + root / 2)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)
