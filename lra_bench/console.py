"""Telling people: quantities in words, what a terminal can show, tables, and how far work is.

Everything that is not a result goes to stderr. rich is imported where it is first needed: help
and completion do not pay for it.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, TextIO

from lra_bench.tracking import RunInfo, Tracker

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lra_bench.types import Progress

Colors = Literal["none", "256", "24bit"]
Align = Literal["left", "right"]

# A line a minute where the output is no terminal: enough to see life in a log file.
_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BETWEEN_REFRESHES = 0.25
_MIN_BAR, _MAX_BAR = 5, 40


# Quantities in words.


def duration(seconds: float) -> str:
    """Return a duration as people write it, for example 3m 20s, or 2h 05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def in_bytes(number: int) -> str:
    """Return a size as people write it, for example 112 MB."""
    if number < 1000:
        return f"{number} bytes"
    power = min(int(math.log10(number)) // 3, 4)
    scaled = number / 1000**power
    return f"{scaled:.{int(scaled < 10)}f} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def count(number: int, noun: str) -> str:
    """Return how many there are of something, for example 1 run, or 2,000 runs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# What can be shown where.


@dataclass(frozen=True)
class Screen:
    """What can be shown where the output goes.

    Args:
        width: Columns.
        colors: How shades of gray are asked for: with 24 bits, out of 256 colors, or not at all.
        is_terminal: Whether somebody looks at it now.
        encoding: Of the characters.
    """

    width: int = 100
    colors: Colors = "none"
    is_terminal: bool = False
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Screen:
        """Return what a stream can show.

        Args:
            stream: Where the output goes.
            environment: Variables that tell about the terminal.
        """
        encoding = stream.encoding or "ascii"
        if not stream.isatty():
            return cls(shutil.get_terminal_size((100, 24)).columns, encoding=encoding)
        terminal = environment.get("TERM", "dumb")
        colors: Colors = "none"
        if terminal != "dumb" and not environment.get("NO_COLOR"):
            if environment.get("COLORTERM") in ("truecolor", "24bit"):
                colors = "24bit"
            elif "256color" in terminal:
                colors = "256"
        return cls(_columns(stream, environment), colors, is_terminal=True, encoding=encoding)

    def can_show(self, characters: str) -> bool:
        """Return whether the encoding has the characters."""
        try:
            characters.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True

    def printable(self, text: str) -> str:
        """Return a text whose control characters cannot act on a terminal, in the encoding."""
        safe = "".join(
            character
            if character in "\n\t" or unicodedata.category(character)[0] != "C"
            else character.encode("unicode_escape").decode()
            for character in text
        )
        return safe.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def wrapped(self, text: str) -> str:
        """Return a text broken between words for a terminal, as it is for anything else."""
        if not self.is_terminal:
            return text
        return "\n".join(
            textwrap.fill(line, self.width, replace_whitespace=False, drop_whitespace=False)
            for line in text.split("\n")
        )


def _columns(stream: TextIO, environment: Mapping[str, str]) -> int:
    """Return the width of a terminal; stdout may be a pipe while stderr is one."""
    asked = environment.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    with suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or 100
    return 100


def table(
    rows: Sequence[Sequence[str]],
    screen: Screen,
    *,
    header: Sequence[str] = (),
    align: Sequence[Align] = (),
    indent: int = 0,
) -> str:
    """Return a table without lines: a row a line, columns as wide as their longest cell.

    Only the last column is broken between words, and only for a terminal: what goes to a file or
    another program stays one line a row.

    Args:
        rows: The cells of each row.
        screen: What it is printed on.
        header: Names of the columns; none if there is no header.
        align: Of each column; the left where nothing is said.
        indent: Columns left free on the left.
    """
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=bool(header))
    num_columns = max(map(len, [header, *rows]))
    for column in range(num_columns):
        grid.add_column(
            Text(screen.printable(header[column])) if header else "",
            justify=align[column] if column < len(align) else "left",
            no_wrap=column < num_columns - 1,
            overflow="fold",
        )
    for row in rows:
        grid.add_row(*(Text(screen.printable(cell)) for cell in row))
    # Enough for every row in one line.
    width = indent + sum(
        len(max(column, key=len)) + 4 for column in zip_longest(header, *rows, fillvalue="")
    )
    if screen.is_terminal:
        width = max(screen.width, 40)
    text = _drawn(Padding(grid, (0, 0, 0, indent)), screen, width)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _drawn(thing: RenderableType, screen: Screen, width: int) -> str:
    """Return what rich draws with what a screen can show."""
    from rich.console import Console

    systems: dict[Colors, Any] = {"none": None, "256": "256", "24bit": "truecolor"}
    content = io.BytesIO()
    # rich looks at the encoding of what it writes to.
    page = io.TextIOWrapper(content, screen.encoding, "backslashreplace", newline="\n")
    console = Console(
        file=page,
        width=width,
        color_system=systems[screen.colors],
        force_terminal=screen.colors != "none",
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    console.print(thing)
    page.flush()
    return content.getvalue().decode(screen.encoding).rstrip("\n")


# How far work is.


class ConsoleTracker(Tracker):
    """A bar that moves on a terminal, now and then a line elsewhere; all on stderr.

    Args:
        stream: Where to write; stderr if None.
        clock: Tells the time [seconds].
    """

    def __init__(
        self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.screen = Screen.of(self.stream)
        self.clock = clock
        self.shown_at = clock()
        self.rates = Rates(clock)
        # Columns of what moves; 0 while nothing does.
        self.width = 0

    def start(self, info: RunInfo) -> None:
        """See `Tracker`."""
        self.message(info.title)
        self.shown_at = self.clock()

    def progress(self, progress: Progress) -> None:
        """See `Tracker`."""
        left = self.rates.seconds_left(progress)
        moving, now = self.screen.is_terminal, self.clock()
        pause = _SECONDS_BETWEEN_REFRESHES if moving else _SECONDS_BETWEEN_LINES
        if now - self.shown_at < pause and not (moving and progress.done == progress.total):
            return
        self.shown_at = now
        what = f"  {progress.what} {progress.done:,}/{progress.total:,}"
        share = progress.done / max(progress.total, 1)
        rest = "" if left is None else f", {duration(left)} left"
        if moving:
            self._move(what, share, f"{share:.0%}{rest}")
        else:
            self._write(f"{what} ({share:.0%}){rest}\n")

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """See `Tracker`."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.message(f"  step {step:,}: {numbers}")

    def message(self, text: str) -> None:
        """See `Tracker`."""
        self.clear()
        self._write(f"{self.screen.printable(text)}\n")

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """See `Tracker`."""
        del summary, failed
        self.clear()

    def clear(self) -> None:
        """Erase what moves, before something else is printed."""
        if self.width:
            self._write("\r" + " " * self.width + "\r")
            self.width = 0

    def _move(self, what: str, share: float, rest: str) -> None:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        # One column stays free, so that no terminal begins a new line.
        width = max(self.screen.width - 1, 1)
        bar = min(_MAX_BAR, width - len(what) - len(rest) - 2)
        if bar < _MIN_BAR:
            text = f"{what} {rest}"[:width]
            used = len(text)
        else:
            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_row(Text(what), ProgressBar(1.0, share, width=bar), Text(rest))
            text = _drawn(line, self.screen, width)
            used = len(what) + 1 + bar + 1 + len(rest)
        # What was longer before is written over.
        self._write(f"\r{text}{' ' * max(self.width - used, 0)}")
        self.width = used

    def _write(self, text: str) -> None:
        # A terminal that has gone, or a closed pipe, must not end a run of hours.
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()


class Rates:
    """Estimates how long work still takes from how fast it went until now.

    Args:
        clock: Tells the time [seconds].
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        # Of each kind of work: when it was first seen, how far it was then, and how far it is.
        self.seen: dict[str, tuple[float, int, int]] = {}

    def seconds_left(self, progress: Progress) -> float | None:
        """Return the time that the work still takes [seconds], None if it cannot be known yet."""
        now = self.clock()
        began, first, last = self.seen.get(progress.what, (now, progress.done, progress.done))
        if progress.done < last:
            # The same kind of work, once more.
            began, first = now, progress.done
        self.seen[progress.what] = began, first, progress.done
        if progress.seconds_left is not None:
            return progress.seconds_left
        if progress.done == first:
            return None
        return (progress.total - progress.done) * (now - began) / (progress.done - first)
