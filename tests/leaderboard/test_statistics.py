"""Means, spreads and margins against what NumPy and a hand say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from made_up_records import counted, two_classes

from lra_bench.leaderboard.statistics import (
    Sample,
    Summary,
    is_at_baseline,
    mean_of_all,
    obstacle,
    sampling_error,
    summarize,
)


def test_a_summary_is_that_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=9).tolist()
    summary = summarize([None, *values, math.nan])
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.std == pytest.approx(np.std(values, ddof=1))
    assert (summary.least, summary.most) == (min(values), max(values))


def test_too_few_values_have_no_number() -> None:
    assert summarize([]) == summarize([None, math.nan]) == Summary()
    assert summarize([3]) == Summary(1, 3.0, None, 3.0, 3.0)


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


# Intervals.


def test_few_runs_have_a_t_interval() -> None:
    # Mean 2, deviation 1; the table of t says 4.3027 for two degrees of freedom.
    found = summarize([1.0, 2.0, 3.0], interval=True)
    assert found.method == "t"
    assert found.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    assert found.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)


def test_ten_runs_are_bootstrapped_the_same_each_time_in_any_order() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.01, 10).tolist()
    found = summarize(values, interval=True)
    assert found.method == "bootstrap"
    assert found == summarize(values, interval=True)
    again = summarize(values[::-1], interval=True)
    assert (again.low, again.high) == (found.low, found.high)
    assert found.low is not None
    assert found.high is not None
    # Within a fifth of what a normal mean would have.
    half = 1.96 * np.std(values, ddof=1) / math.sqrt(10)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.2)


def test_the_interval_of_very_many_runs_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(2).normal(size=10_000)
    found = summarize(values, interval=True)
    assert found.high == pytest.approx(values.mean() + 1.96 * values.std() / 100, abs=1e-3)


def test_runs_that_agree_have_an_interval_of_no_length() -> None:
    for number in (2, 12):
        found = summarize([0.25] * number, interval=True)
        assert (found.low, found.high, found.std) == (0.25, 0.25, 0)
    assert summarize([0.25], interval=True).low is None


def test_the_t_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    found = [summarize(rng.normal(size=4), interval=True) for _ in range(2000)]
    inside = sum(one.low <= 0 <= one.high for one in found)  # type: ignore[operator]
    # Two standard errors of a proportion of 2,000 are one per cent.
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


# What is a win.


def sample(*values: float, seeds: Sequence[int] = (), error: float | None = 0.001) -> Sample:
    return Sample(dict(zip(seeds or range(len(values)), values, strict=True)), error)


def test_sampling_error_is_that_of_a_proportion_of_examples() -> None:
    assert sampling_error(0.36, "accuracy", 2000) == pytest.approx(0.010733, abs=1e-6)
    assert sampling_error(0.36, "token_f1", 2000) == sampling_error(0.36, "accuracy", 2000)
    assert sampling_error(0.36, "f1_macro", 2000) is None
    assert sampling_error(1.36, "loss", 2000) is None


@pytest.mark.parametrize(
    ("best", "other", "expected"),
    [
        # Seeds agree that it is better by one point, and the test split is large.
        (sample(0.51, 0.52, 0.53), sample(0.50, 0.51, 0.521), None),
        # The same, on a small one.
        (sample(0.51, 0.52, 0.53, error=0.01), sample(0.50, 0.51, 0.521, error=0.01), "sampling"),
        # Without pairs the spread over seeds is too large.
        (sample(0.51, 0.52, 0.53), sample(0.50, 0.51, 0.521, seeds=(3, 4, 5)), "seeds"),
        (sample(0.9), sample(0.1), "one seed"),
        (sample(0.9, 0.8), sample(0.1), "one seed"),
        (sample(0.9, 0.9, error=None), sample(0.1, 0.1), "unknown sampling error"),
        # No variance at all.
        (sample(0.9, 0.9), sample(0.1, 0.1), None),
        (sample(0.9, 0.9), sample(0.1, 0.1, seeds=(7, 8)), None),
        # The seeds of one are among those of the other.
        (sample(0.51, 0.52, 0.53, 0.9), sample(0.50, 0.51, 0.521), None),
    ],
)
def test_what_keeps_a_difference_from_being_a_win(
    best: Sample, other: Sample, expected: str | None
) -> None:
    assert obstacle(best, other, num_comparisons=1) == expected
    flipped = [
        Sample({seed: -value for seed, value in of.by_seed.items()}, of.error)
        for of in (best, other)
    ]
    assert obstacle(*flipped, num_comparisons=1, higher_is_better=False) == expected


def test_more_comparisons_need_more_evidence() -> None:
    best, other = sample(0.51, 0.52, 0.53), sample(0.50, 0.51, 0.521)
    found = [obstacle(best, other, num_comparisons=number) for number in (1, 10, 100)]
    assert found == [None, None, "seeds"]


def test_equal_methods_seldom_win_over_all_others() -> None:
    """The family of errors is bounded although the best is read from the same runs."""
    rng, wins = np.random.default_rng(4), 0
    for _ in range(300):
        methods = [sample(*rng.normal(0.5, 0.01, 5), error=0.0) for _ in range(5)]
        best = max(methods, key=lambda one: one.mean)
        others = [one for one in methods if one is not best]
        wins += not any(obstacle(best, other, num_comparisons=4) for other in others)
    assert wins <= 300 * 0.05
