"""What tasks have in common whose examples are drawn, all of one length, and can be judged alone.

Shapes: N examples, L length.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.types import (
    SPLITS,
    DataInfo,
    Example,
    Progress,
    ProgressCallback,
    Split,
    Verification,
)
from lra_tasks._draws import Draws
from lra_tasks._options import check_counts, check_seed
from lra_tasks.cached_task import CachedTask, Chunk, Source, Writer

_EXAMPLES_AT_ONCE = 1_000


class DrawnTask(CachedTask[None]):
    """A task of classes of positions whose examples are drawn.

    Each split has a stream of its own: what is drawn of one does not depend on the others.

    Args:
        cache_dir: Folder of prepared data.
        version: Of the generator: raised when the same options would give other bytes.
        seed: The same seed gives the same bytes on every machine.
        counts: Examples to draw.
        shape: All other options that shape the data; plain data.

    Raises:
        UserError: A split has no example, or the seed is none.
    """

    def __init__(
        self,
        *,
        cache_dir: Path,
        version: int,
        seed: int,
        counts: Mapping[Split, int],
        shape: Mapping[str, Any],
    ) -> None:
        check_counts(counts)
        check_seed(seed)
        self.cache_dir = cache_dir
        self.version = version
        self.seed = seed
        self.counts = dict(counts)
        self.shape = dict(shape)

    @abstractmethod
    def draw(self, draws: Draws, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw some examples.

        Args:
            draws: What they are drawn with.
            number: How many (N).

        Returns:
            Token ids and classes of positions, (N, L) each.
        """

    @abstractmethod
    def is_right(self, example: Example) -> bool:
        """Return whether an example's answers are those that its tokens ask for."""

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo("generated here", "none needed", self.counts)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": self.version, "seed": self.seed, "counts": self.counts, **self.shape}

    def source(self) -> Source[None]:
        """See `CachedTask.source`."""
        return Source("generated", None)

    def encode(self, source: Source[None], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        del source
        for split in SPLITS:
            writer.add(split, self._chunks(split, progress))
        return DataInfo(source=f"generated, seed {self.seed}, generator {self.version}")

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, and every example is judged again."""
        yield from super().verify()
        for split in SPLITS:
            examples = self.examples(split)
            wrong = sum(not self.is_right(examples[index]) for index in range(len(examples)))
            problem = f"{wrong} examples have other answers than their tokens" if wrong else None
            yield Verification(f"{split}: answers", problem)

    def _chunks(self, split: Split, progress: ProgressCallback) -> Iterator[Chunk]:
        draws = Draws(self.seed, SPLITS.index(split))
        total = self.counts[split]
        for start in range(0, total, _EXAMPLES_AT_ONCE):
            number = min(_EXAMPLES_AT_ONCE, total - start)
            tokens_NL, targets_NL = self.draw(draws, number)
            lengths_N = np.full(number, tokens_NL.shape[1], np.int64)
            yield Chunk(tokens_NL.ravel(), lengths_N, targets_NL.ravel())
            progress(Progress(f"drawing {split}", start + number, total))
