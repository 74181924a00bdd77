"""The loop: train, evaluate on validation, keep the best weights.

Knows nothing of configurations, files of records or wandb.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench import checkpoint
from lra_bench.checkpoint import State
from lra_bench.classifier import SequenceClassifier
from lra_bench.data import Loader
from lra_bench.objective import Objective
from lra_bench.optim import Schedule, set_learning_rate
from lra_bench.tracking import Tracker
from lra_bench.types import Batch

Precision = Literal["float32", "bfloat16"]

# Reading a number from a GPU waits for it, so there it is done once in so many steps.
_STEPS_BETWEEN_READS = 10


@dataclass(frozen=True)
class Evaluation:
    """Sums over the examples of a split; ratios are read from them, never averaged.

    Args:
        num_examples: Examples evaluated.
        num_correct: Examples whose highest logit was the right one.
        loss_sum: Sum of the cross entropies [nats].
    """

    num_examples: int
    num_correct: int
    loss_sum: float

    @property
    def accuracy(self) -> float:
        """Share of the examples that were classified correctly."""
        return self.num_correct / self.num_examples


class Diverged(ArithmeticError):
    """The loss is no longer a finite number."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; it has been saved.

    No `Exception`: a sweep must stop too, not go on with its next run.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class Interrupt(AbstractContextManager["Interrupt"]):
    """Notices SIGINT and SIGTERM, so that the loop can stop between two steps.

    A second signal is not held back: it ends the process as usual.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        """Begin to listen."""
        # Python hands signals to the main thread only; elsewhere there is nothing to listen to.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        self._restore()

    def _notice(self, number: int, _: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


def train(
    classifier: SequenceClassifier,
    *,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    training: Loader,
    validation: Loader,
    num_steps: int,
    eval_every: int,
    seed: int,
    max_grad_norm: float | None,
    precision: Precision,
    checkpoint_path: Path,
    checkpoint_seconds: float,
    num_final_examples: int,
    state: State,
    tracker: Tracker,
    interrupt: Interrupt,
) -> None:
    """Train from where the state stands, and load the weights that were best on validation.

    Interrupting and resuming gives the same weights, bit for bit, as not interrupting, on the
    same machine with the same number of threads.

    Args:
        classifier: Trained in place; afterwards it holds the weights that validation chose.
        objective: What is minimized.
        optimizer: Its learning rate is set before each step.
        schedule: The rate as a function of the updates made.
        training: Gives the training batches.
        validation: Gives the validation batches.
        num_steps: Updates to make.
        eval_every: Updates between two evaluations; the last update is always followed by one.
        seed: Seed of the order of the examples.
        max_grad_norm: Largest global norm of the gradient; None for no clipping.
        precision: Type of the matrix products.
        checkpoint_path: Where the state is saved.
        checkpoint_seconds: Time between two saves; it is also saved when interrupted.
        num_final_examples: Test examples to come after training, for the estimate of time left.
        state: Where the run stands; changed in place.
        tracker: Follows the run.
        interrupt: Asks the run to stop.

    Raises:
        Diverged: The loss is not finite.
        Interrupted: A signal came; the state has been saved.
        OSError: The checkpoint cannot be written.
    """
    device = training.device
    # Lives on the device, so that adding to it does not wait for it.
    loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=device)
    batches = training.training(seed=seed, start=state.step, stop=num_steps)
    clock = _Clock(num_steps, eval_every, len(validation.lengths), num_final_examples)
    saved_at = time.monotonic()

    def save() -> None:
        state.loss_sum = loss_sum.item()
        checkpoint.save(checkpoint_path, state, classifier, optimizer)

    def evaluate_if_due() -> None:
        at_end = state.step == num_steps
        due = state.step > 0 and (at_end or state.step % eval_every == 0)
        if not due or (state.curve and state.curve[-1]["step"] == state.step):
            return
        started = time.monotonic()
        evaluation = evaluate(
            classifier,
            validation,
            precision=precision,
            interrupt=interrupt,
            progress=lambda done, total: tracker.progress(
                "validating", done, total, clock.seconds_left(state.step)
            ),
        )
        clock.evaluated(time.monotonic() - started)
        steps_since = state.step - (state.curve[-1]["step"] if state.curve else 0)
        row = {
            "step": state.step,
            "train_loss": loss_sum.item() / steps_since,
            "validation_loss": evaluation.loss_sum / evaluation.num_examples,
            "validation_accuracy": evaluation.accuracy,
            "learning_rate": schedule(state.step - 1),
            "train_seconds": state.train_seconds,
        }
        if not (math.isfinite(row["train_loss"]) and math.isfinite(row["validation_loss"])):
            # Weights can break in an update whose own loss was still a number.
            raise _diverged(row["train_loss"] + row["validation_loss"], state.step, row)
        best = max((entry["validation_accuracy"] for entry in state.curve), default=-1.0)
        state.curve.append(row)
        loss_sum.zero_()
        if evaluation.accuracy > best:
            state.best_step = state.step
            state.best_validation = asdict(evaluation)
            state.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in classifier.state_dict().items()
            }
        tracker.log(row_for_trackers(row), step=state.step)

    try:
        while True:
            evaluate_if_due()
            if state.step == num_steps:
                break
            interrupt.check()
            if time.monotonic() - saved_at > checkpoint_seconds:
                save()
                saved_at = time.monotonic()
            started = time.monotonic()
            batch = next(batches)
            learning_rate = schedule(state.step)
            set_learning_rate(optimizer, learning_rate)
            loss = _step(classifier, objective, optimizer, batch, max_grad_norm, precision)
            loss_sum += loss
            state.step += 1
            # An evaluation waits for the device anyway; that wait belongs to the steps.
            read = (
                device.type == "cpu"
                or state.step % _STEPS_BETWEEN_READS == 0
                or state.step % eval_every == 0
                or state.step == num_steps
            )
            if read and not math.isfinite(loss_sum.item()):
                raise _diverged(loss.item(), state.step, {"learning_rate": learning_rate})
            state.train_seconds += time.monotonic() - started
            clock.stepped(time.monotonic() - started)
            state.examples_seen += batch.size
            state.tokens_seen += batch.num_tokens
            tracker.progress("training", state.step, num_steps, clock.seconds_left(state.step))
    except Interrupted:
        save()
        raise
    save()
    if state.best_weights is not None:
        classifier.load_state_dict(state.best_weights)


def _diverged(loss: float, step: int, row: dict[str, Any]) -> Diverged:
    return Diverged(
        f"the loss is {loss} at step {step} (learning rate {row['learning_rate']:.3g}); try a "
        f"smaller train.learning_rate, a longer warm-up or train.max_grad_norm=1.0"
    )


def row_for_trackers(row: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a row of the learning curve without the step."""
    return {name: value for name, value in row.items() if name != "step"}


def _step(
    classifier: SequenceClassifier,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    max_grad_norm: float | None,
    precision: Precision,
) -> Tensor:
    """Make one update and return the loss, detached, without waiting for it."""
    classifier.train()
    with _autocast(batch.targets.device, precision):
        loss = objective(classifier, batch).total
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), max_grad_norm)
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def evaluate(
    classifier: SequenceClassifier,
    loader: Loader,
    *,
    precision: Precision,
    interrupt: Interrupt,
    progress: Callable[[int, int], None],
) -> Evaluation:
    """Evaluate every example of a split exactly once.

    Args:
        classifier: Left in evaluation mode.
        loader: Gives the batches.
        precision: Type of the matrix products.
        interrupt: Asks to stop between two batches.
        progress: Called with the examples done and their total.

    Raises:
        Interrupted: A signal came.
    """
    classifier.eval()
    num_correct = torch.zeros((), dtype=torch.int64, device=loader.device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=loader.device)
    num_examples = 0
    for batch in loader.evaluation():
        interrupt.check()
        with _autocast(loader.device, precision):
            logits_BC = classifier(batch)
        num_correct += (logits_BC.argmax(dim=-1) == batch.targets).sum()
        loss_sum += F.cross_entropy(logits_BC.double(), batch.targets, reduction="sum")
        num_examples += batch.size
        progress(num_examples, len(loader.lengths))
    return Evaluation(num_examples, int(num_correct.item()), loss_sum.item())


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class _Clock:
    """Estimates how long a run will still take."""

    def __init__(
        self, num_steps: int, eval_every: int, num_validation: int, num_final: int
    ) -> None:
        self.num_steps = num_steps
        self.eval_every = eval_every
        self.final_in_evaluations = num_final / num_validation
        self.step_seconds = 0.0
        self.num_stepped = 0
        self.evaluation_seconds: float | None = None

    def stepped(self, seconds: float) -> None:
        self.step_seconds += seconds
        self.num_stepped += 1

    def evaluated(self, seconds: float) -> None:
        self.evaluation_seconds = seconds

    def seconds_left(self, step: int) -> float | None:
        if not self.num_stepped:
            return None
        left = (self.num_steps - step) * self.step_seconds / self.num_stepped
        if self.evaluation_seconds is not None:
            evaluations = -(-(self.num_steps - step) // self.eval_every)
            left += (evaluations + self.final_in_evaluations) * self.evaluation_seconds
        return left
