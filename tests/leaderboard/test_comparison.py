"""Which one is the best of its table, and what an average needs to have a spread."""

from __future__ import annotations

from typing import Any

import pytest
from made_up_records import counted, make, tables_of

from lra_bench.leaderboard.board import Average, Board
from lra_bench.record import RunRecord

# 20,000 examples: the standard error of a difference is half a point.
LARGE = 20_000
BOARD = Board(averages=(Average("both", "accuracy", ("listops", "text")),))


def runs(model: str, *percent: float, **fields: Any) -> list[RunRecord]:
    return [
        make(seed, model=model, test=counted(round(of * LARGE / 100), LARGE), **fields)
        for seed, of in enumerate(percent)
    ]


def best_of(*made: RunRecord) -> tuple[list[str], dict[str, str]]:
    cells = tables_of(*made).cells
    beaten: dict[str, str] = {}
    for found in cells["not_beaten"]:
        beaten |= found
    return cells[cells["is_best"]]["model"].tolist(), beaten


def test_the_best_is_better_than_every_other() -> None:
    low = runs("low", 30, 30.2, 30.1)
    middle = runs("middle", 35, 35.1, 35.3)
    high = runs("high", 40, 40.2, 40.1)
    assert best_of(*low, *middle, *high) == (["high"], {})
    near = runs("near", 39.9, 40.0, 39.9)
    assert best_of(*low, *middle, *high, *near) == ([], {"near": "sampling"})


def test_one_seed_wins_nothing() -> None:
    assert best_of(*runs("low", 20), *runs("high", 60)) == ([], {"low": "one seed"})
    several = runs("high", 60, 60.5, 60.3)
    assert best_of(*runs("low", 20), *several) == ([], {"low": "one seed"})


def test_who_diverges_wins_nothing() -> None:
    high = [*runs("high", 60, 60.5, 60.3), make(3, model="high", status="diverged")]
    assert best_of(*runs("low", 20, 20.1, 20.2), *high) == ([], {"low": "diverged"})
    # That the machine failed says nothing about the method.
    high = [*runs("high", 60, 60.5, 60.3), make(3, model="high", status="failed")]
    assert best_of(*runs("low", 20, 20.1, 20.2), *high) == (["high"], {})


def test_nobody_wins_alone() -> None:
    assert best_of(*runs("only", 60, 60.5, 60.3)) == ([], {})
    failed = make(model="failed", status="failed")
    assert best_of(failed, *runs("only", 60, 60.5, 60.3)) == ([], {})
    assert best_of(failed) == ([], {})


def test_seeds_that_vary_more_than_the_lead_decide_nothing() -> None:
    made = [*runs("low", 30, 45, 33), *runs("high", 44, 31, 47)]
    assert best_of(*made) == ([], {"low": "seeds"})


def test_a_loss_is_never_called_better() -> None:
    made = [
        make(seed, model=model, test=counted(7, LARGE, loss=loss + seed), ranking_metric="loss")
        for model, loss in (("good", 100.0), ("bad", 9000.0))
        for seed in range(3)
    ]
    assert best_of(*made) == ([], {"bad": "unknown sampling error"})


def test_an_average_has_a_spread_over_the_seeds_that_all_tasks_share() -> None:
    made = [*runs("a", 40, 41, 42, task="listops"), *runs("a", 60, 61, 63, task="text")]
    made += [*runs("b", 30, 31, 32, task="listops"), *runs("b", 50, 51, task="text")]
    made += runs("c", 30, task="text")
    found = tables_of(*made, board=BOARD).averages.set_index("method").to_dict("index")
    assert found["a"]["value"] == pytest.approx((41 + 184 / 3) / 200)
    assert found["a"]["num_seeds"] == 3
    # Averages of the seeds: 50, 51 and 52.5.
    assert found["a"]["std"] == pytest.approx(0.0125831, abs=1e-6)
    assert found["a"]["low"] < found["a"]["value"] < found["a"]["high"]
    assert found["b"]["value"] == pytest.approx((31 + 50.5) / 200)
    assert found["b"]["std"] is None or found["b"]["std"] != found["b"]["std"]
    assert found["c"]["value"] is None or found["c"]["value"] != found["c"]["value"]
    # What cannot be compared lets nobody win.
    assert not any(of["is_best"] for of in found.values())


def test_the_best_average_is_better_than_every_other() -> None:
    made = [*runs("a", 40, 41, 42, task="listops"), *runs("a", 60, 61, 63, task="text")]
    made += [*runs("b", 30, 31, 32, task="listops"), *runs("b", 50, 51, 53, task="text")]
    made += runs("c", 90, task="text")
    averages = tables_of(*made, board=BOARD).averages
    assert averages[averages["is_best"]]["method"].tolist() == ["a"]
    made.append(make(9, model="a", task="text", status="diverged"))
    assert not tables_of(*made, board=BOARD).averages["is_best"].any()
