"""BigBird's attention equals its slow, obvious version; and its draw is its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import attention as dense
from oracles import bigbird as oracles

from lra_bench.models.bigbird import BigBirdAttention, bigbird_attention
from models.made_up import assert_same, make_spec, padded, some_heads


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("sizes", [(3, 2, 3), (1, 1, 2), (5, 0, 1), (3, 3, 0), (1, 0, 0)])
@pytest.mark.parametrize("block_size", [1, 2, 5, 22, 64])
def test_it_is_the_naive_one(block_size: int, sizes: tuple[int, int, int], is_padded: bool) -> None:
    mask = padded()[1]
    length = mask.shape[1]
    key_mask = mask if is_padded else None
    num_blocks = -(-length // block_size) + 2
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {
        "block_size": block_size,
        "num_window_blocks": sizes[0],
        "num_global_blocks": sizes[1],
        "num_random_blocks": sizes[2],
        "priority_HNN": torch.rand(2, num_blocks, num_blocks, generator=generator),
    }
    assert_same(
        lambda q, k, v: bigbird_attention(q, k, v, key_mask, **options),
        lambda q, k, v: oracles.bigbird_attention(q, k, v, key_mask, **options),
        some_heads(length),
        mask[:, None, :, None] if is_padded else None,
    )


def test_with_all_blocks_at_random_it_is_dense() -> None:
    mask = padded()[1]
    q, k, v = some_heads(mask.shape[1])
    expected = dense.dense_attention(q, k, v, mask)
    rest = {"block_size": 2, "num_window_blocks": 1, "num_global_blocks": 0}
    priority = torch.rand(2, 11, 11)
    distances = []
    for number in (0, 2, 5, 10):
        out = bigbird_attention(
            q, k, v, mask, num_random_blocks=number, priority_HNN=priority, **rest
        )
        distances.append((out - expected).movedim(2, 1)[mask].abs().mean().item())
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-9


def mixer_of(seed: int, **options: Any) -> BigBirdAttention:
    torch.manual_seed(seed)
    sizes = {"block_size": 2, "num_random_blocks": 2} | options
    return BigBirdAttention(make_spec(), **sizes).eval()


class TestTheDraw:
    def test_the_seed_decides(self) -> None:
        first, again, other = (mixer_of(seed).priority_2HNN for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert not torch.equal(first[0, 0], first[0, 1])

    def test_a_state_dict_holds_it(self) -> None:
        x = torch.randn(2, 29, 12)
        one, other = mixer_of(0), mixer_of(1)
        assert not torch.allclose(one(x), other(x))
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(x), other(x))

    def test_nobody_else_notices(self) -> None:
        mixer = mixer_of(0).train()
        before = torch.get_rng_state()
        mixer(torch.randn(2, 29, 12, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_topology_is_another(self) -> None:
        x = torch.randn(2, 29, 12)
        mixer = mixer_of(0)
        assert not torch.allclose(mixer(x), mixer(x, topology="redrawn"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"block_size": 0}, "block_size=0 must be at least 1"),
        ({"num_global_blocks": -1}, "num_global_blocks=-1"),
        ({"num_random_blocks": -1}, "num_random_blocks=-1"),
        ({"num_window_blocks": 2}, "num_window_blocks=2 must be odd"),
        ({"block_size": 4, "num_random_blocks": 4}, "has 3 blocks .* choose at most 3"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BigBirdAttention(make_spec(), **wrong)
