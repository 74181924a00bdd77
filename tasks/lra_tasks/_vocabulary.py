"""Texts as ids: bytes, or a vocabulary of pieces that is learned (byte-level BPE).

Sources: byte pairs, Sennrich et al., ACL 2016; on bytes, Radford et al. 2019. The library
``tokenizers`` learns and encodes; what is kept is the list of merges, which is all that it learned,
in a file that carries its own checksum.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.files import reason
from lra_tasks import _bytes

FILE_NAME = "vocabulary.json"
KIND = "byte-level BPE, version 1"
# Of a vocabulary: 0 pads, and this stands behind a document. Pieces follow.
SEPARATOR, FIRST_PIECE = 1, 2
LEAST_SIZE = FIRST_PIECE + 256
# No byte of UTF-8; so the ids of bytes are the same, whether documents are joined or not.
SEPARATING_BYTE = 255
_SHOWN_SEPARATOR = b"\n=====\n"
# What is encoded at once: memory is taken for so many bytes and their pieces.
_BATCH_BYTES = 4 << 20
# Longer texts are cut where the pieces are the same on both sides: no piece has a blank but at
# its beginning, and none goes from a visible character to a blank.
_CUT_BYTES = 1 << 16
_CUT = re.compile(r"(?<=[!-~])[ \n]")


class Symbols(ABC):
    """What turns texts into ids and back; an id is what is stored and ``first_id`` together."""

    first_id: int
    separator: int

    @abstractmethod
    def encode(self, texts: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        """Yield the ids of each text, less ``first_id``, shape (T,)."""

    @abstractmethod
    def bytes_of(self, vocab_size: int) -> tuple[int, ...]:
        """Return how many bytes of text each id stands for; see `TaskSpec.symbol_bytes`."""

    @abstractmethod
    def decode(self, ids: NDArray[Any]) -> str:
        """Return the text of ids; a character that was cut in two is shown as such."""


class ByteSymbols(Symbols):
    """The ids of `_bytes`, of which that of byte 255 separates documents."""

    first_id = _bytes.FIRST_ID
    separator = SEPARATING_BYTE + _bytes.FIRST_ID

    def encode(self, texts: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        """See `Symbols.encode`."""
        for text in texts:
            yield np.frombuffer(text, np.uint8)

    def bytes_of(self, vocab_size: int) -> tuple[int, ...]:
        """See `Symbols.bytes_of`."""
        return (*_bytes.SYMBOL_BYTES[: self.separator], 0)

    def decode(self, ids: NDArray[Any]) -> str:
        """See `Symbols.decode`."""
        text = bytes((ids.astype(np.int64) - _bytes.FIRST_ID).tolist())
        parts = text.split(bytes([SEPARATING_BYTE]))
        return _SHOWN_SEPARATOR.join(parts).decode("utf-8", errors="replace")


class Vocabulary(Symbols):
    """Pieces of text, each made of two that were there before.

    Args:
        merges: The two, in the order in which they were learned; a character stands for a byte.
        vocab_size: Ids that were asked for; short texts give fewer pieces than that.
        learned_on: What it was learned on, in words.
    """

    first_id = 0
    separator = SEPARATOR

    def __init__(
        self, merges: Sequence[tuple[str, str]], *, vocab_size: int, learned_on: str
    ) -> None:
        self.merges = tuple(merges)
        self.vocab_size = vocab_size
        self.learned_on = learned_on
        self._pieces = dict.fromkeys([_CHARACTERS[byte] for byte in range(256)])
        for first, second in self.merges:
            self._pieces[first + second] = None
        byte_of = {character: byte for byte, character in _CHARACTERS.items()}
        self._texts = [b"", _SHOWN_SEPARATOR]
        self._texts += [bytes(map(byte_of.__getitem__, piece)) for piece in self._pieces]

    @property
    def size(self) -> int:
        """Ids that there are, padding and separator among them."""
        return len(self._texts)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of what makes the ids."""
        return _checksum(self._content())

    def encode(self, texts: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        """See `Symbols.encode`; many at once, on all cores that the library takes.

        Raises:
            UserError: The library is missing.
        """
        tokenizer = self._tokenizer()
        with _parallel():
            for batch in _batches(texts):
                yield from _encoded(tokenizer, batch)

    def bytes_of(self, vocab_size: int) -> tuple[int, ...]:
        """See `Symbols.bytes_of`; ids that stand for nothing have none."""
        pieces = tuple(map(len, self._texts[FIRST_PIECE:]))
        return ((0,) * FIRST_PIECE + pieces + (0,) * vocab_size)[:vocab_size]

    def decode(self, ids: NDArray[Any]) -> str:
        """See `Symbols.decode`."""
        text = b"".join(self._texts[number] for number in ids.tolist())
        return text.decode("utf-8", errors="replace")

    def to_bytes(self) -> bytes:
        """Return the file."""
        content = self._content()
        content |= {"learned_on": self.learned_on, "sha256": _checksum(content)}
        return json.dumps(content, ensure_ascii=False, indent=0).encode()

    def _content(self) -> dict[str, Any]:
        merges = [list(pair) for pair in self.merges]
        return {"kind": KIND, "vocab_size": self.vocab_size, "merges": merges}

    def _tokenizer(self) -> Any:
        library = needed_library()
        ids = {piece: number for number, piece in enumerate(self._pieces, start=FIRST_PIECE)}
        tokenizer = library.Tokenizer(library.models.BPE(vocab=ids, merges=list(self.merges)))
        tokenizer.pre_tokenizer = _divided_first(library)
        return tokenizer


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary: its file, or the folder of prepared data that has it.

    Raises:
        UserError: It cannot be read, is no vocabulary, or does not fit its checksum.
    """
    path = path / FILE_NAME if path.is_dir() else path
    remedy = "prepare the task that it is of again, or name another"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, wanted = content["kind"], content.pop("sha256")
        learned_on = content.pop("learned_on")
        merges = [(first, second) for first, second in content["merges"]]
        one = Vocabulary(merges, vocab_size=int(content["vocab_size"]), learned_on=str(learned_on))
    except OSError as error:
        raise UserError(f"cannot read the vocabulary {path}: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no vocabulary of this program; {remedy}") from error
    if kind != KIND:
        raise UserError(f"the vocabulary {path} is {kind!r:.60}, expected {KIND!r}; {remedy}")
    if _checksum(content) != wanted or one.size > one.vocab_size:
        raise UserError(f"the vocabulary {path} does not fit its checksum; {remedy}")
    return one


def learn(texts: Iterable[bytes], vocab_size: int, learned_on: str) -> Vocabulary:
    """Learn a vocabulary; a function of the texts alone, whatever their order.

    Args:
        texts: UTF-8, read once.
        vocab_size: Ids, padding and separator among them, at least `LEAST_SIZE`.
        learned_on: What the texts are, in words.

    Raises:
        UserError: The library is missing.
    """
    library = needed_library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = _divided_first(library)
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size - FIRST_PIECE,
        initial_alphabet=list(_CHARACTERS.values()),
        special_tokens=[],
        min_frequency=2,
        show_progress=False,
    )
    with _parallel():
        pieces = (piece for text in texts for piece in _cut(text.decode()))
        tokenizer.train_from_iterator(pieces, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [(first, second) for first, second in merges]
    return Vocabulary(pairs, vocab_size=vocab_size, learned_on=learned_on)


def needed_library() -> Any:
    """Return the library.

    Raises:
        UserError: It is missing.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "task.tokens=bpe needs the package tokenizers, which is not installed: pip install "
            '"lra_bench[corpus]", or take task.tokens=bytes where the task has it'
        ) from error
    return tokenizers


def _divided_first(library: Any) -> Any:
    """Return what divides a text into words, signs and blanks; no piece crosses their borders."""
    return library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _checksum(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _characters() -> dict[int, str]:
    """Return the character that stands for each byte: itself where it is visible and Latin-1."""
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {
        byte: chr(0x100 + at) for at, byte in enumerate(hidden)
    }


_CHARACTERS = _characters()


@contextmanager
def _parallel() -> Iterator[None]:
    """Let the library take all cores, unless the user has said something else.

    Once it has, it complains of every process that is forked, unless it is told what to do there.
    """
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = before or "true"
    try:
        yield
    finally:
        os.environ[name] = before or "false"


def _cut(text: str) -> Iterator[str]:
    """Yield a text in parts that are encoded as if they were one."""
    start = 0
    while len(text) - start > _CUT_BYTES:
        place = _CUT.search(text, start + _CUT_BYTES)
        if place is None:
            break
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]


def _batches(texts: Iterable[bytes]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_bytes = 0
    for text in texts:
        batch.append(text.decode())
        num_bytes += len(text)
        if num_bytes >= _BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _encoded(tokenizer: Any, texts: list[str]) -> Iterator[NDArray[Any]]:
    """Yield the ids of each text; many parts of one or of many texts go to the library at once."""
    parts: list[str] = []
    ends = []
    for text in texts:
        parts += _cut(text)
        ends.append(len(parts))
    found = tokenizer.encode_batch_fast(parts, add_special_tokens=False)
    start = 0
    for end in ends:
        ids = [np.array(one.ids, np.uint32) for one in found[start:end]]
        yield ids[0] if len(ids) == 1 else np.concatenate(ids)
        start = end
