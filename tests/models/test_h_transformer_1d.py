"""Hierarchical attention equals its slow, obvious version, and the exact one within its reach."""

from __future__ import annotations

import pytest
import torch
from oracles import attention as exact
from oracles import h_transformer_1d as oracle

from lra_bench.models.h_transformer_1d import HierarchicalAttention, hierarchical_attention
from models.made_up import assert_same, make_spec, padded, smooth_heads, some_heads


@pytest.mark.parametrize("block_size", [2, 4, 6, 16])
@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_naive_one(block_size: int, is_padded: bool) -> None:
    mask = padded()[1]
    given = mask if is_padded else None
    assert_same(
        lambda q, k, v: hierarchical_attention(q, k, v, given, block_size=block_size),
        lambda q, k, v: oracle.hierarchical_attention(q, k, v, given, block_size=block_size),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("length", [1, 2, 4, 5, 31, 33])
def test_every_length(length: int) -> None:
    assert_same(
        lambda q, k, v: hierarchical_attention(q, k, v, block_size=2),
        lambda q, k, v: oracle.hierarchical_attention(q, k, v, block_size=2),
        some_heads(length, batch=1),
    )


def test_neighboring_blocks_are_seen_exactly() -> None:
    q, k, v = (x.detach() for x in some_heads(31))
    torch.testing.assert_close(
        hierarchical_attention(q, k, v, block_size=16), exact.dense_attention(q, k, v)
    )


def test_it_tends_to_exact_attention() -> None:
    q, k, v = smooth_heads(128)
    wanted = exact.dense_attention(q, k, v)
    for block_size, most in ((2, 0.7), (4, 0.4), (8, 0.2), (16, 0.1), (32, 0.05), (64, 1e-9)):
        found = hierarchical_attention(q, k, v, block_size=block_size)
        assert float((found - wanted).norm() / wanted.norm()) < most


def test_large_scores_do_not_overflow() -> None:
    q, k, v = (x.detach().float() for x in some_heads(70))
    found = hierarchical_attention(q * 100, k * 100, v, block_size=4)
    assert found.isfinite().all()
    assert found.abs().max() <= v.abs().max() * 1.001


def test_what_stands_in_padding_may_be_anything() -> None:
    mask = padded()[1]
    q, k, v = (x.detach() for x in some_heads(mask.shape[1]))
    hidden = ~mask[:, None, :, None]
    clean = hierarchical_attention(q, k, v, mask, block_size=4)
    q, k, v = (x.masked_fill(hidden, 1e6) for x in (q, k, v))
    shown = mask[:, None, :, None].expand_as(clean)
    dirty = hierarchical_attention(q, k, v, mask, block_size=4)
    torch.testing.assert_close(clean[shown], dirty[shown])


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    q, k, v = (x.detach()[:1] for x in some_heads(40))
    wanted = hierarchical_attention(q, k, v, block_size=4)
    drawn = [hierarchical_attention(q, k, v, block_size=4, dropout_p=0.3) for _ in range(600)]
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(torch.stack(drawn).mean(0), wanted, atol=0.1, rtol=0)


@pytest.mark.parametrize("block_size", [0, 3])
def test_wrong_options_are_refused(block_size: int) -> None:
    with pytest.raises(ValueError, match=f"block_size={block_size} must be even"):
        HierarchicalAttention(make_spec(), block_size=block_size)
