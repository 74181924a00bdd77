"""How fast ListOps expressions are drawn, against the recursion of the published generator.

    python benchmarks/listops.py
    python benchmarks/listops.py --all --json listops.json

Both sides draw, keep what is of the right length and new, evaluate it and make its tokens, with
the published limits, in turn in one process; times are CPU seconds of one core, ratios are
between medians. The recursion is the oracle of the tests, rewritten from the description of the
published generator. It is about three times as fast as that one, which also writes the text form
with its round brackets: 252 trees per CPU-second when it was measured, on an AMD EPYC (Zen 4).
With --all the whole set of 100,000 is prepared as a run would do it, on all cores, in a temporary
folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from lra_tasks import _listops_trees as trees
from lra_tasks.listops import ListOps

# The oracles of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracles import listops as oracle

PUBLISHED_TREES_PER_SECOND = 252.0


def draw_ours(turn: int, num_shards: int) -> int:
    """Draw some shards and return the number of trees."""
    seen: set[bytes] = set()
    for shard in range(turn * num_shards, (turn + 1) * num_shards):
        tokens, offsets = trees.draw(0, shard, trees.Shape())
        trees.evaluate(tokens, offsets)
        seen.update(tokens[start:stop].tobytes() for start, stop in pairwise(offsets.tolist()))
    return len(seen)


def draw_theirs(turn: int, num_trees: int) -> int:
    """Draw some trees and return their number."""
    for tree in oracle.draw_kept(random.Random(turn), oracle.Limits(), num_trees):
        oracle.evaluate(tree)
        oracle.tokens(tree)
    return num_trees


def rates(turns: int, num_shards: int, num_trees: int) -> tuple[list[float], list[float]]:
    """Return the trees per CPU-second of each turn, ours and theirs, after one to warm up."""
    ours, theirs = [], []
    for turn in range(turns + 1):
        started = time.process_time()
        number = draw_ours(turn, num_shards)
        ours.append(number / (time.process_time() - started))
        started = time.process_time()
        number = draw_theirs(turn, num_trees)
        theirs.append(number / (time.process_time() - started))
    return ours[1:], theirs[1:]


def prepare_all() -> float:
    """Return the wall seconds of preparing the whole set."""
    with tempfile.TemporaryDirectory() as folder:
        task = ListOps(data_dir=Path(folder), cache_dir=Path(folder))
        started = time.perf_counter()
        task.prepare()
        return time.perf_counter() - started


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):>8,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--shards", type=int, default=8, help="drawn by us in a turn")
    parser.add_argument("--trees", type=int, default=400, help="drawn by recursion in a turn")
    parser.add_argument("--all", action="store_true", help="prepare the whole set as well")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    asked = parser.parse_args()

    ours, theirs = rates(asked.turns, asked.shards, asked.trees)
    ratio = statistics.median(ours) / statistics.median(theirs)
    published_ratio = statistics.median(ours) / PUBLISHED_TREES_PER_SECOND
    print(f"trees per CPU-second, median of {asked.turns} turns (least to most)")
    print(f"  ours       {shown(ours)}")
    print(f"  recursion  {shown(theirs)}")
    print(f"  ours / recursion = {ratio:.1f}")
    print(
        f"  ours / published generator ({PUBLISHED_TREES_PER_SECOND:.0f}) = {published_ratio:.1f}"
    )
    result: dict[str, Any] = {
        "trees_per_cpu_second": statistics.median(ours),
        "trees_per_cpu_second_min": min(ours),
        "trees_per_cpu_second_max": max(ours),
        "recursion_trees_per_cpu_second": statistics.median(theirs),
        "recursion_trees_per_cpu_second_min": min(theirs),
        "recursion_trees_per_cpu_second_max": max(theirs),
        "ratio_to_recursion": ratio,
        "ratio_to_published": published_ratio,
        "turns": asked.turns,
    }
    if asked.all:
        seconds = prepare_all()
        print(f"the whole set of 100,000: {seconds:.1f} s of wall time, {os.cpu_count()} cores")
        result |= {"all_wall_seconds": seconds, "num_cores": os.cpu_count()}
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
