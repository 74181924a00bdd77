"""The verb ``speed``: cells, limits, going on, mistakes."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import made_up_models
import pytest

from lra_bench.cli import main
from lra_bench.speed import machine
from lra_bench.speed import record as records
from lra_bench.speed.record import SpeedRecord

Cli = list[str]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return the words of cells that take seconds, most of them to start processes."""
    # Others measure here, too, while tests run.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "conf"))
    made_up_models.write(tmp_path / "conf")
    fast = ["--rounds", "2", "--round-seconds", "0", "--config-dir", str(tmp_path / "conf")]
    sizes = ["setting=smoke", "length=16", "batch_size=2", "num_threads=1"]
    return ["speed", *sizes, f"results_dir={tmp_path / 'results'}", *fast]


def cells(tmp_path: Path) -> dict[str, SpeedRecord]:
    found = records.collect(tmp_path / "results")
    assert not found.skipped
    return {record.model.removeprefix("odd_"): record for record in found.records}


def interrupt_when(path: Path) -> None:
    """Do what Ctrl-C does, once a file is there and whatever follows it has begun."""
    deadline = time.monotonic() + 240
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="limits of memory are Linux's")
def test_interrupted_gone_on_with_and_not_stopped_by_a_model_without_a_result(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One test, since every model of it is a process that takes seconds to start."""
    folder = tmp_path / "results/speed/smoke/text/odd_fine"
    threading.Thread(target=interrupt_when, args=[folder], daemon=True).start()
    assert main([*words, "model=odd_fine,odd_slow"]) == 130
    assert "give the same line again to go on" in capsys.readouterr().err
    (fine,) = cells(tmp_path).values()
    (path,) = folder.iterdir()
    written = path.stat().st_mtime_ns
    check_finished(fine)

    words += ["model=odd_fine,odd_slow,odd_dies,odd_greedy,odd_killed"]
    limits = ["--limit", "8", "--memory-limit", "4"]
    assert main([*words, *limits]) == 1
    said = capsys.readouterr()
    assert "1 cell measured before" in said.err
    assert path.stat().st_mtime_ns == written
    found = cells(tmp_path)
    assert found["fine"] == fine
    check_without_result(found)
    assert "odd_slow at 16: out of time: more than the 8 s allowed" in said.out
    assert f"tables:  {tmp_path / 'results'}" in said.out

    # With everything there that can be, no process is started.
    words[-1] = "model=odd_fine,odd_slow,odd_greedy,odd_killed"
    assert main([*words, *limits, "quiet=true"]) == 0
    assert cells(tmp_path) == found
    assert capsys.readouterr().err == ""

    # A record that is broken is not taken for the result, nor written over.
    path.write_text("{")
    assert main(words) == 2
    assert "delete it to measure again" in capsys.readouterr().err


def check_finished(record: SpeedRecord) -> None:
    assert record.status == "completed"
    assert (record.setting, record.task, record.length) == ("smoke", "text", 16)
    assert (record.num_threads, record.num_cores) == (1, os.cpu_count())
    for mode in records.MODES:
        for timing in (record.timing(mode), record.baseline_timing(mode)):
            assert timing is not None
            assert len(timing.seconds_per_step) == 2
            assert timing.steps_per_round == 1
    assert record.num_parameters
    assert record.versions["torch"]
    assert "1 thread" in record.device
    assert record.command.startswith("lra-bench speed setting=smoke task=text model=odd_fine")


def check_without_result(found: dict[str, SpeedRecord]) -> None:
    assert {name: record.status for name, record in found.items()} == {
        "fine": "completed",
        "slow": "out_of_time",
        "dies": "failed",
        "greedy": "out_of_memory",
        "killed": "out_of_memory",
    }
    assert found["slow"].limit_seconds == 8.0
    assert found["dies"].error == "its process ended with code 3: the last word"
    assert "ended the process for want of memory" in (found["killed"].error or "")
    assert found["greedy"].memory_limit_bytes == 4 * 10**9


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["model=loca"], "did you mean local?"),
        (["setting=cpuu"], "did you mean cpu?"),
        (["length=12x"], "length=12x must be whole numbers from 1 to"),
        (["length="], "must be whole numbers"),
        (["length=0"], "must be whole numbers"),
        (["batch_size=-1"], "batch_size=-1 must be whole numbers"),
        (["batch_size=1,2"], "batch_size= takes one number"),
        (["model=local", "lenght=3"], "no option 'lenght'"),
        (["model=local", "train.num_steps=3"], "changes nothing that is measured"),
        (["model=local", "model.mixer.block_size=big"], "is not a whole number"),
        (["model=local", "trunk.qkv_width=15"], "does not divide"),
        (["model=local", "num_threads=1,2"], "take one value"),
        (["tracker=wandb"], "tracker=wandb belongs to `lra-bench run`"),
        (["hydra/launcher=joblib"], "belongs to `lra-bench run -m`"),
        (["--limit", "0"], "--limit 0.0 must be positive"),
        (["--limit", "soon"], "invalid float value"),
        (["--memory-limit", "nan"], "--memory-limit nan must be positive"),
        (["--rounds", "0"], "--rounds 0 must be positive"),
        (["--round-seconds", "-1"], "--round-seconds -1.0 must be from 0"),
        (["--tables", "model=local"], "--tables takes results_dir= alone"),
        (["--tables", "results_dir=nowhere"], "nowhere is not a folder"),
        (["-m"], "-m belongs to `lra-bench run`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_before_anything_is_measured(
    wrong: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = [] if "--tables" in wrong else ["setting=smoke", "num_threads=1"]
    assert main(["speed", *sizes, *wrong]) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_measurements_at_once_are_not_made(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["model=odd_fine"]
    with machine.turn(machine.lock_path(), wait=False, command="a test", say=print):
        assert main([*words, "wait=false"]) == 2
        assert "another measurement is under way on this machine" in capsys.readouterr().err
    assert not (tmp_path / "results/speed.md").exists()


def test_tables_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "--tables", f"results_dir={tmp_path}"]) == 0
    said = capsys.readouterr()
    assert "Nothing measured yet." in said.out
    assert (tmp_path / "speed.md").read_text().startswith("# Speed and memory\n")
