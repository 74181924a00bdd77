"""FAVOR+ equals its slow, obvious version, and comes near to softmax attention."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from oracles import attention as dense
from oracles import performer as oracles
from torch import Tensor

from lra_bench.models.performer import (
    PerformerAttention,
    orthogonal_directions,
    performer_attention,
)
from models.made_up import assert_same, make_spec, padded, some_heads


def directions_of(number: int, seed: int = 0, width: int = 4) -> Tensor:
    return orthogonal_directions(number, width, torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("kernel", ["softmax", "relu"])
@pytest.mark.parametrize("number", [1, 6, 9])
def test_it_is_the_naive_one(number: int, kernel: Any, is_padded: bool) -> None:
    mask = padded()[1]
    key_mask = mask if is_padded else None
    options: dict[str, Any] = {"directions_FK": directions_of(number), "kernel": kernel}
    assert_same(
        lambda q, k, v: performer_attention(q, k, v, key_mask, **options),
        lambda q, k, v: oracles.performer_attention(q, k, v, key_mask, **options),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


def test_more_features_come_nearer_to_softmax_attention() -> None:
    mask = padded()[1]
    q, k, v = (x.detach() for x in some_heads(mask.shape[1]))
    # The variance of a feature is exponential in the lengths of queries and keys.
    q, k = q / 2, k / 2
    exact = dense.dense_attention(q, k, v, mask)
    errors = []
    for number in (16, 256, 4096):
        draws = [
            performer_attention(q, k, v, mask, directions_FK=directions_of(number, seed))
            for seed in range(5)
        ]
        errors.append(
            torch.stack([(out - exact).movedim(2, 1)[mask].abs().mean() for out in draws]).mean()
        )
    # Of values with a deviation of one; sixteen times the features, about a quarter of the error.
    assert errors[-1] < 0.01
    for fewer, more in pairwise(errors):
        assert more < fewer / 2


def test_a_score_of_any_size_is_finite() -> None:
    q, k, v = (x.float() for x in some_heads(9))
    out = performer_attention(100 * q, 100 * k, v, directions_FK=directions_of(64).float())
    assert out.isfinite().all()
    nothing = torch.zeros(3, 9, dtype=torch.bool)
    out = performer_attention(q, k, v, nothing, directions_FK=directions_of(64).float())
    assert out.isfinite().all()


class TestDirections:
    def test_they_are_orthogonal_in_groups(self) -> None:
        directions = directions_of(11)
        assert directions.shape == (11, 4)
        for group in directions.split(4):
            products = group @ group.T
            off = products - products.diagonal().diag()
            torch.testing.assert_close(off, torch.zeros_like(off), atol=1e-5, rtol=0.0)

    def test_they_are_normal(self) -> None:
        directions = directions_of(40_000)
        # Five standard errors.
        assert directions.mean().abs() < 5 / 160_000**0.5
        assert abs(directions.var() - 1) < 5 * (2 / 160_000) ** 0.5
        assert abs(directions.pow(4).mean() - 3) < 5 * (96 / 160_000) ** 0.5


def mixer_of(seed: int = 0, **options: Any) -> PerformerAttention:
    torch.manual_seed(seed)
    return PerformerAttention(make_spec(), num_features=8, **options)


class TestTheDraw:
    def test_the_seed_decides(self) -> None:
        first, again, other = (mixer_of(seed).directions() for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_training_draws_anew_as_often_as_asked(self) -> None:
        x = torch.randn(1, 5, 12)
        mixer = mixer_of(redraw_every=2)
        seen = []
        for _ in range(6):
            mixer(x)
            seen.append(mixer.directions.drawn)
        same = [torch.equal(one, other) for one, other in pairwise(seen)]
        assert same == [True, False, True, False, True]
        mixer.eval()
        assert torch.equal(mixer(x), mixer(x))
        assert torch.equal(mixer.directions.drawn, seen[-1])
        never = mixer_of()
        before = never.directions.drawn
        for _ in range(3):
            never(x)
        assert torch.equal(never.directions.drawn, before)

    def test_two_passes_may_wait_for_their_gradient(self) -> None:
        mixer = mixer_of(redraw_every=1)
        x = torch.randn(1, 5, 12)
        (mixer(x) + mixer(x)).sum().backward()

    def test_a_state_dict_goes_on_where_it_was(self) -> None:
        one, other = mixer_of(0, redraw_every=3), mixer_of(1, redraw_every=3)
        x = torch.randn(1, 5, 12)
        for _ in range(4):
            one(x)
        other.load_state_dict(one.state_dict())
        for _ in range(5):
            assert torch.equal(one(x), other(x))

    def test_nobody_else_notices(self) -> None:
        mixer = mixer_of(redraw_every=1)
        x = torch.randn(1, 5, 12)
        before = torch.get_rng_state()
        mixer(x), mixer(x)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [{"num_features": 0}, {"redraw_every": -1}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be at least"):
        PerformerAttention(make_spec(), **wrong)


@pytest.mark.parametrize("kernel", ["softmax", "relu"])
def test_it_is_what_performer_pytorch_computes(kernel: Any) -> None:
    library = pytest.importorskip(
        "performer_pytorch.performer_pytorch", reason="needs performer-pytorch, extra oracle"
    )
    directions = directions_of(16)
    other = library.FastAttention(4, 16, generalized_attention=kernel == "relu").double()
    other.projection_matrix.copy_(directions)
    q, k, v = (x.detach() / 2 for x in some_heads(9))
    out = performer_attention(q, k, v, directions_FK=directions, kernel=kernel)
    # What it adds to every feature is another small number: 1e-4 to those of the softmax; and its
    # generalized attention divides queries and keys by the root of their root width instead.
    if kernel == "relu":
        scale = 4**-0.25 * 16**0.5
        out = performer_attention(q * scale, k * scale, v, directions_FK=directions, kernel=kernel)
    torch.testing.assert_close(out, other(q, k, v), atol=2e-3, rtol=0.0)
