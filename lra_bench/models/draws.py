"""Random numbers of a module's own, apart from those that initialize and drop out; and replaying.

What was drawn in one call of a module can be drawn once more, to compute the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    # On the CPU even where a model is only counted, on a device without numbers.
    return int(torch.randint(2**62, (), device="cpu"))


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
        # What `Replay` has returned instead; a tuple, which is no buffer.
        self.replayed: tuple[Tensor, ...] = ()

    def forward(self) -> Tensor:
        """Return the tensor."""
        if self.replayed:
            return self.replayed[0]
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


class Decided(nn.Module):
    """Whole numbers that a module decides on, such as buckets, which a replay must not decide anew.

    What it decides by has been computed twice then, and may differ in the last digit.

    Args:
        largest: The largest number.
    """

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.narrow = torch.int16 if largest < 2**15 else torch.int32
        self.is_noting = False
        self.noted: list[Tensor] = []
        # What `Replay` has returned instead; a tuple, which is no buffer.
        self.replayed: tuple[Tensor, ...] = ()

    def forward(self, decide: Callable[[], Tensor]) -> Tensor:
        """Return what is decided, or what was."""
        if self.replayed:
            return self.replayed[0].long()
        numbers = decide()
        if self.is_noting:
            self.noted = [numbers.to(self.narrow)]
        return numbers

    if TYPE_CHECKING:
        __call__ = forward


class Replay:
    """What a module draws at random and decides in one call, to have it computed once more.

    Args:
        module: What is called; its modules `Drawn` and `Decided` are replayed, too.
        device: Where it draws.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module
        self.device = device
        self.state: Tensor | None = None
        self.state_there: Tensor | None = None
        self.values: list[tuple[Drawn | Decided, Tensor]] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what is drawn and decided in the one call inside."""
        # Evaluation draws nothing.
        if self.module.training:
            self.state = torch.get_rng_state()
            if self.device.type == "cuda":
                self.state_there = torch.cuda.get_rng_state(self.device)
        decided = [part for part in self.module.modules() if isinstance(part, Decided)]
        for part in decided:
            part.is_noting = True
        try:
            yield
            self.values = [(part, part.noted.pop()) for part in decided if part.noted]
        finally:
            for part in decided:
                part.is_noting = False
        drawn = (part for part in self.module.modules() if isinstance(part, Drawn))
        self.values += [(part, part.drawn) for part in drawn]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw and decide the same inside; outside, nobody notices."""
        with torch.random.fork_rng([self.device] if self.state_there is not None else []):
            if self.state is not None:
                torch.set_rng_state(self.state)
            if self.state_there is not None:
                torch.cuda.set_rng_state(self.state_there, self.device)
            for part, value in self.values:
                part.replayed = (value,)
            try:
                yield
            finally:
                for part, _ in self.values:
                    part.replayed = ()
