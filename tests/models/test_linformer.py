"""Linformer's attention equals its slow, obvious version."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import linformer as oracles
from torch import Tensor, nn

from lra_bench.models.attention import merge_heads, split_heads
from lra_bench.models.linformer import LinformerAttention, Sharing, linformer_attention
from models.made_up import assert_same, make_spec, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize(("num_sets", "rank"), [(1, 5), (2, 3)])
def test_it_is_the_naive_one(num_sets: int, rank: int, is_padded: bool) -> None:
    mask = padded()[1]
    key_mask = mask if is_padded else None
    generator = torch.Generator().manual_seed(0)
    shape = (2, num_sets, mask.shape[1], rank)
    along = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    def run(function: Any, *inputs: Any) -> Any:
        q, k, v, matrices = inputs
        return function(q, k, v, key_mask, to_keys_SLR=matrices[0], to_values_SLR=matrices[1])

    assert_same(
        lambda *inputs: run(linformer_attention, *inputs),
        lambda *inputs: run(oracles.linformer_attention, *inputs),
        [*some_heads(mask.shape[1]), along],
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize(
    ("sharing", "shape"),
    [("none", (2, 2, 30, 7)), ("headwise", (2, 1, 30, 7)), ("key_value", (1, 1, 30, 7))],
)
def test_what_is_shared(sharing: Sharing, shape: tuple[int, ...]) -> None:
    mixer = LinformerAttention(make_spec(), rank=7, sharing=sharing)
    assert mixer.along_length.shape == shape
    x = torch.randn(2, 11, 12)
    mixed = oracles.linformer_attention(
        *mixer.projections.split(x),
        to_keys_SLR=mixer.along_length[0],
        to_values_SLR=mixer.along_length[-1],
    )
    torch.testing.assert_close(mixer(x), mixer.projections.merge(mixed), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [0, 31])
def test_a_rank_that_does_not_fit_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank={rank} must be at least 1 and at most .* 30"):
        LinformerAttention(make_spec(), rank=rank)


def test_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="31 tokens is longer than max_length=30"):
        LinformerAttention(make_spec())(torch.ones(1, 31, 12))


def test_it_is_what_linformer_computes() -> None:
    library = pytest.importorskip("linformer", reason="needs linformer, extra oracle")
    other = library.LinformerSelfAttention(8, 13, k=5, heads=2).double()
    other.to_out = nn.Identity()
    matrices = torch.stack((other.proj_k, other.proj_v)).detach()[:, None]

    def ours(x: Tensor) -> Tensor:
        heads = (split_heads(part(x), 2) for part in (other.to_q, other.to_k, other.to_v))
        mixed = linformer_attention(*heads, to_keys_SLR=matrices[0], to_values_SLR=matrices[1])
        return merge_heads(mixed)

    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 13, 8, dtype=torch.float64, generator=generator).requires_grad_()
    assert_same(ours, other, [x])
