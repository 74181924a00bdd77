"""Writing prepared data: all splits and what is known of them, or nothing; see `_store`."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.files import draft_of, reason, sha256_of
from lra_bench.types import SPLITS, DataInfo, Example, Split
from lra_tasks._layout import Chunk, Layout
from lra_tasks._store import FILES, FORMAT, MANIFEST, NOTES, FlatCache, check_of

_ABANDONED_AFTER_SECONDS = 86_400
_EXAMPLES_AT_ONCE = 500


class MadeElsewhereError(Exception):
    """Another process has written the cache in the meantime: there is nothing left to do."""


class Writer:
    """Writes a cache, the splits in any order; made by `writing`.

    Args:
        place: Folder that will hold it.
        layout: How the examples are written down.
    """

    def __init__(self, place: Path, layout: Layout) -> None:
        self.place = place
        self.layout = layout
        self.info = DataInfo()
        self.options: dict[str, Any] = {}
        self._staging = draft_of(place).with_suffix(".partial")
        self._entries: dict[str, Any] = {}

    def add(self, split: Split, chunks: Iterable[Chunk]) -> int:
        """Write the examples of a split and return their number."""
        assert split not in self._entries, f"{split} was written already"
        self._begin()
        self._entries[split] = _write_split(self._staging, split, chunks, self.layout)
        return int(self._entries[split]["num_examples"])

    def add_examples(self, split: Split, examples: Iterable[Example]) -> int:
        """Write the examples of a split, given one by one, and return their number."""
        return self.add(split, self._chunked(examples))

    def add_file(self, name: str, content: bytes) -> None:
        """Write a file that stands beside the examples; it has to carry a checksum of its own."""
        self._begin()
        with _flushed(self._staging / name) as file:
            file.write(content)

    def note(self, split: Split, content: Any) -> None:
        """Write what else is to be known of a split that was written; plain data."""
        path = self._staging / f"{split}.{NOTES}"
        with _flushed(path) as file:
            file.write(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
        self._entries[split]["files"][NOTES] = _entry_of(path)

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples of the splits written so far."""
        return {split: entry["num_examples"] for split, entry in self._entries.items()}

    def check_not_made_elsewhere(self) -> None:
        """End the work where another process has done it.

        Raises:
            MadeElsewhereError: It has; `writing` understands it.
        """
        if FlatCache.exists(self.place):
            raise MadeElsewhereError

    def finish(self) -> None:
        """Write the manifest, and put the cache in its place unless there is one."""
        assert set(self._entries) == set(SPLITS), f"only {set(self._entries)} were written"
        info = {name: getattr(self.info, name) for name in ("source", "warning", "note")}
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "layout": asdict(self.layout),
            "splits": self._entries,
            "options": self.options,
            "info": info | {"details": dict(self.info.details)} | self._baselines(),
        }
        manifest["check"] = check_of(manifest)
        text = json.dumps(manifest, indent=1, sort_keys=True)
        with _flushed(self._staging / MANIFEST) as file:
            file.write(text.encode())
        try:
            self._staging.rename(self.place)
        except OSError:
            if not (self.place / MANIFEST).exists():
                raise

    def discard(self) -> None:
        """Remove what is not in its place."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def _baselines(self) -> dict[str, Any]:
        # Where there are none, nothing is said, as ever.
        return {"baselines": dict(self.info.baselines)} if self.info.baselines else {}

    def _begin(self) -> None:
        if not self._staging.exists():
            self.place.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(self.place.parent)
            self._staging.mkdir()

    def _chunked(self, examples: Iterable[Example]) -> Iterator[Chunk]:
        rows: list[Example] = []
        for example in examples:
            rows.append(example)
            if len(rows) == _EXAMPLES_AT_ONCE:
                yield self._gathered(rows)
                rows = []
        if rows:
            yield self._gathered(rows)

    def _gathered(self, rows: Sequence[Example]) -> Chunk:
        inputs = [np.asarray(tokens) for example in rows for tokens in example.inputs]
        lengths = np.array([len(tokens) for tokens in inputs], np.int64)
        if self.layout.num_inputs != 1:
            lengths = lengths.reshape(len(rows), -1)
        targets = [np.asarray(example.target) for example in rows]
        one_by_one = self.layout.target in ("tokens", "spans")
        return Chunk(
            np.concatenate(inputs).astype(np.int64) - self.layout.first_id,
            lengths,
            np.concatenate(targets) if one_by_one else np.stack(targets),
            np.array([*map(len, targets)], np.int64) if self.layout.target == "spans" else None,
        )


@contextmanager
def writing(place: Path, layout: Layout | None = None) -> Iterator[Writer]:
    """Write a cache: all splits and what is known of them, or nothing.

    Args:
        place: Folder that will hold it; its parents are made. If another process has made it in
            the meantime, that one stays.
        layout: How the examples are written down; by default one input of bytes, and classes.

    Raises:
        UserError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    writer = Writer(place, layout or Layout())
    try:
        yield writer
        writer.finish()
    except MadeElsewhereError:
        assert FlatCache.exists(place), "made elsewhere"
    except OSError as error:
        raise UserError(
            f"cannot write prepared data to {place}: {reason(error)}; free some space or choose "
            f"another folder with cache_dir="
        ) from error
    finally:
        writer.discard()


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for left in folder.glob(".*.partial"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _flushed(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing; afterwards it is on the disk."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write_split(
    folder: Path, split: Split, chunks: Iterable[Chunk], layout: Layout
) -> dict[str, Any]:
    num_examples = 0
    all_lengths, all_counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    paths = {name: folder / f"{split}.{name}" for name in FILES}
    with _flushed(paths["tokens"]) as tokens, _flushed(paths["labels"]) as targets:
        for chunk in chunks:
            _check_chunk(chunk, layout)
            tokens.write(_stored(chunk.tokens, layout.ids, "id").tobytes())
            targets.write(_stored(chunk.targets, layout.targets, "target").tobytes())
            all_lengths.append(chunk.lengths.ravel())
            all_counts += [] if chunk.counts is None else [chunk.counts]
            num_examples += len(chunk)
        counts = np.concatenate(all_counts)
        targets.write(counts.astype("<i8").tobytes())
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(all_lengths))))
    with _flushed(paths["offsets"]) as file:
        file.write(offsets.astype("<i8").tobytes())
    files = {name: _entry_of(path) for name, path in paths.items()}
    sizes = {"num_examples": num_examples, "num_tokens": int(offsets[-1])}
    if layout.target == "spans":
        sizes["num_spans"] = int(counts.sum())
    return {**sizes, "files": files}


def _entry_of(path: Path) -> dict[str, Any]:
    status = path.stat()
    # An unchanged size and time of change spare the next reader the checksum.
    return {
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": sha256_of(path),
    }


def _check_chunk(chunk: Chunk, layout: Layout) -> None:
    """Find out that a task writes nonsense."""
    lengths, num_tokens = chunk.lengths, len(chunk.tokens)
    assert lengths.size == layout.num_inputs * len(chunk), "not one length an input"
    assert lengths.min(initial=1) > 0, "an input without tokens"
    assert lengths.sum() == num_tokens, "the lengths are not of these tokens"
    counts = chunk.counts
    assert (counts is not None) == (layout.target == "spans"), "counts are of several spans"
    if counts is not None:
        assert counts.shape == (len(chunk),), "not one count an example"
        assert counts.min(initial=0) >= 0, "a negative count"
    shapes = {
        "class": (len(chunk),),
        "choice": (len(chunk),),
        "span": (len(chunk), 2),
        "spans": (0 if counts is None else int(counts.sum()), 2),
        "tokens": (num_tokens,),
    }
    shape = shapes[layout.target]
    assert chunk.targets.shape == shape, f"targets of shape {chunk.targets.shape}, not {shape}"


def _stored(values: NDArray[Any], kind: str, what: str) -> NDArray[Any]:
    """Return values in the type in which they are stored."""
    stored = np.dtype(kind).newbyteorder("<")
    if values.dtype == stored:
        return values
    limits = np.iinfo(stored)
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    assert least >= limits.min, f"{what} {least} is below {limits.min}"
    assert most <= limits.max, f"{what} {most} is above {limits.max}"
    return values.astype(stored)
