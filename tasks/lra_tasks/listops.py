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
    DataInfo,
    Example,
    Progress,
    ProgressCallback,
    Split,
    TaskSpec,
    Verification,
    ignore_progress,
)
from lra_tasks import _listops_trees as trees
from lra_tasks._options import check_choice, check_counts, check_seed
from lra_tasks._parallel import in_order, num_cores
from lra_tasks._released_tsv import ReleasedFiles
from lra_tasks._sources import Member, RawFiles
from lra_tasks._store import ChunkStream
from lra_tasks.cached_task import CachedTask, Chunk, Source, Writer

# Raised when the same options would give other bytes.
GENERATOR_VERSION = 1
# Raised when the same files would give other bytes.
ENCODING_VERSION = 1

Origin = Literal["generated", "official"]
RELEASED = ReleasedFiles(
    folder="listops-1000",
    names={
        "train": "basic_train.tsv",
        "validation": "basic_val.tsv",
        "test": "basic_test.tsv",
    },
    counts={"train": 96_000, "validation": 2_000, "test": 2_000},
)
# A published line has 14 KB at most.
_MAX_LINE_BYTES = 1 << 20
# Share of the most frequent label under the published distribution, pooled over 200,000 examples.
_MAJORITY_BASELINE = 0.168


class ListOps(CachedTask[RawFiles | None]):
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
        released: What the released files are.
        num_workers: Processes that draw; None for one a core, where that is worth it.

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
        released: ReleasedFiles = RELEASED,
        num_workers: int | None = None,
    ) -> None:
        counts: dict[Split, int] = {
            "train": num_train,
            "validation": num_validation,
            "test": num_test,
        }
        check_choice("source", source, get_args(Origin))
        check_counts(counts)
        check_seed(seed)
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
        self.origin = source
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.counts = counts
        self.seed = seed
        self.shape = trees.Shape(min_length, max_length, max_depth, max_args)
        self.released = released
        self.num_workers = num_workers

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        if self.origin == "generated":
            return DataInfo("generated here", "none needed", self.counts)
        return DataInfo("released TSV files", "Apache-2.0 (the benchmark's)", self.released.counts)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        if self.origin == "official":
            return {"source": "official", "version": ENCODING_VERSION}
        return {
            "version": GENERATOR_VERSION,
            "seed": self.seed,
            "counts": self.counts,
            "shape": vars(self.shape),
        }

    def source(self) -> Source[RawFiles | None] | None:
        """See `CachedTask.source`."""
        if self.origin == "generated":
            return Source("generated", None)
        return self.released.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        names = ", ".join(self.released.names.values())
        raise UserError(
            f"the official ListOps files ({names}) are not in {self.data_dir}; put them, "
            f"the unpacked lra_release or its archive there, name another folder with "
            f"data_dir=, or use task.source=generated"
        )

    def encode(
        self, source: Source[RawFiles | None], writer: Writer, progress: ProgressCallback
    ) -> DataInfo:
        """See `CachedTask.encode`: draw the expressions, or encode the released files."""
        if source.files is not None:
            return self.released.encode(source.files, writer, read_tsv, progress)
        # One stream of distinct expressions, cut into the splits, as the published code does.
        stream = ChunkStream(self._draw_distinct(progress))
        for split in SPLITS:
            writer.add(split, stream.take(self.counts[split]))
        return DataInfo(source=f"generated, seed {self.seed}, generator {GENERATOR_VERSION}")

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, and every expression is evaluated again."""
        yield from super().verify()
        cache = self.cache()
        for split in SPLITS:
            try:
                examples = cache.examples(split, max_length=1 << 62)
            except UserError as error:
                yield Verification(f"{split}: labels", str(error))
                continue
            wrong = 0
            for start in range(0, len(examples), 1000):
                stop = min(start + 1000, len(examples))
                portion = [examples[number] for number in range(start, stop)]
                lengths = [len(example.inputs[0]) for example in portion]
                values = trees.evaluate(
                    np.concatenate([example.inputs[0] for example in portion]),
                    np.concatenate(([0], np.cumsum(lengths))),
                )
                wrong += int((values != [example.target for example in portion]).sum())
            problem = f"{wrong} labels are not the value of their expression" if wrong else None
            yield Verification(f"{split}: labels", problem)

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the expression as it is written, closing brackets as ``]``."""
        names = ["", *trees.TOKENS, "?"]
        names[trees.CLOSE] = "]"
        return " ".join(names[token] for token in example.inputs[0])

    def _draw_distinct(self, progress: ProgressCallback) -> Iterator[Chunk]:
        """Draw exactly as many distinct expressions as are asked for, in an order of their own.

        Raises:
            UserError: The shape allows too few expressions.
        """
        total = sum(self.counts.values())
        # A few shards are done sooner than a process starts.
        num_workers = self.num_workers or num_cores()
        draw = partial(_draw_shard, self.seed, self.shape)
        shards = in_order(draw, count(), num_workers=1 if total < 5_000 else num_workers)
        seen: set[bytes] = set()
        barren = 0
        for tokens, offsets, labels in shards:
            kept = np.zeros(len(labels), np.bool_)
            for number, (start, stop) in enumerate(pairwise(offsets)):
                digest = hashlib.blake2b(tokens[start:stop].tobytes(), digest_size=16).digest()
                kept[number] = len(seen) < total and digest not in seen
                if kept[number]:
                    seen.add(digest)
            barren = 0 if kept.any() else barren + 1
            if barren > 100:
                raise UserError(
                    f"found only {len(seen):,} of {total:,} distinct expressions with "
                    f"{self.shape}; allow more lengths, or ask for fewer examples"
                )
            lengths = np.diff(offsets)
            progress(Progress("drawing expressions", len(seen), total))
            yield Chunk(tokens[np.repeat(kept, lengths)], lengths[kept], labels[kept])
            if len(seen) == total:
                return


def _draw_shard(
    seed: int, shape: trees.Shape, shard: int
) -> tuple[trees.Tokens, trees.Offsets, NDArray[np.int64]]:
    tokens, offsets = trees.draw(seed, shard, shape)
    return tokens, offsets, trees.evaluate(tokens, offsets)


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


def read_tsv(member: Member, progress: ProgressCallback = ignore_progress) -> Iterator[Chunk]:
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
            yield chunk_of(rows, member.place, number - len(rows) + 1)
            rows = []
            progress(Progress(f"reading {member.name} [bytes]", done, member.size))
    if rows:
        yield chunk_of(rows, member.place, number - len(rows) + 1)
    elif number == 1:
        raise UserError(f"{member.place} holds no examples; get it again")


def chunk_of(rows: list[tuple[bytes, int]], place: str, first_line: int) -> Chunk:
    """Return encoded expressions and their values for writing; every one is evaluated again.

    Args:
        rows: Ids (see `encode`) and the value that is said of them.
        place: How to name the file to a person.
        first_line: Number of the first one's line.

    Raises:
        UserError: One is no expression, or worth something else.
    """
    tokens = np.frombuffer(b"".join(source for source, _ in rows), np.uint8)
    lengths = np.array([len(source) for source, _ in rows], np.int64)
    labels = np.array([label for _, label in rows], np.int64)
    values = trees.evaluate(tokens, np.concatenate(([0], np.cumsum(lengths))))
    wrong = np.flatnonzero(values != labels)
    if len(wrong):
        row = int(wrong[0])
        problem = "it is not a well-formed expression"
        if values[row] >= 0:
            problem = f"the expression is worth {values[row]}, the file says {labels[row]}"
        raise UserError(
            f"{place}, line {first_line + row}: {problem}; the file may be cut short or edited, "
            f"get it again"
        )
    return Chunk(tokens, lengths, labels)
