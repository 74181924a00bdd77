"""Saving and restoring everything that moves during a run, exactly."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lra_bench import files

# Raised when the content changes, so that an old file is refused instead of misread.
FORMAT = 2


@dataclass
class State:
    """Where a run stands.

    Args:
        step: Updates made.
        best_step: Update after which validation was best, 0 if it has not been evaluated.
        best_weights: The weights at that point, on the CPU.
        best_validation: Sums of the evaluation at that point; see `lra_bench.metrics`.
        curve: One row an evaluation.
        loss_sum: Sum of the training losses since the last evaluation.
        train_seconds: Time spent in training steps so far, evaluation left out.
        examples_seen: Examples trained on so far, repetitions counted.
        tokens_seen: Real tokens trained on so far, repetitions counted.
        num_resumes: How often the run was continued from a checkpoint.
        started_at: When the run was begun, UTC, ISO 8601.
    """

    step: int = 0
    best_step: int = 0
    best_weights: dict[str, Tensor] | None = None
    best_validation: dict[str, float] | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    train_seconds: float = 0.0
    examples_seen: int = 0
    tokens_seen: int = 0
    num_resumes: int = 0
    started_at: str = ""


class Checkpoint:
    """The file that a run goes on from after an interruption.

    Args:
        path: The file.
        module: Its weights are saved and restored.
        optimizer: Likewise its state.
        every_seconds: Time between two saves.
        clock: Tells the time [seconds].
    """

    def __init__(
        self,
        path: Path,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.module = module
        self.optimizer = optimizer
        self.every_seconds = every_seconds
        self.clock = clock
        self.saved_at = clock()

    def is_due(self) -> bool:
        """Return whether it is time to save again."""
        return self.clock() - self.saved_at > self.every_seconds

    def save(self, state: State) -> None:
        """Write a checkpoint: a reader sees the old file or the whole new one, never a part.

        Raises:
            OSError: It cannot be written; the text says why, and the old file is untouched.
        """
        # Also a try that fails waits for the next one.
        self.saved_at = self.clock()
        content = {
            "format": FORMAT,
            "state": vars(state),
            "weights": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        try:
            with files.atomic(self.path) as draft, draft.open("wb", buffering=0) as raw:
                file = _Noting(raw)
                try:
                    torch.save(content, file)
                    file.flush()
                except RuntimeError as error:
                    # What the system refused is hidden behind words of torch's own.
                    raise file.error or OSError(str(error)) from error
        except OSError as error:
            raise OSError(
                f"cannot write the checkpoint {self.path}: {files.reason(error)}; free some space, "
                f"or choose another results_dir"
            ) from error

    def restore(self) -> State:
        """Restore module, optimizer and random numbers; a fresh state where there is no file.

        Raises:
            ValueError: The file is not a checkpoint of this version or is damaged.
        """
        files.remove_abandoned_drafts(self.path)
        if not self.path.exists():
            return State()
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}, expected {FORMAT}")
            self.module.load_state_dict(content["weights"])
            self.optimizer.load_state_dict(content["optimizer"])
            torch.set_rng_state(content["rng_cpu"])
            if torch.cuda.is_available() and content["rng_cuda"]:
                torch.cuda.set_rng_state_all(content["rng_cuda"])
            state = State(**content["state"])
        # Damaged bytes can make the unpickler raise nearly anything.
        except Exception as error:
            raise ValueError(
                f"cannot go on from {self.path} ({type(error).__name__}); delete the file to "
                f"start this run anew"
            ) from error
        state.num_resumes += 1
        return state

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)


class _Noting(io.BufferedWriter):
    """A file that remembers which error of the system a write has met."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            raise
