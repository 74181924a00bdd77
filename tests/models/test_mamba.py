"""Selective state spaces equal their recurrence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import mamba as oracle
from torch import Tensor, nn

from lra_bench.models.mamba import CHUNK, RADIX, Mamba, scan_, selective_scan
from models.made_up import LENGTHS, assert_same, make_spec, padded


def draw(*shape: int, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("length", [*range(1, 3 * RADIX), 63, 64, 65, RADIX**2 + RADIX + 3, 600])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_scan_is_the_recurrence(length: int, reverse: bool) -> None:
    decay, values = draw(2, length, 3, seed=1), draw(2, length, 3)
    state = torch.zeros(2, 3, dtype=torch.float64)
    wanted = torch.empty_like(values)
    for place in reversed(range(length)) if reverse else range(length):
        state = decay[:, place] * state + values[:, place]
        wanted[:, place] = state
    scan_(decay, values, reverse=reverse)
    torch.testing.assert_close(values, wanted)


def inputs(length: int) -> list[Tensor]:
    tensors = [
        draw(2, length, 3, seed=1),
        draw(2, length, 3, seed=2).exp() / 3,
        -draw(3, 4, seed=3).exp(),
        draw(2, length, 4, seed=4),
        draw(2, length, 4, seed=5),
    ]
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("length", [1, 2, 7, 9, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 13])
def test_it_is_the_recurrence(length: int) -> None:
    assert_same(selective_scan, oracle.selective_scan, inputs(length))


def test_large_steps_and_decays_stay_finite() -> None:
    x, step, real, weight_in, weight_out = (part.detach().float() for part in inputs(200))
    parts = [x, step * 1e3, real * 1e3, weight_in, weight_out]
    parts = [part.requires_grad_() for part in parts]
    selective_scan(*parts).sum().backward()
    for part in parts:
        assert part.grad is not None
        assert part.grad.isfinite().all()


def test_long_sequences_in_single_precision() -> None:
    parts = [part.detach() for part in inputs(4096)]
    exact = selective_scan(*parts)
    rough = selective_scan(*(part.float() for part in parts))
    assert float((rough - exact).abs().max() / exact.abs().max()) < 1e-5


def weights_of(direction: Any) -> oracle.Direction:
    return oracle.Direction(
        direction.convolution.weight,
        direction.convolution.bias,
        direction.selection.weight,
        direction.steps.weight,
        direction.steps.bias,
        -direction.log_decay_EN.exp(),
        direction.skip_E,
    )


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 4])
def test_the_block_is_the_naive_one(kernel_size: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    mixer = Mamba(
        make_spec(width=20), state_size=3, kernel_size=kernel_size, bidirectional=bidirectional
    ).double()
    for weight in mixer.parameters():
        # Far below where PyTorch rounds a softplus to its argument.
        nn.init.normal_(weight, std=0.3)
    x = draw(*mask.shape, 20).requires_grad_()

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        directions = [weights_of(direction) for direction in mixer.directions]
        rows = [
            oracle.block(row[:length], mixer.into.weight, mixer.out.weight, directions)
            for row, length in zip(x_BLD, LENGTHS, strict=True)
        ]
        return nn.utils.rnn.pad_sequence([*rows, x_BLD[0]], batch_first=True)[:-1]

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, mask), slow, [x, *mixer.parameters()], mask[..., None]
    )


def test_one_direction_sees_the_past_alone() -> None:
    torch.manual_seed(0)
    mixer = Mamba(make_spec(), bidirectional=False)
    x = torch.randn(1, 20, 12)
    other = x.clone()
    other[:, 12] += 1.0
    difference = (mixer(x) - mixer(other)).abs().sum(-1)[0]
    assert not difference[:12].any()
    assert (difference[12:] > 0).all()


def test_steps_start_within_their_range() -> None:
    torch.manual_seed(0)
    mixer = Mamba(make_spec(width=256))
    directions: Any = mixer.directions
    step = nn.functional.softplus(directions[0].steps.bias)
    assert 0.00099 < step.min() < 0.002
    assert 0.05 < step.max() < 0.1001


@pytest.mark.parametrize("option", ["state_size", "expansion", "kernel_size"])
def test_wrong_options_are_refused(option: str) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(ValueError, match=f"{option}=0.* must be at least 1"):
        Mamba(make_spec(), **options)


def test_a_class_token_needs_both_directions() -> None:
    Mamba(make_spec(has_cls=True))
    with pytest.raises(ValueError, match=r"choose bidirectional=true or head\.pooling=mean"):
        Mamba(make_spec(has_cls=True), bidirectional=False)


def test_it_is_what_mambapy_computes() -> None:
    library = pytest.importorskip("mambapy.mamba", reason="needs mambapy, extra oracle")
    width, states, length = 6, 3, CHUNK + 5
    other = library.MambaBlock(library.MambaConfig(d_model=4, n_layers=1))
    inputs = [
        draw(2, length, width),
        draw(2, length, width, seed=3).exp() / 10,
        -draw(width, states, seed=4).exp(),
        draw(2, length, states, seed=5),
        draw(2, length, states, seed=6),
    ]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    no_skip = torch.zeros(width, dtype=torch.float64)
    assert_same(selective_scan, lambda *given: other.selective_scan(*given, no_skip), inputs)
