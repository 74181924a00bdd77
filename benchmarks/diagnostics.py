"""Draw what the diagnostic tasks tell of models, from the records of their runs.

    pip install -e '.[figures]'
    python benchmarks/diagnostics.py results/diagnostics --to docs

writes needle.svg (models by distance) and recall.svg (models by number of pairs), the same bytes
for the same records, and prints both as Markdown, with the spread over seeds.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from lra_bench.record import BadRecord, RunRecord, read

# Text stays text, ids do not depend on the day.
mpl.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "lra_bench", "font.family": "sans-serif"}
)
_QUESTION = re.compile(r"accuracy_of_distance_(\d+)")


@dataclass(frozen=True)
class Chart:
    """Accuracy on the test split, by model and by what makes the task hard.

    Args:
        title: Of the picture.
        axis: What the columns are.
        values: By model and column, one number a seed.
        chance: What guessing reaches.
    """

    title: str
    axis: str
    values: Mapping[str, Mapping[int, list[float]]]
    chance: float

    @property
    def columns(self) -> list[int]:
        """What makes it hard, the easiest first."""
        return sorted({column for row in self.values.values() for column in row})

    @property
    def rows(self) -> list[str]:
        """The models, the best over all columns first."""
        means = {
            name: statistics.fmean(statistics.fmean(of_seeds) for of_seeds in row.values())
            for name, row in self.values.items()
        }
        return sorted(means, key=lambda name: (-round(means[name], 2), name))

    def draw(self) -> Figure:
        """Return it as a picture: one line a model, one column a difficulty, in percent."""
        # Inches: a line of text, a cell, and about as much as the longest name takes.
        width = 0.085 * max(map(len, self.rows)) + max(0.62 * len(self.columns), 3.2)
        figure = Figure(figsize=(width, 0.27 * len(self.rows) + 1.3), layout="constrained")
        axes = figure.subplots()
        numbers = [[self._mean(name, at) for at in self.columns] for name in self.rows]
        axes.imshow(numbers, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="none")
        for y, row in enumerate(numbers):
            for x, value in enumerate(row):
                if value == value:
                    color = "black" if value > 0.6 else "white"
                    axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(self.columns)), [str(column) for column in self.columns])
        axes.set_yticks(range(len(self.rows)), self.rows)
        axes.set_xlabel(self.axis)
        figure.suptitle(f"{self.title}; chance {100 * self.chance:.1f}", fontsize="medium")
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        return figure

    def _mean(self, name: str, column: int) -> float:
        of_seeds = self.values[name].get(column)
        return statistics.fmean(of_seeds) if of_seeds else float("nan")

    def markdown(self) -> str:
        """Return it as a table: means, and the least and the most where there are several seeds."""
        lines = [
            f"| model | seeds | {' | '.join(map(str, self.columns))} |",
            f"| --- | ---: | {' | '.join('---:' for _ in self.columns)} |",
        ]
        for name in self.rows:
            row = self.values[name]
            cells = [_cell(row.get(column, [])) for column in self.columns]
            lines.append(f"| {name} | {max(map(len, row.values()))} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _cell(of_seeds: list[float]) -> str:
    if not of_seeds:
        return ""
    mean = f"{100 * statistics.fmean(of_seeds):.0f}"
    if len(of_seeds) == 1:
        return mean
    return f"{mean} ({100 * min(of_seeds):.0f}-{100 * max(of_seeds):.0f})"


def needle(records: Iterable[RunRecord]) -> Chart:
    """Return accuracy against distance."""
    return _chart(
        records, "needle", "distance from the needle to the question [tokens]", _distances
    )


def recall(records: Iterable[RunRecord]) -> Chart:
    """Return accuracy against the number of pairs."""
    return _chart(records, "recall", "pairs of a key and a value", _pairs)


def _distances(record: RunRecord) -> dict[int, float]:
    found = {}
    for name, values in record.metrics.items():
        if (of := _QUESTION.fullmatch(name)) and values["test"] is not None:
            found[int(of[1])] = values["test"]
    return found


def _pairs(record: RunRecord) -> dict[int, float]:
    value = record.metrics["accuracy"]["test"]
    return {} if value is None else {record.config["task"]["num_pairs"]: value}


def _chart(
    records: Iterable[RunRecord],
    task: str,
    axis: str,
    read: Callable[[RunRecord], dict[int, float]],
) -> Chart:
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    baselines, settings = [], set()
    for record in sorted(records, key=lambda one: one.seed):
        if record.task == task and record.status == "completed":
            settings.add(record.setting)
            baselines.append(1 / record.config["task"]["num_values"])
            for column, value in read(record).items():
                values[_name(record)][column].append(value)
    title = f"{task}, setting {', '.join(sorted(settings))}: test accuracy [%]"
    return Chart(title, axis, values, statistics.fmean(baselines) if baselines else 0.0)


def _name(record: RunRecord) -> str:
    """Return what a row is called: the model with what was changed about it, and the budget."""
    label = record.labels["model"]
    if record.objective != "cross_entropy":
        label += f" + {record.objective}"
    budget = [
        f"{key.split('.')[-1]}={value}"
        for key, value in sorted(record.changes.items())
        if key.split(".")[0] in ("train", "trunk", "head") and key != "train.eval_every"
    ]
    return " ".join([label, *budget])


def main(words: Sequence[str] | None = None) -> None:
    """Read, draw, print; words of the command line by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("results", type=Path, help="folder that holds runs/")
    parser.add_argument("--to", type=Path, required=True, help="folder of the pictures")
    arguments = parser.parse_args(words)
    records = []
    for path in sorted((arguments.results / "runs").rglob("*.json")):
        try:
            records.append(read(path))
        except BadRecord as error:
            print(f"skipped: {path} {error}")
    charts = {"needle": needle(records), "recall": recall(records)}
    if not any(chart.values for chart in charts.values()):
        raise SystemExit(f"{arguments.results} holds no finished run of {' or '.join(charts)}")
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name, chart in charts.items():
        if not chart.values:
            continue
        chart.draw().savefig(arguments.to / f"{name}.svg", metadata={"Date": None})
        print(f"## {name}\n\n{chart.markdown()}\n")


if __name__ == "__main__":
    main()
