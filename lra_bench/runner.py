"""From a composed configuration to a record."""

# Imports that cost seconds stand inside the functions: `lra-bench ls` builds tasks without torch.
from __future__ import annotations

import inspect
import logging
import math
import os
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from hydra.utils import get_object, instantiate

from lra_bench import record as records
from lra_bench.config import Composed
from lra_bench.errors import UserError
from lra_bench.paths import default_cache_dir, default_data_dir
from lra_bench.record import RunRecord
from lra_bench.types import SPLITS, Examples, Progress, ProgressCallback, Split, Task, TaskSpec

if TYPE_CHECKING:
    import torch

    from lra_bench.classifier import SequenceClassifier
    from lra_bench.objective import Objective
    from lra_bench.optim import Schedule
    from lra_bench.tracking import Tracker
    from lra_bench.trainer import Interrupt


T = TypeVar("T")

# What it would log about a class that cannot be imported is in the error already.
logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class _Parts:
    """What a configuration is assembled into, before any data are touched."""

    task: Task
    classifier: SequenceClassifier
    objective: Objective
    schedule: Schedule
    tracker: Tracker
    device: torch.device


def run(composed: Composed) -> RunRecord:
    """Do one run, or find that it has been done, and return its record.

    Everything that can be refused is refused before data are prepared. Everything that takes long
    can be interrupted, and goes on from there when the same run is asked for again.

    Returns:
        The record, which has been written. Its status tells whether there is a result.

    Raises:
        UserError: Something the user wrote or provided is wrong.
        Interrupted: A signal came; the state has been saved (see `lra_bench.trainer`).
        OSError: The record cannot be written.
    """
    from lra_bench.tracking import ConsoleTracker, Tracker
    from lra_bench.trainer import Interrupt

    config = composed.config
    console = Tracker() if config["quiet"] else ConsoleTracker()
    parts = _assemble(composed, console)
    results_dir = Path(config["results_dir"])
    _check_writable(results_dir)
    with Interrupt() as interrupt:
        parts.task.prepare(shown_on(console, interrupt.check))
        record = _begin(composed, parts)
        path = record.path(results_dir)
        done = _finished(path)
        if done is not None and not config["force"]:
            code = f", commit {done.git_commit[:10]}" if done.git_commit else ""
            console.message(
                f"already done ({done.started_at} on {done.device}{code}), reusing {path}; "
                f"force=true runs it again"
            )
            interrupt.check()
            return done
        _train_and_test(composed, parts, record, interrupt)
        records.write(record, results_dir)
        if record.status != "failed":
            # A failed run may go on from its checkpoint once the machine is mended.
            _checkpoint_path(composed, record).unlink(missing_ok=True)
        # A signal that came too late to stop this run still stops a sweep.
        interrupt.check()
    return record


def build_task(composed: Composed) -> Task:
    """Build the task of a run; it has read nothing yet.

    Raises:
        UserError: An option is wrong.
    """
    config = composed.config
    task = build(
        config["task"],
        "task",
        data_dir=Path(config["data_dir"] or default_data_dir()).expanduser(),
        cache_dir=Path(config["cache_dir"] or default_cache_dir()).expanduser(),
    )
    if not isinstance(task, Task) or not isinstance(getattr(task, "spec", None), TaskSpec):
        raise UserError(
            f"task={composed.names['task']} must build an lra_bench.types.Task with a spec"
        )
    return task


def build(node: Mapping[str, Any], name: str, **arguments: Any) -> Any:
    """Build the object that a node of the configuration describes by its ``_target_``.

    The options are checked against the type hints of the target first, so that a wrong type is
    refused here instead of somewhere inside.

    Args:
        node: The node.
        name: Its key, for messages.
        arguments: What the harness adds; those that the target does not take are left out.

    Raises:
        UserError: The target cannot be imported, or an option is missing, unknown or wrong.
    """
    _check_options(node, name, set(arguments))
    taken = _parameters(node, name)
    given = {key: value for key, value in arguments.items() if key in taken}
    # Hydra would turn what it passes on into containers of its own; so it passes nothing on.
    make = instantiate({**node, "_partial_": True, "_convert_": "all"})
    return _refusing(lambda: make(**given), name)


def _target(node: Mapping[str, Any], name: str) -> Any:
    if "_target_" not in node:
        raise UserError(f"{name} has no _target_: its file must name the class to build")
    try:
        return get_object(node["_target_"])
    except Exception as error:
        # Importing a stranger's module can raise anything.
        reason = error.__cause__ or error
        raise UserError(f"{name}: cannot import {node['_target_']}: {reason}") from error


def _parameters(node: Mapping[str, Any], name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_target(node, name)).parameters


def _check_options(node: Mapping[str, Any], name: str, provided: set[str]) -> None:
    """Check the options of a node, and of nodes inside it, against the type hints."""
    target = _target(node, name)
    parameters = _parameters(node, name)
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:
        # Annotations that only exist for a type checker cannot be looked up.
        hints = {}
    for key, value in list(node.items()):
        if key in ("_target_", "_partial_"):
            continue
        if key not in parameters:
            raise UserError(
                f"{name}.{key}: {node['_target_']} takes no such option "
                f"(it takes {', '.join(parameters)})"
            )
        if isinstance(value, Mapping) and "_target_" in value:
            _check_options(value, f"{name}.{key}", {"spec"})
        elif key in hints and not _fits(value, hints[key]):
            raise UserError(f"{name}.{key}={value} is not {_in_words(hints[key])}")
        elif hints.get(key) is float and isinstance(node, dict):
            # 1 and 1.0 are the same option, and must have the same hash.
            node[key] = float(value)
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and key not in node
        and key not in provided
    ]
    if missing:
        raise UserError(f"{name}: {node['_target_']} also needs {', '.join(missing)}")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value can be what a type hint says; unknown hints accept all."""
    origin = get_origin(hint)
    if origin in (typing.Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint in (None, NoneType):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        allowed = int if hint is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if origin in (list, tuple, Sequence):
        return isinstance(value, (list, tuple))
    return True


def _in_words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (typing.Union, UnionType):
        return " or ".join(_in_words(option) for option in get_args(hint))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return "null" if hint in (None, NoneType) else words.get(hint, str(hint))


def _assemble(composed: Composed, console: Tracker) -> _Parts:
    """Build everything but the data.

    Raises:
        UserError: An option is wrong, or two do not go together.
    """
    import torch

    from lra_bench.classifier import SequenceClassifier
    from lra_bench.models.encoder import EncoderSpec
    from lra_bench.optim import make_schedule
    from lra_bench.tracking import Trackers

    config, options, head = composed.config, composed.config["train"], composed.config["head"]
    _check_numbers(config)
    device = _device(config["device"])
    if config["num_threads"] is not None:
        torch.set_num_threads(config["num_threads"])
    task = build_task(composed)
    schedule = _refusing(
        lambda: make_schedule(
            options["schedule"],
            learning_rate=options["learning_rate"],
            num_warmup_steps=options["num_warmup_steps"],
            num_steps=options["num_steps"],
        ),
        "train",
    )
    has_cls = head["pooling"] == "cls"
    spec = _refusing(
        lambda: EncoderSpec(
            **config["trunk"],
            vocab_size=task.spec.vocab_size + has_cls,
            max_length=task.spec.max_length + has_cls,
            has_cls=has_cls,
        ),
        "trunk",
    )
    torch.manual_seed(config["seed"])
    encoder = build(config["model"], "model", spec=spec)
    objective = build(config["objective"], "objective")
    names = composed.names
    _refusing(
        lambda: objective.check(encoder.topologies),
        f"objective={names['objective']} with model={names['model']}",
    )
    classifier = SequenceClassifier(
        encoder,
        task.spec,
        width=spec.width,
        hidden_width=head["hidden_width"],
        pooling=head["pooling"],
        interaction=head["interaction"],
    )
    tracker = Trackers(console, build(config["tracker"], "tracker"))
    return _Parts(task, classifier, objective, schedule, tracker, device)


def _refusing(make: Callable[[], T], name: str) -> T:
    """Call something that raises ValueError (or TypeError) for what the user wrote."""
    try:
        return make()
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"{name}: {error}") from error


_POSITIVE = ("num_steps", "batch_size", "eval_batch_size", "eval_every")
_CHOICES = {
    ("train", "decay"): ("all", "matrices"),
    ("train", "precision"): ("float32", "bfloat16"),
    ("trunk", "positions"): ("learned", "sinusoidal"),
    ("head", "pooling"): ("cls", "first", "mean", "max"),
    ("head", "interaction"): ("concatenate", "nli"),
}


def _check_numbers(config: Mapping[str, Any]) -> None:
    """Refuse what is of the right type and cannot be meant."""
    _check_finite(config, "")
    wrong = [(f"train.{key}", config["train"][key]) for key in _POSITIVE]
    wrong += [
        ("num_threads", config["num_threads"]),
        ("head.hidden_width", config["head"]["hidden_width"]),
    ]
    for key, value in wrong:
        if value is not None and value < 1:
            raise UserError(f"{key}={value} must be at least 1")
    if not 0 <= config["seed"] < 1 << 63:
        raise UserError(f"seed={config['seed']} must lie between 0 and 2**63 - 1")
    train = config["train"]
    for key in ("beta1", "beta2"):
        if not 0 <= train[key] < 1:
            raise UserError(f"train.{key}={train[key]} must lie in [0, 1)")
    if train["eps"] <= 0 or train["weight_decay"] < 0:
        raise UserError(
            f"train.eps={train['eps']} must be positive and "
            f"train.weight_decay={train['weight_decay']} not negative"
        )
    norm = config["train"]["max_grad_norm"]
    if norm is not None and norm <= 0:
        raise UserError(f"train.max_grad_norm={norm} must be positive, or null for no clipping")
    for (section, key), choices in _CHOICES.items():
        if config[section][key] not in choices:
            raise UserError(
                f"{section}.{key}={config[section][key]} is not one of {', '.join(choices)}"
            )


def _check_finite(tree: Mapping[str, Any], prefix: str) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _check_finite(value, f"{prefix}{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{prefix}{key}={value} is no finite number")


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device={name} is not one of auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device={name}: PyTorch sees {torch.cuda.device_count()} GPUs here; use device=cpu, "
            f"or install a PyTorch with CUDA"
        )
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name} is not one of auto, cpu, cuda, cuda:N")
    return device


def _check_writable(results_dir: Path) -> None:
    """Find out now, not after hours, that a record could not be written."""
    probe = results_dir / f".writable.{os.getpid()}"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"lra_bench")
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
        raise UserError(
            f"cannot write to results_dir={results_dir}: {error.strerror}; free some space or "
            f"choose another folder"
        ) from error


def shown_on(console: Tracker, check: Callable[[], None] = lambda: None) -> ProgressCallback:
    """Return a callback that shows progress and the time left.

    Args:
        console: Where to show it.
        check: Called every time; may raise, to stop the work.
    """
    started: dict[str, tuple[float, int]] = {}

    def show(progress: Progress) -> None:
        check()
        began, first = started.setdefault(progress.what, (time.monotonic(), progress.done))
        left = None
        if progress.done > first:
            taken = time.monotonic() - began
            left = (progress.total - progress.done) * taken / (progress.done - first)
        console.progress(progress.what, progress.done, progress.total, left)

    return show


def _begin(composed: Composed, parts: _Parts) -> RunRecord:
    """Return a record that holds everything known before training."""
    from lra_bench import provenance

    fingerprint = parts.task.fingerprint()
    seed, labels = composed.config["seed"], composed.label
    identity = {**composed.numeric, "seed": seed, "data_sha256": fingerprint}
    commit, dirty = provenance.git_state()
    return RunRecord(
        run_id=records.hash_of(identity)[:16],
        setting=labels["setting"],
        task=labels["task"],
        model=labels["model"],
        objective=labels["objective"],
        seed=seed,
        status="failed",
        changes=composed.changes,
        command=composed.command(),
        num_parameters=sum(parameter.numel() for parameter in parts.classifier.parameters()),
        encoder_passes_per_step=parts.objective.passes_per_step,
        data=parts.task.provenance(),
        data_sha256=fingerprint,
        config=composed.numeric,
        config_sha256=records.hash_of(composed.numeric),
        git_commit=commit,
        git_dirty=dirty,
        versions=provenance.versions(),
        device=provenance.describe_device(parts.device),
        dtype=composed.config["train"]["precision"],
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _finished(path: Path) -> RunRecord | None:
    """Return the record at a path if running again would give the same."""
    if not path.exists():
        return None
    try:
        record = records.read(path)
    except records.BadRecord as error:
        raise UserError(f"{path} {error}; delete it to run again") from error
    return None if record.status == "failed" else record


def _checkpoint_path(composed: Composed, record: RunRecord) -> Path:
    # Not below runs/: a checkpoint is of no use to anybody else.
    # A forced run begins anew, but goes on from its own checkpoint when it was interrupted.
    kind = ".forced" if composed.config["force"] else ""
    return Path(composed.config["results_dir"]) / "checkpoints" / f"{record.run_id}{kind}.pt"


def _train_and_test(
    composed: Composed, parts: _Parts, record: RunRecord, interrupt: Interrupt
) -> None:
    """Train, evaluate the test split once, and complete the record, whatever happens."""
    import torch

    from lra_bench import checkpoint, data, provenance, trainer
    from lra_bench.optim import make_optimizer
    from lra_bench.tracking import RunInfo

    config, options, device = composed.config, composed.config["train"], parts.device
    started = time.monotonic()
    if device.type == "cpu" and provenance.keep_freed_memory():
        record.device += ", freed memory kept"
    provenance.reset_peak_memory(device)
    for kind in ("warning", "note"):
        if kind in record.data:
            parts.tracker.message(f"{kind}: {record.data['source']}: {record.data[kind]}")

    splits: dict[Split, Examples] = {split: parts.task.examples(split) for split in SPLITS}
    training, validation, test = (
        data.Loader(
            splits[split],
            batch_size=options["batch_size" if split == "train" else "eval_batch_size"],
            bucketing=options["bucketing"],
            device=device,
            spec=parts.task.spec,
        )
        for split in SPLITS
    )
    record.majority_baseline = data.majority_baseline(splits["train"], splits["test"])
    classifier = parts.classifier.to(device)
    if options["compile"]:
        classifier.encoder.compile(dynamic=True)
    optimizer = make_optimizer(
        classifier,
        weight_decay=options["weight_decay"],
        decay=options["decay"],
        betas=(options["beta1"], options["beta2"]),
        eps=options["eps"],
    )
    checkpoint_path = _checkpoint_path(composed, record)
    state = _refusing(
        lambda: checkpoint.restore(checkpoint_path, classifier, optimizer), "checkpoint"
    )
    info = RunInfo(
        run_id=record.run_id,
        title=f"{record.model} on {record.task}, setting {record.setting}, "
        f"objective {record.objective}, seed {record.seed}",
        group="/".join((record.setting, record.task, record.model, record.objective)),
        tags=list(composed.names.values()),
        config={**composed.numeric, "seed": record.seed},
        directory=Path(config["results_dir"]),
    )
    _refusing(lambda: parts.tracker.start(info), f"tracker={composed.names['tracker']}")
    if state.step:
        parts.tracker.message(f"  going on after step {state.step:,} of {options['num_steps']:,}")
    try:
        trainer.train(
            classifier,
            objective=parts.objective,
            optimizer=optimizer,
            schedule=parts.schedule,
            training=training,
            validation=validation,
            num_steps=options["num_steps"],
            eval_every=options["eval_every"],
            seed=config["seed"],
            max_grad_norm=options["max_grad_norm"],
            precision=options["precision"],
            checkpoint_path=checkpoint_path,
            checkpoint_seconds=config["checkpoint_seconds"],
            num_final_examples=len(splits["test"]),
            state=state,
            tracker=parts.tracker,
            interrupt=interrupt,
        )
        result = trainer.evaluate(
            classifier,
            test,
            precision=options["precision"],
            interrupt=interrupt,
            progress=lambda done, total: parts.tracker.progress("testing", done, total, None),
        )
        record.test, record.status = asdict(result), "completed"
    except trainer.Diverged as error:
        record.status, record.error = "diverged", str(error)
    except (OSError, MemoryError, RuntimeError) as error:
        # The machine failed the run, not the program: that counts, and another try may succeed.
        # PyTorch says so in a RuntimeError where the memory of the CPU does not suffice.
        out_of_memory = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if isinstance(error, RuntimeError) and not out_of_memory:
            raise
        record.error = " ".join(f"{type(error).__name__}: {error}".split())
    finally:
        _add_work(record, state, time.monotonic() - started)
        record.peak_memory_bytes = provenance.peak_memory_bytes(device)
        parts.tracker.finish(asdict(record), failed=record.status != "completed")


def _add_work(record: RunRecord, state: Any, total_seconds: float) -> None:
    """Copy what the run has done so far into its record."""
    record.num_steps = state.step
    record.num_resumes = state.num_resumes
    record.curve = state.curve
    record.train_seconds = state.train_seconds
    record.total_seconds = total_seconds
    if state.train_seconds:
        record.examples_per_second = state.examples_seen / state.train_seconds
        record.tokens_per_second = state.tokens_seen / state.train_seconds
    if state.best_validation is not None:
        record.best_step = state.best_step
        record.validation = state.best_validation
