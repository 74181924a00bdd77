"""Speed records without a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lra_bench.speed import record as records
from lra_bench.speed.record import SpeedRecord, Timing

CONFIG = {
    "task": {"vocab_size": 257, "num_classes": 2, "num_inputs": 1, "target": "class"},
    "model": {"_target_": "somewhere.Model"},
    "objective": {"_target_": "somewhere.Objective"},
    "trunk": {"num_layers": 2, "width": 64, "num_heads": 2, "ffn_width": 128},
    "head": {"pooling": "mean"},
    "train": {"precision": "float32"},
}


def timing(
    *seconds: float, memory: int | None = 10**6, joules: Sequence[float] | None = None
) -> Timing:
    """Return rounds of these lengths [s], on two cores."""
    return Timing(
        seconds_per_step=list(seconds),
        cpu_seconds_per_step=[2 * one for one in seconds],
        steps_per_round=3,
        joules_per_step=joules,
        peak_memory_bytes=memory,
    )


def make(
    model: str = "local",
    length: int = 1024,
    *,
    seconds: Sequence[float] = (0.1, 0.2, 0.3),
    baseline: Sequence[float] | None = (0.2, 0.4, 0.6),
    memory: int | None = 10**6,
    **fields: Any,
) -> SpeedRecord:
    """Return a record whose identity fits; by default twice as fast as the baseline.

    Args:
        model: Plain name.
        length: Tokens.
        seconds: Of a training step in each round; inference takes half of it.
        baseline: Likewise of the baseline, None for none.
        memory: Peak of both modes [bytes]; the baseline's is four times one megabyte.
        fields: Of the record, replacing what is made up.
    """
    made: dict[str, Any] = {
        "setting": "cpu",
        "task": "text",
        "model": model,
        "objective": "cross_entropy",
        "changes": {},
        "length": length,
        "batch_size": 4,
        "status": "completed",
        "config": CONFIG,
        "code_sha256": "a" * 64,
        "baseline": "transformer",
        "device": "a machine, 2 threads",
        "num_threads": 2,
        "num_cores": 2,
        "other_cores": 0.0,
        "versions": {"torch": "2.13.0"},
        "train": timing(*seconds, memory=memory),
        "inference": timing(*(one / 2 for one in seconds), memory=memory),
        **fields,
    }
    if baseline is not None:
        made.setdefault("baseline_train", timing(*baseline, memory=4 * 10**6))
        halves = (one / 2 for one in baseline)
        made.setdefault("baseline_inference", timing(*halves, memory=4 * 10**6))
    if made["status"] != "completed":
        of = ("train", "inference", "baseline_train", "baseline_inference")
        made = {"error": "the machine said no", **made, **dict.fromkeys(of)}
    names = {name: made[name] for name in ("setting", "task", "model", "objective")}
    identity = records.cell_id(
        names,
        made["changes"],
        made["config"],
        length=length,
        batch_size=made["batch_size"],
        device=made["device"],
    )
    return SpeedRecord(**{"cell_id": identity, **made})
