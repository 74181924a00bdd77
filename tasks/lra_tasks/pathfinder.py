"""Pathfinder and Path-X: do two discs sit on one dashed contour? An image, pixel by pixel.

Source: Linsley et al. 2018; as tasks for long sequences, arXiv 2011.04006.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import (
    SPLITS,
    About,
    Example,
    Progress,
    ProgressCallback,
    Split,
    TaskSpec,
    Verification,
)
from lra_tasks._cache import CachedTask, Chunk, ChunkStream, FlatCache, writing
from lra_tasks._parallel import in_order, num_cores
from lra_tasks._pathfinder_images import (
    CONTOUR_LENGTHS,
    RESOLUTIONS,
    Difficulty,
    Drawn,
    clearances,
    discs_fit_labels,
    draw,
    gaps,
    parameters,
)
from lra_tasks._sources import (
    RELEASE_MAX_BYTES,
    RELEASE_URL,
    Member,
    Source,
    find_release,
    identity_of,
    members_of,
)

# Raised when the same options would give other bytes.
GENERATOR_VERSION = 1
# Raised when the same files would give other bytes.
Origin = Literal["generated", "official"]
Contours = Literal["published", "apart"]

OFFICIAL_COUNT = 200_000
_FOLDERS: dict[Difficulty, str] = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}
_NAMES = {32: "pathfinder", 64: "pathfinder", 128: "pathx", 256: "pathx_256"}
# Images drawn with one seed: seconds of work, and what a killed process loses at most.
_IMAGES_PER_SHARD = {32: 2_000, 64: 200, 128: 200, 256: 100}
# The test images are the same ones whatever is asked for of the others.
_DRAWN_ORDER: tuple[Split, ...] = ("test", "train", "validation")
_CHUNK_BYTES = 16 << 20


class Pathfinder(CachedTask):
    """Pathfinder images as gray levels, row by row; id = gray level, and 0 is black, not padding.

    Generated images follow the distribution of the published generator (see
    `lra_tasks._pathfinder_images`). There the two target contours touch or cross in a part of the
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

    Raises:
        UserError: An option is out of range.
    """

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
    ) -> None:
        choices: list[tuple[str, Any, Sequence[Any]]] = [
            ("resolution", resolution, RESOLUTIONS),
            ("difficulty", difficulty, get_args(Difficulty)),
            ("source", source, get_args(Origin)),
            ("contours", contours, get_args(Contours)),
        ]
        for key, value, allowed in choices:
            if value not in allowed:
                raise UserError(f"task.{key}={value} is not one of {', '.join(map(str, allowed))}")
        if min(num_train, num_validation, num_test) < 1:
            raise UserError("task.num_* must be at least 1")
        # Above, a seed would share some of its images with a smaller one.
        if not 0 <= seed < 1 << 32:
            raise UserError(f"task.seed={seed} must lie between 0 and 2**32 - 1")
        if source == "official" and contours != "published":
            raise UserError("task.contours=apart is for task.source=generated")
        self.spec = TaskSpec(
            name=_NAMES[resolution],
            vocab_size=256,
            max_length=resolution**2,
            num_classes=2,
            majority_baseline=0.5,
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.resolution = resolution
        self.difficulty: Difficulty = difficulty
        self.source = source
        self.contours = contours
        self.seed = seed
        self.counts: dict[Split, int] = {
            "train": num_train,
            "validation": num_validation,
            "test": num_test,
        }
        self._params = parameters(resolution, difficulty, apart=contours == "apart")
        self._shard_size = _IMAGES_PER_SHARD[resolution]

    @property
    def _what(self) -> str:
        return f"{self.resolution}x{self.resolution} {self.difficulty}"

    def about(self) -> About:
        """See `Task.about`."""
        if self.source == "official":
            return About(
                f"released PNG files, pathfinder{self.resolution}/{_FOLDERS[self.difficulty]}",
                "Apache-2.0 (the benchmark's); cite Linsley et al. 2018",
                {"train": 160_000, "validation": 20_000, "test": 20_000},
            )
        return About("generated here", "none needed; cite Linsley et al. 2018", self.counts)

    def picture(self, example: Example) -> NDArray[np.uint8]:
        """See `Task.picture`."""
        side = self.resolution
        return np.asarray(example.inputs[0], np.uint8).reshape(side, side)

    def decode(self, example: Example) -> str:
        """See `Task.decode`: what the label says."""
        if example.target == 1:
            return "the two discs sit on one contour"
        return "the two discs sit on different contours"

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, and some generated images are drawn again."""
        yield from super().verify()
        if self.source == "generated":
            first = _DRAWN_ORDER[0]
            number = min(self._shard_size, self.counts[first])
            drawn = self._draw_shard(0)
            what = f"the first {number:,} {first} images, drawn again"
            yield Verification(what, self._difference(drawn, number))
            yield Verification("their contours and discs", self._geometry_problem(drawn))

    def _difference(self, drawn: Drawn, number: int) -> str | None:
        """Say how the prepared images differ from the drawn ones, of which some come first."""
        cache = self._opened()
        try:
            # Not cut: an input may be too long.
            splits = {split: cache.examples(split, max_length=1 << 62) for split in SPLITS}
        except UserError as error:
            return str(error)
        found = {split: len(examples) for split, examples in splits.items()}
        if found != self.counts:
            return f"there are {found} images, not {self.counts}"
        examples = splits[_DRAWN_ORDER[0]]
        for at in range(number):
            example = examples[at]
            if (
                not np.array_equal(example.inputs[0], drawn.images[at].ravel())
                or example.target != drawn.labels[at]
            ):
                return f"they are not what the generator draws from this seed, from number {at} on"
        return None

    def _geometry_problem(self, drawn: Drawn) -> str | None:
        """Say what is wrong with some contours, from the strokes they were made of."""
        # Twice the margin, and what rounding to whole pixels may add.
        widest = 2 * max(self._params.margins) + 3
        torn = int((gaps(drawn.contours) > widest).any(axis=(1, 2)).sum())
        if torn:
            return f"{torn:,} images have a contour that does not hang together"
        near = int((clearances(drawn.contours) < self._params.paddle_thickness).sum())
        if self._params.apart and near:
            return f"{near:,} images have contours that touch or cross"
        wrong = int((~discs_fit_labels(drawn)).sum())
        if wrong:
            return f"{wrong:,} images have discs that do not sit where the label says"
        return None

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "source": self.source,
            "resolution": self.resolution,
            "difficulty": self.difficulty,
        }
        if self.source == "official":
            return options | {"version": READER_VERSION}
        return options | {
            "version": GENERATOR_VERSION,
            "contours": self.contours,
            "seed": self.seed,
            "counts": self.counts,
        }

    def _find(self) -> Source | None:
        folder = _FOLDERS[self.difficulty]
        return find_release(self.data_dir, f"pathfinder{self.resolution}", (folder,))

    def _place(self) -> Path | None:
        if self.source == "generated":
            # It draws the strokes; another version may round them in another way.
            return self._place_for(f"generated, Pillow {version('pillow')}")
        source = self._find()
        if source is None:
            return None
        if source.is_archive:
            return self._place_for(identity_of(source.path, self.cache_dir))
        return self._place_for(_listing_digest(source.path / _FOLDERS[self.difficulty]))

    def _fetch(self) -> None:
        raise UserError(
            f"the official images (pathfinder{self.resolution}/{_FOLDERS[self.difficulty]}) are "
            f"not in {self.data_dir}; put the unpacked lra_release or its archive there (from "
            f"{RELEASE_URL}), name another folder with data_dir=, or use task.source=generated"
        )

    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        """Draw the images, or read the released ones."""
        if self.source == "generated":
            self._generate(place, progress)
        else:
            self._read(place, progress)

    # Drawing.

    def _draw_shard(self, shard: int) -> Drawn:
        total = sum(self.counts.values())
        size = self._shard_size
        return draw(self._params, min(size, total - shard * size), self.seed, shard)

    def _generate(self, place: Path, progress: ProgressCallback) -> None:
        """Draw all images in shards that outlive a killed process, then put them together."""
        total, size = sum(self.counts.values()), self._shard_size
        num_shards = -(-total // size)
        shards = _Shards(place.with_name(f".{place.name}.shards"), self.resolution)
        missing = [shard for shard in range(num_shards) if not shards.path(shard).exists()]
        done = num_shards - len(missing)
        # The shards and then the cache.
        _check_room(place.parent, (len(missing) * size + total) * (self.resolution**2 + 1))
        progress(Progress("drawing images", min(done * size, total), total))
        # The tables alone take a process as long as a thousand images.
        num_workers = 1 if len(missing) == 1 else min(num_cores(), len(missing))
        make = partial(_make_shard, self, shards)
        with closing(in_order(make, missing, num_workers=num_workers)) as drawn:
            for _ in drawn:
                done += 1
                progress(Progress("drawing images", min(done * size, total), total))
                # Another process was as far, and has removed the shards.
                if FlatCache.exists(place):
                    break
        if not FlatCache.exists(place):
            with suppress(_MadeElsewhereError):
                self._assemble(place, shards, num_shards, progress)
        shards.remove()

    def _assemble(
        self, place: Path, shards: _Shards, num_shards: int, progress: ProgressCallback
    ) -> None:
        """Put shards together; one that is missing or broken is drawn again."""
        total = sum(self.counts.values())

        def again(shard: int) -> None:
            if FlatCache.exists(place):
                raise _MadeElsewhereError
            _make_shard(self, shards, shard)

        stream = shards.read(num_shards, again)
        with writing(place) as cache:
            pieces = ChunkStream(map(_chunk, stream))
            put = 0
            for split in _DRAWN_ORDER:
                chunks = pieces.take(self.counts[split])
                put += cache.add(split, _counted(chunks, put, total, "writing images", progress))
            cache.facts |= {
                "source": f"generated {self._what}, contours {self.contours}, seed {self.seed}, "
                f"generator {GENERATOR_VERSION}",
                "options": self._options(),
            }

    # Reading the release.

    def _read(self, place: Path, progress: ProgressCallback) -> None:
        source = self._find()
        assert source is not None
        folder = _FOLDERS[self.difficulty]
        with _images_of(source, folder, self.resolution, self.cache_dir, progress) as images:
            rows = sorted(images.rows, key=lambda row: _published_key(row, self.difficulty))
            bounds = [round(len(rows) * share / 100) for share in (0, 80, 90, 100)]
            parts = dict(zip(SPLITS, pairwise(bounds), strict=True))
            empty = sorted(row.name for row in rows if images.is_empty(row.name))
            left = len(rows) - len(empty)
            with writing(place) as cache:
                done = 0
                for split, (start, stop) in parts.items():
                    some = [row for row in rows[start:stop] if not images.is_empty(row.name)]
                    if not some:
                        raise UserError(
                            f"{source.path} has {len(rows)} images of {folder}, too few for three "
                            f"splits; get it again from {RELEASE_URL}"
                        )
                    portions = _portions(some, self.resolution)
                    chunks = (_chunk(images.load(portion)) for portion in portions)
                    done += cache.add(
                        split, _counted(chunks, done, left, "encoding images", progress)
                    )
                cache.facts |= {
                    "source": f"official {self._what}",
                    "options": self._options(),
                    "details": {
                        "read": f"{source.description}, {images.prefix}{folder}",
                        "empty_files": f"{len(empty)} dropped: {', '.join(empty[:3])}"
                        if empty
                        else "none",
                    },
                }
                strokes = CONTOUR_LENGTHS[self.difficulty]
                others = sum(row.contour_length != strokes for row in rows)
                if len(rows) != OFFICIAL_COUNT or others:
                    cache.facts["unofficial"] = (
                        f"{source.description} does not hold the official set: {len(rows):,} "
                        f"images in the metadata of {folder}, expected {OFFICIAL_COUNT:,}; "
                        f"{others:,} of them are of another difficulty than {strokes} strokes"
                    )


Images = tuple[NDArray[np.uint8], NDArray[np.int64]]


class _MadeElsewhereError(Exception):
    """Another process has written the cache in the meantime."""


def _check_room(folder: Path, num_bytes: int) -> None:
    """Find out now, not after hours, that the images will not fit.

    Raises:
        UserError: They will not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"cannot write to cache_dir={folder}: {error.strerror or error}") from error
    if free < num_bytes:
        raise UserError(
            f"drawing these images takes {num_bytes / 1e9:.1f} GB, and cache_dir={folder} has "
            f"{free / 1e9:.1f} GB left; free some space, choose another folder with cache_dir=, "
            f"or ask for fewer with task.num_train= and so on"
        )


def _chunk(images: Images) -> Chunk:
    pixels, labels = images
    lengths = np.full(len(labels), pixels[0].size)
    return Chunk(pixels.ravel(), lengths, labels)


def _counted(
    chunks: Iterable[Chunk], done: int, total: int, what: str, progress: ProgressCallback
) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        done += len(chunk.labels)
        progress(Progress(what, done, total))
