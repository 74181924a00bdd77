"""One run under faults ends with the numbers of a run that nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.harness import Bench, Fault, numbers
from lra_bench.record import RunRecord

STEPS = ["train.num_steps=8", "train.eval_every=3", "train.learning_rate=0.01"]


def slow(*values: Any) -> Any:
    """Return values for a test of which a few others are enough in a hurry."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def words(made_up_conf: Path) -> list[str]:
    """Return the words of a run with dropout that saves whenever it can."""
    return [
        *("run", "--config-dir", str(made_up_conf), "task=first", "model=ernie_sparse"),
        *("setting=smoke", "num_threads=1", *STEPS),
        *("checkpoint_seconds=0", "checkpoint_share=1", "quiet=true"),
    ]


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), words)
    assert bench.run() == 0, bench.said()
    return bench.record()


def check(bench: Bench, undisturbed: RunRecord) -> None:
    assert numbers(bench.record()) == numbers(undisturbed)
    assert bench.leftovers() == []


def test_killed_at_every_step_of_a_save(
    tmp_path: Path, words: list[str], undisturbed: RunRecord
) -> None:
    """Each process comes one step further than the last, over a save and into the next."""
    bench = Bench(tmp_path, words)
    for touch in range(6, 16):
        assert bench.run(fault=Fault(dies_at=touch)) == -signal.SIGKILL, bench.said()
    assert bench.run() == 0
    check(bench, undisturbed)
    assert bench.record().num_resumes >= 1


def test_killed_at_every_step_of_writing_the_record(
    tmp_path: Path, words: list[str], undisturbed: RunRecord
) -> None:
    bench = Bench(tmp_path, words)
    for touch in range(3, 30):
        code = bench.run(fault=Fault("runs/smoke", dies_at=touch))
        if code == 0:
            break
        assert code == -signal.SIGKILL, bench.said()
        # A record is there whole, or not at all.
        assert len(bench.records()) <= 1
    assert touch > 6
    check(bench, undisturbed)


@pytest.mark.parametrize("share", [0.5, *(slow(share) for share in (0.0, 0.99))])
def test_killed_while_bytes_are_written(
    tmp_path: Path, words: list[str], undisturbed: RunRecord, share: float
) -> None:
    bench = Bench(tmp_path, words)
    assert bench.run(fault=Fault(dies_at=20)) == -signal.SIGKILL
    (checkpoint,) = bench.results.glob("checkpoints/*.pt")
    limit = max(1000, int(share * checkpoint.stat().st_size))
    assert bench.run(fault=Fault(dies_after_bytes=limit)) == -signal.SIGXFSZ, bench.said()
    assert bench.run() == 0, bench.said()
    check(bench, undisturbed)


def test_a_disk_that_takes_no_checkpoint(
    tmp_path: Path, words: list[str], undisturbed: RunRecord
) -> None:
    """The run goes on without; only the record needs room."""
    bench = Bench(tmp_path, [word for word in words if word != "quiet=true"])
    assert bench.run(fault=Fault(refused_after_bytes=20_000)) == 0
    assert "warning: cannot write the checkpoint" in bench.said()
    check(bench, undisturbed)


@pytest.mark.parametrize(
    ("how", "which"),
    [
        ("flipped", "newest"),
        ("foreign", "both"),
        *(slow("cut", which) for which in ("newest", "both")),
        *(slow("foreign", "newest"), slow("flipped", "both")),
    ],
)
def test_torn_checkpoints(
    tmp_path: Path, words: list[str], undisturbed: RunRecord, how: str, which: str
) -> None:
    bench = Bench(tmp_path, [word for word in words if word != "quiet=true"])
    assert bench.run(fault=Fault(dies_at=32)) == -signal.SIGKILL
    bench.said()
    files = sorted(bench.results.glob("checkpoints/*.pt*"))
    assert [path.suffix for path in files] == [".pt", ".previous"]
    for path in files[: 1 if which == "newest" else 2]:
        content = path.read_bytes()
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"cut": content[:half], "flipped": flipped, "foreign": b"x"}[how])
    if which == "both":
        assert bench.run() == 2
        (line,) = bench.said().strip().splitlines()
        assert line.startswith("lra-bench: checkpoint: cannot go on from ")
        assert line.endswith("; delete both to start this run anew")
        for path in files:
            path.unlink()
    assert bench.run() == 0
    said = bench.said()
    assert "Traceback" not in said
    if which == "newest":
        assert f"warning: cannot go on from {files[0]} (" in said
    check(bench, undisturbed)


@pytest.mark.parametrize("year", [2100, slow(1990)])
def test_a_clock_that_was_wrong(
    tmp_path: Path, words: list[str], undisturbed: RunRecord, year: int
) -> None:
    """Nothing is decided by the times of files: the lock tells who lives."""
    bench = Bench(tmp_path, words)
    assert bench.run(fault=Fault(dies_at=20)) == -signal.SIGKILL
    then = (year - 1970) * 365.25 * 24 * 3600
    for path in bench.results.rglob("*"):
        os.utime(path, (then, then))
    assert bench.run() == 0, bench.said()
    check(bench, undisturbed)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGUSR1, 143), slow(signal.SIGINT, 130), slow(signal.SIGTERM, 143)],
)
def test_a_signal_saves_and_leaves(
    tmp_path: Path, words: list[str], undisturbed: RunRecord, number: int, code: int
) -> None:
    # Saved by nothing but the signal.
    bench = Bench(tmp_path, [*words, "checkpoint_seconds=1000"])
    process = bench.start()
    live = bench.results / "live"
    while not list(live.glob("*.json")):
        assert process.exitcode is None, bench.said()
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == code, bench.said()
    assert bench.run() == 0
    check(bench, undisturbed)
    assert bench.record().num_resumes == 1


def test_going_on_with_other_threads_is_recorded(
    tmp_path: Path, words: list[str], undisturbed: RunRecord
) -> None:
    bench = Bench(tmp_path, [word for word in words if word != "quiet=true"])
    assert bench.run(fault=Fault(dies_at=20)) == -signal.SIGKILL
    assert bench.run("num_threads=2") == 0
    assert "note: earlier steps were made with device " in bench.said()
    record = bench.record()
    assert record.num_resumes == 1
    first, second = record.sessions
    assert first["from_step"] == 0 < second["from_step"]
    assert ", 1 thread," in first["device"]
    assert ", 2 threads," in second["device"] == record.device
    # It is the same run all the same.
    assert (record.run_id, record.num_steps) == (undisturbed.run_id, undisturbed.num_steps)


def test_started_twice(tmp_path: Path, words: list[str], undisturbed: RunRecord) -> None:
    bench = Bench(tmp_path, words)
    processes = [bench.start() for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0], bench.said()
    check(bench, undisturbed)
    assert bench.record().num_resumes == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("only root may mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_and_a_read_only_one(
    small_disk: Path, words: list[str], undisturbed: RunRecord
) -> None:
    bench = Bench(small_disk, words)
    bench.log = small_disk.parent / "log"
    assert bench.run(fault=Fault(dies_at=20)) == -signal.SIGKILL
    # Not even the record finds room.
    filler = small_disk / "filler"
    fill = ["dd", "if=/dev/zero", f"of={filler}", "bs=512"]
    assert subprocess.run(fill, capture_output=True, check=False).returncode
    for remedy in ("free some space", "read-only"):
        assert bench.run() == 2
        (line,) = bench.said().strip().splitlines()
        assert line.startswith("lra-bench: cannot write to results_dir=")
        assert ("the disk is full" if remedy != "read-only" else "Read-only file system") in line
        if remedy != "read-only":
            filler.unlink()
            remount = ["mount", "-o", "remount,ro", str(small_disk)]
            subprocess.run(remount, check=True)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert bench.run() == 0, bench.said()
    check(bench, undisturbed)


@pytest.mark.slow
def test_fifty_kills_at_random(tmp_path: Path, cache_dir: Path) -> None:
    """Killed 50 times at moments that chance decides; begun anew whenever it is done."""
    asked = [
        *("run", "task=listops", "model=ernie_sparse", "setting=smoke", "train.num_steps=400"),
        *("checkpoint_seconds=0.1", "seed=3", f"cache_dir={cache_dir}", "num_threads=1"),
    ]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = (Bench(tmp_path / name, asked) for name in ("whole", "killed"))
    # The data are prepared, so that it is the training that is killed.
    assert whole.run() == 0, whole.said()
    started = time.monotonic()
    assert whole.run("force=true") == 0, whole.said()
    longest = time.monotonic() - started
    rng, kills, rounds, resumes = random.Random(0), 0, 0, 0
    while kills < 50:
        for path in (killed.results / "runs").rglob("*.json"):
            path.unlink()
        code: int | None = None
        while code is None:
            process = killed.start()
            process.join(None if kills == 50 else rng.uniform(0.05, 0.4) * longest)
            if process.exitcode is None:
                process.kill()
                process.join()
                kills += 1
            else:
                code = process.exitcode
        assert code == 0, killed.said()
        assert numbers(killed.record()) == numbers(whole.record())
        assert killed.leftovers() == []
        rounds += 1
        resumes += killed.record().num_resumes
    print(f"{kills} kills, {resumes} resumes, {rounds} runs, all equal")
