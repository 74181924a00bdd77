"""The optimizer, and learning rates as functions of the step.

A step ``s`` counts the updates already made: the first update has s = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import get_args

import torch
from torch import Tensor, nn

from lra_bench.distributed import ALONE, World
from lra_bench.errors import UserError
from lra_bench.schema import Decay, KernelDecay, ScheduleName, TrainConfig

Schedule = Callable[[int], float]
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)


class Optimization:
    """The optimizer with its schedule and its clipping: all that an update does to the weights.

    Args:
        module: Its parameters are optimized.
        config: Rates, decay and clipping; the length of the training.
        world: The processes that share each batch.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, module: nn.Module, config: TrainConfig, *, world: World = ALONE) -> None:
        self.world = world
        self.schedule = make_schedule(
            config.schedule,
            learning_rate=config.learning_rate,
            num_warmup_steps=config.num_warmup_steps,
            num_steps=config.num_steps,
        )
        self.parameters = list(module.parameters())
        self.max_grad_norm = config.max_grad_norm
        self.optimizer = make_optimizer(
            module,
            weight_decay=config.weight_decay,
            decay=config.decay,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            kernel_decay=config.kernel_decay,
            scales={
                kind: rate / config.learning_rate
                for kind, rate in (
                    ("diagonal", config.diagonal_learning_rate),
                    ("input", config.input_learning_rate),
                    ("step", config.step_learning_rate),
                )
                if rate is not None
            },
        )

    def step(self, loss: Tensor, step: int, *, number: Tensor | int | None = None) -> Tensor:
        """Make an update, without waiting for the device.

        Args:
            loss: What is minimized, a scalar.
            step: Updates made before this one.
            number: Answers of this process's share that it is a mean over; see `Loss`. Nobody asks
                where there is one process.

        Returns:
            The loss over the whole batch, a scalar.

        Raises:
            UserError: The number is not told.
        """
        set_learning_rate(self.optimizer, self.schedule(step))
        self.optimizer.zero_grad(set_to_none=True)
        if self.world.size == 1:
            loss.backward()
            mean = loss.detach()
        elif number is None:
            raise UserError(
                "the objective does not tell how many answers its loss is a mean over (see "
                "lra_bench.objective.Loss), which num_processes needs; use one process"
            )
        else:
            # Of a sum, so that an answer counts the same in whatever share it is.
            (loss * number).backward()
            mean = self.world.mean(self.parameters, loss, number)
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        return mean


def make_schedule(
    name: ScheduleName, *, learning_rate: float, num_warmup_steps: int, num_steps: int
) -> Schedule:
    """Return the learning rate as a function of the number of updates already made.

    - ``rsqrt``: ``base * min(1, s / w) / sqrt(max(s, w))``. The base is no peak: the highest rate
      is ``base / sqrt(w)``. Released code of arXiv 2011.04006 for its text tasks.
    - ``epoch_cosine``: ``base * min(1, s / w) * (1 + cos(pi * frac(p))) / 2`` with
      ``p = max(0, s - w) / T``. The same code's schedule for its image tasks.
    - ``cosine``: linear from 0 to the base, then half a cosine to 0 at the last step.
    - ``one_cycle``: linear from base / 25 to the base, then linear to base / 250,000, as
      PyTorch's OneCycleLR with linear annealing.
    - ``linear``: linear from 0 to the base, then linear to 0 at the last step. Released code of
      arXiv 2209.10655, which begins at 1e-7.
    - ``constant``: linear warm-up, then the base.

    Args:
        name: Which one.
        learning_rate: The base.
        num_warmup_steps: Length of the warm-up (w) [updates].
        num_steps: Length of the training (T) [updates].

    Raises:
        ValueError: The name is unknown, or a number is out of range.
    """
    base, warmup = learning_rate, num_warmup_steps
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; choose from {', '.join(SCHEDULES)}")
    if base <= 0 or not math.isfinite(base):
        raise ValueError(f"learning_rate={base} must be a positive number")
    if warmup < 0 or num_steps < 1:
        raise ValueError(
            f"num_warmup_steps={warmup} must not be negative and num_steps={num_steps} positive"
        )

    def ramp(step: int) -> float:
        return min(1.0, step / warmup) if warmup else 1.0

    def rsqrt(step: int) -> float:
        return base * ramp(step) / math.sqrt(max(step, warmup, 1))

    def epoch_cosine(step: int) -> float:
        progress = max(0, step - warmup) / num_steps
        return base * ramp(step) * 0.5 * (1 + math.cos(math.pi * (progress % 1.0)))

    def cosine(step: int) -> float:
        progress = max(0, step - warmup) / max(1, num_steps - warmup)
        return base * ramp(step) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def one_cycle(step: int) -> float:
        low, end = base / 25, base / 250_000
        peak_at = max(1.0, warmup - 1.0)
        if step <= peak_at:
            return low + (base - low) * step / peak_at
        return base + (end - base) * min(1.0, (step - peak_at) / max(1.0, num_steps - 1 - peak_at))

    def linear(step: int) -> float:
        progress = max(0, step - warmup) / max(1, num_steps - warmup)
        return base * ramp(step) * max(0.0, 1 - progress)

    def constant(step: int) -> float:
        return base * ramp(step)

    return {
        "rsqrt": rsqrt,
        "cosine": cosine,
        "epoch_cosine": epoch_cosine,
        "one_cycle": one_cycle,
        "linear": linear,
        "constant": constant,
    }[name]


def make_optimizer(
    module: nn.Module,
    *,
    weight_decay: float,
    decay: Decay,
    betas: tuple[float, float],
    eps: float,
    kernel_decay: KernelDecay = "all",
    scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Return AdamW; the learning rate is set before each step by `set_learning_rate`.

    Args:
        module: Its parameters are optimized.
        weight_decay: Decoupled weight decay, times the learning rate.
        decay: What decays: ``all`` parameters, or ``matrices`` but no biases, norms and vectors.
        betas: Decay of the two moments.
        eps: Added to the denominator.
        kernel_decay: Which parts of the kernels of state spaces decay, of those that ``decay``
            lets: ``all``, the ``input`` alone, or ``none``.
        scales: The rates of these parts, as multiples of the common one; 1 where none is named.
    """
    parts = {
        id(getattr(part, name)): kind
        for part in module.modules()
        for name, kind in getattr(part, "kernel_parts", {}).items()
    }
    # By scale and decay; the order is that in which checkpoints have them.
    groups: dict[tuple[float, bool], list[Tensor]] = {(1.0, True): [], (1.0, False): []}
    for parameter in module.parameters():
        kind = parts.get(id(parameter))
        spared = decay == "matrices" and parameter.ndim < 2
        if kind is not None and kernel_decay != "all" and kind != kernel_decay:
            spared = True
        scale = 1.0 if kind is None else (scales or {}).get(kind, 1.0)
        groups.setdefault((scale, not spared), []).append(parameter)
    # The rate is read from the group in every step, so that 0 here is only a placeholder.
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": weight_decay * decays, "scale": scale}
            for (scale, decays), members in groups.items()
            if members
        ],
        lr=0.0,
        betas=betas,
        eps=eps,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of all parameter groups, each times its scale."""
    for group in optimizer.param_groups:
        # Checkpoints from before there were scales have none.
        group["lr"] = learning_rate * group.get("scale", 1.0)
