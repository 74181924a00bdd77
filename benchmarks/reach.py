"""How strongly a needle moves an untrained model's answer, by distance: which paths there are.

    pip install -e '.[figures]'
    python benchmarks/reach.py --to docs

prints a table and draws reach.svg. For each model, with the weights of seed 0 in setting=cpu: the
norm of the gradient of a logit, at a question, with respect to the embedding of the needle, mean
over examples, divided by that of the dense Transformer over all distances. 0 is exact: no path
leads there in these examples, and where the pattern is fixed no training can help. What is small is
where training begins. The last column, coherence, is the norm of the mean gradient divided by the
mean norm: 1 if a needle moves the answer in the same direction wherever it stands, near 0 if the
directions cancel, so that an update helps some examples and harms as many others.

Shapes: B batch, L length, C classes, D width, N positions that are asked.
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


def influence(words: Sequence[str], task: Task, batch: Batch) -> tuple[list[float], float]:
    """Return the mean norm of the gradient for each kind of question of a task, and its coherence.

    Args:
        words: What asks for the model.
        task: A needle.
        batch: Its examples.
    """
    model = assemble(compose(words).config, task.spec).eval()
    seen: list[torch.Tensor] = []
    embedding = model.encoder.get_submodule("embedding")
    hook = embedding.register_forward_hook(lambda module, given, made: seen.append(made))
    logits_NC = model(batch)
    hook.remove()
    tokens_BL = batch.tokens_BIL[:, 0]
    # Only where something is asked there are logits.
    tokens_N = tokens_BL.flatten()[batch.places_N]
    first = 1 + len(task.spec.questions)
    is_needle_BL = (tokens_BL >= first) & (tokens_BL < first + task.spec.num_classes)
    means, gradients = [], []
    for token in task.spec.questions.values():
        rows = (tokens_BL == token).any(dim=1)
        # The same class in all examples, so that directions can be compared.
        asked = logits_NC[tokens_N == token, 0].sum()
        (gradient_BLD,) = torch.autograd.grad(asked, seen[0], retain_graph=True)
        gradients.append(gradient_BLD[is_needle_BL][rows])
        means.append(gradients[-1].norm(dim=-1).mean().item())
    together = torch.cat(gradients)
    coherence = together.mean(dim=0).norm() / together.norm(dim=-1).mean()
    return means, coherence.item()


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


def main(words: Sequence[str] | None = None) -> None:
    """Measure, draw and print; words of the command line by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", default=",".join(options("model")))
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--to", type=Path, help="folder of the picture")
    arguments = parser.parse_args(words)
    names = arguments.models.split(",")
    variants = {name: [f"model={name}"] for name in dict.fromkeys([_REFERENCE, *names])}
    if "ernie_sparse" in names:
        for context in ("none", "global_tokens"):
            own = ["model=ernie_sparse", f"model.context={context}"]
            variants[f"ernie_sparse(context={context})"] = own
    with TemporaryDirectory() as folder:
        shared = ["task=needle", "setting=cpu", "task.num_train=1", "task.num_validation=1"]
        shared += [f"task.num_test={arguments.examples}", f"cache_dir={Path(folder)}"]
        task = build_task(compose([*shared, f"model={_REFERENCE}"]))
        task.prepare()
        examples = task.examples("test")
        batch = collate([examples[at] for at in range(len(examples))], target=task.spec.target)
        found = {name: influence([*shared, *own], task, batch) for name, own in variants.items()}
    distances = [name.removeprefix("distance_") for name in task.spec.questions][::-1]
    unit = statistics.fmean(found[_REFERENCE][0])
    # By what arrives from afar; the nearest distance first.
    in_order = sorted(found.items(), key=lambda row: (-row[1][0][0], row[0]))
    shares = {name: [value / unit for value in reversed(values)] for name, (values, _) in in_order}
    if arguments.to is not None:
        draw(shares, distances).savefig(arguments.to / "reach.svg", metadata={"Date": None})
    print(f"| model | {' | '.join(distances)} | coherence |")
    print(f"| --- | {' | '.join('---:' for _ in distances)} | ---: |")
    for name, row in shares.items():
        cells = [*(f"{value:.1g}" for value in row), f"{found[name][1]:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
