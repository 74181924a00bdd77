"""Tables as Markdown and CSV. Nothing is calculated here, only rounded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from lra_bench.speed.published import Published
from lra_bench.speed.record import MODES, SpeedRecord
from lra_bench.speed.statistics import Growth, growth
from lra_bench.speed.tables import GROUP, models_in_order, shape_of

_EMPTY = "Nothing measured yet. `lra-bench speed model=local` makes a beginning.\n"
# A length of a paper stands beside one of ours that differs by no more than this share: 4000, 4096.
_SAME_LENGTH = 0.05
_IN_WORDS = {"train": "Training", "inference": "Inference"}
_LEGEND = """\
Numbers are medians over rounds, in brackets the lowest and the highest round. Speed: how many times
as fast as the {baseline}, measured in turn with it in the same session, round by round. Memory: the
peak over what the process held before the model was built, each model in a process of its own, as a
part of the {baseline}'s. The {baseline}'s own line is another process of it: what differs from 1 is
noise. *: others used more than a tenth of the machine meanwhile.
"""
Cell = Mapping[str, Any]


def csv(rows: pd.DataFrame) -> str:
    """Return all cells as CSV, in full precision."""
    text: str = rows.to_csv(index=False)
    return text


def groups(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield what the rows of each table share, and the rows."""
    for key, cells in rows.groupby(list(GROUP), sort=True):
        yield dict(zip(GROUP, key, strict=True)), cells


def title_of(group: Mapping[str, Any]) -> str:
    """Return what heads the tables of a group."""
    return f"Setting {group['setting']}, task {group['task']}, batch {group['batch_size']}"


def markdown(
    rows: pd.DataFrame,
    records: Sequence[SpeedRecord],
    published: Sequence[Published],
    pictures: Mapping[str, str],
) -> str:
    """Return the tables of all groups as Markdown.

    Args:
        rows: See `lra_bench.speed.tables.frame`.
        records: What it was made of; for the sizes of the trunk.
        published: What papers print.
        pictures: Files by device and title of a group, from where the tables lie.
    """
    if rows.empty:
        return _EMPTY
    shapes = {record.cell_id: shape_of(record.config) for record in records}
    parts = []
    for group, cells in groups(rows):
        sizes = sorted({shapes[identity] for identity in cells["cell_id"]})
        torch = ", ".join(sorted(set(cells["torch"])))
        parts.append(f"## {title_of(group)}\n")
        parts.append(f"{' | '.join(sizes)}. Measured on: {group['device']}, PyTorch {torch}.\n")
        if picture := pictures.get(picture_key(group)):
            parts.append(f"![training time and memory over length]({picture})\n")
        for mode in MODES:
            parts += _against_baseline(cells, mode)
        parts += _growth(cells)
        for mode in MODES:
            parts += _rates(cells, mode)
        parts += _memory(cells)
        parts += _energy(cells)
        parts += _beside_published(cells, published)
        parts += _without_result(cells)
    baseline = " or ".join(sorted(set(rows["baseline"])))
    return "\n".join([*parts, _LEGEND.format(baseline=baseline)])


def brief(rows: pd.DataFrame, cell_ids: Collection[str] | None = None) -> str:
    """Return what a terminal has room for: training against the baseline, and growth.

    Args:
        rows: See `lra_bench.speed.tables.frame`.
        cell_ids: Show the groups that one of these is in; None for all.
    """
    if rows.empty:
        return _EMPTY
    parts = []
    for group, cells in groups(rows):
        if cell_ids is None or not cells[cells["cell_id"].isin(cell_ids)].empty:
            parts.append(f"## {title_of(group)}\n\nMeasured on: {group['device']}.\n")
            parts += [*_against_baseline(cells, "train"), *_growth(cells), *_without_result(cells)]
    return "\n".join(parts)


def picture_key(group: Mapping[str, Any]) -> str:
    """Return what tells the picture of a group from others."""
    return f"{title_of(group)} on {group['device']}"


def _against_baseline(cells: pd.DataFrame, mode: str) -> Iterator[str]:
    yield f"### {_IN_WORDS[mode]}: against the {cells['baseline'].iloc[0]}\n"
    speed = _wide(cells, "speed", lambda cell: _spread(cell, f"{mode}_speed_ratio", ".2f"))
    memory = _wide(
        cells, "memory", lambda cell: _plain(cell[f"{mode}_memory_ratio"], ".2f"), timed=False
    )
    yield _table([speed[model] | memory[model] for model in models_in_order(cells)])


def _growth(cells: pd.DataFrame) -> Iterator[str]:
    """Yield a table of exponents, if there is more than one length."""
    columns = {
        "training time": "train_seconds",
        "inference time": "inference_seconds",
        "training memory": "train_peak_memory_bytes",
        "inference memory": "inference_peak_memory_bytes",
    }
    rows, lengths = [], []
    for model in models_in_order(cells):
        own = cells[cells["model"] == model]
        found = {
            heading: growth(dict(zip(own["length"], own[column].map(_or_none), strict=True)))
            for heading, column in columns.items()
        }
        fits = [one for one in found.values() if one is not None]
        if not fits:
            continue
        lengths.append(fits[0].lengths)
        rows.append(
            {
                "model": model,
                **{heading: _exponent(one) for heading, one in found.items()},
                "fitted to": ", ".join(f"{length:,}" for length in fits[0].lengths),
            }
        )
    if rows:
        yield "### How the cost grows\n"
        yield "Exponent of the length: 1 is linear, 2 quadratic.\n"
        yield _table(rows)


def _exponent(fit: Growth | None) -> str:
    return "" if fit is None else f"{fit.exponent:.2f}"


def _rates(cells: pd.DataFrame, mode: str) -> Iterator[str]:
    yield f"### {_IN_WORDS[mode]}: steps a second\n"
    steps = _wide(cells, "", lambda cell: _rate(cell, mode))
    yield _table([steps[model] for model in models_in_order(cells)])
    yield f"### {_IN_WORDS[mode]}: tokens a second\n"
    tokens = _wide(cells, "", lambda cell: _plain(cell[f"{mode}_tokens_per_second"], ",.0f"))
    yield _table([tokens[model] for model in models_in_order(cells)])


def _memory(cells: pd.DataFrame) -> Iterator[str]:
    if cells["train_peak_memory_bytes"].isna().all():
        return
    yield "### Peak memory [MB]\n"
    parts = [
        _wide(cells, word, partial(_megabytes, f"{mode}_peak_memory_bytes"), timed=False)
        for mode, word in (("train", "training"), ("inference", "inference"))
    ]
    yield _table([parts[0][model] | parts[1][model] for model in models_in_order(cells)])


def _energy(cells: pd.DataFrame) -> Iterator[str]:
    if cells["train_joules"].isna().all():
        return
    yield "### Energy of a training step [J]\n"
    joules = _wide(cells, "", lambda cell: _plain(cell["train_joules"], ",.3g"))
    yield _table([joules[model] for model in models_in_order(cells)])


def _beside_published(cells: pd.DataFrame, published: Sequence[Published]) -> Iterator[str]:
    """Yield ratios beside those of papers, each protocol in columns of its own."""
    task = cells["task"].iloc[0]
    found: dict[tuple[str, int], dict[str, Published]] = {}
    for cell in cells.to_dict("records"):
        for row in published:
            near = row.length and abs(row.length - cell["length"]) <= _SAME_LENGTH * cell["length"]
            if row.model and row.model == cell["model"] and row.task == task and near:
                found.setdefault((row.model, cell["length"]), {})[row.protocol] = row
    if not found:
        return
    protocols = sorted({protocol for rows in found.values() for protocol in rows})
    numbered = {protocol: f"[{number}]" for number, protocol in enumerate(protocols, 1)}
    ours = {(cell["model"], cell["length"]): cell for cell in cells.to_dict("records")}
    rows = []
    for model, length in sorted(found, key=lambda key: (key[1], key[0])):
        cell = ours[model, length]
        line = {"model": model, "length": f"{length:,}"}
        line["speed, here"] = _plain(cell["train_speed_ratio"], ".2f")
        line["memory, here"] = _plain(cell["train_memory_ratio"], ".2f")
        for protocol, number in numbered.items():
            there = found[model, length].get(protocol)
            speed, memory = (there.train_speed_ratio, there.memory_ratio) if there else (None, None)
            line[f"speed {number}"] = _plain(speed, ".2f")
            line[f"memory {number}"] = _plain(memory, ".2f")
        rows.append(line)
    yield "### Beside published ratios\n"
    yield (
        "Each against the Transformer of its own source: other machines, sizes, batches and "
        "implementations, so that only the order of magnitude can be compared.\n"
    )
    yield _table(rows)
    yield "\n".join(f"- {number} {protocol}" for protocol, number in numbered.items()) + "\n"


def _without_result(cells: pd.DataFrame) -> Iterator[str]:
    """Yield why cells have no result."""
    lines = [
        f"- {cell['model']} at {cell['length']:,}: {cell['status'].replace('_', ' ')}: "
        f"{cell['error']}"
        for cell in cells.to_dict("records")
        if cell["status"] != "completed"
    ]
    if lines:
        yield "Without a result:\n"
        yield "\n".join(lines) + "\n"


def _wide(
    cells: pd.DataFrame, what: str, form: Callable[[Any], str], *, timed: bool = True
) -> dict[str, dict[str, str]]:
    """Return a row a model and a column a length, by model; what was not measured is empty.

    Args:
        cells: Of one group.
        what: Stands in every heading.
        form: Returns a cell in words.
        timed: Whether it is something that others on the machine disturb.
    """
    lengths = sorted(set(cells["length"]))
    columns = [f"{what} {length:,}".strip() for length in lengths]
    rows = {model: {"model": model, **dict.fromkeys(columns, "")} for model in set(cells["model"])}
    for cell in cells.to_dict("records"):
        shown = form(cell)
        if cell["status"] != "completed":
            shown = cell["status"].replace("_", " ")
        elif timed and shown and cell["is_busy"]:
            shown += "*"
        rows[cell["model"]][f"{what} {cell['length']:,}".strip()] = shown
    return rows


def _spread(cell: Cell, name: str, form: str) -> str:
    if pd.isna(cell[name]):
        return ""
    low, high = cell[f"{name}_min"], cell[f"{name}_max"]
    return f"{cell[name]:{form}} ({low:{form}}-{high:{form}})"


def _rate(cell: Cell, mode: str) -> str:
    """Return steps a second; the longest step is the lowest rate."""
    if pd.isna(cell[f"{mode}_seconds"]):
        return ""
    low, high = 1 / cell[f"{mode}_seconds_max"], 1 / cell[f"{mode}_seconds_min"]
    rate = cell[f"{mode}_steps_per_second"]
    return f"{_digits(rate)} ({_digits(low)}-{_digits(high)})"


def _digits(number: float) -> str:
    """Return three digits that matter, without an exponent."""
    places = 0 if number >= 100 else 1 if number >= 10 else 2 if number >= 1 else 3
    return f"{number:,.{places}f}"


def _plain(number: float | None, form: str) -> str:
    return "" if number is None or pd.isna(number) else f"{number:{form}}"


def _megabytes(column: str, cell: Cell) -> str:
    return "" if pd.isna(cell[column]) else f"{cell[column] / 1e6:,.0f}"


def _or_none(number: Any) -> float | None:
    return None if number is None or pd.isna(number) else float(number)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table whose first column is text, and the others numbers."""
    table = pd.DataFrame(list(rows))
    align = ["left", *["right"] * (len(table.columns) - 1)]
    text: str = table.to_markdown(index=False, colalign=align, disable_numparse=True)
    return text + "\n"
