"""Every run once; what is no record is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_records import make, published, told, two_classes

from lra_bench import record as records
from lra_bench.leaderboard.board import Board, read_board
from lra_bench.leaderboard.collect import collect, runs_of

OLD = Path(__file__).parents[1] / "fixtures/record_v1.json"


def test_broken_files_are_named_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = records.write(make(), tmp_path).parent
    (folder / "half.json").write_text('{"schema_version": 1,')
    (folder / "notes.txt").write_text("hello")
    text, _, code = published(tmp_path)
    said = capsys.readouterr().err
    assert code == 0
    assert "half.json" in said
    assert "notes.txt" in said
    assert "transformer" in text


def test_the_same_run_counts_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    failed = make(0, status="failed")
    records.write(failed, one)
    records.write(make(0), two)
    for folders in ([one, two], [two, one]):
        assert [run.status for run in collect(folders, Board()).runs] == ["completed"]


def test_the_same_run_in_an_older_layout_counts_once(tmp_path: Path) -> None:
    record = records.read(OLD)
    path = records.write(record, tmp_path)
    path.with_name("e364c3b54b117e72.json").write_bytes(OLD.read_bytes())
    collection = collect([tmp_path], Board())
    assert [run.run_id for run in collection.runs] == [record.run_id]
    (why,) = collection.skipped.values()
    assert why == f"repeats run {record.run_id} of {collection.runs[0].path}, which counts"


def test_what_cannot_be_ranked_is_named(tmp_path: Path) -> None:
    path = records.write(make(), tmp_path)
    content = json.loads(path.read_text())
    content["metrics"]["mcc"] = {"test": 0.5, "validation": 0.5}
    content |= {"schema_version": "2.7", "ranking_metric": "mcc"}
    path.write_text(json.dumps(content))
    collection = collect([tmp_path], Board())
    assert collection.runs == []
    assert (
        "cannot be ranked by this program: there is no metric 'mcc'" in (collection.skipped[path])
    )


def test_a_row_has_the_ranking_metric_and_the_labels() -> None:
    f1 = make(
        changes={"model.mixer.block_size": 64},
        test=two_classes(40, 10, 10, 40),
        validation=two_classes(41, 9, 9, 41),
        ranking_metric="f1_of_1",
    )
    run, failed = runs_of([f1, make(1, status="failed")], Board())
    assert (run.metric, run.test, run.validation) == ("f1_of_1", 0.8, 0.82)
    assert (run.cell[2], run.cell[-1]) == ("transformer(block_size=64)", "generated, seed 0")
    assert failed.test is None
    assert not failed.at_baseline


def test_a_name_is_one_line_and_acts_on_no_terminal() -> None:
    record = make(task="a|b", device="two\nlines\x1b[2J", data=told("x \u202e y\nz", note="n\n|"))
    (run,) = runs_of([record], Board())
    assert (run.cell[1], run.device) == ("a|b", "two lines\\x1b[2J")
    assert (run.cell[-1], run.warning) == ("x \\u202e y z", "n |")


@pytest.mark.parametrize(
    ("task", "changes", "counts_as"),
    [
        ("listops", {}, "listops"),
        ("listops", {"train.num_steps": 9, "model.x": 1}, "listops"),
        ("listops", {"task.source": "official"}, "listops"),
        ("listops", {"task.source": "official", "task.max_length": 100}, None),
        ("listops", {"task.max_length": 100}, None),
        ("other", {}, "other"),
    ],
)
def test_what_an_average_takes_a_task_for(
    task: str, changes: dict[str, Any], counts_as: str | None
) -> None:
    (run,) = runs_of([make(task=task, changes=changes)], read_board())
    assert run.counts_as == counts_as
