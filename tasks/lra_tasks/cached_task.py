"""A task whose data are one cache."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import ProgressCallback, Split, Task, Verification, ignore_progress
from lra_tasks._store import FORMAT, MANIFEST, FlatCache, FlatExamples


class CachedTask(Task):
    """A task whose data are one cache; a subclass says how it is made and where it lies.

    Facts that a subclass writes into its cache:

    - ``source``: what the data are, wherever a number made of them is shown;
    - ``unofficial`` (optional): why they are not the set that the task's name promises;
    - ``details`` (optional): more for the record, texts by name;
    - ``options``: what shaped the cache besides its source.
    """

    cache_dir: Path
    _cache: FlatCache | None = None

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """Return what shapes the cache besides its source; plain data."""

    @abstractmethod
    def _place(self) -> Path | None:
        """Return where the cache is or will be; None if there is nothing to make it of.

        Raises:
            UserError: The raw data cannot be read.
        """

    @abstractmethod
    def _fetch(self) -> None:
        """Get the raw data, which are nowhere.

        Raises:
            UserError: They cannot be had; the text says which file to put where.
        """

    @abstractmethod
    def _encode(self, place: Path, progress: ProgressCallback) -> None:
        """Write the cache.

        Raises:
            UserError: The data are broken, or cannot be written.
        """

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:
        """See `Task.prepare`."""
        # What was prepared before will do when its source is gone.
        place = self._place() or self._left_behind_or_fetched() or self._place()
        assert place is not None, "the raw data were fetched"
        if not FlatCache.exists(place):
            self._encode(place, progress)
        remedy = f"run `lra-bench data prepare task={self.spec.name}` again"
        self._cache = FlatCache(place, remedy=remedy)

    def is_prepared(self) -> bool:
        """See `Task.is_prepared`."""
        return self.folder() is not None

    def folder(self) -> Path | None:
        """See `Task.folder`."""
        # What was prepared before will do when its source is gone.
        place = self._place() or self._left_behind()
        return place if place is not None and FlatCache.exists(place) else None

    def examples(self, split: Split) -> FlatExamples:
        """See `Task.examples`."""
        return self._opened().examples(split, max_length=self.spec.max_length)

    def fingerprint(self) -> str:
        """See `Task.fingerprint`."""
        return self._opened().fingerprint()

    def provenance(self) -> dict[str, str]:
        """See `Task.provenance`."""
        facts = self._opened().facts
        found = {"source": str(facts["source"])}
        found |= {str(key): str(value) for key, value in facts.get("details", {}).items()}
        if "unofficial" in facts:
            found["source"] += ", not the official set"
            found["warning"] = str(facts["unofficial"])
        return found

    def verify(self) -> Iterator[Verification]:
        """See `Task.verify`: checksums, counts, and whether it is the official set."""
        cache = self._opened()
        yield from cache.verify()
        if "unofficial" in cache.facts:
            yield Verification("official set", str(cache.facts["unofficial"]))

    def _place_for(self, source: str) -> Path:
        """Return the folder for data made of ``source``, a checksum or other name of it."""
        key = json.dumps([FORMAT, source, self._options()], sort_keys=True)
        name = f"{self.spec.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        return self.cache_dir / name

    def _left_behind_or_fetched(self) -> Path | None:
        """Return an official cache whose source is gone, or else fetch the source.

        Returns:
            A cache, an unofficial one only if nothing can be fetched; None after fetching.

        Raises:
            UserError: There is no such cache, and nothing can be fetched.
        """
        if (before := self._left_behind(official=True)) is not None:
            return before
        try:
            self._fetch()
        except UserError:
            if (before := self._left_behind()) is None:
                raise
            return before
        return None

    def _left_behind(self, *, official: bool = False) -> Path | None:
        """Return a cache with the same options whose source may be gone; an official one first."""
        found = []
        for place in sorted(self.cache_dir.glob(f"{self.spec.name}-*")):
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                manifest = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
                if (manifest["format"], manifest["facts"]["options"]) == (FORMAT, self._options()):
                    facts = manifest["facts"]
                    is_noted = "note" in facts.get("details", {})
                    found.append(("unofficial" in facts, is_noted, place))
        if official:
            found = [row for row in found if not any(row[:2])]
        return min(found)[-1] if found else None

    def _opened(self) -> FlatCache:
        if self._cache is None:
            self.prepare()
        assert self._cache is not None
        return self._cache
