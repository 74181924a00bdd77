"""LSH attention equals its slow, obvious version, and comes near to dense attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import attention as dense
from oracles import reformer as oracles
from torch import Tensor

from lra_bench.models.reformer import LshAttention, reformer_attention, reformer_encoder
from lra_bench.models.reversible import ReversibleEncoder
from lra_bench.models.trunk import TransformerEncoder
from models.made_up import assert_same, make_spec, padded, some_heads


def rotations_of(num_rounds: int, num_buckets: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (num_rounds, 4, num_buckets // 2)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize(("num_rounds", "num_buckets"), [(1, 2), (1, 6), (2, 4), (5, 2)])
@pytest.mark.parametrize("chunk_size", [1, 3, 5, 64])
def test_it_is_the_naive_one(
    chunk_size: int, num_rounds: int, num_buckets: int, is_padded: bool
) -> None:
    mask = padded()[1]
    key_mask = mask if is_padded else None
    options: dict[str, Any] = {
        "rotations_XKR": rotations_of(num_rounds, num_buckets),
        "chunk_size": chunk_size,
    }
    assert_same(
        lambda q, k, v: reformer_attention(q, k, v, key_mask, **options),
        lambda q, k, v: oracles.reformer_attention(q, k, v, key_mask, **options),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


def test_more_rounds_come_nearer_to_attention_over_all_others() -> None:
    mask = padded()[1]
    length = mask.shape[1]
    q, k, v = (x.detach() for x in some_heads(length))
    others = ~torch.eye(length, dtype=torch.bool) & mask[:, None, None]
    # The example of a single token has nobody but itself.
    others[1] = torch.eye(length, dtype=torch.bool)
    exact = dense.attend(q, k, v, others)
    errors = []
    for number in (1, 4, 16, 100):
        options: dict[str, Any] = {"rotations_XKR": rotations_of(number, 4), "chunk_size": 32}
        out = reformer_attention(q, k, v, mask, **options)
        errors.append((out - exact).movedim(2, 1)[mask].abs().mean().item())
    assert errors == sorted(errors, reverse=True)
    # Pairs of opposite directions hardly ever meet, so that it need not be exact.
    assert errors[-1] < 0.01


def mixer_of(seed: int = 0, **options: Any) -> LshAttention:
    torch.manual_seed(seed)
    return LshAttention(make_spec(), **({"chunk_size": 4} | options))


def test_the_mixer_has_its_options() -> None:
    mask = padded()[1]
    mixer = mixer_of(num_rounds=3, num_buckets=6).double().eval()
    assert mixer.rotations.drawn.shape == (3, 4, 3)
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        query, value = (
            torch.stack(rows.split(4, dim=-1), dim=1)
            for rows in mixer.shared(x_BLD).split(8, dim=-1)
        )
        mixed = oracles.reformer_attention(
            query,
            query / query.square().sum(-1, keepdim=True).sqrt(),
            value,
            mask,
            rotations_XKR=mixer.rotations.drawn,
            chunk_size=4,
        )
        out: Tensor = mixer.out(torch.cat(mixed.unbind(1), dim=-1))
        return out

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, mask), slow, [x, *mixer.parameters()], mask[..., None]
    )


def test_as_many_buckets_as_the_longest_sequence_needs() -> None:
    assert mixer_of().rotations.drawn.shape == (2, 4, 8)
    assert mixer_of(chunk_size=64).rotations.drawn.shape == (2, 4, 1)


class TestTheDraw:
    def test_the_seed_decides(self) -> None:
        first, again, other = (mixer_of(seed).rotations.drawn for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_training_draws_anew_and_evaluation_does_not(self) -> None:
        x = torch.randn(2, 13, 12)
        mixer = mixer_of()
        assert not torch.equal(mixer(x), mixer(x))
        mixer.eval()
        assert torch.equal(mixer(x), mixer(x))

    def test_a_state_dict_goes_on_where_it_was(self) -> None:
        one, other = mixer_of(0), mixer_of(1)
        x = torch.randn(2, 13, 12)
        for _ in range(3):
            one(x)
        other.load_state_dict(one.state_dict())
        for _ in range(3):
            assert torch.equal(one(x), other(x))

    def test_nobody_else_notices(self) -> None:
        mixer = mixer_of()
        x = torch.randn(2, 13, 12)
        before = torch.get_rng_state()
        mixer(x), mixer(x)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"chunk_size": 0}, "chunk_size=0 must be at least 1"),
        ({"num_rounds": 0}, "num_rounds=0 from 1"),
        ({"num_buckets": 3}, "num_buckets=3 must be even and at least 2"),
        ({"redraw_every": -1}, "redraw_every=-1 must be at least 0"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mixer_of(**wrong)


def test_the_layers_are_reversible_if_asked() -> None:
    plain = reformer_encoder(make_spec(), mixer=LshAttention)
    assert isinstance(plain, TransformerEncoder)
    encoder = reformer_encoder(make_spec(), mixer=LshAttention, reversible=True)
    assert isinstance(encoder, ReversibleEncoder)
    sizes = [sum(each.numel() for each in one.parameters()) for one in (plain, encoder)]
    assert sizes[0] == sizes[1]
