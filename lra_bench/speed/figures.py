"""Pictures of time and memory over length; matplotlib is optional, and imported here alone."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.speed.tables import models_in_order

_PANELS = {
    "train_seconds": ("training step [s]", 1.0),
    "train_peak_memory_bytes": ("peak memory of training [MB]", 1e6),
}
_MARKERS = "osD^v<>P"


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError:
        return False
    return True


def file_name(group: Mapping[str, Any]) -> str:
    """Return a name for the picture of a group, the same whenever it is drawn."""
    words = f"{group['setting']}-{group['task']}-batch{group['batch_size']}"
    device = hashlib.sha256(str(group["device"]).encode()).hexdigest()[:6]
    return f"speed-{re.sub(r'[^A-Za-z0-9_.=-]+', '_', words)[:100]}-{device}.svg"


def draw(cells: pd.DataFrame, title: str) -> str:
    """Return an SVG of training time and memory over length, the same bytes for the same cells.

    Both axes are logarithmic, so that a power of the length is a straight line.

    Args:
        cells: Of one group.
        title: Stands above.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Names inside the file would be drawn at random, text would depend on installed fonts.
    style: Any = {"svg.hashsalt": "lra_bench", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(style):
        figure = Figure(figsize=(11, 5), layout="constrained")
        models = models_in_order(cells)
        for axes, (column, (name, unit)) in zip(
            figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True
        ):
            for number, model in enumerate(models):
                _line(axes, cells[cells["model"] == model], column, unit, number)
            lengths = sorted(set(cells["length"]))
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
            axes.set_xlabel("length [tokens]")
            axes.set_title(name)
            axes.grid(visible=True, which="major", alpha=0.3)
        lines = axes.get_lines()
        figure.legend(lines, _labels(lines), loc="outside right upper", frameon=False)
        figure.suptitle(title)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _labels(lines: Sequence[Any]) -> list[str]:
    return [str(line.get_label()) for line in lines]


def _line(axes: Any, own: pd.DataFrame, column: str, unit: float, number: int) -> None:
    """Draw one model; the baseline is black and thick, whatever its place."""
    own = own.sort_values("length")
    model = own["model"].iloc[0]
    is_baseline = model == own["baseline"].iloc[0]
    axes.plot(
        own["length"],
        own[column].astype(float) / unit,
        label=model,
        color="black" if is_baseline else f"C{number % 10}",
        linewidth=2.5 if is_baseline else 1.2,
        marker=_MARKERS[number // 10 % len(_MARKERS)],
        linestyle=("-", "--", ":")[number // 10 % 3],
        markersize=4,
    )
