"""Time and memory of one training step, models side by side.

    python benchmarks/train_step.py --models transformer,ernie_sparse --lengths 1024,4096

A step is forward, backward and optimizer, in training mode with the dropout of setting=cpu, on
random bytes without padding, 2 layers, width 64. The models take turns, step by step, in one
process, so that a drift of the machine hits all of them; the ratio is between medians. Memory is
measured for each cell in a fresh process: the peak over what the process held before the model
was built.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

# First, since it settles how the threads of the others wait.
from lra_bench import hardware  # isort: skip
import torch
import torch.nn.functional as F

from lra_bench.compose import compose
from lra_bench.optim import make_optimizer, set_learning_rate
from lra_bench.runner import assemble
from lra_bench.types import Batch, TaskSpec

Step = Callable[[], None]


def make_step(
    name: str,
    length: int,
    batch_size: int,
    device: torch.device,
    words: Sequence[str] = (),
    *,
    bfloat16: bool = False,
) -> Step:
    """Return a function that makes one training step of a model, ``NAME`` or ``NAME:compiled``.

    Args:
        name: The model.
        length: Tokens an example.
        batch_size: Examples.
        device: Where.
        words: What is asked for beside ``setting=cpu``.
        bfloat16: Compute as with ``train.precision=bfloat16``.
    """
    model_name, _, how = name.partition(":")
    request = compose(["task=text", f"model={model_name}", "setting=cpu", *words])
    task = TaskSpec("random bytes", vocab_size=257, max_length=length, num_classes=2)
    model = assemble(request.config, task).to(device)
    if how == "compiled":
        model.encoder.compile(dynamic=False)
    tokens, targets = random_bytes(length, batch_size, device)
    batch = Batch(tokens[:, None], None, targets, batch_size * length)
    return step_of(model, batch, targets, bfloat16=bfloat16)


def random_bytes(
    length: int, batch_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids, (B, L), none of them padding, and answers, (B,)."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 257, (batch_size, length), generator=generator)
    targets = torch.randint(0, 2, (batch_size,), generator=generator)
    return tokens.to(device), targets.to(device)


def step_of(
    model: torch.nn.Module, inputs: Any, targets: torch.Tensor, *, bfloat16: bool = False
) -> Step:
    """Return a function that makes one training step of whatever gives logits for the inputs."""
    if any(parameter.is_complex() for parameter in model.parameters()):
        # PyTorch's fused optimizer does not take complex numbers; no model of ours has such.
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    else:
        optimizer = make_optimizer(
            model, weight_decay=0.01, decay="matrices", betas=(0.9, 0.98), eps=1e-9
        )
    set_learning_rate(optimizer, 1e-4)
    device = targets.device

    def step() -> None:
        model.train()
        with torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext():
            logits = model(inputs)
        loss = F.cross_entropy(logits.float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def time_in_turn(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of ``repeats`` steps of each, taken in turn after two to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-2, repeats):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn >= 0:
                taken[name].append(time.perf_counter() - started)
    return taken


def peak_memory(name: str, length: int, batch_size: int, device: torch.device) -> int | None:
    """Return the peak over the base of this process [bytes]; to be called in a fresh one."""
    if device.type == "cpu":
        # What the libraries take on first use belongs to the base.
        torch.ones(64, 64, requires_grad=True).matmul(torch.ones(64, 64)).sum().backward()
    hardware.reset_peak_memory(device)
    base = hardware.peak_memory_bytes(device)
    step = make_step(name, length, batch_size, device)
    for _ in range(3):
        step()
    peak = hardware.peak_memory_bytes(device)
    return None if base is None or peak is None else peak - base


def limit_seconds(length: int, batch_size: int) -> float:
    """Return what the products and exponentials of ernie_sparse alone must take on this machine.

    Matrix products at the rate of a large one, exponentials at that of a softmax in cache, both
    measured here; embedding, dropout, normalization, GELU and the optimizer are not counted.
    """
    layers, width, heads, ffn, block = 2, 64, 2, 128, 64
    tokens, keys = batch_size * length, 3 * block + 1
    attention = 6 * 2 * tokens * keys * width
    projections = 3 * 8 * tokens * width * width
    feed_forward = 3 * 4 * tokens * width * ffn
    exponentials = 2 * tokens * heads * keys

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    flops = 2 * 2048**3 / _best(lambda: torch.mm(a, b))
    scores = torch.randn(8192, 256)
    rate = scores.numel() / _best(lambda: torch.softmax(scores, dim=-1))
    return layers * ((attention + projections + feed_forward) / flops + exponentials / rate)


def _best(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(12):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models",
        default="transformer,ernie_sparse",
        help="NAME for a model as it is, NAME:compiled for its compiled encoder",
    )
    parser.add_argument("--lengths", default="1024,4096")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="default: one a core")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--allocator",
        choices=("keep", "default"),
        default="keep",
        help="keep: as in a run, freed memory stays with the process",
    )
    parser.add_argument("--json", type=Path, help="write one object a cell to this file")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.allocator == "keep":
        hardware.keep_freed_memory()
    if asked.memory_of:
        name, length = asked.memory_of.rsplit(":", 1)
        print(peak_memory(name, int(length), asked.batch_size, device))
        return

    names = asked.models.split(",")
    print(f"{hardware.describe(device)}; batch {asked.batch_size}; {asked.allocator}")
    print(f"{'length':>7} {'model':<14} {'ms/step':>8} {'min':>7} {'max':>7} {'MB':>6}  ratio")
    cells = []
    for length in map(int, asked.lengths.split(",")):
        steps = {name: make_step(name, length, asked.batch_size, device) for name in names}
        taken = time_in_turn(steps, asked.repeats)
        first = statistics.median(taken[names[0]])
        for name in names:
            words = [sys.executable, __file__, "--memory-of", f"{name}:{length}"]
            words += ["--batch-size", str(asked.batch_size), "--device", asked.device]
            words += ["--allocator", asked.allocator]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            memory = None if done.stdout.strip() == "None" else int(done.stdout)
            median = statistics.median(taken[name])
            cells.append(
                {
                    "model": name,
                    "length": length,
                    "batch_size": asked.batch_size,
                    "step_seconds": median,
                    "step_seconds_min": min(taken[name]),
                    "step_seconds_max": max(taken[name]),
                    "peak_memory_bytes": memory,
                    "num_threads": torch.get_num_threads(),
                    "device": asked.device,
                    "allocator": asked.allocator,
                }
            )
            print(
                f"{length:>7} {name:<14} {1e3 * median:>8.1f} {1e3 * min(taken[name]):>7.1f} "
                f"{1e3 * max(taken[name]):>7.1f} {(memory or 0) / 1e6:>6.0f}  "
                f"{names[0]} / {name} = {first / median:.2f}"
            )
        if "ernie_sparse" in names and device.type == "cpu":
            limit = limit_seconds(length, asked.batch_size)
            ratio = statistics.median(taken["ernie_sparse"]) / limit
            print(f"{length:>7} ernie_sparse takes {ratio:.1f}x the limit of {1e3 * limit:.0f} ms")
    if asked.json:
        asked.json.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
