"""The slow, obvious version of a selective state space and of the block around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def selective_scan(
    x_BLE: Tensor, step_BLE: Tensor, real_EN: Tensor, input_BLN: Tensor, output_BLN: Tensor
) -> Tensor:
    state = torch.zeros_like(real_EN).expand(len(x_BLE), -1, -1)
    out = []
    for place in range(x_BLE.shape[1]):
        step = step_BLE[:, place, :, None]
        fed = step * x_BLE[:, place, :, None] * input_BLN[:, place, None]
        state = torch.exp(step * real_EN) * state + fed
        out.append((state * output_BLN[:, place, None]).sum(-1))
    return torch.stack(out, dim=1)


@dataclass(frozen=True)
class Direction:
    """The short convolution, what the token selects, the steps, the diagonal and the skip."""

    kernel: Tensor
    kernel_bias: Tensor
    selection: Tensor
    steps: Tensor
    steps_bias: Tensor
    real_EN: Tensor
    skip_E: Tensor


def block(x_LD: Tensor, into: Tensor, out: Tensor, directions: Sequence[Direction]) -> Tensor:
    """Return what the block adds to one sequence without padding, (L, D)."""
    x_LE, gate_LE = (x_LD @ into.T).chunk(2, dim=-1)
    total = torch.zeros_like(x_LE)
    for number, direction in enumerate(directions):
        given = x_LE.flip(0) if number else x_LE
        mixed = _one_way(given, direction)
        total = total + (mixed.flip(0) if number else mixed)
    return (total * gate_LE * torch.sigmoid(gate_LE)) @ out.T


def _one_way(x_LE: Tensor, weights: Direction) -> Tensor:
    size = weights.kernel.shape[-1]
    rows = []
    for place in range(len(x_LE)):
        row = weights.kernel_bias
        for back in range(min(size, place + 1)):
            row = row + weights.kernel[:, 0, size - 1 - back] * x_LE[place - back]
        rows.append(row * torch.sigmoid(row))
    x_LE = torch.stack(rows)
    selected = x_LE @ weights.selection.T
    states, rank = weights.real_EN.shape[1], weights.steps.shape[1]
    step_LE = torch.log1p(torch.exp(selected[:, :rank] @ weights.steps.T + weights.steps_bias))
    mixed = selective_scan(
        x_LE[None],
        step_LE[None],
        weights.real_EN,
        selected[None, :, rank : rank + states],
        selected[None, :, rank + states :],
    )
    return mixed[0] + x_LE * weights.skip_E
