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
READER_VERSION = 1

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

_METADATA = re.compile(r"metadata/([0-9]{1,9})\.npy")
_IMAGE = re.compile(r"imgs/[0-9]{1,9}/sample_[0-9]{1,9}\.png")
_LENGTH = re.compile(rb"[0-9]{1,4}")
_NUM_FIELDS = 11
_MAX_METADATA_BYTES = 64 << 20
_MAX_PNG_BYTES = 1 << 20
# The head of a NumPy array of texts; Python 2 wrote an L behind whole numbers.
_ARRAY = re.compile(
    rb"\x93NUMPY[\x01\x02]\x00(?s:.{2}|.{4})\{'descr': '([<>|])([SU])([0-9]{1,6})', "
    rb"'fortran_order': False, 'shape': \(([0-9]{1,9})L?, 11L?\), \} *\n"
)
_PNG = b"\x89PNG\r\n\x1a\n"


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


# The released files.


@dataclass(frozen=True, slots=True)
class Row:
    """A line of metadata.

    Args:
        name: Path of the image below the folder of its difficulty.
        label: 1 where both discs sit on one contour.
        number: Its line in the metadata file, from 1.
        contour_length: Strokes of a target; None if the file says something else.
    """

    name: str
    label: int
    number: int
    contour_length: int | None = None


def parse_metadata(content: bytes, place: str) -> list[Row]:
    """Read a metadata file: text in spite of its name, or an array of texts.

    Raises:
        UserError: A line is not one of eleven fields, names no image, or has another label than 0
            or 1.
    """
    if content.startswith(b"\x93NUMPY"):
        lines = _array_lines(content, place)
    else:
        whole = content.removesuffix(b"\n").split(b"\n") if content else []
        lines = [line.rstrip(b"\r").split(b" ") for line in whole]
    rows = []
    for number, fields in enumerate(lines, start=1):
        name = b"/".join(fields[:2]).decode("ascii", errors="replace")
        label = fields[3] if len(fields) == _NUM_FIELDS else b""
        if not _IMAGE.fullmatch(name) or label not in (b"0", b"1"):
            raise UserError(
                f"{place}, line {number}: expected {_NUM_FIELDS} fields with an image and a label "
                f"of 0 or 1, found {b' '.join(fields)[:80]!r}; get it again from {RELEASE_URL}"
            )
        length = int(fields[5]) if _LENGTH.fullmatch(fields[5]) else None
        rows.append(Row(name, int(label), number, length))
    if not rows:
        raise UserError(f"{place} is empty; get it again from {RELEASE_URL}")
    return rows


def _array_lines(content: bytes, place: str) -> list[list[bytes]]:
    """Read the form that the generator itself writes: an array of texts, shape (images, 11)."""
    header = _ARRAY.match(content)
    if header is not None:
        order, kind, width, number = header[1], header[2], int(header[3]), int(header[4])
        dtype = np.dtype("u1" if kind == b"S" else order.decode() + "u4")
        body = content[header.end() :]
        if width and number * _NUM_FIELDS * width * dtype.itemsize == len(body):
            codes = np.frombuffer(body, dtype)
            if codes.max(initial=0) < 128:
                texts = codes.astype(np.uint8).view(f"S{width}").reshape(number, _NUM_FIELDS)
                lines: list[list[bytes]] = texts.tolist()
                return lines
    raise UserError(
        f"{place} is no whole array of ASCII texts with {_NUM_FIELDS} columns; get it again from "
        f"{RELEASE_URL}"
    )


def decode_png(content: bytes, resolution: int, place: str) -> NDArray[np.uint8]:
    """Return the gray levels of a PNG, shape (resolution, resolution).

    Raises:
        UserError: It is broken, or of another size or kind.
    """
    from PIL import Image

    try:
        chunks = _png_chunks(content)
        header = chunks[0][4:]
        width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
        depth, color = header[8], header[9]
        if (width, height, depth, color) != (resolution, resolution, 8, 0):
            raise UserError(
                f"{place} is an image of {width} by {height}, {depth} bits, color type {color}; "
                f"expected gray of 8 bits (color type 0), {resolution} by {resolution}; get it "
                f"again from {RELEASE_URL}"
            )
        plain = _PNG + b"".join(map(_as_chunk, chunks))
        with Image.open(io.BytesIO(plain), formats=["PNG"]) as image:
            return np.array(image, np.uint8)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error) as error:
        raise UserError(
            f"{place} is no readable PNG ({error}); get it again from {RELEASE_URL}"
        ) from error


def _png_chunks(content: bytes) -> list[bytes]:
    """Return header, data and end of a PNG, each its name and what it holds.

    Checked here, because the library does not look at the checksums of the data, and all that is
    not needed is left out.

    Raises:
        ValueError: It is broken.
    """
    if not content.startswith(_PNG):
        raise ValueError("it does not begin as one")
    found = []
    at = len(_PNG)
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        named, check = content[at + 4 : at + 8 + size], content[at + 8 + size : at + 12 + size]
        if len(check) < 4 or zlib.crc32(named) != int.from_bytes(check, "big"):
            raise ValueError(f"a checksum differs or it is cut short, at byte {at}")
        if named[:4] in (b"IHDR", b"IDAT", b"IEND"):
            found.append(named)
        at += 12 + size
    names = [named[:4] for named in found]
    if names != [b"IHDR", *[b"IDAT"] * (len(names) - 2), b"IEND"] or len(found[0]) != 4 + 13:
        raise ValueError("its parts are not those of one image")
    return found


def _as_chunk(named: bytes) -> bytes:
    size, check = len(named) - 4, zlib.crc32(named)
    return size.to_bytes(4, "big") + named + check.to_bytes(4, "big")


def _published_key(row: Row, difficulty: Difficulty) -> bytes:
    """Return what tensorflow-datasets sorts by: the MD5 of the key, salted with the split."""
    folder, _, name = row.name.rpartition("/")
    key = f"{difficulty}{folder}_{name}_{row.number}"
    return hashlib.md5(key.encode(), usedforsecurity=False).digest()


def _portions(rows: Sequence[Row], resolution: int) -> Iterator[list[Row]]:
    rest = iter(rows)
    while portion := list(islice(rest, max(1, _CHUNK_BYTES // resolution**2))):
        yield portion


class _Released(ABC):
    """The images of one difficulty: what the metadata say, and how to get at the pixels."""

    prefix = ""

    def __init__(self, resolution: int) -> None:
        self.resolution = resolution
        self.rows: list[Row] = []

    @abstractmethod
    def is_empty(self, name: str) -> bool:
        """Return whether a file has no bytes."""

    @abstractmethod
    def load(self, rows: Sequence[Row]) -> Images:
        """Return pixels and labels of some images."""

    def add_metadata(self, files: dict[int, tuple[bytes, str]]) -> None:
        """Take over metadata files, by number, and refuse images named twice."""
        named: set[str] = set()
        for _, (content, place) in sorted(files.items()):
            for row in parse_metadata(content, place):
                if row.name in named:
                    raise UserError(
                        f"{place}, line {row.number}: {row.name} was named before; get it again "
                        f"from {RELEASE_URL}"
                    )
                named.add(row.name)
                self.rows.append(row)


class _InFolder(_Released):
    """Images in an unpacked folder, opened when they are wanted."""

    def __init__(self, folder: Path, resolution: int) -> None:
        super().__init__(resolution)
        self.folder = folder
        files = {}
        for number, path in _metadata_files(folder):
            try:
                files[number] = path.read_bytes(), str(path)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        self.add_metadata(files)
        self._sizes: dict[str, int] = {}
        for sub in sorted({row.name.rpartition("/")[0] for row in self.rows}):
            try:
                with os.scandir(folder / sub) as found:
                    for one in found:
                        # A link may lead nowhere.
                        with suppress(FileNotFoundError):
                            self._sizes[f"{sub}/{one.name}"] = one.stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise UserError(f"cannot read {folder / sub}: {error.strerror or error}") from error
        missing = [row.name for row in self.rows if row.name not in self._sizes]
        if missing:
            raise UserError(
                f"{folder / missing[0]} and {len(missing) - 1:,} more images of the metadata are "
                f"missing; unpack the release again"
            )

    def is_empty(self, name: str) -> bool:
        return not self._sizes[name]

    def load(self, rows: Sequence[Row]) -> Images:
        pixels = np.empty((len(rows), self.resolution, self.resolution), np.uint8)
        for at, row in enumerate(rows):
            path = self.folder / row.name
            try:
                with path.open("rb") as file:
                    content = file.read(_MAX_PNG_BYTES)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror or error}") from error
            pixels[at] = decode_png(content, self.resolution, str(path))
        return pixels, np.array([row.label for row in rows], np.int64)


class _FromArchive(_Released):
    """Images of an archive, decoded as they come by into a file where each can be found again."""

    def __init__(
        self,
        source: Source,
        folder: str,
        resolution: int,
        scratch: Path,
        progress: ProgressCallback,
    ) -> None:
        super().__init__(resolution)
        files: dict[int, tuple[bytes, str]] = {}
        self._index: dict[str, int] = {}
        self._empty: set[str] = set()

        def is_wanted(name: str) -> bool:
            inside = name.removeprefix(f"{folder}/")
            return name != inside and bool(_METADATA.fullmatch(inside) or _IMAGE.fullmatch(inside))

        members = members_of(
            source,
            is_wanted,
            max_bytes=RELEASE_MAX_BYTES,
            remedy=f"get it again from {RELEASE_URL}",
            progress=progress,
        )
        path = scratch / "pixels"
        with path.open("wb") as pixels:
            for member in members:
                name = member.name.removeprefix(f"{folder}/")
                found = _METADATA.fullmatch(name)
                if found is not None:
                    files[int(found[1])] = member.read(_MAX_METADATA_BYTES), member.place
                    self.prefix = member.prefix
                else:
                    self._add_image(name, member, pixels.write)
        if not files:
            raise UserError(
                f"{source.path} holds no metadata of {folder}; get it again from {RELEASE_URL}"
            )
        self.add_metadata(files)
        missing = [
            row.name
            for row in self.rows
            if row.name not in self._index and row.name not in self._empty
        ]
        if missing:
            raise UserError(
                f"{source.path} lacks {missing[0]} and {len(missing) - 1:,} more images of the "
                f"metadata of {folder}; get it again from {RELEASE_URL}"
            )
        shape = (len(self._index), resolution, resolution)
        self._pixels = np.memmap(path, np.uint8, "r", shape=shape) if self._index else None

    def _add_image(self, name: str, member: Member, save: Callable[[bytes], Any]) -> None:
        content = member.read(_MAX_PNG_BYTES)
        if not content:
            self._empty.add(name)
            return
        save(decode_png(content, self.resolution, member.place).tobytes())
        self._index[name] = len(self._index)

    def is_empty(self, name: str) -> bool:
        return name in self._empty

    def load(self, rows: Sequence[Row]) -> Images:
        assert self._pixels is not None
        at = [self._index[row.name] for row in rows]
        return self._pixels[at], np.array([row.label for row in rows], np.int64)


@contextmanager
def _images_of(
    source: Source, folder: str, resolution: int, cache_dir: Path, progress: ProgressCallback
) -> Iterator[_Released]:
    """Open the released images of one difficulty.

    Raises:
        UserError: They are not there, not whole, or not what they should be; or the disk is full.
    """
    if not source.is_archive:
        yield _InFolder(source.path / folder, resolution)
        return
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(dir=cache_dir, prefix=".pixels-", suffix=".partial")
    except OSError as error:
        raise UserError(
            f"cannot write to cache_dir={cache_dir}: {error.strerror or error}"
        ) from error
    try:
        try:
            images = _FromArchive(source, folder, resolution, Path(scratch), progress)
        except OSError as error:
            raise UserError(
                f"cannot keep the pixels of {source.path} in {cache_dir}: "
                f"{error.strerror or error}; free some space or choose another folder with "
                f"cache_dir="
            ) from error
        yield images
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _metadata_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the metadata files of a difficulty with their numbers, in order."""
    found = []
    for path in (folder / "metadata").glob("*.npy"):
        name = _METADATA.fullmatch(f"metadata/{path.name}")
        if name is not None:
            found.append((int(name[1]), path))
    if not found:
        raise UserError(
            f"{folder / 'metadata'} holds no metadata; unpack the release again, or get it from "
            f"{RELEASE_URL}"
        )
    return sorted(found)


def _listing_digest(folder: Path) -> str:
    """Return what tells an unpacked folder from another one without reading the images.

    Names, sizes and times of the metadata, and the times of the folders of images, which change
    with every file that comes or goes.
    """
    seen: list[Any] = [str(folder.resolve())]
    try:
        for number, path in _metadata_files(folder):
            status = path.stat()
            seen.append([number, status.st_size, status.st_mtime_ns])
        with os.scandir(folder / "imgs") as entries:
            seen += sorted([one.name, one.stat().st_mtime_ns] for one in entries)
    except OSError as error:
        raise UserError(
            f"cannot read {folder / 'imgs'}: {error.strerror or error}; unpack the release again"
        ) from error
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()
