from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import mutants
from pathfinders import (
    FEW_AND_MANY,
    NUM_SHARDS,
    SHARD,
    SMALL,
    TOTAL,
    CountedShards,
    StopHereError,
    all_rows,
    expected_rows,
    make,
    names_in,
    shards_folder,
    small,
    stop_after,
)

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Progress
from lra_tasks._pathfinder_draw import (
    parameters,
)


def test_counts_that_no_shard_divides(tmp_path: Path) -> None:
    task = small(tmp_path)
    assert not task.is_prepared()
    assert task.folder() is None
    told: list[Progress] = []
    task.prepare(told.append)
    assert task.is_prepared()
    folder = task.folder()
    assert folder is not None
    assert names_in(tmp_path / "cache") == {folder.name}
    assert [len(task.examples(split)) for split in SPLITS] == [13, 5, 3]
    assert all_rows(task) == expected_rows()
    assert task.drawn == list(range(NUM_SHARDS))
    for what in ("drawing images", "writing images"):
        done = [one.done for one in told if one.what == what]
        assert {one.total for one in told if one.what == what} == {TOTAL}
        assert done == sorted(done)
        assert done[-1] == TOTAL
    # Once more: nothing to do.
    again = small(tmp_path)
    assert again.is_prepared()
    before = (folder / "manifest.json").stat()
    again.prepare(told.append)
    assert again.fingerprint() == task.fingerprint()
    assert (folder / "manifest.json").stat() == before
    assert again.drawn == []


@pytest.mark.parametrize("most_workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, most_workers: int) -> None:
    expected = expected_rows()
    fingerprints = set()
    for number in range(1, most_workers + 1):
        most = 0

        def count_processes(progress: Progress) -> None:
            nonlocal most
            most = max(most, len(multiprocessing.active_children()))

        task = make(tmp_path / str(number), **SMALL | {"num_workers": number})
        task.prepare(count_processes)
        assert most == (0 if number == 1 else number)
        assert all_rows(task) == expected
        fingerprints.add(task.fingerprint())
    assert len(fingerprints) == 1


@pytest.mark.parametrize("number", [1, 5, 12, TOTAL])
def test_resumed_after_an_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(StopHereError):
        small(tmp_path).prepare(stop_after(number))
    kept = names_in(shards_folder(tmp_path))
    assert len(kept) == -(-number // SHARD)
    task = small(tmp_path)
    assert not task.is_prepared()
    told: list[Progress] = []
    task.prepare(told.append)
    assert task.drawn == list(range(len(kept), NUM_SHARDS))
    assert told[0] == Progress("drawing images", min(len(kept) * SHARD, TOTAL), TOTAL)
    assert all_rows(task) == expected_rows()
    assert len(names_in(tmp_path / "cache")) == 1


def flipped(content: bytes) -> bytes:
    return content[:40] + bytes((content[40] ^ 1,)) + content[41:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:31]), id="cut short"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="longer"),
        pytest.param(lambda path: path.write_bytes(flipped(path.read_bytes())), id="a bit"),
        pytest.param(lambda path: path.write_bytes(bytes(5000)), id="zeros"),
        pytest.param(lambda path: shutil.copy(path.with_name("000003"), path), id="another one"),
        pytest.param(lambda path: path.unlink(), id="gone"),
    ],
)
def test_a_damaged_shard_is_drawn_again(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    with pytest.raises(StopHereError):
        small(tmp_path).prepare(stop_after(TOTAL))
    damage(shards_folder(tmp_path) / "000002")
    task = small(tmp_path)
    task.prepare()
    assert task.drawn == [2]
    assert all_rows(task) == expected_rows()


def test_a_shard_of_other_images_is_drawn_again(tmp_path: Path) -> None:
    for folder, seed in ((tmp_path, 0), (tmp_path / "other", 1)):
        with pytest.raises(StopHereError):
            small(folder, seed=seed).prepare(stop_after(TOTAL))
    theirs, ours = shards_folder(tmp_path / "other"), shards_folder(tmp_path)
    assert theirs.name != ours.name
    shutil.copy(theirs / "000002", ours / "000002")
    task = small(tmp_path)
    task.prepare()
    assert task.drawn == [2]
    assert all_rows(task) == expected_rows()


@pytest.mark.parametrize("at", [8, TOTAL])
def test_another_process_is_first(tmp_path: Path, at: int) -> None:
    other = small(tmp_path)

    def meanwhile(progress: Progress) -> None:
        if progress == Progress("drawing images", at, TOTAL) and not other.is_prepared():
            other.prepare()

    task = small(tmp_path)
    task.prepare(meanwhile)
    # What the other one has made and taken away is not made again.
    assert sorted(task.drawn + other.drawn) == list(range(NUM_SHARDS))
    assert all_rows(task) == expected_rows()
    assert len(names_in(tmp_path / "cache")) == 1


def test_another_process_is_first_while_shards_are_put_together(tmp_path: Path) -> None:
    other = small(tmp_path)

    def meanwhile(progress: Progress) -> None:
        if progress.what == "writing images" and not other.is_prepared():
            other.prepare()

    task = small(tmp_path)
    task.prepare(meanwhile)
    assert sorted(task.drawn + other.drawn) == list(range(NUM_SHARDS))
    assert all_rows(task) == expected_rows()
    assert len(names_in(tmp_path / "cache")) == 1


# Of each test below a process of its own draws, so that it can be ended from outside.
DRAWING = """
    import multiprocessing, sys, time
    from pathlib import Path
    from lra_tasks.pathfinder import Pathfinder

    def tell(progress):
        pids = [child.pid for child in multiprocessing.active_children()]
        print(progress.done, *pids, flush=True)
        # Whoever wants to end it in the middle is given the time.
        if progress.done >= int(sys.argv[3]):
            time.sleep(100)

    folder, options = Path(sys.argv[1]), eval(sys.argv[2])
    task = Pathfinder(data_dir=folder / "data", cache_dir=folder / "cache", **options)
    task.prepare(tell)
    print(task.fingerprint(), flush=True)
"""
LONG: dict[str, Any] = {
    "difficulty": "easy",
    "num_train": 70,
    "num_validation": 5,
    "num_test": 2,
    "shard_size": SHARD,
}


def start_drawing(
    folder: Path, num_workers: int, wait_at: int = sys.maxsize
) -> subprocess.Popen[str]:
    # Without a guard of its main part, as people write them.
    script = folder / "drawing.py"
    script.write_text(textwrap.dedent(DRAWING))
    options = LONG | {"num_workers": num_workers}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), repr(options), str(wait_at)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_alive(pid: int) -> bool:
    try:
        # A process that nobody has taken note of is a Z.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@lru_cache
def fingerprint_of_long(folder: Path) -> str:
    return make(folder, **LONG, num_workers=1).fingerprint()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "num_workers"),
    [
        (signal.SIGKILL, 2),
        (signal.SIGINT, 2),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_ended_from_outside(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    number: signal.Signals,
    num_workers: int,
) -> None:
    children: set[int] = set()
    with start_drawing(tmp_path, num_workers, wait_at=12) as process:
        assert process.stdout is not None
        for line in process.stdout:
            done, *pids = map(int, line.split())
            children |= set(pids)
            if done >= 12:
                break
        process.send_signal(number)
        assert process.wait(timeout=300) == -number
    assert len(children) == (0 if num_workers == 1 else num_workers)
    deadline = time.monotonic() + 30
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline, "workers stay behind"
        time.sleep(0.05)

    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".shards"}
    folder = shards_folder(tmp_path)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("??????")}
    assert len(kept) >= 3
    left: dict[str, int] = {}

    def note(progress: Progress) -> None:
        if progress.what == "writing images" and not left:
            left.update({path.name: path.stat().st_mtime_ns for path in folder.glob("??????")})

    task = make(tmp_path, **LONG, num_workers=1)
    task.prepare(note)
    assert len(left) == 20
    assert {name: left[name] for name in kept} == kept
    assert task.fingerprint() == fingerprint_of_long(tmp_path_factory.getbasetemp() / "long")
    assert len(names_in(tmp_path / "cache")) == 1


def test_two_processes_at_once(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    processes = [start_drawing(tmp_path, 1) for _ in range(2)]
    found = {process.communicate(timeout=300)[0].splitlines()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert found == {fingerprint_of_long(tmp_path_factory.getbasetemp() / "long")}
    assert len(names_in(tmp_path / "cache")) == 1


def test_disk_full_while_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, called = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal called
        # A folder is flushed after each file that was renamed into it.
        called += stat.S_ISREG(os.fstat(descriptor).st_mode)
        if called > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(
            UserError, match=r"free some space or .*what was drawn is kept"
        ) as caught:
            small(tmp_path).prepare()
    assert str(tmp_path / "cache") in str(caught.value)
    assert names_in(shards_folder(tmp_path)) == {"000000", "000001", "000002"}
    task = small(tmp_path)
    assert all_rows(task) == expected_rows()
    assert task.drawn == [3, 4, 5]


def test_disk_full_while_shards_are_put_together(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for a shard of four images, but not for thirteen.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write prepared data .* free some space"):
            small(tmp_path).prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path / "cache") == {shards_folder(tmp_path).name}
    assert len(names_in(shards_folder(tmp_path))) == NUM_SHARDS
    task = small(tmp_path)
    assert all_rows(task) == expected_rows()
    assert task.drawn == []


def test_cache_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cache_dir="):
        small(tmp_path).prepare()


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_damaged_shards(tmp_path: Path, number: int) -> None:
    with pytest.raises(StopHereError):
        small(tmp_path).prepare(stop_after(TOTAL))
    shards = CountedShards(
        shards_folder(tmp_path), parameters(32, "easy"), seed=0, total=TOTAL, size=SHARD
    )
    seeds = [shards.path(shard).read_bytes() for shard in range(NUM_SHARDS)]
    good = shards.parse(2, seeds[2])
    assert good is not None
    accepted = 0
    for content in mutants(seeds, number):
        found = shards.parse(2, content)
        if found is not None:
            # Not even another good shard passes for this one.
            assert content == seeds[2]
            assert np.array_equal(found[0], good[0])
            assert np.array_equal(found[1], good[1])
            accepted += 1
    assert accepted < 0.05 * number
