"""What tasks on texts have in common whose symbols are bytes or pieces of a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import (
    SPLITS,
    Example,
    Progress,
    ProgressCallback,
    Split,
    TaskSpec,
    Verification,
    ignore_progress,
)
from lra_tasks import _bag_of_words, _bytes
from lra_tasks._options import check_choice, check_length
from lra_tasks._spool import Spool
from lra_tasks._store import Layout
from lra_tasks._vocabulary import (
    FILE_NAME,
    LEAST_SIZE,
    ByteSymbols,
    Symbols,
    Vocabulary,
    learn,
    needed_library,
    read_vocabulary,
)
from lra_tasks.cached_task import CachedTask, Chunk, Writer

Files = TypeVar("Files")
TOKENS = ("bytes", "bpe")
_MOST_IDS = 1 << 20
_REPORT_EVERY = 1_000


class SymbolsTask(CachedTask[Files]):
    """A task whose texts become bytes, or pieces of a vocabulary that is learned or given."""

    tokens: str
    vocab_size: int
    vocabulary: str
    data_dir: Path
    _given: Vocabulary | None = None
    _symbols: Symbols | None = None

    def set_symbols(
        self,
        name: str,
        tokens: str,
        vocab_size: int,
        vocabulary: str,
        max_length: int,
        **asked: Any,
    ) -> None:
        """Check the options of symbols and set ``spec``; the folders are set.

        Args:
            name: Of the task.
            tokens: ``bytes`` or ``bpe``.
            vocab_size: Ids with ``bpe``, padding and separator among them.
            vocabulary: A file or a folder of prepared data that has one, below ``cache_dir`` or
                ``data_dir``; empty to learn it.
            max_length: Longest input [tokens].
            asked: The rest of the spec.

        Raises:
            UserError: A value is not possible, or the vocabulary cannot be read.
        """
        check_choice("tokens", tokens, TOKENS)
        check_length(max_length)
        if not LEAST_SIZE <= vocab_size <= _MOST_IDS:
            raise UserError(
                f"task.vocab_size={vocab_size} must be from {LEAST_SIZE} to {_MOST_IDS:,}: all "
                f"bytes, padding and a separator"
            )
        self.tokens, self.vocab_size, self.vocabulary = tokens, vocab_size, vocabulary
        if vocabulary:
            self._given = self._read_given()
        num_ids = vocab_size if tokens == "bpe" else _bytes.VOCAB_SIZE
        self.spec = TaskSpec(name, num_ids, max_length, symbol_bytes=(), **asked)
        if tokens == "bytes":
            self._symbols = ByteSymbols()
            self._tell_bytes()

    def symbol_options(self) -> dict[str, Any]:
        """Return what of the options shapes a cache."""
        if self.tokens == "bytes":
            return {"tokens": self.tokens}
        given = None if self._given is None else self._given.sha256
        return {"tokens": self.tokens, "vocab_size": self.vocab_size, "vocabulary": given}

    def layout(self) -> Layout:
        """See `CachedTask.layout`: bytes as they are, pieces in as many bytes as they need."""
        first_id = _bytes.FIRST_ID if self.tokens == "bytes" else 0
        return Layout.of(self.spec, first_id=first_id)

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:
        """See `Task.prepare`; afterwards it is known how many bytes each id stands for."""
        super().prepare(progress)
        if self._symbols is None:
            self._symbols = self._kept_vocabulary()
            self._tell_bytes()

    def symbols(self) -> Symbols:
        """Return what turns texts into ids, prepared if it is not."""
        self.cache()
        assert self._symbols is not None, "it was prepared"
        return self._symbols

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the text."""
        return self.symbols().decode(example.inputs[0])

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`; the vocabulary is compared with its checksum, too."""
        yield from super().verify()
        if self.tokens == "bpe":
            problem = None
            try:
                self._kept_vocabulary()
            except UserError as error:
                problem = str(error)
            yield Verification("vocabulary", problem)

    def check_library(self) -> None:
        """Refuse to begin what cannot be ended.

        Raises:
            UserError: Pieces are asked for, and the library that makes them is missing.
        """
        if self.tokens == "bpe":
            needed_library()

    def write_texts(
        self,
        writer: Writer,
        spool: Spool,
        rows: Mapping[Split, Sequence[tuple[int, int]]],
        progress: ProgressCallback,
        *,
        separated: bool = False,
    ) -> dict[str, str]:
        """Learn a vocabulary of the training texts, unless it is given, and write all splits.

        Args:
            writer: Of the cache.
            spool: The texts.
            rows: Number in the spool and class of each example, by split.
            progress: Told how many texts have been encoded.
            separated: Whether a separator stands behind each text.

        Returns:
            What a record says of the symbols.
        """
        symbols: Symbols = ByteSymbols()
        details = {"tokens": "bytes"}
        if self.tokens == "bpe":
            numbers = sorted(number for number, _ in rows["train"])
            what = f"{self.words()}, training texts"
            progress(Progress("learning a vocabulary", 0, 1))
            found = self._given or learn(spool.read(numbers), self.vocab_size, what)
            writer.add_file(FILE_NAME, found.to_bytes())
            symbols = found
            details = {
                "tokens": f"pieces of a vocabulary of {found.size:,} ids",
                "vocabulary_sha256": found.sha256,
                "vocabulary_learned_on": found.learned_on,
            }
        total, done = sum(map(len, rows.values())), 0
        for split in SPLITS:
            texts = spool.read([number for number, _ in rows[split]])
            classes = [label for _, label in rows[split]]
            told = _told(symbols.encode(texts), done, total, progress)
            end = symbols.separator - symbols.first_id if separated else None
            writer.add(split, _chunks(told, classes, end))
            done += len(classes)
        return details

    def bag_of_words(
        self,
        spool: Spool,
        rows: Mapping[Split, Sequence[tuple[int, int]]],
        progress: ProgressCallback,
    ) -> dict[str, float]:
        """Return what words and pairs of words alone reach; see `_bag_of_words`."""
        progress(Progress("counting words, for comparison", 0, 1))
        texts = {
            split: (
                spool.read([number for number, _ in rows[split]]),
                [one for _, one in rows[split]],
            )
            for split in (SPLITS[0], SPLITS[-1])
        }
        found = _bag_of_words.accuracy(texts["train"], texts["test"], self.spec.num_classes)
        return {_bag_of_words.NAME: found}

    def _read_given(self) -> Vocabulary:
        """Return the vocabulary that is named.

        Raises:
            UserError: It is none, or does not fit the other options.
        """
        if self.tokens != "bpe":
            raise UserError(
                f"task.vocabulary={self.vocabulary} needs task.tokens=bpe, not {self.tokens}"
            )
        named = Path(self.vocabulary).expanduser()
        # By the name of a folder of prepared data alone, the option is the same on every machine.
        beside = self.cache_dir / named
        try:
            found = read_vocabulary(beside if beside.exists() else self.data_dir / named)
        except UserError as error:
            raise UserError(f"task.vocabulary={self.vocabulary}: {error}") from error
        if found.vocab_size != self.vocab_size:
            raise UserError(
                f"task.vocab_size={self.vocab_size}: task.vocabulary={self.vocabulary} was learned "
                f"with {found.vocab_size:,}; give task.vocab_size={found.vocab_size}"
            )
        return found

    def _kept_vocabulary(self) -> Vocabulary:
        """Return the vocabulary of the prepared data.

        Raises:
            UserError: It is damaged, or another one.
        """
        cache = self.cache()
        remedy = f"delete the folder {cache.place} and {cache.remedy}"
        try:
            found = read_vocabulary(cache.place / FILE_NAME)
        except UserError as error:
            raise UserError(f"{error}; {remedy}") from error
        if found.sha256 != cache.info.details.get("vocabulary_sha256"):
            raise UserError(f"{cache.place / FILE_NAME} is not that of these data; {remedy}")
        return found

    def _tell_bytes(self) -> None:
        assert self._symbols is not None, "they are known"
        sizes = self._symbols.bytes_of(self.spec.vocab_size)
        self.spec = replace(self.spec, symbol_bytes=sizes)


def _told(
    texts: Iterable[NDArray[Any]], done: int, total: int, progress: ProgressCallback
) -> Iterator[NDArray[Any]]:
    for number, ids in enumerate(texts, start=done):
        if number % _REPORT_EVERY == 0:
            progress(Progress("encoding [texts]", number, total))
        yield ids


def _chunks(
    texts: Iterable[NDArray[Any]], classes: Sequence[int], separator: int | None
) -> Iterator[Chunk]:
    """Gather texts and their classes, some megabytes at a time."""
    gathered: list[NDArray[Any]] = []
    lengths: list[int] = []
    num_tokens, first = 0, 0
    for ids in texts:
        gathered.append(ids)
        lengths.append(len(ids))
        if separator is not None:
            gathered.append(np.array([separator], ids.dtype))
            lengths[-1] += 1
        num_tokens += lengths[-1]
        if num_tokens >= _bytes.CHUNK_BYTES:
            yield _chunk(gathered, lengths, classes[first : first + len(lengths)])
            first += len(lengths)
            gathered, lengths, num_tokens = [], [], 0
    if lengths:
        yield _chunk(gathered, lengths, classes[first:])


def _chunk(gathered: list[NDArray[Any]], lengths: list[int], classes: Sequence[int]) -> Chunk:
    return Chunk(np.concatenate(gathered), np.array(lengths, np.int64), np.array(classes, np.int64))
