"""One attempt at a run whose parts are built and whose data are ready: train, test, write."""

# Imports that cost seconds stand inside the functions.
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lra_bench import hardware, provenance, weights
from lra_bench import record as records
from lra_bench.build import as_user_error
from lra_bench.compose import Request
from lra_bench.files import reason
from lra_bench.identity import config_sha256, run_id
from lra_bench.interrupt import Interrupt
from lra_bench.metrics import Evaluation, measured
from lra_bench.record import RunRecord, Status
from lra_bench.runs import RunFolder
from lra_bench.tracking import RunInfo, Tracker
from lra_bench.types import SPLITS, Task

if TYPE_CHECKING:
    import torch

    from lra_bench.checkpoint import Checkpoint, State
    from lra_bench.data import Loader
    from lra_bench.distributed import World
    from lra_bench.heads import TaskModel
    from lra_bench.objective import Objective
    from lra_bench.optim import Optimization


@dataclass(frozen=True)
class Parts:
    """What a request is assembled into.

    Args:
        request: What was asked for.
        task: Its data are prepared.
        model: Encoder and head, with the weights of the seed.
        objective: What is minimized.
        device: Where it is trained.
        lengths: Lengths to pad batches to [tokens]; empty for no more padding than needed.
        folder: Where its files lie.
        interrupt: Asks it to stop.
        began: What it took from the run that it begins from, in sentences.
        world: The processes that share each batch.
    """

    request: Request
    task: Task
    model: TaskModel
    objective: Objective
    device: torch.device
    lengths: Sequence[int]
    folder: RunFolder
    interrupt: Interrupt
    world: World
    began: Sequence[str] = ()


@dataclass
class _Outcome:
    """What came out, good or bad."""

    state: State
    majority_baseline: float | None
    device: str
    status: Status = "failed"
    error: str | None = None
    test: Evaluation | None = None
    weights_sha256: str | None = None
    not_kept: OSError | None = None
    total_seconds: float = 0.0
    peak_memory_bytes: int | None = None
    cause: Exception | None = None


def attempt(parts: Parts, fingerprint: str, tracker: Tracker) -> RunRecord:
    """Train, or go on, evaluate the test split once, and write the record.

    Of several processes, the first calls it, and the others `accompany` it.

    Args:
        parts: What the request was assembled into.
        fingerprint: SHA-256 of the data.
        tracker: Follows the run.

    Returns:
        The record, which has been written. Its status tells whether there is a result.

    Raises:
        UserError: A part cannot be made, or the checkpoint is damaged.
        Interrupted: A signal came; the state has been saved.
        OSError: The record cannot be written.
    """
    from lra_bench.data import majority_baseline

    began = time.monotonic()
    device, code = _machine(parts), provenance.git_state()
    loaders = _loaders(parts)
    training, _, test = loaders
    baseline = majority_baseline(training.examples, test.examples, parts.task.spec)
    optimization, checkpoint = _moving(parts, fingerprint)
    state = as_user_error(lambda: checkpoint.restore(tracker.message), "checkpoint")
    _begin_session(state, device, code[0], parts.world.size)
    outcome = _Outcome(state, baseline, device)
    tracker.start(_info(parts, state, checkpoint.run_id))
    _say_what_matters(parts, state, tracker)
    finished = False
    try:
        _train_and_test(parts, outcome, loaders, optimization, checkpoint, tracker)
        outcome.total_seconds = time.monotonic() - began
        _keep_weights(parts, outcome, fingerprint)
        record = _record_of(parts, outcome, fingerprint, code)
        tracker.finish(records.as_dict(record), failed=record.status != "completed")
        finished = True
    finally:
        if not finished:
            tracker.finish({"num_steps": state.step}, failed=True)
    _write(record, parts)
    if outcome.not_kept is not None:
        raise outcome.not_kept
    if record.status != "failed":
        # A failed run may go on from its checkpoint once the machine is mended.
        checkpoint.remove()
    return record


def accompany(parts: Parts, fingerprint: str) -> None:
    """Do what is another process's than the first's: the same steps, and nothing is written.

    Raises:
        UserError: A part cannot be made, or another process refuses.
        Interrupted: A signal came, here or there.
        RankLost: Another process has failed.
    """
    _machine(parts)
    loaders = _loaders(parts)
    optimization, checkpoint = _moving(parts, fingerprint)
    outcome = _Outcome(checkpoint.restore(), None, "")
    _train_and_test(parts, outcome, loaders, optimization, checkpoint, Tracker())
    if outcome.cause is not None:
        # The others wait for this one, and must learn why they need not.
        raise outcome.cause


def _machine(parts: Parts) -> str:
    """Prepare the machine, and return it in words."""
    device = hardware.describe(parts.device)
    if parts.device.type == "cpu" and hardware.keep_freed_memory():
        device += ", freed memory kept"
    hardware.reset_peak_memory(parts.device)
    return device


def _moving(parts: Parts, fingerprint: str) -> tuple[Optimization, Checkpoint]:
    """Return what moves during a run, besides the weights, and what saves it."""
    from lra_bench.checkpoint import Checkpoint
    from lra_bench.optim import Optimization

    config = parts.request.config
    model = parts.model.to(parts.device)
    optimization = as_user_error(
        lambda: Optimization(model, config.train, world=parts.world), "train"
    )
    return optimization, Checkpoint(
        parts.folder.checkpoint_path(fingerprint),
        model,
        optimization.optimizer,
        run_id=run_id(parts.request.request_id, fingerprint),
        every_seconds=config.checkpoint_seconds,
        max_share=config.checkpoint_share,
        world=parts.world,
        seed=config.seed,
    )


def _begin_session(state: State, device: str, commit: str | None, num_processes: int) -> None:
    """Note which machine and versions make the steps that follow."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    state.started_at = state.started_at or now
    state.sessions.append(
        {
            "from_step": state.step,
            "started_at": now,
            "device": device,
            "torch": provenance.versions().get("torch", ""),
            "git_commit": commit,
            "num_processes": num_processes,
        }
    )


def _loaders(parts: Parts) -> tuple[Loader, Loader, Loader]:
    """Return what gives the batches of the training, the validation and the test split."""
    from lra_bench.data import AHEAD, Loader

    config = parts.request.config.train
    training, validation, test = (
        Loader(
            parts.task.examples(split),
            parts.task.spec,
            batch_size=config.batch_size if split == "train" else config.eval_batch_size,
            bucketing=config.bucketing,
            device=parts.device,
            lengths=parts.lengths,
            # On a CPU the thread would take the cores from the computation.
            ahead=AHEAD if parts.device.type == "cuda" else 0,
            rank=parts.world.rank,
            size=parts.world.size,
        )
        for split in SPLITS
    )
    return training, validation, test


def _info(parts: Parts, state: State, run_id: str) -> RunInfo:
    request = parts.request
    labels = request.labels
    return RunInfo(
        run_id=run_id,
        title=request.title,
        group="/".join(labels[name] for name in ("setting", "task", "model", "objective")),
        tags=list(request.names.values()),
        config={**request.sections, "seed": request.config.seed},
        directory=parts.folder.results_dir,
        curve=list(state.curve),
        attempt=state.started_at if request.config.force else None,
    )


def _say_what_matters(parts: Parts, state: State, tracker: Tracker) -> None:
    """Say what everybody must know about the data, where the run goes on, and whether exactly."""
    info = parts.task.info()
    for kind, text in (("warning", info.warning), ("note", info.note)):
        if text:
            tracker.message(f"{kind}: {info.source}: {text}")
    for sentence in parts.began:
        tracker.message(sentence)
    if state.step:
        num_steps = parts.request.config.train.num_steps
        tracker.message(f"  going on after step {state.step:,} of {num_steps:,}")
    *earlier, now = state.sessions
    for kind in ("device", "torch", "git_commit", "num_processes"):
        # Checkpoints from before there were several processes are of one.
        had = [session.get(kind, 1) for session in earlier]
        others = [str(value) for value in had if value != now[kind]]
        if others:
            tracker.message(
                f"note: earlier steps were made with {kind} {others[-1]}, now it is {now[kind]}: "
                f"the last digits may differ from those of a run that was not moved"
            )


def _train_and_test(
    parts: Parts,
    outcome: _Outcome,
    loaders: tuple[Loader, Loader, Loader],
    optimization: Optimization,
    checkpoint: Checkpoint,
    tracker: Tracker,
) -> None:
    """Train, and evaluate the test split once; what ends a run is part of the outcome."""
    import torch

    from lra_bench import trainer

    config = parts.request.config
    training, validation, test = loaders
    try:
        trainer.train(
            parts.model,
            outcome.state,
            objective=parts.objective,
            optimization=optimization,
            training=training,
            validation=validation,
            config=config.train,
            seed=config.seed,
            checkpoint=checkpoint,
            tracker=tracker,
            interrupt=parts.interrupt,
            world=parts.world,
        )
        outcome.test = trainer.evaluate(
            parts.model,
            test,
            precision=config.train.precision,
            what="testing",
            tracker=tracker,
            interrupt=parts.interrupt,
            world=parts.world,
        )
        outcome.status = "completed"
        _measure_memory(parts, outcome)
    except trainer.Diverged as error:
        outcome.status, outcome.error = "diverged", str(error)
        _measure_memory(parts, outcome)
    except (OSError, MemoryError, RuntimeError) as error:
        # The machine failed the run, not the program: that counts, and another try may succeed.
        # PyTorch says so in a RuntimeError where the memory of the CPU does not suffice.
        out_of_memory = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if isinstance(error, RuntimeError) and not out_of_memory:
            raise
        outcome.error = " ".join(f"{type(error).__name__}: {error}".split())
        outcome.cause = error
        outcome.peak_memory_bytes = hardware.peak_memory_bytes(parts.device)


def _measure_memory(parts: Parts, outcome: _Outcome) -> None:
    """Note the highest memory use; of several processes, that of the one with the most."""
    peaks = parts.world.gather(hardware.peak_memory_bytes(parts.device))
    outcome.peak_memory_bytes = max((peak for peak in peaks if peak is not None), default=None)


def _keep_weights(parts: Parts, outcome: _Outcome, fingerprint: str) -> None:
    """Write the encoder that validation chose, where that was asked for."""
    if parts.request.config.keep_weights and outcome.status == "completed":
        folder = parts.folder.weights_folder(fingerprint)
        try:
            outcome.weights_sha256 = weights.keep(parts.model.encoder, folder)
        except OSError as error:
            # The result is no worse for it; the checkpoint stays, for another try at the weights.
            outcome.not_kept = error


def _record_of(
    parts: Parts, outcome: _Outcome, fingerprint: str, code: tuple[str | None, bool | None]
) -> RunRecord:
    request, state, spec = parts.request, outcome.state, parts.task.spec
    validation = None if state.best_validation is None else Evaluation(state.best_validation)
    seconds = state.train_seconds
    return RunRecord(
        run_id=run_id(request.request_id, fingerprint),
        request_id=request.request_id,
        setting=request.names["setting"],
        task=request.names["task"],
        model=request.names["model"],
        objective=request.names["objective"],
        changes=dict(request.changes),
        seed=request.config.seed,
        parent=None if request.parent is None else request.parent.record.run_id,
        pretraining=request.pretraining,
        weights_sha256=outcome.weights_sha256,
        status=outcome.status,
        error=outcome.error,
        command=request.command(),
        ranking_metric=spec.metrics[0],
        metrics=measured(spec.metrics, test=outcome.test, validation=validation),
        test=outcome.test,
        validation=validation,
        best_step=state.best_step if validation is not None else None,
        num_steps=state.step,
        curve=state.curve,
        majority_baseline=outcome.majority_baseline,
        num_parameters=sum(parameter.numel() for parameter in parts.model.parameters()),
        encoder_passes_per_step=parts.objective.passes_per_step,
        train_seconds=seconds,
        total_seconds=outcome.total_seconds,
        peak_memory_bytes=outcome.peak_memory_bytes,
        examples_per_second=state.examples_seen / seconds if seconds else None,
        tokens_per_second=state.tokens_seen / seconds if seconds else None,
        data=records.data_of(parts.task.info()),
        data_sha256=fingerprint,
        config=request.sections,
        config_sha256=config_sha256(request.sections),
        git_commit=code[0],
        git_dirty=code[1],
        versions=provenance.versions(),
        device=outcome.device,
        dtype=request.config.train.precision,
        started_at=state.started_at,
        num_resumes=state.num_resumes,
        sessions=state.sessions,
        num_processes=parts.world.size,
    )


def _write(record: RunRecord, parts: Parts) -> None:
    """Write the record, and beside the weights what they are."""
    try:
        records.write(record, parts.folder.results_dir)
        if record.weights_sha256 is not None:
            weights.describe(record, parts.folder.weights_folder(record.data_sha256))
    except OSError as error:
        path = parts.folder.record_path(record.data_sha256)
        raise OSError(
            f"cannot write the record {path}: {reason(error)}; free some space and give the same "
            f"line again: it goes on from the last checkpoint"
        ) from error
