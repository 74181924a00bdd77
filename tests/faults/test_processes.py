"""A run of several processes, one of which is killed, signalled or refuses: none is left behind."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from together import places

from faults.harness import Bench, Fault, numbers
from lra_bench.record import RunRecord

STEPS = ["train.num_steps=24", "train.eval_every=9", "train.learning_rate=0.01"]
TWO = "num_processes=2"
SAVING = ["checkpoint_seconds=0", "checkpoint_share=1"]


@pytest.fixture(scope="module")
def words(made_up_conf: Path) -> list[str]:
    return [
        *("run", "--config-dir", str(made_up_conf), "task=even", "model=ernie_sparse"),
        *("setting=smoke", "num_threads=1", *STEPS, "quiet=true"),
    ]


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), words)
    assert codes(start_all(bench, 2)) == [0, 0], bench.said()
    # One writes and speaks, all end alike; asked for again, all find that it is done.
    assert len(bench.said().splitlines()) == 2
    assert codes(start_all(bench, 2)) == [0, 0], bench.said()
    assert len(bench.said().splitlines()) == 2
    return bench.record()


def check(bench: Bench, undisturbed: RunRecord) -> None:
    assert numbers(bench.record()) == numbers(undisturbed)
    assert bench.leftovers() == []


def start_all(bench: Bench, size: int, *words: str) -> list[ForkServerProcess]:
    """Start processes as torchrun does."""
    return [bench.start(*words, environ=environ) for environ in places(size)]


def codes(processes: list[ForkServerProcess]) -> list[int | None]:
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def reach_steps(bench: Bench) -> None:
    """Wait until a run that saves whenever it can makes steps."""
    until = time.monotonic() + 60
    while not list(bench.results.glob("checkpoints/*.pt")):
        assert time.monotonic() < until, bench.said()
        time.sleep(0.002)


@pytest.fixture
def long(tmp_path: Path, words: list[str]) -> Bench:
    """Return a run that lasts until somebody ends it."""
    kept = [word for word in words if not word.startswith("train.num_steps")]
    endless = ["train.num_steps=1000000", "train.eval_every=1000000"]
    return Bench(tmp_path, [*kept, *SAVING, *endless])


def test_the_processes_are_recorded(undisturbed: RunRecord) -> None:
    assert undisturbed.num_processes == 2
    assert [session["num_processes"] for session in undisturbed.sessions] == [2]


@pytest.mark.slow
def test_one_process_makes_the_same(tmp_path: Path, words: list[str]) -> None:
    """But for what is dropped, and for rounding; it is the same run."""
    records = []
    for size in (1, 3):
        (tmp_path / str(size)).mkdir()
        bench = Bench(tmp_path / str(size), [*words, "trunk.dropout=0"])
        assert codes(start_all(bench, size)) == [0] * size, bench.said()
        records.append(bench.record())
    one, three = records
    assert (one.run_id, one.num_processes) == (three.run_id, 1)
    assert one.test is not None
    assert three.test is not None
    assert one.test.sums["targets"] == three.test.sums["targets"]
    assert three.test.loss == pytest.approx(one.test.loss, rel=1e-4)


@pytest.mark.parametrize(
    ("rank", "number", "code"),
    [
        (1, signal.SIGTERM, 143),
        pytest.param(0, signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(0, signal.SIGUSR1, 143, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_one_saves_and_ends_all(
    tmp_path: Path, words: list[str], undisturbed: RunRecord, rank: int, number: int, code: int
) -> None:
    bench = Bench(tmp_path, [*words, *SAVING])
    processes = start_all(bench, 2)
    reach_steps(bench)
    pid = processes[rank].pid
    assert pid is not None
    os.kill(pid, number)
    assert codes(processes) == [code, code], bench.said()
    assert bench.said().strip() == "interrupted; give the same line again to go on"
    assert codes(start_all(bench, 2)) == [0, 0], bench.said()
    check(bench, undisturbed)
    assert bench.record().num_resumes == 1


def test_going_on_with_another_number_is_recorded(
    tmp_path: Path, words: list[str], undisturbed: RunRecord
) -> None:
    loud = [word for word in words if word != "quiet=true"]
    bench = Bench(tmp_path, [*loud, *SAVING])
    first, second = places(2)
    processes = [
        bench.start(fault=Fault(dies_at=20), environ=first),
        bench.start(environ=second),
    ]
    assert codes(processes) == [-signal.SIGKILL, 1]
    bench.said()
    assert codes(start_all(bench, 3)) == [0, 0, 0]
    assert "note: earlier steps were made with num_processes 2, now it is 3" in bench.said()
    record = bench.record()
    assert record.num_processes == 3
    assert [session["num_processes"] for session in record.sessions] == [2, 3]
    assert record.sessions[1]["from_step"] > 0
    assert record.num_steps == undisturbed.num_steps
    assert len(record.curve) == len(undisturbed.curve)
    assert bench.leftovers() == []


def test_one_that_dies_ends_all(long: Bench) -> None:
    processes = start_all(long, 3)
    reach_steps(long)
    processes[2].kill()
    assert codes(processes) == [1, 1, -signal.SIGKILL]
    said = long.said().strip().splitlines()
    assert len(said) == 2, said
    assert said[0].startswith("failed: RankLost: "), said
    assert (long.record().status, long.record().num_processes) == ("failed", 3)


@pytest.mark.slow
def test_the_first_that_dies_ends_all(long: Bench) -> None:
    processes = start_all(long, 2)
    reach_steps(long)
    processes[0].kill()
    assert codes(processes) == [-signal.SIGKILL, 1]
    # PyTorch complains, and nobody is there to say more.
    assert "Traceback" not in long.said()
    assert long.records() == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        pytest.param(["trunk.num_heads=3"], "heads", marks=pytest.mark.slow),
        (["task.num_examples=0"], "has a split without examples"),
        (["num_processes=3"], "num_processes=3, but 2 processes were started already"),
        (["-m", "seed=0,1"], "a sweep is one process"),
    ],
)
def test_what_is_refused_is_said_once(
    tmp_path: Path, words: list[str], wrong: list[str], text: str
) -> None:
    bench = Bench(tmp_path, words)
    assert codes(start_all(bench, 2, *wrong)) == [2, 2], bench.said()
    (line,) = bench.said().strip().splitlines()
    assert line.startswith("lra-bench: "), line
    assert text in line


def test_one_that_would_do_something_else_is_refused(tmp_path: Path, words: list[str]) -> None:
    bench = Bench(tmp_path, words)
    first, second = places(2)
    processes = [bench.start(environ=first), bench.start("seed=1", environ=second)]
    assert codes(processes) == [2, 2], bench.said()
    (line,) = bench.said().strip().splitlines()
    assert "process 1 of 2 would do something else" in line


def children_of(pid: int | None) -> list[int]:
    """Return the processes that one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_the_command_starts_the_others_and_ends_with_them(long: Bench) -> None:
    """Of what it has started, one process forks the others; of these there is one."""
    process = long.start(TWO)
    reach_steps(long)
    (other,) = [pid for child in children_of(process.pid) for pid in children_of(child)]
    os.kill(other, signal.SIGKILL)
    assert codes([process]) == [1]
    said = long.said().strip().splitlines()
    assert said[0] == "failed: RankLost: process 1 of 2 was killed by signal 9", said
    assert long.record().status == "failed"


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_make_what_one_makes(tmp_path: Path, words: list[str]) -> None:
    records = []
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
        bench = Bench(tmp_path / str(size), [*words, "trunk.dropout=0", "device=cuda"])
        assert bench.run(f"num_processes={size}") == 0, bench.said()
        records.append(bench.record())
    one, two = records
    assert one.test is not None
    assert two.test is not None
    assert two.num_processes == 2
    assert two.test.loss == pytest.approx(one.test.loss, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_one_that_dies_ends_all_on_gpus(long: Bench) -> None:
    process = long.start(TWO, "device=cuda")
    reach_steps(long)
    (other,) = [pid for child in children_of(process.pid) for pid in children_of(child)]
    os.kill(other, signal.SIGKILL)
    assert codes([process]) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
def test_a_sweep_of_runs_of_two(
    tmp_path: Path, words: list[str], undisturbed: RunRecord, launcher: list[str]
) -> None:
    bench = Bench(tmp_path, [*words, "-m", "seed=0,1", TWO, *launcher])
    assert bench.run() == 0, bench.said()
    records = bench.records()
    assert [record.num_processes for record in records] == [2, 2]
    assert numbers(undisturbed) in [numbers(record) for record in records]


def killed_at_random(bench: Bench, expected: RunRecord, *, kills: int, longest: float) -> int:
    """Kill one of two processes, or both, at moments that chance decides; return the resumes."""
    rng, left, resumes = random.Random(0), kills, 0
    while left:
        for path in (bench.results / "runs").rglob("*.json"):
            path.unlink()
        done = False
        while not done:
            processes = start_all(bench, 2)
            victims = [processes[0], processes[1], *processes][rng.randrange(3) :][:2]
            processes[0].join(rng.uniform(0.05, 0.6) * longest if left else None)
            if processes[0].exitcode is None:
                for victim in victims:
                    victim.kill()
                left -= 1
            ended = codes(processes)
            done = ended == [0, 0]
            assert done or set(ended) <= {0, 1, -signal.SIGKILL}, (ended, bench.said())
        check(bench, expected)
        resumes += bench.record().num_resumes
    return resumes


def test_killed_now_and_then(tmp_path: Path, words: list[str], undisturbed: RunRecord) -> None:
    bench = Bench(tmp_path, [*words, *SAVING])
    killed_at_random(bench, undisturbed, kills=1, longest=1.0)


@pytest.mark.slow
def test_fifty_kills_of_two_processes(tmp_path: Path, cache_dir: Path) -> None:
    asked = [
        *("run", "task=listops", "model=ernie_sparse", "setting=smoke", "train.num_steps=150"),
        "train.eval_every=50",
        *("checkpoint_seconds=0.1", "seed=3", f"cache_dir={cache_dir}", "num_threads=1"),
    ]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, killed = (Bench(tmp_path / name, asked) for name in ("whole", "killed"))
    assert codes(start_all(whole, 2)) == [0, 0], whole.said()
    started = time.monotonic()
    assert codes(start_all(whole, 2, "force=true")) == [0, 0], whole.said()
    longest = time.monotonic() - started
    resumes = killed_at_random(killed, whole.record(), kills=50, longest=longest)
    print(f"50 kills, {resumes} resumes, all equal")
