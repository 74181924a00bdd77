"""Pictures for papers and slides: accuracy against time, learning curves, ranks.

matplotlib is imported where it is first needed; it is an extra. The same tables give the same
bytes with the same matplotlib.

Source: accuracy against time with memory as the area of a bubble is how the paper of the benchmark
shows its models (arXiv 2011.04006, figure 3).
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lra_bench.console import duration
from lra_bench.errors import UserError
from lra_bench.leaderboard.cells import ORDER, Tables
from lra_bench.leaderboard.collect import CELL, Run
from lra_bench.leaderboard.layout import heading_of
from lra_bench.leaderboard.ranks import ranks_of
from lra_bench.metrics import metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colors that are told apart in print and by most eyes (Okabe and Ito, 2008), then with markers.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_MARKERS = "os^Dv"
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    # Names of parts are hashes of their content, with this instead of a random number.
    "svg.hashsalt": "lra_bench",
}
# Panels side by side; their width and height [inches].
_COLUMNS, _PANEL = 3, (3.1, 2.6)
_LARGEST_BUBBLE = 260.0
# With more methods than this, a line is a method and no longer a run.
_MOST_WITH_ALL_RUNS = 6
_MOST_TIMES = 5
# Seconds that a person would write down.
_ROUND_TIMES = [1, 2, 5, 10, 20, 30, *(60 * n for n in (1, 2, 5, 10, 20, 30))]
_ROUND_TIMES += [3600 * n for n in (1, 2, 5, 10, 24, 48, 120, 240)]


def check_installed() -> None:
    """Find out before anything is read that pictures can be drawn.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("pictures need matplotlib: pip install 'lra_bench[figures]'") from error


def pictures(tables: Tables) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each file, and its content, as SVG and as PNG.

    Raises:
        UserError: matplotlib is missing.
    """
    check_installed()
    import matplotlib as mpl

    if tables.cells.empty:
        return
    names: set[str] = set()
    for setting, cells in tables.cells.groupby("setting", sort=True):
        name = _file_name(str(setting), names)
        cells = cells.sort_values(list(ORDER), kind="stable")
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            # A name may have a letter that the font lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            for kind, figure in (
                ("cost", _cost(cells)),
                ("curves", _curves(cells, tables)),
                ("ranks", _ranks(cells)),
            ):
                if figure is not None:
                    yield f"{name}-{kind}.svg", _bytes(figure, "svg", {"Date": None})
                    yield f"{name}-{kind}.png", _bytes(figure, "png", {"Software": None})


def _file_name(setting: str, taken: set[str]) -> str:
    """Return what the files of a setting are called; no name leads out of the folder."""
    name = re.sub(r"[^\w,=()+-]", "_", setting)[:80]
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _bytes(figure: Figure, form: str, metadata: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=160, bbox_inches="tight", metadata=dict(metadata))
    return content.getvalue()


def _panels(titles: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each title."""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1]), layout="constrained")
    axes = {}
    for index, title in enumerate(titles):
        axes[title] = figure.add_subplot(rows, columns, index + 1)
        axes[title].set_title(title, fontsize=9, fontweight="bold", loc="left", parse_math=False)
    return figure, axes


def _looks(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the color and the marker of each method."""
    return {
        method: (_COLORS[index % len(_COLORS)], _MARKERS[index // len(_COLORS) % len(_MARKERS)])
        for index, method in enumerate(methods)
    }


def _legend(figure: Figure, looks: Mapping[str, tuple[str, str]], note: str) -> None:
    """Write the names of the methods beside the panels, and a sentence below them."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", label=method)
        for method, (color, marker) in looks.items()
    ]
    legend = figure.legend(
        handles=handles, labels=list(looks), loc="outside right upper", frameon=False, fontsize=8
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.supxlabel(note, fontsize=8, color="#555555", parse_math=False)


def _scale(name: str) -> float:
    return 100.0 if metric(name).is_share else 1.0


def _cost(cells: pd.DataFrame) -> Figure | None:
    """Return accuracy against time, a panel a title; the area of a bubble is memory."""
    began = cells["pretraining_steps"].notna()
    times = cells["total_train_seconds_mean"].where(began, cells["train_seconds_mean"])
    cells = cells.assign(seconds=times.astype(float))
    known = cells[cells["test_mean"].notna() & (cells["seconds"].fillna(0) > 0)]
    if known.empty:
        return None
    figure, axes = _panels(list(dict.fromkeys(known["title"])))
    looks = _looks(sorted(set(known["method"])))
    most = known["peak_memory_bytes_max"].max()
    for cell in known.to_dict("records"):
        color, marker = looks[cell["method"]]
        scale = _scale(cell["metric"])
        memory = cell["peak_memory_bytes_max"]
        area = 30.0 if pd.isna(memory) or not most else 20 + _LARGEST_BUBBLE * memory / most
        mean, error = cell["test_mean"], cell["sampling_error"]
        low, high = cell["test_low"], cell["test_high"]
        if pd.isna(low) and not pd.isna(error):
            low, high = mean - error, mean + error
        at = axes[cell["title"]]
        if not pd.isna(low):
            at.vlines(cell["seconds"], scale * low, scale * high, color=color)
        at.scatter(
            [cell["seconds"]],
            [scale * mean],
            s=area,
            color=color,
            marker=marker,
            alpha=0.6,
            edgecolors=color,
        )
    for title, at in axes.items():
        of_title = known[known["title"] == title]
        at.set_xscale("log")
        _time_ticks(at, of_title["seconds"].tolist())
        in_all = of_title["pretraining_steps"].notna().any()
        at.set_xlabel("training time with pretraining" if in_all else "training time")
        at.set_ylabel(heading_of(of_title["metric"].iloc[0]))
    _legend(
        figure,
        looks,
        "Area: peak memory. Line: 95% interval over seeds, or with one seed one standard error of "
        "sampling the test split.",
    )
    return figure


def _time_ticks(at: Axes, seconds: Sequence[float]) -> None:
    low, high = min(seconds) / 1.5, max(seconds) * 1.5
    ticks = [time for time in _ROUND_TIMES if low <= time <= high]
    ticks = ticks[:: -(-len(ticks) // _MOST_TIMES) or 1]
    at.set_xlim(low, high)
    at.set_xticks(ticks, [re.sub(" 00[sm]$", "", duration(time)) for time in ticks])
    at.set_xticks([], minor=True)


def _curves(cells: pd.DataFrame, tables: Tables) -> Figure | None:
    """Return the metric on validation while training, a panel a title, a line a run."""
    known = {
        (cell["title"], cell["method"]): curves
        for cell in cells.to_dict("records")
        if (curves := _curves_of(tables.runs[tuple(cell[name] for name in CELL)]))
    }
    if not known:
        return None
    names = dict(zip(cells["title"], cells["metric"], strict=True))
    figure, axes = _panels(list(dict.fromkeys(title for title, _ in known)))
    looks = _looks(sorted({method for _, method in known}))
    means = len(looks) > _MOST_WITH_ALL_RUNS
    for (title, method), curves in known.items():
        color, marker = looks[method]
        for curve in [_mean_of(curves)] if means else curves:
            axes[title].plot(
                list(curve),
                [_scale(names[title]) * value for value in curve.values()],
                color=color,
                marker=marker,
                markersize=3.5,
                markevery=max(1, math.ceil(len(curve) / 6)),
                linewidth=1.1,
                alpha=0.8,
            )
    for title, at in axes.items():
        at.set_xlabel("updates")
        at.set_ylabel(f"validation {heading_of(names[title])}")
    _legend(figure, looks, "A line is the mean over seeds." if means else "A line is a run.")
    return figure


def _curves_of(runs: Sequence[Run]) -> list[dict[float, float]]:
    """Return the curve of each run that has one, by step."""
    return [dict(zip(run.steps, run.curve, strict=True)) for run in runs if len(run.curve) > 1]


def _mean_of(curves: Sequence[Mapping[float, float]]) -> dict[float, float]:
    """Return the mean at the steps that all curves have."""
    shared = set(curves[0]).intersection(*curves[1:])
    return {
        step: math.fsum(curve[step] for curve in curves) / len(curves) for step in sorted(shared)
    }


def _ranks(cells: pd.DataFrame) -> Figure | None:
    """Return the mean rank of each method with its interval, the best on top."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ranks, titles = ranks_of(cells)
    if not ranks:
        return None
    figure = Figure(figsize=(5.6, 0.9 + 0.26 * len(ranks)), layout="constrained")
    at = figure.add_subplot()
    for index, rank in enumerate(ranks):
        at.hlines(index, rank.low, rank.high, color=_COLORS[0], linewidth=2.5, alpha=0.5)
        at.plot([rank.mean], [index], color=_COLORS[0], marker="o", markersize=5)
    at.set_yticks(range(len(ranks)), [rank.method for rank in ranks])
    for text in at.get_yticklabels():
        text.set_parse_math(False)
    at.invert_yaxis()
    at.xaxis.set_major_locator(MaxNLocator(integer=True))
    at.grid(axis="y", visible=False)
    at.set_xlabel(f"mean rank over {', '.join(titles)}, 95% interval", parse_math=False)
    return figure
