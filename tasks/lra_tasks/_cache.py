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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lra_bench.types import (
    SPLITS,
    Example,
    ProgressCallback,
    Split,
    Task,
    UserError,
    Verification,
    ignore_progress,
)

FORMAT = 1
_MANIFEST = "manifest.json"
_ABANDONED_AFTER_SECONDS = 86_400


@dataclass(frozen=True)
class Chunk:
    """Some consecutive examples of a split.

    Args:
        tokens: Token ids of all of them one after the other, below 256.
        lengths: Tokens of each, shape (N,).
        labels: Classes, shape (N,).
    """

    tokens: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


class FlatExamples:
    """The examples of a split, read from a memory map."""

    def __init__(
        self,
        tokens: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        labels: NDArray[np.int64],
        max_length: int,
    ) -> None:
        self._tokens = tokens
        # Plain lists: indexing an array for one number costs ten times as much.
        self._start = offsets[:-1].tolist()
        self._stop = np.minimum(offsets[1:], offsets[:-1] + max_length).tolist()
        self._labels = labels.tolist()
        self._lengths = np.minimum(np.diff(offsets), max_length)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Example:
        tokens = self._tokens[self._start[index] : self._stop[index]]
        return Example((tokens,), self._labels[index])

    def lengths(self) -> NDArray[np.int64]:
        """See `lra_bench.types.LengthsKnown`."""
        return self._lengths


def write(place: Path, splits: Mapping[Split, Iterable[Chunk]], facts: Mapping[str, Any]) -> None:
    """Write a cache.

    Args:
        place: Folder that will hold it; its parents are made.
        splits: The examples of each split.
        facts: What is to be remembered about their origin; plain data.

    Raises:
        UserError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    staging = place.with_name(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}.partial")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(place.parent)
        staging.mkdir()
        entries = {split: _write_split(staging, split, chunks) for split, chunks in splits.items()}
        manifest = {"format": FORMAT, "splits": entries, "facts": dict(facts)}
        with (staging / _MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
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


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for partial in folder.glob(".*.partial"):
        try:
            if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)
        except FileNotFoundError:
            continue


def _write_split(folder: Path, split: Split, chunks: Iterable[Chunk]) -> dict[str, Any]:
    lengths, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    tokens_path = folder / f"{split}.tokens"
    with tokens_path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk.tokens.tobytes())
            lengths.append(chunk.lengths)
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
            self.facts: dict[str, Any] = dict(self.manifest["facts"])
            for split in SPLITS:
                _ = int(self.manifest["splits"][split]["num_examples"])
                for name in ("tokens", "offsets", "labels"):
                    expected = self.manifest["splits"][split]["files"][name]
                    _ = expected["bytes"] + expected["mtime_ns"], expected["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._broken(_MANIFEST, f"{type(error).__name__}: {error}") from error
        for split in SPLITS:
            for name in ("tokens", "offsets", "labels"):
                self._check(split, name, thorough=False)

    @staticmethod
    def exists(place: Path) -> bool:
        """Return whether there is a cache, be it broken or not."""
        return place.exists()

    def examples(self, split: Split, *, max_length: int) -> FlatExamples:
        """Return the examples of a split, each cut to ``max_length`` tokens."""
        offsets = np.fromfile(self._path(split, "offsets"), "<i8")
        labels = np.fromfile(self._path(split, "labels"), "<i8")
        with self._path(split, "tokens").open("rb") as file:
            if offsets[-1]:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                tokens = np.frombuffer(mapped, np.uint8)
            else:
                tokens = np.zeros(0, np.uint8)
        return FlatExamples(tokens, offsets, labels, max_length)

    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) of the content of all splits."""
        digest = hashlib.sha256()
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
                examples = self.examples(split, max_length=1 << 62)
                if len(examples) != self.manifest["splits"][split]["num_examples"]:
                    problem = f"{len(examples)} examples"
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


class CachedTask(Task):
    """A task whose data are one cache; a subclass says how it is made and where it lies."""

    _cache: FlatCache | None = None

    @abstractmethod
    def _make_cache(self, progress: ProgressCallback) -> Path:
        """Write the cache unless it is there, and return its folder.

        Raises:
            UserError: The data cannot be had, or cannot be written.
        """

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:
        """See `Task.prepare`."""
        place = self._make_cache(progress)
        remedy = f"run `lra-bench data prepare task={self.spec.name}` again"
        self._cache = FlatCache(place, remedy=remedy)

    def examples(self, split: Split) -> FlatExamples:
        """See `Task.examples`."""
        return self._opened().examples(split, max_length=self.spec.max_length)

    def fingerprint(self) -> str:
        """See `Task.fingerprint`."""
        return self._opened().fingerprint()

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums and counts."""
        yield from self._opened().verify()

    def _opened(self) -> FlatCache:
        if self._cache is None:
            self.prepare()
        assert self._cache is not None
        return self._cache
