"""Medians, ratios and exponents of made-up rounds."""

from __future__ import annotations

import pytest
from made_up_speed import make

from lra_bench.speed.statistics import growth, memory_ratio, ratios, spread


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine became three times as slow in the middle, for both.
    record = make(seconds=(0.1, 0.3, 0.1), baseline=(0.2, 0.6, 0.3))
    assert ratios(record, "train") == pytest.approx([2, 2, 3])
    assert ratios(record, "inference") == pytest.approx([2, 2, 3])
    assert spread(ratios(record, "train")).median == pytest.approx(2)


def test_without_a_baseline_there_is_no_ratio() -> None:
    record = make(baseline=None)
    assert ratios(record, "train") == []
    assert memory_ratio(record, "train") is None
    assert ratios(make(status="out_of_time"), "train") == []


def test_a_part_of_the_baselines_memory() -> None:
    assert memory_ratio(make(memory=3 * 10**6), "inference") == 0.75
    assert memory_ratio(make(memory=None), "train") is None


def test_the_middle_and_both_ends() -> None:
    found = spread([5.0, 1.0, 2.0, 9.0])
    assert (found.median, found.least, found.most) == (3.5, 1.0, 9.0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5, 2.0])
def test_a_power_of_the_length_has_its_exponent(exponent: float) -> None:
    costs = {length: 3e-5 * length**exponent for length in (1024, 2048, 3072, 4096)}
    fit = growth({**costs, 8192: None, 16384: 0.0})
    assert fit is not None
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.lengths == (1024, 2048, 3072, 4096)


def test_what_is_added_to_a_square_lowers_the_exponent() -> None:
    fit = growth({length: length**2 + 10_000 * length for length in (1024, 2048, 4096)})
    assert fit is not None
    assert 1 < fit.exponent < 1.5


def test_one_length_tells_nothing_of_growth() -> None:
    assert growth({1024: 0.5}) is None
    assert growth({1024: 0.5, 2048: None}) is None
    assert growth({}) is None
