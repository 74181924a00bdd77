"""One record as a text for people, and two of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from lra_bench import plain
from lra_bench.console import Align, Screen, duration, table
from lra_bench.leaderboard.statistics import sampling_error
from lra_bench.metrics import metric
from lra_bench.record import RunRecord

Rows = list[tuple[str, ...]]
# A longer curve is thinned out, its last point kept.
_MOST_POINTS = 20
_BAR = 24
_ABSENT = "-"


def one(record: RunRecord, path: Path, screen: Screen) -> str:
    """Return what there is to know of a run.

    Args:
        record: Of the run.
        path: Where it lies.
        screen: What the text is printed on.
    """
    sections: dict[str, Rows] = {
        "": [("run", record.run_id), ("record", str(path)), ("command", record.command)],
        "result": list(_results(record)),
        "cost": list(_costs(record)),
        "began from": list(_began(record)) if record.pretraining else [],
        "data": list(_data(record)),
        "made by": list(_origin(record)),
        "changes": [(key, str(value)) for key, value in sorted(record.changes.items())],
    }
    parts = [screen.printable(_title(record))]
    for heading, rows in sections.items():
        if rows:
            parts += ["", heading] if heading else []
            parts.append(table(rows, screen, indent=2))
    return "\n".join([*parts, *_curves([record], screen)])


def two(first: RunRecord, second: RunRecord, screen: Screen) -> str:
    """Return in what two runs differ, and their curves side by side."""
    header = ("", "A", "B", "")
    compared: list[tuple[str, Callable[[RunRecord], Iterator[tuple[str, str]]]]] = [
        *(("result", _results), ("cost", _costs)),
        *([("began from", _began)] if first.pretraining or second.pretraining else []),
        *(("data", _data), ("made by", _origin)),
    ]
    parts = [
        *(
            f"{name}  {screen.printable(_title(record))}"
            for name, record in (("A", first), ("B", second))
        ),
        *(f"\n! {screen.printable(text)}" for text in _warnings(first, second)),
    ]
    for heading, read in compared:
        rows = _beside(read(first), read(second))
        if heading in ("data", "made by"):
            rows = [row for row in rows if row[1] != row[2]]
        if rows:
            shown = [(name, a, b, _ratio(name, first, second)) for name, a, b in rows]
            align: tuple[Align, ...] = ("left", "left", "left", "left")
            parts += ["", heading, table(shown, screen, header=header, align=align, indent=2)]
        else:
            parts += ["", f"{heading}: the same"]
    options = _beside(
        *([(key, str(value)) for key, value in plain.leaves(of.config)] for of in (first, second))
    )
    if differing := [row for row in options if row[1] != row[2]]:
        text = table(differing, screen, header=header[:3], indent=2)
        parts += ["", "configuration", text]
    else:
        parts += ["", "configuration: the same"]
    parts += ["", *_verdict(first, second)]
    return "\n".join([*parts, *_curves([first, second], screen)])


def _title(record: RunRecord) -> str:
    labels = record.labels
    # As a run itself says it: behind a plus stands what the setting began from.
    usual = record.objective == "cross_entropy"
    objective = "" if usual else f", objective {labels['objective']}"
    return (
        f"{labels['model']} on {labels['task']}, setting {labels['setting']}{objective}, "
        f"seed {record.seed}: {record.status}"
    )


def _results(record: RunRecord) -> Iterator[tuple[str, str]]:
    if record.error:
        yield "error", record.error
    for name, values in record.metrics.items():
        for split in ("test", "validation"):
            if (value := values[split]) is not None:
                yield f"{_title_of(name)} on {split}", _value(value, name)
    if (error := _error(record)) is not None:
        assert record.test is not None
        text = f"{_value(error, record.ranking_metric)} ({record.test.num_examples:,} examples)"
        yield "standard error, test split", text
    if record.majority_baseline is not None:
        is_share = metric(record.ranking_metric).is_share
        always = "most frequent answer" if is_share else "frequencies alone"
        yield always, _value(record.majority_baseline, record.ranking_metric)
    for name, value in record.data.get("baselines", {}).items():
        yield name, _value(value, record.ranking_metric)
    if record.best_step is not None:
        yield "best of validation", f"step {record.best_step:,} of {record.num_steps:,}"


def _error(record: RunRecord) -> float | None:
    """Return the standard error of the ranking metric from sampling the test split."""
    if record.test is None:
        return None
    name = record.ranking_metric
    return sampling_error(record.test[name], name, record.test.num_examples)


def _title_of(name: str) -> str:
    return metric(name).title if _is_known(name) else name


def _value(value: float, name: str) -> str:
    return f"{value:.2%}" if _is_known(name) and metric(name).is_share else f"{value:.4f}"


def _is_known(name: str) -> bool:
    """Return whether this program knows a metric; a newer version may have written others."""
    try:
        metric(name)
    except ValueError:
        return False
    return True


def _costs(record: RunRecord) -> Iterator[tuple[str, str]]:
    seconds = {"training": record.train_seconds, "with evaluation": record.total_seconds}
    for name, value in seconds.items():
        if value is not None:
            yield name, duration(value)
    if record.tokens_per_second is not None:
        yield "tokens/s", f"{record.tokens_per_second:,.0f}"
    if record.peak_memory_bytes is not None:
        yield "memory [MB]", f"{record.peak_memory_bytes / 1e6:,.0f}"
    if record.num_parameters is not None:
        yield "parameters", f"{record.num_parameters:,}"
    if record.encoder_passes_per_step is not None:
        yield "passes a step", str(record.encoder_passes_per_step)


def _began(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Yield what a run began from, and what both cost."""
    of = record.pretraining
    yield "what", "fresh weights" if of is None else of["label"]
    yield "updates in all", f"{_updates_in_all(record):,}"
    if (seconds := _seconds_in_all(record)) is not None:
        yield "training in all", duration(seconds)
    if of is not None:
        yield "its run", of["run_id"]
        yield "its updates", f"{of['num_steps']:,}"
        if of["train_seconds"] is not None:
            yield "its training", duration(of["train_seconds"])
        yield "its positions", of["positions"]
        yield "its weights, SHA-256", of["weights_sha256"][:16]
        yield "its command", of["command"]


def _updates_in_all(record: RunRecord) -> int:
    before: int = 0 if record.pretraining is None else record.pretraining["num_steps"]
    return record.num_steps + before


def _seconds_in_all(record: RunRecord) -> float | None:
    """Return the time in training steps with all that came before, if it is known."""
    before: float | None = 0.0
    if record.pretraining is not None:
        before = record.pretraining["train_seconds"]
    own = record.train_seconds
    return None if own is None or before is None else own + before


def _data(record: RunRecord) -> Iterator[tuple[str, str]]:
    yield "source", record.data["source"]
    for name in ("warning", "note"):
        if record.data[name]:
            yield name, record.data[name]
    yield from sorted(record.data["details"].items())
    yield "SHA-256", record.data_sha256[:16]


def _origin(record: RunRecord) -> Iterator[tuple[str, str]]:
    dirty = ", with uncommitted changes" if record.git_dirty else ""
    yield "commit", f"{(record.git_commit or 'unknown')[:12]}{dirty}"
    yield "started", record.started_at
    yield "device", record.device
    yield "dtype", record.dtype
    if record.num_processes > 1:
        yield "processes", str(record.num_processes)
    if record.parent and not record.pretraining:
        yield "began from", record.parent
    yield from sorted(record.versions.items())


def _beside(
    first: Iterator[tuple[str, str]] | Sequence[tuple[str, str]],
    second: Iterator[tuple[str, str]] | Sequence[tuple[str, str]],
) -> list[tuple[str, str, str]]:
    """Return the rows of both by name, in the order of the first."""
    columns = dict(first), dict(second)
    names = dict.fromkeys([*columns[0], *columns[1]])
    return [(name, *(column.get(name, _ABSENT) for column in columns)) for name in names]  # type: ignore[misc]


_RATIOS: Mapping[str, Callable[[RunRecord], float | None]] = {
    "training": attrgetter("train_seconds"),
    "with evaluation": attrgetter("total_seconds"),
    "tokens/s": attrgetter("tokens_per_second"),
    "memory [MB]": attrgetter("peak_memory_bytes"),
    "parameters": attrgetter("num_parameters"),
    "updates in all": _updates_in_all,
    "training in all": _seconds_in_all,
}


def _ratio(name: str, first: RunRecord, second: RunRecord) -> str:
    """Return how many times as large a cost of the second is."""
    if name not in _RATIOS:
        return ""
    before, after = (_RATIOS[name](record) for record in (first, second))
    return f"x {after / before:.2f}" if before and after else ""


def _warnings(first: RunRecord, second: RunRecord) -> Iterator[str]:
    """Yield why two results may not be held against each other."""
    if first.labels["task"] != second.labels["task"]:
        yield "not the same task: the results cannot be compared"
    elif first.data_sha256 != second.data_sha256:
        yield "not the same data: the results cannot be compared"
    if first.labels["setting"] != second.labels["setting"]:
        yield "not the same setting: tables never mix the two"
    if first.device != second.device:
        yield "not the same hardware: time, rate and memory cannot be compared"


def _verdict(first: RunRecord, second: RunRecord) -> Iterator[str]:
    """Say how large a difference is beside what chance does."""
    name = first.ranking_metric
    if first.test is None or second.test is None or name != second.ranking_metric:
        return
    difference = second.test[name] - first.test[name]
    yield f"B less A: {_points_of(difference, name, sign='+')} {metric(name).title} on test."
    errors = _error(first), _error(second)
    if first.data_sha256 != second.data_sha256:
        yield "That says nothing, for they were not measured on the same data."
    elif errors[0] is not None and errors[1] is not None:
        margin = 2 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
        inside = "within" if abs(difference) <= margin else "beyond"
        yield (
            f"That is {inside} two standard errors of sampling the test split "
            f"({_points_of(margin, name)}); what other seeds do, two runs cannot tell."
        )


def _points_of(value: float, name: str, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} points" if metric(name).is_share else f"{value:{sign}.4f}"


def _curves(runs: Sequence[RunRecord], screen: Screen) -> Iterator[str]:
    """Yield the learning curves, one column of bars a run, on one scale."""
    key = f"validation_{runs[0].ranking_metric}"
    curves = [_points(record, key) for record in runs]
    steps = sorted({step for curve in curves for step in curve})
    values = [value for curve in curves for value in curve.values()]
    if not steps:
        return
    every = -(-len(steps) // _MOST_POINTS)
    steps = steps[::-1][::every][::-1]
    low, high = min(values), max(values)
    header = ["step"]
    for name in "AB"[: len(runs)] if len(runs) > 1 else [""]:
        header += [f"{name} {_title_of(runs[0].ranking_metric)}".strip(), ""]
    rows = []
    for step in steps:
        row = [f"{step:,.0f}"]
        for curve in curves:
            value = curve.get(step)
            known = value is not None
            row += [_value(value, runs[0].ranking_metric) if known else _ABSENT]  # type: ignore[arg-type]
            row += [_bar(value, low, high, screen) if known else ""]  # type: ignore[arg-type]
        rows.append(row)
    align: list[Align] = ["right"]
    for _ in runs:
        align += ["right", "left"]
    ends = " to ".join(_value(value, runs[0].ranking_metric) for value in (low, high))
    yield ""
    yield f"validation, as it was learned (bars from {ends})"
    yield table(rows, screen, header=header, align=align, indent=2)


def _points(record: RunRecord, key: str) -> dict[float, float]:
    return {
        float(row["step"]): float(row[key])
        for row in record.curve
        if _is_number(row, "step") and _is_number(row, key)
    }


def _is_number(row: Mapping[str, Any], name: str) -> bool:
    return plain.fits(row.get(name), float)


def _bar(value: float, low: float, high: float, screen: Screen) -> str:
    """Return a bar whose length says where a value lies between the ends of the scale."""
    full = 1.0 if high == low else (value - low) / (high - low)
    mark = "█" if screen.can_show("█") else "#"
    return mark * (1 + round(full * (_BAR - 1)))
