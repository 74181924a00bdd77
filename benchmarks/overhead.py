"""What it costs that a run can be killed, shared, watched and asked for twice.

    python benchmarks/overhead.py --words task=listops model=ernie_sparse setting=cpu

Each part is measured by itself, on the parts of the run that the words describe; how often it
happens follows from the length of a run (its record, if there is one, else ``--seconds``). The sum
is given as a share of the run, beside the same run with a checkpoint after every step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Before torch: the package settles how threads wait.
from lra_bench.compose import Request, compose  # isort: split

import torch

from lra_bench.build import build_task
from lra_bench.checkpoint import Checkpoint, State
from lra_bench.metrics import Evaluation
from lra_bench.optim import Optimization
from lra_bench.runner import assemble
from lra_bench.runs import WRITE_SECONDS, LiveStatus, LiveTracker, RunFolder
from lra_bench.types import Progress


@dataclass(frozen=True)
class Part:
    """Something that is done besides training.

    Args:
        name: What it is.
        seconds: What it takes, once each time that it was measured.
        times: How often a run does it.
    """

    name: str
    seconds: Sequence[float]
    times: float

    @property
    def total(self) -> float:
        """What it takes of a run [seconds]."""
        return statistics.median(self.seconds) * self.times


def timed(work: Callable[[], object], repeats: int, *, calls: int = 1) -> list[float]:
    """Return what a call takes, as often as it was measured [seconds]."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        taken.append((time.perf_counter() - began) / calls)
    return taken


def parts_of(request: Request, folder: Path, seconds: float, repeats: int) -> list[Part]:
    """Measure what a run does besides training."""
    config = request.config
    model = assemble(config, build_task(request).spec)
    optimization = Optimization(model, config.train)
    # What an optimizer remembers is there after the first step.
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimization.optimizer.step()
    rows = [{"step": step, "validation_loss": 0.5} for step in range(10)]
    state = State(
        best_weights={name: tensor.clone() for name, tensor in model.state_dict().items()},
        best_validation=dict(Evaluation({"loss": 1.0}).sums),
        curve=rows,
    )
    checkpoint = Checkpoint(
        folder / "run.pt", model, optimization.optimizer, run_id="x", every_seconds=0.0
    )
    saves = timed(lambda: checkpoint.save(state), repeats)
    num_saves = 1 + min(
        seconds / max(config.checkpoint_seconds, 1e-9),
        config.checkpoint_share * seconds / statistics.median(saves),
    )
    run_folder = RunFolder(folder, request.names, request.request_id)
    status = LiveStatus(request.request_id, dict(request.names), {}, 0, request.command())

    def lock() -> None:
        with run_folder.lock(wait=False, say=print):
            pass

    written = timed(lambda: LiveTracker(run_folder.live_path, status), repeats)
    tracker = LiveTracker(run_folder.live_path, status, clock=lambda: 0.0)
    told = timed(lambda: tracker.progress(Progress("training", 1, 2)), repeats, calls=1000)
    # A batch of training or of evaluation, of which there are some thousands at most.
    num_told = config.train.num_steps * (1 + 1000 / config.train.eval_every)
    return [
        Part("a checkpoint", saves, num_saves),
        Part("taking and giving back the lock", timed(lock, repeats), 1),
        Part("writing how the run goes", written, seconds / WRITE_SECONDS),
        Part("being told how far it is", told, num_told),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--words", nargs="+", default=["task=listops", "model=ernie_sparse", "setting=cpu"]
    )
    parser.add_argument("--seconds", type=float, default=100.0, help="length of the run")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="on the disk that counts; default: temporary")
    asked = parser.parse_args()
    request = compose(asked.words)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        parts = parts_of(request, Path(folder), asked.seconds, asked.repeats)
    print(f"{request.title}: a run of {asked.seconds:g} s, {torch.get_num_threads()} threads")
    print(f"{'':<34}{'ms, median (min to max)':>28}{'times':>10}{'share':>9}")
    for part in parts:
        median, low, high = (1e3 * of(part.seconds) for of in (statistics.median, min, max))
        print(
            f"{part.name:<34}{f'{median:.3f} ({low:.3f} to {high:.3f})':>28}{part.times:>10,.1f}"
            f"{part.total / asked.seconds:>9.3%}"
        )
    total = sum(part.total for part in parts)
    every_step = statistics.median(parts[0].seconds) * request.config.train.num_steps
    print(f"{'together':<72}{total / asked.seconds:>9.3%}")
    print(f"{'a checkpoint after every step instead':<72}{every_step / asked.seconds:>9.3%}")


if __name__ == "__main__":
    main()
