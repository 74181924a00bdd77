"""CSV and JSON for programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from made_up_records import make, published, tables_of

from lra_bench.leaderboard import export


def test_csv_has_full_precision_and_no_words_for_people(tmp_path: Path) -> None:
    _, text, _ = published(tmp_path, make(0, 667), make(1, 668))
    (row,) = csv.DictReader(text.splitlines())
    assert (row["metric"], float(row["test_mean"])) == ("accuracy", (667 + 668) / 4000)
    assert not {"title", "method", "counts_as"} & set(row)


def test_csv_begins_no_formula() -> None:
    text = export.csv(tables_of(make(model="=1+1", device="@SUM(A1)")))
    (row,) = csv.DictReader(text.splitlines())
    assert (row["model"], row["devices"]) == ("'=1+1", "'@SUM(A1)")


def test_json_has_the_runs_behind_a_cell(tmp_path: Path) -> None:
    published(tmp_path, make(0, 700, command="lra-bench run x"), make(1, status="failed"))
    content: dict[str, Any] = json.loads((tmp_path / "out/leaderboard.json").read_text())
    (cell,) = content["cells"]
    assert (cell["test_mean"], cell["test_std"], cell["num_failed"]) == (0.35, None, 1)
    assert isinstance(cell["num_parameters"], int)
    assert [run["status"] for run in cell["runs"]] == ["completed", "failed"]
    assert cell["runs"][0]["command"] == "lra-bench run x"
    assert cell["runs"][1]["test"] is None
    assert content["averages"] == content["published"] == []
