"""Tables as people read them."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_records import counted, make, overview_of, published, two_classes

from lra_bench import leaderboard
from lra_bench.errors import UserError


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    text, _, _ = published(tmp_path, make(0, 700))
    assert "35.00 |" in text
    assert "±" not in text.split("Accuracy: mean")[0]


def test_a_cell_without_a_result_is_shown(tmp_path: Path) -> None:
    failed = make(0, status="failed", model="local")
    text, _, _ = published(tmp_path, failed, make(1, 700))
    assert "local" in text
    assert "none" in text


def test_tables_are_the_same_bytes_again(tmp_path: Path) -> None:
    first = published(tmp_path, make(2, 740), make(0, 700), make(1, 720, model="local"))
    assert first == published(tmp_path, out="again")


def test_the_shipped_tables_are_those_of_the_shipped_records(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "results"
    leaderboard.publish([shipped], tmp_path)
    for name in ("leaderboard.md", "leaderboard.csv"):
        assert (tmp_path / name).read_text() == (shipped / name).read_text()


def test_torch_is_not_needed() -> None:
    script = "import sys, lra_bench.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_shares_are_in_percent_and_other_metrics_are_not(tmp_path: Path) -> None:
    of = two_classes(40, 10, 10, 40)
    text, _, _ = published(
        tmp_path,
        make(task="a", test=of, validation=of, ranking_metric="f1_of_1", majority_baseline=0.25),
        make(0, task="b", ranking_metric="loss", majority_baseline=None),
        make(1, task="b", ranking_metric="loss", test=counted(7, loss=21.0), majority_baseline=1.5),
    )
    by_task = {section.split("\n")[0]: section for section in text.split("### ")[1:]}
    assert "|   F1 of class 1 [%] |" in by_task["a"]
    assert "80.00 |" in by_task["a"]
    assert "Always answering the most frequent class: 25.00%." in by_task["a"]
    assert "|   loss |" in " ".join(by_task["b"].split("seeds")[0].split(" " * 10))
    assert "0.0079 ± 0.0037 |" in by_task["b"]
    assert "Always answering the most frequent class: 1.5000." in by_task["b"]
    metrics_of = "Metric of a: F1 of class 1 [%]; of b: loss."
    assert overview_of(text)[-2].endswith(metrics_of)
    legend = text.splitlines()[-1]
    assert "test F1 of class 1 [%], each run" in legend
    assert "test loss, lower is better, each run" in legend
    assert "within two standard errors (F1 of class 1, loss: no better at all)." in legend


def test_csv_has_full_precision_and_no_words_for_people(tmp_path: Path) -> None:
    _, text, _ = published(tmp_path, make(0, 667), make(1, 668))
    (row,) = csv.DictReader(text.splitlines())
    assert (row["metric"], float(row["test_mean"])) == ("accuracy", (667 + 668) / 4000)
    assert not {"title", "method", "counts_as"} & set(row)


def test_no_runs_make_tables_too(tmp_path: Path) -> None:
    text, text_csv, code = published(tmp_path)
    assert (text_csv.strip(), code) == ("", 0)
    assert "No runs yet." in text


def test_tables_that_cannot_be_written_are_the_users_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the tables to"):
        leaderboard.publish([tmp_path], tmp_path / "file")
    with pytest.raises(UserError, match="nowhere is not a folder"):
        leaderboard.publish([tmp_path / "nowhere"], tmp_path)
