"""From runs to cells: nothing mixed, nothing dropped; names of tables, averages over tasks.

A cell is a setting, a task, a model, an objective and data; its runs differ in their seed alone.
A run that failed, diverged or stayed at the level of always giving the most frequent answer is
counted and shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lra_bench import plain
from lra_bench.leaderboard.board import Average, Board
from lra_bench.leaderboard.collect import CELL, cell_of, runs_frame
from lra_bench.leaderboard.statistics import mean_of_all, summarize
from lra_bench.metrics import metric
from lra_bench.record import RunRecord


@dataclass(frozen=True)
class Tables:
    """All that is to be shown, as frames of numbers in full precision.

    Args:
        cells: One row a cell. Besides `CELL`, counts and summaries: ``title``, what to call its
            task and data, and ``method``, what to call its model and objective.
        averages: One row a setting, method and average that is possible: ``setting``, ``method``,
            ``average``, ``value`` (None where a task is missing).
        barred: One row a setting and average that is not possible although its tasks are there:
            ``setting``, ``average``, ``titles``, which cannot be averaged.
        complaints: A line each cell that was refused.
        left_out: Number of records of settings that are never shown, by setting.
    """

    cells: pd.DataFrame
    averages: pd.DataFrame
    barred: pd.DataFrame
    complaints: list[str]
    left_out: Mapping[str, int]


def tabulate(records: Sequence[RunRecord], board: Board) -> Tables:
    """Return the tables of some runs."""
    sound, complaints, remarks = _judge(
        [record for record in records if record.setting not in board.left_out]
    )
    cells = _cells_frame(runs_frame(sound, board), remarks)
    averages, barred = _averages(cells, board)
    left_out = Counter(record.setting for record in records if record.setting in board.left_out)
    return Tables(cells, averages, barred, complaints, left_out)


def ranked(cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells of one title with the best first."""
    best_first = cells.empty or not metric(cells["metric"].iloc[0]).higher_is_better
    return cells.sort_values(
        ["test_mean", "model"], ascending=[best_first, True], na_position="last"
    )


def _judge(
    records: Sequence[RunRecord],
) -> tuple[list[RunRecord], list[str], dict[tuple[str, ...], str]]:
    """Tell sound cells from others.

    A cell is refused where its runs differ in more than the seed: in the configuration (somebody
    edited a file between two runs), in the metric or in the data.

    Returns:
        The runs of sound cells; what is wrong with the others, a line each; and, by cell, what is
        remarkable about a sound one.
    """
    members: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        members.setdefault(cell_of(record), []).append(record)
    sound, complaints, remarks = [], [], {}
    for key, runs in sorted(members.items()):
        keys, classes = _differing(runs)
        if keys:
            complaints.append(
                f"{' / '.join(key)}: its {len(runs)} runs differ in {', '.join(keys)}; remove "
                f"or repeat those that are out of date"
            )
            continue
        sound += runs
        if classes:
            remarks[key] = f"its {len(runs)} runs differ in {', '.join(classes)}"
    return sound, complaints, remarks


def _differing(runs: Sequence[RunRecord]) -> tuple[list[str], list[str]]:
    """Return the dotted keys in which runs differ, and those that only name a class.

    A class may have been moved; whether it still is the same, nobody can read from its name.
    """
    flat = [dict(plain.leaves(record.config)) for record in runs]
    absent = object()
    differing = [
        key
        for key in sorted({key for config in flat for key in config})
        if any(config.get(key, absent) != flat[0].get(key, absent) for config in flat)
    ]
    classes = [key for key in differing if key.split(".")[-1] == "_target_"]
    keys = [key for key in differing if key not in classes]
    if len({record.ranking_metric for record in runs}) > 1:
        keys.append("ranking_metric")
    if len({record.seed for record in runs}) < len(runs):
        keys.append("run_id, for the same seed")
    if len({record.data_sha256 for record in runs}) > 1:
        keys.append("data_sha256")
    return keys, classes


def _cells_frame(runs: pd.DataFrame, remarks: Mapping[tuple[str, ...], str]) -> pd.DataFrame:
    """Return one row a cell: counts, mean and spread, full precision."""
    rows: list[dict[str, Any]] = []
    for key, group in runs.groupby(list(CELL), sort=True, dropna=False):
        names = tuple(map(str, key))
        cell = dict(zip(CELL, names, strict=True))
        rows.append({**cell, **_summary(group), "remark": remarks.get(names, "")})
    titles = _titles(rows)
    for row in rows:
        row["title"] = titles[_shown_as(row)]
        plain = row["objective"] == "cross_entropy"
        row["method"] = row["model"] if plain else f"{row['model']} + {row['objective']}"
    return pd.DataFrame(rows)


def _summary(group: pd.DataFrame) -> dict[str, Any]:
    """Return what is told of the runs of a cell."""
    completed = group[group["status"] == "completed"]
    test = summarize(completed["test"])
    return {
        "counts_as": group["counts_as"].iloc[0],
        "warning": "; ".join(sorted(set(group["warning"]) - {""})),
        "metric": group["metric"].iloc[0],
        "num_runs": len(group),
        "num_completed": len(completed),
        "num_failed": int((group["status"] == "failed").sum()),
        "num_diverged": int((group["status"] == "diverged").sum()),
        "num_at_baseline": int(completed["at_baseline"].sum()),
        "test_mean": test.mean,
        "test_std": test.std,
        "test_min": test.least,
        "test_max": test.most,
        "validation_mean": summarize(completed["validation"]).mean,
        "majority_baseline": summarize(group["majority_baseline"]).mean,
        "train_seconds_mean": summarize(completed["train_seconds"]).mean,
        "tokens_per_second_mean": summarize(completed["tokens_per_second"]).mean,
        "peak_memory_bytes_max": _largest(completed["peak_memory_bytes"]),
        "num_parameters": _largest(group["num_parameters"]),
        "encoder_passes_per_step": _largest(group["encoder_passes_per_step"]),
        "devices": "; ".join(sorted(set(completed["device"]))),
        "seeds": " ".join(map(str, sorted(group["seed"]))),
    }


def _largest(column: pd.Series[Any]) -> int | None:
    most = summarize(column).most
    return None if most is None else int(most)


def _shown_as(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what cells of one table have in common."""
    return tuple(row[name] for name in ("setting", "task", "data", "metric"))


def _titles(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """Return what to call each task with its data and its metric: the task, unless that is not all.

    The data are named where they are marked, or where a task stands on several in a setting; the
    metric where the same data are judged by several.
    """
    marked = {_shown_as(row)[:3] for row in rows if row["warning"]}
    tables = sorted({_shown_as(row) for row in rows})
    data_of = Counter(key[:2] for key in {table[:3] for table in tables})
    metrics_of = Counter(table[:3] for table in tables)
    titles = {}
    for table in tables:
        _, task, data, name = table
        title = task
        if data_of[table[:2]] > 1 or table[:3] in marked:
            title += f" [{data}]"
        if metrics_of[table[:3]] > 1:
            title += f" by {metric(name).title}"
        titles[table] = title
    return titles


def _averages(cells: pd.DataFrame, board: Board) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the averages of each setting that has more than one table; see `Tables`."""
    values: list[dict[str, Any]] = []
    barred: list[dict[str, Any]] = []
    for setting, of_setting in cells.groupby("setting", sort=True) if len(cells) else ():
        for average in board.averages:
            columns = _columns_of(average, of_setting)
            if set(columns) == set(average.tasks):
                values += [
                    {"setting": setting, "method": method, "average": average.name, "value": value}
                    for method, value in _averaged(columns.values(), of_setting)
                ]
            elif set(average.tasks) <= set(of_setting["counts_as"]):
                missing = set(average.tasks) - set(columns)
                titles = sorted(set(of_setting[of_setting["counts_as"].isin(missing)]["title"]))
                barred.append({"setting": setting, "average": average.name, "titles": titles})
    return (
        pd.DataFrame(values, columns=["setting", "method", "average", "value"]),
        pd.DataFrame(barred, columns=["setting", "average", "titles"]),
    )


def _columns_of(average: Average, cells: pd.DataFrame) -> dict[str, str]:
    """Return, by the tasks of an average, the titles of the columns that may stand for them.

    Only what needs no brackets may. Of a task and the same task on the official files, the latter
    counts: its label is the longer one.
    """
    columns: dict[str, str] = {}
    allowed = cells[(cells["title"] == cells["task"]) & (cells["metric"] == average.metric)]
    for title, task in sorted(set(zip(allowed["title"], allowed["counts_as"], strict=True))):
        if task in average.tasks:
            columns[task] = title
    return columns


def _averaged(titles: Collection[str], cells: pd.DataFrame) -> Iterator[tuple[str, float | None]]:
    """Yield each method and the mean over its columns, or None where it lacks one."""
    for method, of_method in cells.groupby("method", sort=True):
        means = dict(zip(of_method["title"], of_method["test_mean"], strict=True))
        yield str(method), mean_of_all([means.get(title) for title in titles])
