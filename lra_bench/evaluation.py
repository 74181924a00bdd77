"""Evaluating a split: every example once, whoever of several processes has it."""

from __future__ import annotations

from contextlib import closing

import torch

from lra_bench.counting import Tally
from lra_bench.data import Loader
from lra_bench.distributed import ALONE, World
from lra_bench.heads import TaskModel
from lra_bench.interrupt import Interrupt
from lra_bench.metrics import Evaluation
from lra_bench.models.precision import autocast
from lra_bench.schema import Precision
from lra_bench.tracking import Tracker
from lra_bench.types import Progress


@torch.no_grad()
def evaluate(
    model: TaskModel,
    loader: Loader,
    *,
    precision: Precision,
    what: str,
    tracker: Tracker,
    interrupt: Interrupt,
    world: World = ALONE,
) -> Evaluation:
    """Evaluate every example of a split exactly once, each by one of the processes.

    Args:
        model: Left in evaluation mode.
        loader: Gives the batches.
        precision: Type of the matrix products.
        what: What the progress is called.
        tracker: Is told the progress.
        interrupt: Asks to stop between two batches.
        world: The processes that share each batch; all get the whole evaluation.

    Raises:
        Interrupted: A signal came.
        UserError: The split asks nothing.
    """
    model.eval()
    tally = Tally(loader.spec, loader.examples)
    num_examples = 0
    with closing(loader.evaluation()) as batches:
        for batch in batches:
            world.check(interrupt)
            if not batch.num_tokens:
                # A stand-in: others have the examples of this batch.
                continue
            with autocast(loader.device, precision):
                logits = model(batch)
            tally.add(logits, batch)
            num_examples += batch.size
            done = min(num_examples * world.size, len(loader))
            tracker.progress(Progress(what, done, len(loader)))
    return tally.evaluation(world.added(tally.counted()), world.gather(tally.found()))
