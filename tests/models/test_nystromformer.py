"""Nystrom attention equals its slow, obvious version, and tends to what it approximates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import attention as exact
from oracles import nystromformer as oracle
from torch import Tensor, nn

from lra_bench.models.attention import merge_heads, split_qkv
from lra_bench.models.nystromformer import NystromAttention, convolution, nystrom_attention
from models.made_up import assert_same, make_spec, padded, smooth_heads, some_heads


@pytest.mark.parametrize("num_landmarks", [1, 2, 5, 7, 40])
@pytest.mark.parametrize("num_iterations", [0, 1, 6])
@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_naive_one(num_landmarks: int, num_iterations: int, is_padded: bool) -> None:
    mask = padded()[1]
    given = mask if is_padded else None
    options = {"num_landmarks": num_landmarks, "num_iterations": num_iterations}
    assert_same(
        lambda q, k, v: nystrom_attention(q, k, v, given, **options),
        lambda q, k, v: oracle.nystrom_attention(q, k, v, given, **options),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("kernel_size", [1, 3, 9, 35])
@pytest.mark.parametrize("is_padded", [True, False])
def test_the_mixer_is_the_naive_one(kernel_size: int, is_padded: bool) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    given = mask if is_padded else None
    mixer = NystromAttention(make_spec(), num_landmarks=4, kernel_size=kernel_size).double()
    to, kernel = mixer.projections, mixer.kernel
    assert kernel is not None
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        query, key, value = to.split(x_BLD)
        mixed = oracle.nystrom_attention(
            query, key, value, given, num_landmarks=4, num_iterations=6
        )
        return to.merge(mixed + oracle.convolution(value, kernel, given))

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, given),
        slow,
        [x, *mixer.parameters()],
        mask[..., None] if is_padded else None,
    )


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 150])
@pytest.mark.parametrize("size", [1, 5, 35])
def test_the_convolution_is_the_naive_one(length: int, size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    kernel = torch.randn(2, size, dtype=torch.float64, generator=generator).requires_grad_()
    value = some_heads(length)[0]
    assert_same(convolution, oracle.convolution, [value, kernel])


def error(**options: Any) -> float:
    q, k, v = smooth_heads(48)
    wanted = exact.dense_attention(q, k, v)
    return float((nystrom_attention(q, k, v, **options) - wanted).norm() / wanted.norm())


def test_it_tends_to_exact_attention() -> None:
    """With a landmark a token only the inverse is left to approximate."""
    errors = [error(num_landmarks=number, num_iterations=20) for number in (8, 16, 24, 48)]
    for found, most in zip(errors, (0.5, 1e-3, 1e-4, 1e-5), strict=True):
        assert found < most


def test_more_iterations_invert_better() -> None:
    errors = [error(num_landmarks=48, num_iterations=number) for number in (2, 6, 12, 20, 30)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-8


def test_what_stands_in_padding_may_be_anything() -> None:
    mask = padded()[1]
    q, k, v = (x.detach() for x in some_heads(mask.shape[1]))
    hidden = ~mask[:, None, :, None]
    clean = nystrom_attention(q, k, v, mask, num_landmarks=4, num_iterations=6)
    q, k, v = (x.masked_fill(hidden, 1e6) for x in (q, k, v))
    dirty = nystrom_attention(q, k, v, mask, num_landmarks=4, num_iterations=6)
    shown = mask[:, None, :, None].expand_as(clean)
    torch.testing.assert_close(clean[shown], dirty[shown])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_landmarks": 0}, "num_landmarks=0 must be at least 1"),
        ({"num_iterations": -1}, "num_iterations=-1 at least 0"),
        ({"num_iterations": 17}, "num_iterations=17 at least 0 and at most 16"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NystromAttention(make_spec(), **options)


def test_it_is_what_nystrom_attention_computes() -> None:
    library = pytest.importorskip(
        "nystrom_attention", reason="needs nystrom-attention, extra oracle"
    )
    # It scales the start of the inverse by the largest sum of the whole batch: hence one example
    # and one head.
    other = library.NystromAttention(
        4, dim_head=4, heads=1, num_landmarks=5, residual_conv_kernel=3
    ).double()
    other.to_out = nn.Identity()
    kernel = other.res_conv.weight[:, 0, :, 0].detach()

    def ours(x: Tensor) -> Tensor:
        query, key, value = split_qkv(other.to_qkv(x), 1)
        mixed = nystrom_attention(query, key, value, num_landmarks=5, num_iterations=6)
        return merge_heads(mixed + convolution(value, kernel))

    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 20, 4, dtype=torch.float64, generator=generator).requires_grad_()
    assert_same(ours, other, [x])
