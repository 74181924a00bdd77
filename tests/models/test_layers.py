"""Positions, dropout, and what an encoder's sizes may be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lra_bench.models.layers import Dropout, Embedding, sinusoids
from models.made_up import make_spec


def test_sinusoids() -> None:
    table = sinusoids(50, 8)
    assert table.shape == (50, 8)
    angle = 7 * 10_000 ** (-4 / 8)
    expected = torch.tensor([angle]).sin().item(), torch.tensor([angle]).cos().item()
    assert table[7, 4].item() == pytest.approx(expected[0], abs=1e-5)
    assert table[7, 5].item() == pytest.approx(expected[1], abs=1e-5)


class TestDropout:
    def test_share_and_scale(self) -> None:
        torch.manual_seed(0)
        x = torch.ones(100_003, requires_grad=True)
        dropped = Dropout(0.1)(x)
        share = (dropped == 0).float().mean().item()
        # Four standard errors.
        assert abs(share - 0.1) < 4 * (0.09 / len(x)) ** 0.5
        assert dropped.max().item() == pytest.approx(1 / 0.9, rel=1e-4)
        dropped.sum().backward()
        assert x.grad is not None
        assert torch.equal(x.grad, dropped.detach())

    def test_elements_are_independent(self) -> None:
        torch.manual_seed(0)
        kept = (Dropout(0.5)(torch.ones(1 << 18)) != 0).float()
        # Four neighbors come from one 64-bit number.
        for shift in (1, 2, 3, 4):
            agree = (kept[shift:] == kept[:-shift]).float().mean().item()
            assert abs(agree - 0.5) < 4 * 0.5 / len(kept) ** 0.5

    def test_the_seed_decides(self) -> None:
        torch.manual_seed(3)
        first = Dropout(0.5)(torch.ones(1000))
        torch.manual_seed(3)
        assert torch.equal(first, Dropout(0.5)(torch.ones(1000)))
        assert not torch.equal(first, Dropout(0.5)(torch.ones(1000)))

    def test_off_in_evaluation(self) -> None:
        x = torch.randn(10)
        assert torch.equal(Dropout(0.5).eval()(x), x)


def test_the_class_token_starts_at_zero() -> None:
    assert not Embedding(make_spec(has_cls=True)).tokens.weight[-1].any()
    assert Embedding(make_spec()).tokens.weight[-1].all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"qkv_width": 9}, "num_heads=2 does not divide the attention width qkv_width=9; choose"),
        ({"width": 0}, "width"),
        ({"dropout": 1.0}, "dropout"),
        ({"attention_dropout": -0.1}, "attention_dropout"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"max_length": 1.5}, "max_length"),
        ({"positions": "rotary"}, "positions"),
        ({"depth": 3}, "depth"),
    ],
)
def test_sizes_that_no_encoder_can_have_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_spec(**changes)
