"""Telling somebody how a run goes: the contract, nobody, several at once, or wandb.

A tracker only watches. The record is the truth, and what a tracker shows is a copy of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lra_bench.errors import UserError

if TYPE_CHECKING:
    from lra_bench.types import Progress


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
        curve: What was logged before an interruption, a row an evaluation, each with its
            ``step``; a tracker that keeps a curve must hold these rows, too.
        attempt: Tells a forced repetition, which may give other numbers, from the run itself; the
            same again when the repetition goes on after an interruption. None for the run itself.
    """

    run_id: str
    title: str
    group: str
    tags: Sequence[str]
    config: Mapping[str, Any]
    directory: Path
    curve: Sequence[Mapping[str, float]] = ()
    attempt: str | None = None


class Tracker:
    """Contract of a tracker; this one does nothing."""

    def start(self, info: RunInfo) -> None:
        """Begin to follow a run, or follow one further that was interrupted.

        Raises:
            UserError: It cannot; the text says what to do.
        """

    def progress(self, progress: Progress) -> None:
        """Notice how far some work is; called often."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Take numbers measured after ``step`` updates."""

    def message(self, text: str) -> None:
        """Take a line for people."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """End with the record of the run."""


class Trackers(Tracker):
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def start(self, info: RunInfo) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.start(info)

    def progress(self, progress: Progress) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.progress(progress)

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.log(metrics, step=step)

    def message(self, text: str) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.message(text)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """See `Tracker`."""
        for tracker in self.trackers:
            tracker.finish(summary, failed=failed)


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
        # Rows up to this step are on the server already.
        self.mirrored_step = 0

    def start(self, info: RunInfo) -> None:
        """See `Tracker`.

        Raises:
            UserError: wandb refuses, for example for want of an account or a network.
        """
        import wandb  # Half a second that only those pay who asked for it.

        info.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.run = wandb.init(
                mode=self.mode,
                project=self.project,
                entity=self.entity,
                dir=str(info.directory),
                id=_mirror_id(info),
                name=info.title,
                group=info.group,
                job_type="train",
                tags=list(info.tags),
                config=dict(info.config),
                resume="allow",
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise UserError(f"wandb: {error}; tracker.mode=offline needs no account") from error
        self.run.define_metric("*", step_metric="step")
        # Each part of an interrupted run that was offline has a folder of its own and the same id,
        # and of those the one sent last is kept: it must hold the whole curve. A server that has
        # the run goes on after the last row that it knows.
        self.mirrored_step = last_step_of(self.run)
        for row in info.curve:
            self._log(row)

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """See `Tracker`."""
        self._log({**metrics, "step": step})

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """See `Tracker`."""
        if self.run is not None:
            self.run.summary.update(dict(summary))
            self.run.finish(exit_code=int(failed))
            self.run = None

    def _log(self, row: Mapping[str, float]) -> None:
        if row["step"] > self.mirrored_step:
            self.run.log(dict(row))


def last_step_of(run: Any) -> int:
    """Return the last step whose row wandb's server has of a run; 0 if it has none."""
    return int(run.summary.get("step", 0)) if run.resumed else 0


def _mirror_id(info: RunInfo) -> str:
    """Return what wandb calls a run."""
    if info.attempt is None:
        return info.run_id
    # A repetition is a run of its own: mixed with the first, neither could be read. Some
    # characters wandb does not allow.
    return f"{info.run_id}-{re.sub(r'[^A-Za-z0-9_.-]', '-', info.attempt)}"
