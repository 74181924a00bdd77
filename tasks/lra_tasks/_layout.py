"""How examples are written down, and handing them on many at once; see `_store`.

Shapes: N examples, I inputs an example, T tokens of all of them, A spans of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.types import TARGETS, Target, TaskSpec

_IDS = ("u1", "u2", "u4")
_TARGETS_OF_POSITIONS = ("i1", "i2", "i4")


@dataclass(frozen=True)
class Layout:
    """How the examples of a cache are written down.

    Args:
        num_inputs: Inputs an example.
        first_id: What is added to every stored id when it is read: with 1, bytes are ids above
            the padding, and still take one byte each.
        ids: The NumPy type of a stored id: u1, u2 or u4.
        target: What is asked about an example.
        targets: The NumPy type of a target; of classes of positions i1, i2 or i4, else i8. Of
            several spans an example (``spans``), the ends of all stand first, then how many each
            example has.
    """

    num_inputs: int = 1
    first_id: int = 0
    ids: str = "u1"
    target: Target = "class"
    targets: str = "i8"

    def __post_init__(self) -> None:
        """Refuse what no writer has written.

        Raises:
            ValueError: A value is none of those that are possible.
        """
        ids_end = np.iinfo(np.uint16).max - np.iinfo(np.uint8).max
        types = _TARGETS_OF_POSITIONS if self.target == "tokens" else ("i8",)
        if (
            whole(self.num_inputs) < 1
            or not 0 <= whole(self.first_id) <= ids_end
            or self.ids not in _IDS
            or self.target not in TARGETS
            or self.targets not in types
        ):
            raise ValueError(f"{self} is not possible")

    @classmethod
    def of(cls, spec: TaskSpec, *, first_id: int = 0, num_ids: int | None = None) -> Layout:
        """Return the layout that takes the least room.

        Args:
            spec: What the task says of itself.
            first_id: See above.
            num_ids: Stored ids are below this; by default as many as the vocabulary allows.
        """
        most = (spec.vocab_size - first_id if num_ids is None else num_ids) - 1
        targets = "i8"
        if spec.target == "tokens":
            targets = _narrowest(_TARGETS_OF_POSITIONS, spec.num_classes - 1)
        return cls(spec.num_inputs, first_id, _narrowest(_IDS, most), spec.target, targets)


def _narrowest(types: Sequence[str], most: int) -> str:
    return next(one for one in types if most <= np.iinfo(one).max)


@dataclass(frozen=True)
class Chunk:
    """Some consecutive examples of a split.

    Args:
        tokens: Token ids of all of them one after the other, less the layout's ``first_id``, shape
            (T,); the inputs of an example follow each other.
        lengths: Tokens of each, shape (N,), or (N, I) where an example has I inputs.
        targets: Classes or right candidates, shape (N,); first and last positions of spans, shape
            (N, 2); the classes of all positions one after the other, shape (T,); or first and last
            positions of all spans where an example has several, shape (A, 2).
        counts: Of these, how many each example has, shape (N,); None for any other target.
    """

    tokens: NDArray[Any]
    lengths: NDArray[np.int64]
    targets: NDArray[Any]
    counts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.lengths)


class ChunkStream:
    """Hands out the examples of a stream of chunks in portions of exact size."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest: Chunk | None = None

    def take(self, number: int) -> Iterator[Chunk]:
        """Yield chunks of so many examples together."""
        while number:
            chunk = self._rest if self._rest is not None else next(self._chunks)
            first, self._rest = _split(chunk, number)
            number -= len(first)
            yield first


def _split(chunk: Chunk, number: int) -> tuple[Chunk, Chunk | None]:
    if len(chunk) <= number:
        return chunk, None
    num_tokens = int(chunk.lengths[:number].sum())
    # Classes of positions are divided where the tokens are.
    of_targets = number if len(chunk.targets) == len(chunk) else num_tokens
    counts: Sequence[NDArray[np.int64] | None] = (None, None)
    if chunk.counts is not None:
        of_targets = int(chunk.counts[:number].sum())
        counts = chunk.counts[:number], chunk.counts[number:]
    return (
        Chunk(
            chunk.tokens[:num_tokens], chunk.lengths[:number], chunk.targets[:of_targets], counts[0]
        ),
        Chunk(
            chunk.tokens[num_tokens:], chunk.lengths[number:], chunk.targets[of_targets:], counts[1]
        ),
    )


def whole(value: Any) -> int:
    """Return a number of a file, which may hold anything.

    Raises:
        ValueError: It is no whole number.
    """
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value
