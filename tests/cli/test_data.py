"""The verb ``data``: the table of tasks, preparing, verifying, showing examples."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.outside import line_of, set_bad
from lra_bench import paths
from lra_bench.cli import main

Said = pytest.CaptureFixture[str]


def test_the_data_verb(cache_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ["task=listops", "setting=smoke", f"cache_dir={cache_dir}"]
    assert main(["data", "prepare", *task]) == 0
    assert "train: 200 examples" in capsys.readouterr().out
    assert main(["data", "prepare", *task]) == 0
    again = capsys.readouterr()
    assert again.err == "already prepared\n"
    lines = dict(line.split(": ", 1) for line in again.out.splitlines())
    assert list(lines)[:4] == ["source", "train", "validation", "test"]
    assert Path(lines["folder"]).parent == cache_dir
    assert len(lines["sha256"]) == 64
    assert lines["size"].endswith(" kB")
    assert main(["data", "verify", *task]) == 0
    said = capsys.readouterr()
    assert said.out == "verified listops: 6 checks, all good\n"
    assert said.err.count("\nok  ") == 6
    assert "BAD" not in said.err
    assert main(["data", "show", *task, "split=train", "index=7"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("[M") or shown.startswith("[S")
    assert "train example 7" in shown
    assert main(["data", "show", *task, "index=40"]) == 2


# The table of tasks.


def test_the_table_has_every_task_and_prepares_none(
    outside: list[str], tmp_path: Path, capsys: Said
) -> None:
    assert main(["data", "show", *outside]) == 0
    said = capsys.readouterr().out
    names = {line.split()[0] for line in said.split("\n\n")[0].splitlines()[1:]}
    known = {path.stem for path in (paths.conf_dir() / "task").glob("*.yaml")}
    assert names == known | {"bare", "full"}
    assert line_of(said, "listops").split() == [
        *("listops", "2,000", "10", "96,000", "2,000", "2,000", "16.8%", "no")
    ]
    assert line_of(said, "full").split() == ["full", "64", "10", "7", "8", "9", "10.0%", "no"]
    assert line_of(said, "bare").split() == [*("bare", "2", "x", "6", "2"), *"????", "-"]
    assert "drawn at home (terms: do what you like)" in said
    assert max(map(len, said.split("\nraw files")[0].splitlines())) <= 100
    assert not (tmp_path / "cache/full").exists()
    assert not list((tmp_path / "cache").glob("listops-*"))


def test_the_table_says_what_is_prepared(outside: list[str], capsys: Said) -> None:
    assert main(["data", "prepare", "task=full", *outside]) == 0
    set_bad(outside, "unofficial")
    listops = ["setting=smoke", "task=listops"]
    assert main(["data", "prepare", *listops, *outside]) == 0
    capsys.readouterr()
    assert main(["data", "show", "setting=smoke", *outside]) == 0
    said = capsys.readouterr().out
    assert line_of(said, "full").endswith("10.0%  yes, 12 kB")
    assert line_of(said, "full").split()[3:6] == ["20", "20", "20"]
    assert "drawn, not the official set" in said
    assert "warning: only 20 examples" in said
    assert re.search(r"  200 +40 +40 +16.8%  yes, \d+ kB", line_of(said, "listops"))
    assert "generated, seed 0, generator 1" in said


def test_one_broken_task_spoils_no_table(outside: list[str], capsys: Said) -> None:
    assert main(["data", "prepare", "task=full", *outside]) == 0
    set_bad(outside, "broken")
    (Path(outside[1]) / "task/lost.yaml").write_text("# A test.\n_target_: nowhere.Lost\n")
    (Path(outside[1]) / "task/torn.yaml").write_text("# A test.\n_target_: [\n")
    capsys.readouterr()
    assert main(["data", "show", *outside]) == 0
    said = capsys.readouterr().out
    for name in ("full", "lost", "torn"):
        assert line_of(said, name).endswith("broken")
    words = " ".join(said.split())
    assert "is broken; delete it" in words
    assert "cannot import nowhere.Lost" in words
    assert line_of(said, "listops").endswith("no")


def test_the_table_needs_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from lra_bench.cli import main; "
        f"main(['data', 'show', 'cache_dir={tmp_path}', 'data_dir={tmp_path}']); "
        "sys.exit(bool({'torch', 'tensorflow_datasets', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert [path.name for path in tmp_path.rglob("*")] == []


# Prepare and verify.


def test_prepare_warns_on_stderr(outside: list[str], capsys: Said) -> None:
    set_bad(outside, "unofficial")
    assert main(["data", "prepare", "task=full", *outside]) == 0
    said = capsys.readouterr()
    assert "warning: only 20 examples\n" in said.err
    assert "prepared in 0s" in said.err
    assert "warning" not in said.out
    assert "source: drawn, not the official set" in said.out
    assert "size: 12 kB" in said.out


def test_verify_goes_through_all_that_is_prepared(outside: list[str], capsys: Said) -> None:
    assert main(["data", "verify", "setting=smoke", *outside]) == 0
    assert "no task is prepared with these options in" in capsys.readouterr().out
    for task in ("full", "listops"):
        assert main(["data", "prepare", f"task={task}", "setting=smoke", *outside]) == 0
    capsys.readouterr()
    assert main(["data", "verify", "setting=smoke", *outside]) == 0
    assert capsys.readouterr().out == "verified full, listops: 7 checks, all good\n"


@pytest.mark.parametrize("words", [[], ["task=full"]], ids=["all", "one"])
@pytest.mark.parametrize(
    ("bad", "expected"), [("unofficial", "only 20"), ("broken", "is broken; delete it")]
)
def test_verify_tells_by_its_exit_code_what_it_found(
    outside: list[str], words: list[str], bad: str, expected: str, capsys: Said
) -> None:
    assert main(["data", "prepare", "task=full", *outside]) == 0
    set_bad(outside, bad)
    capsys.readouterr()
    assert main(["data", "verify", *words, *outside]) == 1
    said = capsys.readouterr()
    assert "BAD " in said.err
    assert expected in said.err
    assert said.out.endswith("1 bad (full)\n")


def test_verify_goes_on_after_a_task_that_cannot_be_built(outside: list[str], capsys: Said) -> None:
    assert main(["data", "prepare", "task=full", *outside]) == 0
    (Path(outside[1]) / "task/lost.yaml").write_text("# A test.\n_target_: nowhere.Lost\n")
    capsys.readouterr()
    assert main(["data", "verify", *outside]) == 1
    said = capsys.readouterr()
    assert "cannot import nowhere.Lost" in said.err
    assert "ok  train: 20 examples" in said.err
    assert said.out.startswith("verified lost, full: 2 checks, 1 bad (lost)")


def test_verify_finds_a_broken_cache(outside: list[str], capsys: Said) -> None:
    words = ["task=listops", "setting=smoke", *outside]
    assert main(["data", "prepare", *words]) == 0
    (tokens,) = Path(outside[2].split("=")[1]).rglob("test.tokens")
    tokens.write_bytes(tokens.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["data", "verify", *words]) == 1
    assert "BAD reading" in capsys.readouterr().err
    assert main(["data", "show", *outside, "setting=smoke"]) == 0
    assert line_of(capsys.readouterr().out, "listops").endswith("broken")


def test_data_that_cannot_be_had_are_a_mistake(outside: list[str], capsys: Said) -> None:
    set_bad(outside, "absent")
    for action in ("prepare", "verify", "show"):
        assert main(["data", action, "task=full", *outside]) == 2
        assert capsys.readouterr().err == "lra-bench: there is no raw file; put it there\n"


def wait_for(seen: Callable[[], bool]) -> None:
    """Wait until something is so; a busy machine may take long."""
    for _ in range(30_000):
        if seen():
            return
        time.sleep(0.01)
    pytest.fail("it never came")


def test_an_interrupted_preparation_is_one_line(outside: list[str], tmp_path: Path) -> None:
    set_bad(outside, "slow")
    command = [sys.executable, "-m", "lra_bench.cli", "data", "prepare", "task=full", *outside]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: (tmp_path / "cache/began").exists())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert err == "\ninterrupted; give the same line again to go on\n"
    assert out == ""
    assert not (tmp_path / "cache/full").exists()


def test_an_interrupted_generation_leaves_nothing_broken(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ["task=listops", "task.num_train=20000", f"cache_dir={cache}"]
    command = [sys.executable, "-m", "lra_bench.cli", "data"]
    with subprocess.Popen(
        [*command, "prepare", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: bool(list(cache.glob(".*.partial/train.tokens"))))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert err.strip() == "interrupted; give the same line again to go on"
    assert not list(cache.rglob("*"))


def test_a_reader_who_leaves_is_no_error(outside: list[str]) -> None:
    words = " ".join([*outside, "task=bare", "split=train", "count=30"])
    line = f"{sys.executable} -m lra_bench.cli data show {words} | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "input 1:\n")


# Examples.


def test_a_bare_task_is_shown(outside: list[str], capsys: Said) -> None:
    assert main(["data", "show", "task=bare", "split=train", "index=2", *outside]) == 0
    said = capsys.readouterr().out
    expected = (
        "input 1:\n1 2 3 4\n\ninput 2:\n1 2 3\n\nlabel 0, length 4 and 3 tokens, train example 2"
    )
    assert said.startswith(expected)
    assert "30 train examples, lengths [tokens]: the longer input of each; 3 to 6, median" in said
    assert "6 (20.0%) have max_length=6 tokens: cut to it, or just as long" in said
    assert said.endswith("labels  0: 15, 1: 15\n")


def test_several_texts_are_told_apart(outside: list[str], capsys: Said) -> None:
    assert main(["data", "show", "task=bare", "index=28", "count=5", *outside]) == 0
    said = capsys.readouterr().out
    assert said.count("\n--------------------\n") == 1
    assert "test example 28" in said
    assert "test example 29" in said
    assert main(["data", "show", "task=bare", "index=30", *outside]) == 2
    assert "test has 30 examples" in capsys.readouterr().err


def test_pictures_are_readable_in_a_log(outside: list[str], capsys: Said) -> None:
    assert main(["data", "show", "task=full", "index=19", *outside]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    # Gray 190 of 255 is the eighth of ten shades; two rows of pixels make a line.
    assert said.startswith(("*" * 8 + "\n") * 4) or said.startswith(("#" * 8 + "\n") * 4)
    assert "\ngray 190\nlabel 9, length 64 tokens, test example 19\n" in said
    assert "20 test examples, all of 64 tokens\n" in said


def test_pictures_stand_side_by_side(outside: list[str], capsys: Said) -> None:
    assert main(["data", "show", "task=full", "count=20", *outside]) == 0
    shown = capsys.readouterr().out.split("\n\n20 test")[0]
    rows = shown.split("\n\n")
    captions = [re.findall(r"\d+: label \d", row.splitlines()[-1]) for row in rows]
    assert [caption for row in captions for caption in row] == [
        f"{index}: label {index % 10}" for index in range(20)
    ]
    # 7 captions of 11 columns and the gaps between them are 95 wide.
    assert len(captions[0]) == 7
    assert max(map(len, shown.splitlines())) <= 100


def test_a_sheet_is_saved(outside: list[str], tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "sheet.png"
    path.write_text("something old")
    assert main(["data", "show", "task=full", "--save", str(path), *outside]) == 0
    assert f"saved 16 of 20 test examples to {path}\n" in capsys.readouterr().out
    sheet = np.asarray(Image.open(path))
    # Two rows of eight, each 128 pixels, between gaps.
    assert sheet.shape == (2 * 148 + 6, 8 * 134 + 6)
    assert (sheet[6:134, 6 + 3 * 134 : 6 + 3 * 134 + 128] == 30).all()
    assert (sheet[154:282, 6 + 5 * 134 : 6 + 5 * 134 + 128] == 130).all()
    # Captions are written.
    assert (sheet[135:147, 6:134] < 100).any()
    assert [item.name for item in tmp_path.iterdir() if item.name.endswith(".tmp")] == []


@pytest.mark.parametrize("task", ["full", "bare"])
def test_what_is_printed_is_saved(
    outside: list[str], tmp_path: Path, task: str, capsys: Said
) -> None:
    path = tmp_path / "shown.txt"
    words = ["data", "show", f"task={task}", "count=3", *outside]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert main([*words, "--save", str(path)]) == 0
    assert printed.startswith(path.read_text())


def test_places_that_cannot_be_written_are_refused_first(
    outside: list[str], tmp_path: Path, capsys: Said
) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "missing/sheet.png", "sheet.gif", "sheet"):
        assert main(["data", "show", "task=full", "--save", str(tmp_path / name), *outside]) == 2
        said = capsys.readouterr().err
        assert name in said
        assert len(said.splitlines()) == 1
    assert main(["data", "show", "task=bare", "--save", str(tmp_path / "x.png"), *outside]) == 2
    assert "no pictures; save them as .txt" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "x.png").exists()


def test_a_terminal_is_left_tidy(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    words = ["task=listops", "setting=smoke", f"cache_dir={tmp_path}", "count=2"]
    done = subprocess.run(
        [sys.executable, "-m", "lra_bench.cli", "data", "show", *words],
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        check=True,
    )
    os.close(follower)
    # What moved has been erased, and nothing else was said.
    moved = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "drawing expressions 280/280" in moved
    assert moved.endswith("\r")
    assert moved.split("\r")[-2].strip() == ""
    assert done.stdout.startswith("[")
