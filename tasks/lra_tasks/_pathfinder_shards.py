"""Shards of drawn Pathfinder images on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_tasks._pathfinder_draw import Drawn

# A shard of drawn images on disk: labels, pixels, and a checksum of both and of whose they are.


@dataclass(frozen=True)
class _Shards:
    """Drawn images on their way into a cache, in a folder that the next call finds again."""

    folder: Path
    resolution: int

    def path(self, shard: int) -> Path:
        return self.folder / f"{shard:06}"

    def write(self, shard: int, drawn: Drawn) -> None:
        """Write a shard, whole or not at all.

        Raises:
            UserError: The disk is full.
        """
        body = drawn.labels.astype(np.uint8).tobytes() + drawn.images.tobytes()
        path = self.path(shard)
        draft = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with draft.open("wb") as file:
                    file.write(body + self._digest(shard, body))
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except FileNotFoundError:
            # Another process was done, and has removed the folder.
            return
        except OSError as error:
            raise UserError(
                f"cannot write drawn images to {self.folder}: {error.strerror or error}; free "
                f"some space or choose another folder with cache_dir=; what was drawn is kept"
            ) from error

    def _digest(self, shard: int, body: bytes) -> bytes:
        # The folder's name stands for all options: images of others are not taken for these.
        return hashlib.sha256(f"{self.folder.name} {shard} ".encode() + body).digest()

    def read(self, number: int, again: Callable[[int], None]) -> Iterator[Images]:
        """Yield shards; one that is missing or broken is drawn again."""
        for shard in range(number):
            found = self._load(shard)
            if found is None:
                again(shard)
                found = self._load(shard)
                assert found is not None, f"shard {shard} was just written"
            yield found

    def _load(self, shard: int) -> Images | None:
        try:
            content = self.path(shard).read_bytes()
        except OSError:
            return None
        return self.parse(shard, content)

    def parse(self, shard: int, content: bytes) -> Images | None:
        """Return the images of a shard, None if it is not whole or not this one."""
        size = 1 + self.resolution**2
        body, digest = content[:-32], content[-32:]
        if not body or len(body) % size or self._digest(shard, body) != digest:
            return None
        number = len(body) // size
        labels = np.frombuffer(body, np.uint8, number).astype(np.int64)
        pixels = np.frombuffer(body, np.uint8, offset=number)
        return pixels.reshape(number, self.resolution, self.resolution), labels

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _make_shard(task: Pathfinder, shards: _Shards, shard: int) -> None:
    shards.write(shard, task._draw_shard(shard))
