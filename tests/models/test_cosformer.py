"""The attention of cosFormer equals its slow, obvious version."""

from __future__ import annotations

import pytest
import torch
from oracles import cosformer as oracle

from lra_bench.models.cosformer import cosformer_attention
from models.made_up import assert_same, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_naive_one(is_padded: bool) -> None:
    mask = padded()[1]
    given = mask if is_padded else None
    assert_same(
        lambda q, k, v: cosformer_attention(q, k, v, given),
        lambda q, k, v: oracle.cosformer_attention(q, k, v, given),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("length", [1, 2, 31])
def test_every_length(length: int) -> None:
    inputs = some_heads(length)
    assert_same(cosformer_attention, oracle.cosformer_attention, inputs)


def test_without_a_feature_the_result_is_zero() -> None:
    q, k, v = (x.detach() for x in some_heads(7))
    assert not cosformer_attention(-q.abs(), k, v).any()
    assert not cosformer_attention(q, -k.abs(), v).any()


def test_what_stands_in_padding_may_be_anything() -> None:
    mask = padded()[1]
    q, k, v = (x.detach() for x in some_heads(mask.shape[1]))
    hidden = ~mask[:, None, :, None]
    clean = cosformer_attention(q, k, v, mask)
    q, k, v = (x.masked_fill(hidden, 1e6) for x in (q, k, v))
    shown = mask[:, None, :, None].expand_as(clean)
    torch.testing.assert_close(clean[shown], cosformer_attention(q, k, v, mask)[shown])
