"""How all runs below a results folder stand: done, running, failed, interrupted, waiting.

What is read was written by the runs themselves, on whatever machine shares the folder. Whether a
process lives is told by its lock, not by the time of a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lra_bench import identity, locks, record
from lra_bench.console import Screen, count, duration, table
from lra_bench.record import BadRecord, RunRecord
from lra_bench.runs import LiveStatus
from lra_bench.sweep_folder import sweep_folders

StateName = Literal["running", "failed", "interrupted", "waiting", "done"]
STATES: tuple[StateName, ...] = ("running", "failed", "interrupted", "waiting", "done")


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    Args:
        state: See `STATES`.
        request_id: Identity of what was asked for.
        title: The run in one line.
        command: A command that asks for it.
        what: What a run that is under way, or was interrupted, does: ``training``, ...
        done: Units of that done.
        total: Units to do.
        per_second: How fast it goes, in units of ``done``.
        seconds_left: Time until ``total`` [seconds].
        host: The machine.
        pid: The process there.
        job: The job of the cluster that it is part of.
        updated_at: When that was written, UTC, ISO 8601.
        reason: Why it failed.
        ranking_metric: The metric that ranks.
        test: Its value on the test split.
    """

    state: StateName
    request_id: str
    title: str
    command: str = ""
    what: str = ""
    done: int = 0
    total: int = 0
    per_second: float | None = None
    seconds_left: float | None = None
    host: str = ""
    pid: int = 0
    job: str = ""
    updated_at: str = ""
    reason: str = ""
    ranking_metric: str = ""
    test: float | None = None


@dataclass
class Overview:
    """How the runs below a results folder stand.

    Args:
        runs: One entry a run; of data that differ, one for each.
        unreadable: Files among the records that are none, and why.
    """

    runs: list[RunStatus] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def of(self, state: StateName) -> list[RunStatus]:
        """Return the runs of a state."""
        return [run for run in self.runs if run.state == state]

    def as_dict(self) -> dict[str, Any]:
        """Return all as plain data."""
        return {
            # Not copied: there may be a hundred thousand.
            **{state: [vars(run) for run in self.of(state)] for state in STATES},
            "unreadable": self.unreadable,
        }


def look(results_dir: Path) -> Overview:
    """Return how the runs below a results folder stand. Nothing is written there."""
    overview = Overview()
    for path in sorted((results_dir / "runs").rglob("*.json")):
        try:
            overview.runs.append(_of_a_record(record.read(path)))
        except BadRecord as error:
            overview.unreadable[str(path)] = str(error)
    ended = {run.request_id for run in overview.runs}
    again, live_ones = set(), []
    for path in sorted((results_dir / "live").glob("*.json")):
        live = LiveStatus.read(path)
        if live is None:
            continue
        held = locks.is_held(path.with_suffix(".lock"))
        if held is False and live.request_id in ended:
            # Its process was killed after it had written the record.
            continue
        again.add(live.request_id)
        live_ones.append(_of_a_live_file(live, held))
    # A failed run may be under way again.
    ended_for_good = [
        run for run in overview.runs if run.state == "done" or run.request_id not in again
    ]
    overview.runs = ended_for_good + live_ones
    _add_planned(overview, results_dir)
    return overview


def _of_a_record(done: RunRecord) -> RunStatus:
    values = done.metrics.get(done.ranking_metric, {})
    return RunStatus(
        state="done" if done.status == "completed" else "failed",
        request_id=done.request_id,
        title=identity.title(done.names, done.changes, done.seed, done.began_from),
        command=done.command,
        updated_at=done.started_at,
        reason="" if done.status == "completed" else f"{done.status}: {done.error}",
        ranking_metric=done.ranking_metric,
        test=values.get("test"),
    )


def _of_a_live_file(live: LiveStatus, held: bool | None) -> RunStatus:
    running = live.state != "interrupted" if held is None else held
    return RunStatus(
        state="running" if running else "interrupted",
        request_id=live.request_id,
        title=live.title,
        command=live.command,
        what=live.state if live.state != "interrupted" else live.what,
        done=live.done,
        total=live.total,
        per_second=live.per_second if running else None,
        seconds_left=live.seconds_left if running else None,
        host=live.host,
        pid=live.pid,
        job=live.job,
        updated_at=live.updated_at,
        reason="" if running or live.state == "interrupted" else "its process has gone",
    )


def _add_planned(overview: Overview, results_dir: Path) -> None:
    """Add the runs of sweeps that have neither a record nor a process yet."""
    known = {run.request_id for run in overview.runs}
    for folder in sweep_folders(results_dir):
        under_way = folder.is_under_way()
        for run in folder.plan():
            if run.request_id in known:
                continue
            known.add(run.request_id)
            outcome = folder.outcome(run.request_id)
            state: StateName = "waiting" if under_way is not False else "interrupted"
            if outcome.state == "failed":
                state = "failed"
            overview.runs.append(
                RunStatus(
                    state=state,
                    request_id=run.request_id,
                    title=run.title,
                    command=run.command,
                    reason=outcome.reason,
                    what="" if state != "interrupted" else "not begun, its sweep has ended",
                )
            )


def text_of(overview: Overview, screen: Screen) -> str:
    """Return how the runs stand, for people."""
    parts = [", ".join(f"{len(overview.of(state)):,} {state}" for state in STATES)]
    for state in STATES[:-1]:
        if runs := overview.of(state):
            parts.append(f"{state}\n{table([_row(run) for run in runs], screen, indent=2)}")
    if done := overview.of("done"):
        parts.append(f"done\n{table(_cells(done), screen, indent=2)}")
    for path, why in overview.unreadable.items():
        parts.append(screen.printable(f"no record: {path} {why}"))
    return "\n".join(parts)


def _row(run: RunStatus) -> Sequence[str]:
    share = f" {run.done:,}/{run.total:,} ({run.done / run.total:.0%})" if run.total else ""
    speed = "" if run.per_second is None else f"{run.per_second:.3g}/s"
    left = "" if run.seconds_left is None else f"{duration(run.seconds_left)} left"
    if run.state == "running":
        job = f", Slurm job {run.job}" if run.job else ""
        where = f"process {run.pid} on {run.host}{job}"
        return (run.title, f"{run.what}{share}", speed, left, where)
    if run.state == "interrupted":
        return (run.title, f"{run.what}{share}", run.reason, f"go on with: {run.command}")
    return (run.title, run.reason)


def _cells(done: Sequence[RunStatus]) -> list[Sequence[str]]:
    """Return a row for runs that differ in their seed alone."""
    cells: dict[str, list[str]] = {}
    for run in done:
        cell, _, seed = run.title.rpartition(", seed ")
        cells.setdefault(cell, []).append(seed)
    return [
        (cell, f"{count(len(seeds), 'run')}, seed {', '.join(sorted(seeds, key=int))}")
        for cell, seeds in cells.items()
    ]
