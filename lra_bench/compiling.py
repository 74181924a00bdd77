"""Compiling an encoder: for few lengths, where it can gain something, and never silently in vain.

PyTorch compiles anew for every shape, gives up after some of them and goes on uncompiled without
a word. So batches are padded to a few lengths, which changes no answer, and giving up is said.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit

from lra_bench.errors import UserError
from lra_bench.heads import TaskModel
from lra_bench.models.encoder import SequenceEncoder
from lra_bench.models.layers import BatchNorm

# Each costs a compilation of its own, in training and in evaluation, with padding and without.
MAX_LENGTHS = 6
# What blocks and the kernels of a GPU divide without a rest.
_MULTIPLE = 64


def padded_lengths(max_length: int, *, max_lengths: int = MAX_LENGTHS) -> tuple[int, ...]:
    """Return the lengths that batches are padded to, rising to the longest.

    At equal distances: lengths of real tasks are spread over the whole range, and so a batch gets
    at most ``max_length / max_lengths`` tokens of padding more (and a rounding).

    Args:
        max_length: Longest sequence [tokens].
        max_lengths: How many there may be.
    """
    parts = [max_length * number / max_lengths for number in range(1, max_lengths)]
    rounded = {-(-int(part) // _MULTIPLE) * _MULTIPLE for part in parts}
    return (*sorted(length for length in rounded if 0 < length < max_length), max_length)


def compile_encoder(
    model: TaskModel,
    *,
    device: torch.device,
    max_length: int,
    say: Callable[[str], None],
    backend: str | Callable[..., Any] = "inductor",
    max_graphs: int | None = None,
) -> tuple[int, ...]:
    """Let the encoder of a model be compiled when it is first called with a shape.

    What was compiled before in this process is forgotten: its shapes would count as this one's.

    Args:
        model: Its encoder is compiled in place; names of parameters stay as they are.
        device: Where the model will be.
        max_length: Longest sequence of the task [tokens].
        say: Told once if PyTorch gives up compiling; then the encoder runs uncompiled.
        backend: Of `torch.compile`.
        max_graphs: Compilations after which PyTorch gives up; None for as many as can be needed.

    Returns:
        The lengths to pad batches to, for `lra_bench.data.Loader`.

    Raises:
        UserError: It would gain nothing on this device.
    """
    if device.type == "cpu":
        raise UserError(
            "train.compile=true gains nothing on a CPU (the same speed after minutes of "
            "compiling; benchmarks/README.md has the figures); leave it out, or use device=cuda"
        )
    lengths = padded_lengths(max_length)
    if max_graphs is None:
        # Training and evaluation, padded or not, and the second pattern of an objective.
        max_graphs = len(lengths) * 2 * 2 * 2
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = max_graphs
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # Not `dynamic=True`: blocks make PyTorch guard the number of them all the same.
    compiled = torch.compile(model.encoder.forward, dynamic=False, backend=backend)
    model.encoder.forward = _Compiled(model.encoder, compiled, say)  # type: ignore[method-assign]
    return lengths


class _Compiled:
    """Takes the place of an encoder's ``forward``."""

    def __init__(
        self,
        encoder: SequenceEncoder,
        compiled: Callable[..., Tensor],
        say: Callable[[str], None],
    ) -> None:
        self.encoder = encoder
        self.plain = encoder.forward
        self.compiled: Callable[..., Tensor] | None = compiled
        self.say = say
        # Of the batches seen so far: their lengths, and their sizes in training and evaluation.
        self.norms_a_batch = any(isinstance(part, BatchNorm) for part in encoder.modules())
        self.lengths: set[int] = set()
        self.sizes = {True: 0, False: 0}

    def __call__(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        if self.compiled is None:
            return self.plain(tokens_BL, mask_BL, topology=topology)
        size, length = tokens_BL.shape
        self.lengths.add(length)
        if self.norms_a_batch and self.encoder.training and size < self.sizes[True]:
            # Its examples are norms for one another, each once.
            return self.plain(tokens_BL, mask_BL, topology=topology)
        whole = max(size, self.sizes[self.encoder.training])
        self.sizes[self.encoder.training] = whole
        rows, mask_rows = tokens_BL, mask_BL
        if size < whole:
            # The last batch of an epoch: with some examples twice it needs no graph of its own.
            places = torch.arange(whole, device=tokens_BL.device) % size
            rows = tokens_BL[places]
            mask_rows = None if mask_BL is None else mask_BL[places]
        try:
            return self.compiled(rows, mask_rows, topology=topology)[:size]
        except FailOnRecompileLimitHit:
            self.compiled = None
            lengths = ", ".join(f"{length:,}" for length in sorted(self.lengths))
            self.say(
                f"warning: PyTorch gave up compiling the encoder after too many shapes (lengths "
                f"{lengths}); it runs uncompiled from here on"
            )
            return self.plain(tokens_BL, mask_BL, topology=topology)
