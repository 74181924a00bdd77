"""Dense attention equals its slow, obvious version."""

from __future__ import annotations

import pytest
import torch
from oracles import attention as oracles

from lra_bench.models.transformer import dense_attention
from models.made_up import assert_same, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
def test_dense_is_the_naive_one(is_padded: bool) -> None:
    _, mask = padded()
    key_mask = mask if is_padded else None
    assert_same(
        lambda q, k, v: dense_attention(q, k, v, key_mask),
        lambda q, k, v: oracles.dense_attention(q, k, v, key_mask),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


def test_in_float32() -> None:
    _, mask = padded()
    q, k, v = (x.detach().float() for x in some_heads(mask.shape[1]))
    torch.testing.assert_close(
        dense_attention(q, k, v, mask),
        oracles.dense_attention(q, k, v, mask),
        atol=1e-5,
        rtol=1e-5,
    )
