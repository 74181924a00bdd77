"""What simple methods reach stands in records, after a run and below the tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from made_up_records import make

from lra_bench import record as records
from lra_bench.leaderboard import export
from lra_bench.leaderboard.board import read_board
from lra_bench.leaderboard.cells import tabulate
from lra_bench.leaderboard.collect import runs_of
from lra_bench.leaderboard.layout import notes_of_task
from lra_bench.record import RunRecord, data_of
from lra_bench.types import DataInfo

INFO = DataInfo(source="made up", baselines={"bag of words": 0.7817})


def with_baselines(record: RunRecord, baselines: Any) -> RunRecord:
    return dataclasses.replace(record, data={**record.data, "baselines": baselines})


def test_a_record_has_them_where_there_are_any(tmp_path: Path) -> None:
    assert data_of(INFO)["baselines"] == {"bag of words": 0.7817}
    assert "baselines" not in data_of(DataInfo())
    record = with_baselines(make(0), {"bag of words": 0.7817})
    path = records.write(record, tmp_path)
    assert records.read(path).data["baselines"] == {"bag of words": 0.7817}


@pytest.mark.parametrize("wrong", [{"bag of words": "much"}, [0.5], {"bag of words": None}])
def test_a_record_with_others_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="numbers in baselines"):
        with_baselines(make(0), wrong)


def test_they_stand_below_the_table() -> None:
    runs = [with_baselines(make(seed), {"bag of words": 0.7817}) for seed in range(2)]
    tables = tabulate(runs_of(runs, read_board()), read_board())
    texts = [note.text for note in notes_of_task(tables.cells)]
    assert "Bag of words: 78.17%." in texts
    content = json.loads(export.json_text(tables))
    assert content["cells"][0]["baselines"] == {"bag of words": 0.7817}
    assert "bag of words" not in export.csv(tables)


def test_nothing_is_said_where_there_are_none() -> None:
    tables = tabulate(runs_of([make(0)], read_board()), read_board())
    assert not [note for note in notes_of_task(tables.cells) if "words" in note.text]
    assert "baselines" not in json.loads(export.json_text(tables))["cells"][0]
    assert "baselines" not in export.csv(tables)
