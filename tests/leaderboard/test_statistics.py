"""Means, spreads and margins against what NumPy and a hand say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up_records import counted, two_classes

from lra_bench.leaderboard.statistics import Summary, is_at_baseline, mean_of_all, summarize


def test_a_summary_is_that_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=9).tolist()
    summary = summarize([None, *values, math.nan])
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.std == pytest.approx(np.std(values, ddof=1))
    assert (summary.least, summary.most) == (min(values), max(values))


def test_too_few_values_have_no_number() -> None:
    assert summarize([]) == summarize([None, math.nan]) == Summary()
    assert summarize([3]) == Summary(3.0, None, 3.0, 3.0)


def test_a_mean_of_all_needs_all() -> None:
    assert mean_of_all([1.0, 2.0]) == 1.5
    assert mean_of_all([]) is None
    assert mean_of_all([1.0, None]) is None
    assert mean_of_all([1.0, math.nan]) is None


@pytest.mark.parametrize(
    ("correct", "expected"),
    # Two standard errors of 17 % of 2,000 examples are 1.68 %: 373.6 examples.
    [(0, True), (340, True), (373, True), (374, False), (2000, False)],
)
@pytest.mark.parametrize("name", ["accuracy", "exact_match"])
def test_right_answers_must_exceed_the_baseline_by_two_errors(
    name: str, correct: int, expected: bool
) -> None:
    assert is_at_baseline(counted(correct), name, 0.17) is expected


def test_answers_of_positions_are_counted_as_such() -> None:
    # 20 examples with 100 positions each: the margin is that of 2,000 answers.
    of = counted(374, examples=2000)
    of = type(of)({**of.sums, "examples": 20, "exact": 0})
    assert not is_at_baseline(of, "accuracy", 0.17)
    assert is_at_baseline(of, "exact_match", 0.17)


def test_other_metrics_must_be_better() -> None:
    f1 = two_classes(40, 10, 10, 40)
    assert is_at_baseline(f1, "f1_of_1", 0.8)
    assert not is_at_baseline(f1, "f1_of_1", 0.79)
    # The mean loss is 0.00525.
    assert not is_at_baseline(counted(1), "loss", 0.006)
    assert is_at_baseline(counted(1), "loss", 0.005)


def test_without_a_baseline_nothing_is_at_it() -> None:
    assert not is_at_baseline(counted(0), "accuracy", None)
