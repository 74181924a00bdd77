"""Prepared data: one flat file of tokens a split, memory-mapped, with a manifest.

A cache is a folder. It appears whole or not at all: it is written beside its place and renamed,
so that a reader never sees a part and two writers at once do no harm (the second finds the place
taken and drops its copy).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import (
    SPLITS,
    Example,
    ProgressCallback,
    Split,
    Task,
    Verification,
    ignore_progress,
)

FORMAT = 2
_MANIFEST = "manifest.json"
_ABANDONED_AFTER_SECONDS = 86_400
# Drawn images are worth more than a draft: the next call goes on from them.
_FORGOTTEN_AFTER_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class Chunk:
    """Some consecutive examples of a split.

    Args:
        tokens: Token ids of all of them one after the other, less the cache's ``first_id``, below
            256; the inputs of an example follow each other.
        lengths: Tokens of each, shape (N,), or (N, I) where an example has I inputs.
        labels: Classes, shape (N,).
    """

    tokens: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


class ChunkStream:
    """Hands out the examples of a stream of chunks in portions of exact size."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest: Chunk | None = None

    def take(self, number: int) -> Iterator[Chunk]:
        while number:
            chunk = self._rest if self._rest is not None else next(self._chunks)
            first, self._rest = _split(chunk, number)
            number -= len(first.labels)
            yield first


def _split(chunk: Chunk, number: int) -> tuple[Chunk, Chunk | None]:
    if len(chunk.labels) <= number:
        return chunk, None
    at = int(chunk.lengths[:number].sum())
    return (
        Chunk(chunk.tokens[:at], chunk.lengths[:number], chunk.labels[:number]),
        Chunk(chunk.tokens[at:], chunk.lengths[number:], chunk.labels[number:]),
    )


class FlatExamples:
    """The examples of a split, read from a memory map.

    Args:
        tokens: All tokens, shape (T,).
        offsets: Where each input begins, and the end of the last, shape (N * I + 1,).
        labels: Shape (N,).
        num_inputs: I.
        max_length: Inputs are cut to this [tokens].
        first_id: Added to every token.
    """

    def __init__(
        self,
        tokens: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        labels: NDArray[np.int64],
        *,
        num_inputs: int,
        max_length: int,
        first_id: int = 0,
    ) -> None:
        self._tokens = tokens
        # Plain lists: indexing an array for one number costs ten times as much.
        self._start = offsets[:-1].tolist()
        self._stop = np.minimum(offsets[1:], offsets[:-1] + max_length).tolist()
        self._labels = labels.tolist()
        self._num_inputs = num_inputs
        self._first_id = np.uint16(first_id)
        lengths = np.minimum(np.diff(offsets), max_length)
        self._lengths: NDArray[np.int64] = lengths.reshape(-1, num_inputs).max(axis=1, initial=0)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Example:
        label = self._labels[index]
        if self._num_inputs == 1 and not self._first_id:
            return Example((self._tokens[self._start[index] : self._stop[index]],), label)
        first = (index if index >= 0 else index + len(self)) * self._num_inputs
        spans = range(first, first + self._num_inputs)
        inputs = tuple(self._tokens[self._start[at] : self._stop[at]] for at in spans)
        if self._first_id:
            # Ids that end at 256 do not fit into a byte.
            inputs = tuple(tokens + self._first_id for tokens in inputs)
        return Example(inputs, label)

    def lengths(self) -> NDArray[np.int64]:
        """See `lra_bench.types.LengthsKnown`."""
        return self._lengths


class CacheWriter:
    """Writes a cache, the splits in any order; made by `writing`."""

    def __init__(self, folder: Path, num_inputs: int, first_id: int) -> None:
        self.folder = folder
        self._num_inputs = num_inputs
        self._first_id = first_id
        self._entries: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}

    def add(self, split: Split, chunks: Iterable[Chunk]) -> int:
        """Write the examples of a split and return their number."""
        assert split not in self._entries, f"{split} was written already"
        self._entries[split] = _write_split(self.folder, split, chunks, self._num_inputs)
        return int(self._entries[split]["num_examples"])

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples of the splits written so far."""
        return {split: entry["num_examples"] for split, entry in self._entries.items()}

    def finish(self) -> None:
        """Write the manifest."""
        assert set(self._entries) == set(SPLITS), f"only {set(self._entries)} were written"
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "num_inputs": self._num_inputs,
            "first_id": self._first_id,
            "splits": self._entries,
            "facts": self.facts,
        }
        manifest["check"] = _check_of(manifest)
        with (self.folder / _MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def writing(place: Path, *, num_inputs: int = 1, first_id: int = 0) -> Iterator[CacheWriter]:
    """Write a cache: all splits and the facts, or nothing.

    Args:
        place: Folder that will hold it; its parents are made. If another process has made it in
            the meantime, that one stays.
        num_inputs: Inputs an example.
        first_id: What is added to every token when it is read: with 1, bytes are ids above the
            padding.

    Raises:
        UserError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    staging = place.with_name(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place.parent)
        staging.mkdir()
        writer = CacheWriter(staging, num_inputs, first_id)
        yield writer
        writer.finish()
        try:
            staging.rename(place)
        except OSError:
            if not (place / _MANIFEST).exists():
                raise
    except OSError as error:
        raise UserError(
            f"cannot write prepared data to {place}: {error.strerror or error}; free some space "
            f"or choose another folder with cache_dir="
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write(
    place: Path,
    splits: Mapping[Split, Iterable[Chunk]],
    facts: Mapping[str, Any],
    *,
    num_inputs: int = 1,
    first_id: int = 0,
) -> None:
    """Write a cache of which everything is known beforehand; see `writing`.

    Args:
        place: Folder that will hold it.
        splits: The examples of each split.
        facts: What is to be remembered about their origin; plain data (see `CachedTask`).
        num_inputs: Inputs an example.
        first_id: See `writing`.

    Raises:
        UserError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    with writing(place, num_inputs=num_inputs, first_id=first_id) as cache:
        for split, chunks in splits.items():
            cache.add(split, chunks)
        cache.facts.update(facts)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for pattern, seconds in (
        (".*.partial", _ABANDONED_AFTER_SECONDS),
        (".*.shards", _FORGOTTEN_AFTER_SECONDS),
    ):
        for left in folder.glob(pattern):
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > seconds:
                    shutil.rmtree(left, ignore_errors=True)


def _check_of(manifest: Mapping[str, Any]) -> str:
    """Return a checksum of the other entries: what is known of the data must not be edited."""
    rest = {key: value for key, value in manifest.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _write_split(
    folder: Path, split: Split, chunks: Iterable[Chunk], num_inputs: int
) -> dict[str, Any]:
    lengths, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    tokens_path = folder / f"{split}.tokens"
    with tokens_path.open("wb") as file:
        for chunk in chunks:
            assert chunk.lengths.size == num_inputs * len(chunk.labels), "not one length an input"
            assert chunk.lengths.min(initial=1) > 0, "an input without tokens"
            assert chunk.lengths.sum() == len(chunk.tokens), "the lengths are not of these tokens"
            file.write(chunk.tokens.tobytes())
            lengths.append(chunk.lengths.ravel())
            labels.append(chunk.labels)
        file.flush()
        os.fsync(file.fileno())
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
    all_labels = np.concatenate(labels)
    for name, array in (("offsets", offsets), ("labels", all_labels)):
        with (folder / f"{split}.{name}").open("wb") as file:
            file.write(array.astype("<i8").tobytes())
            file.flush()
            os.fsync(file.fileno())
    files = {}
    for name in ("tokens", "offsets", "labels"):
        path = folder / f"{split}.{name}"
        status = path.stat()
        # An unchanged size and time of change spare the next reader the checksum.
        files[name] = {
            "bytes": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "sha256": sha256_of(path),
        }
    return {
        "num_examples": len(all_labels),
        "num_tokens": int(offsets[-1]),
        "label_counts": np.bincount(all_labels).tolist(),
        "files": files,
    }


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


class FlatCache:
    """A cache opened for reading.

    Args:
        place: Its folder.
        remedy: What to tell the user to do if it is broken.

    Raises:
        UserError: A file is missing, cut short or edited.
    """

    def __init__(self, place: Path, *, remedy: str) -> None:
        self.place = place
        self.remedy = remedy
        try:
            self.manifest = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
            if self.manifest["format"] != FORMAT:
                raise ValueError(f"format {self.manifest['format']}, expected {FORMAT}")
            if self.manifest["check"] != _check_of(self.manifest):
                raise ValueError("it was edited (the checksum differs)")
            self.facts: dict[str, Any] = dict(self.manifest["facts"])
            self.num_inputs = _whole(self.manifest["num_inputs"])
            self.first_id = _whole(self.manifest["first_id"])
            if not 0 <= self.first_id <= np.iinfo(np.uint16).max - np.iinfo(np.uint8).max:
                raise ValueError(f"ids from {self.first_id}")
            for split in SPLITS:
                number = _whole(self.manifest["splits"][split]["num_examples"])
                if self.num_inputs < 1 or number < 0:
                    raise ValueError(f"{self.num_inputs} inputs, {number} examples")
                expected = self.manifest["splits"][split]["files"]
                if (expected["offsets"]["bytes"], expected["labels"]["bytes"]) != (
                    8 * (number * self.num_inputs + 1),
                    8 * number,
                ):
                    raise ValueError(f"the sizes are not those of {number} examples")
                for name in ("tokens", "offsets", "labels"):
                    expected = self.manifest["splits"][split]["files"][name]
                    _ = _whole(expected["bytes"]), _whole(expected["mtime_ns"]), expected["sha256"]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise self._broken(_MANIFEST, f"{type(error).__name__}: {error}") from error
        for split in SPLITS:
            for name in ("tokens", "offsets", "labels"):
                self._check(split, name, thorough=False)

    @staticmethod
    def exists(place: Path) -> bool:
        """Return whether there is a cache, be it broken or not."""
        return place.exists()

    def examples(self, split: Split, *, max_length: int) -> FlatExamples:
        """Return the examples of a split, each cut to ``max_length`` tokens.

        Raises:
            UserError: A file was changed or removed since the cache was opened.
        """
        number = self.manifest["splits"][split]["num_examples"]
        try:
            offsets = np.fromfile(self._path(split, "offsets"), "<i8")
            labels = np.fromfile(self._path(split, "labels"), "<i8")
            tokens = np.zeros(0, np.uint8)
            with self._path(split, "tokens").open("rb") as file:
                # Nothing cannot be mapped.
                if os.fstat(file.fileno()).st_size:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    tokens = np.frombuffer(mapped, np.uint8)
        except OSError as error:
            raise self._broken(f"{split}.*", error.strerror or str(error)) from error
        if len(labels) != number or len(offsets) != number * self.num_inputs + 1:
            raise self._broken(f"{split}.offsets", f"it is not that of {number:,} examples")
        if offsets[0] or offsets[-1] != len(tokens) or (np.diff(offsets) < 1).any():
            raise self._broken(f"{split}.offsets", "it does not fit the tokens")
        return FlatExamples(
            tokens,
            offsets,
            labels,
            num_inputs=self.num_inputs,
            max_length=max_length,
            first_id=self.first_id,
        )

    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) of the content of all splits."""
        digest = hashlib.sha256()
        if self.first_id:
            digest.update(f"ids from {self.first_id}\n".encode())
        for split in SPLITS:
            for name in ("tokens", "offsets", "labels"):
                entry = self._entry(split, name)
                digest.update(f"{split} {name} {entry['sha256']}\n".encode())
        return digest.hexdigest()

    def verify(self) -> Iterator[Verification]:
        """Read every byte again and compare with the manifest."""
        for split in SPLITS:
            problem = None
            try:
                for name in ("tokens", "offsets", "labels"):
                    self._check(split, name, thorough=True)
                self.examples(split, max_length=1 << 62)
            except UserError as error:
                problem = str(error)
            count = self.manifest["splits"][split]["num_examples"]
            yield Verification(f"{split}: {count:,} examples", problem)

    def _check(self, split: Split, name: str, *, thorough: bool) -> None:
        entry, path = self._entry(split, name), self._path(split, name)
        try:
            status = path.stat()
            if status.st_size != entry["bytes"]:
                raise self._broken(
                    path.name, f"it has {status.st_size:,} bytes, expected {entry['bytes']:,}"
                )
            changed = status.st_mtime_ns != entry["mtime_ns"]
            if (changed or thorough) and sha256_of(path) != entry["sha256"]:
                raise self._broken(path.name, "its content was changed (the checksum differs)")
        except OSError as error:
            raise self._broken(path.name, error.strerror or str(error)) from error

    def _broken(self, name: str, why: str) -> UserError:
        return UserError(
            f"the prepared data {self.place / name} cannot be used: {why}; "
            f"delete the folder {self.place} and {self.remedy}"
        )

    def _entry(self, split: Split, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], self.manifest["splits"][split]["files"][name])

    def _path(self, split: Split, name: str) -> Path:
        return self.place / f"{split}.{name}"
