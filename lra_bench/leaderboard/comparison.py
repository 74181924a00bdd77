"""Which method is the best beyond the noise, and averages over tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lra_bench.leaderboard.board import Average, Board
from lra_bench.leaderboard.collect import CELL, Run
from lra_bench.leaderboard.statistics import Sample, obstacle, summarize
from lra_bench.metrics import metric

# What keeps a method from being the best, besides what `statistics.obstacle` names.
DIVERGED, ONE_PRETRAINING = "diverged", "one pretraining"
Rows = Sequence[dict[str, Any]]
RunsByCell = Mapping[tuple[str, ...], Sequence[Run]]


def judge_best(rows: Rows, runs: RunsByCell) -> None:
    """Write into the rows of cells which is the best of its table; see `Tables.cells`.

    Args:
        rows: All cells; gain ``is_best`` and ``not_beaten``.
        runs: The runs of each.
    """
    tables: dict[tuple[str, str], dict[int, Sample]] = {}
    for index, row in enumerate(rows):
        row |= {"is_best": False, "not_beaten": {}}
        if row["test_mean"] is not None:
            sample = Sample(independent(runs[_key(row)]), row["sampling_error"])
            tables.setdefault((row["setting"], row["title"]), {})[index] = sample
    for samples in tables.values():
        first = next(iter(samples))
        higher = metric(rows[first]["metric"]).higher_is_better
        leader, not_beaten = _compare(samples, higher_is_better=higher)
        if rows[leader]["num_diverged"]:
            # The mean is of the runs that survived; what it would be with the others, nobody knows.
            not_beaten = dict.fromkeys((index for index in samples if index != leader), DIVERGED)
        for index, why in not_beaten.items():
            if why == "one seed" and any(_is_shared(rows[of]) for of in (leader, index)):
                not_beaten[index] = ONE_PRETRAINING
        methods = {rows[index]["method"]: why for index, why in not_beaten.items()}
        rows[leader]["not_beaten"] = methods
        rows[leader]["is_best"] = len(samples) > 1 and not methods


def _compare(
    samples: Mapping[Any, Sample], *, higher_is_better: bool = True
) -> tuple[Any, dict[Any, str]]:
    """Return which one leads, and what keeps it from being better than which others."""
    sign = 1 if higher_is_better else -1
    leader = max(samples, key=lambda key: sign * samples[key].mean)
    others = {key: sample for key, sample in samples.items() if key != leader}
    found = {
        key: obstacle(
            samples[leader],
            sample,
            num_comparisons=len(others),
            higher_is_better=higher_is_better,
        )
        for key, sample in others.items()
    }
    return leader, {key: why for key, why in found.items() if why is not None}


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in CELL)


def _is_shared(row: Mapping[str, Any]) -> bool:
    """Return whether all runs of a cell, of which there are several, have one pretraining."""
    return bool(row["num_pretrainings"] == 1 < row["num_completed"])


def independent(runs: Sequence[Run]) -> dict[int, float]:
    """Return the results of a cell that do not depend on one another, by seed.

    Runs that began from one pretraining have its luck in common: they count as one, their mean,
    by the seed of the pretraining.
    """
    values: dict[int, list[float]] = {}
    for run in runs:
        if run.test is not None:
            seed = run.seed if run.pretraining is None else run.pretraining.seed
            values.setdefault(seed, []).append(run.test)
    return {seed: of[0] if len(of) == 1 else math.fsum(of) / len(of) for seed, of in values.items()}


def averages_of(
    rows: Rows, runs: RunsByCell, board: Board
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the averages of each setting that has more than one table, and the barred ones."""
    values: list[dict[str, Any]] = []
    barred: list[dict[str, Any]] = []
    by_setting: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if not row["is_pretraining"]:
            by_setting.setdefault(row["setting"], []).append(row)
    for setting, of_setting in sorted(by_setting.items()):
        for average in board.averages:
            columns = _columns_of(average, of_setting)
            if set(columns) == set(average.tasks):
                found = list(_averaged(list(columns.values()), of_setting, runs))
                _judge_average(found, metric(average.metric).higher_is_better)
                values += [{"setting": setting, "average": average.name, **one} for one in found]
            elif set(average.tasks) <= {row["counts_as"] for row in of_setting}:
                missing = set(average.tasks) - set(columns)
                titles = sorted({row["title"] for row in of_setting if row["counts_as"] in missing})
                barred.append({"setting": setting, "average": average.name, "titles": titles})
    for one in values:
        del one["sample"]
        one.pop("num_diverged", None)
    return values, barred


def _columns_of(average: Average, rows: Rows) -> dict[str, str]:
    """Return, by the tasks of an average, the titles of the columns that may stand for them.

    Only what needs no brackets may. Of a task and the same task on the official files, the latter
    counts: its label is the longer one.
    """
    allowed = {
        (row["title"], row["counts_as"])
        for row in rows
        if row["title"] == row["task"]
        and row["metric"] == average.metric
        and row["counts_as"] in average.tasks
    }
    return {task: title for title, task in sorted(allowed)}


def _averaged(titles: Sequence[str], rows: Rows, runs: RunsByCell) -> Iterator[dict[str, Any]]:
    """Yield each method and the mean over its columns, or None where it lacks one.

    Where the same seeds completed every task, each seed has an average of its own, and the average
    a spread; elsewhere it has none.
    """
    methods: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        of = methods.setdefault(row["method"], {})
        if row["title"] in titles and row["test_mean"] is not None:
            of[row["title"]] = row
    for method, cells in sorted(methods.items()):
        if len(cells) < len(titles):
            yield {"method": method, "value": None, "sample": None}
            continue
        of_tasks = [cells[title] for title in titles]
        by_task = [independent(runs[_key(row)]) for row in of_tasks]
        summary = summarize(row["test_mean"] for row in of_tasks)
        one: dict[str, Any] = {"method": method, "value": summary.mean, "sample": None}
        one["num_diverged"] = sum(row["num_diverged"] for row in of_tasks)
        if all(set(values) == set(by_task[0]) for values in by_task):
            by_seed = {
                seed: math.fsum(values[seed] for values in by_task) / len(titles)
                for seed in by_task[0]
            }
            spread = summarize(by_seed.values(), interval=True)
            one |= {"std": spread.std, "low": spread.low, "high": spread.high}
            errors = [row["sampling_error"] for row in of_tasks]
            error = None if None in errors else math.hypot(*errors) / len(titles)
            one |= {"num_seeds": spread.number, "sample": Sample(by_seed, error)}
        yield one


def _judge_average(found: Rows, higher_is_better: bool) -> None:
    """Write which average is the best beyond the noise, if all of them can be compared."""
    complete = [one for one in found if one["value"] is not None]
    samples = {index: one["sample"] for index, one in enumerate(found) if one["sample"]}
    for one in found:
        one["is_best"] = False
    if len(samples) == len(complete) > 1:
        leader, not_beaten = _compare(samples, higher_is_better=higher_is_better)
        found[leader]["is_best"] = not not_beaten and not found[leader]["num_diverged"]
