"""What is calculated from several runs, and from one run's share of right answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lra_bench.metrics import Evaluation, metric

# The metrics that are a share of right answers, and what they are a share of: only these have the
# standard error of a proportion.
PROPORTIONS = {"accuracy": "targets", "exact_match": "examples"}


@dataclass(frozen=True)
class Summary:
    """What some runs have in common; None where there are too few.

    Args:
        mean: Of at least one run.
        std: Sample standard deviation, of at least two.
        least: The smallest value.
        most: The largest value.
    """

    mean: float | None = None
    std: float | None = None
    least: float | None = None
    most: float | None = None


def summarize(values: Iterable[float | None]) -> Summary:
    """Return the summary of values, without those that are missing (None or NaN)."""
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    if not known:
        return Summary()
    mean = math.fsum(known) / len(known)
    std = None
    if len(known) > 1:
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    return Summary(mean, std, min(known), max(known))


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None unless every value is there."""
    summary = summarize(values)
    missing = any(value is None or math.isnan(value) for value in values)
    return None if missing else summary.mean


def is_at_baseline(evaluation: Evaluation, name: str, baseline: float | None) -> bool:
    """Return whether a run is no better than always giving the most frequent answer.

    A share of right answers must exceed it by two standard errors, which a run without any skill
    does in one of forty tries; any other metric must be better at all.

    Args:
        evaluation: Of the test split.
        name: The metric.
        baseline: What always giving the most frequent answer has; False if it is not known.
    """
    if baseline is None:
        return False
    margin = 0.0
    if name in PROPORTIONS and 0 <= baseline <= 1:
        number = evaluation.sums[PROPORTIONS[name]]
        margin = 2 * math.sqrt(baseline * (1 - baseline) / number)
    return not metric(name).is_better(evaluation[name], baseline + margin)
