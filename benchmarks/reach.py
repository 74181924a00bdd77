"""How strongly a needle moves an untrained model's answer, by distance: which paths there are.

    pip install -e '.[figures]'
    python benchmarks/reach.py --to docs

prints a table and draws reach.svg. For each model, with the weights of seed 0 in setting=cpu: the
norm of the gradient of the right answer's logit, at a question, with respect to the embedding of
the needle, mean over examples, divided by that of the dense Transformer over all distances. 0 is
exact: no path leads there in these examples, and where the pattern is fixed no training can help.
What is small is where training begins.

Shapes: B batch, L length, C classes, D width.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lra_bench.build import build_task
from lra_bench.compose import compose
from lra_bench.data import collate
from lra_bench.runner import assemble
from lra_bench.types import Batch, Task
from lra_bench.words import options

_REFERENCE = "transformer"
# Text stays text, ids do not depend on the day.
mpl.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "lra_bench", "font.family": "sans-serif"}
)


def influence(words: Sequence[str], task: Task, batch: Batch) -> list[float]:
    """Return the mean norm of the gradient for each kind of question of a task.

    Args:
        words: What asks for the model.
        task: A needle.
        batch: Its examples.
    """
    model = assemble(compose(words).config, task.spec).eval()
    seen: list[torch.Tensor] = []
    embedding = model.encoder.get_submodule("embedding")
    hook = embedding.register_forward_hook(lambda module, given, made: seen.append(made))
    logits_BLC = model(batch)
    hook.remove()
    tokens_BL = batch.tokens_BIL[:, 0]
    first = 1 + len(task.spec.questions)
    is_needle_BL = (tokens_BL >= first) & (tokens_BL < first + task.spec.num_classes)
    means = []
    for token in task.spec.questions.values():
        is_asked_BL = tokens_BL == token
        rows = is_asked_BL.any(dim=1)
        right = logits_BLC[is_asked_BL].gather(1, batch.targets[is_asked_BL][:, None]).sum()
        (gradient_BLD,) = torch.autograd.grad(right, seen[0], retain_graph=True)
        means.append(gradient_BLD[is_needle_BL].norm(dim=-1)[rows].mean().item())
    return means


def draw(shares: Mapping[str, Sequence[float]], distances: Sequence[str]) -> Figure:
    """Return a picture: one line a model, one column a distance; empty where no path leads."""
    figure = Figure(figsize=(8, 0.27 * len(shares) + 1.3), layout="constrained")
    axes = figure.subplots()
    numbers = np.ma.masked_equal(list(shares.values()), 0.0)
    axes.imshow(
        numbers, cmap="viridis", norm=LogNorm(1e-4, 10), aspect="auto", interpolation="none"
    )
    for y, row in enumerate(shares.values()):
        for x, value in enumerate(row):
            color = "black" if value > 0.3 or value == 0 else "white"
            axes.text(x, y, f"{value:.1g}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(distances)), distances)
    axes.set_yticks(range(len(shares)), list(shares))
    axes.set_xlabel("distance from the needle to the question [tokens]")
    figure.suptitle("influence of the needle before training, Transformer = 1", fontsize="medium")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", default=",".join(options("model")))
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--to", type=Path, help="folder of the picture")
    arguments = parser.parse_args()
    names = arguments.models.split(",")
    variants = {name: [f"model={name}"] for name in dict.fromkeys([_REFERENCE, *names])}
    if "ernie_sparse" in names:
        for context in ("none", "global_tokens"):
            words = ["model=ernie_sparse", f"model.context={context}"]
            variants[f"ernie_sparse(context={context})"] = words
    with TemporaryDirectory() as folder:
        shared = ["task=needle", "setting=cpu", "task.num_train=1", "task.num_validation=1"]
        shared += [f"task.num_test={arguments.examples}", f"cache_dir={Path(folder)}"]
        task = build_task(compose([*shared, f"model={_REFERENCE}"]))
        task.prepare()
        examples = task.examples("test")
        batch = collate([examples[at] for at in range(len(examples))], target=task.spec.target)
        found = {name: influence([*shared, *own], task, batch) for name, own in variants.items()}
    distances = [name.removeprefix("distance_") for name in task.spec.questions][::-1]
    unit = statistics.fmean(found[_REFERENCE])
    # By what arrives from afar; the nearest distance first.
    in_order = sorted(found.items(), key=lambda row: (-row[1][0], row[0]))
    shares = {name: [value / unit for value in reversed(values)] for name, values in in_order}
    if arguments.to is not None:
        draw(shares, distances).savefig(arguments.to / "reach.svg", metadata={"Date": None})
    print(f"| model | {' | '.join(distances)} |")
    print(f"| --- | {' | '.join('---:' for _ in distances)} |")
    for name, row in shares.items():
        print(f"| {name} | {' | '.join(f'{value:.1g}' for value in row)} |")


if __name__ == "__main__":
    main()
