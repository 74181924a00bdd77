"""Pathfinder tasks and images that several tests look at."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import made_up_release as made_up
import numpy as np
import pytest
from numpy.typing import NDArray

from lra_bench.types import Progress, Split
from lra_tasks._pathfinder_draw import (
    Difficulty,
    draw,
    parameters,
)
from lra_tasks._pathfinder_geometry import (
    Drawn,
)
from lra_tasks._pathfinder_shards import Shards
from lra_tasks.pathfinder import Pathfinder

Rows = list[tuple[bytes, int]]
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
STROKES: dict[Difficulty, int] = {"easy": 6, "intermediate": 9, "hard": 14}


def make(folder: Path, **options: Any) -> Pathfinder:
    return Pathfinder(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def rows_of(task: Pathfinder, split: Split) -> Rows:
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [(example.inputs[0].tobytes(), int(example.target)) for example in found]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


NUM_DRAWN = 4000


@lru_cache
def drawn_by_us(difficulty: Difficulty) -> Drawn:
    return draw(parameters(32, difficulty), NUM_DRAWN, 1, 0)


@lru_cache
def few_drawn(resolution: int) -> Drawn:
    """Return some hard images of any size, drawn once for all tests that look at them."""
    return draw(parameters(resolution, "hard"), 20 if resolution in (64, 128) else 40, 0, 0)


TOTAL = 21
SHARD = 4
NUM_SHARDS = 6
# Shards of four images, drawn in this process.
SMALL: dict[str, Any] = {
    "difficulty": "easy",
    "num_train": 13,
    "num_validation": 5,
    "num_test": 3,
    "shard_size": SHARD,
    "num_workers": 1,
}


@dataclass(frozen=True)
class CountedShards(Shards):
    """Shards that remember which of them were drawn."""

    drawn: list[int] = field(default_factory=list)

    def draw(self, shard: int) -> Drawn:
        self.drawn.append(shard)
        return super().draw(shard)


class Counted(Pathfinder):
    """A task that remembers which shards were drawn."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drawn: list[int] = []

    def shards(self, place: Path) -> Shards:
        plain = super().shards(place)
        return CountedShards(**vars(plain), drawn=self.drawn)


def small(folder: Path, **options: Any) -> Counted:
    """Return a task of few images."""
    options = SMALL | options
    return Counted(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def expected_rows(seed: int = 0) -> Rows:
    """Return what the shards hold, drawn directly."""
    rows: Rows = []
    for shard in range(NUM_SHARDS):
        some = draw(parameters(32, "easy"), min(SHARD, TOTAL - shard * SHARD), seed, shard)
        rows += [
            (image.tobytes(), int(label))
            for image, label in zip(some.images, some.labels, strict=True)
        ]
    return rows


def all_rows(task: Pathfinder) -> Rows:
    """Return the rows of all splits in the order in which they are drawn."""
    order: tuple[Split, ...] = ("test", "train", "validation")
    return [row for split in order for row in rows_of(task, split)]


class StopHereError(Exception):
    pass


def stop_after(number: int) -> Callable[[Progress], None]:
    """Return a progress callback that ends preparing when so many images are drawn."""

    def stop(progress: Progress) -> None:
        if progress.what == "drawing images" and progress.done >= number:
            raise StopHereError

    return stop


def shards_folder(folder: Path) -> Path:
    (found,) = (folder / "cache").glob(".*.shards")
    return found


def official(folder: Path, **options: Any) -> Pathfinder:
    return make(folder, source="official", **options)


INNER = "lra_release/lra_release/pathfinder32"


def as_array(array: NDArray[Any], version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


FIELDS = [made_up.metadata_line(3, at, at % 2) for at in range(5)]


FEW_AND_MANY = [
    pytest.param(1_000, id="few"),
    pytest.param(100_000, id="many", marks=pytest.mark.slow),
]
