"""What it costs how threads wait: on a quiet machine, beside a busy process, and two runs at once.

    python benchmarks/waiting.py --models transformer,ernie_sparse --length 1024

OpenMP's threads spin while they wait for one another, unless they are told to sleep
(`OMP_WAIT_POLICY=PASSIVE`, which `lra_bench` sets where nobody has set it). Each figure is the
median step of a process of its own, since the policy is read when PyTorch is loaded; the policies
take turns. ``default`` is a process that loads PyTorch before `lra_bench`, so that nothing is set.
The busy process computes on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

POLICIES = ("default", "passive")
BUSY = "while True: sum(range(100_000))"


def child(model: str, length: int, policy: str, repeats: int) -> None:
    """Print the median time of a training step [seconds]."""
    # Which is loaded first decides, and nothing but this order.
    for name in ("torch", "lra_bench") if policy == "default" else ("lra_bench", "torch"):
        importlib.import_module(name)
    import torch
    from train_step import make_step

    set_to = os.environ.get("OMP_WAIT_POLICY")
    assert (set_to is None) == (policy == "default"), set_to
    step = make_step(model, length, 8, torch.device("cpu"))
    step()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    print(statistics.median(taken), sum(taken))


def start(model: str, length: int, policy: str, repeats: int) -> subprocess.Popen[str]:
    """Start a process that measures a step."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    words = [sys.executable, __file__, "--child", policy]
    words += ["--models", model, "--length", str(length), "--repeats", str(repeats)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Return the median and the sum of the steps of a process [seconds]."""
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a measuring process ended with {process.returncode}")
    median, total = output.split()
    return float(median), float(total)


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Keep another process busy meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="transformer,ernie_sparse")
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7, help="steps a process")
    parser.add_argument("--rounds", type=int, default=3, help="processes a figure")
    parser.add_argument("--child", choices=POLICIES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.models, asked.length, asked.child, asked.repeats)
        return
    print(f"{'model':<14} {'machine':<12} {'default':>9} {'passive':>9}  default / passive")
    for model in asked.models.split(","):
        for machine in ("quiet", "busy", "two at once"):
            taken: dict[str, list[float]] = {policy: [] for policy in POLICIES}
            for _ in range(asked.rounds):
                for policy in POLICIES:
                    number = 2 if machine == "two at once" else 1
                    with busy(machine == "busy"):
                        running = [
                            start(model, asked.length, policy, asked.repeats) for _ in range(number)
                        ]
                        medians = [result(process)[0] for process in running]
                    # Two at once are worth it where each takes less than twice as long.
                    taken[policy].append(statistics.mean(medians) / number)
            default, passive = (statistics.median(taken[policy]) for policy in POLICIES)
            spread = " ".join(
                f"{1e3 * min(taken[policy]):.0f}-{1e3 * max(taken[policy]):.0f}"
                for policy in POLICIES
            )
            print(
                f"{model:<14} {machine:<12} {1e3 * default:>6.0f} ms {1e3 * passive:>6.0f} ms  "
                f"{default / passive:.2f}  ({spread})",
                flush=True,
            )


if __name__ == "__main__":
    main()
