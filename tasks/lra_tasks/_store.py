"""Prepared data: one flat file of token ids a split, memory-mapped, with a manifest.

A cache is a folder. It appears whole or not at all: it is written beside its place and renamed,
so that a reader never sees a part and two writers at once do no harm (the second finds the place
taken and drops its copy); see `_store_writer`.

Shapes: N examples, I inputs an example, T tokens of all of them.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.files import reason, sha256_of
from lra_bench.types import IGNORED, SPLITS, DataInfo, Example, Split, Verification
from lra_tasks._layout import Chunk as Chunk
from lra_tasks._layout import ChunkStream as ChunkStream
from lra_tasks._layout import Layout as Layout
from lra_tasks._layout import whole

FORMAT = 3
MANIFEST = "manifest.json"
_OLD_FORMAT = 2
# Of each split; what is asked stands in the last one, of whatever kind it is.
FILES = ("tokens", "offsets", "labels")
# What else a task wants to know of a split, such as texts that answers are compared with.
NOTES = "notes"
Divide = Callable[[NDArray[np.int64]], NDArray[np.int64]] | None


class FlatExamples:
    """The examples of a split, read from a memory map.

    Args:
        tokens: All tokens, shape (T,).
        offsets: Where each input begins, and the end of the last, shape (N * I + 1,).
        targets: As in `Chunk`, of all examples.
        layout: How they are written down.
        max_length: Inputs are cut to this [tokens]; a span that does not lie within is `IGNORED`,
            of several it is left out.
        counts: As in `Chunk`.
    """

    def __init__(
        self,
        tokens: NDArray[Any],
        offsets: NDArray[np.int64],
        targets: NDArray[Any],
        *,
        layout: Layout,
        max_length: int,
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        self._tokens = tokens
        # Plain lists: indexing an array for one number costs ten times as much.
        self._start = offsets[:-1].tolist()
        self._stop = np.minimum(offsets[1:], offsets[:-1] + max_length).tolist()
        self._num_inputs = layout.num_inputs
        self._num_examples = len(self._start) // layout.num_inputs
        # Ids that begin at 1 do not all fit into the type that they are stored in.
        wider = {"u1": np.uint16, "u2": np.uint32, "u4": np.uint64}[layout.ids]
        self._first_id = wider(layout.first_id)
        lengths = np.minimum(np.diff(offsets), max_length)
        self._lengths: NDArray[np.int64] = lengths.reshape(-1, self._num_inputs).max(
            axis=1, initial=0
        )
        self._classes: list[int] | None = None
        self._of_positions = layout.target == "tokens"
        self._first_span: NDArray[np.int64] | None = None
        if layout.target in ("class", "choice"):
            self._classes = targets.tolist()
        elif counts is not None:
            self._first_span = np.concatenate(([0], np.cumsum(counts)))
        elif layout.target == "span":
            is_inside = (targets >= 0) & (targets < lengths[:, None])
            targets = np.where(is_inside.all(axis=1, keepdims=True), targets, IGNORED)
        self._targets = targets

    def __len__(self) -> int:
        return self._num_examples

    def __getitem__(self, index: int) -> Example:
        target = self._target(index) if self._classes is None else self._classes[index]
        if self._num_inputs == 1 and not self._first_id:
            return Example((self._tokens[self._start[index] : self._stop[index]],), target)
        first = (index if index >= 0 else index + len(self)) * self._num_inputs
        spans = range(first, first + self._num_inputs)
        inputs = tuple(self._tokens[self._start[at] : self._stop[at]] for at in spans)
        if self._first_id:
            inputs = tuple(tokens + self._first_id for tokens in inputs)
        return Example(inputs, target)

    def lengths(self) -> NDArray[np.int64]:
        """See `lra_bench.types.LengthsKnown`."""
        return self._lengths

    def _target(self, index: int) -> NDArray[Any]:
        if self._of_positions:
            of_positions: NDArray[Any] = self._targets[self._start[index] : self._stop[index]]
            return of_positions
        if self._first_span is not None:
            index = index if index >= 0 else index + len(self)
            spans: NDArray[Any] = self._targets[slice(*self._first_span[index : index + 2])]
            inside: NDArray[Any] = spans[spans[:, 1] < self._lengths[index]]
            return inside
        span: NDArray[Any] = self._targets[index]
        return span


def check_of(manifest: Mapping[str, Any]) -> str:
    """Return a checksum of the other entries: what is known of the data must not be edited."""
    rest = {key: value for key, value in manifest.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_manifest(place: Path) -> dict[str, Any]:
    """Return the manifest of a cache, in today's form.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError: There is none, or
            it is broken or of another format.
    """
    manifest: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] not in (_OLD_FORMAT, FORMAT):
        raise ValueError(f"format {manifest['format']}, expected {FORMAT}")
    if manifest["check"] != check_of(manifest):
        raise ValueError("it was edited (the checksum differs)")
    return manifest if manifest["format"] == FORMAT else _upgraded(manifest)


def _upgraded(old: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a manifest of the format before into today's form: it knew bytes and classes only."""
    facts = old["facts"]
    details = dict(facts.get("details", {}))
    note = details.pop("note", "")
    return {
        "layout": {
            "num_inputs": old["num_inputs"],
            "first_id": old["first_id"],
            "ids": "u1",
            "target": "class",
            "targets": "i8",
        },
        "splits": old["splits"],
        "options": facts.get("options", {}),
        "info": {
            "source": facts.get("source", ""),
            "warning": facts.get("unofficial", ""),
            "note": note,
            "details": details,
        },
    }


def _checked_layout(stored: Mapping[str, Any]) -> Layout:
    names = [one.name for one in fields(Layout)]
    if set(stored) != set(names):
        raise ValueError(f"the layout has {', '.join(map(str, stored))}")
    return Layout(**{name: stored[name] for name in names})


def _checked_info(stored: Mapping[str, Any]) -> DataInfo:
    info = DataInfo(**{name: stored[name] for name in ("source", "warning", "note", "details")})
    info = replace(info, baselines={k: float(v) for k, v in stored.get("baselines", {}).items()})
    texts = [info.source, info.warning, info.note, *info.details, *info.details.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("what it says of the data is no text")
    return info


def _check_sizes(splits: Mapping[str, Any], layout: Layout) -> None:
    """Compare what a manifest says of the files with itself.

    Raises:
        ValueError, KeyError, TypeError: It does not fit together.
    """
    for split in SPLITS:
        entry = splits[split]
        number, num_tokens = whole(entry["num_examples"]), whole(entry["num_tokens"])
        if number < 0 or num_tokens < number:
            raise ValueError(f"{number} examples, {num_tokens} tokens")
        num_targets = num_targets_of(layout, number, num_tokens)
        if layout.target == "spans":
            num_targets += 2 * whole(entry["num_spans"])
        sizes = {
            "tokens": np.dtype(layout.ids).itemsize * num_tokens,
            "offsets": 8 * (number * layout.num_inputs + 1),
            "labels": np.dtype(layout.targets).itemsize * num_targets,
        }
        for name, file in entry["files"].items():
            if name not in (*FILES, NOTES):
                raise ValueError(f"it has a file {name}")
            _ = whole(file["bytes"]), whole(file["mtime_ns"]), file["sha256"]
            if name != NOTES and file["bytes"] != sizes.pop(name):
                raise ValueError(f"the sizes are not those of {number} examples")
        if sizes:
            raise ValueError(f"it lacks {', '.join(sizes)}")


def num_targets_of(layout: Layout, num_examples: int, num_tokens: int) -> int:
    """Return how many numbers there are in ``labels``; of several spans, without these."""
    if layout.target == "tokens":
        return num_tokens
    return 2 * num_examples if layout.target == "span" else num_examples


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
            self.manifest = read_manifest(place)
            self.layout = _checked_layout(self.manifest["layout"])
            self.info = _checked_info(self.manifest["info"])
            _check_sizes(self.manifest["splits"], self.layout)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise self._broken(MANIFEST, f"{type(error).__name__}: {error}") from error
        for split in SPLITS:
            for name in self._names(split):
                self._check(split, name, thorough=False)

    @staticmethod
    def exists(place: Path) -> bool:
        """Return whether there is a cache, be it broken or not."""
        return place.exists()

    @property
    def counts(self) -> dict[Split, int]:
        """Number of examples of each split."""
        return {split: self.manifest["splits"][split]["num_examples"] for split in SPLITS}

    def examples(self, split: Split, *, max_length: int, divide: Divide = None) -> FlatExamples:
        """Return the examples of a split, each cut to ``max_length`` tokens.

        ``divide`` is given where inputs begin and end, and says where those of class 0 do that
        are read in their place.

        Raises:
            UserError: A file was changed or removed since the cache was opened.
        """
        number = self.counts[split]
        kind = np.dtype(self.layout.targets).newbyteorder("<")
        try:
            offsets = np.fromfile(self._path(split, "offsets"), "<i8")
            tokens = self._mapped(split, "tokens", np.dtype(self.layout.ids).newbyteorder("<"))
            if self.layout.target == "tokens":
                targets = self._mapped(split, "labels", kind)
            else:
                targets = np.fromfile(self._path(split, "labels"), kind)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise self._broken(f"{split}.*", why or str(error)) from error
        if len(offsets) != number * self.layout.num_inputs + 1:
            raise self._broken(f"{split}.offsets", f"it is not that of {number:,} examples")
        if offsets[0] or offsets[-1] != len(tokens) or (np.diff(offsets) < 1).any():
            raise self._broken(f"{split}.offsets", "it does not fit the tokens")
        num_targets = num_targets_of(self.layout, number, len(tokens))
        counts = None
        if self.layout.target == "spans":
            ends, counts = np.split(targets, [max(0, len(targets) - number)])
            if len(counts) != number or (counts < 0).any() or 2 * counts.sum() != len(ends):
                raise self._broken(f"{split}.labels", "it does not fit itself")
            targets = ends.reshape(-1, 2)
        elif len(targets) != num_targets:
            raise self._broken(f"{split}.labels", f"it is not that of {number:,} examples")
        if self.layout.target == "span":
            targets = targets.reshape(number, 2)
        if divide is not None:
            offsets = divide(offsets)
            targets = np.zeros(len(offsets) - 1, np.int64)
        return FlatExamples(
            tokens, offsets, targets, layout=self.layout, max_length=max_length, counts=counts
        )

    def notes(self, split: Split) -> Any:
        """Return what a task noted of a split, plain data.

        Raises:
            UserError: The file was changed or removed since the cache was opened.
        """
        self._check(split, NOTES, thorough=False)
        try:
            return json.loads(self._path(split, NOTES).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self._broken(f"{split}.{NOTES}", str(error)) from error

    def _mapped(self, split: Split, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
        """Return a file as an array that is read when it is looked at."""
        with self._path(split, name).open("rb") as file:
            # Nothing cannot be mapped.
            if not os.fstat(file.fileno()).st_size:
                return np.zeros(0, kind)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return np.frombuffer(mapped, kind)

    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) of the content of all splits."""
        digest = hashlib.sha256()
        # Bytes and classes, of which most sets are made, go without saying.
        if self.layout.first_id:
            digest.update(f"ids from {self.layout.first_id}\n".encode())
        if self.layout.ids != "u1":
            digest.update(f"ids {self.layout.ids}\n".encode())
        if self.layout.target != "class":
            digest.update(f"{self.layout.target} {self.layout.targets}\n".encode())
        for split in SPLITS:
            for name in self._names(split):
                entry = self._entry(split, name)
                digest.update(f"{split} {name} {entry['sha256']}\n".encode())
        return digest.hexdigest()

    def verify(self) -> Iterator[Verification]:
        """Read every byte again and compare with the manifest."""
        for split in SPLITS:
            problem = None
            try:
                for name in self._names(split):
                    self._check(split, name, thorough=True)
                self.examples(split, max_length=1 << 62)
            except UserError as error:
                problem = str(error)
            yield Verification(f"{split}: {self.counts[split]:,} examples", problem)

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
            raise self._broken(path.name, reason(error)) from error

    def _broken(self, name: str, why: str) -> UserError:
        return UserError(
            f"the prepared data {self.place / name} cannot be used: {why}; "
            f"delete the folder {self.place} and {self.remedy}"
        )

    def _names(self, split: Split) -> list[str]:
        """Return which files a split has; most tasks make no notes."""
        has_notes = NOTES in self.manifest["splits"][split]["files"]
        return [*FILES, NOTES] if has_notes else [*FILES]

    def _entry(self, split: Split, name: str) -> dict[str, Any]:
        return cast(dict[str, Any], self.manifest["splits"][split]["files"][name])

    def _path(self, split: Split, name: str) -> Path:
        return self.place / f"{split}.{name}"
