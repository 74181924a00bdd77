from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Split
from lra_tasks._cache import FORMAT, Chunk, FlatCache, _check_of, write, writing

REMEDY = "run the command again"
FACTS = {"source": "made up", "number": 3}
Rows = list[tuple[list[int], int]]
ROWS: dict[Split, Rows] = {
    "train": [([1, 2, 3], 0), ([255], 2), ([0, 7], 1), ([5] * 300, 2), ([4, 4], 0)],
    "validation": [([9, 8], 1), ([6], 0)],
    "test": [([3, 2, 1, 0], 2)],
}
NAMES = [f"{split}.{name}" for split in SPLITS for name in ("tokens", "offsets", "labels")]


def chunk(rows: Sequence[tuple[list[int], int]]) -> Chunk:
    return Chunk(
        np.array([token for tokens, _ in rows for token in tokens], np.uint8),
        np.array([len(tokens) for tokens, _ in rows], np.int64),
        np.array([label for _, label in rows], np.int64),
    )


def chunks(rows: Rows, at_once: int = 2) -> Iterator[Chunk]:
    for start in range(0, len(rows), at_once):
        yield chunk(rows[start : start + at_once])


def write_rows(place: Path, *, at_once: int = 2) -> None:
    write(place, {split: chunks(rows, at_once) for split, rows in ROWS.items()}, FACTS)


def open_cache(place: Path) -> FlatCache:
    return FlatCache(place, remedy=REMEDY)


def rows_of(cache: FlatCache, split: Split, max_length: int = 1000) -> Rows:
    examples = cache.examples(split, max_length=max_length)
    found = [examples[at] for at in range(len(examples))]
    assert all(len(example.inputs) == 1 for example in found)
    return [(example.inputs[0].tolist(), example.target) for example in found]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_sound(place: Path) -> None:
    cache = open_cache(place)
    assert {split: rows_of(cache, split) for split in SPLITS} == ROWS
    assert [check.problem for check in cache.verify()] == [None] * 3


def assert_refused(place: Path, *, naming: str) -> None:
    with pytest.raises(UserError) as caught:
        open_cache(place)
    assert str(place / naming) in str(caught.value)
    assert f"delete the folder {place} and {REMEDY}" in str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "deep" / "below" / "some-data"
    write_rows(place)
    return place


# Reading what was written.


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_round_trip(tmp_path: Path, at_once: int) -> None:
    write_rows(tmp_path / "data", at_once=at_once)
    check_sound(tmp_path / "data")
    cache = open_cache(tmp_path / "data")
    assert cache.facts == FACTS
    assert [check.what for check in cache.verify()] == [
        "train: 5 examples",
        "validation: 2 examples",
        "test: 1 examples",
    ]
    # Nothing but the cache, and nothing in it but its files.
    assert names_in(tmp_path) == {"data"}
    assert names_in(tmp_path / "data") == {*NAMES, "manifest.json"}


def test_empty_chunks_and_an_empty_split(tmp_path: Path) -> None:
    splits: dict[Split, list[Chunk]] = {
        "train": [chunk([]), chunk([([1], 0)]), chunk([]), chunk([([2, 3], 1)])],
        "validation": [],
        "test": [chunk([])],
    }
    write(tmp_path / "data", splits, {})
    cache = open_cache(tmp_path / "data")
    assert rows_of(cache, "train") == [([1], 0), ([2, 3], 1)]
    assert rows_of(cache, "validation") == rows_of(cache, "test") == []
    assert [check.problem for check in cache.verify()] == [None] * 3


@pytest.mark.parametrize("max_length", [1, 2, 3, 299, 300, 301])
def test_cut_to_the_length(place: Path, max_length: int) -> None:
    cache = open_cache(place)
    expected = [(tokens[:max_length], label) for tokens, label in ROWS["train"]]
    assert rows_of(cache, "train", max_length) == expected
    lengths = cache.examples("train", max_length=max_length).lengths()
    assert lengths.tolist() == [len(tokens) for tokens, _ in expected]


PAIRS: dict[Split, list[tuple[tuple[list[int], list[int]], int]]] = {
    "train": [(([1, 2, 3], [4]), 0), (([5], [6, 7]), 1), (([8], [9]), 1)],
    "validation": [(([3], [2] * 20), 1)],
    "test": [],
}


def pair_chunks(split: Split) -> Iterator[Chunk]:
    for inputs, label in PAIRS[split]:
        yield Chunk(
            np.array([token for tokens in inputs for token in tokens], np.uint8),
            np.array([[len(tokens) for tokens in inputs]], np.int64),
            np.array([label], np.int64),
        )


@pytest.mark.parametrize("order", [SPLITS, SPLITS[::-1]])
def test_two_inputs_an_example(tmp_path: Path, order: Sequence[Split]) -> None:
    with writing(tmp_path / "data", num_inputs=2) as writer:
        for split in order:
            assert writer.add(split, pair_chunks(split)) == len(PAIRS[split])
        assert writer.counts == {split: len(rows) for split, rows in PAIRS.items()}
        writer.facts |= FACTS
    cache = open_cache(tmp_path / "data")
    assert cache.facts == FACTS
    for split, rows in PAIRS.items():
        for max_length in (1, 2, 100):
            examples = cache.examples(split, max_length=max_length)
            assert len(examples) == len(rows)
            lengths = []
            for at, (inputs, label) in enumerate(rows):
                for index in (at, at - len(rows)):
                    example = examples[index]
                    found = tuple(tokens.tolist() for tokens in example.inputs)
                    assert found == tuple(tokens[:max_length] for tokens in inputs)
                    assert example.target == label
                lengths.append(max(map(len, found)))
            assert examples.lengths().tolist() == lengths
    assert [check.problem for check in cache.verify()] == [None] * 3


def test_one_input_is_not_two(tmp_path: Path) -> None:
    # The same bytes, divided otherwise, are other examples.
    with writing(tmp_path / "pairs", num_inputs=2) as writer:
        for split in SPLITS:
            writer.add(split, pair_chunks(split))
    change_manifest(tmp_path / "pairs", setting(1, "num_inputs"))
    assert_refused(tmp_path / "pairs", naming="manifest.json")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Chunk(np.ones(2, np.uint8), np.array([2, 0]), np.array([0, 1])), "without tokens"),
        (Chunk(np.ones(2, np.uint8), np.array([3]), np.array([0])), "not of these tokens"),
        (Chunk(np.ones(2, np.uint8), np.array([1]), np.array([0])), "not of these tokens"),
        (Chunk(np.ones(2, np.uint8), np.array([2]), np.array([0, 1])), "not one length"),
        (Chunk(np.ones(2, np.uint8), np.array([[1, 1]]), np.array([0])), "not one length"),
    ],
)
def test_a_task_that_writes_nonsense(tmp_path: Path, broken: Chunk, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        write(tmp_path / "data", {split: [broken] for split in SPLITS}, FACTS)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("missing", SPLITS)
def test_a_split_is_not_written(tmp_path: Path, missing: Split) -> None:
    rest = {split: chunks(rows) for split, rows in ROWS.items() if split != missing}
    with pytest.raises(AssertionError, match="were written"):
        write(tmp_path / "data", rest, FACTS)
    assert names_in(tmp_path) == set()


def test_a_split_is_written_twice(tmp_path: Path) -> None:
    with writing(tmp_path / "data") as writer:
        for split in SPLITS:
            writer.add(split, [])
        with pytest.raises(AssertionError, match="test was written already"):
            writer.add("test", [])


def test_tokens_are_not_copied_and_cannot_be_changed(place: Path) -> None:
    example = open_cache(place).examples("train", max_length=1000)[0]
    assert example.inputs[0].dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        example.inputs[0][0] = 1


def test_fingerprint_is_of_the_content(tmp_path: Path, place: Path) -> None:
    fingerprint = open_cache(place).fingerprint()
    write_rows(tmp_path / "other", at_once=3)
    assert open_cache(tmp_path / "other").fingerprint() == fingerprint
    seen = {fingerprint}
    for changed in (
        ROWS | {"test": [([3, 2, 1, 1], 2)]},
        ROWS | {"test": [([3, 2, 1, 0], 1)]},
        ROWS | {"validation": [([9], 1), ([8, 6], 0)]},
        ROWS | {"validation": ROWS["test"], "test": ROWS["validation"]},
    ):
        shutil.rmtree(tmp_path / "other")
        write(tmp_path / "other", {split: [chunk(rows)] for split, rows in changed.items()}, {})
        seen.add(open_cache(tmp_path / "other").fingerprint())
    assert len(seen) == 5


def test_exists(tmp_path: Path, place: Path) -> None:
    assert FlatCache.exists(place)
    assert not FlatCache.exists(tmp_path / "nothing")
    (place / "manifest.json").unlink()
    # Broken, but there: to be refused, not to be written over.
    assert FlatCache.exists(place)


# Damage.


@pytest.mark.parametrize("name", NAMES)
def test_cut_short(place: Path, name: str) -> None:
    path = place / name
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(place, naming=name)


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(place: Path, name: str) -> None:
    (place / name).unlink()
    assert_refused(place, naming=name)


def edit(path: Path) -> os.stat_result:
    """Change a byte of a file and return its status before."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    return status


@pytest.mark.parametrize("name", NAMES)
def test_edited_in_place(place: Path, name: str) -> None:
    status = edit(place / name)
    # The clock of the file system may be coarser than this test is fast.
    os.utime(place / name, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert_refused(place, naming=name)


@pytest.mark.parametrize("name", NAMES)
def test_touched_but_unchanged(place: Path, name: str) -> None:
    os.utime(place / name, ns=(1, 1))
    check_sound(place)


@pytest.mark.parametrize("name", NAMES)
def test_verify_finds_an_edit_that_kept_the_time(place: Path, name: str) -> None:
    status = edit(place / name)
    os.utime(place / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    problems = {check.what.split(":")[0]: check.problem for check in open_cache(place).verify()}
    damaged = name.split(".")[0]
    assert {split for split, problem in problems.items() if problem} == {damaged}
    assert str(place / name) in str(problems[damaged])
    assert REMEDY in str(problems[damaged])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [b"", b"longer than it was, whatever it was" * 80, None])
def test_examples_of_what_changed_while_it_was_open(
    place: Path, name: str, change: bytes | None
) -> None:
    cache = open_cache(place)
    if change is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(change)
    damaged = name.split(".")[0]
    for split in SPLITS:
        if split == damaged:
            with pytest.raises(UserError, match="delete the folder"):
                cache.examples(split, max_length=9)
        else:
            assert rows_of(cache, split) == ROWS[split]


def test_verify_finds_what_changes_while_it_is_open(place: Path) -> None:
    cache = open_cache(place)
    (place / "test.labels").unlink()
    problems = {check.what: check.problem for check in cache.verify()}
    assert "test.labels" in str(problems["test: 1 examples"])
    assert problems["train: 5 examples"] is None


def without(*keys: str) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        del manifest[keys[-1]]

    return change


def setting(value: Any, *keys: str) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


def change_manifest(place: Path, change: Callable[[Any], None]) -> None:
    """Change the manifest so that its checksum is right again."""
    path = place / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["check"] = _check_of(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        without("format"),
        setting(FORMAT - 1, "format"),
        setting(FORMAT + 1, "format"),
        without("num_inputs"),
        setting(0, "num_inputs"),
        setting(2, "num_inputs"),
        setting("one", "num_inputs"),
        setting("1", "num_inputs"),
        setting(1.0, "num_inputs"),
        setting([], "num_inputs"),
        setting(10**400, "num_inputs"),
        without("facts"),
        setting(3, "facts"),
        without("splits"),
        setting([], "splits"),
        without("splits", "test"),
        without("splits", "test", "num_examples"),
        setting(2, "splits", "test", "num_examples"),
        setting(-1, "splits", "test", "num_examples"),
        setting("1", "splits", "test", "num_examples"),
        without("splits", "test", "files"),
        without("splits", "test", "files", "labels"),
        without("splits", "test", "files", "labels", "sha256"),
        setting("8", "splits", "test", "files", "labels", "bytes"),
        setting(None, "splits", "test", "files", "labels", "mtime_ns"),
    ],
)
def test_manifest_of_a_wrong_form(place: Path, change: Callable[[Any], None]) -> None:
    change_manifest(place, change)
    assert_refused(place, naming="manifest.json")


@pytest.mark.parametrize(
    "change",
    [
        without("check"),
        setting("0" * 64, "check"),
        setting(None, "check"),
        # What was written down about the origin goes into records.
        setting("the real ones", "facts", "source"),
        without("facts", "number"),
        setting(1, "facts", "more"),
        setting(1, "more"),
        setting("0" * 64, "splits", "test", "files", "tokens", "sha256"),
        setting([1, 2, 3], "splits", "test", "label_counts"),
    ],
)
def test_edited_manifest(place: Path, change: Callable[[Any], None]) -> None:
    path = place / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    assert_refused(place, naming="manifest.json")


def test_manifest_of_other_files(place: Path) -> None:
    change_manifest(place, setting("0" * 64, "splits", "train", "files", "tokens", "sha256"))
    # The time of the file is that in the manifest, so that opening does not read it.
    problems = [check.problem for check in open_cache(place).verify()]
    assert "checksum" in str(problems[0])
    assert problems[1:] == [None, None]
    change_manifest(place, setting(1, "splits", "train", "files", "tokens", "bytes"))
    assert_refused(place, naming="train.tokens")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"{}"])
def test_broken_manifest(place: Path, content: bytes) -> None:
    (place / "manifest.json").write_bytes(content)
    assert_refused(place, naming="manifest.json")


def test_manifest_cut_short(place: Path) -> None:
    path = place / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert_refused(place, naming="manifest.json")


def test_missing_manifest(place: Path) -> None:
    (place / "manifest.json").unlink()
    assert_refused(place, naming="manifest.json")


# Writers that meet, die or find no room.


def test_two_writers_at_once(tmp_path: Path) -> None:
    place = tmp_path / "data"
    barrier = threading.Barrier(2, timeout=30)
    failed: list[Exception] = []

    def meeting(rows: Rows) -> Iterator[Chunk]:
        # In step, so that both come to the end with the place still free.
        barrier.wait()
        yield from chunks(rows)
        barrier.wait()

    def work() -> None:
        try:
            write(place, {split: meeting(rows) for split, rows in ROWS.items()}, FACTS)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    check_sound(place)
    assert names_in(tmp_path) == {"data"}


def test_the_second_writer_leaves_the_first_ones_cache_alone(place: Path) -> None:
    before = (place / "manifest.json").stat()
    cache = open_cache(place)
    write_rows(place)
    assert (place / "manifest.json").stat() == before
    assert rows_of(cache, "train") == ROWS["train"]
    assert names_in(place.parent) == {place.name}


def test_a_broken_cache_is_not_taken_for_a_second_writers(place: Path) -> None:
    (place / "manifest.json").unlink()
    with pytest.raises(UserError, match="cannot write prepared data") as caught:
        write_rows(place)
    assert str(place) in str(caught.value)
    assert names_in(place.parent) == {place.name}


def test_error_while_the_examples_are_made(tmp_path: Path) -> None:
    def failing() -> Iterator[Chunk]:
        yield chunk(ROWS["train"])
        raise UserError("the source is broken")

    splits: dict[Split, Iterator[Chunk]] = {
        "train": chunks(ROWS["train"]),
        "validation": failing(),
        "test": iter(()),
    }
    with pytest.raises(UserError, match="the source is broken"):
        write(tmp_path / "data", splits, FACTS)
    assert names_in(tmp_path) == set()


KILLED = """
    import os, sys
    from pathlib import Path
    import numpy as np
    from lra_tasks._cache import Chunk, write

    def chunks():
        yield Chunk(np.ones(3, np.uint8), np.array([3]), np.array([0]))
        os._exit(9)

    write(Path(sys.argv[1]), {"train": chunks(), "validation": [], "test": []}, {})
"""


def test_killed_writer(tmp_path: Path) -> None:
    place = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(place)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 9
    assert not FlatCache.exists(place)
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    write_rows(place)
    check_sound(place)
    # It may belong to a writer that is alive; after a day it does not.
    assert left.exists()
    os.utime(left, ns=(1, 1))
    write_rows(tmp_path / "other")
    assert names_in(tmp_path) == {"data", "other"}


STOPPED = """
    import signal, sys
    from pathlib import Path
    import numpy as np
    from lra_tasks._cache import Chunk, writing

    def chunks():
        yield Chunk(np.ones(3, np.uint8), np.array([3]), np.array([0]))
        print("half done", flush=True)
        signal.pause()

    with writing(Path(sys.argv[1])) as cache:
        cache.add("test", [])
        cache.add("train", chunks())
"""


def test_killed_from_outside(tmp_path: Path) -> None:
    place = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STOPPED), str(place)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half done\n"
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    assert not FlatCache.exists(place)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not FlatCache.exists(place)
    write_rows(place)
    check_sound(place)
    assert names_in(tmp_path) == {"data", left.name}


def test_only_what_writers_abandoned_is_removed(tmp_path: Path) -> None:
    seconds = (tmp_path.stat().st_mtime - 90_000, tmp_path.stat().st_mtime - 80_000)
    made = {
        ".old.1.a.partial": seconds[0],
        ".fresh.1.a.partial": seconds[1],
        "old.partial": seconds[0],
        ".old.1.a": seconds[0],
        "old-data": seconds[0],
    }
    for name, time in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
        os.utime(tmp_path / name, (time, time))
    write_rows(tmp_path / "data")
    assert names_in(tmp_path) == {*made, "data"} - {".old.1.a.partial"}


# Three files a split and the manifest are flushed.
@pytest.mark.parametrize("succeeding", [0, 1, 2, 4, 9])
def test_disk_full_when_flushing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, succeeding: int
) -> None:
    fsync, called = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal called
        called += 1
        if called > succeeding:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    check_refused_for_space(tmp_path)
    assert called == succeeding + 1


def check_refused_for_space(folder: Path) -> None:
    place = folder / "cache" / "data"
    with pytest.raises(UserError, match="free some space") as caught:
        write_rows(place)
    assert str(place) in str(caught.value)
    assert "cache_dir=" in str(caught.value)
    assert names_in(folder / "cache") == set()


def test_disk_full_when_writing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may have this many bytes; Python ignores the signal, so that the write fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="free some space"):
            write_rows(tmp_path / "cache" / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path / "cache") == set()


@pytest.mark.parametrize("below", ["cache", "cache/deeper"])
def test_cache_folder_cannot_be_made(tmp_path: Path, below: str) -> None:
    # A file stands where the folder should be.
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cache_dir="):
        write_rows(tmp_path / below / "data")


# Damage of every kind.

MANY = pytest.mark.parametrize("number", [4_000, pytest.param(100_000, marks=pytest.mark.slow)])


def opened(place: Path) -> FlatCache | None:
    """Open a cache; None if it is refused with a text that names it."""
    try:
        return open_cache(place)
    except UserError as error:
        if str(place) not in str(error):
            raise
        return None


@MANY
def test_damaged_manifests(place: Path, number: int) -> None:
    path = place / "manifest.json"
    sound = json.loads(path.read_text())
    compact, reordered = json.dumps(sound), json.dumps(dict(reversed(sound.items())))
    accepted = 0
    for content in mutants([path.read_bytes(), compact.encode(), reordered.encode()], number):
        path.write_bytes(content)
        cache = opened(place)
        accepted += cache is not None
        # Blanks may have changed, and nothing else.
        assert cache is None or cache.manifest == json.loads(content) == sound
    assert accepted > number // 100


@MANY
def test_damaged_manifests_with_a_right_checksum(place: Path, number: int) -> None:
    # Not an accident any more; but whoever does that gets an error, not a traceback.
    path = place / "manifest.json"
    compact = json.dumps(json.loads(path.read_text())).encode()
    parsed = accepted = 0
    for content in mutants([compact], number):
        try:
            manifest = json.loads(content)
            manifest["check"] = _check_of(manifest)
        except (ValueError, TypeError, AttributeError):
            continue
        parsed += 1
        path.write_text(json.dumps(manifest))
        cache = opened(place)
        if cache is None:
            continue
        accepted += 1
        assert len(cache.fingerprint()) == 64
        for check in cache.verify():
            assert check.problem is None or str(place) in check.problem
        for split in SPLITS:
            # Another first id, say, gives other tokens, but no other number of them.
            with suppress(UserError):
                examples = cache.examples(split, max_length=1000)
                found = [examples[at].inputs for at in range(len(examples))]
                assert len(found) == manifest["splits"][split]["num_examples"]
    assert parsed > number // 10
    assert accepted > number // 100


@MANY
def test_damaged_files(place: Path, number: int) -> None:
    contents = {name: (place / name).read_bytes() for name in NAMES}
    status = {name: (place / name).stat() for name in NAMES}
    damaged = mutants(list(contents.values()), number)
    accepted = 0
    for at, content in enumerate(damaged):
        name = NAMES[at % len(NAMES)]
        (place / name).write_bytes(content)
        # As if it had been written at another time.
        os.utime(place / name, ns=(1, 1))
        is_sound = content == contents[name]
        assert (opened(place) is not None) == is_sound
        accepted += is_sound
        if len(content) == len(contents[name]) and not is_sound:
            # With its old time it is not read on opening; what is read of it may be wrong, but
            # nothing falls over, and verifying finds it.
            os.utime(place / name, ns=(status[name].st_atime_ns, status[name].st_mtime_ns))
            cache = open_cache(place)
            for split in SPLITS:
                with suppress(UserError):
                    rows_of(cache, split)
            problems = [check.what.split(":")[0] for check in cache.verify() if check.problem]
            assert problems == [name.split(".")[0]]
        (place / name).write_bytes(contents[name])
        os.utime(place / name, ns=(status[name].st_atime_ns, status[name].st_mtime_ns))
    assert accepted > 0
    check_sound(place)
