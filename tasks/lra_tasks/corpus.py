"""A corpus: documents of which nothing is asked, to train an encoder on before it has a task."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, ProgressCallback, Split
from lra_tasks import _documents, _test_texts
from lra_tasks._corpus_splits import Entry, divide
from lra_tasks._documents import Index, Place
from lra_tasks._options import check_choice, check_length, check_seed
from lra_tasks._same_text import key_of
from lra_tasks._spool import Spool, spooling
from lra_tasks._store import FlatExamples
from lra_tasks._symbols_task import SymbolsTask
from lra_tasks._test_texts import TestTexts
from lra_tasks.cached_task import Source, Writer

# Raised when the same documents and options would give other ids.
PREPARATION_VERSION = 1
DOCUMENTS = ("packed", "cut")
PARTS = ("index", "content")
ON_OVERLAP = ("drop", "refuse")

Files = tuple[Place, tuple[TestTexts, ...]]


class Corpus(SymbolsTask[Files]):
    """Documents as bytes or as pieces of a vocabulary, in sequences of one length.

    Behind each document stands a separator. ``packed`` goes through all documents of a split and
    cuts every ``max_length`` tokens; ``cut`` cuts each document alone, into as few pieces as
    possible, of about one length. Both read the same prepared data.

    Copies of a text (letters and digits compared) are all in one split, and so is an author, where
    an ``index.tsv`` or the lines of a file name one.

    Args:
        data_dir: What ``path`` is relative to.
        cache_dir: Folder of prepared data.
        path: A folder, an archive (.tar.gz, .tar.xz, .tar, .zip) or a file (.jsonl with ``text``).
        include: Which files in it, as a shell writes it; ``*`` stands for slashes, too.
        tokens: ``bytes``, or ``bpe``, pieces of a vocabulary.
        vocab_size: Ids with ``bpe``, padding and separator among them.
        vocabulary: A file, or a folder of prepared data that has one; empty to learn it on the
            training documents.
        documents: ``packed`` or ``cut``.
        max_length: Tokens of a sequence.
        parts: ``index`` keeps to the parts and authors that are named, where they are; ``content``
            divides by the content alone.
        validation_share: Of the documents or authors, where no parts are named.
        test_share: Likewise.
        seed: Of the order, and of this division.
        exclude: Tasks whose test texts must not be in it, or paths of such texts.
        on_overlap: What to do with documents that are such a text: ``drop`` or ``refuse``.
        documents_sha256: That of all documents, where it is known; another one is warned of.

    Raises:
        UserError: A value is not possible.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        path: str = "",
        include: str = "*",
        tokens: str = "bytes",
        vocab_size: int = 4_096,
        vocabulary: str = "",
        documents: str = "packed",
        max_length: int = 1_024,
        parts: str = "index",
        validation_share: float = 0.05,
        test_share: float = 0.05,
        seed: int = 0,
        exclude: Sequence[str] = (),
        on_overlap: str = "drop",
        documents_sha256: str = "",
    ) -> None:
        check_choice("documents", documents, DOCUMENTS)
        check_choice("parts", parts, PARTS)
        check_choice("on_overlap", on_overlap, ON_OVERLAP)
        check_seed(seed)
        check_length(max_length)
        if max_length < 2:
            raise UserError("task.max_length=1 must be at least 2 for a corpus")
        for name, share in (("validation_share", validation_share), ("test_share", test_share)):
            if not 0 < share <= 0.4:
                raise UserError(f"task.{name}={share} must lie above 0 and be at most 0.4")
        if not include.endswith(("*", *_documents.ENDINGS)):
            raise UserError(
                f"task.include={include} matches no documents: it must end in * or in "
                f"{', '.join(_documents.ENDINGS)}"
            )
        if documents_sha256 and not re.fullmatch("[0-9a-f]{64}", documents_sha256):
            raise UserError(
                f"task.documents_sha256={documents_sha256} is not 64 hexadecimal digits"
            )
        _documents.check_path(data_dir, path, "task.path")
        _test_texts.check_names(exclude, data_dir)
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.path, self.include = path, include
        self.documents, self.parts = documents, parts
        self.shares: dict[Split, float] = {"validation": validation_share, "test": test_share}
        self.seed = seed
        self.exclude, self.on_overlap = tuple(exclude), on_overlap
        self.documents_sha256 = documents_sha256
        self.set_symbols(
            "corpus", tokens, vocab_size, vocabulary, max_length, num_classes=1, is_corpus=True
        )

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        what = f"documents of {self.path}" if self.path else "documents of your own, task.path="
        return DataInfo(origin=what, terms="those of the documents")

    def words(self) -> str:
        """See `CachedTask.words`."""
        return f"task=corpus task.path={self.path}"

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {
            "version": PREPARATION_VERSION,
            "path": self.path,
            "include": self.include,
            "parts": self.parts,
            "shares": self.shares,
            "seed": self.seed,
            "exclude": sorted(self.exclude),
            "on_overlap": self.on_overlap,
            "documents_sha256": self.documents_sha256,
            **self.symbol_options(),
        }

    def source(self) -> Source[Files] | None:
        """See `CachedTask.source`."""
        place = _documents.find(self.data_dir, self.path, self.include)
        if place is None:
            return None
        excluded = tuple(
            _test_texts.find(name, self.data_dir, self.cache_dir) for name in sorted(self.exclude)
        )
        identities = [place.identity(self.cache_dir), *(one.identity for one in excluded)]
        return Source(" ".join(identities), (place, excluded))

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        if not self.path:
            raise UserError(
                "task.path= names no documents: give a folder, an archive or a file, relative to "
                f"data_dir ({self.data_dir}) or in full"
            )
        raise UserError(
            f"task.path={self.path}: there is no {self.data_dir / self.path}; put it there, or "
            f"name another folder with data_dir="
        )

    def examples(self, split: Split) -> FlatExamples:
        """See `Task.examples`: sequences of the documents."""
        longest = self.spec.max_length
        divide = packed if self.documents == "packed" else cut
        return self.cache().examples(
            split, max_length=longest, divide=lambda offsets: divide(offsets, longest)
        )

    def info(self) -> DataInfo:
        """See `Task.info`; what is counted are sequences."""
        info = super().info()
        if self._cache is None:
            return info
        counts: dict[Split, int] = {split: len(self.examples(split)) for split in SPLITS}
        return replace(info, num_examples=counts)

    def encode(self, source: Source[Files], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        self.check_library()
        place, excluded = source.files
        with spooling(self.cache_dir) as spool:
            read = self._read(place, excluded, spool, progress)
            splits, read.seen["in several parts"] = divide(
                read.entries, seed=self.seed, shares=self.shares, where=f"task.path={self.path}"
            )
            rows: dict[Split, list[tuple[int, int]]] = {
                split: [(entry.number, 0) for entry in some] for split, some in splits.items()
            }
            details = self.write_texts(writer, spool, rows, progress, separated=True)
            for split, some in rows.items():
                size = sum(spool.size(number) for number, _ in some)
                details[f"{split}_documents"] = f"{len(some):,}, {size:,} bytes"
        content = hashlib.sha256(b"".join(sorted(read.digests))).hexdigest()
        warning = ""
        if self.documents_sha256 not in ("", content):
            warning = (
                f"{self.path} does not hold the documents that were meant: SHA-256 of their "
                f"content {content[:16]}..., expected {self.documents_sha256[:16]}..."
            )
        chosen = "" if self.include == "*" else f", {self.include}"
        return DataInfo(
            source=f"corpus {place.path.name}{chosen}",
            warning=warning,
            details=details | read.told(self.exclude) | {"documents_sha256": content},
        )

    def _read(
        self,
        place: Place,
        excluded: Sequence[TestTexts],
        spool: Spool,
        progress: ProgressCallback,
    ) -> _Read:
        """Keep the texts that may be in the corpus.

        Raises:
            UserError: There are none, two indexes, or test texts among them and these are refused.
        """
        found = _Read()
        keys = {one.name: one.keys() for one in excluded}
        indexes: list[Index] = []
        for one in place.read(progress, seen=found.seen):
            if isinstance(one, Index):
                indexes.append(one)
                continue
            key, digest = key_of(one.text), hashlib.sha256(one.text).digest()
            found.digests.append(digest)
            if whose := [name for name, some in keys.items() if key in some]:
                if self.on_overlap == "refuse":
                    raise UserError(
                        f"task.path={self.path}: {one.name} is a test text of {whose[0]}; take it "
                        f"out, or give task.on_overlap=drop"
                    )
                found.seen["test texts"] += 1
                continue
            part = one.part if self.parts == "index" else None
            author = one.author if self.parts == "index" else ""
            found.entries.append(Entry(spool.add(one.text), one.name, key, digest, author, part))
        if not found.entries:
            left = ", ".join(f"{number:,} {what}" for what, number in found.seen.items())
            raise UserError(
                f"task.path={self.path} holds no documents that could be used"
                f"{f' (left out: {left})' if left else ''}; documents are files that end in "
                f"{', '.join(_documents.ENDINGS)}"
            )
        if self.parts == "index":
            found.apply(indexes)
        return found


@dataclass
class _Read:
    """What was read of a corpus: the documents that are kept, and what was seen besides."""

    entries: list[Entry] = field(default_factory=list)
    # Of all documents, those that are left out for a task among them.
    digests: list[bytes] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def apply(self, indexes: Sequence[Index]) -> None:
        """Give the documents what an index says of them.

        Raises:
            UserError: There are two.
        """
        if len(indexes) > 1:
            raise UserError(f"{indexes[1].place} is a second index; one alone can be meant")
        for index in indexes:
            for entry in self.entries:
                entry.author = index.authors.get(entry.name, entry.author)
                entry.part = index.parts.get(entry.name, entry.part)

    def told(self, exclude: Sequence[str]) -> dict[str, str]:
        """Return what a record says of what was left out, or stands there twice."""
        copies = len(self.entries) - len({entry.key for entry in self.entries})
        details = {
            "empty_documents_left_out": f"{self.seen['empty']:,}",
            "documents_not_utf_8_left_out": f"{self.seen['not UTF-8']:,}",
            "other_files_passed_over": f"{self.seen['other files']:,}",
            "copies_of_documents": f"{copies:,}, all of one text in one split",
            "copies_in_other_parts_left_out": f"{self.seen['in several parts']:,}",
        }
        if exclude:
            names = ", ".join(sorted(exclude))
            details["test_texts_left_out"] = f"{self.seen['test texts']:,}, of {names}"
        return details


def packed(offsets: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Return where sequences begin and end that go through all documents.

    Args:
        offsets: Where documents begin and end, shape (N + 1,).
        longest: Of a sequence [tokens], at least 2.
    """
    end = int(offsets[-1])
    ends = np.append(np.arange(0, end, longest), end)
    if len(ends) > 2 and ends[-1] - ends[-2] == 1:
        # A single separator is no sequence.
        ends[-2] -= 1
    return ends


def cut(offsets: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Return the same of sequences of one document each, of as few and as equal ones as can be.

    Args:
        offsets: Where documents begin and end, shape (N + 1,).
        longest: Of a sequence [tokens], at least 2.
    """
    lengths = np.diff(offsets)
    pieces = -(-lengths // longest)
    whose = np.repeat(np.arange(len(lengths)), pieces)
    # Which piece of its document.
    at = np.arange(len(whose)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begins = offsets[whose] + at * lengths[whose] // pieces[whose]
    return np.append(begins, offsets[-1])
