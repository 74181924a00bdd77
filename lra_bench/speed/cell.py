"""What is measured: a model and its baseline at a length, composed and identified."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from lra_bench.build import build_task, check_options
from lra_bench.compose import Request, compose
from lra_bench.errors import UserError
from lra_bench.schema import NAMED_GROUPS, literal
from lra_bench.speed import record as records
from lra_bench.speed.record import SpeedRecord
from lra_bench.speed.sources import code_sha256
from lra_bench.types import TaskSpec

# What every model is compared with.
BASELINE = "transformer"
# Of the training, what a step can cost more or less for.
_TRAIN = ("max_grad_norm", "precision", "compile")
# What a model's own choices are, which its baseline does not have.
_OWN = ("model", "objective")


@dataclass(frozen=True)
class Cell:
    """One model at one length.

    Args:
        request: The model, under its setting.
        baseline: The baseline under the same setting.
        spec: What the model has to answer, at this length.
        batch_size: Examples a step.
        device: Hardware in words.
    """

    request: Request
    baseline: Request
    spec: TaskSpec
    batch_size: int
    device: str

    @property
    def length(self) -> int:
        """Tokens of an input."""
        return self.spec.max_length

    @property
    def label(self) -> str:
        """What the model is called in tables."""
        return records.model_label(self.request.labels)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The sections that can change the cost, as plain data."""
        return _config(self.request, self.spec)

    @cached_property
    def companions(self) -> str:
        """What tells which cells take turns with the same process of the baseline."""
        return repr((_config(self.baseline, self.spec), self.length, self.batch_size))

    @cached_property
    def cell_id(self) -> str:
        """What tells this cell from every other, on this machine."""
        return records.cell_id(
            self.request.names,
            self.request.changes,
            self.config,
            length=self.length,
            batch_size=self.batch_size,
            device=self.device,
        )

    @cached_property
    def code_sha256(self) -> str:
        """Identity of the code that it measures."""
        configs = (self.request.config, self.baseline.config)
        return code_sha256([node for of in configs for node in (of.model, of.objective)])

    def path(self, results_dir: Path) -> Path:
        """Return where its record lies."""
        return records.path_of(results_dir, self.request.names, self.length, self.cell_id)

    def command(self) -> str:
        """Return a command that measures it on any machine."""
        names = {name: self.request.names[name] for name in NAMED_GROUPS}
        words = [f"{group}={name}" for group, name in names.items()]
        words += [f"{key}={literal(value)}" for key, value in self.request.changes.items()]
        words += [f"length={self.length}", f"batch_size={self.batch_size}"]
        if self.request.config.num_threads is not None:
            words.append(f"num_threads={self.request.config.num_threads}")
        return shlex.join(["lra-bench", "speed", *words])

    def is_answered_by(self, done: SpeedRecord, *, torch: str, limit_seconds: float) -> bool:
        """Return whether measuring again would only repeat what a record says.

        Args:
            done: A record of this cell.
            torch: The version that is installed.
            limit_seconds: Time that the cell would have.
        """
        same = done.code_sha256 == self.code_sha256 and done.versions.get("torch") == torch
        if done.status == "out_of_time":
            return same and done.limit_seconds >= limit_seconds
        return same and done.status != "failed"


def _config(request: Request, spec: TaskSpec) -> dict[str, Any]:
    sections = request.sections
    return {
        "task": {
            "vocab_size": spec.vocab_size,
            "num_classes": spec.num_classes,
            "num_inputs": spec.num_inputs,
            "target": spec.target,
        },
        "train": {key: sections["train"][key] for key in _TRAIN},
        **{name: sections[name] for name in ("model", "objective", "trunk", "head")},
    }


def cells_of(
    requests: Sequence[Request], lengths: Sequence[int], batch_size: int, *, device: str
) -> list[Cell]:
    """Return the cells of some requests, those of one length together.

    Args:
        requests: What was asked for.
        lengths: Tokens of an input.
        batch_size: Examples a step.
        device: Hardware in words.

    Raises:
        UserError: A class cannot be had, or an option changes no cost.
    """
    checked = [_checked(request) for request in requests]
    cells = [
        Cell(request, baseline, replace(spec, max_length=length), batch_size, device)
        for length in sorted(set(lengths))
        for request, baseline, spec in checked
    ]
    once = {cell.cell_id: cell for cell in cells}
    # Stable: the lengths of one setting stay in their order.
    return sorted(once.values(), key=lambda cell: (cell.request.labels["setting"], cell.length))


def _checked(request: Request) -> tuple[Request, Request, TaskSpec]:
    for key in request.changes:
        section, _, option = key.partition(".")
        if section == "train" and option not in _TRAIN:
            raise UserError(
                f"{key} changes nothing that is measured here; leave it out"
                + (", write batch_size=" if option == "batch_size" else "")
            )
    check_options(request.config.model, "model", {"spec"})
    baseline = _baseline(tuple(request.words), tuple(request.config_dirs))
    return request, baseline, build_task(request).spec


@lru_cache(maxsize=256)
def _baseline(words: Sequence[str], config_dirs: Sequence[Path]) -> Request:
    """Return the baseline in the place of what some words choose."""
    return compose(
        [*_shared(words), f"model={BASELINE}", "objective=cross_entropy"], config_dirs=config_dirs
    )


def _shared(words: Sequence[str]) -> Iterator[str]:
    """Yield the words that are not about the model or its objective."""
    return (word for word in words if word.split("=")[0].split(".")[0] not in _OWN)
