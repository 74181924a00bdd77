"""Mega equals its recurrence and its slow attention, whole, in chunks and padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import mega as oracle
from oracles import rotary
from torch import Tensor, nn

from lra_bench.models.mega import MegaEncoder, damped_ema, laplace, mega_attention
from models.made_up import LENGTHS, assert_encodes_as, assert_same, make_spec, padded

MASK = torch.arange(11) < torch.tensor([11, 1, 6])[:, None]


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("num_directions", [1, 2])
@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
@pytest.mark.parametrize("length", [1, 2, 11])
def test_the_average_is_its_recurrence(
    num_directions: int, mask: Tensor | None, length: int
) -> None:
    shape = (num_directions, 3, 4)
    parts = {
        "gain_RDN": draw(*shape).sigmoid(),
        "damping_RDN": draw(*shape, 1)[..., 0].sigmoid(),
        "input_RDN": draw(1, *shape)[0],
        "output_RDN": draw(*shape) / 2,
    }
    shown = None if mask is None else mask[:, :length]

    def of(function: Any) -> Any:
        return lambda x, *rest: function(x, shown, **dict(zip(parts, rest, strict=True)))

    tensors = [x.clone().requires_grad_() for x in (draw(3, length, 3), *parts.values())]
    assert_same(
        of(damped_ema), of(oracle.damped_ema), tensors, None if shown is None else shown[..., None]
    )


def test_an_average_that_forgets_all_at_once_is_finite() -> None:
    ones = torch.ones(2, 3, 4, requires_grad=True)
    parts = dict.fromkeys(("gain_RDN", "damping_RDN", "input_RDN", "output_RDN"), ones)
    out = damped_ema(torch.ones(1, 9, 3), **parts)
    torch.testing.assert_close(out, torch.full((1, 9, 3), 4.0), atol=1e-4, rtol=0)
    out.sum().backward()
    assert ones.grad is not None
    assert ones.grad.isfinite().all()


@pytest.mark.parametrize("attention", ["softmax", "laplace"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "padded"])
@pytest.mark.parametrize("size", [1, 4, 11])
def test_attention_is_the_slow_one(attention: Any, mask: Tensor | None, size: int) -> None:
    tensors = [draw(3, 11, 4), 2 * draw(3, 11, 4, 1)[..., 0], draw(3, 11, 5), draw(size, size)]

    def of(function: Any) -> Any:
        return lambda query, key, value, bias: function(
            query, key, value, mask, bias_CC=bias, attention=attention
        )

    assert_same(
        of(mega_attention),
        of(oracle.mega_attention),
        [x.requires_grad_() for x in tensors],
        None if mask is None else mask[..., None],
    )


def test_the_laplace_function_meets_the_squared_relu() -> None:
    """In value and slope, at the root of a half."""
    x = torch.tensor(0.5**0.5, dtype=torch.float64, requires_grad=True)
    value = laplace(x)
    value.backward()
    assert value.item() == pytest.approx(0.5)
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(2 * 0.5**0.5)


def bias_of(part: Any, size: int) -> Tensor:
    """Return the table of a bias, entry by entry."""
    if hasattr(part, "by_distance"):
        middle = len(part.by_distance) // 2
        return torch.stack(
            [
                torch.stack([part.by_distance[middle + key - query] for key in range(size)])
                for query in range(size)
            ]
        )
    left, right = (rotary.turned(vector.repeat(size, 1)) for vector in part.vectors_2Z)
    return left @ right.T


@pytest.mark.parametrize(
    ("options", "norm_place"),
    [
        ({}, "pre"),
        ({"attention": "laplace", "bias": "rotary"}, "post"),
        ({"chunk_size": 4}, "post"),
        ({"chunk_size": 5, "attention": "laplace"}, "pre"),
    ],
)
def test_the_encoder_is_the_naive_one(options: dict[str, Any], norm_place: str) -> None:
    torch.manual_seed(0)
    spec = make_spec(norm_place=norm_place, positions="none")
    encoder = MegaEncoder(spec, ema_size=3, key_width=4, **options).double().eval()
    for weight in encoder.parameters():
        # Norms start at one, and biases at zero; then many a mistake would not show.
        nn.init.normal_(weight, std=0.5)
    assert_encodes_as(encoder, lambda tokens_L: oracle.encode(encoder, tokens_L, bias_of))


@pytest.mark.parametrize("norm", ["batch", "scale"])
def test_padding_changes_nothing_whatever_the_norm(norm: str) -> None:
    torch.manual_seed(0)
    tokens, mask = padded()
    encoder = MegaEncoder(make_spec(norm=norm), attention="laplace", chunk_size=4)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    states = encoder(tokens, mask)[mask]
    encoder.load_state_dict(before)
    narrow = slice(max(LENGTHS))
    changed = encoder(torch.where(mask, tokens, 1)[:, narrow], mask[:, narrow])
    torch.testing.assert_close(states, changed[mask[:, narrow]])


def test_it_has_as_many_parameters_as_the_paper_says() -> None:
    """A block by the formulas of section 3.2, of the sizes for ListOps."""
    width, keys, values, averages, longest = 80, 64, 160, 16, 100
    spec = make_spec(
        width=width, qkv_width=80, ffn_width=160, num_layers=1, positions="none", max_length=longest
    )
    encoder = MegaEncoder(spec)
    count = sum(parameter.numel() for parameter in encoder.layers.parameters())
    moving = 2 * 4 * width * averages + width
    # Z, the gates of reset and update, the candidate; V; the way out of the attention.
    linear = (width + 1) * (keys + values + 2 * width) + (width + 1) * values + (values + 1) * width
    forward = (width + 1) * 160 + 161 * width
    assert count == moving + linear + 4 * keys + 2 * longest - 1 + forward + 2 * 2 * width


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ema_size": 0}, "ema_size=0"),
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1, or null"),
        ({"bias": "rotary", "key_width": 5}, "key_width=5 must be even"),
    ],
)
def test_what_it_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MegaEncoder(make_spec(), **options)
