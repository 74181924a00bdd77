"""How sure the order of methods is: mean ranks over tasks, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lra_bench.leaderboard.statistics import CONFIDENCE
from lra_bench.metrics import metric

_DRAWS = 10_000


@dataclass(frozen=True)
class Rank:
    """Where a method stands among others.

    Args:
        method: Its name.
        mean: Mean of its ranks over the titles; 1 is the best.
        low: Lower end of the interval.
        high: Its upper end.
    """

    method: str
    mean: float
    low: float
    high: float


def ranks_of(cells: pd.DataFrame) -> tuple[list[Rank], list[str]]:
    """Return the ranks of methods, the best first, and the titles that they are over.

    The results are drawn again many times: around each mean with the standard error of sampling
    the test split and with that over seeds (Student's t), where there are several. The interval
    holds 95 % of the mean ranks that come out. The same cells give the same ranks.

    Args:
        cells: Of one setting. The methods are those that have a result on every title; if there
            are not two of them, those of the title that has the most.
    """
    on_tasks = ~cells["is_diagnostic"] & ~cells["is_pretraining"]
    known = cells[cells["test_mean"].notna() & on_tasks]
    titles = list(dict.fromkeys(known["title"]))
    methods = _on_all(known, titles)
    if len(methods) < 2 and len(known):
        titles = [known["title"].value_counts(sort=True).index[0]]
        methods = _on_all(known, titles)
    if len(methods) < 2:
        return [], []
    rng = np.random.default_rng(0)
    drawn, plain = [], []
    for title in titles:
        of_title = known[known["title"] == title].drop_duplicates("method").set_index("method")
        of_title = of_title.loc[methods]
        sign = -1 if metric(of_title["metric"].iloc[0]).higher_is_better else 1
        means = sign * of_title["test_mean"].to_numpy(float)
        plain.append(_ranks(means[None]))
        drawn.append(_ranks(means + _noise(of_title, rng)))
    mean = np.mean(plain, axis=0)[0]
    over_titles = np.mean(drawn, axis=0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(over_titles, [tail, 1 - tail], axis=0)
    found = [
        Rank(method, float(mean[index]), float(low[index]), float(high[index]))
        for index, method in enumerate(methods)
    ]
    return sorted(found, key=lambda rank: (rank.mean, rank.method)), titles


def _on_all(cells: pd.DataFrame, titles: Sequence[str]) -> list[str]:
    """Return the methods that have a result on every title."""
    of_method = cells[cells["title"].isin(titles)].groupby("method")["title"].nunique()
    return sorted(of_method[of_method == len(titles)].index)


def _noise(cells: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Return what the result of each method may be off by, a row a draw."""
    size = (_DRAWS, len(cells))
    of_pretrainings = cells["num_pretrainings"]
    numbers = of_pretrainings.where(of_pretrainings > 0, cells["num_completed"]).to_numpy(float)
    over_seeds = (cells["test_std"] / np.sqrt(numbers)).fillna(0.0).to_numpy(float)
    of_sampling = cells["sampling_error"].astype(float).fillna(0.0).to_numpy()
    seeds = rng.standard_t(np.maximum(numbers - 1, 1), size) * over_seeds
    sampling = rng.standard_normal(size) * of_sampling
    noise: np.ndarray = seeds + sampling
    return noise


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks in each row, the smallest first; equal values share their mean rank."""
    from scipy import stats

    ranks: np.ndarray = stats.rankdata(values, axis=1)
    return ranks
