"""The texts that tasks are tested on, so that a corpus can leave them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import UserError
from lra_tasks import _arxiv, _documents, _hyperpartisan, _imdb
from lra_tasks._documents import Document
from lra_tasks._same_text import key_of


@dataclass(frozen=True)
class TestTexts:
    """Texts that must not be in a corpus.

    Args:
        name: How the user names them.
        identity: Tells them from others.
        read: Yields them.
    """

    # For pytest: this is no test.
    __test__ = False

    name: str
    identity: str
    read: Callable[[], Iterator[bytes]]

    def keys(self) -> set[bytes]:
        """Return what tells each text; see `key_of`."""
        return set(map(key_of, self.read()))


def check_names(names: Sequence[str], data_dir: Path) -> None:
    """Refuse what is neither a task nor looks like documents; nothing is read.

    Raises:
        UserError: One is neither.
    """
    for name in names:
        if name not in TASKS:
            try:
                if not name:
                    raise UserError("it is empty")
                _documents.check_path(data_dir, name, "task.exclude")
            except UserError as error:
                raise UserError(
                    f"task.exclude: {name!r} is none of the tasks {', '.join(TASKS)}, and no "
                    f"documents ({error})"
                ) from error


def find(name: str, data_dir: Path, cache_dir: Path) -> TestTexts:
    """Return the test texts of a task, or the documents of a path.

    Raises:
        UserError: They are not there: nothing could be left out.
    """
    if name in TASKS:
        return TASKS[name](name, data_dir, cache_dir)
    place = _documents.find(data_dir, name)
    if place is None:
        raise _missing(name, f"{data_dir / name} is not there")

    def read() -> Iterator[bytes]:
        return (one.text for one in place.read() if isinstance(one, Document))

    return TestTexts(name, place.identity(cache_dir), read)


def _missing(name: str, why: str) -> UserError:
    return UserError(
        f"task.exclude has {name}, whose test texts are to be left out, but {why}; put it there, "
        f"or leave it out of task.exclude"
    )


def _of_imdb(name: str, data_dir: Path, cache_dir: Path) -> TestTexts:
    source = _imdb.find(data_dir, cache_dir)
    if source is None:
        raise _missing(name, f"{_imdb.ARCHIVE_NAME} is not in {data_dir}")
    path = source.files

    def read() -> Iterator[bytes]:
        for one in _imdb.read_archive(path):
            if isinstance(one, _imdb.Review) and one.part == "test":
                yield one.text

    return TestTexts(name, source.identity, read)


def _of_hyperpartisan(name: str, data_dir: Path, cache_dir: Path) -> TestTexts:
    source = _hyperpartisan.find(data_dir, cache_dir, with_splits=False)
    if source is None:
        raise _missing(name, f"{_hyperpartisan.ARCHIVE_NAME} is not in {data_dir}")
    files = source.files

    def read() -> Iterator[bytes]:
        for one in _hyperpartisan.articles_of(_hyperpartisan.read(files), "test"):
            # As it stands there, and as the task reads it.
            yield from {one.raw, one.text}

    return TestTexts(name, source.identity, read)


def _of_arxiv(name: str, data_dir: Path, cache_dir: Path) -> TestTexts:
    source = _arxiv.find(data_dir, cache_dir)
    if source is None:
        raise _missing(name, f"there is no {_arxiv.FOLDER} in {data_dir}")
    path = source.files

    def read() -> Iterator[bytes]:
        papers = [(one.name, one.label) for one in _arxiv.read(path)]
        splits = _arxiv.divided(*zip(*papers, strict=True))
        test = {name for (name, _), split in zip(papers, splits, strict=True) if split == "test"}
        for one in _arxiv.read(path):
            if one.name in test:
                yield from {one.text, _arxiv.without_stamp(one.text)[0]}

    return TestTexts(name, source.identity, read)


TASKS: Mapping[str, Callable[[str, Path, Path], TestTexts]] = {
    "imdb": _of_imdb,
    "text": _of_imdb,
    "review_pairs": _of_imdb,
    "hyperpartisan": _of_hyperpartisan,
    "arxiv11": _of_arxiv,
}
