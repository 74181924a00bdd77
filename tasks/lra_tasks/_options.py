"""Numbers and choices that many tasks take, checked in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import Split

Counts = Mapping[Split, int]


def check_counts(counts: Counts, *, least: int = 1, even: bool = False) -> None:
    """Refuse a split of too few examples.

    Args:
        counts: Examples of each split; the option of one is called ``num_`` and its name.
        least: The fewest.
        even: Whether they must be even.

    Raises:
        UserError: One is.
    """
    for split, number in counts.items():
        if number < least or (even and number % 2):
            rule = f"even and at least {least}" if even else f"at least {least}"
            raise UserError(f"task.num_{split}={number} must be {rule}")


def check_seed(seed: int, *, name: str = "seed", end: int | None = None) -> None:
    """Refuse a seed that is none.

    Args:
        seed: Its value.
        name: Of the option.
        end: Seeds are below this, a power of two; None for any.

    Raises:
        UserError: It is out of range.
    """
    if seed < 0 or (end is not None and seed >= end):
        rule = f"lie between 0 and 2**{end.bit_length() - 1} - 1" if end else "not be negative"
        raise UserError(f"task.{name}={seed} must {rule}")


def check_length(max_length: int, *, most: int | None = None, why: str = "") -> None:
    """Refuse a length to which nothing can be cut.

    Args:
        max_length: Its value [tokens].
        most: The longest; None for any.
        why: What makes it the longest, for the message.

    Raises:
        UserError: It is out of range.
    """
    if max_length < 1 or (most is not None and max_length > most):
        rule = "at least 1" if most is None else f"from 1 to {most:,}{why}"
        raise UserError(f"task.max_length={max_length} must be {rule}")


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is none of those allowed.

    Args:
        name: Of the option.
        value: Its value.
        allowed: All that are possible.

    Raises:
        UserError: It is another one.
    """
    if value not in allowed:
        raise UserError(f"task.{name}={value} is not one of {', '.join(map(str, allowed))}")


def check_at_least(least: int, **numbers: int) -> None:
    """Refuse numbers that are too small.

    Args:
        least: The smallest.
        numbers: By the name of the option.

    Raises:
        UserError: One is smaller.
    """
    for name, number in numbers.items():
        if number < least:
            raise UserError(f"task.{name}={number} must be at least {least}")
