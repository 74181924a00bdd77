"""S5 equals its recurrence, and starts where the paper says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import s4d as matrices
from oracles import s5 as oracle
from torch import Tensor

from lra_bench.models.s5 import CHUNK, S5, linear_scan, s5_scan
from models.made_up import assert_same, make_spec, padded


def system(num_directions: int, *, width: int = 3, pairs: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    return {
        "step_P": draw(pairs).exp() / 10,
        "real_P": -draw(pairs).exp(),
        "imag_P": 3 * draw(pairs),
        "input_PD2": draw(pairs, width, 2),
        "output_RDP2": draw(num_directions, width, pairs, 2),
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
    assert_same(of(s5_scan), of(oracle.s5_scan), [x.requires_grad_() for x in tensors], shown)


# Within a chunk, at its border, and over two and three rounds of chunks.
@pytest.mark.parametrize("length", [1, 5, CHUNK, CHUNK + 1, 3 * CHUNK - 5, CHUNK**2 + CHUNK + 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_scan_is_the_recurrence(length: int, reverse: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, length, 3, dtype=torch.complex128, generator=generator)
    real = -torch.rand(3, dtype=torch.float64, generator=generator) / 20
    log_decay = torch.complex(real, real * 30)
    # Two real inputs: what compares gradients draws weights for real numbers.
    parts = [torch.view_as_real(part).clone().requires_grad_() for part in (log_decay, x)]

    def ours(decay: Tensor, x: Tensor) -> Tensor:
        states = linear_scan(torch.view_as_complex(decay), *x.permute(3, 2, 0, 1), reverse=reverse)
        return torch.stack(states, dim=-1).permute(1, 2, 0, 3)

    def theirs(decay: Tensor, x: Tensor) -> Tensor:
        turned = torch.view_as_complex(x).flip(1) if reverse else torch.view_as_complex(x)
        states = oracle.linear_scan(torch.view_as_complex(decay), turned)
        return torch.view_as_real(states.flip(1) if reverse else states)

    assert_same(ours, theirs, parts)


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_recurrence(num_directions: int, is_padded: bool) -> None:
    mask = padded()[1]
    compare(mask.shape[1], num_directions, mask if is_padded else None)


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_every_length(length: int, num_directions: int) -> None:
    compare(length, num_directions, None)


def test_one_direction_sees_the_past_alone() -> None:
    parts = system(1)
    x = inputs(50)
    other = x.clone()
    other[:, 35] += 1.0
    difference = s5_scan(x, **parts) - s5_scan(other, **parts)
    assert difference[:, :35].abs().max() < 1e-12
    assert difference[:, 35:].abs().min() > 0


def test_a_state_that_would_grow_is_clipped() -> None:
    parts = system(1)
    clipped = parts | {"real_P": torch.full_like(parts["real_P"], -1e-4)}
    parts["real_P"] = torch.ones_like(parts["real_P"])
    x = inputs(300)
    torch.testing.assert_close(s5_scan(x, **parts), s5_scan(x, **clipped))


def test_long_sequences_in_single_precision() -> None:
    torch.manual_seed(0)
    layer = S5(make_spec(width=8))
    x = torch.randn(1, 4096, 8)
    with torch.no_grad():
        rough = layer(x)
        exact = layer.double()(x.double())
    assert float((rough - exact).abs().max() / exact.abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("output_init", "variance"),
    [
        ("fan_in", 1 / 8),
        ("lecun_normal", 2 / (8 * 400)),
        ("trunc_standard_normal", 2 / 8),
        ("complex_normal", 1.0),
    ],
)
def test_the_start_of_the_output(output_init: Any, variance: float) -> None:
    torch.manual_seed(0)
    layer = S5(make_spec(width=400), state_size=8, num_blocks=2, output_init=output_init)
    squares = torch.view_as_complex(layer.output_RDP2.detach()).abs().square()
    # 3,200 numbers: four standard errors are seven per cent.
    assert squares.mean().item() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("activation", ["half_glu1", "half_glu2"])
def test_what_the_gate_lets_through(activation: Any) -> None:
    torch.manual_seed(0)
    layer = S5(make_spec(), state_size=8, num_blocks=2, activation=activation).double().eval()
    x = torch.randn(1, 5, 12, dtype=torch.float64)
    mixed = s5_scan(
        x,
        step_P=layer.log_step_P.exp(),
        real_P=layer.real_P,
        imag_P=layer.imag_P,
        input_PD2=layer.input_PD2,
        output_RDP2=layer.output_RDP2,
        skip_D=layer.skip_D,
    )
    bent = torch.nn.functional.gelu(mixed)
    gate = 1 / (1 + torch.exp(-(bent @ layer.gate.weight.T + layer.gate.bias)))
    through = bent if activation == "half_glu1" else mixed
    torch.testing.assert_close(layer(x), through * gate)


def test_the_start_is_block_diagonal_hippo() -> None:
    torch.manual_seed(0)
    layer = S5(make_spec(), state_size=8, num_blocks=2)
    matrix = torch.block_diag(*[matrices.legs_matrix(4)] * 2)
    values = torch.complex(layer.real_P, layer.imag_P).detach()
    found = torch.cat((values, values.conj())).to(torch.complex128)
    wanted = torch.linalg.eigvals(matrix)
    # Every eigenvalue of the one is one of the other, as often.
    for one, other in ((found, wanted), (wanted, found)):
        assert (one[:, None] - other).abs().min(dim=1).values.max() < 1e-5
    assert layer.input_PD2.shape == (4, 12, 2)
    assert layer.output_RDP2.shape == (2, 12, 4, 2)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_option_learns_with_finite_gradients(bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = S5(make_spec(), bidirectional=bidirectional)
    layer(torch.randn(2, 70, 12)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_size": 7}, "state_size=7 must be a multiple of twice num_blocks=4"),
        ({"state_size": 12}, "state_size=12 must be a multiple of twice num_blocks=4"),
        ({"num_blocks": 0}, "state_size=64 must be a multiple of twice num_blocks=0"),
        ({"min_step": 0.0}, r"min_step=0\.0 must be above 0"),
        ({"min_step": 0.5, "max_step": 0.1}, r"min_step=0\.5 .* at most max_step=0\.1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        S5(make_spec(), **options)


def test_a_class_token_needs_both_directions() -> None:
    S5(make_spec(has_cls=True))
    with pytest.raises(ValueError, match=r"choose bidirectional=true or head\.pooling=mean"):
        S5(make_spec(has_cls=True), bidirectional=False)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_it_is_what_s5_pytorch_computes(bidirectional: bool) -> None:
    library = pytest.importorskip("s5", reason="needs s5-pytorch, extra oracle")
    torch.manual_seed(0)
    other = library.S5(3, state_width=8, bidir=bidirectional).seq
    # It takes the real part of C h once, and ours twice, for both of each pair of conjugates.
    output = torch.stack((other.C / 2).chunk(1 + bidirectional, dim=1))
    x = torch.randn(2, 70, 3)
    out = s5_scan(
        x,
        step_P=other.log_step.exp().flatten(),
        real_P=other.Lambda.real,
        imag_P=other.Lambda.imag,
        input_PD2=other.B,
        output_RDP2=torch.view_as_real(output),
        skip_D=other.D,
    )
    expected = torch.stack([other(row) for row in x])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
