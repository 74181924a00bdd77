"""From records to frames: a row a cell, and the groups in which rows may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.speed.record import MODES, Mode, SpeedRecord, model_label
from lra_bench.speed.statistics import median, memory_ratio, ratios, spread

# What rows must share to stand in one table: everything but model and length.
GROUP = ("setting", "task", "batch_size", "device")
_OF_A_MODE = (
    "seconds",
    "seconds_min",
    "seconds_max",
    "cpu_seconds",
    "steps_per_second",
    "tokens_per_second",
    "speed_ratio",
    "speed_ratio_min",
    "speed_ratio_max",
    "cpu_ratio",
    "peak_memory_bytes",
    "memory_ratio",
    "joules",
    "rounds",
    "steps_per_round",
)
_AS_RECORDED = (
    "baseline",
    "status",
    "error",
    "num_parameters",
    "num_threads",
    "num_cores",
    "other_cores",
    "is_busy",
    "limit_seconds",
    "total_seconds",
    "git_commit",
    "started_at",
    "cell_id",
)
COLUMNS = (
    *GROUP,
    "model",
    "length",
    *(f"{mode}_{name}" for mode in MODES for name in _OF_A_MODE),
    *_AS_RECORDED,
    "torch",
)


def shape_of(config: Mapping[str, Any]) -> str:
    """Return the sizes of a trunk in words."""
    trunk, train = config.get("trunk", {}), config.get("train", {})
    sizes = [f"{trunk.get('num_layers')} layers", f"width {trunk.get('width')}"]
    sizes += [f"{trunk.get('num_heads')} heads", f"feed-forward {trunk.get('ffn_width')}"]
    for name in ("dropout", "attention_dropout"):
        sizes.append(f"{name.replace('_', ' ')} {trunk.get(name)}")
    return ", ".join([*sizes, str(train.get("precision"))])


def newest(records: Iterable[SpeedRecord]) -> tuple[list[SpeedRecord], list[SpeedRecord]]:
    """Return the records that tables show, and those that newer ones have replaced.

    An option that a later version of the harness has added makes another cell of the same name.
    """
    latest: dict[tuple[Any, ...], SpeedRecord] = {}
    replaced = []
    for record in sorted(records, key=lambda record: (record.started_at, record.cell_id)):
        names = tuple(record.labels.values())
        place = (*names, record.batch_size, record.length, record.device)
        if place in latest:
            replaced.append(latest[place])
        latest[place] = record
    return list(latest.values()), replaced


def frame(records: Iterable[SpeedRecord]) -> pd.DataFrame:
    """Return a tidy table, one row a cell, ordered by group, model and length."""
    rows = pd.DataFrame([_row(record) for record in records], columns=list(COLUMNS))
    return rows.sort_values([*GROUP, "model", "length"], kind="stable", ignore_index=True)


def _row(record: SpeedRecord) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _AS_RECORDED}
    row |= {name: _in_a_table(record.labels[name]) for name in ("setting", "task")}
    row |= {"model": _in_a_table(model_label(record.labels)), "device": _in_a_table(record.device)}
    row |= {"batch_size": record.batch_size, "length": record.length}
    row["error"] = _in_a_table(record.error or "")
    row["torch"] = record.versions.get("torch", "")
    for mode in MODES:
        row |= {f"{mode}_{name}": value for name, value in _of_mode(record, mode).items()}
    return row


def _of_mode(record: SpeedRecord, mode: Mode) -> dict[str, Any]:
    timing, baseline = record.timing(mode), record.baseline_timing(mode)
    if timing is None:
        return {}
    seconds = spread(timing.seconds_per_step)
    # Of the whole batch: every input of every example.
    num_inputs = record.config.get("task", {}).get("num_inputs", 1)
    tokens = record.length * record.batch_size * num_inputs
    values: dict[str, Any] = {
        "seconds": seconds.median,
        "seconds_min": seconds.least,
        "seconds_max": seconds.most,
        "cpu_seconds": median(timing.cpu_seconds_per_step),
        "steps_per_second": 1 / seconds.median,
        "tokens_per_second": tokens / seconds.median,
        "peak_memory_bytes": timing.peak_memory_bytes,
        "memory_ratio": memory_ratio(record, mode),
        "joules": None if timing.joules_per_step is None else median(timing.joules_per_step),
        "rounds": len(timing.seconds_per_step),
        "steps_per_round": timing.steps_per_round,
    }
    if found := ratios(record, mode):
        ratio = spread(found)
        values |= {"speed_ratio": ratio.median, "speed_ratio_min": ratio.least}
        values["speed_ratio_max"] = ratio.most
    own = values["cpu_seconds"]
    if baseline is not None and own:
        values["cpu_ratio"] = median(baseline.cpu_seconds_per_step) / own
    return values


def _in_a_table(text: str) -> str:
    """Return a text that stays in its line and in its column; a bar would begin another."""
    return " ".join(text.split()).replace("|", "/")


def models_in_order(cells: pd.DataFrame) -> Sequence[str]:
    """Return the models of a group, those that train fastest at the longest length first.

    Speed is that against the baseline, where there is one; a model without a result comes last.
    """
    longest = cells[cells["length"] == cells["length"].max()]
    speed = dict(zip(longest["model"], longest["train_speed_ratio"], strict=True))
    rate = dict(zip(longest["model"], longest["train_steps_per_second"], strict=True))

    def key(model: str) -> tuple[float, float, str]:
        values = (speed.get(model), rate.get(model))
        fastness = [-1.0 if value is None or pd.isna(value) else float(value) for value in values]
        return -fastness[0], -fastness[1], model

    return sorted(set(cells["model"]), key=key)
