"""Texts as bytes, one or two an example: what they are as tokens, storing them, reading them back.

The id of a byte is its value and one; 0 is padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.types import TaskSpec
from lra_tasks._store import Chunk

# Of the byte 0.
FIRST_ID = 1
VOCAB_SIZE = 256 + FIRST_ID
CHUNK_BYTES = 4 << 20
# Bytes of text that each id stands for: padding for none.
SYMBOL_BYTES = (0,) * FIRST_ID + (1,) * 256

# The texts of an example, and its class.
Row = tuple[Sequence[bytes], int]


def spec_of(
    name: str,
    *,
    max_length: int,
    majority_baseline: float | None,
    num_inputs: int = 1,
) -> TaskSpec:
    """Return what a model has to know of a question with two answers about texts."""
    return TaskSpec(
        name=name,
        vocab_size=VOCAB_SIZE,
        max_length=max_length,
        num_classes=2,
        num_inputs=num_inputs,
        majority_baseline=majority_baseline,
        symbol_bytes=SYMBOL_BYTES,
    )


def chunks_of(
    rows: Iterable[Row], *, first_id: int = FIRST_ID, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Chunk]:
    """Gather texts for writing, some megabytes at a time.

    Args:
        rows: The texts, none of them empty, and the class of each example.
        first_id: That of the layout. With 1 the bytes are stored as they are; with 0 their ids
            are, which fit into a byte as long as no text has the byte 255, as is true of UTF-8.
        chunk_bytes: What is gathered at least.
    """
    texts: list[bytes] = []
    classes: list[int] = []
    num_bytes = 0
    for row, label in rows:
        texts += row
        classes.append(label)
        num_bytes += sum(map(len, row))
        if num_bytes >= chunk_bytes:
            yield _chunk(texts, classes, first_id)
            texts, classes, num_bytes = [], [], 0
    if classes:
        yield _chunk(texts, classes, first_id)


def _chunk(texts: list[bytes], classes: list[int], first_id: int) -> Chunk:
    lengths = np.array([len(text) for text in texts], np.int64)
    tokens = np.frombuffer(b"".join(texts), np.uint8)
    if first_id != FIRST_ID:
        tokens = tokens + np.uint8(FIRST_ID - first_id)
    if len(texts) != len(classes):
        lengths = lengths.reshape(len(classes), -1)
    return Chunk(tokens, lengths, np.array(classes, np.int64))


def text_of(ids: NDArray[Any]) -> str:
    """Return the text of an input; a character that was cut in two is shown as such."""
    return bytes((ids.astype(np.int64) - FIRST_ID).tolist()).decode("utf-8", errors="replace")


def pair_of(inputs: Sequence[NDArray[Any]], answer: str) -> str:
    """Return both texts of a pair and what is the answer, for a person."""
    said = [f"input {number}:\n{text_of(ids)}" for number, ids in enumerate(inputs, start=1)]
    return "\n\n".join([*said, f"answer: {answer}"])
