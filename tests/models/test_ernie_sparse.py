"""ERNIE-Sparse equals its slow, obvious version in all its forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import ernie_sparse as oracle
from oracles.trunk import FeedForward
from torch import Tensor, nn

from lra_bench.models.ernie_sparse import ErnieSparseEncoder, window_attention, window_bias
from models.made_up import (
    LENGTHS,
    assert_encodes_as,
    assert_same,
    largest_tensor,
    make_spec,
    padded,
)

SWITCHES = [
    {"block_size": 4},
    {"block_size": 5, "num_representatives": 2, "share_projections": False},
    {"block_size": 3, "window_radius": 2},
    {"block_size": 4, "window_radius": 0},
    {"block_size": 64},
    {"block_size": 4, "context": "global_tokens", "num_representatives": 3},
    {"block_size": 4, "context": "none"},
]


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("num_shared", [0, 2])
@pytest.mark.parametrize(("num_own", "radius"), [(1, 1), (0, 0), (2, 3)])
def test_windows_are_the_naive_ones(
    num_own: int, radius: int, num_shared: int, is_padded: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 7, num_own + 3, 24)
    qkv = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    shared = torch.randn((3, num_shared, 24), dtype=torch.float64, generator=generator)
    shared.requires_grad_()
    mask = padded(8)[1].unflatten(1, (7, 3)) if is_padded else None
    sizes = {"num_heads": 2, "num_own": num_own, "radius": radius}

    def fast(qkv_BNME: Tensor, shared_BGE: Tensor) -> Tensor:
        bias = window_bias(mask, num_own, radius, qkv_BNME)
        return window_attention(qkv_BNME, shared_BGE if num_shared else None, bias, **sizes)

    def slow(qkv_BNME: Tensor, shared_BGE: Tensor) -> Tensor:
        shared_or_none = shared_BGE if num_shared else None
        return oracle.window_attention(qkv_BNME, shared_or_none, mask, **sizes)

    real = None
    if mask is not None:
        real = torch.cat((torch.ones(3, 7, num_own).bool(), mask), dim=2)[..., None]
        # A block of padding without context sees nothing.
        real = real & mask.any(dim=2)[..., None, None]
    assert_same(fast, slow, [qkv, shared], real)


def weights_of(encoder: Any) -> oracle.Weights:
    """The one place where the oracle meets the names of the encoder's parts."""

    def affine(layer: Any) -> tuple[Tensor, Tensor]:
        return layer.weight, layer.bias

    def step(norm: Any, to: Any) -> oracle.Step:
        return oracle.Step(affine(norm), to.qkv.weight, to.out.weight)

    return oracle.Weights(
        encoder.embedding.tokens.weight,
        encoder.embedding.positions,
        getattr(encoder, "representatives", None),
        getattr(encoder, "block_positions", None),
        [
            oracle.Layer(
                step(layer.local_norm, layer.local),
                step(layer.global_norm, layer.across) if layer.is_global else None,
                FeedForward(
                    affine(layer.feed_forward.norm),
                    affine(layer.feed_forward.up),
                    affine(layer.feed_forward.down),
                ),
            )
            for layer in encoder.layers
        ],
        affine(encoder.norm),
    )


def options_of(switches: dict[str, Any], topology: str | None) -> dict[str, Any]:
    """What of the switches is not in the weights."""
    spoken = ("block_size", "window_radius", "context")
    kept = {name: switches[name] for name in spoken if name in switches}
    return {**kept, "num_heads": 2, "topology": topology}


@pytest.mark.parametrize("topology", [None, *ErnieSparseEncoder.topologies])
@pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda switches: "-".join(map(str, switches.values()))
)
def test_the_encoder_is_the_naive_one(switches: dict[str, Any], topology: str | None) -> None:
    torch.manual_seed(0)
    encoder = ErnieSparseEncoder(make_spec(), **switches).double().eval()
    for name, weight in encoder.named_parameters():
        if weight.ndim == 1:
            # Norms start at one and biases at zero; then many a mistake would not show.
            nn.init.normal_(weight, mean=float("norm.weight" in name), std=0.3)
    options = options_of(switches, topology)
    assert_encodes_as(
        encoder, lambda tokens: oracle.encode(tokens, weights_of(encoder), **options), topology
    )


def test_in_float32() -> None:
    torch.manual_seed(0)
    encoder = ErnieSparseEncoder(make_spec(), block_size=4).eval()
    tokens, mask = padded()
    states = encoder(tokens, mask)
    for row, length in enumerate(LENGTHS):
        expected = oracle.encode(
            tokens[row, :length], weights_of(encoder), num_heads=2, block_size=4
        )
        torch.testing.assert_close(states[row, :length], expected, atol=1e-5, rtol=1e-5)


def test_makes_no_square_tensor() -> None:
    encoder = ErnieSparseEncoder(make_spec(max_length=4096))
    assert largest_tensor(encoder, 4096) < 4096 * 4096


def test_wrong_options_are_refused() -> None:
    wrongs: list[dict[str, Any]]
    wrongs = [{"block_size": 0}, {"num_representatives": 0}, {"window_radius": -1}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ErnieSparseEncoder(make_spec(), **wrong)
    tokens = torch.ones(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="'sideways'; choose from shifted"):
        ErnieSparseEncoder(make_spec())(tokens, topology="sideways")
