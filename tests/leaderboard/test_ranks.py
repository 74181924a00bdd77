"""Mean ranks, and how sure they are."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_records import counted, make, tables_of

from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.ranks import ranks_of
from lra_bench.record import RunRecord

LARGE = 20_000


def runs(model: str, *percent: float, **fields: Any) -> list[RunRecord]:
    return [
        make(seed, model=model, test=counted(round(of * LARGE / 100), LARGE), **fields)
        for seed, of in enumerate(percent)
    ]


def ranked(*made: RunRecord, board: Board | None = None) -> dict[str, tuple[float, float, float]]:
    ranks, _ = ranks_of(tables_of(*made, board=board).cells)
    return {rank.method: (rank.mean, rank.low, rank.high) for rank in ranks}


def test_clear_differences_have_clear_ranks() -> None:
    made = [*runs("a", 60), *runs("b", 50), *runs("c", 40)]
    assert ranked(*made) == {"a": (1, 1, 1), "b": (2, 2, 2), "c": (3, 3, 3)}
    assert list(ranked(*made)) == ["a", "b", "c"]


def test_a_difference_within_the_sampling_error_leaves_the_order_open() -> None:
    found = ranked(*runs("a", 50.1), *runs("b", 50), *runs("c", 20))
    assert found["a"] == (1, 1, 2)
    assert found["b"] == (2, 1, 2)
    assert found["c"] == (3, 3, 3)


def test_seeds_that_vary_leave_it_open_too() -> None:
    made = [*runs("a", 70, 50, 60), *runs("b", 45, 65, 58)]
    assert ranked(*made) == {"a": (1, 1, 2), "b": (2, 1, 2)}
    assert ranked(*made) == ranked(*made[::-1])


def test_ranks_are_over_the_tasks_that_all_have() -> None:
    made = [*runs("a", 60, task="x"), *runs("b", 50, task="x"), *runs("c", 55, task="x")]
    made += [*runs("a", 20, task="y"), *runs("b", 60, task="y")]
    ranks, titles = ranks_of(tables_of(*made).cells)
    assert titles == ["x", "y"]
    assert {rank.method: rank.mean for rank in ranks} == {"a": 1.5, "b": 1.5}
    # Where no two methods have all, the task with the most.
    ranks, titles = ranks_of(tables_of(*made[:3], *runs("d", 9, task="z")).cells)
    assert (titles, len(ranks)) == (["x"], 3)


def test_a_loss_ranks_the_other_way_round() -> None:
    made = [
        make(model=model, test=counted(7, loss=loss), ranking_metric="loss")
        for model, loss in (("good", 10.0), ("bad", 20.0))
    ]
    assert ranked(*made) == {"good": (1, 1, 1), "bad": (2, 2, 2)}


@pytest.mark.parametrize("made", [[], runs("a", 50), [*runs("a", 50), make(status="failed")]])
def test_nobody_has_a_rank_alone(made: list[RunRecord]) -> None:
    cells = tables_of(*(made or [make(status="failed")])).cells
    assert ranks_of(cells) == ([], [])


def test_diagnostic_tasks_do_not_count() -> None:
    made = [*runs("a", 60, task="x"), *runs("b", 50, task="x")]
    made += [*runs("a", 10, task="needle"), *runs("b", 90, task="needle")]
    assert ranked(*made, board=Board(diagnostics=("needle",)))["a"][0] == 1
