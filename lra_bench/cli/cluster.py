"""A sweep over a cluster: each run a job, watched until all have ended.

A job leaves what has become of its run in the folder of the sweep. One that ends without a result,
because it was pre-empted, ran out of its time, or lost its machine, is handed in again and goes on
from its checkpoint. A run that another process is at is handed in when that one has ended.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lra_bench.compose import Request
from lra_bench.console import count
from lra_bench.runs import RunFolder
from lra_bench.slurm import HELD, Refused, has_ended
from lra_bench.sweep_folder import FINAL, MAX_KILLS, Outcome, SweepFolder

# Time between two looks at the jobs [seconds].
_PAUSE_SECONDS = 5.0
# Another machine may see late what a job has written: so many looks are waited for it.
_PATIENCE = 3
# Looks between two attempts to hand in what was refused.
_LOOKS_AFTER_REFUSAL = 12

Job = Callable[[Sequence[str]], float]


class Queue(Protocol):
    """What a cluster can be asked; `slurm.Queue` is one."""

    def submit(self, job: Job, runs: Sequence[Sequence[str]]) -> list[str]:
        """Return the job of each run."""

    def log(self, job: str) -> Path:
        """Return the file that holds what a job has said."""

    def states(self) -> dict[str, str] | None:
        """Return the state of each job; None if the cluster does not answer."""

    def stop(self, jobs: Sequence[str]) -> None:
        """Ask jobs to end."""


class Watch:
    """The runs of a sweep that are not done, and their jobs.

    Args:
        queue: Takes jobs.
        folder: Where jobs leave what has become of their runs.
        requests: The runs, by their request ids.
        job: Does a run, given its words.
        is_done: Tells whether a run has its record.
        may_wait: Wait for runs that another process is at.
        pause: Passes the time between two looks.
    """

    def __init__(
        self,
        queue: Queue,
        folder: SweepFolder,
        requests: Mapping[str, Request],
        job: Job,
        *,
        is_done: Callable[[Request], bool],
        may_wait: bool,
        pause: Callable[[], None] = lambda: time.sleep(_PAUSE_SECONDS),
    ) -> None:
        self.queue, self.folder, self.requests, self.job = queue, folder, requests, job
        self.is_done, self.may_wait, self.pause = is_done, may_wait, pause
        self.todo = {key for key in requests if folder.outcome(key).state not in FINAL}
        self.jobs: dict[str, str] = {}
        self.before: dict[str, str] = {}
        # Looks since a job has ended without a word; jobs of a run that ended before they began.
        self.silent, self.never_began = Counter[str](), Counter[str]()
        self.elsewhere: set[str] = set()
        self.refused = 0

    def until_all_have_ended(self) -> None:
        """Hand in runs and watch their jobs, until nothing is left to do, or a signal came.

        Raises:
            Refused: Slurm does not take the first jobs.
        """
        told_to_stop = False
        while True:
            if self.folder.stopped_by() is not None and not told_to_stop:
                told_to_stop = True
                self.todo.clear()
                self.queue.stop(list(self.jobs.values()))
                if self.jobs:
                    say(f"told {count(len(self.jobs), 'job')} to save and to end")
            self._hand_in()
            if not self.todo and not self.jobs:
                return
            self.pause()
            self._look()

    def _hand_in(self) -> None:
        """Hand in what is to be done and nobody else is at."""
        self.refused = max(0, self.refused - 1)
        if self.refused:
            return
        free = [key for key in self.requests if key in self.todo and self._is_free(key)]
        if not free:
            return
        try:
            jobs = self.queue.submit(self.job, [self.requests[key].words for key in free])
        except Refused as error:
            if not self.before:
                raise
            # It has taken others: the queue is full, or does not answer just now.
            say(f"{error}; trying again")
            self.refused = _LOOKS_AFTER_REFUSAL
            return
        self.todo -= set(free)
        for key, job in zip(free, jobs, strict=True):
            self.jobs[key], self.before[job] = job, "PENDING"
        first, last = jobs[0], jobs[-1]
        say(f"handed in {count(len(jobs), 'job')}: {first}{f' to {last}' if len(jobs) > 1 else ''}")

    def _is_free(self, key: str) -> bool:
        """Return whether a run can be handed in: nobody is at it, and it has not been done."""
        request = self.requests[key]
        folder = RunFolder(Path(request.config.results_dir), request.names, key)
        if folder.is_under_way():
            if not self.may_wait:
                self.todo.discard(key)
                self.folder.note(key, Outcome("deferred", folder.owner()))
            elif key not in self.elsewhere:
                self.elsewhere.add(key)
                say(f"{folder.owner()}; waiting for it (wait=false stops instead)")
            return False
        if key in self.elsewhere:
            self.elsewhere.discard(key)
            if self.is_done(request):
                self.todo.discard(key)
                self.folder.note(key, Outcome("reused"))
                return False
        return True

    def _look(self) -> None:
        """Find out what has become of the jobs."""
        states = self.queue.states()
        if states is None:
            return
        # Otherwise a machine may go on seeing what a folder on a network held before.
        with suppress(OSError):
            self.folder.path.chmod(self.folder.path.stat().st_mode)
        for key, job in list(self.jobs.items()):
            state = states.get(job)
            if not has_ended(state):
                if (state, self.before[job]) == ("PENDING", "RUNNING"):
                    say(f"{self._title(key)}: Slurm has put its job {job} back into the queue")
                if state == HELD != self.before[job]:
                    say(
                        f"{self._title(key)}: Slurm holds its job {job} back; scontrol release "
                        f"{job} lets it start, scancel {job} leaves it out"
                    )
                self.before[job] = state or ""
                continue
            outcome = self.folder.outcome(key).state
            if outcome in FINAL:
                del self.jobs[key]
            else:
                self.silent[job] += 1
                if outcome in ("interrupted", "deferred") or self.silent[job] >= _PATIENCE:
                    del self.jobs[key]
                    self._ended_without_a_result(key, job, state)

    def _ended_without_a_result(self, key: str, job: str, state: str | None) -> None:
        """Hand a run in again, unless somebody does not want it or it would be no use."""
        outcome = self.folder.outcome(key)
        if self.folder.stopped_by() is not None:
            return
        if state == "CANCELLED":
            self.folder.note(key, Outcome("interrupted", f"its job {job} was cancelled"))
            return
        self.todo.add(key)
        if outcome.state == "deferred":
            return
        why = f"its job {job} ended ({(state or 'UNKNOWN').lower()})"
        if outcome.state == "waiting":
            self.never_began[key] += 1
            if self.never_began[key] >= MAX_KILLS:
                self.todo.discard(key)
                reason = f"{MAX_KILLS} jobs ended before they began with it; see {self._log(job)}"
                self.folder.note(key, Outcome("failed", reason))
                return
            why += f" before it began, see {self._log(job)}"
        elif outcome.state == "interrupted":
            why += " after it had saved"
        say(f"{self._title(key)}: {why}; handing it in again")

    def _title(self, key: str) -> str:
        return self.requests[key].title

    def _log(self, job: str) -> Path:
        return self.queue.log(job)


def say(text: str) -> None:
    """Tell people, as soon as it is known."""
    print(text, file=sys.stderr, flush=True)
