"""What the tables show and say, before any format: frames -> sections of texts.

Nothing is calculated here, only rounded, and nothing is escaped: that is up to each format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lra_bench.console import count, duration
from lra_bench.leaderboard.cells import ORDER, Tables, ranked
from lra_bench.leaderboard.comparison import DIVERGED, ONE_PRETRAINING
from lra_bench.leaderboard.statistics import BOUNDED, PROPORTIONS
from lra_bench.metrics import metric

EMPTY = "No runs yet. `lra-bench run task=listops model=ernie_sparse` makes the first."
# Behind a result whose runs were not made alike.
MARK = "†"
DIAGNOSTICS = "Diagnostic tasks, which enter no average"
PRETRAINING = "Pretraining, which is no result on a task"
_MOST_NAMES = 6
_WHY = {
    "one seed": "one seed, so no test over seeds",
    "sampling": "within the sampling error of the test split",
    "unknown sampling error": "the sampling error of this metric is not known",
    "seeds": "not significant over seeds",
    DIVERGED: "some of its runs diverged, and the mean is of the others",
    ONE_PRETRAINING: "one pretraining, so no test over pretrainings",
}


@dataclass(frozen=True)
class Entry:
    """What stands in a table.

    Args:
        text: Plain text.
        bold: Whether it is better than all others beyond the noise.
    """

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Note:
    """A sentence.

    Args:
        text: Plain text.
        strong: Whether nobody may overlook it.
    """

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, and what stands below it.

    Args:
        heading: Plain text.
        level: 2 for a setting, 3 for a table; 0 without a heading.
        columns: What heads each column; the first one is text, the others are numbers.
        rows: A line each.
        notes: A paragraph of sentences.
        items: A numbered list.
    """

    heading: str = ""
    level: int = 0
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Entry]] = ()
    notes: Sequence[Note] = ()
    items: Sequence[str] = ()


def sections(tables: Tables) -> list[Section]:
    """Return the tables of all settings."""
    if tables.cells.empty:
        return [Section(notes=[Note(EMPTY)])]
    found = []
    for setting, cells in tables.cells.groupby("setting", sort=True):
        found.append(Section(f"Setting {setting}", 2))
        of_board = cells[~cells["is_diagnostic"] & ~cells["is_pretraining"]]
        if of_board["title"].nunique() > 1:
            averages = tables.averages[tables.averages["setting"] == setting]
            barred = tables.barred[tables.barred["setting"] == setting]
            found.append(_overview(of_board, averages, barred))
        for kind, heading in (("is_diagnostic", DIAGNOSTICS), ("is_pretraining", PRETRAINING)):
            of_kind = cells[cells[kind]]
            if len(of_kind):
                none = tables.averages[:0], tables.barred[:0]
                found.append(_overview(of_kind, *none, heading=heading))
        for _, of_title in cells.groupby(list(ORDER), sort=True):
            found.append(_one_task(of_title))
    return [*found, Section(notes=list(legend(tables.cells)))]


def _overview(
    cells: pd.DataFrame, averages: pd.DataFrame, barred: pd.DataFrame, *, heading: str = ""
) -> Section:
    """Return one line a method, one column a title, and the averages."""
    in_order = cells.sort_values(list(ORDER), kind="stable")
    titles = list(dict.fromkeys(in_order["title"]))
    names = list(dict.fromkeys(averages["average"]))
    alike = _seeds_alike(cells)
    rows = {
        method: dict.fromkeys([*titles, *names], Entry(""))
        for method in sorted(set(cells["method"]))
    }
    for cell in cells.to_dict("records"):
        text = result(cell) + aside(cell, alike) + (f" {MARK}" if cell["remark"] else "")
        rows[cell["method"]][cell["title"]] = Entry(text, bool(cell["is_best"]))
    for average in averages.dropna(subset=["value"]).to_dict("records"):
        spread = "" if pd.isna(average["std"]) else f" ± {100 * average['std']:.2f}"
        text = f"{100 * average['value']:.2f}{spread}"
        rows[average["method"]][average["average"]] = Entry(text, bool(average["is_best"]))
    return Section(
        heading,
        3 if heading else 0,
        columns=["model", *titles, *names],
        rows=[[Entry(method), *entries.values()] for method, entries in rows.items()],
        notes=list(_notes_of_overview(in_order, barred)),
    )


def _seeds_alike(cells: pd.DataFrame) -> int | None:
    """Return how many seeds each cell has if all have as many and nothing failed, else None."""
    numbers = {*cells["num_completed"], *cells["num_runs"]}
    return int(numbers.pop()) if len(numbers) == 1 else None


def aside(cell: Mapping[Any, Any], alike: int | None) -> str:
    """Return what stands in parentheses: seeds where cells differ in them, and chance.

    Args:
        cell: The cell.
        alike: How many seeds all cells have; None if they differ.
    """
    completed, runs = cell["num_completed"], cell["num_runs"]
    parts = []
    if alike is None:
        parts.append(f"{completed}" if completed == runs else f"{completed} of {runs}")
    if _is_shared(cell):
        parts.append(count(cell["num_pretrainings"], "pretraining"))
    if 0 < completed == cell["num_at_baseline"]:
        parts.append("at baseline")
    return f" ({', '.join(parts)})" if parts else ""


def _is_shared(cell: Mapping[Any, Any]) -> bool:
    """Return whether several runs of a cell began from one pretraining."""
    return bool(0 < cell["num_pretrainings"] < cell["num_completed"])


def _notes_of_overview(cells: pd.DataFrame, barred: pd.DataFrame) -> Iterator[Note]:
    alike = _seeds_alike(cells)
    if alike == 1:
        yield Note("1 seed a cell: no interval, no test over seeds, and nothing in bold.")
    elif alike:
        yield Note(f"{alike} seeds a cell.")
    else:
        yield Note("In parentheses: seeds that completed, of those that were begun.")
    # Where a title is the task alone, its data stand below; elsewhere they stand in the title.
    plain = cells[(cells["title"] == cells["task"]) | cells["is_pretraining"]]
    data = dict(zip(plain["title"], plain["data"], strict=True))
    if data:
        yield Note(f"Data of {_listed(data)}.")
    if cells["metric"].nunique() > 1 or cells["is_pretraining"].any():
        metrics = zip(cells["title"], map(heading_of, cells["metric"]), strict=True)
        yield Note(f"Metric of {_listed(dict(metrics))}.")
    for average in barred.to_dict("records"):
        yield Note(f"No {average['average']}: it may not hold {', '.join(average['titles'])}.")


def _listed(content: Mapping[str, str]) -> str:
    return "; of ".join(f"{name}: {text}" for name, text in content.items())


def _one_task(cells: pd.DataFrame) -> Section:
    """Return the table of the cells of one title, the best first."""
    letters = _hardware(cells)
    several = len(letters) > 1
    began = bool(cells["pretraining_steps"].notna().any())
    columns = ["model", heading_of(cells["metric"].iloc[0]), "95% interval", "seeds", "failed"]
    columns += ["diverged", "at baseline", "training time", *(_TOTALS if began else [])]
    columns += ["tokens/s", "memory [MB]"]
    columns += ["parameters", "passes", *(["hardware"] if several else [])]
    rows = []
    for cell in ranked(cells).to_dict("records"):
        mark = f" {MARK}" if cell["remark"] else ""
        texts = [
            cell["method"],
            result(cell) + mark,
            interval(cell),
            _seeds(cell),
            str(cell["num_failed"]),
            str(cell["num_diverged"]),
            str(cell["num_at_baseline"]),
            time(cell["train_seconds_mean"]),
            *(_totals(cell) if began else []),
            _count(cell["tokens_per_second_mean"]),
            _count(cell["peak_memory_bytes_max"], 1e6),
            _count(cell["num_parameters"]),
            _count(cell["encoder_passes_per_step"]),
            *([letters.get(cell["devices"], "")] if several else []),
        ]
        best = bool(cell["is_best"])
        rows.append([Entry(text, best and index == 1) for index, text in enumerate(texts)])
    return Section(cells["title"].iloc[0], 3, columns, rows, list(notes_of_task(cells)))


def _seeds(cell: Mapping[Any, Any]) -> str:
    """Return how many runs completed, and of how many pretrainings where some share one."""
    shared = f" ({count(cell['num_pretrainings'], 'pretraining')})" if _is_shared(cell) else ""
    return f"{cell['num_completed']}{shared}"


_TOTALS = ("pretrainings", "pretraining time", "total updates", "total time")


def _totals(cell: Mapping[Any, Any]) -> Iterator[str]:
    """Yield what a cell has in the columns of `_TOTALS`."""
    if pd.isna(cell["pretraining_steps"]):
        yield from [""] * len(_TOTALS)
        return
    yield str(cell["num_pretrainings"])
    yield time(cell["pretraining_seconds_mean"])
    yield _count(cell["total_steps"])
    yield time(cell["total_train_seconds_mean"])


def _hardware(cells: pd.DataFrame) -> dict[str, str]:
    """Return the hardware of some cells, with a letter where there are several kinds."""
    devices = sorted({name for name in cells["devices"] if name})
    return {
        name: chr(ord("A") + index % 26) if len(devices) > 1 else ""
        for index, name in enumerate(devices)
    }


def notes_of_task(cells: pd.DataFrame) -> Iterator[Note]:
    """Yield the sentences below the table of one title."""
    name = cells["metric"].iloc[0]
    letters = _hardware(cells)
    hardware = [f"{letter}: {name}" if letter else name for name, letter in letters.items()]
    yield Note(f"Data: {cells['data'].iloc[0]}.")
    for warning in sorted(set(cells["warning"]) - {""}):
        yield Note(f"{warning}.", strong=True)
    baseline = cells["majority_baseline"].dropna()
    if len(baseline):
        value = float(baseline.iloc[0])
        shown = f"{value:.2%}" if metric(name).is_share else number(value, name)
        always = metric(name).constant
        yield Note(f"{always[0].upper()}{always[1:]}: {shown}.")
    found = {what: reached for some in cells["baselines"] for what, reached in some.items()}
    for what, reached in found.items():
        shown = f"{reached:.2%}" if metric(name).is_share else number(reached, name)
        yield Note(f"{what[:1].upper()}{what[1:]}: {shown}.")
    known = ranked(cells).dropna(subset=["sampling_error"])
    if len(known):
        first = known.iloc[0]
        yield Note(
            f"Test split: {first['num_test_examples']:,.0f} examples; sampling them alone has a "
            f"standard error of {number(first['sampling_error'], name)} at "
            f"{number(first['test_mean'], name)}."
        )
    yield from _verdict(cells)
    for cell in cells[cells["num_pretrainings"] > 0].to_dict("records"):
        if _is_shared(cell):
            yield Note(_of_shared(cell))
    if len(hardware) > 1:
        yield Note("Time, rate and memory are comparable within one kind of hardware.")
    if hardware:
        yield Note(f"Measured on: {'; '.join(hardware)}.")
    for method, remark in zip(cells["method"], cells["remark"], strict=True):
        if remark:
            yield Note(f"{MARK} {method}: {remark}.")
    for method, dirty in zip(cells["method"], cells["num_uncommitted"], strict=True):
        if dirty:
            yield Note(f"{method}: {dirty} of its runs came from code that was not committed.")


def _verdict(cells: pd.DataFrame) -> Iterator[Note]:
    """Say whether the one that leads is the best, and from which others it is not told apart."""
    for cell in cells.to_dict("records"):
        if cell["is_best"]:
            yield Note(f"{cell['method']} is better than all others beyond the noise.")
        if cell["not_beaten"]:
            by_reason: dict[str, list[str]] = {}
            for method, why in cell["not_beaten"].items():
                by_reason.setdefault(why, []).append(method)
            parts = [f"{_names(methods)} ({_WHY[why]})" for why, methods in by_reason.items()]
            yield Note(f"{cell['method']} leads; it is not told apart from {'; '.join(parts)}.")


def _of_shared(cell: Mapping[Any, Any]) -> str:
    """Say over what the numbers of a cell are whose runs share pretrainings."""
    shared, name = cell["num_pretrainings"], cell["metric"]
    text = f"{cell['method']}: its {cell['num_completed']} runs share "
    text += f"{count(shared, 'pretraining')}"
    if shared > 1:
        return f"{text}, over which deviation, interval and tests are."
    spread = number(cell["test_std_of_runs"], name)
    return (
        f"{text}; over the runs the standard deviation is {spread}, and how much another "
        f"pretraining would change is not known."
    )


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def legend(cells: pd.DataFrame) -> Iterator[Note]:
    """Yield what the columns mean."""
    names = sorted(set(cells["metric"]))
    for name in names:
        title = metric(name).title
        lower = "" if metric(name).higher_is_better else ", lower is better"
        yield Note(
            f"{title[0].upper()}{title[1:]}: mean ± standard deviation over seeds of the test "
            f"{heading_of(name)}{lower}, each run evaluated once with the weights that validation "
            f"chose."
        )
    yield Note(
        "95% interval: of the mean over seeds, by Student's t below ten seeds, by bootstrap from "
        "there on. Bold: better than every other method in its column by more than two standard "
        "errors of sampling the test split, and significant over seeds (paired t test where seeds "
        "match, else Welch's; 5% over all comparisons of a column by Bonferroni's correction)."
    )
    if unknown := [metric(name).title for name in names if name not in BOUNDED]:
        yield Note(f"The sampling error of {', '.join(unknown)} is not known: never bold.")
    bare = [metric(name).title for name in names if name not in PROPORTIONS]
    errors = f" ({', '.join(bare)}: no better at all)" if bare else ""
    yield Note(
        f"Training time, rate and memory: mean, mean and maximum over seeds; evaluation is not in "
        f"the time. At baseline: runs no better than always answering the most frequent class, "
        f"within two standard errors{errors}. Passes: forward passes through the encoder in one "
        f"training step."
    )
    if cells["pretraining_steps"].notna().any():
        yield Note(
            "What began from another run is in a setting of its own, which names that run. Runs "
            "that began from the same one are not independent: deviation, interval and tests are "
            "over pretrainings, each with the mean of its runs. Total: pretraining, with all "
            "stages before it, and the training that followed."
        )
    if cells["is_pretraining"].any():
        yield Note(
            f"{PRETRAINING}: an objective that asks something of its own, how well that is "
            f"answered, by the model alone."
        )
    if (cells["remark"] != "").any():
        yield Note(f"{MARK}: its runs were not all made alike; see below its table.")


def heading_of(name: str) -> str:
    """Return what heads a column of a metric, with its unit."""
    title = metric(name).title
    return f"{title} [%]" if metric(name).is_share else title


def result(cell: Mapping[Any, Any]) -> str:
    """Return the mean of a cell, and its spread where there are several runs."""
    if pd.isna(cell["test_mean"]):
        return "none"
    spread = "" if pd.isna(cell["test_std"]) else f" ± {number(cell['test_std'], cell['metric'])}"
    return number(cell["test_mean"], cell["metric"]) + spread


def interval(cell: Mapping[Any, Any]) -> str:
    """Return the interval of the mean, or how many seeds there are where that is too few."""
    if pd.isna(cell["test_mean"]):
        return ""
    if pd.isna(cell["test_low"]):
        return "1 pretraining" if _is_shared(cell) else "1 seed"
    ends = (number(cell[name], cell["metric"]) for name in ("test_low", "test_high"))
    return f"{' to '.join(ends)}"


def number(value: float, name: str) -> str:
    """Return a value of a metric: a share in percent, anything else as it is."""
    return f"{100 * value:.2f}" if metric(name).is_share else f"{value:.4f}"


def time(seconds: float | None) -> str:
    """Return a duration, nothing if it is not known."""
    return "" if seconds is None or pd.isna(seconds) else duration(seconds)


def _count(number: float | None, unit: float = 1) -> str:
    return "" if number is None or pd.isna(number) else f"{number / unit:,.0f}"
