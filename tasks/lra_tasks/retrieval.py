"""Retrieval: are two papers linked by a citation? The ACL Anthology Network, byte by byte.

Source: Radev et al., Language Resources and Evaluation 2013; as a task for long sequences,
arXiv 2011.04006.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import About, Example, Progress, ProgressCallback, Split, ignore_progress
from lra_tasks import _pairs
from lra_tasks._cache import CachedTask, Chunk, writing
from lra_tasks._pairs import Pair
from lra_tasks._released import ReleasedFiles
from lra_tasks._sources import RELEASE_URL, Member

# Raised when the same files would give other bytes.
ENCODING_VERSION = 1
# The released code cuts documents to this before anything else [bytes].
MAX_DOCUMENT_BYTES = 10_000

OFFICIAL_COUNTS: dict[Split, int] = {"train": 147_086, "validation": 18_090, "test": 17_437}
FILES = ReleasedFiles(
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
_MAX_LINE_BYTES = 64 << 20
_NUM_COLUMNS = 5
_NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# A text without bytes would be an input without tokens.
_EMPTY_DOCUMENT = b" "


class Retrieval(CachedTask):
    """Pairs of papers as bytes; id = byte + 1, 0 is padding.

    Reads the released files as the released code does: quotes have no meaning, documents are cut
    to 10,000 bytes, and the file ``eval`` is the validation split. An empty document becomes a
    single blank; the provenance says how many there were.

    The balance of the classes has never been stated, so that nothing is said of the baseline
    beforehand; a record holds the value counted on the test split.

    Args:
        data_dir: Folder of the released files, of the unpacked release, or of its archive.
        cache_dir: Folder of prepared data.
        max_length: Documents are cut to this [bytes].

    Raises:
        UserError: A number is out of range.
    """

    def __init__(self, *, data_dir: Path, cache_dir: Path, max_length: int = 4_000) -> None:
        if not 1 <= max_length <= MAX_DOCUMENT_BYTES:
            raise UserError(
                f"task.max_length={max_length} must be from 1 to {MAX_DOCUMENT_BYTES:,}, to which "
                f"the documents are cut in any case"
            )
        self.spec = _pairs.spec_of("retrieval", max_length, None)
        self.data_dir = data_dir
        self.cache_dir = cache_dir

    def about(self) -> About:
        """See `Task.about`."""
        return About(
            "ACL Anthology Network, released TSV files",
            "texts may not be redistributed; cite Radev et al. 2013",
            OFFICIAL_COUNTS,
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: both texts, and what the label means."""
        return _pairs.decode(example, ANSWERS)

    def _options(self) -> dict[str, Any]:
        return {"version": ENCODING_VERSION}

    def _place(self) -> Path | None:
        identity = FILES.identity(self.data_dir, self.cache_dir)
        return None if identity is None else self._place_for(identity)

    def _fetch(self) -> None:
        raise UserError(
            f"the AAN files ({', '.join(FILES.names.values())}) are not in {self.data_dir}; "
            f"put them, the unpacked lra_release or its archive (from {RELEASE_URL}) there, "
            f"or name another folder with data_dir="
        )

    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        reader = _Reader()
        with writing(place, num_inputs=2, first_id=_pairs.FIRST_ID) as cache:
            FILES.fill(cache, self.data_dir, reader.read, progress)
            cache.facts["options"] = self._options()
            cache.facts["details"]["empty_documents"] = f"{reader.num_empty:,}"


class _Reader:
    """Reads released files, and counts the empty documents in them."""

    def __init__(self) -> None:
        self.num_empty = 0

    def read(self, member: Member, progress: ProgressCallback = ignore_progress) -> Iterator[Chunk]:
        """Yield the pairs of a file, a few megabytes at a time.

        Raises:
            UserError: A line is no pair of documents; the text names it.
        """
        return _pairs.chunks_of(self._pairs(member, progress))

    def _pairs(self, member: Member, progress: ProgressCallback) -> Iterator[Pair]:
        number = done = reported = 0
        while line := member.file.readline(_MAX_LINE_BYTES):
            number += 1
            done += len(line)
            first, second, label = _parse(line, f"{member.place}, line {number}")
            self.num_empty += (not first) + (not second)
            yield first or _EMPTY_DOCUMENT, second or _EMPTY_DOCUMENT, label
            if done - reported >= 1 << 22:
                reported = done
                progress(Progress(f"reading {member.name} [bytes]", done, member.size))
        if not number:
            raise UserError(f"{member.place} holds no examples; get it again")


def _parse(line: bytes, where: str) -> Pair:
    """Return both documents and the label of a line.

    Raises:
        UserError: It has another form.
    """
    remedy = "the file may be cut short or edited, get it again"
    if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
        raise UserError(f"{where}: it is longer than {_MAX_LINE_BYTES:,} bytes; {remedy}")
    # Nothing else than tabs and the end of the line has a meaning, quotes have none.
    columns = line.removesuffix(b"\n").removesuffix(b"\r").split(b"\t", _NUM_COLUMNS)
    if len(columns) != _NUM_COLUMNS:
        found = "more" if len(columns) > _NUM_COLUMNS else str(len(columns))
        raise UserError(
            f"{where}: expected a label, two names and two documents, separated by tabs, which "
            f"are {_NUM_COLUMNS} columns, found {found}; {remedy}"
        )
    label = columns[0]
    if not _NUMBER.fullmatch(label) or float(label) not in (0.0, 1.0):
        shown = label[:40].decode("ascii", "backslashreplace")
        raise UserError(f"{where}: the label is {shown!r}, expected 0 or 1; {remedy}")
    return columns[3][:MAX_DOCUMENT_BYTES], columns[4][:MAX_DOCUMENT_BYTES], int(float(label))
