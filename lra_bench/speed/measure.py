"""From cells to records: what is there is not measured again, what is measured is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lra_bench import hardware, provenance
from lra_bench.console import ConsoleTracker, count
from lra_bench.errors import UserError
from lra_bench.files import check_writable
from lra_bench.interrupt import Interrupt
from lra_bench.schema import RunConfig
from lra_bench.speed import machine
from lra_bench.speed import record as records
from lra_bench.speed.cell import BASELINE, Cell
from lra_bench.speed.record import BadSpeedRecord, SpeedRecord
from lra_bench.speed.session import Companion, Effort, Measured, NoResult, measure
from lra_bench.speed.statistics import median, ratios
from lra_bench.speed.worker import Order
from lra_bench.tracking import Tracker
from lra_bench.types import Progress

# How long to look at the machine before the first cell [seconds].
_LOOK_SECONDS = 1.0


def describe_machine(config: RunConfig) -> str:
    """Return the hardware that a configuration chooses, in words, as a run describes it.

    Raises:
        UserError: There is no such device here.
    """
    import torch

    device = hardware.choose_device(config.device)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    kept = device.type == "cpu" and hardware.keep_freed_memory()
    return hardware.describe(device) + (", freed memory kept" if kept else "")


@dataclass(frozen=True)
class Plan:
    """What to measure, and how.

    Args:
        cells: In the order of their measurement.
        effort: How much.
        results_dir: Where records go.
        force: Measure again what has been measured.
        busy: Measure again what was measured while others used the machine.
        wait: Wait for another measurement on this machine.
        lock_path: The file that is locked meanwhile.
    """

    cells: Sequence[Cell]
    effort: Effort
    results_dir: Path
    force: bool = False
    busy: bool = False
    wait: bool = True
    lock_path: Path | None = None

    def is_done(self, cell: Cell) -> bool:
        """Return whether the record of a cell is there, of the same code and libraries.

        Raises:
            UserError: The file there is no record.
        """
        path = cell.path(self.results_dir)
        if self.force or not path.exists():
            return False
        try:
            done = records.read(path)
        except BadSpeedRecord as error:
            raise UserError(f"{path} {error}; delete it to measure again") from error
        if self.busy and done.is_busy:
            return False
        torch = provenance.versions()["torch"]
        return cell.is_answered_by(done, torch=torch, limit_seconds=self.effort.limit_seconds)


def run(plan: Plan, *, quiet: bool = False) -> list[SpeedRecord]:
    """Measure what has not been measured and write a record a cell.

    Args:
        plan: What to measure, and how.
        quiet: Say nothing on the way.

    Returns:
        The records that were written now.

    Raises:
        UserError: Something is wrong with what was asked for.
        Interrupted: A signal came; the cells that were finished are there.
        OSError: A record cannot be written.
    """
    console: Tracker = Tracker() if quiet else ConsoleTracker()
    interrupt = Interrupt()
    check_writable(plan.results_dir / "speed", "results_dir")
    todo = [cell for cell in plan.cells if not plan.is_done(cell)]
    if reused := len(plan.cells) - len(todo):
        console.message(f"{count(reused, 'cell')} measured before; force=true measures again")
    if not todo:
        return []
    _check(todo)
    command = f"{count(len(todo), 'cell')} of lra-bench speed"
    with (
        interrupt,
        machine.turn(
            plan.lock_path or machine.lock_path(),
            wait=plan.wait,
            command=command,
            say=console.message,
            check=interrupt.check,
        ),
    ):
        _warn_if_busy(console)
        try:
            return list(_measured(todo, plan, console, interrupt))
        finally:
            console.finish({}, failed=False)


def _check(cells: Sequence[Cell]) -> None:
    """Build every model once, at its shortest length, before the first is measured.

    Raises:
        UserError: One cannot be built.
    """
    from lra_bench.build import build_task
    from lra_bench.runner import assemble, build_objective, check_objective

    seen = set()
    for cell in sorted(cells, key=lambda cell: cell.length):
        choice = repr((cell.request.names, cell.config))
        if choice not in seen:
            seen.add(choice)
            objective = build_objective(cell.request)
            task = build_task(cell.request)
            if objective.ask(task) is not task:
                raise UserError(
                    f"objective={cell.request.names['objective']} asks something of its own, and "
                    f"what is measured here is a task's own question"
                )
            check_objective(cell.request, objective, assemble(cell.request.config, cell.spec))


def _warn_if_busy(console: Tracker) -> None:
    busy, cores = machine.busy_cores(_LOOK_SECONDS), machine.num_cores()
    if busy is not None and busy > 0.1 * cores:
        console.message(
            f"warning: other processes use {busy:.1f} of {cores} cores now; what is measured "
            f"meanwhile is marked (--busy measures it again)"
        )


def _measured(
    todo: Sequence[Cell], plan: Plan, console: Tracker, interrupt: Interrupt
) -> Iterator[SpeedRecord]:
    """Measure cell by cell, write each record, and yield it."""
    code = provenance.git_state()
    memory = plan.effort.memory_limit_bytes or machine.memory_for_one_process()
    effort = replace(plan.effort, memory_limit_bytes=memory)
    companion, of = None, ""
    try:
        for number, cell in enumerate(todo):
            console.progress(Progress("cells", number, len(todo)))
            interrupt.check()
            if companion is None or of != cell.companions:
                if companion is not None:
                    companion.close()
                order = _order(cell, cell.baseline.config, effort)
                companion, of = Companion(order, effort, interrupt.check), cell.companions
            record = _one(cell, companion, code)
            records.write(record, plan.results_dir)
            console.message(_in_words(cell, record, companion))
            yield record
    finally:
        if companion is not None:
            companion.close()


def _order(cell: Cell, config: RunConfig, effort: Effort) -> Order:
    return Order(config, cell.spec, cell.batch_size, effort.memory_limit_bytes)


def _one(cell: Cell, companion: Companion, code: tuple[str | None, bool | None]) -> SpeedRecord:
    """Measure one cell and return its record."""
    effort, names = companion.effort, cell.request.names
    started_at, began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    outcome: dict[str, Any]
    try:
        outcome = _completed(measure(_order(cell, cell.request.config, effort), companion))
    except NoResult as error:
        outcome = {"status": error.status, "error": error.reason}
    return SpeedRecord(
        cell_id=cell.cell_id,
        setting=names["setting"],
        task=names["task"],
        model=names["model"],
        objective=names["objective"],
        changes=dict(cell.request.changes),
        length=cell.length,
        batch_size=cell.batch_size,
        config=cell.config,
        code_sha256=cell.code_sha256,
        baseline=BASELINE,
        device=cell.device,
        num_cores=machine.num_cores(),
        warmup_steps=effort.warmup_steps,
        limit_seconds=effort.limit_seconds,
        memory_limit_bytes=effort.memory_limit_bytes,
        total_seconds=time.monotonic() - began,
        command=cell.command(),
        git_commit=code[0],
        git_dirty=code[1],
        versions=provenance.versions(),
        started_at=started_at,
        **outcome,
    )


def _completed(measured: Measured) -> dict[str, Any]:
    return {
        "status": "completed",
        "train": measured.train,
        "inference": measured.inference,
        "baseline_train": measured.baseline_train,
        "baseline_inference": measured.baseline_inference,
        "num_parameters": measured.ready.num_parameters,
        "num_threads": measured.ready.num_threads,
        "other_cores": measured.other_cores,
    }


def _in_words(cell: Cell, record: SpeedRecord, companion: Companion) -> str:
    """Return a line about a cell that has been measured."""
    what = f"{cell.label} at {cell.length:,} tokens"
    if record.train is None:
        return f"{what}: {record.status.replace('_', ' ')}: {record.error}"
    rate = 1 / median(record.train.seconds_per_step)
    told = [f"{rate:.3g} training steps/s"]
    if record.baseline_train is not None:
        told.append(f"{median(ratios(record, 'train')):.2f} times {BASELINE}")
    elif companion.gave_up:
        told.append(f"no ratio, {BASELINE} gave up: {companion.gave_up}")
    if record.train.peak_memory_bytes is not None:
        told.append(f"{record.train.peak_memory_bytes / 1e6:,.0f} MB")
    if record.is_busy:
        told.append(f"others used {record.other_cores:.1f} cores")
    return f"{what}: {', '.join(told)}"
