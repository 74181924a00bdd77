"""Sinkhorn attention equals its slow, obvious version, and so does its sorting."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import sinkhorn as oracles
from torch import Tensor, nn

from lra_bench.models.sinkhorn import SinkhornAttention, sinkhorn, sinkhorn_attention
from models.made_up import LENGTHS, assert_same, make_spec, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("block_size", [1, 3, 5, 22, 40])
def test_it_is_the_naive_one(block_size: int, is_padded: bool) -> None:
    mask = padded()[1]
    length = mask.shape[1]
    key_mask = mask if is_padded else None
    num_blocks = -(-length // block_size)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 2, num_blocks, num_blocks, dtype=torch.float64, generator=generator)
    sorting = scores.softmax(-1).requires_grad_()

    def run(function: Any, q: Tensor, k: Tensor, v: Tensor, sorting_BHNN: Tensor) -> Tensor:
        out: Tensor = function(q, k, v, key_mask, sorting_BHNN=sorting_BHNN, block_size=block_size)
        return out

    assert_same(
        lambda *inputs: run(sinkhorn_attention, *inputs),
        lambda *inputs: run(oracles.sinkhorn_attention, *inputs),
        [*some_heads(length), sorting],
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("block_size", [2, 5, 40])
def test_the_mixer_sorts_each_example_as_if_alone(block_size: int) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    options: dict[str, Any] = {"block_size": block_size, "num_iterations": 3, "temperature": 0.9}
    mixer = SinkhornAttention(make_spec(), **options).double().eval()
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        rows = []
        for x_LD, length in zip(x_BLD, LENGTHS, strict=True):
            query, key, value = mixer.projections.split(x_LD[None, :length])
            sorting = oracles.sorting(key[0], mixer.sort_HKM, **options)
            mixed = oracles.sinkhorn_attention(
                query,
                key,
                value,
                sorting_BHNN=sorting[None],
                block_size=block_size,
            )
            rows.append(mixer.projections.merge(mixed)[0])
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, mask)[:, : max(LENGTHS)],
        slow,
        [x, *mixer.parameters()],
        mask[:, : max(LENGTHS), None],
    )


def test_more_iterations_come_nearer_to_a_doubly_stochastic_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=generator)
    occupied = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    distances = []
    for number in (1, 4, 100):
        matrix = sinkhorn(scores, occupied, number)
        torch.testing.assert_close(
            matrix.sum(-2), occupied[:, None].expand(2, 3, 6).double(), atol=1e-12, rtol=0.0
        )
        wanted = occupied[:, None].double()
        distances.append((matrix.sum(-1) - wanted).abs().max().item())
        assert not matrix[1, :, 4:].any()
        assert not matrix[1, :, :, 4:].any()
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-6


def test_noise_is_for_training() -> None:
    torch.manual_seed(0)
    mixer = SinkhornAttention(make_spec(), block_size=4)
    x = torch.randn(2, 21, 12)
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    before = torch.get_rng_state()
    assert torch.equal(mixer(x), mixer(x))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"block_size": 0}, "block_size=0"),
        ({"num_iterations": 0}, "num_iterations=0 must be at least 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SinkhornAttention(make_spec(), **wrong)
