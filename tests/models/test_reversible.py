"""Reversible layers compute what layers that keep everything compute, and keep nothing."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lra_bench.models.draws import Decided, Drawn, Replay
from lra_bench.models.encoder import SequenceEncoder
from lra_bench.models.local import LocalAttention
from lra_bench.models.performer import PerformerAttention
from lra_bench.models.reformer import LshAttention
from lra_bench.models.reversible import ReversibleEncoder
from models.made_up import assert_encodes_as, make_spec, padded, peak_bytes

LSH = partial(LshAttention, chunk_size=4)


def reversible(mixer: Any = LSH, *, recompute: bool = True, **changes: Any) -> ReversibleEncoder:
    torch.manual_seed(0)
    return ReversibleEncoder(make_spec(**changes), mixer=mixer, recompute=recompute)


def scored(encoder: SequenceEncoder, topology: str | None = None) -> Tensor:
    """Return a number that every state has a part in; sums of squares a norm would make equal."""
    tokens, mask = padded()
    states = encoder(tokens, mask, topology=topology) * mask[..., None]
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
    return (states * weights.to(states.dtype)).sum()


def gradients(encoder: SequenceEncoder) -> dict[str, Tensor]:
    found = {name: each.grad for name, each in encoder.named_parameters()}
    return {name: grad.clone() for name, grad in found.items() if grad is not None}


def test_it_is_the_obvious_one() -> None:
    """Two streams, written down as in the paper, without padding."""
    encoder = reversible(partial(LocalAttention, block_size=4)).double().eval()

    def slow(tokens: Tensor) -> Tensor:
        first = second = encoder.embedding(tokens[None])
        layers: Any = encoder.layers
        for layer in layers:
            first = first + layer.mixed.mixer(layer.mixed.norm(second))
            second = second + layer.feed_forward(first) - first
        states: Tensor = encoder.norm((first + second) / 2)[0]
        return states

    assert_encodes_as(encoder, slow)
    assert encoder(torch.ones(1, 3, dtype=torch.int64)).shape == (1, 3, encoder.width)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mixer", [LSH, PerformerAttention], ids=["lsh", "performer"])
def test_gradients_are_those_without_recomputing(
    mixer: Any, precision: torch.dtype, dropout: float
) -> None:
    """Hashes are drawn anew at each step, features at every second; bfloat16 by autocast."""
    if mixer is PerformerAttention:
        mixer = partial(PerformerAttention, num_features=8, redraw_every=2)
    found, stood = [], []
    for recompute in (True, False):
        encoder = reversible(mixer, recompute=recompute, num_layers=4, dropout=dropout)
        encoder = encoder.to(torch.float64 if precision == torch.float64 else torch.float32)
        torch.manual_seed(1)
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                score = scored(encoder)
            score.backward()
        found.append(gradients(encoder))
        # Nobody else's random numbers are used up.
        stood.append(torch.rand(()))
    assert torch.equal(*stood)
    assert found[0].keys() == found[1].keys() == dict(encoder.named_parameters()).keys()
    # The last digits of what was subtracted decide how a number is rounded to 8 bits.
    limit = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 5e-2}[precision]
    for name, wanted in found[1].items():
        error = (found[0][name] - wanted).abs().max()
        assert error <= limit * wanted.abs().max().clamp(min=1.0), name


def test_two_passes_before_going_backward_are_replayed_each_as_it_was() -> None:
    found = []
    for recompute in (True, False):
        encoder = reversible(recompute=recompute, dropout=0.3).double()
        torch.manual_seed(1)
        total = scored(encoder) + scored(encoder)
        total.backward()
        found.append(gradients(encoder))
    for name, wanted in found[1].items():
        torch.testing.assert_close(found[0][name], wanted, atol=1e-11, rtol=1e-9)


def test_a_topology_reaches_the_mixers() -> None:
    encoder = reversible(partial(LocalAttention, block_size=4)).double()
    other = reversible(partial(LocalAttention, block_size=4), recompute=False).double()
    assert encoder.topologies == ("shifted",)
    for each in (encoder, other):
        scored(each, "shifted").backward()
    assert not torch.equal(scored(encoder), scored(encoder, "shifted"))
    for name, wanted in gradients(other).items():
        torch.testing.assert_close(gradients(encoder)[name], wanted, atol=1e-11, rtol=1e-9)


def test_what_is_frozen_gets_no_gradient() -> None:
    encoder = reversible()
    for layer in encoder.layers:
        layer.feed_forward.requires_grad_(False)
    encoder.embedding.requires_grad_(False)
    scored(encoder).backward()
    got = set(gradients(encoder))
    wanted = {name for name, each in encoder.named_parameters() if each.requires_grad}
    assert got == wanted
    assert wanted


def test_training_goes_on_from_a_checkpoint_exactly() -> None:
    one = reversible(dropout=0.3)
    other = copy.deepcopy(one)
    optimizers = [torch.optim.AdamW(each.parameters(), 0.01) for each in (one, other)]

    def step(number: int, seed: int) -> None:
        torch.manual_seed(seed)
        optimizers[number].zero_grad()
        scored((one, other)[number]).backward()
        optimizers[number].step()

    for seed in range(3):
        step(0, seed)
    other.load_state_dict(one.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for number in (0, 1):
        for seed in (3, 4):
            step(number, seed)
    for parameter, same in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, same)


def growth(recompute: bool) -> float:
    """Return how much more a training step needs at its peak with 8 layers than with 2.

    Apart from parameters and their gradients, of which more layers have more.
    """
    peaks = []
    for num_layers in (2, 8):
        sizes = {"num_layers": num_layers, "max_length": 1024, "width": 32}
        # As many buckets as real sizes have for the length: smaller chunks would hide the layers.
        mixer = partial(LshAttention, chunk_size=16)
        encoder = reversible(mixer, recompute=recompute, **sizes)
        owned = sum(each.numel() * each.element_size() for each in encoder.parameters())
        peaks.append(peak_bytes(encoder, 1024) - 2 * owned)
    return peaks[1] / peaks[0]


def test_memory_does_not_grow_with_the_layers() -> None:
    assert growth(recompute=True) < 1.02
    assert growth(recompute=False) > 2.5


def test_a_replay_gives_back_what_it_took() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = Drawn(lambda generator: torch.rand(3, generator=generator), every=1)
            self.decided = Decided(largest=9)

        def forward(self, x: Tensor) -> Tensor:
            return self.own() + torch.rand(3) + self.decided(lambda: x.round().long())

    noisy, x = Noisy(), torch.full((3,), 0.499999)
    replay = Replay(noisy, torch.device("cpu"))
    with replay.noting():
        first = noisy(x)
    second, state = noisy(x), noisy.state_dict()
    before = torch.get_rng_state()
    with replay.again():
        # What has come to be on the other side of a decision is decided as it was.
        assert torch.equal(noisy(x + 1e-5), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noisy.state_dict()["own._extra_state"], state["own._extra_state"])
    with pytest.raises(RuntimeError, match="stop"), replay.again():
        raise RuntimeError("stop")
    assert not torch.equal(noisy(x), first)


@pytest.mark.parametrize("largest", [2**15 - 1, 2**15])
def test_no_decision_is_too_large_to_keep(largest: int) -> None:
    decided = Decided(largest)
    replay = Replay(decided, torch.device("cpu"))
    with replay.noting():
        decided(lambda: torch.tensor([largest]))
    with replay.again():
        assert decided(lambda: torch.tensor([0])).item() == largest
