"""Linear attention equals its slow, obvious version."""

from __future__ import annotations

import pytest
import torch
from oracles import linear_transformer as oracles

from lra_bench.models.linear_transformer import linear_attention
from models.made_up import assert_same, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_naive_one(is_padded: bool) -> None:
    mask = padded()[1]
    key_mask = mask if is_padded else None
    assert_same(
        lambda q, k, v: linear_attention(q, k, v, key_mask),
        lambda q, k, v: oracles.linear_attention(q, k, v, key_mask),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


def test_a_sequence_of_padding_alone_is_finite() -> None:
    q, k, v = some_heads(5)
    nothing = torch.zeros(3, 5, dtype=torch.bool)
    assert linear_attention(q, k, v, nothing).isfinite().all()
