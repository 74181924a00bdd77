"""One model in a process of its own: built, warmed up, and stepped when it is asked to.

Another process asks: it waits for `Hello`, sends an `Order`, then commands, and gets an answer to
each.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal

from lra_bench import hardware, processes
from lra_bench.errors import UserError
from lra_bench.schema import RunConfig
from lra_bench.speed import machine
from lra_bench.speed.record import Mode
from lra_bench.types import Batch, TaskSpec

if TYPE_CHECKING:
    import torch

Trouble = Literal["out_of_memory", "failed"]


@dataclass(frozen=True)
class Order:
    """What to build.

    Args:
        config: Model, objective, sizes, device and threads.
        spec: What the model has to answer; its longest input is the length of all.
        batch_size: Examples a step.
        memory_limit_bytes: Memory that the process may get; None for no limit.
    """

    config: RunConfig
    spec: TaskSpec
    batch_size: int
    memory_limit_bytes: int | None


@dataclass(frozen=True)
class Hello:
    """The process is there, and the libraries have taken what they take on first use."""


@dataclass(frozen=True)
class Ready:
    """The model is built.

    Args:
        num_parameters: Trained numbers.
        num_threads: Threads of the CPU.
    """

    num_parameters: int
    num_threads: int


@dataclass(frozen=True)
class Steps:
    """A command: make so many steps.

    Args:
        mode: Of which kind.
        number: How many.
    """

    mode: Mode
    number: int


@dataclass(frozen=True)
class Round:
    """What some steps took together.

    Args:
        seconds: On the clock.
        cpu_seconds: Of all threads of this process.
        other_cpu_seconds: Of everything else on the machine; None if it does not tell.
        joules: Energy; None if the machine does not tell.
    """

    seconds: float
    cpu_seconds: float
    other_cpu_seconds: float | None
    joules: float | None


@dataclass(frozen=True)
class Peak:
    """A command: tell the highest memory use since the last time, or since the model was begun."""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Args:
        trouble: Of which kind.
        reason: One line.
    """

    trouble: Trouble
    reason: str


# Of a made-up question.
CANDIDATES = 8


def made_up_batch(spec: TaskSpec, batch_size: int, seed: int) -> Batch:
    """Return random tokens and answers of the shape of a task, without padding.

    Args:
        spec: Vocabulary, length, inputs, what is asked.
        batch_size: Examples.
        seed: Seed of the tokens.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, max(high, 1), shape, generator=generator)

    length = spec.max_length
    tokens_BIL = draw(spec.vocab_size, batch_size, spec.num_inputs, length)
    targets = {
        "class": lambda: draw(spec.num_classes, batch_size),
        "span": lambda: draw(length, batch_size, 2).sort(dim=1).values,
        "tokens": lambda: draw(spec.num_classes, batch_size, length),
        "choice": lambda: draw(CANDIDATES, batch_size),
        "spans": lambda: draw(length, batch_size, 1, 2).sort(dim=-1).values,
    }[spec.target]()
    candidates_BC = None
    if spec.target == "choice":
        candidates_BC = torch.arange(CANDIDATES).clamp(max=length - 1).expand(batch_size, -1)
    return Batch(tokens_BIL, None, targets, tokens_BIL.numel(), candidates_BC=candidates_BC)


class Stepper:
    """A model that makes steps, and what they take.

    Args:
        order: What to build.

    Raises:
        UserError: It cannot be built.
    """

    def __init__(self, order: Order) -> None:
        import torch

        from lra_bench.build import as_user_error, build, check_options
        from lra_bench.optim import Optimization
        from lra_bench.runner import assemble

        config = order.config
        self.device = hardware.choose_device(config.device)
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        if self.device.type == "cpu":
            hardware.keep_freed_memory()
        # What is imported for a model belongs to no model either.
        check_options(config.model, "model", {"spec"})
        use_libraries(self.device)
        self.precision = config.train.precision
        gpu = None
        if self.device.type == "cuda":
            gpu = f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"
        self.energy = machine.EnergyCounters(gpu=gpu)
        hardware.reset_peak_memory(self.device)
        self.base = hardware.peak_memory_bytes(self.device)

        self.model = assemble(config, order.spec)
        if config.train.compile:
            from lra_bench.compiling import compile_encoder

            compile_encoder(
                self.model, device=self.device, max_length=order.spec.max_length, say=print
            )
        self.model.to(self.device)
        self.objective = build(config.objective, "objective")
        self.optimization = as_user_error(lambda: Optimization(self.model, config.train), "train")
        batch = made_up_batch(order.spec, order.batch_size, config.seed)
        self.batch = batch.map(lambda tensor: tensor.to(self.device))
        self.num_updates = 0

    def ready(self) -> Ready:
        """Say what has been built."""
        import torch

        trained = (one.numel() for one in self.model.parameters() if one.requires_grad)
        return Ready(sum(trained), torch.get_num_threads())

    def round(self, steps: Steps) -> Round:
        """Make steps, and wait for the device before and after all of them only."""
        step = self._train if steps.mode == "train" else self._infer
        self._wait()
        joules, busy = self.energy.joules(), machine.busy_seconds()
        cpu, began = time.process_time(), time.perf_counter()
        for _ in range(steps.number):
            step()
        self._wait()
        seconds, own = time.perf_counter() - began, time.process_time() - cpu
        after, joules_after = machine.busy_seconds(), self.energy.joules()
        others = None if busy is None or after is None else max(after - busy - own, 0.0)
        taken = None if joules is None or joules_after is None else joules_after - joules
        return Round(seconds, own, others, taken)

    def peak(self) -> int | None:
        """Return the peak over what was there before the model [bytes], and begin anew."""
        peak = hardware.peak_memory_bytes(self.device)
        hardware.reset_peak_memory(self.device)
        return None if peak is None or self.base is None else max(peak - self.base, 0)

    def _train(self) -> None:
        self.model.train()
        with self._autocast():
            loss = self.objective(self.model, self.batch).total
        self.optimization.step(loss, self.num_updates)
        self.num_updates += 1

    def _infer(self) -> None:
        import torch

        self.model.eval()
        with torch.no_grad(), self._autocast():
            self.model(self.batch)

    def _autocast(self) -> AbstractContextManager[Any]:
        from lra_bench.models.precision import autocast

        return autocast(self.device, self.precision)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)


def use_libraries(device: str | torch.device) -> None:
    """Let the libraries take now what they take on first use: it belongs to no model."""
    import torch

    from lra_bench.optim import make_optimizer

    layer = torch.nn.Linear(64, 64, device=device)
    layer(torch.ones(64, 64, device=device)).sum().backward()
    make_optimizer(layer, weight_decay=0.0, decay="all", betas=(0.9, 0.99), eps=1e-8).step()


def begin(connection: Connection, said: str) -> None:
    """Serve a connection in a process of its own, which ends with the one that started it.

    Args:
        connection: Where commands come from.
        said: A file for what the code of a model prints, which must not be lost in somebody's pipe.
    """
    file = os.open(said, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
    processes.end_with_parent()
    serve(connection)


def serve(connection: Connection) -> None:
    """Build what is ordered and answer commands until there are no more."""
    # What takes seconds, whatever the model is.
    use_libraries("cpu")
    import lra_bench.runner  # noqa: F401

    try:
        connection.send(Hello())
        order: Order = connection.recv()
        answer: Any = None
        if order.memory_limit_bytes is not None:
            machine.limit_memory(order.memory_limit_bytes)
        stepper = _tried(lambda: Stepper(order))
        answer = stepper if isinstance(stepper, Failure) else stepper.ready()
        while True:
            connection.send(answer)
            if isinstance(answer, Failure):
                return
            command: Steps | Peak = connection.recv()
            answer = _tried(
                stepper.peak
                if isinstance(command, Peak)
                else lambda command=command: stepper.round(command)  # type: ignore[misc]
            )
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # Nobody asks any more.
        return


def _tried(work: Callable[[], Any]) -> Any:
    """Return what some work returns, or why it does not."""
    try:
        return work()
    except Exception as error:
        # Whatever a model raises ends its own row of the table, and nothing else.
        import traceback

        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, UserError):
            reason = str(error)
        return Failure(_trouble(error), " ".join(reason.split())[:500])


def _trouble(error: BaseException) -> Trouble:
    """Return whether memory was wanting."""
    import torch

    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    if known or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        return "out_of_memory"
    return _trouble(error.__cause__) if error.__cause__ is not None else "failed"
