"""The TSV files of the release: where they lie, which they are, and the cache made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.types import ProgressCallback, Split, ignore_progress
from lra_tasks._cache import CacheWriter, Chunk
from lra_tasks._sources import (
    RELEASE_MAX_BYTES,
    RELEASE_URL,
    Member,
    Source,
    find_release,
    identity_of,
    identity_of_all,
    members_of,
)

Read = Callable[[Member, ProgressCallback], Iterator[Chunk]]


@dataclass(frozen=True)
class ReleasedFiles:
    """The files of a task, one a split.

    Args:
        folder: The folder of the release that has them.
        names: What they are called.
        counts: How many examples the official ones have.
        counts_source: Where these numbers come from, if not from the release; for the message.
    """

    folder: str
    names: Mapping[Split, str]
    counts: Mapping[Split, int]
    counts_source: str = ""

    def find(self, data_dir: Path) -> Source | None:
        """Return where they are: their folder, or an archive; None if nowhere."""
        return find_release(data_dir, self.folder, tuple(self.names.values()))

    def identity(self, data_dir: Path, cache_dir: Path) -> str | None:
        """Return a checksum of the files, or of the archive that has them; None without either.

        Raises:
            UserError: One of the files is missing, or cannot be read.
        """
        source = self.find(data_dir)
        if source is None:
            return None
        if source.is_archive:
            return identity_of(source.path, cache_dir)
        paths = [source.path / name for name in self.names.values()]
        return identity_of_all(paths, cache_dir)

    def fill(
        self, cache: CacheWriter, data_dir: Path, read: Read, progress: ProgressCallback
    ) -> None:
        """Write the files into a cache, and the facts about them but for the options.

        Args:
            cache: What to fill.
            data_dir: Where the files are; `find` has found them.
            read: Makes chunks of one file.
            progress: Told the bytes that have been read.

        Raises:
            UserError: A file is missing, there twice, or refused by ``read``.
        """
        source = self.find(data_dir)
        assert source is not None, f"nothing in {data_dir}"
        splits = {name: split for split, name in self.names.items()}
        members = members_of(
            source,
            splits.__contains__,
            max_bytes=RELEASE_MAX_BYTES,
            remedy=f"get it again from {RELEASE_URL}",
            progress=progress,
        )
        # Of an archive, the bytes before unpacking are what shows how far it is.
        shown = ignore_progress if source.is_archive else progress
        prefix = ""
        for member in members:
            prefix = member.prefix
            split = splits[member.name]
            cache.add(split, read(member, shown))
        missing = [name for name, split in splits.items() if split not in cache.counts]
        if missing:
            raise UserError(f"{source.path} has no {', '.join(missing)}; put it there")
        cache.facts["source"] = "official files"
        inside = f", {prefix.rstrip('/')}" if prefix else ""
        cache.facts["details"] = {"read": f"{source.description}{inside}"}
        if cache.counts != self.counts:
            cache.facts["unofficial"] = (
                f"{source.description} does not hold the official set: {cache.counts} examples, "
                f"expected {dict(self.counts)}{self.counts_source}"
            )
