"""The TSV files of the release: where they lie, which they are, and the cache made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import UserError
from lra_bench.types import DataInfo, ProgressCallback, Split, ignore_progress
from lra_tasks._checksums import identity_of, identity_of_all
from lra_tasks._sources import (
    RELEASE_MAX_BYTES,
    RELEASE_URL,
    Member,
    RawFiles,
    find_release,
    members_of,
)
from lra_tasks.cached_task import Chunk, Source, Writer

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

    def find(self, data_dir: Path, cache_dir: Path) -> Source[RawFiles] | None:
        """Return where they are: their folder, or an archive; None if nowhere.

        Raises:
            UserError: One of the files is missing, or cannot be read.
        """
        names = tuple(self.names.values())
        files = find_release(data_dir, self.folder, names)
        if files is None:
            return None
        if files.is_archive:
            return Source(identity_of(files.path, cache_dir), files)
        paths = [files.path / name for name in names]
        return Source(identity_of_all(paths, cache_dir), files)

    def encode(
        self, files: RawFiles, writer: Writer, read: Read, progress: ProgressCallback
    ) -> DataInfo:
        """Write the files into a cache.

        Args:
            files: What `find` found.
            writer: Of the cache.
            read: Makes chunks of one file.
            progress: Told the bytes that have been read.

        Returns:
            What was read.

        Raises:
            UserError: A file is missing, there twice, or refused by ``read``.
        """
        splits = {name: split for split, name in self.names.items()}
        members = members_of(
            files,
            splits.__contains__,
            max_bytes=RELEASE_MAX_BYTES,
            remedy=f"get it again from {RELEASE_URL}",
            progress=progress,
        )
        # Of an archive, the bytes before unpacking are what shows how far it is.
        shown = ignore_progress if files.is_archive else progress
        prefix = ""
        for member in members:
            prefix = member.prefix
            writer.add(splits[member.name], read(member, shown))
        missing = [name for name, split in splits.items() if split not in writer.counts]
        if missing:
            raise UserError(f"{files.path} has no {', '.join(missing)}; put it there")
        inside = f", {prefix.rstrip('/')}" if prefix else ""
        warning = ""
        if writer.counts != self.counts:
            warning = (
                f"{files.description} does not hold the official set: {writer.counts} examples, "
                f"expected {dict(self.counts)}{self.counts_source}"
            )
        return DataInfo(
            source="official files",
            warning=warning,
            details={"read": f"{files.description}{inside}"},
        )
