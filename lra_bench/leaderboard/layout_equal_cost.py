"""Pretrained cells beside those from scratch that made as many updates, as sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lra_bench.leaderboard.cells import ORDER, Tables
from lra_bench.leaderboard.collect import CELL
from lra_bench.leaderboard.layout import Entry, Note, Section, aside, heading_of, result, time

HEADING = "At equal total cost"
LEGEND = (
    "Total updates: those of pretraining and of the training that followed, and as many from "
    "scratch; model, task, data, objective and all options but that number are the same. In "
    "parentheses: seeds, and pretrainings where some share one. Time: training, mean over seeds, "
    "with that of pretraining; comparable on one kind of hardware. An update of pretraining may "
    "cost more or less than one that follows."
)
_COLUMNS = (
    *("model", "task", "total updates", "from scratch", "its time"),
    *("pretrained", "of which pretraining", "its time"),
)


def equal_cost_sections(tables: Tables) -> list[Section]:
    """Return a table for each setting whose runs began from others; nothing if there is none."""
    pairs = tables.equal_cost
    if pairs.empty:
        return []
    cells = tables.cells.sort_values(list(ORDER), kind="stable").to_dict("records")
    by_key = {tuple(cell[name] for name in CELL): cell for cell in cells}
    order = {key: place for place, key in enumerate(by_key)}
    found = [Section(HEADING, 2, notes=[Note(LEGEND)])]
    for setting, of in pairs.groupby("setting", sort=True):
        of_setting = sorted(of.to_dict("records"), key=lambda pair: order[_key(pair)])
        found.append(_of_setting(str(setting), of_setting, by_key))
    return found


def _of_setting(
    setting: str,
    pairs: Sequence[Mapping[Any, Any]],
    by_key: Mapping[tuple[Any, ...], Mapping[Any, Any]],
) -> Section:
    rows = []
    for pair in pairs:
        cell = by_key[_key(pair)]
        scratch = by_key.get((pair["scratch_setting"], *_key(pair)[1:]))
        texts = [
            cell["method"],
            cell["title"],
            f"{pair['total_steps']:,}",
            *(["", ""] if scratch is None else _result(scratch, "train_seconds_mean")),
            *_result(cell, "total_train_seconds_mean"),
        ]
        texts.insert(-1, f"{cell['pretraining_steps']:,.0f}")
        rows.append([Entry(text) for text in texts])
    metrics = {by_key[_key(pair)]["title"]: by_key[_key(pair)]["metric"] for pair in pairs}
    missing = [pair for pair in pairs if not pair["scratch_setting"]]
    items = [
        f"{by_key[_key(pair)]['method']} on {by_key[_key(pair)]['title']}: "
        f"{pair['command'] or 'its command is not known'}"
        for pair in missing
    ]
    return Section(setting, 3, _COLUMNS, rows, list(_notes(pairs, metrics)), items)


def _result(cell: Mapping[Any, Any], seconds: str) -> tuple[str, str]:
    return result(cell) + aside(cell, None), time(cell[seconds])


def _notes(pairs: Sequence[Mapping[Any, Any]], metrics: Mapping[str, str]) -> Iterator[Note]:
    listed = "; of ".join(f"{title}: {heading_of(name)}" for title, name in metrics.items())
    yield Note(f"Metric of {listed}.")
    settings = sorted({pair["scratch_setting"] for pair in pairs if pair["scratch_setting"]})
    if settings:
        yield Note(f"From scratch: setting {', '.join(settings)}.")
    if not all(pair["scratch_setting"] for pair in pairs):
        yield Note("Missing from scratch, and what makes it:")


def _key(pair: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(pair[name] for name in CELL)
