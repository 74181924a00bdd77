"""Retrieval: are two papers linked by a citation? The ACL Anthology Network, byte by byte.

Source: Radev et al., Language Resources and Evaluation 2013; as a task for long sequences,
arXiv 2011.04006.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import DataInfo, Example, Progress, ProgressCallback, Split, ignore_progress
from lra_tasks import _bytes
from lra_tasks._options import check_length
from lra_tasks._released_tsv import ReleasedFiles
from lra_tasks._sources import RELEASE_URL, Member, RawFiles
from lra_tasks._store import Layout
from lra_tasks.cached_task import CachedTask, Chunk, Source, Writer

# Raised when the same files would give other bytes.
ENCODING_VERSION = 1
# The released code cuts documents to this before anything else [bytes].
MAX_DOCUMENT_BYTES = 10_000

OFFICIAL_COUNTS: dict[Split, int] = {"train": 147_086, "validation": 18_090, "test": 17_437}
RELEASED = ReleasedFiles(
    folder="tsv_data",
    names={
        "train": "new_aan_pairs.train.tsv",
        "validation": "new_aan_pairs.eval.tsv",
        "test": "new_aan_pairs.test.tsv",
    },
    counts=OFFICIAL_COUNTS,
    counts_source=" (the release states no numbers; these are from later literature)",
)
ANSWERS = ("no citation between the two", "one cites the other")

# Far above any paper; what is longer is no file of lines.
MAX_LINE_BYTES = 64 << 20
_NUM_COLUMNS = 5
_NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# A text without bytes would be an input without tokens.
_EMPTY_DOCUMENT = b" "
_REMEDY = "the file may be cut short or edited, get it again"


class Retrieval(CachedTask[RawFiles]):
    """Pairs of papers as bytes; id = byte + 1, 0 is padding.

    Reads the released files as the released code does: quotes have no meaning, documents are cut
    to 10,000 bytes, and the file ``eval`` is the validation split. An empty document becomes a
    single blank; the details say how many there were.

    The balance of the classes has never been stated, so that nothing is said of the baseline
    beforehand; a record holds the value counted on the test split.

    Args:
        data_dir: Folder of the released files, of the unpacked release, or of its archive.
        cache_dir: Folder of prepared data.
        max_length: Documents are cut to this [bytes].
        released: What the released files are.

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        max_length: int = 4_000,
        released: ReleasedFiles = RELEASED,
    ) -> None:
        check_length(
            max_length,
            most=MAX_DOCUMENT_BYTES,
            why=", to which the documents are cut in any case",
        )
        self.spec = _bytes.spec_of(
            "retrieval", max_length=max_length, majority_baseline=None, num_inputs=2
        )
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.released = released

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin="ACL Anthology Network, released TSV files",
            terms="texts may not be redistributed; cite Radev et al. 2013",
            num_examples=self.released.counts,
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: both texts, and what the label means."""
        return _bytes.pair_of(example.inputs, ANSWERS[int(example.target)])

    def layout(self) -> Layout:
        """See `CachedTask.layout`: bytes as they are."""
        return Layout.of(self.spec, first_id=_bytes.FIRST_ID)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": ENCODING_VERSION}

    def source(self) -> Source[RawFiles] | None:
        """See `CachedTask.source`."""
        return self.released.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        raise UserError(
            f"the AAN files ({', '.join(self.released.names.values())}) are not in "
            f"{self.data_dir}; put them, the unpacked lra_release or its archive (from "
            f"{RELEASE_URL}) there, or name another folder with data_dir="
        )

    def encode(
        self, source: Source[RawFiles], writer: Writer, progress: ProgressCallback
    ) -> DataInfo:
        """See `CachedTask.encode`."""
        reader = TsvReader()
        info = self.released.encode(source.files, writer, reader.read, progress)
        details = dict(info.details) | {"empty_documents": f"{reader.num_empty:,}"}
        return replace(info, details=details)


class TsvReader:
    """Reads released files, and counts the empty documents in them.

    Args:
        max_line_bytes: What is longer is no line.
        chunk_bytes: What is gathered at least before it is written.
    """

    def __init__(
        self, *, max_line_bytes: int = MAX_LINE_BYTES, chunk_bytes: int = _bytes.CHUNK_BYTES
    ) -> None:
        self.num_empty = 0
        self._max_line_bytes = max_line_bytes
        self._chunk_bytes = chunk_bytes

    def read(self, member: Member, progress: ProgressCallback = ignore_progress) -> Iterator[Chunk]:
        """Yield the pairs of a file, a few megabytes at a time.

        Raises:
            UserError: A line is no pair of documents; the text names it.
        """
        return _bytes.chunks_of(self._pairs(member, progress), chunk_bytes=self._chunk_bytes)

    def _pairs(self, member: Member, progress: ProgressCallback) -> Iterator[_bytes.Row]:
        number = done = reported = 0
        most = self._max_line_bytes
        while line := member.file.readline(most):
            number += 1
            done += len(line)
            place = f"{member.place}, line {number}"
            if len(line) == most and not line.endswith(b"\n"):
                raise UserError(f"{place}: it is longer than {most:,} bytes; {_REMEDY}")
            (first, second), label = _parse(line, place)
            self.num_empty += (not first) + (not second)
            yield (first or _EMPTY_DOCUMENT, second or _EMPTY_DOCUMENT), label
            if done - reported >= 1 << 22:
                reported = done
                progress(Progress(f"reading {member.name} [bytes]", done, member.size))
        if not number:
            raise UserError(f"{member.place} holds no examples; get it again")


def _parse(line: bytes, place: str) -> tuple[tuple[bytes, bytes], int]:
    """Return both documents and the label of a line.

    Raises:
        UserError: It has another form.
    """
    # Nothing else than tabs and the end of the line has a meaning, quotes have none.
    columns = line.removesuffix(b"\n").removesuffix(b"\r").split(b"\t", _NUM_COLUMNS)
    if len(columns) != _NUM_COLUMNS:
        number = "more" if len(columns) > _NUM_COLUMNS else str(len(columns))
        raise UserError(
            f"{place}: expected a label, two names and two documents, separated by tabs, which "
            f"are {_NUM_COLUMNS} columns, found {number}; {_REMEDY}"
        )
    label = columns[0]
    if not _NUMBER.fullmatch(label) or float(label) not in (0.0, 1.0):
        shown = label[:40].decode("ascii", "backslashreplace")
        raise UserError(f"{place}: the label is {shown!r}, expected 0 or 1; {_REMEDY}")
    documents = columns[3][:MAX_DOCUMENT_BYTES], columns[4][:MAX_DOCUMENT_BYTES]
    return documents, int(float(label))
