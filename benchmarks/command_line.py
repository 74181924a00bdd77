"""What help and a completion cost, which somebody waits for.

    python benchmarks/command_line.py

CPU seconds of a whole process, the interpreter's start included; median of eleven (min to max).
The alternative is what importing PyTorch alone costs, which the first of them must never do.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys

from lra_bench.cli.completion import ASKED

_PROGRAM = (sys.executable, "-m", "lra_bench.cli")
_LINES = (
    "lra-bench r",
    "lra-bench run task=li",
    "lra-bench run train.",
    "lra-bench run task=listops model=local model.",
    "lra-bench run train.precision=",
    "lra-bench data show task=listops split=",
)


def main() -> None:
    """Measure in turn, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11, help="processes of each kind")
    repeats = parser.parse_args().repeats
    kinds: dict[str, tuple[list[str], dict[str, str]]] = {
        "import torch": ([sys.executable, "-c", "import torch"], {}),
        "--help": ([*_PROGRAM, "--help"], {}),
        "run --help": ([*_PROGRAM, "run", "--help"], {}),
    }
    for line in _LINES:
        asked = {ASKED: "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
        asked["_ARGCOMPLETE_STDOUT_FILENAME"] = os.devnull
        kinds[f"{line}<TAB>"] = ([*_PROGRAM], asked)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, (command, variables) in kinds.items():
            seconds[name].append(cpu_seconds(command, variables))
    for name, times in seconds.items():
        print(f"{name:<52} {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})")


def cpu_seconds(command: list[str], variables: dict[str, str]) -> float:
    """Return what a process takes of the CPU, of the system's time as well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, **variables})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
