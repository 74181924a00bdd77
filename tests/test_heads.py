"""Pooling, the class token, and heads that learn and are counted right."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models.made_up import (
    CANDIDATE,
    LENGTHS,
    MAX_LENGTH,
    TRUNK,
    at_places,
    batch_of,
    head_of,
    model_of,
    questions,
    spec_of,
)
from oracles import counting
from torch import Tensor, nn

from lra_bench.counting import (
    Tally,
    best_answers,
    best_spans,
    count,
    spans_loss,
    targets_of,
    token_f1,
)
from lra_bench.data import Loader, collate
from lra_bench.errors import UserError
from lra_bench.heads import encoder_spec, make_model
from lra_bench.metrics import Evaluation, Metric, metric, metrics_of
from lra_bench.models.encoder import SequenceEncoder
from lra_bench.objective import CrossEntropy
from lra_bench.types import IGNORED, TARGETS, Answers, Batch, Example, Target, TaskSpec

POOLINGS = ["mean", "first", "max", "cls"]


def one_of(batch: Batch, row: int, length: int) -> Batch:
    """Return an example of a batch without its padding."""
    targets = batch.targets[row : row + 1]
    if targets.ndim == 2 and targets.shape[1] > 2:
        targets = targets[:, :length]
    return Batch(batch.tokens_BIL[row : row + 1, :, :length], None, targets, length)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("num_inputs", [1, 2])
def test_pooling_sees_no_padding(pooling: str, num_inputs: int) -> None:
    model = model_of(spec_of("class", num_inputs=num_inputs), head_of(pooling))
    batch = batch_of("class", num_inputs=num_inputs)
    logits = model(batch)
    assert logits.shape == (3, 3)
    for row, length in enumerate(LENGTHS):
        alone = model(one_of(batch, row, length))[0]
        torch.testing.assert_close(logits[row], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("target", ["span", "tokens"])
def test_positions_are_those_of_the_task(target: Target, pooling: str) -> None:
    """Padding changes no answer, and a class token moves none."""
    model = model_of(spec_of(target), head_of(pooling))
    batch = batch_of(target)
    # Every position is asked for, padding too.
    batch = replace(batch, asked_N=torch.arange(batch.targets.numel()))
    logits = at_places(model(batch), batch, target)
    places_first = logits if target == "tokens" else logits.transpose(1, 2)
    assert places_first.shape[:2] == batch.tokens_BIL[:, 0].shape
    for row, length in enumerate(LENGTHS):
        one = replace(one_of(batch, row, length), asked_N=torch.arange(length))
        alone = at_places(model(one), one, target)
        alone = alone if target == "tokens" else alone.transpose(1, 2)
        torch.testing.assert_close(places_first[row, :length], alone[0], atol=1e-5, rtol=1e-5)
        if target == "span":
            assert (places_first[row, length:] < -1e8).all()
    # By hand, with the class token in front where there is one.
    tokens = batch.tokens_BIL[:1, 0, : LENGTHS[0]]
    if pooling == "cls":
        tokens = torch.cat((torch.full((1, 1), 11), tokens), dim=1)
    states = model.encoder(tokens)[0, -LENGTHS[0] :]
    layers: Any = model.head.layers
    torch.testing.assert_close(places_first[0, : LENGTHS[0]], layers(states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("num_inputs", [1, 3])
def test_candidates_are_scored_where_they_stand(num_inputs: int, pooling: str) -> None:
    """By hand, example by example: the scores of its pieces added, and no padding."""
    spec = spec_of("choice", num_inputs=num_inputs)
    model = model_of(spec, head_of(pooling))
    batch = batch_of("choice", num_inputs=num_inputs)
    logits = model(batch)
    layers: Any = model.head.layers
    examples = questions("choice", 3, num_inputs=num_inputs)
    assert (batch.rows_T is not None) == (len({len(one.inputs) for one in examples}) > 1)
    for row, example in zip(logits, examples, strict=True):
        expected: Any = 0
        for ids in example.inputs:
            tokens = torch.from_numpy(ids)[None]
            places = (tokens[0] == CANDIDATE).nonzero()[:, 0]
            if pooling == "cls":
                tokens, places = F.pad(tokens, (1, 0), value=11), places + 1
            expected = expected + layers(model.encoder(tokens)[0, places])[:, 0]
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=1e-5)
        assert (row[len(expected) :] < -1e8).all()
        assert row.argmax() < len(expected)


class Picky(SequenceEncoder):
    """An encoder that makes NaN of a sequence of padding alone, and counts sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 4
        self.table = nn.Embedding(12, 4)
        self.seen = 0

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        self.seen += len(tokens_BL)
        states: Tensor = self.table(tokens_BL)
        if mask_BL is None:
            return states
        hidden = torch.zeros(mask_BL.shape).masked_fill(~mask_BL, -torch.inf)
        return states + (hidden.softmax(-1)[..., None] * states).sum(1, keepdim=True)


def test_inputs_that_are_not_there_reach_no_encoder() -> None:
    encoder = Picky()
    model = make_model(encoder, spec_of("choice", num_inputs=3), head_of())
    batch = batch_of("choice", num_inputs=3)
    assert batch.rows_T is not None
    loss = CrossEntropy()(model, batch).total
    assert loss.isfinite()
    loss.backward()
    assert encoder.seen == len(batch.rows_T) == 6
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_no_answer_lies_in_what_is_asked() -> None:
    model, batch = model_of(spec_of("spans"), head_of()), batch_of("spans")
    logits = model(batch)
    assert batch.context_B is not None
    assert batch.mask_BIL is not None
    for row, asking, length in zip(
        logits, batch.context_B, batch.mask_BIL.sum((1, 2)), strict=True
    ):
        assert ((row > -1e8).sum(1) == length - asking).all()
        assert (row[:, :asking] < -1e8).all()
    spans, scores = best_answers(logits, 5)
    assert scores.isfinite().all()
    assert (spans[:, 0] >= batch.context_B).all()


@pytest.mark.parametrize("answer_length", [1, 3, 40])
def test_the_best_answer_is_the_best_of_the_best_ends(answer_length: int) -> None:
    logits = torch.randn(100, 2, 40, generator=torch.Generator().manual_seed(0)).double()
    logits[:, :, :3] = -1e9
    spans, scores = best_answers(logits, answer_length)
    for row, span, score in zip(logits, spans.tolist(), scores.tolist(), strict=True):
        firsts, lasts = row.tolist()
        expected = counting.best_short_span(firsts, lasts, answer_length)
        if expected is None:
            assert (span, score) == ([IGNORED, IGNORED], -math.inf)
        else:
            assert tuple(span) == expected
            assert score == pytest.approx((row[0, span[0]] + row[1, span[1]]).item())
    if answer_length == 1:
        # Of twenty and twenty of 37 places, three have to be the same; one such pair is a span.
        assert scores.isfinite().all()


def test_there_may_be_no_answer_at_all() -> None:
    logits = torch.full((1, 2, 30), -1e9)
    # Every beginning lies behind every end.
    logits[0, 0, 25:], logits[0, 1, :5] = 0.0, 0.0
    spans, scores = best_answers(logits, 4)
    assert (spans.tolist(), scores.tolist()) == ([[IGNORED, IGNORED]], [-math.inf])


def test_any_of_several_spans_is_right() -> None:
    """The formula of arXiv 1710.10723, section 2.2; a start counts once however often it stands."""
    scores = torch.randn(3, 2, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    gone = [IGNORED, IGNORED]
    targets = torch.tensor([[[1, 2], [1, 4], [6, 6]], [[3, 8], gone, gone], [gone, gone, gone]])
    losses, is_asked = spans_loss(scores, targets)
    chances = scores.softmax(-1)
    starts, ends = chances[0, 0, [1, 6]].sum(), chances[0, 1, [2, 4, 6]].sum()
    torch.testing.assert_close(losses[0], -torch.stack((starts, ends)).log())
    torch.testing.assert_close(losses[1], -chances[1, [0, 1], [3, 8]].log())
    assert losses[2].tolist() == [0, 0]
    assert is_asked.tolist() == [True, True, False]
    losses.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert not scores.grad[2].any()
    assert scores.grad[:2].abs().sum(-1).gt(0).all()


class Judging(list[Example]):
    """Examples of two questions each, of which the surer answer counts."""

    def judge(self, answers: Answers) -> dict[str, float]:
        order = np.argsort(answers.indices_N)
        assert answers.indices_N[order].tolist() == list(range(len(self)))
        chosen: dict[int, tuple[float, int]] = {}
        for at in order:
            question = int(answers.indices_N[at]) // 2
            one = float(answers.scores_N[at]), int(at)
            chosen[question] = max(chosen.get(question, one), one)
        firsts = sum(answers.spans_N2[at, 0] for _, at in chosen.values())
        return {"examples": len(chosen), "exact": 1.0, "answer_f1": float(firsts) / 100}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_texts_are_judged_over_the_whole_split(size: int) -> None:
    """Whichever process has an example: the answers of all come together."""
    spec = replace(spec_of("spans"), metrics=("answer_f1", "exact_match", "accuracy"))
    examples = Judging(questions("spans", 6))
    tallies = [Tally(spec, examples) for _ in range(size)]
    for rank, tally in enumerate(tallies):
        loader = Loader(
            examples,
            spec,
            batch_size=4,
            bucketing=True,
            device=torch.device("cpu"),
            rank=rank,
            size=size,
        )
        for batch in loader.evaluation():
            if not batch.num_tokens:
                continue
            logits = torch.zeros(batch.size, 2, batch.tokens_BIL.shape[-1])
            # Sure of the example's own number; it answers with its position 5, or 6 if it is odd.
            for row, index in enumerate(batch.indices):
                logits[row, :, 5 + index % 2] = 10.0 + index
            tally.add(logits, batch)
    counted = (Evaluation(tally.counted()) for tally in tallies if tally.sums)
    sums = sum(counted, Evaluation({})).sums
    found = tallies[0].evaluation(sums, [tally.found() for tally in tallies])
    assert found.num_examples == 3
    assert found["answer_f1"] == pytest.approx(0.06)
    assert found["exact_match"] == pytest.approx(1 / 3)
    # By positions it is counted as ever.
    assert found.sums["targets"] == 2 * sum(len(one.target) > 0 for one in examples)  # type: ignore[arg-type]
    assert Evaluation.from_dict(dict(found.sums)) == found
    with pytest.raises(UserError, match="answer_f1 judges texts, and its examples have no judge"):
        Loader(list(examples), spec, batch_size=4, bucketing=True, device=torch.device("cpu"))


def test_two_inputs_and_their_order() -> None:
    model = model_of(spec_of("class", num_inputs=2), head_of("mean", "nli"))
    tokens = torch.randint(1, 11, (4, 2, 9))
    labels = torch.zeros(4, dtype=torch.int64)
    logits = model(Batch(tokens, None, labels, 0))
    swapped = model(Batch(tokens.flip(1), None, labels, 0))
    assert not torch.allclose(logits, swapped)
    states = [model.encoder(tokens[:, number]).mean(1) for number in (0, 1)]
    features = torch.cat((*states, states[0] * states[1], states[0] - states[1]), dim=1)
    layers: Any = model.head.layers
    torch.testing.assert_close(logits, layers(features))


@pytest.mark.parametrize("target", TARGETS)
def test_the_class_token_starts_at_zero(target: Target) -> None:
    model = model_of(spec_of(target), head_of("cls"))
    embedding: Any = model.encoder.embedding
    assert embedding.tokens.weight.shape == (12, 12)
    assert not embedding.tokens.weight[11].any()
    assert len(embedding.positions) == MAX_LENGTH + 1
    longest = torch.ones(1, 1, MAX_LENGTH, dtype=torch.int64)
    targets = {
        "class": (1,),
        "span": (1, 2),
        "tokens": (1, MAX_LENGTH),
        "choice": (1,),
        "spans": (1, 1, 2),
    }[target]
    places = torch.arange(3)[None] if target == "choice" else None
    answers = torch.zeros(targets, dtype=torch.int64)
    batch = Batch(longest, None, answers, MAX_LENGTH, candidates_BC=places)
    logits = model(batch)
    if target == "spans":
        assert logits.shape == (1, 2, MAX_LENGTH)
    else:
        assert logits.shape[:-1] == targets_of(batch, target).shape


@pytest.mark.parametrize("target", TARGETS)
def test_logits_are_exact_under_autocast(target: Target) -> None:
    model = model_of(spec_of(target), head_of())
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch_of(target)).dtype == torch.float32


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(UserError, match=r"Linear is no .*SequenceEncoder"):
        make_model(nn.Linear(1, 1), spec_of("class"), head_of())  # type: ignore[arg-type]

    class Broad(SequenceEncoder):
        def forward(
            self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
        ) -> Tensor:
            return tokens_BL[..., None].float()

    with pytest.raises(UserError, match=r"Broad has no width; set self\.width"):
        make_model(Broad(), spec_of("class"), head_of())


def test_a_second_hidden_layer_without_width_is_refused() -> None:
    narrow = head_of().model_copy(update={"hidden_width": 1})
    with pytest.raises(UserError, match=r"head\.hidden_width=1 must be at least 2 for two inputs"):
        model_of(spec_of("class", num_inputs=2), narrow)
    model_of(spec_of("class"), narrow)


def test_heads_that_do_not_divide_their_width_are_refused() -> None:
    wrong = TRUNK.model_copy(update={"num_heads": 3})
    with pytest.raises(UserError, match=r"^trunk: num_heads=3 does not divide .*qkv_width=8"):
        encoder_spec(wrong, spec_of("class"), head_of())


def assert_same_sums(found: dict[str, Tensor], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == ()
        assert found[name].item() == pytest.approx(value, rel=1e-9), name


def shape_of(batch: Batch, target: Target) -> tuple[int, ...]:
    """Return the shape of logits for three choices, or of the scores of a span's ends."""
    if target == "choice":
        assert batch.candidates_BC is not None
        return tuple(batch.candidates_BC.shape)
    if target == "tokens":
        return len(batch.places_N), 3
    return (3, 3) if target == "class" else (3, 2, 22)


PER_CLASS = (metric("f1_macro"),)
BAGS = (metric("exact_match"), metric("token_f1"))
METRICS: dict[Target, tuple[Metric, ...]] = {
    "class": PER_CLASS,
    "span": BAGS,
    "tokens": PER_CLASS,
    "choice": (metric("accuracy"),),
    "spans": (metric("exact_match"),),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("target", TARGETS)
def test_counting_is_a_loop_over_answers(target: Target, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = batch_of(target)
    logits = 3 * torch.randn(shape_of(batch, target), dtype=torch.float64, generator=generator)
    if seed % 2 and target not in ("span", "spans"):
        # Mostly right, so that some examples are right in everything.
        logits += 9 * nn.functional.one_hot(targets_of(batch, target), logits.shape[-1])
    spread = at_places(logits, batch, target)
    per_class = METRICS[target] == PER_CLASS
    expected = counting.count(spread, batch, target=target, per_class=per_class, answer_length=5)
    sums = count(logits, batch, METRICS[target], target=target, answer_length=5)
    assert_same_sums(sums, expected)


def test_sums_that_no_metric_needs_are_not_counted() -> None:
    for target in TARGETS:
        batch = batch_of(target)
        logits = torch.zeros(shape_of(batch, target))
        sums = count(logits, batch, (metric("accuracy"),), target=target, answer_length=5)
        assert sums.keys() == {"examples", "targets", "correct", "exact", "loss"}


@pytest.mark.parametrize("target", TARGETS)
def test_counting_never_waits_for_the_device(target: Target) -> None:
    """Tensors without content: whoever wants to know a value fails."""
    batch = batch_of(target)
    logits = torch.zeros(shape_of(batch, target), device="meta")
    batch = replace(batch, asked_N=batch.places_N).map(lambda x: x.to("meta"))
    sums = count(logits, batch, METRICS[target], target=target, answer_length=5)
    assert all(value.is_meta for value in sums.values())


def test_an_example_that_asks_nothing_has_nothing_wrong() -> None:
    batch = batch_of("tokens")
    nothing = Batch(
        batch.tokens_BIL, batch.mask_BIL, torch.full_like(batch.targets, IGNORED), batch.num_tokens
    )
    sums = count(torch.zeros(0, 3), nothing, PER_CLASS, target="tokens")
    expected = {"examples": 3, "targets": 0, "correct": 0, "exact": 3, "loss": 0}
    assert {name: sums[name].item() for name in expected} == expected
    assert not any(sums[name].item() for name in sums if "/" in name)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_the_best_span_is_the_best_of_all_pairs(length: int) -> None:
    logits = torch.randn(200, 2, length, generator=torch.Generator().manual_seed(0)).double()
    expected = [counting.best_span(*row.tolist()) for row in logits]
    assert best_spans(logits).tolist() == [list(pair) for pair in expected]
    assert (best_spans(logits)[:, 0] <= best_spans(logits)[:, 1]).all()


def test_f1_is_that_of_bags() -> None:
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(0, 4, (300, 12)))
    answers, targets = (np.sort(rng.integers(0, 12, (300, 2)), axis=1) for _ in range(2))
    found = token_f1(tokens, torch.from_numpy(answers), torch.from_numpy(targets))
    expected = [
        counting.token_f1(row, tuple(answer), tuple(target))
        for row, answer, target in zip(
            tokens.tolist(), answers.tolist(), targets.tolist(), strict=True
        )
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert {0.0, 1.0} < set(expected)


def examples_of(target: Target, number: int, seed: int) -> list[Example]:
    """Return questions that a small model can learn to answer.

    The class is that of the first token; the span lies between the tokens 9 and 10; a position
    has the class of its token, and tokens above 6 are not asked about.
    """
    if target in ("choice", "spans"):
        return questions(target, number, num_inputs=2, seed=seed)
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        tokens = rng.integers(1, 9, rng.integers(4, MAX_LENGTH))
        answer: Any = int(tokens[0] % 3)
        if target == "span":
            first, last = np.sort(rng.choice(len(tokens), 2, replace=False))
            tokens[first], tokens[last] = 9, 10
            answer = np.array([first, last])
        elif target == "tokens":
            answer = np.where(tokens > 6, IGNORED, tokens % 3)
        made.append(Example((tokens,), answer))
    return made


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("target", TARGETS)
def test_each_kind_is_learned_and_counted(target: Target, pooling: str) -> None:
    spec = spec_of(target, num_inputs=2 if target == "choice" else 1)
    model = model_of(spec, head_of("first" if target == "class" else pooling)).train()
    collated = partial(collate, target=target, candidate=spec.candidate, context=spec.context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    examples = examples_of(target, 256, seed=0)
    for step in range(60):
        batch = collated(examples[step % 8 * 32 :][:32])
        loss = CrossEntropy()(model, batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    tests = examples_of(target, 40, seed=1)
    metrics = metrics_of(spec)
    with torch.no_grad():
        parts = []
        for batch in (collated(tests[:25]), collated(tests[25:])):
            logits = model(batch)
            sums = count(logits, batch, metrics, target=target, answer_length=5)
            parts.append(Evaluation({name: value.item() for name, value in sums.items()}))
            spread = at_places(logits, batch, target)
            expected = counting.count(spread, batch, target=target, answer_length=5)
            assert_same_sums(sums, {name: expected[name] for name in sums})
    whole = parts[0] + parts[1]
    assert whole.num_examples == 40
    # Of spans a quarter has no answer.
    for one in metrics:
        assert whole[one.name] > (0.7 if target == "spans" else 0.9), one.name


def test_answers_are_counted_by_the_token_that_asks() -> None:
    tokens_BIL = torch.tensor([[[1, 2, 1, 3]], [[2, 1, 3, 0]]])
    targets_BL = torch.tensor([[0, 1, IGNORED, 1], [1, 1, 0, IGNORED]])
    answers_BL = torch.tensor([[0, 0, 0, 1], [1, 0, 0, 1]])
    batch = Batch(tokens_BIL, None, targets_BL, 7)
    spec = TaskSpec(
        "t", 4, 4, 2, target="tokens", metrics=("accuracy_of_one", "accuracy_of_two", "accuracy"),
        questions={"one": 1, "two": 2, "unread": 3},
    )  # fmt: skip
    logits = F.one_hot(answers_BL, 2).float().flatten(0, 1)[batch.places_N]
    sums = count(logits, batch, metrics_of(spec), target="tokens", questions=spec.questions)
    # Of token 1, the one that asks nothing does not count.
    expected = {"targets/one": 2, "correct/one": 1, "targets/two": 2, "correct/two": 1}
    assert {name: sums[name].item() for name in expected} == expected
    assert not any("unread" in name for name in sums)
    assert sums["targets"].item() == 6
