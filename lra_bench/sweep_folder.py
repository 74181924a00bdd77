"""What a sweep is to do and what has become of each of its runs, for its jobs and for onlookers.

live/sweeps/<sweep_id>-<host>-<pid>/
  plan.json           the runs
  lock                held while the sweep is under way
  stop                is there when it is to end; holds the number of the signal that asked for it
  <request_id>.json   what has become of a run

A folder goes when all runs are done; of a sweep that was interrupted or whose runs failed it stays
until the same sweep is asked for again.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lra_bench import files, locks
from lra_bench.identity import hash_of

# ``deferred``: another process was at it; ``running``: begun by a job that has not ended, or that
# was killed.
OutcomeState = Literal[
    "waiting", "running", "deferred", "done", "reused", "failed", "diverged", "interrupted"
]
FINAL = ("done", "reused", "failed", "diverged")
# A run whose process was killed as often without getting further is not tried again in the same
# sweep.
MAX_KILLS = 3


@dataclass(frozen=True)
class Planned:
    """A run of a sweep.

    Args:
        request_id: Identity of what was asked for.
        title: One line for people.
        command: A command that asks for it alone.
    """

    request_id: str
    title: str
    command: str


@dataclass(frozen=True)
class Outcome:
    """What has become of a run.

    Args:
        state: See `OutcomeState`.
        reason: Why, where it failed.
        kills: How often its process was killed, or interrupted by a cluster, without having got
            further than the one before.
        from_step: The step that the last of these went on from.
    """

    state: OutcomeState = "waiting"
    reason: str = ""
    kills: int = 0
    from_step: int = 0


@dataclass(frozen=True)
class SweepFolder:
    """The files of one sweep; jobs in other processes are given it.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def stop_file(self) -> Path:
        """Asks all jobs to end, from when it is there."""
        return self.path / "stop"

    @property
    def plan_path(self) -> Path:
        """The runs; without it the sweep is over, and jobs of a cluster that come late are told."""
        return self.path / "plan.json"

    @property
    def lock_path(self) -> Path:
        """The file that is locked while the sweep is under way."""
        return self.path / "lock"

    def stop(self, signal_number: int) -> None:
        """Ask all jobs to end; the first signal decides."""
        with suppress(OSError), self.stop_file.open("x") as file:
            file.write(f"{int(signal_number)}")

    def stopped_by(self) -> int | None:
        """Return the signal for which the sweep is to end."""
        try:
            return int(self.stop_file.read_text())
        except (OSError, ValueError):
            return None

    def outcome(self, request_id: str) -> Outcome:
        """Return what has become of a run."""
        try:
            return Outcome(**json.loads((self.path / f"{request_id}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return Outcome()

    def note(self, request_id: str, outcome: Outcome) -> None:
        """Note what has become of a run.

        Raises:
            OSError: It cannot be written.
        """
        text = json.dumps(asdict(outcome))
        files.write_atomically(self.path / f"{request_id}.json", text, durable=False)

    def is_wanted(self, request_id: str) -> bool:
        """Return whether there is anything to do about a run."""
        over = self.stop_file.exists() or not self.plan_path.exists()
        return not over and self.outcome(request_id).state not in FINAL

    def begin(self, request_id: str, from_step: int = 0) -> bool:
        """Note that a job begins with a run; False if there is nothing to do.

        Args:
            request_id: The run.
            from_step: The step that the process before went on from, if there was one.
        """
        if not self.is_wanted(request_id):
            return False
        before = self.outcome(request_id)
        kills = before.kills + (before.state in ("running", "interrupted"))
        if from_step > before.from_step:
            # It is on its way, however often it is stopped.
            kills = min(kills, 1)
        if kills >= MAX_KILLS:
            reason = (
                f"its process was killed {kills} times without getting further; do memory and "
                f"time suffice?"
            )
            self.note(request_id, Outcome("failed", reason, kills))
            return False
        self.note(request_id, Outcome("running", kills=kills, from_step=from_step))
        return True

    def end(self, request_id: str, state: OutcomeState, reason: str = "") -> None:
        """Note how a run ended that a job has begun, unless nobody wants to know any more."""
        if not self.plan_path.exists():
            return
        self.note(request_id, replace(self.outcome(request_id), state=state, reason=reason))

    def plan(self) -> list[Planned]:
        """Return the runs of the sweep; none if the file cannot be read."""
        try:
            content = json.loads(self.plan_path.read_text(encoding="utf-8"))
            return [Planned(**run) for run in content["runs"]]
        except (OSError, ValueError, TypeError, KeyError):
            return []

    def is_under_way(self) -> bool | None:
        """Return whether the process of the sweep is alive; None if it cannot be known."""
        return locks.is_held(self.lock_path)


def sweep_folders(results_dir: Path) -> list[SweepFolder]:
    """Return the sweeps that have left a plan below a results folder."""
    return [SweepFolder(path.parent) for path in sorted(_root(results_dir).glob("*/plan.json"))]


@contextmanager
def planned(results_dir: Path, runs: Sequence[Planned]) -> Iterator[SweepFolder]:
    """Give a folder with the plan of a sweep that is under way; afterwards it is cleared up.

    What an earlier process has left of the same sweep is removed.

    Raises:
        OSError: The folder cannot be written.
    """
    sweep_id = hash_of(sorted(run.request_id for run in runs))[:16]
    path = _root(results_dir) / f"{sweep_id}-{socket.gethostname()[:40]}-{os.getpid()}"
    _clear_up(results_dir, sweep_id)
    path.mkdir(parents=True, exist_ok=True)
    folder = SweepFolder(path)
    lock = None
    # Two identical sweeps at once do no harm: each run has a lock of its own.
    with suppress(OSError):
        lock = locks.take(folder.lock_path)
    try:
        content: Mapping[str, Any] = {"runs": [asdict(run) for run in runs]}
        files.write_atomically(folder.plan_path, json.dumps(content, indent=1), durable=False)
        yield folder
    finally:
        if lock is not None:
            lock.release()
        states = {folder.outcome(run.request_id).state for run in runs}
        if states <= {"done", "reused"}:
            shutil.rmtree(path, ignore_errors=True)
        else:
            folder.stop_file.unlink(missing_ok=True)


def _clear_up(results_dir: Path, sweep_id: str) -> None:
    """Remove what processes that have ended left of a sweep, and what holds no plan at all."""
    for path in _root(results_dir).glob("*-*-*"):
        folder = SweepFolder(path)
        if folder.is_under_way() is not False:
            continue
        same, owner = path.name.startswith(f"{sweep_id}-"), path.name.split("-", 1)[1]
        host, _, pid = owner.rpartition("-")
        begun = folder.plan_path.exists()
        # One that begins just now has neither a plan nor a lock yet.
        if (same and begun) or (not begun and pid.isdecimal() and files.has_ended(host, int(pid))):
            shutil.rmtree(path, ignore_errors=True)


def _root(results_dir: Path) -> Path:
    return results_dir / "live" / "sweeps"
