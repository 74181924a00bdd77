"""What a step minimizes is its formula, whatever is asked."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from models.made_up import at_places, batch_of, head_of, make_spec, model_of, spec_of

from lra_bench.heads import TaskModel, make_model
from lra_bench.models.ernie_sparse import ErnieSparseEncoder
from lra_bench.objective import CrossEntropy, SelfAttentionRegularization
from lra_bench.types import IGNORED, TARGETS, Batch, Target


def ernie_sparse_for(target: Target) -> TaskModel:
    torch.manual_seed(0)
    encoder = ErnieSparseEncoder(make_spec(), block_size=4)
    return make_model(encoder, spec_of(target), head_of())


def asked(batch: Batch) -> list[tuple[tuple[int, ...], list[int]]]:
    """Return the place of each answer that is asked for, and the right choices."""
    if batch.targets.ndim == 3:
        ends = [
            ((row, end), sorted({span[end] for span in spans if span[end] != IGNORED}))
            for row, spans in enumerate(batch.targets.tolist())
            for end in (0, 1)
        ]
        return [(place, right) for place, right in ends if right]
    if batch.targets.ndim == 1:
        return [((row,), [right]) for row, right in enumerate(batch.targets.tolist())]
    return [
        ((row, column), [right])
        for row, answers in enumerate(batch.targets.tolist())
        for column, right in enumerate(answers)
        if right != IGNORED
    ]


@pytest.mark.parametrize("topology", ErnieSparseEncoder.topologies)
@pytest.mark.parametrize("target", TARGETS)
def test_regularization_is_its_formula(target: Target, topology: str) -> None:
    model, batch = ernie_sparse_for(target), batch_of(target)
    loss = SelfAttentionRegularization(alpha=0.7, topology=topology)(model, batch)
    first = at_places(model(batch).double().softmax(-1), batch, target)
    second = at_places(model(batch, topology=topology).double().softmax(-1), batch, target)
    places = asked(batch)
    assert places
    expected = divergence = 0.0
    for place, right in places:
        # What is hidden has no probability in either, and nothing to say.
        chances = zip(first[place].tolist(), second[place].tolist(), strict=True)
        for p, q in ((p, q) for p, q in chances if p and q):
            divergence += (p * math.log(p / q) + q * math.log(q / p)) / 2 / len(places)
        for chances_of in (first[place], second[place]):
            expected -= math.log(chances_of[right].sum().item()) / 2 / len(places)
    assert loss.terms["divergence"].item() == pytest.approx(divergence, rel=1e-3)
    assert loss.terms["divergence"].item() > 0
    assert loss.terms["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)
    assert loss.total.item() == pytest.approx(expected + 0.7 * divergence, rel=1e-5)
    loss.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("target", TARGETS)
def test_cross_entropy_is_the_mean(target: Target) -> None:
    model, batch = model_of(spec_of(target), head_of()), batch_of(target)
    logits = at_places(model(batch), batch, target)
    places = asked(batch)
    losses = [-logits[place].softmax(-1)[right].sum().log() for place, right in places]
    loss = CrossEntropy()(model, batch)
    torch.testing.assert_close(loss.total, torch.stack(losses).mean())
    assert loss.terms["cross_entropy"].item() == loss.total.item()


def test_a_class_is_judged_by_the_plain_mean() -> None:
    """To the last bit, so that numbers of other versions can be had again."""
    model, batch = model_of(spec_of("class"), head_of()), batch_of("class")
    assert torch.equal(
        CrossEntropy()(model, batch).total, F.cross_entropy(model(batch), batch.targets)
    )


@pytest.mark.parametrize("target", ["tokens", "spans"])
@pytest.mark.parametrize("objective", [CrossEntropy(), SelfAttentionRegularization()])
def test_a_batch_that_asks_nothing_moves_nothing(objective: CrossEntropy, target: Target) -> None:
    model, batch = ernie_sparse_for(target), batch_of(target)
    nothing = torch.full_like(batch.targets, IGNORED)
    loss = objective(model, Batch(batch.tokens_BIL, batch.mask_BIL, nothing, batch.num_tokens))
    assert loss.total.item() == 0
    loss.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


def test_passes_are_stated() -> None:
    assert CrossEntropy.passes_per_step == 1
    assert SelfAttentionRegularization.passes_per_step == 2


def test_what_cannot_be_trained_is_refused() -> None:
    objective = SelfAttentionRegularization(topology="shifted")
    objective.check(("shifted", "wide"))
    with pytest.raises(ValueError, match="model=ernie_sparse"):
        objective.check(())
    with pytest.raises(ValueError, match="choose from wide"):
        objective.check(("wide",))
    with pytest.raises(ValueError, match="alpha=-1"):
        SelfAttentionRegularization(alpha=-1.0)
