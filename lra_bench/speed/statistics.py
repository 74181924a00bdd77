"""What is calculated from records: medians, ratios, and how a cost grows with the length."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lra_bench.speed.record import Mode, SpeedRecord


@dataclass(frozen=True)
class Spread:
    """A median with its extremes.

    Args:
        median: Of all values.
        least: The smallest.
        most: The largest.
    """

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Growth:
    """How a cost grows: as the length to the power of an exponent.

    Args:
        exponent: Slope of the least-squares line through logarithms: 1 is linear, 2 quadratic.
        lengths: What it is fitted to [tokens].
    """

    exponent: float
    lengths: tuple[int, ...]


def median(values: Iterable[float]) -> float:
    """Return the median of at least one value."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the extremes of at least one value."""
    return Spread(median(values), min(values), max(values))


def ratios(record: SpeedRecord, mode: Mode) -> list[float]:
    """Return how many times as fast as the baseline a model was, a value a round.

    Both of a round were measured one after the other, so that a machine that changes its pace
    changes the ratio less than the times. Empty without a result of both.
    """
    own, baseline = record.timing(mode), record.baseline_timing(mode)
    if own is None or baseline is None:
        return []
    pairs = zip(baseline.seconds_per_step, own.seconds_per_step, strict=True)
    return [theirs / ours for theirs, ours in pairs]


def memory_ratio(record: SpeedRecord, mode: Mode) -> float | None:
    """Return a model's peak memory as a part of the baseline's, None where one is not known."""
    own, baseline = record.timing(mode), record.baseline_timing(mode)
    if own is None or baseline is None:
        return None
    if own.peak_memory_bytes is None or not baseline.peak_memory_bytes:
        return None
    return own.peak_memory_bytes / baseline.peak_memory_bytes


def growth(costs: Mapping[int, float | None]) -> Growth | None:
    """Fit a power of the length to costs.

    Least squares of the logarithm of the cost over that of the length, all lengths alike.

    Args:
        costs: By length [tokens]; None, and what is not positive, is left out.

    Returns:
        None if fewer than two lengths are left.
    """
    known = sorted((length, cost) for length, cost in costs.items() if cost and cost > 0)
    if len(known) < 2:
        return None
    points = [(math.log(length), math.log(cost)) for length, cost in known]
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope
    return Growth(slope, tuple(length for length, _ in known))
