"""Pathfinder and Path-X: do two discs sit on one dashed contour? An image, pixel by pixel.

Source: Linsley et al. 2018; as tasks for long sequences, arXiv 2011.04006.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import (
    SPLITS,
    DataInfo,
    Example,
    Progress,
    ProgressCallback,
    Quantities,
    Split,
    TaskSpec,
    Verification,
    ignore_progress,
)
from lra_tasks import _pathfinder_release as release
from lra_tasks._options import check_choice, check_counts, check_seed
from lra_tasks._pathfinder_draw import (
    CONTOUR_LENGTHS,
    RESOLUTIONS,
    Difficulty,
    Images,
    parameters,
)
from lra_tasks._pathfinder_geometry import Drawn, problem_of
from lra_tasks._pathfinder_shards import Shards, folder_for
from lra_tasks._sources import RELEASE_URL, RawFiles
from lra_tasks._store import ChunkStream
from lra_tasks.cached_task import CachedTask, Chunk, Source, Writer

# Raised when the same options would give other bytes.
GENERATOR_VERSION = 1
# Raised when the same files would give other bytes.
READER_VERSION = 1

Origin = Literal["generated", "official"]
Contours = Literal["published", "apart"]

OFFICIAL_COUNT = 200_000
# Images drawn with one seed: seconds of work, and what a killed process loses at most.
_IMAGES_PER_SHARD = {32: 2_000, 64: 200, 128: 200, 256: 100}
# The test images are the same ones whatever is asked for of the others.
_DRAWN_ORDER: tuple[Split, ...] = ("test", "train", "validation")


class Pathfinder(CachedTask[RawFiles | None]):
    """Pathfinder images as gray levels, row by row; id = gray level, and 0 is black, not padding.

    Generated images follow the distribution of the published generator (see
    `lra_tasks._pathfinder_draw`). There the two target contours touch or cross in a part of the
    images (of the hard ones at 32x32, a third), whatever their label; ``contours=apart`` leaves
    those out, in both classes alike.

    The released images are split as published: the first 80 % for training, then 10 % for
    validation and 10 % for testing, in the order that tensorflow-datasets gives them, which is
    that of the MD5 of their names. Files of no bytes (one is known) are dropped after that.

    Args:
        data_dir: Where the release lies, for ``source=official``: unpacked, its archive, or
            ``pathfinder32.tar.gz`` and the like.
        cache_dir: Folder of prepared data.
        resolution: Side of an image [pixels]: 32, 64, 128 or 256.
        difficulty: Strokes of a contour: easy 6, intermediate 9, hard 14, the benchmark's.
        source: ``generated`` or ``official``.
        contours: ``published``, or ``apart``; of generated images.
        seed: Of the generator: the same seed gives the same images, whatever the number of
            processes.
        num_train: Images to draw.
        num_validation: Images to draw.
        num_test: Images to draw.
        official_count: Images of the released set.
        shard_size: Images drawn with one seed; None for what takes seconds. It shapes the images.
        num_workers: Processes that draw; None for one a core.

    Raises:
        UserError: An option is out of range.
    """

    has_pictures = True

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        resolution: int = 32,
        difficulty: Difficulty = "hard",
        source: Origin = "generated",
        contours: Contours = "published",
        seed: int = 0,
        num_train: int = 160_000,
        num_validation: int = 20_000,
        num_test: int = 20_000,
        official_count: int = OFFICIAL_COUNT,
        shard_size: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        self.counts: dict[Split, int] = {
            "train": num_train,
            "validation": num_validation,
            "test": num_test,
        }
        check_choice("resolution", resolution, RESOLUTIONS)
        check_choice("difficulty", difficulty, get_args(Difficulty))
        check_choice("source", source, get_args(Origin))
        check_choice("contours", contours, get_args(Contours))
        check_counts(self.counts)
        # Above, a seed would share some of its images with a smaller one.
        check_seed(seed, end=1 << 32)
        if source == "official" and contours != "published":
            raise UserError("task.contours=apart is for task.source=generated")
        self.spec = TaskSpec(
            name="pathfinder",
            vocab_size=256,
            max_length=resolution**2,
            num_classes=2,
            majority_baseline=0.5,
            # From -1 to 1, as in state-spaces/s4 at e757cef, src/dataloaders/lra.py.
            quantities=Quantities(mean=127.5, deviation=127.5),
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.resolution = resolution
        self.difficulty: Difficulty = difficulty
        self.origin = source
        self.contours = contours
        self.seed = seed
        self.official_count = official_count
        self.num_workers = num_workers
        self.params = parameters(resolution, difficulty, apart=contours == "apart")
        self.shard_size = shard_size or _IMAGES_PER_SHARD[resolution]

    @property
    def _what(self) -> str:
        return f"{self.resolution}x{self.resolution} {self.difficulty}"

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        if self.origin == "generated":
            return DataInfo("generated here", "none needed; cite Linsley et al. 2018", self.counts)
        tenth = self.official_count // 10
        return DataInfo(
            f"released PNG files, pathfinder{self.resolution}/{release.FOLDERS[self.difficulty]}",
            "Apache-2.0 (the benchmark's); cite Linsley et al. 2018",
            {"train": 8 * tenth, "validation": tenth, "test": tenth},
        )

    def picture(self, example: Example) -> NDArray[np.uint8]:
        """See `Task.picture`."""
        side = self.resolution
        return np.asarray(example.inputs[0], np.uint8).reshape(side, side)

    def decode(self, example: Example) -> str:
        """See `Task.decode`: what the label says."""
        if example.target == 1:
            return "the two discs sit on one contour"
        return "the two discs sit on different contours"

    def words(self) -> str:
        """See `CachedTask.words`: of whatever size, it is one task."""
        words = super().words()
        return words if self.resolution == 32 else f"{words} task.resolution={self.resolution}"

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        options: dict[str, Any] = {
            "source": self.origin,
            "resolution": self.resolution,
            "difficulty": self.difficulty,
        }
        if self.origin == "official":
            return options | {"version": READER_VERSION}
        options |= {
            "version": GENERATOR_VERSION,
            "contours": self.contours,
            "seed": self.seed,
            "counts": self.counts,
        }
        if self.shard_size != _IMAGES_PER_SHARD[self.resolution]:
            options["shard_size"] = self.shard_size
        return options

    def source(self) -> Source[RawFiles | None] | None:
        """See `CachedTask.source`."""
        if self.origin == "generated":
            # It draws the strokes; another version may round them in another way.
            return Source(f"generated, Pillow {version('pillow')}", None)
        return release.find(self.data_dir, self.cache_dir, self.resolution, self.difficulty)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        folder = f"pathfinder{self.resolution}/{release.FOLDERS[self.difficulty]}"
        raise UserError(
            f"the official images ({folder}) are not in {self.data_dir}; put the unpacked "
            f"lra_release or its archive there (from {RELEASE_URL}), name another folder with "
            f"data_dir=, or use task.source=generated"
        )

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:
        """See `Task.prepare`."""
        super().prepare(progress)
        if self.origin == "generated":
            self.shards(self.cache().place).remove()

    def encode(
        self, source: Source[RawFiles | None], writer: Writer, progress: ProgressCallback
    ) -> DataInfo:
        """See `CachedTask.encode`: draw the images, or read the released ones."""
        if source.files is None:
            return self._draw(writer, progress)
        folder = release.FOLDERS[self.difficulty]
        with release.images_of(
            source.files, folder, self.resolution, self.cache_dir, progress
        ) as images:
            return self._read(source.files, images, writer, progress)

    def shards(self, place: Path) -> Shards:
        """Return the drawn images on their way into a cache."""
        total = sum(self.counts.values())
        return Shards(folder_for(place), self.params, self.seed, total, self.shard_size)

    def _draw(self, writer: Writer, progress: ProgressCallback) -> DataInfo:
        """Draw all images in shards that outlive a killed process, then put them together."""
        shards = self.shards(writer.place)
        shards.remove_forgotten()
        # Another process may be as far, and have removed the shards.
        check = writer.check_not_made_elsewhere
        shards.make_missing(progress, check, self.num_workers)
        check()
        stream = ChunkStream(map(_chunk, shards.read(check)))
        done = 0
        for split in _DRAWN_ORDER:
            chunks = stream.take(self.counts[split])
            counted = _counted(chunks, done, shards.total, "writing images", progress)
            done += writer.add(split, counted)
        return DataInfo(
            source=f"generated {self._what}, contours {self.contours}, seed {self.seed}, "
            f"generator {GENERATOR_VERSION}"
        )

    def _read(
        self,
        files: RawFiles,
        images: release.ReleasedImages,
        writer: Writer,
        progress: ProgressCallback,
    ) -> DataInfo:
        """Encode released images."""
        folder, rows = release.FOLDERS[self.difficulty], images.rows
        empty = sorted(row.name for row in rows if images.is_empty(row.name))
        done, left = 0, len(rows) - len(empty)
        for split, part in release.published_splits(rows, self.difficulty).items():
            whole = [row for row in part if not images.is_empty(row.name)]
            if not whole:
                raise UserError(
                    f"{files.path} has {len(rows)} images of {folder}, too few for three "
                    f"splits; get it again from {RELEASE_URL}"
                )
            chunks = map(_chunk, images.portions(whole))
            done += writer.add(split, _counted(chunks, done, left, "encoding images", progress))
        dropped = f"{len(empty)} dropped: {', '.join(empty[:3])}" if empty else "none"
        strokes = CONTOUR_LENGTHS[self.difficulty]
        others = sum(row.contour_length != strokes for row in rows)
        warning = ""
        if len(rows) != self.official_count or others:
            warning = (
                f"{files.description} does not hold the official set: {len(rows):,} "
                f"images in the metadata of {folder}, expected {self.official_count:,}; "
                f"{others:,} of them are of another difficulty than {strokes} strokes"
            )
        return DataInfo(
            source=f"official {self._what}",
            warning=warning,
            details={
                "read": f"{files.description}, {images.prefix}{folder}",
                "empty_files": dropped,
            },
        )

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, and some generated images are drawn again."""
        yield from super().verify()
        if self.origin == "generated":
            first = _DRAWN_ORDER[0]
            number = min(self.shard_size, self.counts[first])
            drawn = self.shards(self.cache().place).draw(0)
            what = f"the first {number:,} {first} images, drawn again"
            yield Verification(what, self._difference(drawn, number))
            problem = problem_of(
                drawn,
                margin=max(self.params.margins),
                thickness=self.params.paddle_thickness,
                apart=self.params.apart,
            )
            yield Verification("their contours and discs", problem)

    def _difference(self, drawn: Drawn, number: int) -> str | None:
        """Say how the prepared images differ from the drawn ones, of which some come first."""
        cache = self.cache()
        try:
            # Not cut: an input may be too long.
            splits = {split: cache.examples(split, max_length=1 << 62) for split in SPLITS}
        except UserError as error:
            return str(error)
        counts = {split: len(examples) for split, examples in splits.items()}
        if counts != self.counts:
            return f"there are {counts} images, not {self.counts}"
        examples = splits[_DRAWN_ORDER[0]]
        for index in range(number):
            example = examples[index]
            if (
                not np.array_equal(example.inputs[0], drawn.images[index].ravel())
                or example.target != drawn.labels[index]
            ):
                return (
                    f"they are not what the generator draws from this seed, from number {index} on"
                )
        return None


def _chunk(images: Images) -> Chunk:
    pixels, labels = images
    lengths = np.full(len(labels), pixels[0].size)
    return Chunk(pixels.ravel(), lengths, labels)


def _counted(
    chunks: Iterable[Chunk], done: int, total: int, what: str, progress: ProgressCallback
) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        progress(Progress(what, done, total))
