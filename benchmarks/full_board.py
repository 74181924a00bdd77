"""What the whole board costs on paper: every model on every task under `lra2020`, five seeds.

    python benchmarks/full_board.py --json cells.json --go-on
    python benchmarks/full_board.py --models transformer,local --tasks text --measure cuda

Counted, not run: a training step and an evaluation of one example of each request, at its full
length, on the CPU, and scaled by the batch, which is exact for matrix products. From it follow

- operations of a run: (steps * batch * those of a training step) + (evaluations * validation
  examples + test examples) * those of an evaluation. Products of matrices, convolutions and fused
  attention are counted, a multiply-add as two. Transforms, scans, norms and softmax are not: for
  state spaces and FNet this is a lower bound.
- seconds of a run: the larger of operations / (rate * utilization), and launches * the time of one,
  for a small model waits for its launches. Each call of PyTorch's that computes is one launch, for
  a training step of any batch.

Rate, utilization and time of a launch are assumptions, which `--rate`, `--utilization` and
`--launch` state; `--measure` prints measured seconds of a step beside them, where there is a GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from lra_bench.build import build, build_task
from lra_bench.compose import Request, compose
from lra_bench.errors import UserError
from lra_bench.runner import assemble
from lra_bench.speed.worker import made_up_batch
from lra_bench.words import options

TASKS = ("listops", "text", "retrieval", "image", "pathfinder", "pathx")
# Operations a second of an NVIDIA A100 in float32 without tensor cores, its data sheet.
_RATE, _UTILIZATION, _LAUNCH_SECONDS = 19.5e12, 0.25, 10e-6
_SEEDS, _GPUS = 5, (1, 8, 64)
_STEPS = 10


@dataclass(frozen=True)
class Cell:
    """What a model on a task takes.

    Args:
        model: Its name.
        task: Its name.
        num_parameters: Of encoder and head.
        num_steps: Updates of a run.
        batch_size: Examples of an update.
        num_evaluated: Examples that a run evaluates, of validation again and again.
        eval_batch_size: Examples of a batch of these.
        train_flops: Operations of a training step an example.
        eval_flops: Operations of an evaluation an example.
        train_launches: Calls of a training step.
        eval_launches: Calls of a batch of an evaluation.
        refusal: Why there is no such run; empty if there is.
        measured_seconds: Of a training step; None where it was not measured.
    """

    model: str
    task: str
    num_parameters: int = 0
    num_steps: int = 0
    batch_size: int = 1
    num_evaluated: int = 0
    eval_batch_size: int = 1
    train_flops: int = 0
    eval_flops: int = 0
    train_launches: int = 0
    eval_launches: int = 0
    refusal: str = ""
    measured_seconds: float | None = None

    @property
    def flops(self) -> float:
        """Operations of a run."""
        trained = self.num_steps * self.batch_size * self.train_flops
        return float(trained + self.num_evaluated * self.eval_flops)

    def seconds(self, rate: float, utilization: float, launch: float) -> float:
        """Return the seconds of a run."""
        speed = rate * utilization
        step = max(self.batch_size * self.train_flops / speed, self.train_launches * launch)
        batch = max(self.eval_batch_size * self.eval_flops / speed, self.eval_launches * launch)
        return self.num_steps * step + self.num_evaluated / self.eval_batch_size * batch


def _attending(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))


def _attending_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape))


# PyTorch counts attention on a GPU alone.
_ON_A_CPU: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attending,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attending_backward,
}


class Counting(TorchDispatchMode):
    """Counts operations, by the formulas of PyTorch's own counter, and the calls that compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.launches += not func.is_view
        kind = func.overloadpacket
        if kind in _ON_A_CPU:
            self.flops += _ON_A_CPU[kind](*args)
        elif kind in flop_registry:
            formula: Any = flop_registry[kind]
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def main() -> None:
    """Count each cell that is not there yet, and print what all take together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(options("model")))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rate", type=float, default=_RATE)
    parser.add_argument("--utilization", type=float, default=_UTILIZATION)
    parser.add_argument("--launch", type=float, default=_LAUNCH_SECONDS)
    parser.add_argument("--measure", metavar="DEVICE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--go-on", action="store_true", help="keep the cells that the file has")
    asked = parser.parse_args()
    cells: dict[tuple[str, str], Cell] = {}
    if asked.go_on and asked.json and asked.json.exists():
        read = [Cell(**row) for row in json.loads(asked.json.read_text())]
        cells = {(cell.model, cell.task): cell for cell in read}
    for task in asked.tasks.split(","):
        for model in asked.models.split(","):
            if (model, task) not in cells:
                cells[model, task] = cell_of(model, task, asked.measure)
                if asked.json:
                    asked.json.write_text(json.dumps([asdict(one) for one in cells.values()]))
    report(list(cells.values()), (asked.rate, asked.utilization, asked.launch))


def cell_of(model: str, task: str, device: str | None) -> Cell:
    """Count a model on a task."""
    request = compose([f"task={task}", f"model={model}", "setting=lra2020"])
    config, built = request.config, build_task(request)
    numbers = built.info().num_examples
    evaluations = -(-config.train.num_steps // config.train.eval_every)
    began = time.perf_counter()
    try:
        counted: dict[str, Any] = {**count(request)}
    except UserError as error:
        print(f"{task:<10} {model:<18} {error}", flush=True)
        return Cell(model, task, refusal=str(error))
    cell = Cell(
        model,
        task,
        num_steps=config.train.num_steps,
        batch_size=config.train.batch_size,
        num_evaluated=evaluations * numbers["validation"] + numbers["test"],
        eval_batch_size=config.train.eval_batch_size,
        measured_seconds=measure(request, device) if device else None,
        **counted,
    )
    print(
        f"{task:<10} {model:<18} {cell.num_parameters:>10,} parameters "
        f"{cell.batch_size * cell.train_flops / 1e9:>9,.1f} GFLOP and {cell.train_launches:>6,} "
        f"launches a step ({time.perf_counter() - began:.0f} s)",
        *([f"measured {1000 * cell.measured_seconds:.1f} ms"] if cell.measured_seconds else []),
        flush=True,
    )
    return cell


def count(request: Request) -> dict[str, int]:
    """Return parameters, operations and launches of a training step and of an evaluation."""
    spec = build_task(request).spec
    model = assemble(request.config, spec)
    objective = build(request.config.objective, "objective")
    batch = made_up_batch(spec, 1, seed=0)
    found = {"num_parameters": sum(parameter.numel() for parameter in model.parameters())}
    for kind in ("train", "eval"):
        model.train(kind == "train")
        with torch.set_grad_enabled(kind == "train"), Counting() as counting:
            if kind == "train":
                objective(model, batch).total.backward()
            else:
                model(batch)
        found[f"{kind}_flops"] = counting.flops
        found[f"{kind}_launches"] = counting.launches
    return found


def measure(request: Request, device: str) -> float | None:
    """Return the seconds of a training step of the full batch; None if the memory is too small."""
    from lra_bench.optim import Optimization

    config, spec = request.config, build_task(request).spec
    model = assemble(config, spec).to(device)
    objective = build(config.objective, "objective")
    optimization = Optimization(model, config.train)
    try:
        batch = made_up_batch(spec, config.train.batch_size, seed=0).map(
            lambda tensor: tensor.to(device)
        )
        for step in range(3 + _STEPS):
            if step == 3:
                torch.cuda.synchronize(device)
                began = time.perf_counter()
            optimization.step(objective(model, batch).total, step)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return None
    return (time.perf_counter() - began) / _STEPS


def report(cells: Sequence[Cell], assumed: tuple[float, float, float]) -> None:
    """Print the hours of each task and of all, and what is stored."""
    rate, utilization, launch = assumed
    print(
        f"\n{rate / 1e12:.3g} TFLOP/s at {utilization:.0%}, {1e6 * launch:.3g} us a launch; "
        f"{_SEEDS} seeds"
    )
    head = "".join(f"{f'{number} GPUs [d]':>13}" for number in _GPUS)
    print(f"{'task':<12} {'cells':>5} {'EFLOP':>8} {'GPU hours':>10} {'waiting':>8}{head}")
    everything: list[Cell] = []
    for task in (*dict.fromkeys(cell.task for cell in cells), "all"):
        chosen = [cell for cell in cells if cell.task == task and not cell.refusal]
        if task == "all":
            chosen = everything
        everything = everything + chosen if task != "all" else everything
        hours = [_SEEDS * cell.seconds(*assumed) / 3600 for cell in chosen]
        fast = sum(_SEEDS * cell.seconds(rate, utilization, 0.0) / 3600 for cell in chosen)
        total = sum(hours)
        days = "".join(f"{total / 24 / number:>13,.1f}" for number in _GPUS)
        flops = _SEEDS * sum(cell.flops for cell in chosen) / 1e18
        print(
            f"{task:<12} {len(chosen):>5} {flops:>8,.1f} {total:>10,.0f} "
            f"{1 - fast / total if total else 0:>8.0%}{days}"
        )
    longest = sorted(everything, key=lambda cell: -cell.seconds(*assumed))[:5]
    print("longest runs:")
    for cell in longest:
        print(f"  {cell.model} on {cell.task}: {cell.seconds(*assumed) / 3600:,.1f} h")
    # Weights, the best weights so far and two moments of AdamW, in float32; and the one before.
    largest = max((cell.num_parameters for cell in everything), default=0) * 4 * 4
    print(f"largest checkpoint: about {largest / 1e6:,.0f} MB, twice while a run is under way")
    for cell in cells:
        if cell.refusal:
            print(f"no run of {cell.model} on {cell.task}: {cell.refusal}")


if __name__ == "__main__":
    main()
