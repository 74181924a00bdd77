"""From a request to a record."""

# Imports that cost seconds stand inside the functions.
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench import hardware, weights
from lra_bench import record as records
from lra_bench.attempt import Parts, accompany, attempt
from lra_bench.build import as_user_error, build, build_task
from lra_bench.compose import Request
from lra_bench.console import ConsoleTracker
from lra_bench.errors import UserError
from lra_bench.files import check_writable
from lra_bench.interrupt import Interrupt
from lra_bench.metrics import metrics_of
from lra_bench.places import Place, place
from lra_bench.ranks import RankLost, Team
from lra_bench.record import RunRecord
from lra_bench.runs import LiveStatus, LiveTracker, RunFolder
from lra_bench.schema import RunConfig
from lra_bench.tracking import Tracker, Trackers
from lra_bench.types import DataInfo, Progress, TaskSpec

if TYPE_CHECKING:
    from lra_bench.heads import TaskModel
    from lra_bench.objective import Objective


def assemble(config: RunConfig, task: TaskSpec) -> TaskModel:
    """Build the encoder and the head that a configuration describes, with the seed's weights.

    Every random generator of the process begins with the seed anew.

    Args:
        config: The configuration.
        task: What the model has to answer.

    Raises:
        UserError: An option is wrong, or two do not go together.
    """
    from lra_bench import randomness
    from lra_bench.heads import encoder_spec, make_model
    from lra_bench.models.encoder import SequenceEncoder, check_choices

    metrics_of(task)
    spec = as_user_error(lambda: encoder_spec(config.trunk, task, config.head), "trunk")
    randomness.seed_all(config.seed)
    try:
        encoder = build(config.model, "model", spec=spec)
        if isinstance(encoder, SequenceEncoder):
            as_user_error(lambda: check_choices(encoder, spec), "model")
        return as_user_error(lambda: make_model(encoder, task, config.head), "head")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            "the model does not fit into memory; make trunk.width, trunk.ffn_width or "
            "trunk.num_layers smaller"
        ) from error


def build_objective(request: Request) -> Objective:
    """Build what a request minimizes.

    Raises:
        UserError: An option is wrong.
    """
    from lra_bench.objective import Objective

    objective = build(request.config.objective, "objective")
    if not isinstance(objective, Objective):
        raise UserError(
            f"objective={request.names['objective']} must build an lra_bench.objective.Objective"
        )
    return objective


def check_objective(request: Request, objective: Objective, model: TaskModel) -> None:
    """Refuse an objective that a model cannot be trained with.

    Raises:
        UserError: It is one.
    """
    as_user_error(
        lambda: objective.check(model.encoder.topologies),
        f"objective={request.names['objective']} with model={request.names['model']}",
    )


def finished(request: Request) -> RunRecord | None:
    """Return the record of a run that need not be done, where that can be told at once.

    Raises:
        UserError: The task cannot be built, its data are broken, or a file there is no record.
    """
    task = build_task(request)
    if request.config.force or not task.is_prepared():
        return None
    folder = RunFolder(Path(request.config.results_dir), request.names, request.request_id)
    return _finished(request, folder, task.fingerprint())


def _finished(
    request: Request,
    folder: RunFolder,
    fingerprint: str,
    say: Callable[[str], None] = lambda text: None,
) -> RunRecord | None:
    """Return the record of a run that need not be done.

    Raises:
        UserError: The file there is no record.
    """
    done = None if request.config.force else folder.finished(fingerprint)
    if done is None or done.status != "completed":
        return done
    if done.pretraining is not None and request.pretraining is not None:
        now, then = (of["weights_sha256"] for of in (request.pretraining, done.pretraining))
        if now != then:
            say(f"already done, but from other weights of run {done.parent}; running it again")
            return None
    if not request.config.keep_weights:
        return done
    if weights.are_kept(done, folder.results_dir):
        return done
    say("already done, but its weights are not there; running it again to keep them")
    return None


def run(request: Request, *, stop_file: Path | None = None) -> RunRecord:
    """Do one run, or find that it has been done, and return its record; see `run_or_reuse`."""
    return run_or_reuse(request, stop_file=stop_file)[0]


def run_or_reuse(request: Request, *, stop_file: Path | None = None) -> tuple[RunRecord, bool]:
    """Do one run, or find that it has been done; return its record, and whether it was there.

    Everything that can be refused is refused before data are prepared. Everything that takes long
    can be interrupted, and goes on from there when the same run is asked for again.

    Where torchrun or Slurm has started several processes, all call it, and get the record that the
    first has written; where the request asks for several, this one starts the others.

    Args:
        request: What was asked for.
        stop_file: Interrupts it as a signal does, from when it is there.

    Returns:
        The record, which has been written. Its status tells whether there is a result.

    Raises:
        UserError: Something the user wrote or provided is wrong.
        UnderWay: Another process is at it, and the request does not want to wait.
        Interrupted: A signal came; the state has been saved (see `lra_bench.interrupt`).
        OSError: The record cannot be written, or the first process is gone.
    """
    here = place(request.config.num_processes)
    if here.rank:
        return _follow(request, here)
    with Team(here, partial(_follow, request)) as team:
        record, reused = _lead(request, team, stop_file)
        team.end({"record": records.as_dict(record), "reused": reused})
    return record, reused


def _follow(request: Request, here: Place) -> tuple[RunRecord, bool]:
    """Do what is a process's that is not the first, which says what it is and what came of it."""
    with Interrupt() as interrupt, Team(here) as team:
        parts = _parts_of(request, Tracker(), interrupt, here)
        if team.follow(interrupt):
            fingerprint = _prepared(parts, Tracker(), team)
            what = f"{request.request_id} on {fingerprint}"
            try:
                world = team.join(what, parts.device, interrupt)
                accompany(replace(parts, world=world), fingerprint)
            except RankLost:
                # The first makes a record of it, unless it is itself what is gone.
                pass
        outcome = team.outcome(interrupt)
        return records.from_dict(outcome["record"]), outcome["reused"]


def _lead(request: Request, team: Team, stop_file: Path | None) -> tuple[RunRecord, bool]:
    """Do a run, together with those of the team, as the one that writes."""
    console = Tracker() if request.config.quiet else ConsoleTracker()
    interrupt = Interrupt(stop_file)
    parts = _parts_of(request, console, interrupt, team.here)
    tracker = build(request.config.tracker, "tracker")
    if not isinstance(tracker, Tracker):
        raise UserError(
            f"tracker={request.names['tracker']} must build an lra_bench.tracking.Tracker"
        )
    folder = parts.folder
    for kind in ("runs", "checkpoints", "live"):
        check_writable(folder.results_dir / kind, "results_dir")
    with (
        interrupt,
        folder.lock(
            wait=request.config.wait,
            say=console.message,
            check=lambda: team.check(interrupt),
        ),
    ):
        live = LiveTracker(folder.live_path, _live_status(request))
        try:
            done = _run(parts, Trackers(console, live, tracker), console.message, team)
        except KeyboardInterrupt:
            live.interrupted()
            raise
        except BaseException:
            live.remove()
            raise
        live.remove()
        # A signal that came too late to stop this run still stops a sweep.
        interrupt.check()
    return done


def _parts_of(request: Request, console: Tracker, interrupt: Interrupt, here: Place) -> Parts:
    """Build everything but the data.

    Raises:
        UserError: An option is wrong, or two do not go together.
    """
    import torch

    from lra_bench.distributed import ALONE, check_norms

    config = request.config
    device = hardware.choose_device(
        config.device, local_rank=here.local_rank, local_size=here.local_size
    )
    hardware.share_cores(here.local_size)
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    objective = build_objective(request)
    task = objective.ask(build_task(request))
    model = assemble(config, task.spec)
    began: list[str] = []
    if request.parent is not None:
        began = weights.take(request.parent, model.encoder, request.sections)
    check_objective(request, objective, model)
    if here.size > 1:
        check_norms(model)
    lengths: tuple[int, ...] = ()
    if config.train.compile:
        # Two seconds that only those pay who asked for it.
        from lra_bench.compiling import compile_encoder

        lengths = compile_encoder(
            model, device=device, max_length=task.spec.max_length, say=console.message
        )
    folder = RunFolder(
        Path(config.results_dir), request.names, request.request_id, forced=config.force
    )
    return Parts(request, task, model, objective, device, lengths, folder, interrupt, ALONE, began)


def _live_status(request: Request) -> LiveStatus:
    return LiveStatus(
        request_id=request.request_id,
        names=dict(request.names),
        changes=dict(request.changes),
        seed=request.config.seed,
        command=request.command(),
        began_from=request.began_from,
    )


def _prepared(parts: Parts, tracker: Tracker, team: Team) -> str:
    """Prepare the data, and return their fingerprint.

    Raises:
        UserError: The data cannot be had, or the task breaks its promise.
    """

    def preparing(progress: Progress) -> None:
        team.check(parts.interrupt)
        tracker.progress(progress)

    try:
        parts.task.prepare(preparing)
    except UserError:
        # Worker processes that were told to stop as well look like ones that died.
        parts.interrupt.check()
        raise
    info = parts.task.info()
    if not isinstance(info, DataInfo):
        raise UserError(
            f"task={parts.request.names['task']}: info() must return an lra_bench.types.DataInfo"
        )
    fingerprint = parts.task.fingerprint()
    if not re.fullmatch(r"[0-9a-f]{64}", str(fingerprint)):
        raise UserError(
            f"task={parts.request.names['task']}: its fingerprint must be a SHA-256, 64 "
            f"hexadecimal digits, not {fingerprint!r:.100}"
        )
    if parts.request.parent is not None:
        weights.check_vocabulary(parts.request.parent, info.details)
    return str(fingerprint)


def _run(
    parts: Parts, tracker: Tracker, say: Callable[[str], None], team: Team
) -> tuple[RunRecord, bool]:
    """Prepare, train, test and write, or find that this has been done."""
    fingerprint = _prepared(parts, tracker, team)
    done = _finished(parts.request, parts.folder, fingerprint, say)
    if done is not None:
        code = f", commit {done.git_commit[:10]}" if done.git_commit else ""
        say(
            f"already done ({done.started_at} on {done.device}{code}), reusing "
            f"{parts.folder.record_path(fingerprint)}; force=true runs it again"
        )
        # Whoever wrote the record may have been killed before clearing up.
        parts.folder.remove_leftovers(fingerprint)
        return done, True
    what = f"{parts.request.request_id} on {fingerprint}"
    world = team.begin(what, parts.device, parts.interrupt)
    return attempt(replace(parts, world=world), fingerprint, tracker), False
