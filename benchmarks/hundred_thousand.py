"""What the tables, the status and the locks cost where there are very many runs.

    python benchmarks/hundred_thousand.py
    python benchmarks/hundred_thousand.py --number 10000 --in /dev/shm

Made-up records (see `leaderboard.py`), the lock that each run leaves, a sweep that plans as many
runs again, and a few runs under way are written to a temporary folder, below `--in`, and removed
afterwards. `lra-bench leaderboard` and `lra-bench status` read it in processes of their own:
wall-clock seconds, CPU seconds and the largest resident memory. The alternative is what no reader
can do without: reading the same records as JSON, and nothing else. Of the third, what a run needs
to begin (its lock, its live status) is timed beside the files of all others and in an empty folder.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import leaderboard

from lra_bench.runs import LiveStatus, LiveTracker, RunFolder
from lra_bench.sweep_folder import Planned, planned

_NAMES = {"setting": "lra2020", "task": "listops", "model": "m", "objective": "cross_entropy"}
_NUM_LIVE = 64
_NUM_BEGUN = 200
_READ_ONLY = """
import json, os, sys
for base, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(base, name), encoding="utf-8") as file:
            json.load(file)
"""


def main() -> None:
    """Make the folder, measure the three, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100_000)
    memory = Path("/dev/shm")
    parser.add_argument(
        "--in", dest="place", type=Path, default=memory if memory.exists() else None
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.place) as name:
        folder = Path(name)
        began = time.perf_counter()
        leaderboard.make_copies(folder, asked.number)
        make_locks(folder, asked.number)
        plan = [planned_run(index) for index in range(asked.number)]
        print(f"{asked.number:,} runs made in {time.perf_counter() - began:.0f} s")
        with planned(folder, plan):
            make_live(folder)
            read(folder)
        begin(folder)


def make_locks(folder: Path, number: int) -> None:
    """Write the empty file that stays of each run that has ended."""
    (folder / "live").mkdir(parents=True, exist_ok=True)
    for index in range(number):
        (folder / f"live/{index:016x}.lock").touch()


def make_live(folder: Path) -> None:
    """Write how runs stand whose processes have gone."""
    for index in range(_NUM_LIVE):
        status = LiveStatus(f"{index:016x}", _NAMES, {}, index, "lra-bench run")
        LiveTracker(folder / f"live/{index:016x}.json", status)


def planned_run(index: int) -> Planned:
    """Return a run that waits in a sweep."""
    command = f"lra-bench run task=listops model=m setting=lra2020 seed={index}"
    return Planned(f"{index:016x}", f"m on listops, setting lra2020, seed {index}", command)


def read(folder: Path) -> None:
    """Print what reading all of it takes."""
    cli = [sys.executable, "-m", "lra_bench.cli"]
    ways: dict[str, Sequence[str]] = {
        "JSON alone": [sys.executable, "-c", _READ_ONLY, f"{folder}/runs"],
        "leaderboard": [*cli, "leaderboard", str(folder), "--out", f"{folder}/out"],
        "status": [*cli, "status", str(folder)],
        "status --json": [*cli, "status", str(folder), "--json"],
    }
    print(f"{'what':<14} {'wall [s]':>9} {'CPU [s]':>9} {'memory [MB]':>12} {'CPU ratio':>10}")
    alone = None
    for name, command in ways.items():
        wall, cpu, memory = leaderboard.cost_of(command)
        alone = alone or cpu
        print(f"{name:<14} {wall:>9.1f} {cpu:>9.1f} {memory:>12.0f} {cpu / alone:>10.1f}")


def begin(full: Path) -> None:
    """Print what a run needs to begin and to end, among all the others and alone."""
    found = {}
    with tempfile.TemporaryDirectory(dir=full.parent) as empty:
        for name, place in (("among all", full), ("alone", Path(empty))):
            times = []
            for index in range(_NUM_BEGUN):
                run = RunFolder(place, _NAMES, f"{index:015x}f")
                began = time.perf_counter()
                with run.lock(wait=False, say=print):
                    status = LiveStatus(run.request_id, _NAMES, {}, index, "lra-bench run")
                    LiveTracker(run.live_path, status).remove()
                times.append(1000 * (time.perf_counter() - began))
            found[name] = statistics.median(times)
            print(
                f"a lock and a live status, {name}: {found[name]:.2f} ms "
                f"({min(times):.2f} to {max(times):.2f})"
            )
    print(f"ratio: {found['among all'] / found['alone']:.1f}")


if __name__ == "__main__":
    main()
