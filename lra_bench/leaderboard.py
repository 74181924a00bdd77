"""From records to cells, and from cells to tables.

A cell is a setting, a task, a model and an objective; its runs differ in their seed alone. Nothing
is averaged over cells, nothing is dropped: a run that failed, diverged or stayed at the level of
always answering the most frequent class is counted and shown. Needs no torch.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lra_bench import record as records
from lra_bench.errors import UserError
from lra_bench.record import BadRecord, RunRecord

CELL = ("setting", "task", "model", "objective", "data")
# The numbers of these settings mean nothing.
_LEFT_OUT = ("smoke",)
# What the choice of the official files adds to a task's name.
_OFFICIAL = "(source=official)"
# The tasks of the two averages that papers print; an average needs all of its tasks, each on one
# set of data that carries no warning.
_AVERAGES = {
    "avg5": ("listops", "text", "retrieval", "image", "pathfinder"),
    "avg6": ("listops", "text", "retrieval", "image", "pathfinder", "pathx"),
}


@dataclass(frozen=True)
class Collection:
    """What lay below the results folders.

    Args:
        records: Every run once.
        skipped: Files that are no records, and why.
    """

    records: list[RunRecord]
    skipped: dict[Path, str]


def collect(results_dirs: Iterable[Path]) -> Collection:
    """Read all records below the folders; the same run found twice counts once."""
    found: dict[tuple[str, ...], RunRecord] = {}
    skipped: dict[Path, str] = {}
    for folder in results_dirs:
        for path in sorted((folder / "runs").rglob("*")):
            if path.is_dir():
                continue
            if path.suffix != ".json" or path.name.startswith("."):
                skipped[path] = "is not a run record: its name does not end in .json"
                continue
            try:
                record = records.read(path)
            except BadRecord as error:
                skipped[path] = str(error)
                continue
            names = (record.setting, record.task, record.model, record.objective)
            known = found.get((*names, record.run_id))
            # Of two tries at the same run, the one with a result counts.
            if known is None or known.status == "failed":
                found[*names, record.run_id] = record
    return Collection(list(found.values()), skipped)


def runs_table(all_records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return a tidy table, one row a run."""
    return pd.DataFrame([_row(record) for record in all_records], columns=list(_COLUMNS))


_COLUMNS = (
    *CELL,
    "warning",
    "seed",
    "status",
    "test_accuracy",
    "validation_accuracy",
    "majority_baseline",
    "at_baseline",
    "num_parameters",
    "train_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "encoder_passes_per_step",
    "device",
    "config_sha256",
    "data_sha256",
    "run_id",
)


def _row(record: RunRecord) -> dict[str, Any]:
    row = {name: getattr(record, name, None) for name in _COLUMNS}
    row["data"] = _data_name(record)
    row["warning"] = _warning(record)
    for split in ("test", "validation"):
        sums = getattr(record, split)
        row[f"{split}_accuracy"] = None if sums is None else records.accuracy(sums)
    row["at_baseline"] = False
    if record.test is not None and record.majority_baseline is not None:
        baseline, number = record.majority_baseline, record.test["num_examples"]
        # Two standard errors: what a run without any skill exceeds in one of forty tries.
        margin = 2 * math.sqrt(baseline * (1 - baseline) / number)
        row["at_baseline"] = records.accuracy(record.test) <= baseline + margin
    return row


def _data_name(record: RunRecord) -> str:
    """Return the name of the data in tables: two sets that are not the official one differ."""
    # A bar would be a column of the tables.
    name = str(record.data.get("source") or "unknown").replace("|", "/")
    if "warning" in record.data and record.data_sha256:
        name += f", SHA-256 {record.data_sha256[:8]}"
    return name


def _warning(record: RunRecord) -> str:
    """Return why the data are not the set that the task's name promises, or nothing."""
    return str(record.data.get("warning", record.data.get("note", "")))


def cells_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a cell: counts, mean and spread, full precision."""
    rows = []
    for key, group in runs.groupby(list(CELL), sort=True, dropna=False):
        completed = group[group["status"] == "completed"]
        accuracy = completed["test_accuracy"].astype(float)
        rows.append(
            {
                **dict(zip(CELL, key, strict=True)),
                "warning": "; ".join(sorted(set(group["warning"]) - {""})),
                "num_runs": len(group),
                "num_completed": len(completed),
                "num_failed": int((group["status"] == "failed").sum()),
                "num_diverged": int((group["status"] == "diverged").sum()),
                "num_at_baseline": int(completed["at_baseline"].sum()),
                "test_accuracy_mean": accuracy.mean() if len(accuracy) else None,
                "test_accuracy_std": accuracy.std(ddof=1) if len(accuracy) > 1 else None,
                "test_accuracy_min": accuracy.min() if len(accuracy) else None,
                "test_accuracy_max": accuracy.max() if len(accuracy) else None,
                "validation_accuracy_mean": _mean(completed["validation_accuracy"]),
                "majority_baseline": _mean(group["majority_baseline"]),
                "train_seconds_mean": _mean(completed["train_seconds"]),
                "tokens_per_second_mean": _mean(completed["tokens_per_second"]),
                "peak_memory_bytes_max": _max(completed["peak_memory_bytes"]),
                "num_parameters": _max(group["num_parameters"]),
                "encoder_passes_per_step": _max(group["encoder_passes_per_step"]),
                "devices": "; ".join(sorted(set(completed["device"]))),
                "seeds": " ".join(map(str, sorted(group["seed"]))),
            }
        )
    return pd.DataFrame(rows)


def _mean(column: pd.Series[Any]) -> float | None:
    known = column.dropna()
    return float(known.astype(float).mean()) if len(known) else None


def _max(column: pd.Series[Any]) -> int | None:
    known = column.dropna()
    return int(known.max()) if len(known) else None


def refuse_mixed_cells(all_records: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """Return the runs of sound cells, and what is wrong with the others.

    A cell is refused where its runs differ in more than the seed: in the configuration (somebody
    edited a file between two runs) or in the data.
    """
    cells: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in all_records:
        key = (*(getattr(record, name) for name in CELL[:-1]), _data_name(record))
        cells.setdefault(key, []).append(record)
    sound, complaints = [], []
    for key, members in sorted(cells.items()):
        keys = _differing(members)
        if keys:
            complaints.append(
                f"{' / '.join(key)}: its {len(members)} runs differ in {', '.join(keys)}; remove "
                f"or repeat those that are out of date"
            )
        else:
            sound += members
    return sound, complaints


def _differing(members: Sequence[RunRecord]) -> list[str]:
    """Return the dotted keys in which the configurations of some runs differ."""
    flat = [dict(_flatten(record.config)) for record in members]
    every = sorted({key for config in flat for key in config})
    absent = object()
    keys = [
        key for key in every if any(c.get(key, absent) != flat[0].get(key, absent) for c in flat)
    ]
    if len({record.seed for record in members}) < len(members):
        keys.append("run_id, for the same seed")
    if len({record.data_sha256 for record in members if record.data_sha256}) > 1:
        keys.append("data_sha256")
    return keys


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def markdown(cells: pd.DataFrame) -> str:
    """Return the tables of all settings as Markdown."""
    if not len(cells):
        return "No runs yet. `lra-bench run task=listops model=ernie_sparse` makes the first.\n"
    parts = []
    for setting, of_setting in cells.groupby("setting", sort=True):
        parts.append(f"## Setting {setting}\n")
        if overview := _overview(of_setting):
            parts.append(overview)
        titles = _titles(of_setting)
        for (task, data), of_task in of_setting.groupby(["task", "data"], sort=True):
            parts.append(f"### {titles[str(task), str(data)]}\n")
            parts.append(_task_table(of_task))
            baseline = of_task["majority_baseline"].dropna()
            notes = [f"Data: {data}."]
            notes += [f"**{warning}.**" for warning in sorted(set(of_task["warning"]) - {""})]
            if len(baseline):
                notes.append(
                    f"Always answering the most frequent class: {float(baseline.iloc[0]):.2%}."
                )
            devices = sorted({name for name in of_task["devices"] if name})
            if devices:
                notes.append(f"Measured on: {' | '.join(devices)}.")
            parts.append(" ".join(notes) + "\n")
    parts.append(
        "Accuracy: mean and standard deviation over seeds of the test accuracy [%], each run "
        "evaluated once with the weights that validation chose. Training time, rate and memory: "
        "mean, mean and maximum over seeds; evaluation is not in the time. At baseline: runs no "
        "better than always answering the most frequent class, within two standard errors. "
        "Passes: forward passes through the encoder in one training step.\n"
    )
    return "\n".join(parts)


def _name(row: Mapping[Any, Any]) -> str:
    objective = str(row["objective"])
    return str(row["model"]) if objective == "cross_entropy" else f"{row['model']} + {objective}"


def _accuracy(row: Mapping[Any, Any]) -> str:
    mean, spread = row["test_accuracy_mean"], row["test_accuracy_std"]
    if mean is None or pd.isna(mean):
        return "none"
    return f"{mean:.2%}"[:-1] + (
        "" if spread is None or pd.isna(spread) else f" ± {100 * spread:.2f}"
    )


def _task_table(cells: pd.DataFrame) -> str:
    ranked = cells.sort_values(
        ["test_accuracy_mean", "model"], ascending=[False, True], na_position="last"
    )
    rows = [
        {
            "model": _name(row),
            "accuracy [%]": _accuracy(row),
            "seeds": row["num_completed"],
            "failed": row["num_failed"],
            "diverged": row["num_diverged"],
            "at baseline": row["num_at_baseline"],
            "training time": _time(row["train_seconds_mean"]),
            "tokens/s": _count(row["tokens_per_second_mean"]),
            "memory [MB]": _count(row["peak_memory_bytes_max"], 1e6),
            "parameters": _count(row["num_parameters"]),
            "passes": _count(row["encoder_passes_per_step"]),
        }
        for row in ranked.to_dict("records")
    ]
    return _table(rows, left=1)


def _titles(cells: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return what to call each task and its data: the task, and the data unless they are plain."""
    names = sorted(set(zip(cells["task"], cells["data"], strict=True)))
    warned = cells[cells["warning"] != ""]
    marked = set(zip(warned["task"], warned["data"], strict=True))
    times = Counter(task for task, _ in names)
    return {
        (task, data): f"{task} [{data}]" if times[task] > 1 or (task, data) in marked else task
        for task, data in names
    }


def _base(task: str) -> str:
    """Return a task's name for the averages: reading the official files is what they mean."""
    return task.removesuffix(_OFFICIAL)


def _overview(cells: pd.DataFrame) -> str:
    """Return one line a model, one column a task and its data; empty where there is one only."""
    titles = _titles(cells)
    if len(titles) < 2:
        return ""
    # Only what needs no brackets enters an average.
    plain = {task: data for (task, data), title in titles.items() if title == task}
    # Of a task both generated and official, the official one counts.
    columns = {_base(task): task for task in sorted(plain)}
    averages = {name: needed for name, needed in _AVERAGES.items() if set(needed) <= set(columns)}
    rows = []
    for model in sorted({_name(row) for row in cells.to_dict("records")}):
        mine = {
            titles[row["task"], row["data"]]: row
            for row in cells.to_dict("records")
            if _name(row) == model
        }
        line = {"model": model}
        line |= {
            title: _accuracy(mine[title]) if title in mine else "" for title in titles.values()
        }
        for name, needed in averages.items():
            used = [columns[task] for task in needed]
            means = [mine[task]["test_accuracy_mean"] for task in used if task in mine]
            whole = len(means) == len(needed) and not any(pd.isna(mean) for mean in means)
            line[name] = f"{100 * sum(means) / len(means):.2f}" if whole else ""
        rows.append(line)
    notes = []
    if plain:
        named = "; of ".join(f"{task}: {data}" for task, data in plain.items())
        notes.append(f"Data of {named}.")
    every = {_base(task) for task, _ in titles}
    for name, needed in _AVERAGES.items():
        if set(needed) <= every and name not in averages:
            barred = [
                title
                for (task, _), title in titles.items()
                if _base(task) in set(needed) - set(columns)
            ]
            notes.append(f"No {name}: it may not hold {', '.join(barred)}.")
    return "\n".join([_table(rows, left=1), *([" ".join(notes) + "\n"] if notes else [])])


def _table(rows: list[dict[str, Any]], *, left: int) -> str:
    frame = pd.DataFrame(rows)
    align = ["left" if at < left else "right" for at in range(len(frame.columns))]
    text: str = frame.to_markdown(index=False, colalign=align, disable_numparse=True)
    return text + "\n"


def _time(seconds: float | None) -> str:
    if seconds is None or pd.isna(seconds):
        return ""
    return f"{int(seconds) // 60}m {int(seconds) % 60:02}s"


def _count(number: float | None, unit: float = 1) -> str:
    return "" if number is None or pd.isna(number) else f"{number / unit:,.0f}"


def publish(results_dirs: Sequence[Path], out: Path) -> int:
    """Write the tables of all records below some folders, and print them.

    Returns:
        1 if a cell was refused because its runs do not belong together, else 0.

    Raises:
        UserError: A folder does not exist, or the tables cannot be written.
    """
    for folder in results_dirs:
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; name the results folder of your runs, for example "
                f"`lra-bench leaderboard results`"
            )
    collection = collect(results_dirs)
    for path, why in collection.skipped.items():
        print(f"skipped {path}: it {why}", file=sys.stderr)
    sound, complaints = refuse_mixed_cells(
        [record for record in collection.records if record.setting.split("(")[0] not in _LEFT_OUT]
    )
    for complaint in complaints:
        print(f"refused {complaint}", file=sys.stderr)
    cells = cells_table(runs_table(sound))
    text = markdown(cells)
    try:
        records.write_atomically(out / "leaderboard.md", f"# Leaderboard\n\n{text}")
        records.write_atomically(out / "leaderboard.csv", cells.to_csv(index=False))
    except OSError as error:
        raise UserError(f"cannot write the tables to {out}: {error.strerror}") from error
    print(text)
    runs = {str(folder / "runs") for folder in results_dirs}
    print(f"records: {', '.join(sorted(runs))}")
    print(f"tables:  {out / 'leaderboard.md'}, {out / 'leaderboard.csv'}")
    return 1 if complaints else 0
