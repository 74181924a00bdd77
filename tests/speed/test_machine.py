"""Who else computes, energy, and whose turn it is; from made-up files of the system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from lra_bench.errors import UserError
from lra_bench.speed import machine
from lra_bench.speed.machine import EnergyCounters


def test_the_time_that_all_cores_computed(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    ticks = os.sysconf("SC_CLK_TCK")
    # user nice system idle iowait irq softirq steal guest guest_nice
    stat.write_text(f"cpu {ticks} {ticks} {ticks} 900 900 0 0 {ticks} 0 0\ncpu0 1 2 3\n")
    assert machine.busy_seconds(stat) == 4.0
    for text in ("", "cpu\n", "cpu a b c d e f g h\n", "intr 1 2 3 4 5 6 7 8\n"):
        stat.write_text(text)
        assert machine.busy_seconds(stat) is None
    assert machine.busy_seconds(tmp_path / "nowhere") is None


def test_most_of_the_free_memory_is_for_one_process(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 9000 kB\nMemAvailable:    1000 kB\n")
    assert machine.memory_for_one_process(file) == 921_600
    for text in ("", "MemAvailable: much\n"):
        file.write_text(text)
        assert machine.memory_for_one_process(file) is None


def processor(folder: Path, *, microjoules: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")


def test_energy_is_the_sum_of_all_processors_and_counters_begin_again(tmp_path: Path) -> None:
    processor(tmp_path / "intel-rapl:0", microjoules=9_000_000)
    processor(tmp_path / "intel-rapl:1", microjoules=1_000_000)
    # A part of the first, which must not count twice.
    processor(tmp_path / "intel-rapl:0:0", microjoules=5_000_000)
    counters = EnergyCounters(powercap=tmp_path)
    assert counters.joules() == 10.0
    processor(tmp_path / "intel-rapl:0", microjoules=1_000_000)
    assert counters.joules() == 12.0
    processor(tmp_path / "intel-rapl:0", microjoules=3_000_000)
    assert counters.joules() == 14.0


def test_energy_that_nobody_tells_is_absent(tmp_path: Path) -> None:
    assert EnergyCounters(powercap=tmp_path).joules() is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert EnergyCounters(powercap=tmp_path).joules() is None
    # No such GPU, or no library that knows any.
    assert EnergyCounters(gpu="GPU-of-nobody").joules() is None


def test_only_one_measures_at_a_time(tmp_path: Path) -> None:
    path, said = tmp_path / "speed.lock", list[str]()
    with machine.turn(path, wait=False, command="3 cells", say=said.append):
        with pytest.raises(UserError, match=f"process {os.getpid()} .*: 3 cells"):
            take(path)
        waited = Waiting()
        with (
            pytest.raises(Waiting),
            machine.turn(path, wait=True, command="mine", say=said.append, check=waited.enough),
        ):
            pass
        assert len(said) == 1
        assert "waiting for it (wait=false stops instead)" in said[0]
    take(path)
    # An owner that has not said who it is.
    with FileLock(path), pytest.raises(UserError, match=r"speed\.lock is locked"):
        take(path)


def take(path: Path) -> None:
    with machine.turn(path, wait=False, command="mine", say=pytest.fail):
        pass


class Waiting(Exception):
    def enough(self) -> None:
        raise self


def test_a_folder_without_locks_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "speed.lock").mkdir()
    with machine.turn(tmp_path / "speed.lock", wait=False, command="x", say=said.append):
        assert "cannot be locked" in said[0]
