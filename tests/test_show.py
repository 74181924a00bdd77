"""Data as people see them: the table of tasks, examples, pictures, lengths, files."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from lra_bench.show import Screen
from PIL import Image

from lra_bench import show
from lra_bench.cli import main
from lra_bench.errors import UserError
from lra_bench.types import Example, Examples, Split, Task, TaskSpec

Said = pytest.CaptureFixture[str]

# Nothing but what must be there.
BARE = """
import numpy as np
from lra_bench.types import Example, Task, TaskSpec


class Bare(Task):
    def __init__(self) -> None:
        self.spec = TaskSpec("bare", vocab_size=9, max_length=6, num_classes=2, num_inputs=2)

    def examples(self, split):
        rows = [(np.arange(1, 3 + n % 5), np.arange(1, 4)) for n in range(30)]
        return [Example(row, n % 2) for n, row in enumerate(rows)]

    def fingerprint(self):
        return "0" * 64
"""
# Everything there is: pictures, and a state that the test writes into a file.
FULL = """
import json
import time
from pathlib import Path

import numpy as np
from lra_bench.errors import UserError
from lra_bench.types import (About, Example, Progress, Task, TaskSpec, Verification)


class Full(Task):
    def __init__(self, *, cache_dir: Path, bad: str = "none", num: int = 20) -> None:
        self.spec = TaskSpec("full", 256, 64, 10, majority_baseline=0.1)
        self.place = cache_dir / "full"
        self.bad, self.num = bad, num

    def prepare(self, progress=lambda _: None):
        if self.bad == "broken" and self.place.exists():
            raise UserError(f"{self.place} is broken; delete it")
        if self.bad == "absent":
            raise UserError("there is no raw file; put it there")
        if self.bad == "slow":
            self.place.parent.mkdir(parents=True, exist_ok=True)
            (self.place.parent / "began").touch()
        for at in range(6000 if self.bad == "slow" else 1):
            progress(Progress("thinking", at, 1000))
            time.sleep(0.01)
        self.place.mkdir(parents=True, exist_ok=True)
        (self.place / "data").write_bytes(bytes(12_000))

    def is_prepared(self):
        return self.place.exists()

    def folder(self):
        return self.place if self.place.exists() else None

    def about(self):
        return About("drawn at home", "do what you like", {"train": 7, "validation": 8, "test": 9})

    def provenance(self):
        found = {"source": "drawn"}
        if self.bad == "unofficial":
            found = {"source": "drawn, not the official set", "warning": "only 20 examples"}
        if self.bad == "broken":
            raise UserError(f"{self.place} is broken; delete it")
        return found

    def verify(self):
        yield Verification("train: 20 examples", None)
        if self.bad == "unofficial":
            yield Verification("official set", "only 20 examples")

    def examples(self, split):
        assert self.place.exists()
        rows = [np.full(64, 10 * n, np.uint8) for n in range(self.num)]
        return [Example((row,), n % 10) for n, row in enumerate(rows)]

    def fingerprint(self):
        return "1" * 64

    def decode(self, example):
        return f"gray {example.inputs[0][0]}"

    def picture(self, example):
        return example.inputs[0].reshape(8, 8)
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that add two tasks from outside, and a folder of prepared data."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("outside_bare", "outside_full"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("LRA_BENCH_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "conf/task").mkdir(parents=True)
    for name, code in (("bare", BARE), ("full", FULL)):
        (tmp_path / f"conf/outside_{name}.py").write_text(code)
        (tmp_path / f"conf/task/{name}.yaml").write_text(
            f"# A test.\n_target_: outside_{name}.{name.title()}\n"
        )
    with (tmp_path / "conf/task/full.yaml").open("a") as file:
        file.write("bad: none\nnum: 20\n")
    return ["--config-dir", str(tmp_path / "conf"), f"cache_dir={tmp_path / 'cache'}"]


def set_bad(outside: Sequence[str], bad: str) -> None:
    path = Path(outside[1]) / "task/full.yaml"
    path.write_text(re.sub("bad: .*", f"bad: {bad}", path.read_text()))


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{name} "))


# The table of tasks.


def test_the_table_has_every_task_and_prepares_none(
    outside: list[str], tmp_path: Path, capsys: Said
) -> None:
    assert main(["data", "show", *outside]) == 0
    said = capsys.readouterr().out
    names = {line.split()[0] for line in said.split("\n\n")[0].splitlines()[1:]}
    known = {path.stem for path in (Path(__file__).parents[1] / "conf/task").glob("*.yaml")}
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


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_is_as_wide_as_asked(width: int) -> None:
    spec = TaskSpec("review_pairs", 257, 16_384, 10, num_inputs=2, majority_baseline=0.168)
    sizes: dict[Split, int] = {"train": 160_000, "validation": 20_000, "test": 20_000}
    summary = show.Summary(
        "review_pairs", spec, sizes, "yes, 999 MB", "IMDB " * 30, "none " * 30, ["warning: x"]
    )
    lines = show.table_of([summary, summary], width).splitlines()
    assert max(map(len, lines)) <= max(width, 82)
    # What belongs to a name is set in below it.
    assert all(line.startswith(" " * 4) for line in lines[7:9])


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
    assert "no task is prepared in" in capsys.readouterr().out
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
    for _ in range(6000):
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
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert err == "\ninterrupted; give the same line again to go on\n"
    assert out == ""
    assert not (tmp_path / "cache/full").exists()


def test_an_interrupted_generation_leaves_nothing_broken(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ["task=listops", "task.num_train=3000", f"cache_dir={cache}"]
    command = [sys.executable, "-m", "lra_bench.cli", "data"]
    with subprocess.Popen(
        [*command, "prepare", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: bool(list(cache.glob(".*.partial/train.tokens"))))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
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


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="No space left on device"):
            show.save(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["sheet.png"]


# What can be shown where.


class Plain(Task):
    def __init__(self, picture: object = None, text: str = "") -> None:
        self.spec = TaskSpec("plain", 256, 64, 10)
        self._picture, self._text = picture, text

    def examples(self, split: Split) -> Examples:
        return [Example((np.arange(1, 5),), 0)]

    def fingerprint(self) -> str:
        return ""

    def decode(self, example: Example) -> str:
        return self._text

    def picture(self, example: Example) -> np.ndarray | None:
        return self._picture  # type: ignore[return-value]


def shown(task: Task, screen: Screen) -> str:
    return show.as_text(show.select(task, task.examples("test"), "test", 0, 1), screen)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((3, 3)), np.zeros(9, np.uint8), np.zeros((0, 3), np.uint8), [[1]], "x"],
    ids=["float", "flat", "empty", "list", "text"],
)
def test_what_is_no_picture_is_a_clear_line(picture: object) -> None:
    with pytest.raises(UserError, match="must be an array of uint8, shape"):
        shown(Plain(picture), Screen())


def test_colors_are_those_of_the_pixels() -> None:
    picture = np.array([[0, 255, 255], [128, 8, 8], [7, 7, 7]], np.uint8)
    full = shown(Plain(picture), Screen(colors="24bit")).splitlines()
    assert full[0] == (
        "\x1b[38;2;0;0;0;48;2;128;128;128m▀\x1b[38;2;255;255;255;48;2;8;8;8m▀▀\x1b[0m"
    )
    # A row that is missing is black.
    assert full[1] == "\x1b[38;2;7;7;7;48;2;0;0;0m▀▀▀\x1b[0m"
    few = shown(Plain(picture), Screen(colors="256")).splitlines()
    assert few[0] == "\x1b[38;5;16;48;5;244m▀\x1b[38;5;231;48;5;232m▀▀\x1b[0m"
    assert shown(Plain(picture), Screen(colors="24bit", encoding="ascii")).isascii()


def test_a_wide_picture_shrinks() -> None:
    picture = np.zeros((256, 256), np.uint8)
    picture[:, 128:] = 255
    lines = shown(Plain(picture), Screen(width=100)).splitlines()
    width = 86
    assert {len(line) for line in lines[:40]} == {width}
    assert set(lines[0]) <= set(" @=+-*")
    assert lines[0][0] == " "
    assert lines[0][-1] == "@"


def test_a_terminal_is_asked_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        for variables, expected in (
            ({"TERM": "xterm", "COLORTERM": "truecolor"}, "24bit"),
            ({"TERM": "xterm-256color", "COLORTERM": ""}, "256"),
            ({"TERM": "vt100", "COLORTERM": ""}, "none"),
            ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
            ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
        ):
            with monkeypatch.context() as environment:
                environment.delenv("NO_COLOR", raising=False)
                for name, value in variables.items():
                    environment.setenv(name, value)
                screen = Screen.of(terminal)
                assert (screen.colors, screen.is_terminal) == (expected, True)
    os.close(leader)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert Screen.of(io.TextIOWrapper(io.BytesIO(), "ascii")).colors == "none"


def test_a_text_cannot_act_on_a_terminal() -> None:
    text = "a\x1b]0;title\x07\tb\r\x9b1m\u202e\nsecond \u00e9 \u2713\u00a0"
    said = shown(Plain(text=text), Screen()).split("\n\n")[0]
    assert said == "a\\x1b]0;title\\x07\tb\\r\\x9b1m\\u202e\nsecond \u00e9 \u2713\u00a0"
    plain = shown(Plain(text=text), Screen(encoding="ascii")).split("\n\n")[0]
    assert plain.endswith("second \\xe9 \\u2713\\xa0")


def test_a_text_is_broken_for_a_terminal_alone() -> None:
    text = "some words " * 30
    wide = shown(Plain(text=text), Screen(width=40))
    narrow = shown(Plain(text=text), Screen(width=40, is_terminal=True))
    assert text in wide
    assert max(map(len, narrow.split("\n\n")[0].splitlines())) <= 40
    assert narrow.split("\n\n")[0].split() == text.split()


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


# Lengths.


def overview(lengths: Sequence[int], max_length: int = 100, screen: Screen | None = None) -> str:
    statistics = show.Statistics(np.array(lengths, np.int64), {0: len(lengths)})
    spec = TaskSpec("x", 9, max_length, 2)
    return show.overview_of(statistics, "test", spec, screen or Screen())


@pytest.mark.parametrize("seed", range(20))
def test_every_example_is_in_one_bar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    high = int(10 ** rng.uniform(0.4, 6))
    lengths = rng.integers(1, high + 1, 500)
    lines = overview(lengths.tolist(), high).splitlines()
    bars = [line.replace(",", "").split() for line in lines if " to " in line and line[0] == " "]
    assert 1 <= len(bars) <= 10
    total = 0
    for start, _, stop, *drawn, number in bars:
        inside = int(((lengths >= int(start)) & (lengths <= int(stop))).sum())
        assert inside == int(number)
        assert bool(drawn) == (inside > 0)
        total += inside
    assert total == 500
    assert max(map(len, lines)) <= 100


def test_what_is_cut_is_counted() -> None:
    assert "3 (75.0%) have max_length=100 tokens" in overview([7, 100, 100, 100])
    assert "none is cut (max_length=100)" in overview([7, 8])
    assert overview([]) == "test has no examples"
    assert "4 test examples, all of 9 tokens" in overview([9] * 4)
    assert overview([1, 50], screen=Screen(encoding="ascii")).isascii()


def test_a_label_and_its_number_stay_together() -> None:
    statistics = show.Statistics(np.full(90, 9), {label: 1000 + label for label in range(50)})
    text = show.overview_of(statistics, "test", TaskSpec("x", 9, 9, 50), Screen(width=80))
    lines = text.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    found = [pair for line in lines for pair in re.findall(r"(\d+): 1,(\d+)", line)]
    assert [(int(label), int(number)) for label, number in found] == [(n, n) for n in range(50)]


def test_lengths_are_taken_where_they_are_known() -> None:
    class Known(list[Example]):
        def lengths(self) -> np.ndarray:
            return np.array([5, 6])

    rows = [Example((np.arange(3), np.arange(4)), 1), Example((np.arange(2), np.arange(1)), 0)]
    assert show.statistics_of(rows).lengths.tolist() == [4, 2]
    assert show.statistics_of(Known(rows)).lengths.tolist() == [5, 6]
    assert show.statistics_of(rows).label_counts == {0: 1, 1: 1}


def test_sizes_are_written_as_people_do() -> None:
    for number, text in (
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345, "12 kB"),
        (210_000_000, "210 MB"),
        (8_100_000_000, "8.1 GB"),
    ):
        assert show.in_bytes(number) == text


def test_the_run_names_data_that_are_not_the_promised(
    outside: list[str], tmp_path: Path, capsys: Said
) -> None:
    set_bad(outside, "unofficial")
    words = ["run", "task=full", "model=local", "setting=smoke", "quiet=true", *outside]
    assert main([*words, f"results_dir={tmp_path / 'results'}"]) == 0
    assert "\ndata: drawn, not the official set\n" in capsys.readouterr().out
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    assert json.loads(path.read_text())["data"]["warning"] == "only 20 examples"
