"""What the Reformer's reversible layers save and cost, by the number of layers.

    python benchmarks/reversible.py --layers 2,4,8,16

A step is forward and backward on random bytes without padding, in the trunk of setting=cpu but for
the number of layers. Both sides take turns, step by step, in one process; the ratio is between
medians. Memory is the peak over what the process held before the model was built, in a fresh
process for each cell.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

# First, since it settles how the threads of the others wait.
from lra_bench import hardware  # isort: skip
import torch
import torch.nn.functional as F

from lra_bench.compose import compose
from lra_bench.runner import assemble
from lra_bench.types import Batch, TaskSpec

SIDES = ("kept", "reversible")


def make_step(side: str, num_layers: int, length: int, batch_size: int) -> Callable[[], None]:
    """Return a function that makes one forward and backward pass."""
    words = ["task=text", "model=reformer", "setting=cpu", f"trunk.num_layers={num_layers}"]
    words.append(f"model.reversible={str(side == 'reversible').lower()}")
    task = TaskSpec("random bytes", vocab_size=257, max_length=length, num_classes=2)
    model = assemble(compose(words).config, task).train()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 257, (batch_size, 1, length), generator=generator)
    answers = torch.randint(0, 2, (batch_size,), generator=generator)
    batch = Batch(tokens, None, answers, batch_size * length)

    def step() -> None:
        model.zero_grad()
        F.cross_entropy(model(batch), batch.targets).backward()

    return step


def peak_bytes(side: str, num_layers: int, length: int, batch_size: int) -> int:
    """Return what two steps need at their peak, over what the process held before."""
    cell = [side, str(num_layers), str(length), str(batch_size)]
    command = [sys.executable, __file__, "--memory-of", json.dumps(cell)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_peak(side: str, *sizes: str) -> None:
    cpu = torch.device("cpu")
    # What the libraries take on first use belongs to the base.
    torch.ones(64, 64, requires_grad=True).matmul(torch.ones(64, 64)).sum().backward()
    hardware.reset_peak_memory(cpu)
    base = hardware.peak_memory_bytes(cpu)
    step = make_step(side, *map(int, sizes))
    for _ in range(2):
        step()
    peak = hardware.peak_memory_bytes(cpu)
    assert base is not None
    assert peak is not None
    print(peak - base)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--layers", default="2,4,8,16")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="default: one a core")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    hardware.keep_freed_memory()
    if asked.memory_of:
        _print_peak(*json.loads(asked.memory_of))
        return
    if asked.threads:
        torch.set_num_threads(asked.threads)
    print("| layers | kept [ms] | reversible [ms] | ratio | kept [MB] | reversible [MB] | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for num_layers in map(int, asked.layers.split(",")):
        sizes = (num_layers, asked.length, asked.batch_size)
        steps = {side: make_step(side, *sizes) for side in SIDES}
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for number in range(asked.repeats + 1):
            for side, step in steps.items():
                start = time.perf_counter()
                step()
                # The first warms up.
                if number:
                    times[side].append((time.perf_counter() - start) * 1000)
        middle = {side: statistics.median(times[side]) for side in SIDES}
        spans = [
            f"{middle[side]:.0f} ({min(times[side]):.0f}-{max(times[side]):.0f})" for side in SIDES
        ]
        memory = [peak_bytes(side, *sizes) / 1e6 for side in SIDES]
        cells = [*spans, f"{middle['reversible'] / middle['kept']:.2f}"]
        cells += [*(f"{each:.0f}" for each in memory), f"{memory[1] / memory[0]:.2f}"]
        print(f"| {num_layers} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
