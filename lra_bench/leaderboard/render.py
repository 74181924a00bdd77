"""Tables as Markdown and CSV. Nothing is calculated here, only rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lra_bench.console import duration
from lra_bench.leaderboard.cells import Tables, ranked
from lra_bench.leaderboard.statistics import PROPORTIONS
from lra_bench.metrics import metric

# Columns that only say how to call something, or what it counts as.
_FOR_PEOPLE = ["counts_as", "title", "method"]
_EMPTY = "No runs yet. `lra-bench run task=listops model=ernie_sparse` makes the first.\n"


def csv(tables: Tables) -> str:
    """Return all cells as CSV, in full precision."""
    cells = tables.cells.drop(columns=_FOR_PEOPLE, errors="ignore")
    text: str = cells.to_csv(index=False)
    return text


def markdown(tables: Tables) -> str:
    """Return the tables of all settings as Markdown."""
    if tables.cells.empty:
        return _EMPTY
    parts = []
    for setting, cells in tables.cells.groupby("setting", sort=True):
        parts.append(f"## Setting {setting}\n")
        if cells["title"].nunique() > 1:
            averages = tables.averages[tables.averages["setting"] == setting]
            barred = tables.barred[tables.barred["setting"] == setting]
            parts.append(_overview(cells, averages, barred))
        for _, of_title in cells.groupby(["task", "data", "metric"], sort=True):
            parts.append(f"### {of_title['title'].iloc[0]}\n")
            parts.append(_one_task(of_title))
            parts.append(" ".join(_notes(of_title)) + "\n")
    parts.append(_legend(tables.cells))
    return "\n".join(parts)


def _overview(cells: pd.DataFrame, averages: pd.DataFrame, barred: pd.DataFrame) -> str:
    """Return one line a method, one column a title, and the averages."""
    in_order = cells.sort_values(["task", "data", "metric"], kind="stable")
    titles = list(dict.fromkeys(in_order["title"]))
    rows = {method: {"model": method} for method in sorted(set(cells["method"]))}
    for row in rows.values():
        row |= dict.fromkeys([*titles, *averages["average"]], "")
    for cell in cells.to_dict("records"):
        rows[cell["method"]][cell["title"]] = _result(cell)
    for average in averages.dropna(subset=["value"]).to_dict("records"):
        rows[average["method"]][average["average"]] = f"{100 * average['value']:.2f}"
    # Where a title is the task alone, its data stand below; elsewhere they stand in the title.
    plain = in_order[in_order["title"] == in_order["task"]]
    data = dict(zip(plain["title"], plain["data"], strict=True))
    notes = []
    if data:
        notes.append(f"Data of {_listed(data)}.")
    if in_order["metric"].nunique() > 1:
        metrics = zip(in_order["title"], map(_heading, in_order["metric"]), strict=True)
        notes.append(f"Metric of {_listed(dict(metrics))}.")
    for average in barred.to_dict("records"):
        notes.append(f"No {average['average']}: it may not hold {', '.join(average['titles'])}.")
    return "\n".join([_table(list(rows.values())), *([" ".join(notes) + "\n"] if notes else [])])


def _listed(content: Mapping[str, str]) -> str:
    return "; of ".join(f"{name}: {text}" for name, text in content.items())


def _one_task(cells: pd.DataFrame) -> str:
    """Return the table of the cells of one title, the best first."""
    heading = _heading(cells["metric"].iloc[0])
    return _table(
        [
            {
                "model": cell["method"],
                heading: _result(cell),
                "seeds": cell["num_completed"],
                "failed": cell["num_failed"],
                "diverged": cell["num_diverged"],
                "at baseline": cell["num_at_baseline"],
                "training time": _duration(cell["train_seconds_mean"]),
                "tokens/s": _count(cell["tokens_per_second_mean"]),
                "memory [MB]": _count(cell["peak_memory_bytes_max"], 1e6),
                "parameters": _count(cell["num_parameters"]),
                "passes": _count(cell["encoder_passes_per_step"]),
            }
            for cell in ranked(cells).to_dict("records")
        ]
    )


def _notes(cells: pd.DataFrame) -> Iterator[str]:
    """Yield the sentences below the table of one title."""
    yield f"Data: {cells['data'].iloc[0]}."
    for warning in sorted(set(cells["warning"]) - {""}):
        yield f"**{warning}.**"
    baseline = cells["majority_baseline"].dropna()
    if len(baseline):
        value, name = float(baseline.iloc[0]), cells["metric"].iloc[0]
        shown = f"{value:.2%}" if metric(name).is_share else _number(value, name)
        yield f"Always answering the most frequent class: {shown}."
    devices = sorted({name for name in cells["devices"] if name})
    if devices:
        yield f"Measured on: {' | '.join(devices)}."
    for method, remark in zip(cells["method"], cells["remark"], strict=True):
        if remark:
            yield f"{method}: {remark}."


def _legend(cells: pd.DataFrame) -> str:
    """Return what the columns mean."""
    meanings, names = [], sorted(set(cells["metric"]))
    for name in names:
        heading = _heading(name)
        lower = "" if metric(name).higher_is_better else ", lower is better"
        meanings.append(
            f"{metric(name).title[0].upper()}{metric(name).title[1:]}: mean and standard "
            f"deviation over seeds of the test {heading}{lower}, each run evaluated once with the "
            f"weights that validation chose."
        )
    bare = [metric(name).title for name in names if name not in PROPORTIONS]
    errors = f" ({', '.join(bare)}: no better at all)" if bare else ""
    return (
        f"{' '.join(meanings)} Training time, rate and memory: mean, mean and maximum over seeds; "
        f"evaluation is not in the time. At baseline: runs no better than always answering the "
        f"most frequent class, within two standard errors{errors}. Passes: forward passes through "
        f"the encoder in one training step.\n"
    )


def _heading(name: str) -> str:
    """Return what heads a column of a metric, with its unit."""
    title = metric(name).title
    return f"{title} [%]" if metric(name).is_share else title


def _result(cell: Mapping[Any, Any]) -> str:
    """Return the mean of a cell, and its spread where there are several runs."""
    if pd.isna(cell["test_mean"]):
        return "none"
    spread = "" if pd.isna(cell["test_std"]) else f" ± {_number(cell['test_std'], cell['metric'])}"
    return _number(cell["test_mean"], cell["metric"]) + spread


def _number(value: float, name: str) -> str:
    """Return a value of a metric: a share in percent, anything else as it is."""
    return f"{100 * value:.2f}" if metric(name).is_share else f"{value:.4f}"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None or pd.isna(seconds) else duration(seconds)


def _count(number: float | None, unit: float = 1) -> str:
    return "" if number is None or pd.isna(number) else f"{number / unit:,.0f}"


def _table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table whose first column is text, and the others numbers."""
    frame = pd.DataFrame(rows)
    align = ["left", *["right"] * (len(frame.columns) - 1)]
    text: str = frame.to_markdown(index=False, colalign=align, disable_numparse=True)
    return text + "\n"
