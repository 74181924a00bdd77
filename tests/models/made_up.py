"""What tests of models, heads and objectives share: small ones, and comparing with oracles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from lra_bench.data import collate
from lra_bench.heads import TaskModel, encoder_spec, make_model
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.transformer import DenseAttention
from lra_bench.models.trunk import TransformerEncoder
from lra_bench.schema import HeadConfig, TrunkConfig
from lra_bench.types import IGNORED, Batch, Example, Target, TaskSpec

# No multiples of any block size, with padding inside a block and whole blocks of it.
LENGTHS = (13, 1, 6)
MAX_LENGTH = 30


def make_spec(**changes: Any) -> EncoderSpec:
    sizes: dict[str, Any] = {
        "vocab_size": 11,
        "max_length": MAX_LENGTH,
        "num_layers": 2,
        "width": 12,
        "num_heads": 2,
        "qkv_width": 8,
        "ffn_width": 10,
    }
    return EncoderSpec(**(sizes | changes))


def padded(padding: int = 9) -> tuple[Tensor, Tensor]:
    """Return sequences of different lengths, padded further than the longest."""
    longest = max(LENGTHS) + padding
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 11, (len(LENGTHS), longest), generator=generator)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    return tokens, mask


def some_heads(length: int, *, batch: int = 3) -> list[Tensor]:
    """Return queries, keys and values, (B, H, L, K), that want a gradient, in float64."""
    generator = torch.Generator().manual_seed(2)
    shape = (batch, 2, length, 4)
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(3)
    ]


def smooth_heads(length: int) -> list[Tensor]:
    """Return queries, keys and values, (B, H, L, K), that change slowly from row to row.

    What approximates attention from a few rows tends to it on such; on noise nothing does.
    """
    generator = torch.Generator().manual_seed(2)
    times = 2 * torch.pi * torch.arange(length, dtype=torch.float64)[:, None, None] / length
    waves = torch.arange(1, 4)[:, None]
    tensors = []
    for _ in range(3):
        size = torch.randn(3, 2, 1, 3, 4, dtype=torch.float64, generator=generator) / 2
        phase = torch.rand(3, 2, 1, 3, 4, dtype=torch.float64, generator=generator) * 2 * torch.pi
        tensors.append((size * torch.cos(waves * times + phase)).sum(dim=3))
    return tensors


def assert_same(
    function: Callable[..., Tensor],
    oracle: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    mask: Tensor | None = None,
) -> None:
    """Compare what two functions of the same tensors return, and all gradients.

    Args:
        function: The one under test.
        oracle: The slow, obvious one.
        inputs: What both are given, in float64.
        mask: True where what they return has a meaning; it is expanded.
    """
    results = []
    for one in (function, oracle):
        for tensor in inputs:
            tensor.grad = None
        out = one(*inputs)
        if mask is not None:
            out = torch.where(mask, out, 0.0)
        weights = torch.randn(
            out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(3)
        )
        (out * weights).sum().backward()
        grads = [None if tensor.grad is None else tensor.grad.clone() for tensor in inputs]
        results.append((out.detach(), grads))
    (out, grads), (expected, expected_grads) = results
    torch.testing.assert_close(out, expected, atol=1e-9, rtol=1e-9)
    for number, (grad, wanted) in enumerate(zip(grads, expected_grads, strict=True)):
        if wanted is None:
            assert grad is None or not grad.any(), number
            continue
        assert grad is not None, number
        torch.testing.assert_close(grad, wanted, atol=1e-8, rtol=1e-8)


def assert_encodes_as(
    encoder: SequenceEncoder, oracle: Callable[[Tensor], Tensor], topology: str | None = None
) -> None:
    """Compare an encoder's states of padded sequences, and all gradients, with an oracle's.

    Args:
        encoder: In float64 and evaluation mode.
        oracle: Returns the states of a single sequence, of the encoder's own weights.
        topology: What the encoder is asked for.
    """
    tokens, mask = padded()
    longest = max(LENGTHS)

    def fast(*_: Tensor) -> Tensor:
        return encoder(tokens, mask, topology=topology)[:, :longest]

    def slow(*_: Tensor) -> Tensor:
        rows = [oracle(row[:length]) for row, length in zip(tokens, LENGTHS, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    assert_same(fast, slow, list(encoder.parameters()), mask[:, :longest, None])


TRUNK = TrunkConfig(
    num_layers=2,
    width=12,
    num_heads=2,
    qkv_width=8,
    ffn_width=10,
    dropout=0.0,
    attention_dropout=0.0,
    positions="learned",
    input="symbols",
    norm="layer",
    norm_place="pre",
    tied_dropout=False,
)


# The tokens that stand before candidates and before the text, where a task has such.
CANDIDATE, CONTEXT = 9, 10


def spec_of(target: Target, *, num_inputs: int = 1) -> TaskSpec:
    num_classes = 3 if target in ("class", "tokens") else 0
    marks: dict[str, Any] = {}
    if target in ("choice", "spans"):
        marks["context"] = CONTEXT
        marks |= {"candidate": CANDIDATE} if target == "choice" else {"answer_length": 5}
    return TaskSpec("made up", 11, MAX_LENGTH, num_classes, num_inputs, target, **marks)


def head_of(pooling: Any = "mean", interaction: Any = "concatenate") -> HeadConfig:
    return HeadConfig(
        pooling=pooling,
        hidden_width=8,
        num_hidden_layers=None,
        activation="relu",
        interaction=interaction,
    )


def model_of(spec: TaskSpec, head: HeadConfig, **trunk: Any) -> TaskModel:
    torch.manual_seed(0)
    sizes = encoder_spec(TRUNK.model_copy(update=trunk), spec, head)
    return make_model(TransformerEncoder(sizes, mixer=DenseAttention), spec, head).eval()


def batch_of(target: Target, *, num_inputs: int = 1) -> Batch:
    """Return padded examples with answers drawn at random, some positions not asked about."""
    if target in ("choice", "spans"):
        return _questions(target, num_inputs)
    tokens, mask = padded()
    generator = torch.Generator().manual_seed(4)
    if target == "class":
        targets = torch.randint(0, 3, (3,), generator=generator)
    elif target == "span":
        ends = torch.rand(3, 2, generator=generator) * torch.tensor(LENGTHS)[:, None]
        targets = ends.long().sort(dim=1).values
    else:
        targets = torch.randint(0, 3, tokens.shape, generator=generator)
        targets = torch.where(mask & (tokens > 3), targets, IGNORED)
    tokens, mask = (x[:, None].repeat(1, num_inputs, 1) for x in (tokens, mask))
    return Batch(tokens, mask, targets, sum(LENGTHS) * num_inputs)


def questions(target: Target, number: int, *, num_inputs: int = 1, seed: int = 4) -> list[Example]:
    """Return questions about a text; a choice has up to ``num_inputs`` pieces of it.

    The right candidate is the last one; right spans begin with a 7 and end with the 8 that
    follows. Some have no answer.
    """
    rng = np.random.default_rng(seed)
    made = []
    for at in range(number):
        text = rng.integers(1, 7, rng.integers(6, 15))
        if target == "choice":
            names = rng.permutation(np.arange(1, 7))[: rng.integers(2, 5)]
            head = np.append(np.stack([np.full_like(names, CANDIDATE), names], 1).ravel(), CONTEXT)
            pieces = [
                np.concatenate([head, rng.integers(1, 7, rng.integers(3, 15))])
                for _ in range(num_inputs - at % num_inputs)
            ]
            made.append(Example(tuple(pieces), len(names) - 1))
            continue
        asking = np.append(rng.integers(1, 7, rng.integers(1, 5)), CONTEXT)
        spans = np.zeros((0, 2), np.int64)
        if at % 4 != 3:
            firsts = np.array([0, len(text) - 3])[: 1 + at % 2]
            text[firsts], text[firsts + 2] = 7, 8
            spans = len(asking) + np.stack([firsts, firsts + 2], axis=1)
        made.append(Example((np.concatenate([asking, text]),), spans))
    return made


def _questions(target: Target, num_inputs: int) -> Batch:
    spec = spec_of(target, num_inputs=num_inputs)
    return collate(
        questions(target, 3, num_inputs=num_inputs),
        target=target,
        lengths=(max(LENGTHS) + 9,),
        candidate=spec.candidate,
        context=spec.context,
    )


def at_places(logits: Tensor, batch: Batch, target: Target) -> Tensor:
    """Return logits with those of positions where these stand, (B, L, C); 0 where none is asked."""
    if target != "tokens":
        return logits
    spread = logits.new_zeros(batch.targets.numel(), logits.shape[-1])
    spread.index_copy_(0, batch.places_N, logits)
    return spread.view(*batch.targets.shape, -1)


class _LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, Tensor):
                # What it occupies: an expanded dimension costs nothing.
                self.largest = max(self.largest, item.untyped_storage().nbytes())
        return result


def largest_tensor(encoder: SequenceEncoder, length: int) -> int:
    """Return the size of the largest tensor of a step over a padded sequence [bytes]."""
    mask = torch.arange(length)[None] < length - 100
    seen = _LargestTensor()
    with seen:
        encoder(torch.ones(1, length, dtype=torch.int64), mask).sum().backward()
    return seen.largest


class _Peak(TorchDispatchMode):
    """Remembers how many bytes were alive at once of what operations returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, Tensor):
                storage = item.untyped_storage()
                reference = StorageWeakRef(storage)
                self.alive[reference.cdata] = (reference, storage.nbytes())
        self.alive = {key: one for key, one in self.alive.items() if not one[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def peak_bytes(encoder: SequenceEncoder, length: int) -> int:
    """Return what is alive at once in a training step over a sequence, at its peak [bytes]."""
    seen = _Peak()
    with seen:
        encoder(torch.ones(1, length, dtype=torch.int64)).sum().backward()
    return seen.peak
