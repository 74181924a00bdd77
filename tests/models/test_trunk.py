"""The trunk equals its slow, obvious version, whatever mixes; and passes on what it is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from oracles import trunk as oracle
from torch import Tensor, nn

from lra_bench.build import build
from lra_bench.errors import UserError
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import BatchNorm, FeedForward, ScaleNorm
from lra_bench.models.transformer import DenseAttention
from lra_bench.models.trunk import TransformerEncoder
from models.made_up import LENGTHS, assert_encodes_as, make_spec, padded


def affine(layer: Any) -> oracle.Affine:
    return layer.weight, layer.bias


def weights_of(part: Any) -> oracle.FeedForward | None:
    if not isinstance(part, FeedForward):
        return None
    return oracle.FeedForward(affine(part.norm), affine(part.up), affine(part.down))


@pytest.mark.parametrize("feed_forward", [FeedForward, None])
@pytest.mark.parametrize("norm_place", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
def test_the_trunk_is_the_naive_one(feed_forward: Any, positions: str, norm_place: str) -> None:
    torch.manual_seed(0)
    spec = make_spec(positions=positions, norm_place=norm_place)
    encoder = TransformerEncoder(spec, mixer=DenseAttention, feed_forward=feed_forward)
    encoder = encoder.double().eval()
    for weight in encoder.parameters():
        # Norms start at one and biases at zero; then many a mistake would not show.
        nn.init.normal_(weight, std=0.5)
    layers: Any = encoder.layers
    assert len(layers) == 2

    def slow(tokens_L: Tensor) -> Tensor:
        return oracle.encode(
            tokens_L,
            embedding_VD=encoder.embedding.tokens.weight,
            positions_PD=encoder.embedding.positions,
            layers=[
                oracle.Layer(
                    affine(layer.mixer_norm),
                    lambda x_LD, mixer=layer.mixer: mixer(x_LD[None])[0],  # type: ignore[misc]
                    weights_of(layer.feed_forward),
                )
                for layer in layers
            ],
            norm=None if norm_place == "post" else affine(encoder.norm),
        )

    assert_encodes_as(encoder, slow)


@pytest.mark.parametrize("norm", ["batch", "scale"])
@pytest.mark.parametrize("norm_place", ["pre", "post"])
def test_padding_changes_nothing_whatever_the_norm(norm: str, norm_place: str) -> None:
    """Not even in training, where a batch norm sees all real tokens of the batch."""
    torch.manual_seed(0)
    tokens, mask = padded()
    other = torch.where(mask, tokens, (tokens + 3) % 11)
    sizes = make_spec(norm=norm, norm_place=norm_place, positions="none")
    one = TransformerEncoder(sizes, mixer=DenseAttention)
    kinds = [type(part) for part in one.modules() if isinstance(part, (BatchNorm, ScaleNorm))]
    assert len(kinds) == (5 if norm_place == "pre" else 4)
    two = copy.deepcopy(one)
    narrow = max(LENGTHS)
    for _ in range(2):
        states = one(tokens, mask)
        changed = two(other[:, :narrow], mask[:, :narrow])
        torch.testing.assert_close(states[mask], changed[mask[:, :narrow]])
    # What has been seen is all that evaluation needs, and is kept with the weights.
    two = TransformerEncoder(sizes, mixer=DenseAttention)
    two.load_state_dict(one.state_dict())
    states = one.eval()(tokens, mask)
    alone = two.eval()(tokens[2:, : LENGTHS[2]])
    torch.testing.assert_close(states[2, : LENGTHS[2]], alone[0])


class Gate(nn.Module):
    """A feed-forward part from outside."""

    def __init__(self, spec: EncoderSpec, *, bias: float) -> None:
        super().__init__()
        self.gate = nn.Linear(spec.width, spec.width)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * (self.gate(x) + self.bias).sigmoid()
        return gated


def test_without_a_feed_forward_part_there_are_fewer_parameters() -> None:
    def size(**options: Any) -> int:
        encoder = TransformerEncoder(make_spec(), mixer=DenseAttention, **options)
        return sum(parameter.numel() for parameter in encoder.parameters())

    one = 2 * 12 * 10 + 12 + 10 + 2 * 12
    assert size() - size(feed_forward=None) == 2 * one


@pytest.mark.parametrize(
    ("feed_forward", "kind"),
    [
        ({}, FeedForward),
        ({"feed_forward": None}, nn.Identity),
        ({"feed_forward": {"_target_": f"{__name__}.Gate", "_partial_": True, "bias": 2.0}}, Gate),
    ],
)
def test_a_yaml_names_the_parts(feed_forward: dict[str, Any], kind: type[nn.Module]) -> None:
    mixer = {"_target_": "lra_bench.models.transformer.DenseAttention", "_partial_": True}
    node = {"_target_": "lra_bench.models.trunk.TransformerEncoder", "mixer": mixer, **feed_forward}
    encoder = build(node, "model", spec=make_spec())
    parts = [layer.feed_forward for layer in encoder.layers]
    assert [type(part) for part in parts] == [kind, kind]
    assert encoder(torch.ones(1, 3, dtype=torch.int64)).shape == (1, 3, 12)
    with pytest.raises(UserError, match=r"model\.feed_forward"):
        build({**node, "feed_forward": 3}, "model", spec=make_spec())


class Shift(Mixer):
    """Looks one position back, or two, or three."""

    topologies = ("two", "three")

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()

    def forward(
        self, x_BLD: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        return x_BLD.roll({None: 1, "two": 2, "three": 3}[topology], dims=1)


def test_topologies_are_those_of_the_mixer() -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(make_spec(), mixer=Shift).eval()
    assert encoder.topologies == ("two", "three")
    assert encoder.width == 12
    tokens = torch.arange(8)[None]
    states = [encoder(tokens, topology=name) for name in (None, "two", "three")]
    assert not torch.allclose(states[0], states[1])
    assert not torch.allclose(states[1], states[2])
    with pytest.raises(ValueError, match="'four'; choose from two, three"):
        encoder(tokens, topology="four")


def test_layers_that_differ_offer_what_one_of_them_does() -> None:
    made = iter((DenseAttention, Shift))
    encoder = TransformerEncoder(make_spec(), mixer=lambda spec: next(made)(spec)).eval()
    assert encoder.topologies == ("two", "three")
    tokens = torch.arange(8)[None]
    assert not torch.allclose(encoder(tokens), encoder(tokens, topology="two"))


def test_a_mixer_without_topologies_has_none() -> None:
    encoder = TransformerEncoder(make_spec(), mixer=DenseAttention)
    assert encoder.topologies == ()
    with pytest.raises(ValueError, match="unknown topology 'wide'; none is offered"):
        encoder(torch.ones(1, 3, dtype=torch.int64), topology="wide")


def test_a_mixer_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a FeedForward, which is no lra_bench.*Mixer"):
        TransformerEncoder(make_spec(), mixer=FeedForward)  # type: ignore[arg-type]
