"""Saving and restoring everything that moves during a run, exactly."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Raised when the content changes, so that an old file is refused instead of misread.
FORMAT = 1


@dataclass
class State:
    """Where a run stands.

    Args:
        step: Updates made.
        best_step: Update after which validation was best, 0 if it has not been evaluated.
        best_weights: The weights at that point, on the CPU.
        best_validation: Sums of the evaluation at that point.
        curve: One row an evaluation.
        loss_sum: Sum of the training losses since the last evaluation.
        train_seconds: Time spent in training steps so far, evaluation left out.
        examples_seen: Examples trained on so far, repetitions counted.
        tokens_seen: Real tokens trained on so far, repetitions counted.
        num_resumes: How often the run was continued from a checkpoint.
    """

    step: int = 0
    best_step: int = 0
    best_weights: dict[str, Tensor] | None = None
    best_validation: dict[str, Any] | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    train_seconds: float = 0.0
    examples_seen: int = 0
    tokens_seen: int = 0
    num_resumes: int = 0


def save(path: Path, state: State, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint: a reader sees the old file or the whole new one, never a part.

    Raises:
        OSError: The disk is full or the folder cannot be written; the old file is untouched.
    """
    content = {
        "format": FORMAT,
        "state": vars(state),
        "weights": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng_cpu": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except RuntimeError as error:
        # torch reports a full disk in a RuntimeError of its own.
        raise OSError(f"cannot write the checkpoint {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Restore module, optimizer and random numbers; a fresh state where there is no checkpoint.

    Raises:
        ValueError: The file is not a checkpoint of this version or is damaged.
    """
    for partial in path.parent.glob(f"{path.name}.*.tmp"):
        # Left by a process that was killed while it wrote.
        partial.unlink(missing_ok=True)
    if not path.exists():
        return State()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, expected {FORMAT}")
        module.load_state_dict(content["weights"])
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["rng_cpu"])
        if torch.cuda.is_available() and content["rng_cuda"]:
            torch.cuda.set_rng_state_all(content["rng_cuda"])
        state = State(**content["state"])
    # Damaged bytes can make the unpickler raise nearly anything.
    except Exception as error:
        raise ValueError(
            f"cannot go on from {path} ({type(error).__name__}); delete the file to start this "
            f"run anew"
        ) from error
    state.num_resumes += 1
    return state
