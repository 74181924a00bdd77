"""The loop: train, evaluate on validation, keep the best weights.

Knows nothing of configurations, files of records or wandb.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import Any

import torch

from lra_bench.checkpoint import Checkpoint, State
from lra_bench.data import Loader
from lra_bench.distributed import ALONE, World
from lra_bench.evaluation import evaluate as evaluate
from lra_bench.heads import TaskModel
from lra_bench.interrupt import Interrupt, Interrupted
from lra_bench.metrics import Evaluation, metrics_of
from lra_bench.models.precision import autocast
from lra_bench.objective import Objective
from lra_bench.optim import Optimization
from lra_bench.schema import TrainConfig
from lra_bench.tracking import Tracker
from lra_bench.types import Batch, Progress

# Reading a number from a GPU waits for it, so there it is done once in so many steps.
_STEPS_BETWEEN_READS = 10


class Diverged(ArithmeticError):
    """The loss is no longer a finite number."""


def train(
    model: TaskModel,
    state: State,
    *,
    objective: Objective,
    optimization: Optimization,
    training: Loader,
    validation: Loader,
    config: TrainConfig,
    seed: int,
    checkpoint: Checkpoint,
    tracker: Tracker,
    interrupt: Interrupt,
    world: World = ALONE,
) -> None:
    """Train from where the state stands, and load the weights that were best on validation.

    Interrupting and resuming gives the same weights, bit for bit, as not interrupting, on the
    same machine with the same number of threads and of processes.

    Several processes call it alike, each with its share of the batches; what ends one ends all.

    Args:
        model: Trained in place; afterwards it holds the weights that validation chose.
        state: Where the run stands; changed in place.
        objective: What is minimized.
        optimization: Makes the updates.
        training: Gives the training batches.
        validation: Gives the validation batches.
        config: How long, and how often to evaluate.
        seed: Seed of the order of the examples.
        checkpoint: Where the state is saved, and how often.
        tracker: Follows the run.
        interrupt: Asks the run to stop.
        world: The processes that share each batch.

    Raises:
        Diverged: The loss is not finite.
        Interrupted: A signal came; the state has been saved.
    """
    loop = _Loop(
        model, state, optimization, validation, config, checkpoint, tracker, interrupt, world
    )
    world.synchronize(model)
    try:
        with closing(
            training.training(seed=seed, start=state.step, stop=config.num_steps)
        ) as batches:
            while True:
                loop.evaluate_if_due()
                if state.step == config.num_steps:
                    break
                if loop.is_to_save():
                    loop.save()
                started = time.monotonic()
                batch = next(batches)
                loop.step(objective, batch)
                state.train_seconds += time.monotonic() - started
                state.examples_seen += batch.size if batch.num_tokens else 0
                state.tokens_seen += batch.num_tokens
                tracker.progress(Progress("training", state.step, config.num_steps))
    except Interrupted:
        loop.save()
        raise
    loop.save()
    if state.best_weights is not None:
        model.load_state_dict(state.best_weights)


class _Loop:
    """What a step, an evaluation and a save have in common."""

    def __init__(
        self,
        model: TaskModel,
        state: State,
        optimization: Optimization,
        validation: Loader,
        config: TrainConfig,
        checkpoint: Checkpoint,
        tracker: Tracker,
        interrupt: Interrupt,
        world: World,
    ) -> None:
        self.world = world
        self.model, self.state, self.optimization = model, state, optimization
        self.validation, self.config, self.checkpoint = validation, config, checkpoint
        self.tracker, self.interrupt = tracker, interrupt
        # Lives on the device, so that adding to it does not wait for it.
        self.loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=validation.device)

    def step(self, objective: Objective, batch: Batch) -> None:
        """Make one update; waits for the device now and then only."""
        state, config = self.state, self.config
        device = self.validation.device
        self.model.train()
        self.world.begin_share(is_none=not batch.num_tokens)
        with autocast(device, config.precision):
            found = objective(self.model, batch)
        number = found.number if batch.num_tokens else 0
        loss = self.optimization.step(found.total, state.step, number=number)
        self.loss_sum += loss
        state.step += 1
        # An evaluation waits for the device anyway; that wait belongs to the steps.
        read = (
            device.type == "cpu"
            or state.step % _STEPS_BETWEEN_READS == 0
            or state.step % config.eval_every == 0
            or state.step == config.num_steps
        )
        if read and not math.isfinite(self.loss_sum.item()):
            raise self._diverged(loss.item())

    def evaluate_if_due(self) -> None:
        """Evaluate on validation after every so many updates and after the last, once each."""
        state, config = self.state, self.config
        at_end = state.step == config.num_steps
        due = state.step > 0 and (at_end or state.step % config.eval_every == 0)
        if not due or (state.curve and state.curve[-1]["step"] == state.step):
            return
        evaluation = evaluate(
            self.model,
            self.validation,
            precision=config.precision,
            what="validating",
            tracker=self.tracker,
            interrupt=self.interrupt,
            world=self.world,
        )
        row = self._row(evaluation)
        if not (math.isfinite(row["train_loss"]) and math.isfinite(row["validation_loss"])):
            # Weights can break in an update whose own loss was still a number.
            raise self._diverged(row["train_loss"] + row["validation_loss"])
        state.curve.append(row)
        self.loss_sum.zero_()
        ranking = metrics_of(self.validation.spec)[0]
        best = state.best_validation
        best_value = None if best is None else ranking.read(best)
        if ranking.is_better(ranking.read(evaluation.sums), best_value):
            state.best_step = state.step
            state.best_validation = dict(evaluation.sums)
            state.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }
        self.tracker.log(
            {name: value for name, value in row.items() if name != "step"}, step=state.step
        )

    def _row(self, evaluation: Evaluation) -> dict[str, Any]:
        state = self.state
        steps_since = state.step - (state.curve[-1]["step"] if state.curve else 0)
        return {
            "step": state.step,
            "train_loss": self.loss_sum.item() / steps_since,
            "validation_loss": evaluation.loss,
            **{
                f"validation_{metric.name}": metric.read(evaluation.sums)
                for metric in metrics_of(self.validation.spec)
            },
            "learning_rate": self.optimization.schedule(state.step - 1),
            "train_seconds": state.train_seconds,
        }

    def is_to_save(self) -> bool:
        """Return whether a checkpoint is due; the processes ask one another.

        Raises:
            Interrupted: A signal came.
        """
        on_gpu = self.validation.device.type == "cuda"
        if on_gpu and self.world.size > 1 and self.state.step % _STEPS_BETWEEN_READS:
            # Asking takes longer than a short step there.
            return False
        return self.world.is_due(self.interrupt, self.checkpoint.is_due())

    def _diverged(self, loss: float) -> Diverged:
        self._count_together()
        rate = self.optimization.schedule(self.state.step - 1)
        return Diverged(
            f"the loss is {loss} at step {self.state.step} (learning rate {rate:.3g}); try a "
            f"smaller train.learning_rate, a longer warm-up or train.max_grad_norm=1.0"
        )

    def save(self) -> None:
        """Save the state; a disk that is full costs the repetition of some steps, not the run."""
        self._count_together()
        self.state.loss_sum = self.loss_sum.item()
        try:
            self.checkpoint.save(self.state)
        except OSError as error:
            self.tracker.message(f"warning: {error}")

    def _count_together(self) -> None:
        """Let the first process go on counting from what all have seen, the others from nothing."""
        state = self.state
        seen = self.world.gather([state.examples_seen, state.tokens_seen])
        totals = [sum(column) for column in zip(*seen, strict=True)]
        state.examples_seen, state.tokens_seen = totals if self.world.is_first else (0, 0)
