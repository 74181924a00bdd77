"""What tasks on two texts share: bytes as ids, storing them, and showing them to people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from lra_bench.types import Example, TaskSpec
from lra_tasks._cache import Chunk

# The texts are stored as they are; id = byte + 1, and 0 is padding.
FIRST_ID = 1
_CHUNK_BYTES = 4 << 20

# Two texts and the class.
Pair = tuple[bytes, bytes, int]


def spec_of(name: str, max_length: int, majority_baseline: float | None) -> TaskSpec:
    """Return what a model has to know."""
    return TaskSpec(
        name=name,
        vocab_size=256 + FIRST_ID,
        max_length=max_length,
        num_classes=2,
        num_inputs=2,
        majority_baseline=majority_baseline,
    )


def chunks_of(pairs: Iterable[Pair]) -> Iterator[Chunk]:
    """Gather pairs for writing, some megabytes at a time."""
    texts: list[bytes] = []
    labels: list[int] = []
    num_bytes = 0
    for first, second, label in pairs:
        texts += (first, second)
        labels.append(label)
        num_bytes += len(first) + len(second)
        if num_bytes >= _CHUNK_BYTES:
            yield _chunk(texts, labels)
            texts, labels, num_bytes = [], [], 0
    if labels:
        yield _chunk(texts, labels)


def _chunk(texts: list[bytes], labels: list[int]) -> Chunk:
    lengths = np.array([len(text) for text in texts], np.int64).reshape(-1, 2)
    tokens = np.frombuffer(b"".join(texts), np.uint8)
    return Chunk(tokens, lengths, np.array(labels, np.int64))


def decode(example: Example, answers: tuple[str, str]) -> str:
    """Return both texts and the answer.

    Args:
        example: The pair.
        answers: What the classes mean.
    """
    texts = [
        bytes((ids.astype(np.int64) - FIRST_ID).tolist()).decode("utf-8", errors="replace")
        for ids in example.inputs
    ]
    said = [f"input {number}:\n{text}" for number, text in enumerate(texts, start=1)]
    return "\n\n".join([*said, f"answer: {answers[example.target]}"])
