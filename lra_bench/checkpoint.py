"""Saving and restoring everything that moves during a run, exactly.

The newest checkpoint and the one before it are kept. Each holds a digest of its content and the
identity of its run: one that was torn, edited or made by another run is noticed.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lra_bench import files, randomness
from lra_bench.distributed import ALONE, World

# Raised when the content changes, so that an old file is refused instead of misread.
FORMAT = 3


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
        sessions: The processes whose steps these are; see `RunRecord`.
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
    sessions: list[dict[str, Any]] = field(default_factory=list)
    started_at: str = ""


class Checkpoint:
    """The file that a run goes on from after an interruption, and the one before it.

    Args:
        path: The file.
        module: Its weights are saved and restored.
        optimizer: Likewise its state.
        run_id: Identity of the run; a file of another run is not taken.
        every_seconds: Time between two saves, at least.
        max_share: Largest share of the time since now that saving may take.
        clock: Tells the time [seconds].
        world: The processes of the run, of which the first reads and writes.
        seed: Of the run; gives random numbers to a process that the file knows nothing of.
    """

    def __init__(
        self,
        path: Path,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        run_id: str,
        every_seconds: float,
        max_share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        world: World = ALONE,
        seed: int = 0,
    ) -> None:
        self.path = path
        self.world = world
        self.seed = seed
        self.module = module
        self.optimizer = optimizer
        self.run_id = run_id
        self.every_seconds = every_seconds
        self.max_share = max_share
        self.clock = clock
        self.began_at = self.saved_at = clock()
        # Time of the last save, and of all of them [seconds].
        self.last_seconds = self.spent_seconds = 0.0

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest."""
        return self.path.with_name(f"{self.path.name}.previous")

    def is_due(self) -> bool:
        """Return whether it is time to save again, and another save stays within the share."""
        now = self.clock()
        if now - self.saved_at <= self.every_seconds:
            return False
        allowed = self.max_share * (now - self.began_at)
        return self.spent_seconds + self.last_seconds <= allowed

    def save(self, state: State) -> None:
        """Write a checkpoint: a reader sees the old file or the whole new one, never a part.

        All processes of a run call it, and the first one writes.

        Raises:
            OSError: It cannot be written; the text says why, and the old file is untouched.
        """
        began = self.clock()
        mine, *of_others = self.world.gather(randomness.state_of_all(self._device()))
        if not self.world.is_first:
            return
        content: dict[str, Any] = {
            "format": FORMAT,
            "run_id": self.run_id,
            "state": vars(state),
            "weights": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": mine,
        }
        if of_others:
            content["random_of_others"] = of_others
        content["digest"] = digest_of(content)
        try:
            with (
                files.atomic(self.path, previous=self.previous) as draft,
                draft.open("wb", buffering=0) as raw,
            ):
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
        finally:
            # Also a try that fails waits for the next one.
            self.saved_at = self.clock()
            self.last_seconds = self.saved_at - began
            self.spent_seconds += self.last_seconds

    def restore(self, say: Callable[[str], None] = lambda text: None) -> State:
        """Restore module, optimizer and random numbers; a fresh state where there is no file.

        Where the newest file is of no use, the one before it is taken. Of several processes the
        first reads, and all have then what it has; only random numbers are each one's own.

        Args:
            say: Is told that, and why.

        Raises:
            ValueError: No file that is there can be used; the text says why.
        """
        if self.world.size == 1:
            return self._read(say)[0]
        state, randoms = self._read(say) if self.world.is_first else (State(), [])
        told = self.world.from_first(
            [vars(state), self.module.state_dict(), self.optimizer.state_dict(), randoms]
        )
        if not self.world.is_first:
            fields, weights, optimizer, randoms = told
            state = State(**fields)
            self.module.load_state_dict(weights)
            self.optimizer.load_state_dict(optimizer)
            if self.world.rank < len(randoms):
                randomness.restore_all(randoms[self.world.rank], self._device())
            else:
                randomness.seed_rank(self.seed, self.world.rank, state.step)
        return state

    def _read(self, say: Callable[[str], None]) -> tuple[State, list[randomness.State]]:
        """Restore what is this process's; return the state, and the random numbers of all."""
        files.remove_abandoned_drafts(self.path)
        reasons = {}
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                state, randoms = self._restore(path)
            # Damaged bytes can make the unpickler raise nearly anything.
            except Exception as error:
                reasons[path] = str(error) if type(error) is ValueError else type(error).__name__
                continue
            for broken, why in reasons.items():
                say(
                    f"warning: cannot go on from {broken} ({why}); going on from the checkpoint "
                    f"before it"
                )
            state.num_resumes += 1
            return state, randoms
        if reasons:
            told = " nor from ".join(f"{path} ({why})" for path, why in reasons.items())
            it = "the file" if len(reasons) == 1 else "both"
            raise ValueError(f"cannot go on from {told}; delete {it} to start this run anew")
        return State(), []

    def _restore(self, path: Path) -> tuple[State, list[randomness.State]]:
        """Restore from one file.

        Raises:
            ValueError: It was not made by this run and this version; the text says why.
            Exception: It is damaged.
        """
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or "format" not in content:
            raise ValueError("it is no checkpoint")
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r:.20}, expected {FORMAT}")
        if content.pop("digest") != digest_of(content):
            raise ValueError("its content was changed after it was written")
        if content["run_id"] != self.run_id:
            raise ValueError(f"it is of another run, {content['run_id']}")
        self.module.load_state_dict(content["weights"])
        self.optimizer.load_state_dict(content["optimizer"])
        randomness.restore_all(content["random"], self._device())
        randoms = [content["random"], *content.get("random_of_others", [])]
        return State(**content["state"]), randoms

    def remove(self) -> None:
        """Remove the files, if there are any."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)

    def _device(self) -> torch.device:
        return next(self.module.parameters()).device


def digest_of(content: Any) -> str:
    """Return the SHA-256 (hex) of plain data and tensors, wherever these lie."""
    digest = hashlib.sha256()
    _add(digest.update, content)
    return digest.hexdigest()


def _add(add: Callable[[Any], None], content: Any) -> None:
    if isinstance(content, Tensor):
        add(f"tensor {content.dtype} {tuple(content.shape)}".encode())
        flat = content.detach().cpu().contiguous().reshape(-1)
        add(flat.view(torch.uint8).numpy())
    elif isinstance(content, Mapping):
        add(f"mapping {len(content)}".encode())
        for key, value in content.items():
            _add(add, key)
            _add(add, value)
    elif isinstance(content, (list, tuple)):
        add(f"sequence {len(content)}".encode())
        for value in content:
            _add(add, value)
    else:
        add(f"{type(content).__name__} {content!r}".encode())


class _Noting(io.BufferedWriter):
    """A file that remembers which error of the system a write has met."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            raise
