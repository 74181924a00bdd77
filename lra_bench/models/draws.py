"""Random numbers of a module's own, apart from those that initialize and drop out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lra_bench.models.precision import uncompiled


def own_generator() -> torch.Generator:
    """Return a generator that the seed of the run decides, and that uses up one number of it.

    It draws on the CPU, so that a seed means the same on every device.
    """
    return _generator(_own_seed())


def _own_seed() -> int:
    return int(torch.randint(2**62, ()))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Drawn(nn.Module):
    """A tensor drawn at random, and drawn anew now and then in training.

    The state dict holds the tensor and what the next draws depend on, so that a run that goes on
    from a checkpoint draws what it would have drawn. Evaluation never draws.

    Args:
        draw: Makes the tensor with the random numbers of a generator.
        every: Calls in training after which it is drawn anew; 0 for never.

    Raises:
        ValueError: ``every`` is negative.
    """

    def __init__(self, draw: Callable[[torch.Generator], Tensor], *, every: int) -> None:
        super().__init__()
        if every < 0:
            raise ValueError(f"redraw_every={every} must be at least 0, which is never")
        self.draw = draw
        self.every = every
        self.seed = _own_seed()
        self.num_calls = 0
        self.drawn = nn.Buffer(draw(_generator(self.seed)))

    def forward(self) -> Tensor:
        """Return the tensor."""
        if self.training and self.every:
            return _called(self)
        return self.drawn

    def get_extra_state(self) -> Tensor:
        """Return what else a checkpoint must hold."""
        return torch.tensor([self.seed, self.num_calls])

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what a checkpoint held."""
        self.seed, self.num_calls = state.tolist()

    if TYPE_CHECKING:
        __call__ = forward


# Compiled, every new number of calls would be a new graph.
@uncompiled
def _called(drawn: Drawn) -> Tensor:
    """Count a call in training, draw anew if it is time, and return the tensor."""
    number, rest = divmod(drawn.num_calls, drawn.every)
    if number and not rest:
        fresh = drawn.draw(_generator((drawn.seed + number) % 2**62))
        # Not in place: what was computed with the last one may still want its gradient.
        drawn.drawn = nn.Buffer(fresh.to(drawn.drawn))
    drawn.num_calls += 1
    return drawn.drawn
