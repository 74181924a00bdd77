from __future__ import annotations

import pytest

from lra_bench.errors import UserError
from lra_tasks._options import check_choice, check_counts, check_length, check_seed


def test_what_is_in_range() -> None:
    check_counts({"train": 1, "validation": 2, "test": 1 << 40})
    check_counts({"train": 4}, least=4, even=True)
    check_seed(0)
    check_seed((1 << 32) - 1, end=1 << 32)
    check_length(1)
    check_length(10, most=10)
    check_choice("kind", 2, (1, 2))


@pytest.mark.parametrize(
    ("number", "least", "even", "rule"),
    [
        (0, 1, False, "at least 1"),
        (-5, 1, False, "at least 1"),
        (3, 2, True, "even and at least 2"),
        (2, 4, True, "even and at least 4"),
    ],
)
def test_counts(number: int, least: int, even: bool, rule: str) -> None:
    with pytest.raises(UserError, match=f"task.num_test={number} must be {rule}"):
        check_counts({"train": 8, "test": number}, least=least, even=even)


def test_seeds() -> None:
    with pytest.raises(UserError, match=r"task\.seed=-1 must not be negative"):
        check_seed(-1)
    with pytest.raises(UserError, match=r"task\.other=16 must lie between 0 and 2\*\*4 - 1"):
        check_seed(16, name="other", end=16)


def test_lengths() -> None:
    with pytest.raises(UserError, match=r"task\.max_length=0 must be at least 1"):
        check_length(0)
    with pytest.raises(UserError, match=r"task\.max_length=5001 must be from 1 to 5,000, say"):
        check_length(5_001, most=5_000, why=", say")


def test_choices() -> None:
    with pytest.raises(UserError, match=r"task\.kind=c is not one of a, b"):
        check_choice("kind", "c", ("a", "b"))
