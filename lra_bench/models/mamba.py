"""Mamba: a state space whose steps, inputs and outputs depend on the token.

Shapes: B batch, L length, D width, E inner width, N states a feature, X states of all features
(E * N), R rank of the steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec, KernelPart, Mixer
from lra_bench.models.precision import in_full_precision, uncompiled
from lra_bench.models.state_space import draw_log_steps, refuse_blind_class_token

# Positions whose states are held at once. The states of a whole sequence would be N times as large
# as its features; going backward, they are computed again.
CHUNK = 64

# Positions that one round of a scan takes together.
RADIX = 8


@uncompiled
@in_full_precision
def selective_scan(
    x_BLE: Tensor, step_BLE: Tensor, real_EN: Tensor, input_BLN: Tensor, output_BLN: Tensor
) -> Tensor:
    """Run a state space that changes from position to position, from left to right.

    h(t) = exp(step(t) A) h(t - 1) + step(t) B(t) x(t); what is returned is C(t) h(t). Where the
    step is zero, the states stay as they are and the input has no influence.

    Args:
        x_BLE: Inputs.
        step_BLE: Length of each step, not negative.
        real_EN: The diagonal (A), negative.
        input_BLN: Weights of the inputs (B).
        output_BLN: Weights of the states (C).

    Returns:
        (B, L, E).
    """
    inputs = (x_BLE, step_BLE, real_EN, input_BLN, output_BLN)
    out_BLE: Tensor = _SelectiveScan.apply(*inputs)  # type: ignore[no-untyped-call]
    return out_BLE


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, real: Tensor, weight_in: Tensor, weight_out: Tensor
    ) -> Tensor:
        before = x.new_zeros(len(x), *real.shape)
        starts, out = [], []
        for first in range(0, x.shape[1], CHUNK):
            part = slice(first, first + CHUNK)
            starts.append(before)
            _, states = _states(x[:, part], step[:, part], real, weight_in[:, part], before)
            before = states[:, -1].clone()
            out.append(states.mul_(weight_out[:, part, None]).sum(dim=-1))
        ctx.save_for_backward(x, step, real, weight_in, weight_out, *starts)
        return torch.cat(out, dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        x, step, real, weight_in, weight_out, *starts = ctx.saved_tensors
        grad_real = torch.zeros_like(real)
        grad_x, grad_step, grad_in, grad_out = (
            torch.empty_like(tensor) for tensor in (x, step, weight_in, weight_out)
        )
        # What the chunk to the right tells the last states of this one.
        after = torch.zeros_like(starts[0])
        for number in reversed(range(len(starts))):
            part = slice(number * CHUNK, (number + 1) * CHUNK)
            own = (x[:, part], step[:, part], real, weight_in[:, part])
            decay, states = _states(*own, starts[number])
            grad = grads[0][:, part]
            grad_out[:, part] = (grad[:, :, None] @ states)[:, :, 0]
            grad_states = grad[..., None] * weight_out[:, part, None]
            grad_states[:, -1] += after
            # Going back, a state passes on what the next step left of it.
            scan_(_shifted(decay), grad_states, reverse=True)
            after = decay[:, 0] * grad_states[:, 0]

            # Sums of products; a small matrix product for each position takes longer, but for one.
            fed = (grad_states * weight_in[:, part, None]).sum(dim=-1)
            grad_x[:, part] = fed * step[:, part]
            scaled = (x[:, part] * step[:, part])[:, :, None]
            grad_in[:, part] = (scaled @ grad_states)[:, :, 0]
            # Times the states before, decayed: the derivative by the logarithm of the decay.
            decay[:, 1:] *= states[:, :-1]
            decay[:, 0] *= starts[number]
            grad_log = decay.mul_(grad_states)
            grad_step[:, part] = fed * x[:, part] + (grad_log * real).sum(dim=-1)
            grad_real += grad_log.mul_(step[:, part, :, None]).flatten(0, 1).sum(dim=0)
        return grad_x, grad_step, grad_real, grad_in, grad_out


def _states(
    x: Tensor, step: Tensor, real: Tensor, weight_in: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """Return decays and states of a chunk, (B, L, E, N) each, given the states before it."""
    decay = (step[..., None] * real).exp_()
    states = (step * x)[..., None] * weight_in[:, :, None]
    states[:, 0].addcmul_(decay[:, 0], before)
    scan_(decay.clone(), states)
    return decay, states


def _shifted(decay: Tensor) -> Tensor:
    """Return the decay of the next position at each; the last one's is not used."""
    return torch.cat((decay[:, 1:], decay[:, -1:]), dim=1)


def scan_(decay: Tensor, values: Tensor, *, reverse: bool = False) -> None:
    """Put h(t) = decay(t) h(t - 1) + value(t) in the place of the values; spoils the decays.

    A tree whose nodes have eight branches: the places within a node one after another, but those
    of all nodes of a level at once; then the last ones of the nodes are scanned in the same way,
    and what comes of it goes back to the places. The rounds grow with the logarithm of the length,
    the work with the length.

    Args:
        decay: (B, L, ...).
        values: (B, L, ...).
        reverse: From right to left: h(t) = decay(t) h(t + 1) + value(t).
    """
    length = values.shape[1]
    size = min(RADIX, length)
    whole = length - length % size
    places = range(size - 1, -1, -1) if reverse else range(size)
    nodes = [tensor[:, :whole].unflatten(1, (-1, size)) for tensor in (decay, values)]
    decays, sums = nodes
    for before, here in itertools.pairwise(places):
        sums[:, :, here].addcmul_(decays[:, :, here], sums[:, :, before])
        decays[:, :, here].mul_(decays[:, :, before])
    last = places[-1]
    # The rest, fewer places than a node has, comes last; from the right, it comes first.
    rest = range(length - 1, whole - 1, -1) if reverse else range(whole, length)
    if reverse:
        for here in rest[1:]:
            values[:, here].addcmul_(decay[:, here], values[:, here + 1])
        if rest:
            sums[:, -1].addcmul_(decays[:, -1], values[:, whole, None])
    num_nodes = sums.shape[1]
    if num_nodes > 1:
        giving, taking = (slice(1, None), slice(-1)) if reverse else (slice(-1), slice(1, None))
        carried = sums[:, giving, last].clone()
        scan_(decays[:, giving, last].clone(), carried, reverse=reverse)
        sums[:, taking].addcmul_(decays[:, taking], carried[:, :, None])
    if not reverse:
        for here in rest:
            values[:, here].addcmul_(decay[:, here], values[:, here - 1])


class _Direction(nn.Module):
    """What a direction has of its own: a short convolution, and the state space."""

    kernel_parts: Mapping[str, KernelPart] = {"log_decay_EN": "diagonal"}

    def __init__(self, width: int, *, step_rank: int, state_size: int, kernel_size: int) -> None:
        super().__init__()
        self.sizes = (step_rank, state_size, state_size)
        self.convolution = nn.Conv1d(
            width, width, kernel_size, groups=width, padding=kernel_size - 1
        )
        self.selection = nn.Linear(width, sum(self.sizes), bias=False)
        self.steps = nn.Linear(step_rank, width)
        bound = step_rank**-0.5
        nn.init.uniform_(self.steps.weight, -bound, bound)
        step = draw_log_steps(width, 0.001, 0.1).detach().exp()
        # Where softplus gives the step.
        self.steps.bias.data.copy_(step + torch.log(-torch.expm1(-step)))
        start = torch.arange(1.0, state_size + 1).log()
        self.log_decay_EN = nn.Parameter(start.expand(width, -1).clone())
        self.skip_E = nn.Parameter(torch.ones(width))

    def forward(self, x_BLE: Tensor, mask_BL: Tensor | None) -> Tensor:
        length = x_BLE.shape[1]
        x_BLE = F.silu(self.convolution(x_BLE.mT)[..., :length].mT)
        rank_BLR, input_BLN, output_BLN = self.selection(x_BLE).split(self.sizes, dim=-1)
        step_BLE = F.softplus(self.steps(rank_BLR))
        if mask_BL is not None:
            step_BLE = step_BLE * mask_BL[..., None]
        mixed: Tensor = selective_scan(
            x_BLE, step_BLE, -self.log_decay_EN.exp(), input_BLN, output_BLN
        )
        return mixed + x_BLE * self.skip_E

    if TYPE_CHECKING:
        __call__ = forward


class Mamba(Mixer):
    """A gated block around a selective state space.

    The part that mixes features is inside: layers need no feed-forward part beside it.

    Args:
        spec: Sizes; heads and their width are not used.
        state_size: States a feature (N).
        expansion: Inner width over the width of the states (E / D).
        kernel_size: Positions that the short convolution sees.
        bidirectional: Let a second state space run from the right, and add what both give;
            otherwise a position sees the past alone.

    Source: arXiv 2312.00752, algorithm 2 (the selective state space: zero-order hold of A, B times
    the step) and section 3.4 (the block); the start of steps and decays as in section 3.6 and the
    released code. Two directions: arXiv 2401.09417, algorithm 1, each with its own convolution and
    state space between shared projections.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        state_size: int = 16,
        expansion: int = 2,
        kernel_size: int = 4,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        if min(state_size, expansion, kernel_size) < 1:
            raise ValueError(
                f"state_size={state_size}, expansion={expansion} and kernel_size={kernel_size} "
                "must be at least 1"
            )
        refuse_blind_class_token(spec, bidirectional)
        inner = expansion * spec.width
        self.into = nn.Linear(spec.width, 2 * inner, bias=False)
        self.directions = nn.ModuleList(
            _Direction(
                inner,
                step_rank=math.ceil(spec.width / 16),
                state_size=state_size,
                kernel_size=kernel_size,
            )
            for _ in range(1 + bidirectional)
        )
        self.out = nn.Linear(inner, spec.width, bias=False)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        if mask_BL is not None:
            # The convolution from the right would see padding.
            x_BLD = x_BLD.masked_fill(~mask_BL[..., None], 0.0)
        x_BLE, gate_BLE = self.into(x_BLD).chunk(2, dim=-1)
        forward, *backward = self.directions
        mixed = forward(x_BLE, mask_BL)
        for direction in backward:
            turned = None if mask_BL is None else mask_BL.flip(1)
            mixed = mixed + direction(x_BLE.flip(1), turned).flip(1)
        out_BLD: Tensor = self.out(mixed * F.silu(gate_BLE))
        return out_BLD

    if TYPE_CHECKING:
        __call__ = forward
