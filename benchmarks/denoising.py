"""Does denoising learn, and what does it cost?

    python benchmarks/denoising.py learn --data-dir DATA [--tasks text,image] [--model local]
    python benchmarks/denoising.py cost [--model ernie_sparse]

``learn`` trains for some minutes and prints the loss on held-out documents beside what counting
knows of the same hidden symbols: how frequent each symbol is, and how frequent it is after the
symbol on its left (where that is hidden too: how frequent it is). Counts are of training documents,
with one more for each symbol, so that nothing is impossible.

``cost`` times a training step of denoising, half of the pixels hidden, against one of
classification: the same encoder, batch and optimizer, in turn, in one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

# First, since it settles how the threads of the others wait.
from lra_bench import hardware  # isort: skip
import numpy as np
import torch

from lra_bench.build import build_task
from lra_bench.compose import compose
from lra_bench.data import collate
from lra_bench.optim import Optimization
from lra_bench.runner import assemble, build_objective, run
from lra_bench.types import IGNORED, Example, Examples, Task, TaskSpec

# Documents that are counted; more of them change the third digit.
_COUNTED = 4_000
# What two cores finish in minutes: updates, and words beside `setting=cpu`. Of what was tried,
# windows whose queries and keys are turned learn to look at neighbors soonest.
_BUDGETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "text": (300, ("task.max_length=1024",)),
    "listops": (200, ()),
    "image": (400, ()),
}
_ALWAYS = ("train.batch_size=16", "train.learning_rate=0.003")
_WORDS = {"local": ("trunk.positions=rotary", "model.mixer.block_size=16")}


def counted(training: Examples, spec: TaskSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the chance of each symbol, (V,), and of each after another, (V, V)."""
    size = spec.vocab_size
    pairs = np.ones((size, size))
    for index in range(min(len(training), _COUNTED)):
        example = training[index]
        tokens = np.where(
            np.asarray(example.target) == IGNORED, example.inputs[0], np.asarray(example.target)
        )
        np.add.at(pairs, (tokens[:-1], tokens[1:]), 1)
    singles = pairs.sum(axis=0)
    return singles / singles.sum(), pairs / pairs.sum(axis=1, keepdims=True)


def losses(test: Examples, singles: np.ndarray, pairs: np.ndarray) -> tuple[float, float, float]:
    """Return the mean loss of both at hidden symbols, and of pairs that may look at the left one.

    Returns:
        Of single symbols; of pairs; of pairs to which the left neighbor is shown even where it is
        hidden [nats].
    """
    alone, after, shown = [], [], []
    for index in range(len(test)):
        example = test[index]
        target, visible = np.asarray(example.target), example.inputs[0]
        whole = np.where(target == IGNORED, visible, target)
        places = np.flatnonzero(target != IGNORED)
        of_single = -np.log(singles[whole[places]])
        left = np.maximum(places - 1, 0)
        of_pair = -np.log(pairs[whole[left], whole[places]])
        of_pair = np.where(places == 0, of_single, of_pair)
        alone.append(of_single)
        shown.append(of_pair)
        after.append(np.where(target[left] != IGNORED, of_single, of_pair))
    return tuple(float(np.concatenate(of).mean()) for of in (alone, after, shown))  # type: ignore[return-value]


def learn(tasks: Sequence[str], model: str, data_dir: str | None, steps: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in tasks:
            budget, words = _BUDGETS[name]
            number = steps or budget
            asked = [
                *(f"task={name}", f"model={model}", "setting=cpu", "objective=denoising"),
                *(*words, *_ALWAYS, *_WORDS.get(model, ())),
                *(f"train.num_steps={number}", f"train.eval_every={number}", "quiet=true"),
                *("objective.num_held_out=200", f"results_dir={folder}"),
                *([f"data_dir={data_dir}"] if data_dir else []),
            ]
            request = compose(asked)
            task: Task = build_objective(request).ask(build_task(request))
            task.prepare()
            spec = build_task(request).spec
            known = losses(task.examples("test"), *counted(task.examples("train"), spec))
            began = time.monotonic()
            record = run(request)
            assert record.test is not None, record.error
            loss, accuracy = record.test["loss"], record.test["accuracy"]
            print(
                f"{name}: {model}, {number} updates, {time.monotonic() - began:.0f} s\n"
                f"  single symbols            {known[0]:.3f} nats a hidden symbol\n"
                f"  after the left neighbor   {known[1]:.3f} (hidden ones shown: {known[2]:.3f})\n"
                f"  {model:<25} {loss:.3f}, {accuracy:.1%} right\n"
                f"  ratios                    {loss / known[0]:.2f} of single symbols, "
                f"{loss / known[1]:.2f} of pairs",
                flush=True,
            )


def stepper(words: Sequence[str], spec: TaskSpec, batch_size: int) -> Callable[[], None]:
    """Return a function that makes one training step on random symbols."""
    request = compose(["task=image", "setting=cpu", *words])
    objective = build_objective(request)
    rng = np.random.default_rng(0)

    class Random(Task):
        def __init__(self) -> None:
            self.spec = spec

        def examples(self, split: str) -> list[Example]:
            shape = spec.max_length
            return [Example((rng.integers(1, spec.vocab_size, shape),), 0) for _ in range(400)]

        def fingerprint(self) -> str:
            return "0" * 64

    task = objective.ask(Random())
    model = assemble(request.config, task.spec).train()
    optimization = Optimization(model, request.config.train)
    examples = task.examples("train")
    batch = collate([examples[index] for index in range(batch_size)], target=task.spec.target)

    def step() -> None:
        optimization.step(objective(model, batch).total, 100)

    return step


def cost(model: str, rounds: int) -> None:
    hardware.keep_freed_memory()
    spec = TaskSpec("random", vocab_size=257, max_length=1_024, num_classes=10)
    steps = {
        "classification": stepper([f"model={model}"], spec, 32),
        "denoising, 50 %": stepper([f"model={model}", "objective=denoising"], spec, 32),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if number >= 2:
                seconds[name].append(time.perf_counter() - began)
    plain, denoising = (statistics.median(of) for of in seconds.values())
    for name, of in seconds.items():
        low, middle, high = (1e3 * value for value in (min(of), statistics.median(of), max(of)))
        print(f"{name:<16} {middle:7.1f} ms ({low:.1f} to {high:.1f})")
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    print(
        f"denoising / classification: {denoising / plain:.2f} "
        f"(round by round {min(ratios):.2f} to {max(ratios):.2f}); at most 1.3 is asked for"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("learn", "cost"))
    parser.add_argument("--tasks", default="text,listops,image")
    parser.add_argument("--model", default="local")
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.what == "learn":
        learn(given.tasks.split(","), given.model, given.data_dir, given.steps)
    else:
        cost(given.model, given.rounds)


if __name__ == "__main__":
    main()
