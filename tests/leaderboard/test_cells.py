"""From records to cells and averages: nothing mixed, nothing dropped."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from made_up_records import (
    CONFIG,
    counted,
    make,
    overview_of,
    published,
    tables_of,
    told,
    two_classes,
)

from lra_bench.leaderboard.board import read_board
from lra_bench.leaderboard.cells import ranked

FIVE = ("listops", "text", "retrieval", "image", "pathfinder")


def test_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    text, text_csv, code = published(tmp_path, make(0, 700), make(1, 720), make(2, 740))
    assert code == 0
    # 35, 36 and 37 per cent.
    assert "36.00 ± 1.00" in text
    (cells,) = csv.DictReader(text_csv.splitlines())
    assert float(cells["test_mean"]) == pytest.approx(0.36)
    assert float(cells["test_std"]) == pytest.approx(0.01)
    assert (cells["num_completed"], cells["seeds"]) == ("3", "0 1 2")


def test_settings_are_never_mixed(tmp_path: Path) -> None:
    changed = make(1, 1500, changes={"train.num_steps": 9})
    text, text_csv, _ = published(tmp_path, make(0, 700), changed)
    assert "## Setting cpu\n" in text
    assert "## Setting cpu(train.num_steps=9)\n" in text
    assert len(text_csv.splitlines()) == 3


def test_failures_are_counted(tmp_path: Path) -> None:
    text, text_csv, _ = published(
        tmp_path,
        make(0, 700),
        make(1, status="failed"),
        make(2, status="diverged", error="the loss was no number"),
        make(3, 345),
    )
    (cells,) = csv.DictReader(text_csv.splitlines())
    counts = [cells[f"num_{name}"] for name in ("runs", "completed", "failed", "diverged")]
    assert counts == ["4", "2", "1", "1"]
    # 345 of 2,000 is 17.25 %, within two standard errors of 17 %.
    assert cells["num_at_baseline"] == "1"
    assert "| 2 | 1 | 1 | 1 |" in " ".join(text.split()).replace("  ", " ")


def test_a_mixed_cell_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(1, config={**CONFIG, "train": {"learning_rate": 0.1, "num_steps": 200}})
    text, _, code = published(tmp_path, make(0), other, make(2, model="local"))
    assert code == 1
    assert "train.learning_rate" in capsys.readouterr().err
    assert "transformer" not in text
    assert "local" in text


def test_other_data_are_another_cell(tmp_path: Path) -> None:
    text, _, code = published(tmp_path, make(0), make(1, data=told("official files")))
    assert code == 0
    assert "Data: official files." in text
    assert "Data: generated, seed 0." in text


def test_smoke_is_left_out(tmp_path: Path) -> None:
    text, _, _ = published(tmp_path, make(0, setting="smoke"))
    assert "No runs yet" in text


def test_an_average_needs_all_of_its_tasks(tmp_path: Path) -> None:
    made = [make(0, 1000 + 100 * number, task=task) for number, task in enumerate(FIVE)]
    made += [make(0, 1000, task=task, model="local") for task in FIVE[:-1]]
    text, _, _ = published(tmp_path, *made)
    overview = "\n".join(overview_of(text))
    assert "avg5" in overview
    assert "avg6" not in overview
    assert "60.00" in next(line for line in overview.splitlines() if "transformer" in line)
    assert next(line for line in overview.splitlines() if "local" in line).count("50.00") == 4


@pytest.mark.parametrize(
    ("task", "data", "marked"),
    [
        ("image", told("CIFAR-10", details="x"), ""),
        (
            "image",
            told("CIFAR-10 (JPEG copy)", note="its pixels are not the official ones"),
            "image [CIFAR-10 (JPEG copy)]",
        ),
        (
            "text",
            told("IMDB reviews, not the official set", warning="it has 9 reviews"),
            "text [IMDB reviews, not the official set, SHA-256 0123abcd]",
        ),
    ],
)
def test_data_that_are_not_the_promised_are_marked_and_never_averaged(
    tmp_path: Path, task: str, data: dict[str, Any], marked: str
) -> None:
    made = [make(0, 1000, task=name) for name in FIVE if name != task]
    made.append(make(0, 2000, task=task, data=data, data_sha256="0123abcd" * 8))
    text, text_csv, code = published(tmp_path, *made)
    overview = overview_of(text)
    header = next(line for line in overview if line.startswith("| model"))
    line = next(line for line in overview if line.startswith("| transformer"))
    rows = list(csv.DictReader(text_csv.splitlines()))
    (row,) = [row for row in rows if row["task"] == task]
    reason = data["warning"] or data["note"]
    assert code == 0
    assert row["warning"] == reason
    assert {row["warning"] for row in rows if row["task"] != task} == {""}
    assert ("avg5" in header) == (not marked)
    if not marked:
        assert "60.00 |" in line
        assert f"of {task}: {data['source']}" in text
        return
    assert f"| {marked} |".replace("|", "") in header.replace("|", "")
    assert f"No avg5: it may not hold {marked}." in overview[-2]
    assert f"\n### {marked}\n" in text
    assert f"Data: {row['data']}. **{reason}.**" in text
    assert data["source"] in row["data"]


def test_unofficial_data_are_never_ranked_with_official_ones(tmp_path: Path) -> None:
    warned = told("official files, not the official set", warning="3 examples")
    text, _, code = published(
        tmp_path,
        make(0, 700),
        make(0, 1900, model="local", data=warned, data_sha256="a" * 64),
        make(0, 1800, model="third", data=warned, data_sha256="b" * 64),
    )
    assert code == 0
    sections = text.split("### ")[1:]
    names = ("transformer", "local", "third")
    ranked = [[name for name in names if f"| {name} " in section] for section in sections]
    assert sorted(ranked) == [["local"], ["third"], ["transformer"]]
    # In the overview, too, each has a column of its own.
    header = next(line for line in overview_of(text) if line.startswith("| model"))
    assert header.count("not the official set, SHA-256") == 2


def test_review_pairs_are_not_retrieval(tmp_path: Path) -> None:
    made = [make(0, 1000, task=task) for task in (*FIVE, "pathx") if task != "retrieval"]
    text, _, _ = published(tmp_path, *made, make(0, 2000, task="review_pairs"))
    assert "avg" not in text
    assert "review_pairs" in next(line for line in overview_of(text) if "| model" in line)


def test_a_task_on_two_data_enters_no_average(tmp_path: Path) -> None:
    made = [make(0, 1000, task=task) for task in FIVE]
    other = make(1, 2000, model="local", data=told("official files"))
    text, _, _ = published(tmp_path, *made, other)
    overview = overview_of(text)
    assert "listops [generated, seed 0]" in text
    assert "listops [official files]" in text
    barred = "listops [generated, seed 0], listops [official files]"
    assert overview[-2].endswith(f"No avg5: it may not hold {barred}.")


def test_another_place_of_a_class_is_named_and_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = {**CONFIG["model"], "_target_": "elsewhere.X"}
    other = make(1, 720, config={**CONFIG, "model": moved})
    text, text_csv, code = published(tmp_path, make(0, 700), other)
    assert code == 0
    assert not capsys.readouterr().err
    (row,) = csv.DictReader(text_csv.splitlines())
    assert (row["num_runs"], row["remark"]) == ("2", "its 2 runs differ in model._target_")
    assert "† transformer: its 2 runs differ in model.\\_target\\_." in text.split("### listops")[1]


def test_what_differs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    f1: dict[str, Any] = {
        "test": two_classes(1, 1, 1, 1),
        "validation": None,
        "ranking_metric": "f1_of_1",
    }
    less = {**CONFIG, "train": {"learning_rate": 0.001}}
    _, _, code = published(
        tmp_path,
        *(make(0), make(1, data_sha256="f" * 64)),
        *(make(0, model="a"), make(1, model="a", **f1)),
        *(make(0, model="b"), make(0, model="b", data_sha256="f" * 64)),
        *(make(0, model="c"), make(1, model="c", config=less)),
    )
    assert code == 1
    lines = capsys.readouterr().err.splitlines()
    cell = "refused cpu / listops / {} / cross_entropy / generated, seed 0: its 2 runs differ in {}"
    expected = [
        ("a", "ranking_metric"),
        ("b", "run_id, for the same seed, data_sha256"),
        ("c", "train.num_steps"),
        ("transformer", "data_sha256"),
    ]
    for line, (model, keys) in zip(lines, expected, strict=True):
        assert line == f"{cell.format(model, keys)}; remove or repeat those that are out of date"


def test_changes_are_cells_of_their_own(tmp_path: Path) -> None:
    changed = make(1, changes={"model.mixer.block_size": 64, "objective.alpha": 0.5})
    text, text_csv, code = published(tmp_path, make(0), changed)
    assert code == 0
    assert len(text_csv.splitlines()) == 3
    assert "| transformer(block_size=64) + cross_entropy(alpha=0.5) " in text


def test_other_metrics_have_tables_of_their_own() -> None:
    f1: dict[str, Any] = {
        "test": two_classes(40, 10, 10, 40),
        "validation": None,
        "ranking_metric": "f1_of_1",
    }
    tables = tables_of(make(), make(0, model="local", **f1))
    assert sorted(tables.cells["title"]) == ["listops by F1 of class 1", "listops by accuracy"]
    tables = tables_of(make(), make(0, task="pairs", **f1))
    assert sorted(tables.cells["title"]) == ["listops", "pairs"]
    assert dict(zip(tables.cells["task"], tables.cells["test_mean"], strict=True)) == {
        "listops": 0.35,
        "pairs": 0.8,
    }


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "good"), ("loss", "sure")])
def test_the_best_comes_first_whichever_way_is_better(metric: str, best: str) -> None:
    good = make(model="good", test=counted(900, loss=900.0), ranking_metric=metric)
    sure = make(model="sure", test=counted(800, loss=700.0), ranking_metric=metric)
    failed = make(model="none", status="failed", ranking_metric=metric)
    order = ranked(tables_of(failed, good, sure).cells)["model"].tolist()
    assert order[0] == best
    assert order[2] == "none"


def test_an_average_is_of_one_metric() -> None:
    made = [make(0, 1000, task=task) for task in FIVE[:-1]]
    made.append(make(0, 1000, task=FIVE[-1], ranking_metric="loss"))
    tables = tables_of(*made, board=read_board())
    assert tables.averages.empty
    assert tables.barred.to_dict("records") == [
        {"setting": "cpu", "average": "avg5", "titles": ["pathfinder"]}
    ]


def test_official_files_count_before_generated_ones() -> None:
    made = [make(0, 1000, task=task) for task in FIVE]
    official: dict[str, Any] = {
        "data": told("official files"),
        "changes": {"task.source": "official"},
    }
    made.append(make(0, 2000, task="listops", **official))
    made.append(make(0, 0, task="listops", changes={"task.max_args": 3}))
    (average,) = tables_of(*made, board=read_board()).averages.to_dict("records")
    assert (average["method"], average["average"]) == ("transformer", "avg5")
    assert average["value"] == pytest.approx(0.6)
