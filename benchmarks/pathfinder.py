"""How fast Pathfinder images are drawn, against the published generator's way of drawing them.

    python benchmarks/pathfinder.py
    python benchmarks/pathfinder.py --full --prepare 20000 --json pathfinder.json

Both sides draw whole images with the published settings, in turn in one process; times are CPU
seconds of one core. How many attempts an image needs is chance, so that rates and their ratio are
those of all turns together. The other side is the oracle of the tests,
rewritten from the description of the published generator: one attempt at a pair of contours after
the other, and every stroke drawn and shrunk anew, as there. (The tests let it keep its strokes.)
It is two to four times as fast as the published generator itself, whose images per CPU-second at
size 32 are quoted as they were measured, on an AMD EPYC (Zen 4).

With --full also the larger sizes: minutes, for some fifteen uneven images of the other side. With
--prepare so many images are prepared as a run would do it, on all cores, in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lra_tasks._parallel import num_cores
from lra_tasks._pathfinder_draw import Difficulty, draw, parameters
from lra_tasks.pathfinder import Pathfinder

# The oracles of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracles import pathfinder as oracle

PUBLISHED_IMAGES_PER_SECOND: dict[tuple[int, str], float] = {
    (32, "easy"): 28.7,
    (32, "intermediate"): 13.2,
    (32, "hard"): 3.1,
}


@dataclass(frozen=True)
class Case:
    """What is drawn in a turn.

    Args:
        resolution: Side of an image [pixels].
        difficulty: The level.
        ours: Images that we draw.
        theirs: Images that the other side draws.
    """

    resolution: int
    difficulty: Difficulty
    ours: int
    theirs: int


CASES = (
    Case(32, "easy", 4000, 40),
    Case(32, "intermediate", 4000, 20),
    Case(32, "hard", 2000, 8),
)
LARGER = (Case(64, "hard", 200, 3), Case(128, "hard", 200, 3), Case(256, "hard", 400, 6))


def draw_ours(case: Case, turn: int) -> None:
    draw(parameters(case.resolution, case.difficulty), case.ours, 0, turn)


def draw_theirs(case: Case, turn: int) -> None:
    rng = np.random.default_rng(turn)
    for _ in range(case.theirs):
        oracle.make(oracle.PARAMS[case.resolution, case.difficulty], rng)


def forget_strokes() -> None:
    """Let the oracle draw every stroke anew."""
    cached: Any = oracle.stroke
    oracle.stroke = cached.__wrapped__


def rates(case: Case, turns: int) -> tuple[list[float], list[float]]:
    """Return the images per CPU-second of each turn, ours and theirs; ours is warmed up first."""
    draw_ours(case, turns)
    sides: tuple[tuple[Callable[[Case, int], None], int], ...] = (
        (draw_ours, case.ours),
        (draw_theirs, case.theirs),
    )
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for (side, number), seen in zip(sides, found, strict=True):
            started = time.process_time()
            side(case, turn)
            seen.append(number / (time.process_time() - started))
    return found


def prepare(number: int) -> float:
    """Return the wall seconds of preparing hard images, a tenth each for validation and test."""
    tenth = max(1, number // 10)
    with tempfile.TemporaryDirectory() as folder:
        task = Pathfinder(
            data_dir=Path(folder),
            cache_dir=Path(folder),
            num_train=number - 2 * tenth,
            num_validation=tenth,
            num_test=tenth,
        )
        started = time.perf_counter()
        task.prepare()
        return time.perf_counter() - started


def together(values: list[float]) -> float:
    """Return the rate of turns of equally many images, all together."""
    return statistics.harmonic_mean(values)


def shown(values: list[float]) -> str:
    return f"{together(values):>9,.2f} ({min(values):,.2f} to {max(values):,.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="the larger sizes as well: minutes")
    parser.add_argument("--prepare", type=int, metavar="N", help="prepare N hard images as well")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    asked = parser.parse_args()

    forget_strokes()
    print(f"images per CPU-second, {asked.turns} turns together (least to most)")
    result: dict[str, Any] = {"turns": asked.turns}
    for case in (*CASES, *(LARGER if asked.full else ())):
        ours, theirs = rates(case, asked.turns)
        ratio = together(ours) / together(theirs)
        name = f"{case.resolution} {case.difficulty}"
        print(name)
        print(f"  ours     {shown(ours)}")
        print(f"  rebuild  {shown(theirs)}")
        print(f"  ours / rebuild = {ratio:,.0f}")
        result[name] = {"ours": ours, "rebuild": theirs, "ratio_to_rebuild": ratio}
        published = PUBLISHED_IMAGES_PER_SECOND.get((case.resolution, case.difficulty))
        if published is not None:
            ratio = together(ours) / published
            print(f"  ours / published generator ({published}) = {ratio:,.0f}")
            result[name] |= {"published": published, "ratio_to_published": ratio}
    if asked.prepare:
        seconds = prepare(asked.prepare)
        print(
            f"preparing {asked.prepare:,} hard images at 32: {seconds:.1f} s of wall time, "
            f"{num_cores()} cores"
        )
        result["prepare"] = {
            "images": asked.prepare,
            "wall_seconds": seconds,
            "num_cores": num_cores(),
        }
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
