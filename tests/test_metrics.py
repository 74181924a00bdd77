"""Sums add, ratios are read from them; each metric against a slow definition."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lra_bench.errors import UserError
from lra_bench.metrics import METRICS, Evaluation, constant_answer, metric, metrics_of
from lra_bench.types import Target, TaskSpec

CLASSES = 4


def drawn(number: int, seed: int) -> list[tuple[int, int]]:
    """Return pairs of the right and the given class."""
    rng = random.Random(seed)
    return [(rng.choice([0, 0, 1, 2]), rng.choice([0, 1, 1, 3])) for _ in range(number)]


def counted(pairs: list[tuple[int, int]]) -> Evaluation:
    right = sum(truth == given for truth, given in pairs)
    sums = {"examples": len(pairs), "targets": len(pairs), "correct": right, "exact": right}
    for number in range(CLASSES):
        sums[f"tp/{number}"] = sum(t == g == number for t, g in pairs)
        sums[f"fp/{number}"] = sum(g == number != t for t, g in pairs)
        sums[f"fn/{number}"] = sum(t == number != g for t, g in pairs)
    return Evaluation({**sums, "loss": 0.5 * len(pairs)})


def f1(pairs: list[tuple[int, int]], number: int) -> float:
    given = [truth for truth, answer in pairs if answer == number]
    asked = [answer for truth, answer in pairs if truth == number]
    if not given or not asked:
        return 0.0
    precision, recall = given.count(number) / len(given), asked.count(number) / len(asked)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_classes(seed: int) -> None:
    pairs = drawn(57, seed)
    of = counted(pairs)
    assert of["accuracy"] == pytest.approx(sum(t == g for t, g in pairs) / 57)
    assert of["exact_match"] == of["accuracy"]
    # Each example has one class, so that every wrong answer is one false and one missed.
    assert of["f1_micro"] == pytest.approx(of["accuracy"])
    each = [f1(pairs, number) for number in range(CLASSES)]
    assert of["f1_macro"] == pytest.approx(sum(each) / CLASSES)
    for number, value in enumerate(each):
        assert of[f"f1_of_{number}"] == pytest.approx(value)
    assert of["loss"] == of.loss == pytest.approx(0.5)


def test_parts_add_up_to_the_whole() -> None:
    pairs = drawn(40, 7)
    assert counted(pairs[:13]) + counted(pairs[13:]) == counted(pairs)
    other = Evaluation({"examples": 1, "targets": 1, "correct": 1, "exact": 1, "loss": 0.0})
    assert (other + counted(pairs)).sums["tp/0"] == counted(pairs).sums["tp/0"]


def test_positions_and_bags() -> None:
    sums = {"examples": 4, "targets": 10, "correct": 7, "exact": 1, "loss": 5.0, "token_f1": 2.5}
    of = Evaluation(sums)
    assert (of["accuracy"], of["exact_match"], of["token_f1"]) == (0.7, 0.25, 0.625)
    assert of.num_examples == 4


def test_what_was_not_counted_cannot_be_read() -> None:
    of = Evaluation({"examples": 4, "targets": 4, "correct": 1, "exact": 1, "loss": 5.0})
    for name in ("f1_macro", "f1_of_2", "token_f1"):
        with pytest.raises(UserError, match=f"{name} cannot be read from the sums"):
            of[name]
    with pytest.raises(UserError, match="there is no metric 'f2'; choose from accuracy"):
        of["f2"]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"examples": "4"},
        {"examples": 4, "targets": 4, "correct": 1, "loss": 5.0},
        {"examples": 0, "targets": 0, "correct": 0, "exact": 0, "loss": 0.0},
        {"examples": 4, "targets": 4, "correct": 5, "exact": 1, "loss": 5.0},
        {"examples": 4, "targets": 4, "correct": 4, "exact": 5, "loss": 5.0},
        {"examples": 4, "targets": 4, "correct": -1, "exact": 0, "loss": 5.0},
        {"examples": 4, "targets": 4, "correct": 1, "exact": 1, "loss": float("nan")},
        {"examples": 4, "targets": 4, "correct": 1, "exact": 1, "loss": 1.0, "tp/0": -2},
        {"examples": True, "targets": 4, "correct": 1, "exact": 1, "loss": 1.0},
    ],
)
def test_what_are_no_sums(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Evaluation.from_dict(wrong)


def test_which_way_is_better() -> None:
    assert metric("accuracy").is_better(0.5, 0.4)
    assert not metric("accuracy").is_better(0.4, 0.4)
    assert metric("loss").is_better(0.3, 0.4)
    assert metric("loss").is_better(9.0, None)
    assert all(one.name == name for name, one in METRICS.items())


def test_metrics_must_fit_what_is_asked() -> None:
    spec = TaskSpec("t", 9, 5, num_classes=2, metrics=("f1_of_1", "accuracy"))
    assert [one.name for one in metrics_of(spec)] == ["f1_of_1", "accuracy"]
    assert [one.name for one in metrics_of(TaskSpec("t", 9, 5, target="span"))] == [
        "exact_match",
        "token_f1",
    ]
    for wrong, text in (
        (TaskSpec("t", 9, 5, num_classes=2, metrics=("token_f1",)), "judges span targets"),
        (TaskSpec("t", 9, 5, num_classes=2, metrics=("f1_of_2",)), "beyond 0 to 1"),
        (TaskSpec("t", 9, 5, num_classes=2, metrics=("acuracy",)), "no metric 'acuracy'"),
        (asking("class", far=1), "judges tokens targets"),
        (asking("tokens", near=1), "about far; the kinds of questions that it names are near"),
        (asking("tokens"), "that it names are none"),
    ):
        with pytest.raises(UserError, match=text):
            metrics_of(wrong)


def asking(target: Target, **questions: int) -> TaskSpec:
    known = questions if target == "tokens" else {}
    return TaskSpec("t", 9, 5, 2, target=target, metrics=("accuracy_of_far",), questions=known)


def test_the_accuracy_of_a_kind_of_question() -> None:
    (one,) = metrics_of(asking("tokens", far=1))
    assert (one.name, one.question, one.higher_is_better) == ("accuracy_of_far", "far", True)
    sums = {"examples": 2, "targets": 9, "correct": 5, "exact": 0, "loss": 1.0}
    parts = [{"targets/far": 3, "correct/far": 1}, {"targets/far": 1, "correct/far": 1}]
    first, second = (Evaluation(sums | part) for part in parts)
    assert (first + second)["accuracy_of_far"] == 0.5
    with pytest.raises(UserError, match="accuracy_of_near cannot be read"):
        _ = first["accuracy_of_near"]


def test_always_giving_the_same_answer() -> None:
    truths = [0, 0, 1, 2, 0, 1]
    constant = constant_answer(Counter(truths), 1, CLASSES, len(truths))
    loss = {"loss": 3.0}
    assert {**constant.sums, **loss} == counted([(truth, 1) for truth in truths]).sums
    # Of several answers an example, nobody knows how many examples are wholly right.
    assert constant_answer(Counter(truths), 0, CLASSES, 2).sums["exact"] == 0
