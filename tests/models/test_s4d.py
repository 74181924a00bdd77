"""Diagonal state spaces equal their recurrence, and start where the paper says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracles import s4d as oracle
from torch import Tensor

from lra_bench.models.s4d import (
    S4D,
    Init,
    poles,
    s4d_convolution,
    s4d_kernel,
)
from lra_bench.models.state_space import fast_length, hippo_normal
from models.made_up import assert_same, make_spec, padded


def system(num_directions: int, *, width: int = 3, states: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    return {
        "step_D": draw(width).exp() / 10,
        "real_DN": -draw(width, states).exp(),
        "imag_DN": 3 * draw(width, states),
        "output_RDN2": draw(num_directions, width, states, 2),
        "skip_D": draw(width),
    }


def inputs(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(3, length, 3, dtype=torch.float64, generator=generator)


def compare(length: int, num_directions: int, mask: Tensor | None) -> None:
    parts = system(num_directions)
    tensors = [inputs(length), *parts.values()]

    def of(function: Any) -> Any:
        return lambda x, *rest: function(x, mask, **dict(zip(parts, rest, strict=True)))

    shown = None if mask is None else mask[..., None]
    assert_same(
        of(s4d_convolution),
        of(oracle.s4d_convolution),
        [x.requires_grad_() for x in tensors],
        shown,
    )


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_recurrence(num_directions: int, is_padded: bool) -> None:
    mask = padded()[1]
    compare(mask.shape[1], num_directions, mask if is_padded else None)


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 17, 50])
def test_every_length(length: int, num_directions: int) -> None:
    compare(length, num_directions, None)


def test_one_direction_sees_the_past_alone() -> None:
    parts = system(1)
    x = inputs(20)
    other = x.clone()
    other[:, 12] += 1.0
    difference = s4d_convolution(x, **parts) - s4d_convolution(other, **parts)
    assert difference[:, :12].abs().max() < 1e-12
    assert difference[:, 12:].abs().min() > 0


@pytest.mark.parametrize("init", ["lin", "inv", "legs", "real"])
def test_the_kernel_is_right_in_single_precision(init: Init) -> None:
    torch.manual_seed(0)
    layer = S4D(make_spec(width=16), init=init)
    output = layer.output_RDN2.detach()
    if init == "real":
        output = torch.nn.functional.pad(output, (0, 1))
    exact, rough = (
        s4d_kernel(
            layer.log_step_D.detach().to(dtype).exp(),
            -layer.log_decay_DN.detach().to(dtype).exp(),
            layer.imag_DN.detach().to(dtype),
            output.to(dtype),
            length=4096,
        )
        for dtype in (torch.float64, torch.float32)
    )
    assert float((exact - rough).abs().max() / exact.abs().max()) < 1e-4


@pytest.mark.parametrize("init", ["lin", "inv", "legs", "real"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_option_learns_with_finite_gradients(init: Init, bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = S4D(make_spec(), init=init, bidirectional=bidirectional)
    layer(torch.randn(2, 30, 12)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert ("imag_DN" in dict(layer.named_parameters())) == (init != "real")


def test_starts_of_the_diagonal() -> None:
    lin, inv, real = poles("lin", 8), poles("inv", 8), poles("real", 8)
    assert lin.real.tolist() == inv.real.tolist() == [-0.5] * 4
    torch.testing.assert_close(lin.imag, torch.tensor([0, 1, 2, 3.0]) * math.pi)
    wanted = [8 / math.pi * (8 / odd - 1) for odd in (1, 3, 5, 7)]
    torch.testing.assert_close(inv.imag, torch.tensor(wanted))
    assert real.real.tolist() == [-1, -2, -3, -4, -5, -6, -7, -8]
    assert not real.imag.any()


@pytest.mark.parametrize("state_size", [2, 8, 64])
def test_legs_starts_at_the_eigenvalues_of_its_normal_part(state_size: int) -> None:
    matrix = oracle.legs_matrix(state_size)
    values = torch.linalg.eigvals(matrix)
    torch.testing.assert_close(values.real, torch.full_like(values.real, -0.5))
    above = values.imag[values.imag > 0].sort().values
    real, imag = poles("legs", state_size)
    torch.testing.assert_close(imag, above.float())
    assert (real == -0.5).all()

    starts, vectors = hippo_normal(state_size)
    complex_matrix = matrix.to(vectors.dtype)
    torch.testing.assert_close(complex_matrix @ vectors, vectors * starts, atol=1e-9, rtol=1e-9)
    eye = torch.eye(state_size // 2, dtype=vectors.dtype)
    torch.testing.assert_close(vectors.mH @ vectors, eye, atol=1e-9, rtol=0)


def test_fast_lengths_have_small_factors() -> None:
    for least in [*range(1, 300), 4094, 8001]:
        length = fast_length(least)
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        assert rest == 1
        assert least <= length <= 2 * least


def test_steps_are_within_their_range() -> None:
    step = S4D(make_spec(width=512), min_step=0.01, max_step=0.5).log_step_D.exp()
    assert 0.01 <= step.min() < 0.02
    assert 0.4 < step.max() <= 0.5001


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_size": 3}, "state_size=3 must be even"),
        ({"init": "random"}, "init='random' must be lin, inv, legs or real"),
        ({"min_step": 0.0}, "min_step=0.0 must be above 0"),
        ({"min_step": 0.5, "max_step": 0.1}, "min_step=0.5 .* at most max_step=0.1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        S4D(make_spec(), **options)


def test_a_class_token_needs_both_directions() -> None:
    S4D(make_spec(has_cls=True))
    with pytest.raises(ValueError, match=r"choose bidirectional=true or head\.pooling=mean"):
        S4D(make_spec(has_cls=True), bidirectional=False)
