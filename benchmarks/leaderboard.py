"""What the tables of very many records cost.

    python benchmarks/leaderboard.py
    python benchmarks/leaderboard.py --numbers 100000 --repeats 1

Copies of a shipped record, with names and seeds of their own, are written to a temporary folder;
then `lra-bench leaderboard` reads them in a process of its own. Wall-clock seconds, CPU seconds
and the largest resident memory of that process: median of the repeats (min to max). The
alternative is what no reader can do without: reading the same files as JSON, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lra_bench import identity
from lra_bench import record as records
from lra_bench.metrics import Evaluation, measured

_TASKS = ("listops", "text", "retrieval", "image", "pathfinder", "pathx")
_SETTINGS = ("cpu", "small", "lra2020")
_MODELS = 20
_SHIPPED = Path(__file__).parents[1] / "results"
_READ_ONLY = """
import json, os, sys
for base, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(base, name), encoding="utf-8") as file:
            json.load(file)
"""


def main() -> None:
    """Measure each number of records, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    print(f"{'records':>8}  {'what':<12} {'wall [s]':<24} {'CPU [s]':<24} memory [MB]")
    for number in asked.numbers:
        with tempfile.TemporaryDirectory() as folder:
            make_copies(Path(folder), number)
            ways = {
                "JSON alone": [sys.executable, "-c", _READ_ONLY, f"{folder}/runs"],
                "leaderboard": [
                    *(sys.executable, "-m", "lra_bench.cli", "leaderboard", folder),
                    *("--out", f"{folder}/out"),
                ],
            }
            found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
            for _ in range(asked.repeats):
                for name, command in ways.items():
                    found[name].append(cost_of(command))
            for name, costs in found.items():
                figures = "  ".join(map(in_words, zip(*costs, strict=True)))
                print(f"{number:>8,}  {name:<12} {figures}")
            alone, ours = (statistics.median(cost[1] for cost in found[name]) for name in ways)
            print(f"{number:>8,}  ratio of CPU times: {ours / alone:.1f}")


def make_copies(folder: Path, number: int) -> None:
    """Write records that differ in names, seeds and results."""
    (shipped,) = (_SHIPPED / "runs/cpu/listops/local").glob("*.json")
    like = records.read(shipped)
    assert like.test is not None
    for index in range(number):
        names: dict[str, Any] = {
            "setting": _SETTINGS[index % 3],
            "task": _TASKS[index // 3 % 6],
            "model": f"model_{index // 18 % _MODELS}",
            "objective": like.objective,
        }
        seed = index // (18 * _MODELS)
        request = identity.request_id(names, like.changes, like.config, seed)
        correct = 400 + 50 * (index // 18 % _MODELS) + index * 7919 % 41
        test = Evaluation({**like.test.sums, "correct": correct, "exact": correct})
        copy = replace(
            like,
            **names,
            seed=seed,
            request_id=request,
            run_id=identity.run_id(request, like.data_sha256),
            test=test,
            metrics=measured(["accuracy"], test=test, validation=like.validation),
        )
        path = records.record_path(folder, copy.setting, copy.task, copy.model, copy.run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by `records.write`, which waits for the disk each time.
        path.write_text(json.dumps(records.as_dict(copy), indent=1, sort_keys=True))


def cost_of(command: Sequence[str]) -> tuple[float, float, float]:
    """Return what a process takes: wall-clock and CPU time [s], resident memory [MB]."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def in_words(values: Sequence[float]) -> str:
    """Return the median, and the range."""
    text = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
    return f"{text:<24}"


if __name__ == "__main__":
    main()
