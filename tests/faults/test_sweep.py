"""Identical sweeps at once, killed now and then: every run is there once, with its numbers."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from faults.harness import Bench, numbers

SEEDS = "seed=0,1,2"


@pytest.fixture(scope="module")
def words(made_up_conf: Path) -> list[str]:
    return [
        *("run", "-m", "--config-dir", str(made_up_conf), "task=first", "model=local", SEEDS),
        *("setting=smoke", "num_threads=1", "train.num_steps=10", "train.eval_every=5"),
        *("checkpoint_seconds=0", "checkpoint_share=0.2", "quiet=true"),
    ]


@pytest.fixture(scope="module")
def expected(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), words)
    assert bench.run() == 0, bench.said()
    return [numbers(record) for record in bench.records()]


def test_two_at_once(tmp_path: Path, words: list[str], expected: list[object]) -> None:
    bench = Bench(tmp_path, words)
    processes = [bench.start() for _ in range(2)]
    for process in processes:
        process.join()
    said = bench.said()
    assert [process.exitcode for process in processes] == [0, 0], said
    assert [numbers(record) for record in bench.records()] == expected
    # Together they have done each run once: what one did, the other found done.
    assert sum(map(int, re.findall(r"(\d+) done", said))) == 3, said
    assert bench.leftovers() == []


def test_a_signal_stops_the_sweep_and_the_same_line_goes_on(
    tmp_path: Path, words: list[str], expected: list[object]
) -> None:
    bench = Bench(tmp_path, words)
    sweep = bench.start()
    while not list((bench.results / "live").glob("*.json")):
        assert sweep.exitcode is None, bench.said()
        time.sleep(0.001)
    assert sweep.pid is not None
    os.kill(sweep.pid, signal.SIGTERM)
    sweep.join()
    said = bench.said()
    assert sweep.exitcode == 143, said
    assert re.search(r"^1 interrupted, 2 not begun, in ", said, re.MULTILINE), said
    assert bench.run() == 0
    assert [numbers(record) for record in bench.records()] == expected
    assert bench.leftovers() == []


def rounds_with_kills(
    bench: Bench, expected: list[object], rng: random.Random, *, kills: int
) -> None:
    """Run two identical sweeps at once, kill one or the other, and start it again."""
    sweeps: list[ForkServerProcess] = [bench.start() for _ in range(2)]
    while kills:
        victim = rng.randrange(2)
        sweeps[victim].join(rng.uniform(0.05, 1.5))
        if sweeps[victim].exitcode is None:
            sweeps[victim].kill()
            sweeps[victim].join()
            assert sweeps[victim].exitcode == -signal.SIGKILL
        kills -= 1
        sweeps[victim] = bench.start()
    for sweep in sweeps:
        sweep.join()
    assert [sweep.exitcode for sweep in sweeps] == [0, 0], bench.said()
    assert [numbers(record) for record in bench.records()] == expected
    assert bench.leftovers() == []


def test_a_killed_sweep_goes_on(tmp_path: Path, words: list[str], expected: list[object]) -> None:
    rounds_with_kills(Bench(tmp_path, words), expected, random.Random(0), kills=2)


@pytest.mark.slow
def test_twenty_rounds(tmp_path: Path, words: list[str], expected: list[object]) -> None:
    rng = random.Random(1)
    for number in range(20):
        (tmp_path / str(number)).mkdir()
        rounds_with_kills(Bench(tmp_path / str(number), words), expected, rng, kills=4)
