"""Where a run lies below a results folder: its record, checkpoint, lock and live status.

runs/<setting>/<task>/<model>/<run_id>.json     the record
checkpoints/<run_id>.pt                         what an interrupted run goes on from
weights/<run_id>/                               its encoder, if it is kept
live/<request_id>.json                          how a run goes that is under way
live/<request_id>.lock                          held while it is under way
"""

from __future__ import annotations

import glob
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lra_bench import files, identity, locks, record
from lra_bench.console import Rates
from lra_bench.errors import UserError
from lra_bench.record import BadRecord, RunRecord
from lra_bench.tracking import Tracker
from lra_bench.types import Progress

# Time between two writings of the live status, at least [seconds].
WRITE_SECONDS = 1.0


class UnderWay(UserError):
    """Another process is at the same run."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run; whoever wants one of them asks here.

    Args:
        results_dir: The results folder.
        names: The chosen file of each group.
        request_id: Identity of what was asked for.
        forced: A repetition, which goes on from a checkpoint of its own.
    """

    results_dir: Path
    names: Mapping[str, str]
    request_id: str
    forced: bool = False

    def record_path(self, data_sha256: str) -> Path:
        """Return where the record of this run on some data lies."""
        return record.record_path(
            self.results_dir,
            self.names["setting"],
            self.names["task"],
            self.names["model"],
            identity.run_id(self.request_id, data_sha256),
        )

    def checkpoint_path(self, data_sha256: str) -> Path:
        """Return where the checkpoint of this run on some data lies."""
        # Not below runs/: a checkpoint is of no use to anybody else.
        kind = ".forced" if self.forced else ""
        name = f"{identity.run_id(self.request_id, data_sha256)}{kind}.pt"
        return self.results_dir / "checkpoints" / name

    def weights_folder(self, data_sha256: str) -> Path:
        """Return where the weights of this run on some data lie, if they are kept."""
        return self.results_dir / "weights" / identity.run_id(self.request_id, data_sha256)

    def remove_leftovers(self, data_sha256: str) -> None:
        """Remove what a process that was killed has left of a run that has its record."""
        path = self.checkpoint_path(data_sha256)
        files.remove_abandoned_drafts(path)
        files.remove_abandoned_drafts(self.record_path(data_sha256))
        for leftover in path.parent.glob(f"{glob.escape(path.name)}*"):
            with suppress(OSError):
                leftover.unlink()

    @property
    def live_path(self) -> Path:
        """Where it is written how the run goes."""
        return self.results_dir / "live" / f"{self.request_id}.json"

    @property
    def lock_path(self) -> Path:
        """The file that is locked while the run is under way."""
        return self.results_dir / "live" / f"{self.request_id}.lock"

    def finished(self, data_sha256: str) -> RunRecord | None:
        """Return the record if running again would give the same.

        Raises:
            UserError: The file there is no record.
        """
        path = self.record_path(data_sha256)
        if not path.exists():
            return None
        try:
            done = record.read(path)
        except BadRecord as error:
            raise UserError(f"{path} {error}; delete it to run again") from error
        return None if done.status == "failed" else done

    @contextmanager
    def lock(
        self,
        *,
        wait: bool,
        say: Callable[[str], None],
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """Keep every other process from doing this run, on whatever machine shares the folder.

        The system gives the lock back when its owner ends, however it ends.

        Args:
            wait: Wait for an owner to end; False to refuse at once.
            say: Is told whom is waited for, or that the folder has no locks.
            check: Called while waiting; may raise, to stop it.

        Raises:
            UnderWay: Another process is at it, and ``wait`` is False.
        """
        self.lock_path.parent.mkdir(parents=True, exist_ok=True)
        with locks.held(
            self.lock_path,
            wait=wait,
            owner=self.owner,
            refusal=lambda who: UnderWay(
                f"{who}; give wait=true to wait for it, or ask again later"
            ),
            risk="two identical runs at once would both do the work",
            say=say,
            check=check,
        ):
            yield

    def is_under_way(self) -> bool | None:
        """Return whether a process is at this run, on whatever machine; None if unknown."""
        return locks.is_held(self.lock_path)

    def owner(self) -> str:
        """Return in words who is at this run."""
        live = LiveStatus.read(self.live_path)
        if live is None:
            return f"the same run is under way elsewhere ({self.lock_path} is locked)"
        done = f", {live.state} {live.done:,} of {live.total:,}" if live.total else ""
        return f"the same run is under way: {live.where}, since {live.started_at}{done}"


def _job(environment: Mapping[str, str] = os.environ) -> str:
    """Return the job of Slurm that this process is part of, as its commands call it."""
    array = environment.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    return environment.get("SLURM_JOB_ID", "")


@dataclass
class LiveStatus:
    """How a run goes, as its process last wrote it.

    Args:
        request_id: Identity of what was asked for.
        names: The chosen file of each group.
        changes: Options that differ from what the names stand for.
        seed: The seed.
        command: A command that asks for it.
        began_from: What it began from, in a few words.
        host: The machine.
        pid: The process there.
        state: ``preparing``, ``training``, ``validating``, ``testing``, or ``interrupted``.
        what: What it was at when it was interrupted.
        done: Units done of what the state says.
        total: Units to do.
        per_second: How fast it goes, in units of ``done``; None if that is not known yet.
        seconds_left: Time until ``total`` [seconds]; likewise.
        metrics: Numbers of the last evaluation.
        started_at: UTC, ISO 8601.
        updated_at: Likewise. Whether the process is still at it, the lock tells, not the time.
        job: The job of the cluster that it is part of; empty where there is none.
        from_step: The step that this process went on from.
    """

    request_id: str
    names: dict[str, str]
    changes: dict[str, Any]
    seed: int
    command: str
    began_from: str = ""
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    state: str = "preparing"
    what: str = "training"
    done: int = 0
    total: int = 0
    per_second: float | None = None
    seconds_left: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    started_at: str = ""
    updated_at: str = ""
    job: str = field(default_factory=_job)
    from_step: int = 0

    @property
    def title(self) -> str:
        """The run in one line for people."""
        return identity.title(self.names, self.changes, self.seed, self.began_from)

    @property
    def where(self) -> str:
        """Where it is under way, in words."""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"

    @classmethod
    def read(cls, path: Path) -> LiveStatus | None:
        """Return what a file says; None if there is none, or none that can be understood."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None


class LiveTracker(Tracker):
    """Writes how a run goes for whoever looks at the results folder.

    Args:
        path: The file.
        status: What is known at the start.
        clock: Tells the time [seconds].
    """

    def __init__(
        self, path: Path, status: LiveStatus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.status, self.clock = path, status, clock
        self.rates = Rates(clock)
        self.status.started_at = _now()
        self.written_at = float("-inf")
        self.has_trained = False
        files.remove_abandoned_drafts(path)
        self._write()

    def progress(self, progress: Progress) -> None:
        """See `Tracker`."""
        status = self.status
        if progress.what == "training" and not self.has_trained:
            # It is told after a step.
            status.from_step, self.has_trained = progress.done - 1, True
        status.state, status.done, status.total = progress.what, progress.done, progress.total
        left = status.seconds_left = self.rates.seconds_left(progress)
        status.per_second = (progress.total - progress.done) / left if left else None
        self._write_now_and_then()

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """See `Tracker`."""
        self.status.metrics = {**metrics, "step": step}
        self._write_now_and_then()

    def interrupted(self) -> None:
        """Say that the run waits to be asked for again."""
        self.status.what, self.status.state = self.status.state, "interrupted"
        self._write()

    def remove(self) -> None:
        """Remove the file: the record says all, or there was nothing to say."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write_now_and_then(self) -> None:
        if self.clock() - self.written_at > WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        self.status.updated_at = _now()
        self.written_at = self.clock()
        # A disk that is full must not end the run.
        with suppress(OSError, ValueError):
            text = json.dumps(asdict(self.status), indent=1, sort_keys=True, allow_nan=False)
            files.write_atomically(self.path, f"{text}\n", durable=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
