"""Attention by synthesized scores equals its slow, obvious version, for every kind of scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import synthesizer as oracles
from torch import Tensor

from lra_bench.models.attention import split_heads
from lra_bench.models.synthesizer import SynthesizerAttention, synthesizer_attention
from models.made_up import assert_same, make_spec, padded, some_heads

VARIANTS = ("dense", "random", "factorized_dense", "factorized_random")


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("compares", [True, False])
@pytest.mark.parametrize("examples", [1, 3])
def test_it_is_the_naive_one(examples: int, compares: bool, is_padded: bool) -> None:
    mask = padded()[1]
    length = mask.shape[1]
    key_mask = mask if is_padded else None
    generator = torch.Generator().manual_seed(0)
    shape = (examples, 2, length, length)
    scores = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    def run(function: Any, q: Tensor, k: Tensor, v: Tensor, s: Tensor) -> Tensor:
        pair = (q, k) if compares else (None, None)
        out: Tensor = function(*pair, v, key_mask, scores_EHLL=s)
        return out

    assert_same(
        lambda *inputs: run(synthesizer_attention, *inputs),
        lambda *inputs: run(oracles.synthesizer_attention, *inputs),
        [*some_heads(length), scores],
        mask[:, None, :, None] if is_padded else None,
    )


def scores_of(mixer: Any, variant: str, x_LD: Tensor) -> Tensor:
    """Return the scores of one sequence, (H, L, L)."""
    length = len(x_LD)
    part = mixer.synthesize

    def dense(layers: Any) -> Tensor:
        hidden = (layers.hidden.weight, layers.hidden.bias)
        return oracles.dense_scores(x_LD, hidden, layers.weight_HKT, layers.bias_H1T)

    if variant == "random":
        return part.table_HTT[:, :length, :length]  # type: ignore[no-any-return]
    if variant == "factorized_random":
        return torch.einsum("hqr,hsr->hqs", part.left_HTR[:, :length], part.right_HTR[:, :length])
    if variant == "dense":
        return dense(part)[..., :length]
    return oracles.factorized_dense_scores(dense(part.inner), dense(part.outer))


@pytest.mark.parametrize("dot_product", ["none", "added", "weighted"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("max_length", [22, 30])
def test_every_variant_is_the_naive_one(variant: Any, dot_product: Any, max_length: int) -> None:
    torch.manual_seed(0)
    mask = padded()[1]
    spec = make_spec(max_length=max_length)
    mixer = SynthesizerAttention(spec, variant=variant, rank=3, dot_product=dot_product).double()
    for parameter in mixer.parameters():
        # Biases start at zero, and weights of a mixture equal; then many a mistake would not show.
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(*mask.shape, 12, dtype=torch.float64).requires_grad_()
    to = mixer.projections

    def slow(x_BLD: Tensor, *_: Tensor) -> Tensor:
        scores = torch.stack([scores_of(mixer, variant, x_LD) for x_LD in x_BLD])
        query: Tensor | None = None
        key: Tensor | None = None
        if dot_product == "none":
            value = split_heads(to.qkv(x_BLD), 2)
        else:
            query, key, value = to.split(x_BLD)
        if mixer.mixture is not None and query is not None:
            first, second = mixer.mixture.exp() / mixer.mixture.exp().sum()
            scores, query = first * scores, second * query
        mixed = oracles.synthesizer_attention(query, key, value, mask, scores_EHLL=scores)
        return to.merge(mixed)

    assert_same(
        lambda x_BLD, *_: mixer(x_BLD, mask), slow, [x, *mixer.parameters()], mask[..., None]
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 29, 30])
def test_every_length_works(variant: Any, length: int) -> None:
    mixer = SynthesizerAttention(make_spec(), variant=variant)
    assert mixer(torch.randn(2, length, 12)).isfinite().all()


@pytest.mark.parametrize("rank", [0, 31])
def test_a_rank_that_does_not_fit_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank={rank} must be at least 1 and at most .* 30"):
        SynthesizerAttention(make_spec(), rank=rank)
