"""Quantities in words, what a terminal can show, tables, and how far work is."""

from __future__ import annotations

import io
import os
import pty
import re
from contextlib import suppress

import pytest

from lra_bench.console import ConsoleTracker, Rates, Screen, count, duration, in_bytes, table
from lra_bench.types import Progress


class Terminal(io.StringIO):
    """What is written to a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    """Tells a time that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# Quantities in words.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (200, "3m 20s"),
        (3599.4, "59m 59s"),
        (3600, "1h 00m"),
        (7500, "2h 05m"),
        (360_000, "100h 00m"),
    ],
)
def test_durations_are_written_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345, "12 kB"),
        (210_000_000, "210 MB"),
        (8_100_000_000, "8.1 GB"),
    ],
)
def test_sizes_are_written_as_people_do(number: int, text: str) -> None:
    assert in_bytes(number) == text


def test_one_is_not_many() -> None:
    assert [count(number, "run") for number in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]


# What can be shown where.


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "24bit"),
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "vt100"}, "none"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
        ({}, "none"),
    ],
)
def test_a_terminal_is_asked_what_it_can(variables: dict[str, str], expected: str) -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as terminal:
        screen = Screen.of(terminal, {**variables, "COLUMNS": "91"})
        assert (screen.colors, screen.is_terminal, screen.width) == (expected, True, 91)
        # A terminal that knows no width of its own.
        assert Screen.of(terminal, variables).width == 100
    os.close(leader)


def test_a_file_has_no_colors() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii")
    screen = Screen.of(file, {"TERM": "xterm-256color"})
    assert (screen.colors, screen.is_terminal, screen.encoding) == ("none", False, "ascii")


def test_a_text_cannot_act_on_a_terminal() -> None:
    text = "a\x1b]0;title\x07\tb\r\x9b1m\u202e\nsecond \u00e9 \u2713\u00a0"
    said = Screen().printable(text)
    assert said == "a\\x1b]0;title\\x07\tb\\r\\x9b1m\\u202e\nsecond \u00e9 \u2713\u00a0"
    assert Screen(encoding="ascii").printable(text).endswith("second \\xe9 \\u2713\\xa0")


def test_a_text_is_broken_for_a_terminal_alone() -> None:
    text = "some words " * 30
    assert Screen(width=40).wrapped(text) == text
    narrow = Screen(width=40, is_terminal=True).wrapped(text)
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.split() == text.split()


# Tables.


ROWS = [("listops", "2,000", "generated " * 20), ("x", "16", "[red]:smile: \x1b[31m")]


def test_a_table_has_a_line_a_row() -> None:
    lines = table(ROWS, Screen(), header=("task", "longest", "about"), align=("left", "right"))
    head, first, second = lines.splitlines()
    assert head == "task     longest  about"
    assert first == "listops    2,000  " + ("generated " * 20).rstrip()
    # Nothing in a text is read as a color, a picture or an order to the terminal.
    assert second == "x             16  [red]:smile: \\x1b[31m"


def test_a_table_is_as_wide_as_a_terminal() -> None:
    text = table(ROWS, Screen(width=60, is_terminal=True), indent=2)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].startswith("  listops  2,000  generated generated")
    # What belongs to the last column is set in below it.
    assert lines[1].startswith(" " * 18 + "generated")


def test_a_table_needs_only_what_the_encoding_has() -> None:
    assert table([("é", "b")], Screen(encoding="ascii")) == "\\xe9  b"


# How far work is.


def work(done: int, total: int = 100, what: str = "training") -> Progress:
    return Progress(what, done, total)


def test_the_time_left_follows_from_the_rate() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert rates.seconds_left(work(10)) is None
    clock.now += 5
    assert rates.seconds_left(work(20)) == 40
    # Other work in between takes time as well.
    assert rates.seconds_left(work(0, what="validating")) is None
    clock.now += 5
    assert rates.seconds_left(work(50, what="validating")) == 5
    assert rates.seconds_left(work(20)) == 80
    # The same kind of work once more is measured anew.
    assert rates.seconds_left(work(0, what="validating")) is None
    clock.now += 1
    assert rates.seconds_left(work(50, what="validating")) == 1


def test_work_that_knows_better_is_believed() -> None:
    rates = Rates(Clock())
    assert rates.seconds_left(Progress("training", 1, 2, seconds_left=77)) == 77


def test_a_log_gets_a_line_a_minute() -> None:
    clock, stream = Clock(), io.StringIO()
    console = ConsoleTracker(stream, clock=clock)
    for second in range(150):
        clock.now = 100.0 + second
        console.progress(work(second, 150))
    assert stream.getvalue().splitlines() == [
        "  training 60/150 (40%), 1m 30s left",
        "  training 120/150 (80%), 30s left",
    ]


def moved(screen: str) -> list[str]:
    """Return what stood on the line that moves, one after another, without its colors."""
    return re.sub(r"\x1b\[[\d;]*m", "", screen).split("\r")[1:]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def test_a_bar_moves_on_a_terminal(terminal: Terminal) -> None:
    clock = Clock()
    console = ConsoleTracker(terminal, clock=clock)
    for done in (0, 1000, 2000, 4000):
        clock.now += 10
        console.progress(work(done, 4000))
    shown = moved(terminal.getvalue())
    assert [line.split("━")[0].split("╺")[0].strip() for line in shown] == [
        f"training {done:,}/4,000" for done in (0, 1000, 2000, 4000)
    ]
    assert [line.rstrip().rsplit("━")[-1].strip() for line in shown] == [
        "0%",
        "25%, 30s left",
        "50%, 20s left",
        "100%, 0s left",
    ]
    assert max(map(len, shown)) < 80
    # Too soon to be seen.
    console.progress(work(10, 4000))
    assert moved(terminal.getvalue()) == shown


def test_the_end_of_work_is_always_shown(terminal: Terminal) -> None:
    console = ConsoleTracker(terminal, clock=Clock())
    console.progress(work(1, 4))
    assert terminal.getvalue() == ""
    console.progress(work(4, 4))
    assert "training 4/4" in terminal.getvalue()


def test_what_moves_is_erased_before_something_is_said(terminal: Terminal) -> None:
    clock = Clock()
    console = ConsoleTracker(terminal, clock=clock)
    clock.now += 1
    console.progress(work(4, 4))
    console.log({"loss": 0.123456}, step=1200)
    bar, blank, said = moved(terminal.getvalue())
    assert blank == " " * len(bar)
    assert said == "  step 1,200: loss 0.1235\n"
    console.message("a\x07b")
    assert terminal.getvalue().endswith("a\\x07b\n")
    said += "a\\x07b\n"
    console.finish({}, failed=False)
    assert moved(terminal.getvalue())[-1] == said


def test_a_narrow_terminal_has_no_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    ConsoleTracker(terminal, clock=Clock()).progress(work(4, 4))
    assert terminal.getvalue() == "\r  training 4/4 100%"


def test_a_plain_terminal_gets_plain_characters(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal.encoding = "ascii"
    clock = Clock()
    console = ConsoleTracker(terminal, clock=clock)
    clock.now += 1
    console.progress(work(50))
    assert terminal.getvalue().isascii()
    assert "\x1b" not in terminal.getvalue()
    assert "-----" in terminal.getvalue()


def test_a_console_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    os.close(reader)
    console = ConsoleTracker(stream)
    for _ in range(3):
        console.message("nobody reads this " * 1000)
    with suppress(BrokenPipeError):
        stream.close()
    closed = io.StringIO()
    console = ConsoleTracker(closed)
    closed.close()
    console.message("nor this")
