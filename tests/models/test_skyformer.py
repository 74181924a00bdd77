"""Kernelized attention equals its slow, obvious version, and tends to what it approximates."""

from __future__ import annotations

import pytest
import torch
from oracles import skyformer as oracle

from lra_bench.models.skyformer import SkyformerAttention, skyformer_attention
from models.made_up import assert_same, make_spec, padded, smooth_heads, some_heads


def draws(number: int, seed: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(number, dtype=torch.float64, generator=generator)
        for name in ("query_draws_M", "key_draws_M")
    }


@pytest.mark.parametrize("half", [1, 3, 7, 40])
@pytest.mark.parametrize("num_iterations", [0, 1, 6])
@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_naive_one(half: int, num_iterations: int, is_padded: bool) -> None:
    mask = padded()[1]
    given = mask if is_padded else None
    places = draws(half)
    assert_same(
        lambda q, k, v: skyformer_attention(
            q, k, v, given, **places, num_iterations=num_iterations, ridge=0.1
        ),
        lambda q, k, v: oracle.skyformer_attention(
            q, k, v, given, **places, num_iterations=num_iterations, ridge=0.1
        ),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("length", [1, 2, 31])
def test_every_length(length: int) -> None:
    places = draws(8)
    assert_same(
        lambda q, k, v: skyformer_attention(q, k, v, **places, num_iterations=6, ridge=0.1),
        lambda q, k, v: oracle.skyformer_attention(q, k, v, **places, num_iterations=6, ridge=0.1),
        some_heads(length),
    )


def error(half: int, *, ridge: float, num_iterations: int = 30) -> float:
    q, k, v = smooth_heads(48)
    wanted = oracle.kernelized_attention(q, k, v)
    found = skyformer_attention(q, k, v, **draws(half), num_iterations=num_iterations, ridge=ridge)
    return float((found - wanted).norm() / wanted.norm())


def test_it_tends_to_the_exact_kernel() -> None:
    """With every row a landmark only the ridge and the inverse are left to approximate."""
    errors = [error(half, ridge=1e-9) for half in (2, 8, 24, 48)]
    for found, most in zip(errors, (1.0, 0.05, 1e-4, 1e-6), strict=True):
        assert found < most


def test_a_smaller_ridge_is_closer() -> None:
    errors = [error(48, ridge=ridge) for ridge in (1.0, 0.1, 1e-3, 1e-6)]
    assert errors == sorted(errors, reverse=True)


def test_draws_belong_to_the_layer() -> None:
    torch.manual_seed(0)
    one, same = SkyformerAttention(make_spec()), SkyformerAttention(make_spec())
    torch.manual_seed(0)
    again = SkyformerAttention(make_spec())
    x = torch.randn(2, 300, 12)
    state = torch.get_rng_state()
    assert torch.equal(one(x), one(x))
    assert torch.equal(one(x), again(x))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(one.query_draws_M, same.query_draws_M)
    # What is restored from a checkpoint draws the same landmarks.
    same.load_state_dict(one.state_dict())
    assert torch.equal(one(x), same(x))


def test_what_stands_in_padding_may_be_anything() -> None:
    mask = padded()[1]
    q, k, v = (x.detach() for x in some_heads(mask.shape[1]))
    hidden = ~mask[:, None, :, None]
    places = draws(4)
    clean = skyformer_attention(q, k, v, mask, **places, num_iterations=6, ridge=0.1)
    q, k, v = (x.masked_fill(hidden, 1e6) for x in (q, k, v))
    dirty = skyformer_attention(q, k, v, mask, **places, num_iterations=6, ridge=0.1)
    shown = mask[:, None, :, None].expand_as(clean)
    torch.testing.assert_close(clean[shown], dirty[shown])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_landmarks": 3}, "num_landmarks=3 must be even"),
        ({"num_landmarks": 0}, "num_landmarks=0 must be even and at least 2"),
        ({"num_iterations": -1}, "num_iterations=-1 must be at least 0"),
        ({"ridge": 0.0}, r"ridge=0.0 above 0"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SkyformerAttention(make_spec(), **options)
