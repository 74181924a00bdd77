"""What several processes of one run compute together; one process is the usual case.

Each process makes the same updates to weights of its own, from gradients of its share of each
batch that are added up. What is decided from a sum is decided alike everywhere.

Shapes: D width.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lra_bench.errors import UserError
from lra_bench.interrupt import Interrupt, Interrupted
from lra_bench.metrics import Evaluation
from lra_bench.models.layers import BatchNorm
from lra_bench.models.precision import uncompiled


class World:
    """The processes of one run as one of them sees them; this one is alone.

    Args:
        rank: The number of this process; number 0 writes, and speaks for all.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def check(self, interrupt: Interrupt) -> None:
        """Raise `Interrupted` in all processes if a signal has come to one of them."""
        interrupt.check()

    def is_due(self, interrupt: Interrupt, due: bool) -> bool:
        """Return what the first process thinks is due, having done what `check` does."""
        interrupt.check()
        return due

    def mean(self, parameters: Sequence[Tensor], loss: Tensor, number: Tensor | float) -> Tensor:
        """Turn the gradients of sums over shares into those of the mean over the whole batch.

        Args:
            parameters: Have the gradients of ``loss * number``; changed in place.
            loss: Mean over the answers of this share, a scalar.
            number: Answers of this share; 0 for a share that is none.

        Returns:
            The mean loss over the whole batch, a scalar; nothing waits for a GPU.
        """
        del parameters, number
        return loss.detach()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, plain data and tensors, in all of them."""
        return [value]

    def from_first(self, value: Any) -> Any:
        """Return the value of the first process, plain data and tensors (on the CPU), in all."""
        return value

    def added(self, evaluation: Mapping[str, float]) -> dict[str, float]:
        """Return the sums of an evaluation over the shares of all processes."""
        first, *others = (Evaluation(sums) for sums in self.gather(dict(evaluation)) if sums)
        return dict(sum(others, first).sums)

    def synchronize(self, model: nn.Module) -> None:
        """Let norms over a batch be over the whole batch."""

    def begin_share(self, is_none: bool) -> None:
        """Tell whether what follows is no share of a batch, and has to count for nothing."""


ALONE = World()


class Group(World):
    """Several processes, connected by PyTorch.

    Args:
        rank: See `World`.
        size: Likewise.
        device: Where this process computes.
        explain: Makes the error to raise of one that PyTorch raises where a process is missing.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        *,
        device: torch.device,
        explain: Callable[[RuntimeError], Exception],
    ) -> None:
        super().__init__(rank, size)
        self.explain = explain
        # What is decided is told by the CPU also where a GPU computes: nobody waits for that.
        self.control = dist.new_group(backend="gloo") if device.type == "cuda" else None
        self.share = 1.0
        self.has_compared = False

    def check(self, interrupt: Interrupt) -> None:
        """See `World`."""
        self.is_due(interrupt, False)

    def is_due(self, interrupt: Interrupt, due: bool) -> bool:
        """See `World`."""
        told = torch.tensor([interrupt.noticed() or 0, int(due and self.is_first)])
        with self._together():
            dist.all_reduce(told, dist.ReduceOp.MAX, group=self.control)
        number, is_due = told.tolist()
        if number:
            raise Interrupted(number)
        return bool(is_due)

    def mean(self, parameters: Sequence[Tensor], loss: Tensor, number: Tensor | float) -> Tensor:
        """See `World`."""
        trained = [each for each in parameters if each.requires_grad]
        grads = [_real(torch.zeros_like(x) if x.grad is None else x.grad) for x in trained]
        num_present = sum(each.grad is not None for each in trained)
        tail = torch.stack(
            [
                (loss.detach() * number).float(),
                torch.as_tensor(number, dtype=torch.float32, device=loss.device)
                if isinstance(number, Tensor)
                else torch.full((), float(number), device=loss.device),
                torch.full((), float(num_present), device=loss.device),
            ]
        )
        # In the same order everywhere, and most often all at once.
        for dtype in sorted({x.dtype for x in (*grads, tail)}, key=str):
            members = [x for x in (*grads, tail) if x.dtype == dtype]
            flat = torch.cat([x.reshape(-1) for x in members])
            self._add_up(flat)
            totals = flat.split([x.numel() for x in members])
            for member, added in zip(members, totals, strict=True):
                member.copy_(added.view_as(member))
        total, count, present = tail.unbind()
        # A look at a GPU's numbers would wait for it: there the first step has to do.
        if loss.device.type == "cpu" or not self.has_compared:
            self.has_compared = True
            if present.item() != num_present * self.size:
                raise UserError(
                    "the model uses some parameters in one process and not in another, which "
                    "num_processes cannot do; use one process"
                )
        count = count.clamp(min=1)
        torch._foreach_div_([_real(x.grad) for x in trained if x.grad is not None], count)
        return total / count

    def gather(self, value: Any) -> list[Any]:
        """See `World`."""
        everywhere: list[Any] = [None] * self.size
        with self._together():
            dist.all_gather_object(everywhere, _packed(value), group=self.control)
        return [_unpacked(content) for content in everywhere]

    def from_first(self, value: Any) -> Any:
        """See `World`."""
        content = [_packed(value) if self.is_first else None]
        with self._together():
            dist.broadcast_object_list(content, src=0, group=self.control)
        return _unpacked(content[0])

    def synchronize(self, model: nn.Module) -> None:
        """See `World`."""
        for part in model.modules():
            if isinstance(part, BatchNorm):
                part.total = self._total

    def begin_share(self, is_none: bool) -> None:
        """See `World`."""
        self.share = 0.0 if is_none else 1.0

    @uncompiled
    def _total(self, x_D: Tensor) -> Tensor:
        """Add up over all processes, forward and backward."""
        total_D: Tensor = _Total.apply(x_D * self.share, self._add_up)  # type: ignore[no-untyped-call]
        return total_D

    def _add_up(self, values: Tensor) -> None:
        with self._together():
            dist.all_reduce(values)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self.explain(error) from error


class _Total(torch.autograd.Function):
    """A sum over processes: what each makes of it belongs to the gradient of all."""

    @staticmethod
    def forward(ctx: Any, x_D: Tensor, add_up: Callable[[Tensor], None]) -> Tensor:
        ctx.add_up = add_up
        total_D = x_D.clone()
        add_up(total_D)
        return total_D

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total_D = grads[0].clone()
        ctx.add_up(total_D)
        return total_D, None


def check_norms(model: nn.Module) -> None:
    """Refuse a model with a norm over batches that does not know of other processes.

    Raises:
        UserError: It has one.
    """
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"model: {type(part).__name__} norms the share of one process, not the batch; use "
                f"num_processes=1, or lra_bench.models.layers.BatchNorm"
            )


def _real(values: Tensor) -> Tensor:
    return torch.view_as_real(values) if values.is_complex() else values


def _packed(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _unpacked(content: Any) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
