"""What the tests of the models share: small sizes, padded sequences, comparing with an oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lra_bench.models.encoder import EncoderSpec, SequenceEncoder

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


class _LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

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
    with _LargestTensor() as seen:
        encoder(torch.ones(1, length, dtype=torch.int64), mask).sum().backward()
    return seen.largest
