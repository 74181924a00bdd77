"""Positions, dropout, and what an encoder's sizes may be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lra_bench.models.layers import BatchNorm, Dropout, Embedding, ScaleNorm, sinusoids
from lra_bench.types import Quantities
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

    def test_tied_drops_a_feature_of_a_sequence_as_a_whole(self) -> None:
        torch.manual_seed(0)
        x = torch.ones(50, 7, 40, requires_grad=True)
        dropped = Dropout(0.25, tied=True)(x)
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
        share = (dropped[:, 0] == 0).float().mean().item()
        assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
        assert dropped.max().item() == pytest.approx(4 / 3)
        dropped.sum().backward()
        assert x.grad is not None
        assert torch.equal(x.grad, dropped.detach())

    def test_off_in_evaluation(self) -> None:
        x = torch.randn(10)
        assert torch.equal(Dropout(0.5).eval()(x), x)


class TestBatchNorm:
    def states(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        x = 3 * torch.randn(3, 9, 5, dtype=torch.float64) + 2
        return x, torch.arange(9) < torch.tensor([9, 1, 4])[:, None]

    def test_it_is_that_of_pytorch_over_the_real_tokens(self) -> None:
        x, mask = self.states()
        ours, theirs = BatchNorm(5).double(), torch.nn.BatchNorm1d(5).double()
        ours.weight.data.normal_()
        theirs.load_state_dict(
            {
                "weight": ours.weight,
                "bias": ours.bias,
                "running_mean": ours.mean_D,
                "running_var": ours.variance_D,
                "num_batches_tracked": torch.tensor(0),
            }
        )
        for training in (True, True, False):
            ours.train(training)
            theirs.train(training)
            grads, outs = [], []
            for is_ours in (True, False):
                one = x.clone().requires_grad_()
                out = ours(one, mask)[mask] if is_ours else theirs(one[mask])
                (out * torch.linspace(-1, 2, 5)).square().sum().backward()
                assert one.grad is not None
                grads.append(one.grad)
                outs.append(out)
            torch.testing.assert_close(outs[0], outs[1])
            torch.testing.assert_close(grads[0], grads[1])
        torch.testing.assert_close(ours.mean_D, theirs.running_mean)
        torch.testing.assert_close(ours.variance_D, theirs.running_var)

    def test_padding_changes_nothing(self) -> None:
        x, mask = self.states()
        norms = [BatchNorm(5).double() for _ in range(2)]
        other = torch.where(mask[..., None], x, 1e6)
        out, changed = (norm(one, mask)[mask] for norm, one in zip(norms, (x, other), strict=True))
        assert torch.equal(out, changed)
        assert torch.equal(norms[0].variance_D, norms[1].variance_D)
        assert norms[0](x).shape == x.shape

    def test_a_single_token_is_no_division_by_zero(self) -> None:
        norm = BatchNorm(5)
        assert norm(torch.randn(1, 1, 5)).isfinite().all()
        assert norm.eval()(torch.randn(1, 1, 5)).isfinite().all()


def test_the_norm_by_length() -> None:
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    norm = ScaleNorm().double()
    norm.scale.data.fill_(1.5)
    expected = 1.5 * x * 5**0.5 / x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


def test_quantities_are_read_as_numbers() -> None:
    spec = make_spec(input="linear", quantities=Quantities(2.0, 4.0), positions="none")
    embedding = Embedding(spec)
    ids = torch.tensor([[2, 6, 0]])
    layer = embedding.tokens
    assert isinstance(layer, torch.nn.Linear)
    expected = torch.tensor([0.0, 1.0, -0.5])[:, None] * layer.weight[:, 0] + layer.bias
    torch.testing.assert_close(embedding(ids)[0], expected)
    with pytest.raises(ValueError, match="max_length=30"):
        embedding(torch.zeros(1, 31, dtype=torch.int64))


def test_without_positions_none_are_added() -> None:
    for positions in ("none", "rotary"):
        states = Embedding(make_spec(positions=positions))(torch.full((1, 4), 3))
        assert torch.equal(states, states[:, :1].expand_as(states))


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
        ({"positions": "relative"}, "positions"),
        (
            {"positions": "rotary", "qkv_width": 6},
            "qkv_width=6 over num_heads=2 leaves 3 a head; choose qkv_width=8 or another number",
        ),
        ({"input": "linear"}, "those of this task are symbols; choose trunk.input=symbols"),
        (
            {"input": "linear", "quantities": Quantities(1.0, 2.0), "has_cls": True},
            "no number for a class token; choose head.pooling=mean",
        ),
        ({"depth": 3}, "depth"),
    ],
)
def test_sizes_that_no_encoder_can_have_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_spec(**changes)
