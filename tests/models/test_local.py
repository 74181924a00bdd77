"""Block-local attention equals its slow, obvious version."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from oracles import attention as oracles
from torch import Tensor

from lra_bench.models.local import Layout, LocalAttention, local_attention
from models.made_up import assert_same, make_spec, padded, some_heads


@pytest.mark.parametrize("block_size", [1, 3, 7, 21])
@pytest.mark.parametrize("is_padded", [True, False])
def test_contiguous_is_the_naive_one(block_size: int, is_padded: bool) -> None:
    mask = padded(8)[1]
    key_mask = mask if is_padded else None
    assert_same(
        lambda q, k, v: local_attention(q, k, v, key_mask, block_size=block_size),
        lambda q, k, v: oracles.local_attention(q, k, v, key_mask, block_size=block_size),
        some_heads(mask.shape[1]),
        mask[:, None, :, None] if is_padded else None,
    )


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("block_size", [1, 4, 7, 11, 40])
@pytest.mark.parametrize("is_padded", [True, False])
def test_any_length_is_the_naive_one(block_size: int, layout: Layout, is_padded: bool) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    key_mask = mask if is_padded else None
    mixer = LocalAttention(make_spec(), block_size=block_size, layout=layout).double()
    to = mixer.projections
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        mixed = oracles.local_attention(
            *to.split(x_BLD), key_mask, block_size=block_size, layout=layout
        )
        return to.merge(mixed)

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, key_mask),
        slow,
        [x, *mixer.parameters()],
        mask[..., None] if is_padded else None,
    )


@pytest.mark.parametrize(("length", "changed"), [(24, [5, 12, 19]), (23, [5, 11, 17])])
def test_strided_has_the_released_groups(length: int, changed: list[int]) -> None:
    torch.manual_seed(0)
    mixer = LocalAttention(make_spec(), block_size=4, layout="strided")
    x = torch.randn(1, length, 12)
    other = x.clone()
    other[0, 5] += 1.0
    difference = (mixer(x) - mixer(other)).abs().sum(-1)[0]
    assert torch.nonzero(difference > 1e-6).flatten().tolist() == changed


@pytest.mark.parametrize("block_size", [1, 4, 7, 40])
@pytest.mark.parametrize("is_padded", [True, False])
def test_the_shifted_grid_is_the_naive_one(block_size: int, is_padded: bool) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    key_mask = mask if is_padded else None
    mixer = LocalAttention(make_spec(), block_size=block_size).double()
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()
    lead = block_size // 2

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        # As if half a block of padding stood before.
        before = F.pad(mask if is_padded else torch.ones_like(mask), (lead, 0))
        rows = F.pad(x_BLD, (0, 0, lead, 0))
        mixed = oracles.local_attention(
            *mixer.projections.split(rows), before, block_size=block_size
        )
        return mixer.projections.merge(mixed)[:, lead:]

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, key_mask, topology="shifted"),
        slow,
        [x, *mixer.parameters()],
        mask[..., None] if is_padded else None,
    )


def test_only_contiguous_blocks_can_be_shifted() -> None:
    assert LocalAttention(make_spec()).topologies == ("shifted",)
    assert LocalAttention(make_spec(), layout="strided").topologies == ()


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="block_size=0"):
        LocalAttention(make_spec(), block_size=0)


def test_it_is_what_local_attention_computes() -> None:
    library = pytest.importorskip("local_attention", reason="needs local-attention, extra oracle")
    # Its default sees both neighbors, and turns queries and keys by their places.
    other = library.LocalAttention(
        7, look_backward=0, look_forward=0, use_rotary_pos_emb=False
    ).double()
    assert_same(lambda q, k, v: local_attention(q, k, v, block_size=7), other, some_heads(21))
