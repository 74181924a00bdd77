"""What is measured again, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_speed import make

from lra_bench import provenance
from lra_bench.errors import UserError
from lra_bench.speed import record as records
from lra_bench.speed.cell import Cell, cells_of
from lra_bench.speed.measure import Plan, describe_machine, run
from lra_bench.speed.record import SpeedRecord
from lra_bench.speed.session import Effort
from lra_bench.sweep import expand

EFFORT = Effort(
    num_rounds=1, round_seconds=0, warmup_steps=1, limit_seconds=60, memory_limit_bytes=None
)


@pytest.fixture(scope="module")
def cell() -> Cell:
    requests = expand(["task=text", "setting=smoke", "model=local", "num_threads=1"])
    device = describe_machine(requests[0].config)
    return cells_of(requests, [16], 2, device=device)[0]


def made_of(cell: Cell, **fields: Any) -> SpeedRecord:
    """Return a record of a cell, of the code and libraries that are here."""
    made: dict[str, Any] = {
        "setting": "smoke",
        "config": cell.config,
        "batch_size": cell.batch_size,
        "device": cell.device,
        "code_sha256": cell.code_sha256,
        "versions": provenance.versions(),
    }
    return make("local", cell.length, **(made | fields))


def written(cell: Cell, results_dir: Path, **fields: Any) -> Path:
    path = records.write(made_of(cell, **fields), results_dir)
    assert path == cell.path(results_dir)
    return path


def test_what_is_there_is_not_measured_again(cell: Cell, tmp_path: Path) -> None:
    plan = Plan([cell], EFFORT, tmp_path)
    assert not plan.is_done(cell)
    path = written(cell, tmp_path)
    assert plan.is_done(cell)
    assert run(plan, quiet=True) == []
    assert not replace(plan, force=True).is_done(cell)
    path.write_text("{}")
    with pytest.raises(UserError, match="delete it to measure again"):
        run(plan, quiet=True)


@pytest.mark.parametrize(
    ("fields", "is_done"),
    [
        ({"code_sha256": "b" * 64}, False),
        ({"versions": {"torch": "1.0"}}, False),
        ({"status": "failed"}, False),
        ({"status": "out_of_memory"}, True),
        ({"status": "out_of_time", "limit_seconds": 59.0}, False),
        ({"status": "out_of_time", "limit_seconds": 60.0}, True),
        ({"other_cores": 99.0}, True),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_answers_for_a_cell(
    fields: dict[str, Any], is_done: bool, cell: Cell, tmp_path: Path
) -> None:
    written(cell, tmp_path, **fields)
    assert Plan([cell], EFFORT, tmp_path).is_done(cell) == is_done


def test_what_was_measured_on_a_busy_machine_can_be_measured_again(
    cell: Cell, tmp_path: Path
) -> None:
    plan = Plan([cell], EFFORT, tmp_path, busy=True)
    written(cell, tmp_path, other_cores=0.0)
    assert plan.is_done(cell)
    written(cell, tmp_path, other_cores=99.0)
    assert not plan.is_done(cell)


def test_a_machine_is_described_as_in_a_run(cell: Cell) -> None:
    assert "1 thread" in cell.device
    with pytest.raises(UserError, match="PyTorch sees"):
        describe_machine(cell.request.config.model_copy(update={"device": "cuda:99"}))
