"""Luna equals its slow, obvious version."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import luna as oracle
from oracles import trunk
from torch import Tensor, nn

from lra_bench.models.luna import LunaEncoder
from models.made_up import assert_encodes_as, make_spec


def affine(layer: Any) -> trunk.Affine:
    return layer.weight, layer.bias


def weights_of(layer: Any) -> oracle.Layer:
    attention, rest = layer.attention, layer.feed_forward
    query, context = attention.query_context.weight.chunk(2)
    return oracle.Layer(
        affine(layer.norm),
        affine(layer.memory_norm),
        attention.memory_query.weight,
        query,
        context,
        attention.packed_context.weight,
        attention.out.weight,
        trunk.FeedForward(affine(rest.norm), affine(rest.up), affine(rest.down)),
    )


@pytest.mark.parametrize("num_memory", [1, 5, 40])
@pytest.mark.parametrize("qkv_width", [8, 12])
def test_it_is_the_naive_one(num_memory: int, qkv_width: int) -> None:
    torch.manual_seed(0)
    encoder = LunaEncoder(make_spec(num_layers=3, qkv_width=qkv_width), num_memory=num_memory)
    encoder = encoder.double().eval()
    for weight in encoder.parameters():
        # Norms start at one and biases at zero; then many a mistake would not show.
        nn.init.normal_(weight, std=0.5)

    positions = encoder.embedding.positions
    assert positions is not None

    def slow(tokens_L: Tensor) -> Tensor:
        return oracle.encode(
            tokens_L,
            embedding_VD=encoder.embedding.tokens.weight,
            positions_PD=positions,
            memory_MD=encoder.memory,
            layers=[weights_of(layer) for layer in encoder.layers],
            norm=affine(encoder.norm),
            num_heads=2,
        )

    assert_encodes_as(encoder, slow)


def test_a_token_sees_all_others_through_the_memory() -> None:
    torch.manual_seed(0)
    encoder = LunaEncoder(make_spec(num_layers=1), num_memory=3).eval()
    tokens = torch.ones(1, 20, dtype=torch.int64)
    other = tokens.clone()
    other[0, 19] = 2
    difference = (encoder(tokens) - encoder(other)).abs().sum(-1)[0]
    assert (difference > 1e-6).all()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="num_memory=0 must be at least 1"):
        LunaEncoder(make_spec(), num_memory=0)
