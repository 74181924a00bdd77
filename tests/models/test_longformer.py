"""Longformer's attention equals its slow, obvious version."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from oracles import longformer as oracles
from torch import Tensor

from lra_bench.models.longformer import LongformerAttention, longformer_attention
from models.made_up import assert_same, make_spec, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("num_global", [0, 1, 5])
@pytest.mark.parametrize(
    ("window", "dilation", "chunk_size"),
    [
        (2, 1, 1),
        (2, 3, 2),
        (4, 1, 5),
        (6, 2, 3),
        (8, 1, 4),
        (20, 1, 4),
        (6, 5, None),
        (64, 1, None),
    ],
)
def test_it_is_the_naive_one(
    window: int, dilation: int, chunk_size: int | None, num_global: int, is_padded: bool
) -> None:
    mask = padded()[1]
    key_mask = mask if is_padded else None
    across = some_heads(mask.shape[1], batch=3)
    across = [(tensor * 0.5).detach().requires_grad_() for tensor in across]
    sizes = {"window": window, "dilation": dilation}

    def run(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        q, k, v, *others = inputs
        pair = (others[0][:, :, :num_global], *others[1:]) if num_global else None
        return function(q, k, v, key_mask, across=pair, **sizes)

    assert_same(
        lambda *inputs: run(partial(longformer_attention, chunk_size=chunk_size), *inputs),
        lambda *inputs: run(oracles.longformer_attention, *inputs),
        [*some_heads(mask.shape[1]), *across],
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("topology", [None, "wide"])
@pytest.mark.parametrize("num_global", [0, 1, 9])
def test_the_mixer_has_its_options(num_global: int, topology: str | None) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    mixer = LongformerAttention(
        make_spec(), window=4, dilation=2, num_global_tokens=num_global
    ).double()
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()

    def heads(rows: Tensor) -> Tensor:
        return torch.stack(rows.split(4, dim=-1), dim=1)

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        across = None
        if num_global:
            query, key, value = mixer.across(x_BLD).split(8, dim=-1)
            across = (heads(query)[:, :, :num_global], heads(key), heads(value))
        mixed = oracles.longformer_attention(
            *mixer.projections.split(x_BLD),
            mask,
            window=8 if topology else 4,
            dilation=2,
            across=across,
        )
        return mixer.projections.merge(mixed)

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, mask, topology=topology),
        slow,
        [x, *mixer.parameters()],
        mask[..., None],
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"window": 0}, "window=0 must be even and at least 2"),
        ({"window": 7}, "window=7 must be even"),
        ({"dilation": 0}, "dilation=0 must be at least 1 and at most .* 30"),
        ({"num_global_tokens": -1}, "num_global_tokens=-1 must be at least 0"),
        ({"num_global_tokens": 31}, "num_global_tokens=31 .* at most the longest sequence, 30"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LongformerAttention(make_spec(), **wrong)
