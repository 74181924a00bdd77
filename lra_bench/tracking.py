"""Telling somebody how a run goes: nobody, the console, or wandb.

A tracker only watches. The record is the truth, and what a tracker shows is a copy of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

Metrics = dict[str, float]

# A line a minute where the output is no terminal: enough to see life in a log file.
_SECONDS_BETWEEN_LINES = 60.0
_SECONDS_BETWEEN_REFRESHES = 0.25


@dataclass(frozen=True)
class RunInfo:
    """What a tracker is told about a run before it starts.

    Args:
        run_id: Hash of all that can change the number.
        title: One line for people.
        group: Runs that differ in their seed alone share it.
        tags: Names to filter by.
        config: The resolved configuration.
        directory: Folder for files of the tracker's own.
    """

    run_id: str
    title: str
    group: str
    tags: Sequence[str]
    config: dict[str, Any]
    directory: Path


class Tracker:
    """Contract of a tracker; this one does nothing."""

    def start(self, info: RunInfo) -> None:
        """Begin to follow a run."""

    def progress(self, what: str, done: int, total: int, seconds_left: float | None) -> None:
        """Notice that ``done`` of ``total`` units of ``what`` are done; called often."""

    def log(self, metrics: Metrics, *, step: int) -> None:
        """Take numbers measured after ``step`` updates."""

    def message(self, text: str) -> None:
        """Take a line for people."""

    def finish(self, summary: dict[str, Any], *, failed: bool) -> None:
        """End with the record of the run."""


class Trackers(Tracker):
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def start(self, info: RunInfo) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.start(info)

    def progress(self, what: str, done: int, total: int, seconds_left: float | None) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.progress(what, done, total, seconds_left)

    def log(self, metrics: Metrics, *, step: int) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.log(metrics, step=step)

    def message(self, text: str) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.message(text)

    def finish(self, summary: dict[str, Any], *, failed: bool) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.finish(summary, failed=failed)


class ConsoleTracker(Tracker):
    """One line that moves on a terminal, now and then a line elsewhere; all on stderr.

    Args:
        stream: Where to write; stderr if None.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.moving = self.stream.isatty()
        self.shown_at = time.monotonic()
        self.width = 0

    def start(self, info: RunInfo) -> None:
        """See `Tracker`."""
        self.message(info.title)
        self.shown_at = time.monotonic()

    def progress(self, what: str, done: int, total: int, seconds_left: float | None) -> None:
        """See `Tracker`."""
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_REFRESHES if self.moving else _SECONDS_BETWEEN_LINES
        if now - self.shown_at < pause and not (self.moving and done == total):
            return
        self.shown_at = now
        left = "" if seconds_left is None else f", {duration(seconds_left)} left"
        line = f"  {what} {done:,}/{total:,} ({done / max(total, 1):.0%}){left}"
        if self.moving:
            self._write("\r" + line.ljust(self.width))
            self.width = len(line)
        else:
            self._write(f"{line}\n")

    def log(self, metrics: Metrics, *, step: int) -> None:
        """See `Tracker`."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.message(f"  step {step:,}: {numbers}")

    def message(self, text: str) -> None:
        """See `Tracker`."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Erase the line that moves, before something else is printed."""
        if self.width:
            self._write("\r" + " " * self.width + "\r")
            self.width = 0

    def _write(self, text: str) -> None:
        # A terminal that has gone, or a closed pipe, must not end a run of hours.
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()


class WandbTracker(Tracker):
    """Mirror a run in Weights & Biases.

    Args:
        mode: ``offline`` needs neither account nor network: the run is written to the results
            folder and can be sent later with ``wandb sync``.
        project: Name of the project.
        entity: Owner of the project; None for the account's own.
    """

    def __init__(
        self,
        *,
        mode: Literal["offline", "online", "disabled"] = "offline",
        project: str = "lra_bench",
        entity: str | None = None,
    ) -> None:
        self.mode = mode
        self.project = project
        self.entity = entity
        self.run: Any = None

    def start(self, info: RunInfo) -> None:
        """See `Tracker`.

        Raises:
            ValueError: wandb refuses, for example for want of an account or a network.
        """
        import wandb  # Half a second that only those pay who asked for it.

        info.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.run = wandb.init(
                mode=self.mode,
                project=self.project,
                entity=self.entity,
                dir=str(info.directory),
                id=info.run_id,
                name=info.title,
                group=info.group,
                job_type="train",
                tags=list(info.tags),
                config=info.config,
                resume="allow",
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise ValueError(f"wandb: {error}; tracker.mode=offline needs no account") from error
        self.run.define_metric("*", step_metric="step")

    def log(self, metrics: Metrics, *, step: int) -> None:
        """See `Tracker`."""
        self.run.log({**metrics, "step": step})

    def finish(self, summary: dict[str, Any], *, failed: bool) -> None:
        """See `Tracker`."""
        if self.run is not None:
            self.run.summary.update(summary)
            self.run.finish(exit_code=int(failed))
            self.run = None


def duration(seconds: float) -> str:
    """Return a duration as people write it, for example 3m 20s."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"
