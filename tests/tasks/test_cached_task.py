from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, Example, ProgressCallback, TaskSpec
from lra_tasks.cached_task import CachedTask, Source, Writer, identity_of


class Letters(CachedTask[Path]):
    """Is the first letter of a word the last one, too? Words come from a file, one a line.

    ``calls`` remembers which of the hooks were called.
    """

    def __init__(
        self, folder: Path, *, seed: int = 0, served: str | None = None, warning: str = ""
    ) -> None:
        self.spec = TaskSpec("letters", 257, 9, num_classes=2)
        self.cache_dir = folder / "cache"
        self.path = folder / "words.txt"
        self.seed, self.served, self.warning = seed, served, warning
        self.calls: list[str] = []

    def options(self) -> dict[str, Any]:
        return {"version": 1, "seed": self.seed}

    def source(self) -> Source[Path] | None:
        self.calls.append("source")
        if not self.path.exists():
            return None
        return Source(identity_of(self.path, self.cache_dir), self.path)

    def fetch(self) -> None:
        self.calls.append("fetch")
        if self.served is None:
            raise UserError(f"put words.txt into {self.path.parent}")
        self.path.write_text(self.served)

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        self.calls.append("encode")
        words = source.files.read_text().split()
        for number, split in enumerate(SPLITS):
            writer.add_examples(
                split,
                (
                    Example((np.frombuffer(word.encode(), np.uint8),), int(word[0] == word[-1]))
                    for word in words[number::3]
                ),
            )
        return DataInfo(source="words", warning=self.warning, details={"words": str(len(words))})


WORDS = "abba toto anna otto zebra aha"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text(WORDS)
    return tmp_path


def caches_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache").glob("letters-*")}


def test_a_source_is_found_once(folder: Path) -> None:
    task = Letters(folder)
    task.prepare()
    assert task.calls == ["source", "encode"]
    example = task.examples("train")[0]
    assert bytes(example.inputs[0].tolist()) == b"abba"
    assert example.target == 1
    again = Letters(folder)
    again.prepare()
    again.prepare()
    assert "encode" not in again.calls
    assert again.fingerprint() == task.fingerprint()


def test_another_source_or_option_is_another_cache(folder: Path) -> None:
    first, other = Letters(folder), Letters(folder, seed=1)
    assert first.fingerprint() == other.fingerprint()
    (folder / "words.txt").write_text(WORDS + " sees")
    assert Letters(folder).fingerprint() != first.fingerprint()
    assert len(caches_in(folder)) == 3


def test_what_is_nowhere_is_fetched(tmp_path: Path) -> None:
    task = Letters(tmp_path, served=WORDS)
    assert not task.is_prepared()
    task.prepare()
    assert task.calls == ["source", "source", "fetch", "source", "encode"]


def test_what_is_nowhere_and_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"put words\.txt into"):
        Letters(tmp_path).prepare()
    assert not list(tmp_path.iterdir())


def test_a_cache_outlives_its_source(folder: Path) -> None:
    fingerprint = Letters(folder).fingerprint()
    (folder / "words.txt").unlink()
    task = Letters(folder, served="never asked for")
    assert task.is_prepared()
    assert task.fingerprint() == fingerprint
    assert "fetch" not in task.calls
    # Of other options there is none.
    with pytest.raises(UserError, match="put words"):
        Letters(folder, seed=1).prepare()


def test_what_is_not_official_is_fetched_anew_if_it_can_be(folder: Path) -> None:
    odd = Letters(folder, warning="nobody knows them")
    odd.prepare()
    (folder / "words.txt").unlink()
    task = Letters(folder)
    # Better than nothing.
    assert task.fingerprint() == odd.fingerprint()
    assert task.info().source == "words, not the official set"
    assert [check.what for check in task.verify() if check.problem] == ["official set"]
    fetched = Letters(folder, served="aa bb cc")
    assert fetched.fingerprint() != odd.fingerprint()
    assert fetched.info().source == "words"


def test_what_is_known_before_and_after(folder: Path) -> None:
    task = Letters(folder)
    assert task.info() == DataInfo()
    task.prepare()
    counts = dict.fromkeys(SPLITS, 2)
    assert task.info() == DataInfo(num_examples=counts, source="words", details={"words": "6"})


def test_an_error_in_encoding_leaves_nothing(folder: Path) -> None:
    class Failing(Letters):
        def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> Any:
            super().encode(source, writer, progress)
            raise UserError("the words are no words")

    with pytest.raises(UserError, match="no words"):
        Failing(folder).prepare()
    assert not caches_in(folder)
    assert not list((folder / "cache").glob(".*"))


def test_another_process_is_first(folder: Path) -> None:
    class Slow(Letters):
        def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> Any:
            Letters(folder).prepare()
            writer.check_not_made_elsewhere()
            raise AssertionError("there is nothing left to do")

    task = Slow(folder)
    task.prepare()
    assert task.fingerprint() == Letters(folder).fingerprint()
    assert len(caches_in(folder)) == 1


def test_a_broken_cache_says_what_to_type(folder: Path) -> None:
    task = Letters(folder)
    task.prepare()
    place = task.folder()
    assert place is not None
    (place / "test.labels").write_bytes(b"")
    with pytest.raises(UserError, match="lra-bench data prepare task=letters"):
        Letters(folder).prepare()
