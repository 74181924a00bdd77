"""A task whose data are prepared once, into one flat cache, and read from a memory map.

The base class of tasks on real or generated data, here and outside: see docs/extending.md.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from lra_bench.errors import UserError
from lra_bench.types import (
    DataInfo,
    ProgressCallback,
    Split,
    Task,
    Verification,
    ignore_progress,
)
from lra_tasks._checksums import identity_of as identity_of
from lra_tasks._store import Chunk as Chunk
from lra_tasks._store import FlatCache, FlatExamples, Layout, read_manifest
from lra_tasks._store_writer import Writer as Writer
from lra_tasks._store_writer import writing

# Part of the name of a cache. Raised when caches of before can no longer be read: they are made
# anew then, in another folder.
_PLACES_VERSION = 2

Files = TypeVar("Files")
Files_co = TypeVar("Files_co", covariant=True)


@dataclass(frozen=True)
class Source(Generic[Files_co]):
    """What a cache is made of.

    Args:
        identity: Tells it from any other: a checksum of the raw files (see `identity_of`), or a
            name for what is generated. Another source gives another cache.
        files: Where the raw files are, in whatever form the task reads them; None if it has none.
    """

    identity: str
    files: Files_co


class CachedTask(Task, Generic[Files]):
    """A task whose data are one cache; a subclass says what it is made of, and how.

    It sets ``spec`` and ``cache_dir``, and defines the methods below up to `encode`. They are
    called in this order, and ``encode`` only where there is no cache yet of this source and these
    options.
    """

    cache_dir: Path
    _cache: FlatCache | None = None

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return what shapes the cache besides its source; plain data.

        A version that is raised with every change of `encode` belongs to it, or caches of before
        pass for new ones. What only changes how the data are read, like ``max_length``, does not.
        """

    @abstractmethod
    def source(self) -> Source[Files] | None:
        """Find what the cache is made of; None if it is nowhere.

        Raises:
            UserError: The raw data cannot be read.
        """

    def fetch(self) -> None:
        """Get the raw data, which are nowhere; `source` is asked again afterwards.

        Raises:
            UserError: They cannot be had; the text says which file to put where.
        """
        raise UserError(f"the raw data of {self.spec.name} cannot be found")

    @abstractmethod
    def encode(self, source: Source[Files], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """Write all splits.

        Args:
            source: What `source` found.
            writer: ``add_examples(split, examples)`` takes examples one by one, ``add(split,
                chunks)`` many at once. What was written of a cache that fails is removed.
            progress: Told how far it is.

        Returns:
            What was read: ``source``, and ``warning``, ``note``, ``details`` where they apply.

        Raises:
            UserError: The data are broken, or cannot be written.
        """

    def about(self) -> DataInfo:
        """Return what is known before anything is read: origin, terms, number of examples."""
        return DataInfo()

    def layout(self) -> Layout:
        """Return how examples are stored; follows from ``spec``."""
        return Layout.of(self.spec)

    def words(self) -> str:
        """Return how the task is called on the command line, for messages."""
        return f"task={self.spec.name}"

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:
        """See `Task.prepare`."""
        source = self.source()
        place = self._left_behind(official=True) if source is None else self._place_of(source)
        if place is None:
            source, place = self._fetched()
        if source is not None and not FlatCache.exists(place):
            with writing(place, self.layout()) as writer:
                writer.options = self.options()
                writer.info = self.encode(source, writer, progress)
        self._cache = FlatCache(place, remedy=f"run `lra-bench data prepare {self.words()}` again")

    def is_prepared(self) -> bool:
        """See `Task.is_prepared`."""
        return self.folder() is not None

    def folder(self) -> Path | None:
        """See `Task.folder`."""
        source = self.source()
        # What was prepared before will do when its source is gone.
        place = self._left_behind() if source is None else self._place_of(source)
        return place if place is not None and FlatCache.exists(place) else None

    def examples(self, split: Split) -> FlatExamples:
        """See `Task.examples`."""
        return self.cache().examples(split, max_length=self.spec.max_length)

    def fingerprint(self) -> str:
        """See `Task.fingerprint`."""
        return self.cache().fingerprint()

    def info(self) -> DataInfo:
        """See `Task.info`; what was read is known once this object has prepared its data."""
        about = self.about()
        if self._cache is None:
            return about
        read = self._cache.info
        return replace(
            about,
            num_examples=self._cache.counts,
            source=f"{read.source}, not the official set" if read.warning else read.source,
            warning=read.warning,
            note=read.note,
            details=read.details,
            baselines=read.baselines,
        )

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, counts, and whether it is the official set."""
        cache = self.cache()
        yield from cache.verify()
        if cache.info.warning:
            yield Verification("official set", cache.info.warning)

    def cache(self) -> FlatCache:
        """Return the cache, prepared if it is not.

        Raises:
            UserError: See `prepare`.
        """
        if self._cache is None:
            self.prepare()
        assert self._cache is not None, "it was prepared"
        return self._cache

    def _place_of(self, source: Source[Files]) -> Path:
        """Return the folder for data made of a source."""
        key = json.dumps([_PLACES_VERSION, source.identity, self.options()], sort_keys=True)
        name = f"{self.spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        return self.cache_dir / name

    def _fetched(self) -> tuple[Source[Files] | None, Path]:
        """Return the fetched source and its cache's place; or else a cache that is there.

        Raises:
            UserError: Nothing can be fetched, and there is no cache either.
        """
        try:
            self.fetch()
        except UserError:
            # One that is not official is better than nothing.
            if (before := self._left_behind()) is None:
                raise
            return None, before
        source = self.source()
        assert source is not None, "the raw data were fetched"
        return source, self._place_of(source)

    def _left_behind(self, *, official: bool = False) -> Path | None:
        """Return a cache with the same options whose source may be gone; an official one first."""
        ranked = []
        for place in sorted(self.cache_dir.glob(f"{self.spec.name}-*")):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                manifest = read_manifest(place)
                if manifest["options"] == self.options():
                    info = manifest["info"]
                    ranked.append((bool(info["warning"]), bool(info["note"]), place))
        if official:
            ranked = [row for row in ranked if not any(row[:2])]
        return min(ranked)[-1] if ranked else None
