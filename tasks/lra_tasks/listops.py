"""ListOps: nested operations on digits; the answer is a digit.

Source: arXiv 1804.06028, in the long form of arXiv 2011.04006.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import count, pairwise
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
    ignore_progress,
)
from lra_tasks import _listops_trees as trees
from lra_tasks._cache import CachedTask, Chunk, ChunkStream, write, writing
from lra_tasks._parallel import in_order, num_cores
from lra_tasks._released import ReleasedFiles
from lra_tasks._sources import Member

# Raised when the same options would give other bytes.
GENERATOR_VERSION = 1
# Raised when the same files would give other bytes.
ENCODING_VERSION = 1

Origin = Literal["generated", "official"]
OFFICIAL_COUNTS: dict[Split, int] = {"train": 96_000, "validation": 2_000, "test": 2_000}
_OFFICIAL_FILES: dict[Split, str] = {
    "train": "basic_train.tsv",
    "validation": "basic_val.tsv",
    "test": "basic_test.tsv",
}
_OFFICIAL_FOLDER = "listops-1000"
# A published line has 14 KB at most.
_MAX_LINE_BYTES = 1 << 20
# Share of the most frequent label under the published distribution, pooled over 200,000 examples.
_MAJORITY_BASELINE = 0.168


class ListOps(CachedTask):
    """Long ListOps, drawn here or read from the released files.

    Args:
        data_dir: Folder of the released files, for ``source=official``.
        cache_dir: Folder of prepared data.
        source: ``generated`` or ``official``.
        seed: Of the generator: the same seed gives the same bytes on every machine.
        num_train: Examples to draw.
        num_validation: Examples to draw.
        num_test: Examples to draw.
        min_length: Expressions are longer than this [tokens].
        max_length: Expressions are shorter than this [tokens]; official ones are cut to it.
        max_depth: Depth of the deepest digit; the root has depth 1.
        max_args: Most arguments of an operator.

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        source: Origin = "generated",
        seed: int = 0,
        num_train: int = 96_000,
        num_validation: int = 2_000,
        num_test: int = 2_000,
        min_length: int = 500,
        max_length: int = 2_000,
        max_depth: int = 10,
        max_args: int = 10,
    ) -> None:
        counts: dict[Split, int] = {
            "train": num_train,
            "validation": num_validation,
            "test": num_test,
        }
        if source not in get_args(Origin):
            raise UserError(f"task.source={source} is not one of {', '.join(get_args(Origin))}")
        if min(counts.values()) < 1 or seed < 0:
            raise UserError("task.num_* must be at least 1 and task.seed not negative")
        if not 0 <= min_length < max_length - 1:
            raise UserError(
                f"task.min_length={min_length} and task.max_length={max_length} leave no length "
                f"in between; expressions are longer than the first and shorter than the second"
            )
        if max_depth < 2 or max_args < 2:
            raise UserError(
                f"task.max_depth={max_depth} and task.max_args={max_args} must be at least 2"
            )
        self.spec = TaskSpec(
            name="listops",
            vocab_size=trees.VOCAB_SIZE,
            max_length=max_length,
            num_classes=10,
            majority_baseline=_MAJORITY_BASELINE,
        )
        self.source = source
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.counts = counts
        self.seed = seed
        self.shape = trees.Shape(min_length, max_length, max_depth, max_args)

    def _fetch(self) -> None:
        names = ", ".join(_OFFICIAL_FILES.values())
        raise UserError(
            f"the official ListOps files ({names}) are not in {self.data_dir}; put them, "
            f"the unpacked lra_release or its archive there, name another folder with "
            f"data_dir=, or use task.source=generated"
        )

    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        """Draw the expressions, or encode the released files."""
        if self.source == "generated":
            name = f"generated, seed {self.seed}, generator {GENERATOR_VERSION}"
            write(place, self._draw_splits(progress), {"source": name, "options": self._options()})
            return
        with writing(place) as cache:
            self._files().fill(cache, self.data_dir, _read_tsv, progress)
            cache.facts["options"] = self._options()

    def about(self) -> About:
        """See `Task.about`."""
        if self.source == "official":
            return About("released TSV files", "Apache-2.0 (the benchmark's)", OFFICIAL_COUNTS)
        return About("generated here", "none needed", self.counts)

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, and every expression is evaluated again."""
        yield from super().verify()
        cache = self._opened()
        for split in SPLITS:
            try:
                examples = cache.examples(split, max_length=1 << 62)
            except UserError as error:
                yield Verification(f"{split}: labels", str(error))
                continue
            wrong = 0
            for start in range(0, len(examples), 1000):
                some = [examples[at] for at in range(start, min(start + 1000, len(examples)))]
                lengths = [len(example.inputs[0]) for example in some]
                values = trees.evaluate(
                    np.concatenate([example.inputs[0] for example in some]),
                    np.concatenate(([0], np.cumsum(lengths))),
                )
                wrong += int((values != [example.target for example in some]).sum())
            problem = f"{wrong} labels are not the value of their expression" if wrong else None
            yield Verification(f"{split}: labels", problem)

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the expression as it is written, closing brackets as ``]``."""
        names = ["", *trees.TOKENS, "?"]
        names[trees.CLOSE] = "]"
        return " ".join(names[token] for token in example.inputs[0])

    def _options(self) -> dict[str, Any]:
        if self.source == "official":
            return {"source": "official", "version": ENCODING_VERSION}
        return {
            "version": GENERATOR_VERSION,
            "seed": self.seed,
            "counts": self.counts,
            "shape": vars(self.shape),
        }

    @staticmethod
    def _files() -> ReleasedFiles:
        return ReleasedFiles(_OFFICIAL_FOLDER, _OFFICIAL_FILES, OFFICIAL_COUNTS)

    def _place(self) -> Path | None:
        if self.source == "generated":
            return self._place_for("generated")
        identity = self._files().identity(self.data_dir, self.cache_dir)
        return None if identity is None else self._place_for(identity)

    def _draw_splits(self, progress: ProgressCallback) -> dict[Split, Iterator[Chunk]]:
        """Cut one stream of distinct expressions into the splits, as the published code does."""
        total = sum(self.counts.values())
        stream = ChunkStream(_draw_distinct(self.seed, self.shape, total, progress))
        return {split: stream.take(self.counts[split]) for split in SPLITS}


def _draw_shard(
    seed: int, shape: trees.Shape, shard: int
) -> tuple[trees.Tokens, trees.Offsets, NDArray[np.int64]]:
    tokens, offsets = trees.draw(seed, shard, shape)
    return tokens, offsets, trees.evaluate(tokens, offsets)


def _draw_distinct(
    seed: int, shape: trees.Shape, total: int, progress: ProgressCallback
) -> Iterator[Chunk]:
    """Draw exactly ``total`` distinct expressions, on all cores, in an order of their own.

    Raises:
        UserError: The shape allows too few expressions.
    """
    seen: set[bytes] = set()
    barren = 0
    for tokens, offsets, labels in _shards(seed, shape, total):
        kept = np.zeros(len(labels), np.bool_)
        for at, (start, stop) in enumerate(pairwise(offsets)):
            digest = hashlib.blake2b(tokens[start:stop].tobytes(), digest_size=16).digest()
            kept[at] = len(seen) < total and digest not in seen
            if kept[at]:
                seen.add(digest)
        barren = 0 if kept.any() else barren + 1
        if barren > 100:
            raise UserError(
                f"found only {len(seen):,} of {total:,} distinct expressions with {shape}; "
                f"allow more lengths, or ask for fewer examples"
            )
        lengths = np.diff(offsets)
        progress(Progress("drawing expressions", len(seen), total))
        yield Chunk(tokens[np.repeat(kept, lengths)], lengths[kept], labels[kept])
        if len(seen) == total:
            return


def _shards(
    seed: int, shape: trees.Shape, total: int
) -> Iterator[tuple[trees.Tokens, trees.Offsets, NDArray[np.int64]]]:
    """Yield the shards in order."""
    draw = partial(_draw_shard, seed, shape)
    # A few shards are done sooner than a process starts.
    return in_order(draw, count(), num_workers=1 if total < 5_000 else num_cores())


_OPERATORS = tuple(
    (name.encode(), bytes([trees.IDS[name]])) for name in ("[MIN", "[MAX", "[MED", "[SM")
)
# Bytes that would pass for the ids of operators below are none.
_WITHOUT_IDS = bytes(
    ord("?") if number in range(trees.MIN, trees.CLOSE) else number for number in range(256)
)
# What is left once the operators are single bytes: digits and the closing bracket.
_SINGLE = bytes(
    number
    if number in range(trees.MIN, trees.CLOSE)
    else trees.CLOSE
    if number == ord("]")
    else trees.ZERO + number - ord("0")
    if ord("0") <= number <= ord("9")
    else trees.UNKNOWN
    for number in range(256)
)


def encode(source: bytes) -> bytes:
    """Return the token ids of an expression in the released text form.

    Blanks and round brackets are dropped wherever they are, closing square brackets kept. Unknown
    text gives unknown ids.
    """
    # Two thirds of the text are blanks and round brackets: without them first, the rest is fast.
    source = source.translate(_WITHOUT_IDS, b"() ")
    for name, token in _OPERATORS:
        source = source.replace(name, token)
    return source.translate(_SINGLE)


def _read_tsv(member: Member, progress: ProgressCallback = ignore_progress) -> Iterator[Chunk]:
    """Read a released file, a thousand lines at a time.

    Raises:
        UserError: A line is not an expression and its value; the text names it.
    """
    header = member.file.readline(_MAX_LINE_BYTES)
    if header.rstrip(b"\r\n") != b"Source\tTarget":
        raise UserError(
            f"{member.place} is not a ListOps file: its first line is {header[:40]!r}, "
            f"expected 'Source<TAB>Target'"
        )
    rows: list[tuple[bytes, int]] = []
    number, done = 1, len(header)
    while line := member.file.readline(_MAX_LINE_BYTES):
        number += 1
        done += len(line)
        if len(line) == _MAX_LINE_BYTES:
            raise UserError(
                f"{member.place}, line {number}: it is longer than {_MAX_LINE_BYTES:,} bytes; the "
                f"file is not what its name says, get it again"
            )
        columns = line.rstrip(b"\r\n").split(b"\t")
        if len(columns) != 2 or not (len(columns[1]) == 1 and columns[1].isdigit()):
            raise UserError(
                f"{member.place}, line {number}: expected an expression, a tab and a digit; the "
                f"file may be cut short, get it again"
            )
        rows.append((encode(columns[0]), int(columns[1])))
        if len(rows) == 1000:
            yield _chunk_of(rows, member.place, number - len(rows) + 1)
            rows = []
            progress(Progress(f"reading {member.name} [bytes]", done, member.size))
    if rows:
        yield _chunk_of(rows, member.place, number - len(rows) + 1)
    elif number == 1:
        raise UserError(f"{member.place} holds no examples; get it again")


def _chunk_of(rows: list[tuple[bytes, int]], place: str, first_line: int) -> Chunk:
    tokens = np.frombuffer(b"".join(source for source, _ in rows), np.uint8)
    lengths = np.array([len(source) for source, _ in rows], np.int64)
    labels = np.array([label for _, label in rows], np.int64)
    values = trees.evaluate(tokens, np.concatenate(([0], np.cumsum(lengths))))
    wrong = np.flatnonzero(values != labels)
    if len(wrong):
        at = int(wrong[0])
        found = "it is not a well-formed expression"
        if values[at] >= 0:
            found = f"the expression is worth {values[at]}, the file says {labels[at]}"
        raise UserError(
            f"{place}, line {first_line + at}: {found}; the file may be cut short or edited, "
            f"get it again"
        )
    return Chunk(tokens, lengths, labels)
