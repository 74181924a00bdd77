"""Texts on disk while they are looked at: a corpus need not fit into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Spool:
    """Texts in a file without a name, read again by their number; made by `spooling`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._starts = [0]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, text: bytes) -> int:
        """Keep a text and return its number; none may have been read yet."""
        self._file.write(text)
        self._starts.append(self._starts[-1] + len(text))
        return len(self) - 1

    def size(self, number: int) -> int:
        """Return the length of a text [bytes]."""
        return self._starts[number + 1] - self._starts[number]

    def read(self, numbers: Sequence[int]) -> Iterator[bytes]:
        """Yield texts in the order that is asked for."""
        for number in numbers:
            self._file.seek(self._starts[number])
            yield self._file.read(self.size(number))


@contextmanager
def spooling(folder: Path) -> Iterator[Spool]:
    """Keep texts in a folder for as long as the block lasts.

    Args:
        folder: Made if it is not there; its disk has to take them all.

    Raises:
        OSError: The disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        yield Spool(file)
