"""The patterns of the Sparse Transformer equal their slow, obvious versions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import sparse as oracles

from lra_bench.models.sparse import SparseAttention, sparse_attention
from models.made_up import assert_same, make_spec, padded, some_heads

PATTERNS: list[dict[str, Any]] = [
    *({"pattern": "strided", "stride": stride} for stride in (1, 3, 5, 22, 40)),
    {"pattern": "fixed", "stride": 1},
    {"pattern": "fixed", "stride": 4},
    {"pattern": "fixed", "stride": 5, "num_summaries": 3},
    {"pattern": "fixed", "stride": 3, "num_summaries": 3},
    {"pattern": "fixed", "stride": 40, "num_summaries": 7},
]


@pytest.mark.parametrize(
    "options", PATTERNS, ids=lambda options: "-".join(map(str, options.values()))
)
@pytest.mark.parametrize("is_padded", [True, False])
def test_it_is_the_naive_one(options: dict[str, Any], is_padded: bool) -> None:
    mask = padded()[1]
    key_mask = mask if is_padded else None
    assert_same(
        lambda q, k, v: sparse_attention(q, k, v, key_mask, **options),
        lambda q, k, v: oracles.sparse_attention(q, k, v, key_mask, **options),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("pattern", ["strided", "fixed"])
def test_the_mixer_has_its_options(pattern: Any) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    mixer = SparseAttention(make_spec(), pattern=pattern, stride=4, num_summaries=2)
    x = torch.randn(*mask.shape, 12)
    mixed = oracles.sparse_attention(
        *mixer.projections.split(x), mask, pattern=pattern, stride=4, num_summaries=2
    )
    torch.testing.assert_close(
        mixer(x, mask)[mask], mixer.projections.merge(mixed)[mask], atol=1e-5, rtol=1e-5
    )


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="stride=0 must be at least 1"):
        SparseAttention(make_spec(), stride=0)
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f"num_summaries={wrong} .* at most stride=4"):
            SparseAttention(make_spec(), stride=4, num_summaries=wrong)
