"""What an encoder goes along with, and rotary positions in every mixer that can have them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import rotary
from torch import Tensor

from lra_bench.build import build_task
from lra_bench.compose import compose
from lra_bench.errors import UserError
from lra_bench.heads import TaskModel
from lra_bench.models.encoder import Mixer, SequenceEncoder, check_choices
from lra_bench.models.transformer import DenseAttention
from lra_bench.models.trunk import TransformerEncoder
from lra_bench.runner import assemble
from lra_bench.words import options
from models.made_up import LENGTHS, assert_same, make_spec, padded
from models.test_contract import BLOCKS

# Those whose scores are inner products of single queries and keys.
TURNING = {"bigbird", "local", "longformer", "performer", "sparse", "transformer"}


def assembled(model: str, *words: str, task: str = "listops") -> TaskModel:
    asked = compose([f"model={model}", f"task={task}", "setting=smoke", *words])
    return assemble(asked.config, build_task(asked).spec)


@pytest.mark.parametrize("model", options("model"))
def test_rotary_positions_are_taken_or_refused(model: str) -> None:
    words = ("trunk.positions=rotary", *BLOCKS.get(model, ()))
    if model not in TURNING:
        with pytest.raises(UserError, match=r"rotary.*choose .*learned.*sinusoidal"):
            assembled(model, *words)
        return
    encoder = assembled(model, *words).eval().encoder
    tokens, mask = padded()
    for topology in (None, *encoder.topologies):
        states = encoder(tokens, mask, topology=topology)
        for row, length in enumerate(LENGTHS):
            alone = encoder(tokens[row : row + 1, :length], topology=topology)[0]
            torch.testing.assert_close(states[row, :length], alone, atol=1e-5, rtol=1e-5)
    tokens = torch.arange(1, 13)[None] % 7 + 1
    states = encoder(tokens)
    # Without positions, attention over all would not tell the order of what it sees.
    assert not torch.allclose(states[0].mean(0), encoder(tokens.flip(1))[0].mean(0), atol=1e-4)


@pytest.mark.parametrize("model", ["transformer", "longformer", "sparse"])
def test_rotary_scores_know_distances_only(model: str) -> None:
    """Moved by whole blocks behind padding of a single id, a sequence mixes in the same way."""
    words = ["trunk.positions=rotary", "trunk.num_layers=1"]
    words += ["model.mixer.window=4", "model.mixer.num_global_tokens=0"] * (model == "longformer")
    words += ["model.mixer.stride=4", "model.mixer.num_summaries=2"] * (model == "sparse")
    encoder = assembled(model, *words).double().eval().encoder
    mixers = [part for part in encoder.modules() if isinstance(part, Mixer)]
    torch.manual_seed(0)
    x_BLD = torch.randn(1, 24, encoder.width, dtype=torch.float64)
    x_BLD[:, :8] = 0.0
    mask = torch.arange(24)[None] >= 8
    for mixer in mixers:
        behind = mixer(x_BLD, mask)[:, 8:]
        torch.testing.assert_close(behind, mixer(x_BLD[:, 8:]))


def test_dense_attention_over_turned_rows_is_the_naive_one() -> None:
    torch.manual_seed(0)
    mixer = DenseAttention(make_spec(positions="rotary")).double().eval()
    x_LD = torch.randn(9, 12, dtype=torch.float64)

    def slow(x_LD: Tensor, *_: Tensor) -> Tensor:
        query, key, value = (x_LD @ mixer.projections.qkv.weight.T).chunk(3, -1)
        heads = []
        for features in (slice(0, 4), slice(4, 8)):
            left, right = (rotary.turned(rows[:, features]) for rows in (query, key))
            heads.append((left @ right.T / 2).softmax(-1) @ value[:, features])
        out: Tensor = torch.cat(heads, -1) @ mixer.projections.out.weight.T
        return out

    weights = list(mixer.parameters())
    assert_same(lambda x, *_: mixer(x[None])[0], slow, [x_LD.requires_grad_(), *weights])


def test_a_head_that_cannot_be_turned_is_refused() -> None:
    words = ("trunk.positions=rotary", "trunk.qkv_width=6")
    with pytest.raises(UserError, match="leaves 3 a head; choose qkv_width=8 or another number"):
        assembled("transformer", *words)


class Plain(SequenceEncoder):
    """Takes what every encoder must."""

    width = 12

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        raise NotImplementedError


class Obliging(Plain):
    """Takes one thing more."""

    takes = ("norm=batch",)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positions": "none"}, "trunk.positions=none; choose positions=learned or positions=sinu"),
        ({"norm": "batch"}, "trunk.norm=batch; choose norm=layer"),
        ({"norm_place": "post"}, "trunk.norm_place=post; choose norm_place=pre"),
        ({"tied_dropout": True}, "trunk.tied_dropout=true; choose tied_dropout=false"),
    ],
)
def test_a_choice_that_would_be_passed_over_is_refused(changes: Any, says: str) -> None:
    spec = make_spec(**changes)
    with pytest.raises(ValueError, match=f"Plain does not take {says}"):
        check_choices(Plain(), spec)
    assert set(TransformerEncoder.takes) >= {
        f"{key}={str(value).lower()}" for key, value in changes.items()
    }
    if "norm" in changes:
        check_choices(Obliging(), spec)
        with pytest.raises(ValueError, match="choose norm=layer or norm=batch"):
            check_choices(Obliging(), make_spec(norm="scale"))


@pytest.mark.parametrize("model", ["luna", "ernie_sparse", "transformer", "s4d"])
def test_pixels_are_read_as_numbers(model: str) -> None:
    encoder = (
        assembled(
            model,
            "trunk.input=linear",
            "trunk.positions=none",
            *BLOCKS.get(model, ()),
            task="image",
        )
        .eval()
        .encoder
    )
    assert not [part for part in encoder.modules() if isinstance(part, torch.nn.Embedding)]
    states = encoder(torch.tensor([[0, 255, 122, 3, 4]]))
    assert states.isfinite().all()
    with pytest.raises(UserError, match="those of this task are symbols"):
        assembled(model, "trunk.input=linear")
    with pytest.raises(UserError, match=r"class token; choose head\.pooling=mean"):
        assembled(model, "trunk.input=linear", "head.pooling=cls", task="image")


def test_a_norm_that_an_encoder_cannot_have_is_refused_before_data_are_read() -> None:
    with pytest.raises(UserError, match=r"model: LunaEncoder does not take trunk\.norm=batch"):
        assembled("luna", "trunk.norm=batch")
