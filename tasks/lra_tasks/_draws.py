"""Random whole numbers that are the same on every machine.

Only integer operations on the raw output of PCG64 are used, which NumPy promises never to change.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Draws:
    """A stream of random numbers.

    Args:
        seed: What it begins from; streams of other seeds are independent.
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def below(self, end: int, *shape: int) -> NDArray[np.int64]:
        """Return numbers from 0 to ``end - 1``, each as likely to within ``end / 2**32``.

        Args:
            end: At least 1, at most 2**31.
            shape: Of the result.
        """
        # The upper halves: their products with `end` do not overflow.
        raw = self._raw(shape) >> np.uint64(32)
        return ((raw * np.uint64(end)) >> np.uint64(32)).astype(np.int64)

    def choices(self, allowed: NDArray[np.bool_], number: int) -> NDArray[np.int64]:
        """Return distinct columns of each row, any set of those allowed as likely, in any order.

        Args:
            allowed: Which columns, shape (N, M); at least ``number`` in each row.
            number: How many.

        Returns:
            Shape (N, ``number``).
        """
        keys = np.where(allowed, self._raw(allowed.shape) >> np.uint64(1), np.uint64(1 << 63))
        return keys.argsort(axis=1, kind="stable")[:, :number]

    def _raw(self, shape: tuple[int, ...]) -> NDArray[np.uint64]:
        size = int(np.prod(shape, dtype=np.int64))
        return self._bits.random_raw(size).reshape(shape)
