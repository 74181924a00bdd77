"""What is measured, composed and identified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_up_speed import make

from lra_bench.errors import UserError
from lra_bench.identity import NAMES
from lra_bench.speed import record as records
from lra_bench.speed.cell import Cell, cells_of
from lra_bench.sweep import expand


def cells(*words: str, lengths: Sequence[int] = (64, 32), device: str = "here") -> list[Cell]:
    requests = expand(["task=text", "setting=smoke", *words])
    return cells_of(requests, lengths, 2, device=device)


def test_one_length_after_the_other_so_that_a_baseline_serves_all_models() -> None:
    found = cells("model=local,ernie_sparse")
    assert [(cell.length, cell.label) for cell in found] == [
        (32, "local"),
        (32, "ernie_sparse"),
        (64, "local"),
        (64, "ernie_sparse"),
    ]
    assert len({cell.companions for cell in found}) == 2
    assert len({cell.cell_id for cell in found}) == 4


def test_the_baseline_has_the_sizes_but_not_the_options_of_a_model() -> None:
    (cell,) = cells(
        "model=ernie_sparse", "model.block_size=8", "objective=sar", "trunk.width=24", lengths=[32]
    )
    assert cell.label == "ernie_sparse(block_size=8) + sar"
    assert cell.baseline.config.trunk == cell.request.config.trunk
    assert cell.baseline.config.trunk.width == 24
    assert cell.baseline.names["model"] == "transformer"
    assert cell.baseline.names["objective"] == "cross_entropy"


def test_identity_is_of_what_can_change_the_cost() -> None:
    (cell,) = cells("model=local", lengths=[32])
    same = cells("model=local", "results_dir=x", "seed=3", lengths=[32, 32])
    assert [one.cell_id for one in same] == [cell.cell_id]
    others = [
        cells("model=local", "model.mixer.block_size=7", lengths=[32]),
        cells("model=local", "trunk.width=32", lengths=[32]),
        cells("model=local", lengths=[33]),
        cells("model=local", lengths=[32], device="there"),
    ]
    assert len({cell.cell_id, *(one.cell_id for (one,) in others)}) == 5


def test_an_option_that_came_later_makes_no_other_cell() -> None:
    (cell,) = cells("model=local", lengths=[32])
    older = {**cell.config, "trunk": dict(cell.config["trunk"])}
    assert older["trunk"].pop("norm") == "layer"
    names = {name: cell.request.names[name] for name in NAMES}
    same = records.cell_id(names, {}, older, length=32, batch_size=2, device="here")
    assert same == cell.cell_id


def test_the_command_of_a_cell_measures_it() -> None:
    (cell,) = cells("model=local", "trunk.width=24", "num_threads=1", lengths=[32])
    own = {"lra-bench", "speed", "length=32", "batch_size=2"}
    words = cell.command().split()
    assert own < set(words)
    (again,) = cells(*(word for word in words if word not in own), lengths=[32])
    assert again.cell_id == cell.cell_id


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("train.num_steps=3", "train.num_steps changes nothing that is measured here"),
        ("train.batch_size=3", "write batch_size="),
        ("model.mixer.block_size=big", "is not a whole number"),
    ],
)
def test_what_changes_no_cost_is_refused(word: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        cells("model=local", word)


def test_when_a_record_answers_for_a_cell() -> None:
    (cell,) = cells("model=local", lengths=[32])
    done = make(code_sha256=cell.code_sha256)
    late = make(code_sha256=cell.code_sha256, status="out_of_time", limit_seconds=60.0)

    def answers(record: object, torch: str = "2.13.0", limit: float = 60.0) -> bool:
        return cell.is_answered_by(record, torch=torch, limit_seconds=limit)  # type: ignore[arg-type]

    assert answers(done)
    assert answers(done, limit=1e9)
    assert not answers(done, torch="2.14.0")
    assert not answers(replace(done, code_sha256="b" * 64))
    assert answers(late)
    # With more time it may come to an end.
    assert not answers(late, limit=61.0)
    assert answers(make(code_sha256=cell.code_sha256, status="out_of_memory"))
    assert not answers(make(code_sha256=cell.code_sha256, status="failed"))
