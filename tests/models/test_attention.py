"""What hides padding, and the windows around blocks."""

from __future__ import annotations

import pytest
import torch
from oracles import attention as oracles
from oracles import rotary
from torch import Tensor

from lra_bench.models.attention import (
    HIDDEN,
    key_bias,
    merge_heads,
    split_heads,
    turned,
    windows_of,
)
from models.made_up import assert_same, some_heads


@pytest.mark.parametrize(("num_blocks", "size"), [(1, 5), (2, 3), (7, 3)])
@pytest.mark.parametrize("num_own", [0, 2])
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_windows(num_blocks: int, size: int, num_own: int, radius: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (2, num_blocks, num_own + size, 12)
    qkv = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    def fast(x: Tensor) -> Tensor:
        return torch.cat(windows_of(x, num_own, radius), dim=2)

    def slow(x: Tensor) -> Tensor:
        return torch.cat(oracles.windows_of(x, num_own, radius), dim=2)

    assert_same(fast, slow, [qkv])


def test_heads_come_back() -> None:
    x = torch.randn(2, 3, 5, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 3, 4, 5, 2)
    assert torch.equal(heads[:, :, 1, 2], x[:, :, 2, 2:4])
    assert torch.equal(merge_heads(heads), x)


def test_padding_is_hidden_by_a_finite_number() -> None:
    assert key_bias(None, torch.float32) is None
    bias = key_bias(torch.tensor([[True, False]]), torch.bfloat16)
    assert bias is not None
    assert bias.shape == (1, 1, 1, 2)
    assert bias.dtype == torch.bfloat16
    assert bias.flatten().tolist() == [0.0, torch.tensor(HIDDEN).bfloat16().item()]


@pytest.mark.parametrize("start", [0, 5])
def test_turning_is_multiplying_complex_numbers(start: int) -> None:
    query, key, _ = some_heads(7)

    def slow(x: Tensor) -> Tensor:
        rows: Tensor = torch.stack([rotary.turned(row, start) for row in x.flatten(0, 1)])
        return rows.view(x.shape)

    assert_same(lambda x: turned(x, start), slow, [query])
    # A score depends on the distance alone.
    scores = turned(query, start) @ turned(key, start).mT
    torch.testing.assert_close(scores, turned(query) @ turned(key).mT)
    same = query[:, :, :1].expand(-1, -1, 7, -1)
    diagonals = turned(same) @ turned(same).mT
    torch.testing.assert_close(diagonals[..., 0, 2], diagonals[..., 4, 6])
    assert turned(query.bfloat16()).dtype == torch.bfloat16
