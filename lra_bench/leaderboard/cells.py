"""From runs to cells: nothing mixed, nothing dropped; names of tables.

A cell is a setting, a task, a model, an objective and data; its runs differ in their seed alone.
A run that failed, diverged or stayed at the level of always giving the most frequent answer is
counted and shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.collect import CELL, Run
from lra_bench.leaderboard.comparison import averages_of, independent, judge_best
from lra_bench.leaderboard.pretraining import costs_of, equal_in_cost, mixed
from lra_bench.leaderboard.statistics import sampling_error, summarize
from lra_bench.metrics import metric

# How tables are sorted: those of pretraining last; as the board does, then by name.
ORDER = ("is_pretraining", "place", "task", "data", "metric", "title")
# What a remark lists of the things that a cell's runs should have in common.
_MOST_LISTED = 3


@dataclass(frozen=True)
class Tables:
    """All that is to be shown, as frames of numbers in full precision.

    Args:
        cells: One row a cell. Besides `CELL`, counts and summaries: ``title``, what to call its
            task and data; ``method``, what to call its model and objective; ``is_best``, whether
            it is better than all others of its title beyond the noise; for the one that leads
            ``not_beaten``, from which methods it cannot be told apart, and why;
            ``is_pretraining``, whether its objective asks something of its own.
        averages: One row a setting, method and average that is possible: ``setting``, ``method``,
            ``average``, ``value`` (None where a task is missing), its spread and ``is_best``.
        barred: One row a setting and average that is not possible although its tasks are there:
            ``setting``, ``average``, ``titles``, which cannot be averaged.
        equal_cost: One row a cell that began from another run; see
            `lra_bench.leaderboard.pretraining.equal_in_cost`.
        complaints: A line each cell that was refused.
        left_out: Number of runs of settings that are never shown, by setting.
        runs: The runs of each cell, by the values of `CELL`.
    """

    cells: pd.DataFrame
    averages: pd.DataFrame
    barred: pd.DataFrame
    equal_cost: pd.DataFrame
    complaints: list[str] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)
    runs: Mapping[tuple[str, ...], Sequence[Run]] = field(default_factory=dict)


def tabulate(runs: Sequence[Run], board: Board) -> Tables:
    """Return the tables of some runs."""
    shown, left_out = [], Counter[str]()
    for run in runs:
        setting = run.names[0]
        if setting in board.left_out:
            left_out[setting] += 1
        else:
            shown.append(run)
    sound, complaints = judge(shown)
    rows = [
        {
            **dict(zip(CELL, key, strict=True)),
            **_summary(members),
            **_kind(members[0], board),
            "place": board.place_of(members[0].names[1]),
        }
        for key, members in sound.items()
    ]
    titles = _titles(rows)
    for row in rows:
        row["title"] = titles[_shown_as(row)]
        plain = row["is_pretraining"] or row["objective"] == "cross_entropy"
        row["method"] = row["model"] if plain else f"{row['model']} + {row['objective']}"
    judge_best(rows, sound)
    values, barred = averages_of(rows, sound, board)
    return Tables(
        pd.DataFrame(rows),
        pd.DataFrame(values, columns=["setting", "method", "average", *_OF_AN_AVERAGE]),
        pd.DataFrame(barred, columns=["setting", "average", "titles"]),
        pd.DataFrame(equal_in_cost(rows, sound)),
        complaints,
        dict(left_out),
        sound,
    )


def _kind(run: Run, board: Board) -> dict[str, bool]:
    """Return which table a cell belongs to, by one of its runs."""
    is_pretraining = run.names[3] in board.ask_themselves
    is_diagnostic = run.names[1] in board.diagnostics and not is_pretraining
    return {"is_diagnostic": is_diagnostic, "is_pretraining": is_pretraining}


_OF_AN_AVERAGE = ("value", "std", "low", "high", "num_seeds", "is_best")


def ranked(cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells of one title with the best first."""
    best_first = cells.empty or not metric(cells["metric"].iloc[0]).higher_is_better
    return cells.sort_values(
        ["test_mean", "model"], ascending=[best_first, True], na_position="last"
    )


def judge(runs: Iterable[Run]) -> tuple[dict[tuple[str, ...], list[Run]], list[str]]:
    """Tell sound cells from others.

    A cell is refused where its runs differ in more than the seed: in the configuration (somebody
    edited a file between two runs), in the metric or in the data.

    Returns:
        The runs of sound cells, by cell; and what is wrong with the others, a line each.
    """
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        members.setdefault(run.cell, []).append(run)
    sound, complaints = {}, []
    for key, of in sorted(members.items()):
        of.sort(key=lambda run: (run.seed, run.run_id))
        if keys := _differing(of):
            complaints.append(
                f"{' / '.join(key)}: its {len(of)} runs differ in {', '.join(keys)}; remove "
                f"or repeat those that are out of date"
            )
        else:
            sound[key] = of
    return sound, complaints


def _differing(runs: Sequence[Run]) -> list[str]:
    """Return the names of what must be the same in all runs of a cell and is not."""
    keys = [key for key in _differing_options(runs) if key.split(".")[-1] != "_target_"]
    if len({run.metric for run in runs}) > 1:
        keys.append("ranking_metric")
    if len({(run.parent, run.seed) for run in runs}) < len(runs):
        keys.append("run_id, for the same seed")
    if len({run.data_sha256 for run in runs}) > 1:
        keys.append("data_sha256")
    return [*keys, *mixed(runs)]


def _differing_options(runs: Sequence[Run]) -> list[str]:
    """Return the dotted keys in which configurations differ; equal ones are one object."""
    configs = list({id(run.config): run.config for run in runs}.values())
    absent = object()
    return [
        key
        for key in sorted({key for config in configs for key in config})
        if any(config.get(key, absent) != configs[0].get(key, absent) for config in configs)
    ]


def _remark(runs: Sequence[Run]) -> str:
    """Return in what the runs of a sound cell differ besides their seed, or nothing.

    A class may have been moved; whether it still is the same, nobody can read from its name.
    """
    found = []
    if classes := _differing_options(runs):
        found.append(f"differ in {', '.join(classes)}")
    made_by = {
        "commits": {(run.git_commit or "unknown")[:8] for run in runs},
        "kinds of hardware": {run.device for run in runs},
        "versions of PyTorch": {run.torch for run in runs},
    }
    for noun, names in made_by.items():
        if len(names) > 1:
            listed = sorted(names)[:_MOST_LISTED] + ["..."] * (len(names) > _MOST_LISTED)
            found.append(f"are of {len(names)} {noun} ({'; '.join(listed)})")
    if len(found) == 0 or len(runs) == 1:
        return ""
    return f"its {len(runs)} runs {' and '.join(found)}"


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what is told of the runs of a cell."""
    completed = [run for run in runs if run.status == "completed"]
    first, test = runs[0], summarize(independent(completed).values(), interval=True)
    each = summarize(run.test for run in completed)
    examples = [run.num_test_examples for run in completed if run.num_test_examples]
    error = None
    if test.mean is not None and examples:
        error = sampling_error(test.mean, first.metric, min(examples))

    def mean(name: str, of: Sequence[Run]) -> float | None:
        return summarize(getattr(run, name) for run in of).mean

    return {
        "counts_as": first.counts_as,
        "warning": "; ".join(sorted({run.warning for run in runs} - {""})),
        "metric": first.metric,
        "num_runs": len(runs),
        "num_completed": len(completed),
        "num_failed": sum(run.status == "failed" for run in runs),
        "num_diverged": sum(run.status == "diverged" for run in runs),
        "num_at_baseline": sum(run.at_baseline for run in completed),
        "test_mean": test.mean,
        "test_std": test.std,
        "test_min": each.least,
        "test_max": each.most,
        "test_low": test.low,
        "test_high": test.high,
        "interval": test.method or "",
        "num_test_examples": min(examples, default=None),
        "sampling_error": error,
        "validation_mean": mean("validation", completed),
        "majority_baseline": mean("majority_baseline", runs),
        "baselines": {name: value for run in runs for name, value in run.baselines},
        "train_seconds_mean": mean("train_seconds", completed),
        "tokens_per_second_mean": mean("tokens_per_second", completed),
        "peak_memory_bytes_max": _largest("peak_memory_bytes", completed),
        "num_parameters": _largest("num_parameters", runs),
        "encoder_passes_per_step": _largest("encoder_passes_per_step", runs),
        "devices": "; ".join(sorted({run.device for run in completed})),
        "commits": " ".join(sorted({run.git_commit or "unknown" for run in runs})),
        "num_uncommitted": sum(bool(run.git_dirty) for run in runs),
        "seeds": " ".join(str(run.seed) for run in runs),
        "remark": _remark(runs),
        **costs_of(runs),
    }


def _largest(name: str, runs: Sequence[Run]) -> int | None:
    return max((value for run in runs if (value := getattr(run, name)) is not None), default=None)


def _shown_as(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what cells of one table have in common: setting, task, what is asked, data, metric.

    What is asked is nothing where it is what the task itself asks.
    """
    asked = row["objective"] if row["is_pretraining"] else ""
    return row["setting"], row["task"], asked, row["data"], row["metric"]


def _titles(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """Return what to call each task with its data and its metric: the task, unless that is not all.

    The data are named where they are marked, or where a task stands on several in a setting; the
    metric where the same data are judged by several. What an objective asks of its own is named.
    """
    marked = {_shown_as(row)[:4] for row in rows if row["warning"]}
    tables = sorted({_shown_as(row) for row in rows})
    data_of = Counter(key[:3] for key in {table[:4] for table in tables})
    metrics_of = Counter(table[:4] for table in tables)
    titles = {}
    for table in tables:
        _, task, asked, data, name = table
        title = task
        if data_of[table[:3]] > 1 or table[:4] in marked:
            title += f" [{data}]"
        if asked:
            title += f", {asked}"
        if metrics_of[table[:4]] > 1:
            title += f" by {metric(name).title}"
        titles[table] = title
    return titles
