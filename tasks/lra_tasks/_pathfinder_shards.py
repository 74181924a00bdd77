"""Drawn Pathfinder images on their way into a cache, in shards on disk.

They outlive a killed process. A shard is labels, pixels, and a checksum of both and whose they are.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lra_bench.errors import UserError
from lra_bench.files import reason, write_atomically
from lra_bench.types import Progress, ProgressCallback
from lra_tasks._parallel import in_order, num_cores
from lra_tasks._pathfinder_draw import Images, Parameters, draw
from lra_tasks._pathfinder_geometry import Drawn

_SUFFIX = ".shards"
# Drawn images are worth more than a draft: the next call goes on from them.
_FORGOTTEN_AFTER_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class Shards:
    """All images of a task, in a folder that the next call finds again.

    Args:
        folder: Its name stands for all options: images of others are not taken for these.
        params: What the images are drawn with.
        seed: Of the images; a shard has its number besides.
        total: Number of images.
        size: Images a shard; the last one has the rest.
    """

    folder: Path
    params: Parameters
    seed: int
    total: int
    size: int

    @property
    def number(self) -> int:
        """Number of shards."""
        return -(-self.total // self.size)

    def draw(self, shard: int) -> Drawn:
        """Draw the images of a shard."""
        number = min(self.size, self.total - shard * self.size)
        return draw(self.params, number, self.seed, shard)

    def make(self, shard: int) -> None:
        """Draw a shard and write it.

        Raises:
            UserError: The disk is full.
        """
        self.write(shard, self.draw(shard))

    def make_missing(
        self, progress: ProgressCallback, check: Callable[[], None], num_workers: int | None
    ) -> None:
        """Draw the shards that are not there.

        Args:
            progress: Told the images that are drawn.
            check: Called after each shard; raises where there is nothing left to do.
            num_workers: Processes that draw; None for one a core.

        Raises:
            UserError: There is no room on the disk.
        """
        missing = [shard for shard in range(self.number) if not self.path(shard).exists()]
        done = self.number - len(missing)
        # The shards and then the cache.
        num_images = len(missing) * self.size + self.total
        _check_room(self.folder.parent, num_images * (self.params.resolution**2 + 1))
        progress(Progress("drawing images", min(done * self.size, self.total), self.total))
        # The tables alone take a process as long as a thousand images.
        workers = min(num_workers or num_cores(), len(missing))
        with closing(in_order(self.make, missing, num_workers=workers)) as made:
            for _ in made:
                done += 1
                progress(Progress("drawing images", min(done * self.size, self.total), self.total))
                check()

    def read(self, check: Callable[[], None]) -> Iterator[Images]:
        """Yield the shards in order; one that is missing or broken is drawn again.

        Args:
            check: Called before that; raises where there is nothing left to do.
        """
        for shard in range(self.number):
            images = self._load(shard)
            if images is None:
                check()
                self.make(shard)
                images = self._load(shard)
                assert images is not None, f"shard {shard} was just written"
            yield images

    def remove(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_forgotten(self) -> None:
        """Remove shards of other images that nobody went on with for long."""
        for folder in self.folder.parent.glob(f".*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                age = time.time() - folder.stat().st_mtime
                if folder != self.folder and age > _FORGOTTEN_AFTER_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{shard:06}"

    def write(self, shard: int, drawn: Drawn) -> None:
        """Write a shard, whole or not at all.

        Raises:
            UserError: The disk is full.
        """
        body = drawn.labels.astype(np.uint8).tobytes() + drawn.images.tobytes()
        try:
            write_atomically(self.path(shard), body + self._digest(shard, body))
        except FileNotFoundError:
            # Another process was done, and has removed the folder.
            return
        except OSError as error:
            raise UserError(
                f"cannot write drawn images to {self.folder}: {reason(error)}; free some space or "
                f"choose another folder with cache_dir=; what was drawn is kept"
            ) from error

    def parse(self, shard: int, content: bytes) -> Images | None:
        """Return the images of a shard, None if it is not whole or not this one."""
        side = self.params.resolution
        body, digest = content[:-32], content[-32:]
        if not body or len(body) % (1 + side**2) or self._digest(shard, body) != digest:
            return None
        number = len(body) // (1 + side**2)
        labels = np.frombuffer(body, np.uint8, number).astype(np.int64)
        pixels = np.frombuffer(body, np.uint8, offset=number)
        return pixels.reshape(number, side, side), labels

    def _load(self, shard: int) -> Images | None:
        try:
            content = self.path(shard).read_bytes()
        except OSError:
            return None
        return self.parse(shard, content)

    def _digest(self, shard: int, body: bytes) -> bytes:
        return hashlib.sha256(f"{self.folder.name} {shard} ".encode() + body).digest()


def folder_for(place: Path) -> Path:
    """Return the folder of the shards of a cache."""
    return place.with_name(f".{place.name}{_SUFFIX}")


def _check_room(folder: Path, num_bytes: int) -> None:
    """Find out now, not after hours, that the images will not fit.

    Raises:
        UserError: They will not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"cannot write to cache_dir={folder}: {reason(error)}") from error
    if free < num_bytes:
        raise UserError(
            f"drawing these images takes {num_bytes / 1e9:.1f} GB, and cache_dir={folder} has "
            f"{free / 1e9:.1f} GB left; free some space, choose another folder with cache_dir=, "
            f"or ask for fewer with task.num_train= and so on"
        )
