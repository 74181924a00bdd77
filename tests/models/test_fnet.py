"""Fourier mixing equals its slow, obvious version."""

from __future__ import annotations

import pytest
import torch
from oracles import fnet as oracle

from lra_bench.models.fnet import FourierMixing, Scale, fourier_mixing
from models.made_up import assert_same, make_spec, padded


def states(length: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, length, width, dtype=torch.float64, generator=generator)
    return x.requires_grad_()


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("width", [1, 2, 5, 6])
@pytest.mark.parametrize("scale", ["orthonormal", "none"])
def test_it_is_the_naive_one(scale: Scale, width: int, is_padded: bool) -> None:
    mask = padded()[1]
    given = mask if is_padded else None
    assert_same(
        lambda x: fourier_mixing(x, given, scale=scale),
        lambda x: oracle.fourier_mixing(x, given, scale=scale),
        [states(mask.shape[1], width)],
    )


@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_every_length(length: int) -> None:
    assert_same(
        lambda x: fourier_mixing(x),
        lambda x: oracle.fourier_mixing(x, scale="orthonormal"),
        [states(length, 4)],
    )


def test_the_orthonormal_scale_bounds_the_size() -> None:
    x = states(64, 32).detach()
    # The complex transform keeps the sum of squares; its real part has about half of it.
    assert 0.3 < float(fourier_mixing(x).square().sum() / x.square().sum()) < 0.7


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="scale='half' must be orthonormal or none"):
        FourierMixing(make_spec(), scale="half")  # type: ignore[arg-type]
