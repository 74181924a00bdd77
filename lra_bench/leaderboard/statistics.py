"""What several runs say together, how sure that is, and when one method is better than another.

SciPy is imported where it is first needed: records with one seed a cell do without.

Source: t interval and t tests as in any textbook; the bootstrap of Efron and Tibshirani (1993),
percentile method; Bonferroni's correction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lra_bench.metrics import Evaluation, metric

# The metrics that are a mean over examples of something between 0 and 1. Of these the standard
# error of sampling the examples is at most that of a proportion, whatever the examples are.
BOUNDED = ("accuracy", "exact_match", "token_f1")
# The metrics that are a share of right answers, and what they are a share of.
PROPORTIONS = {"accuracy": "targets", "exact_match": "examples"}
CONFIDENCE = 0.95
# Fewer runs than the first have a t interval, for which the bootstrap is too narrow; of more than
# the second the mean is normal, and the bootstrap says the same in a hundred times the time.
FEWEST_FOR_BOOTSTRAP, MOST_FOR_BOOTSTRAP = 10, 100
_RESAMPLES = 4_999
# Differences that a number of double precision has for no reason.
_ROUNDING = 1e-12

Method = Literal["t", "bootstrap"]


@dataclass(frozen=True)
class Summary:
    """What some runs have in common; None where there are too few.

    Args:
        number: How many.
        mean: Of at least one run.
        std: Sample standard deviation, of at least two.
        least: The smallest value.
        most: The largest value.
        low: Lower end of the interval that holds the mean with `CONFIDENCE`, of at least two.
        high: Its upper end.
        method: How the interval was made.
    """

    number: int = 0
    mean: float | None = None
    std: float | None = None
    least: float | None = None
    most: float | None = None
    low: float | None = None
    high: float | None = None
    method: Method | None = None


def summarize(values: Iterable[float | None], *, interval: bool = False) -> Summary:
    """Return the summary of values, without those that are missing (None or NaN).

    Args:
        values: One a run.
        interval: Whether the interval of the mean is asked for.
    """
    known = [float(value) for value in values if value is not None and not math.isnan(value)]
    if not known:
        return Summary()
    mean = math.fsum(known) / len(known)
    if len(known) == 1:
        return Summary(1, mean, None, mean, mean)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    summary = Summary(len(known), mean, std, min(known), max(known))
    if not interval:
        return summary
    low, high, method = _interval(known, mean, std)
    return Summary(len(known), mean, std, min(known), max(known), low, high, method)


def _interval(values: Sequence[float], mean: float, std: float) -> tuple[float, float, Method]:
    """Return where the mean of at least two values lies; the same values give the same ends."""
    if std == 0:
        return mean, mean, "t"
    from scipy import stats

    number = len(values)
    if FEWEST_FOR_BOOTSTRAP <= number <= MOST_FOR_BOOTSTRAP:
        import numpy as np

        # In order, so that it does not matter in which order the records were read.
        found = stats.bootstrap(
            (sorted(values),),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        return float(found.low), float(found.high), "bootstrap"
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1)) * std / math.sqrt(number)
    return mean - half, mean + half, "t"


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None unless every value is there."""
    summary = summarize(values)
    return summary.mean if summary.number == len(values) else None


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


def sampling_error(value: float, name: str, num_examples: int) -> float | None:
    """Return the standard error that a value has because the test split is a sample.

    It does not shrink with the number of seeds: all of them see the same examples.

    Args:
        value: The metric on the split.
        name: The metric.
        num_examples: Examples in the split; answers within an example are not independent.

    Returns:
        An upper bound, or None for a metric whose error its sums do not tell.
    """
    if name not in BOUNDED or not 0 <= value <= 1:
        return None
    return math.sqrt(value * (1 - value) / num_examples)


@dataclass(frozen=True)
class Sample:
    """The runs of a method, as a comparison needs them.

    Args:
        by_seed: The value of each run that completed.
        error: Standard error of their mean from sampling the test split; None if unknown.
    """

    by_seed: Mapping[int, float]
    error: float | None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return math.fsum(self.by_seed.values()) / len(self.by_seed)


# What keeps a difference from being a win.
Obstacle = Literal["one seed", "sampling", "unknown sampling error", "seeds"]


def obstacle(
    best: Sample, other: Sample, *, num_comparisons: int, higher_is_better: bool = True
) -> Obstacle | None:
    """Return what keeps the best from being better than another beyond the noise, or None.

    Two kinds of noise: the difference must exceed two standard errors of sampling the test split,
    the two taken as independent; and it must be significant over seeds, by a paired t test where
    the seeds of one are among those of the other, else by Welch's t test, two-sided at five per
    cent divided by the number of comparisons (Bonferroni). Which method is the best is read from
    the same runs; the chance that a method which is not best beats the one that is stays below
    five per cent with this correction. Holm's would ask of the closest competitor none at all.

    Args:
        best: The method that leads.
        other: One of its competitors.
        num_comparisons: How many competitors there are.
        higher_is_better: Of the metric.
    """
    lead = (best.mean - other.mean) * (1 if higher_is_better else -1)
    if best.error is None or other.error is None:
        return "unknown sampling error"
    if lead <= 2 * math.hypot(best.error, other.error):
        return "sampling"
    if min(len(best.by_seed), len(other.by_seed)) < 2:
        return "one seed"
    p_value = _p_value(best.by_seed, other.by_seed)
    return None if p_value * num_comparisons <= 1 - CONFIDENCE else "seeds"


def _p_value(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    """Return how likely so large a difference of the means would be if there were none."""
    common = sorted(set(first) & set(second))
    if len(common) == min(len(first), len(second)):
        differences = [first[seed] - second[seed] for seed in common]
        if _is_constant(differences):
            return float(abs(differences[0]) < _ROUNDING)
        from scipy import stats

        return float(stats.ttest_1samp(differences, 0).pvalue)
    values = [list(first.values()), list(second.values())]
    if all(map(_is_constant, values)):
        return float(abs(values[0][0] - values[1][0]) < _ROUNDING)
    from scipy import stats

    return float(stats.ttest_ind(*values, equal_var=False).pvalue)


def _is_constant(values: Sequence[float]) -> bool:
    """Return whether values differ by rounding alone: a test would divide by their variance."""
    return max(values) - min(values) < _ROUNDING
