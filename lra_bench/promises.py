"""What a task promises of its answers, and refusing what breaks the promise. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import IGNORED, Example, Target, TaskSpec

if TYPE_CHECKING:
    from torch import Tensor


def question_length(tokens: NDArray[Any], context: int | None) -> int:
    """Return how many of the first tokens of an input ask: 0 where all is text."""
    if context is None:
        return 0
    found = np.flatnonzero(tokens == context)
    return int(found[0]) + 1 if len(found) else 0


def check_classes(targets: Tensor, spec: TaskSpec) -> None:
    """Refuse answers that would otherwise fail deep inside a lookup, or not at all."""
    if targets.ndim != 1:
        raise UserError(
            f"task {spec.name} has answers of shape {tuple(targets.shape[1:])}; its spec says one "
            f"class an example"
        )
    low, high = targets.min().item(), targets.max().item()
    check_range("class", low, high, spec.num_classes, spec)


def _check_choice(example: Example, spec: TaskSpec) -> None:
    """Refuse candidates that are none, or not the same in every input; see `check_classes`."""
    if not 1 <= len(example.inputs) <= spec.num_inputs:
        raise UserError(
            f"task {spec.name} has an example of {len(example.inputs)} inputs; its spec says 1 to "
            f"{spec.num_inputs}"
        )
    first, *others = (np.flatnonzero(tokens == spec.candidate) for tokens in example.inputs)
    if any(not np.array_equal(first, one) for one in others):
        raise UserError(
            f"task {spec.name} has an example whose inputs do not begin with the same candidates"
        )
    target = np.asarray(example.target)
    if target.shape != () or target.dtype.kind not in "uib":
        raise UserError(
            f"task {spec.name} has an answer of shape {target.shape}; target=choice needs the "
            f"number of a candidate"
        )
    if not len(first):
        raise UserError(
            f"task {spec.name} has an example without candidates: no token {spec.candidate} in it"
        )
    check_range("right candidate", int(target), int(target), len(first), spec)


def _check_spans(example: Example, spec: TaskSpec) -> None:
    """Refuse spans that do not lie within the text; see `check_classes`."""
    spans, tokens = np.asarray(example.target), example.inputs[0]
    if spans.ndim != 2 or spans.shape[1] != 2 or (len(spans) and spans.dtype.kind not in "ui"):
        raise UserError(
            f"task {spec.name} has an answer of shape {spans.shape}; target=spans needs (A, 2), "
            f"first and last position of each span"
        )
    if not len(spans):
        return
    check_range("position of an answer", spans.min(), spans.max(), len(tokens), spec)
    least = question_length(tokens, spec.context)
    if spans.min() < least:
        raise UserError(
            f"task {spec.name} has an answer that begins at {spans.min()}, within the {least} "
            f"tokens that ask"
        )
    for first, last in spans[spans[:, 0] > spans[:, 1]]:
        raise UserError(
            f"task {spec.name} has a span from {first} to {last}; it must not end before it begins"
        )


def _check_positions(example: Example, spec: TaskSpec) -> None:
    """Refuse a span or classes of positions that do not fit the input; see `check_classes`."""
    target, length = np.asarray(example.target), len(example.inputs[0])
    if target.shape != ((2,) if spec.target == "span" else (length,)):
        wanted = "two positions" if spec.target == "span" else f"{length:,}, one a token"
        raise UserError(
            f"task {spec.name} has an answer of shape {target.shape}; target={spec.target} needs "
            f"{wanted}"
        )
    if spec.target == "span":
        if (target == IGNORED).all():
            # An answer beyond where the input was cut.
            return
        check_range("position of an answer", target.min(), target.max(), length, spec)
        if target[0] > target[1]:
            raise UserError(
                f"task {spec.name} has a span from {target[0]} to {target[1]}; it must not end "
                f"before it begins"
            )
        return
    classes = target[target != IGNORED]
    if len(classes):
        check_range("class", classes.min(), classes.max(), spec.num_classes, spec)


_CHECKS: Mapping[Target, Callable[[Example, TaskSpec], None]] = {
    "span": _check_positions,
    "tokens": _check_positions,
    "choice": _check_choice,
    "spans": _check_spans,
}


def check_example(example: Example, spec: TaskSpec) -> None:
    """Refuse an example whose answer does not fit its input.

    Classes of examples are checked a batch at once, with `check_classes`.

    Raises:
        UserError: It does not.
    """
    if spec.target != "class":
        _CHECKS[spec.target](example, spec)


def check_range(what: str, low: float, high: float, limit: int, spec: TaskSpec) -> None:
    """Refuse numbers that are not from 0 to below a limit.

    Raises:
        UserError: They are not.
    """
    if low < 0 or high >= limit:
        raise UserError(
            f"task {spec.name} has a {what} of {low if low < 0 else high}; 0 to {limit - 1} are "
            f"allowed"
        )
