"""From records to tables: nothing mixed, nothing dropped."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lra_bench import leaderboard
from lra_bench import record as records
from lra_bench.record import BadRecord, RunRecord

CONFIG = {"task": {"_target_": "x"}, "train": {"learning_rate": 0.001}}


def make(seed: int = 0, correct: int = 700, **changes: Any) -> RunRecord:
    made: dict[str, Any] = {
        "run_id": f"id{seed}{correct}",
        "setting": "cpu",
        "task": "listops",
        "model": "transformer",
        "objective": "cross_entropy",
        "seed": seed,
        "status": "completed",
        "test": {"num_examples": 2000, "num_correct": correct, "loss_sum": 10.5},
        "validation": {"num_examples": 2000, "num_correct": 720, "loss_sum": 10.0},
        "majority_baseline": 0.17,
        "num_parameters": 205_258,
        "encoder_passes_per_step": 1,
        "train_seconds": 61.5,
        "tokens_per_second": 1000.0,
        "peak_memory_bytes": 10**9,
        "data": {"source": "generated, seed 0"},
        "data_sha256": "d",
        "config": CONFIG,
    }
    made.update(changes)
    made["run_id"] = changes.get(
        "run_id", records.hash_of([made["seed"], made["model"], made["task"], made["setting"]])
    )
    return RunRecord(**made)


def table(tmp_path: Path, *made: RunRecord, out: str = "out") -> tuple[str, str, int]:
    for record in made:
        records.write(record, tmp_path)
    code = leaderboard.publish([tmp_path], tmp_path / out)
    folder = tmp_path / out
    text = (folder / "leaderboard.md").read_text()
    return text, (folder / "leaderboard.csv").read_text(), code


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    record = make(changes={"train.learning_rate": 0.003}, curve=[{"step": 1, "train_loss": 0.5}])
    path = records.write(record, tmp_path)
    assert records.read(path) == record
    assert path.relative_to(tmp_path).parts[:4] == ("runs", "cpu", "listops", "transformer")
    assert not [item for item in path.parent.iterdir() if item != path]


def test_a_record_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(make(train_seconds=math.nan), tmp_path)
    assert not list(tmp_path.rglob("*.json*"))


def test_a_full_disk_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = records.write(make(), tmp_path)
    before = path.read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        records.write(make(correct=900), tmp_path)
    assert path.read_text() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "half written"),
        ('{"schema_version": 1, "run_id"', "half written"),
        ("[]", "no schema_version"),
        ("{}", "no schema_version"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"schema_version": 1}', "missing or unknown fields"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(BadRecord, match=why):
        records.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "fine"},
        {"test": None},
        {"test": {"num_examples": 10, "num_correct": 11, "loss_sum": 1.0}},
        {"test": {"num_examples": 0, "num_correct": 0, "loss_sum": 1.0}},
        {"validation": {"accuracy": 0.5}},
        {"config": []},
        {"surprise": 1},
    ],
)
def test_wrong_records_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(asdict(make()) | change))
    with pytest.raises(BadRecord):
        records.read(path)


def test_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    text, text_csv, code = table(tmp_path, make(0, 700), make(1, 720), make(2, 740))
    assert code == 0
    # 35, 36 and 37 per cent.
    assert "36.00 ± 1.00" in text
    (cells,) = csv.DictReader(text_csv.splitlines())
    assert float(cells["test_accuracy_mean"]) == pytest.approx(0.36)
    assert float(cells["test_accuracy_std"]) == pytest.approx(0.01)
    assert (cells["num_completed"], cells["seeds"]) == ("3", "0 1 2")


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    text, _, _ = table(tmp_path, make(0, 700))
    assert "35.00 |" in text
    assert "±" not in text.split("Accuracy: mean")[0]


def test_settings_are_never_mixed(tmp_path: Path) -> None:
    changed = make(1, 1500, setting="cpu(train.num_steps=9)")
    text, text_csv, _ = table(tmp_path, make(0, 700), changed)
    assert "## Setting cpu\n" in text
    assert "## Setting cpu(train.num_steps=9)\n" in text
    assert len(text_csv.splitlines()) == 3


def test_failures_are_counted(tmp_path: Path) -> None:
    text, text_csv, _ = table(
        tmp_path,
        make(0, 700),
        make(1, status="failed", test=None, validation=None, error="x"),
        make(2, status="diverged", test=None, validation=None, error="y"),
        make(3, 345),
    )
    (cells,) = csv.DictReader(text_csv.splitlines())
    counts = [cells[f"num_{name}"] for name in ("runs", "completed", "failed", "diverged")]
    assert counts == ["4", "2", "1", "1"]
    # 345 of 2,000 is 17.25 %, within two standard errors of 17 %.
    assert cells["num_at_baseline"] == "1"
    assert "| 2 | 1 | 1 | 1 |" in " ".join(text.split()).replace("  ", " ")


def test_a_cell_without_a_result_is_shown(tmp_path: Path) -> None:
    failed = make(0, status="failed", test=None, validation=None, model="local", error="x")
    text, _, _ = table(tmp_path, failed, make(1, 700))
    assert "local" in text
    assert "none" in text


def test_a_mixed_cell_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(1, config={**CONFIG, "train": {"learning_rate": 0.1}})
    text, _, code = table(tmp_path, make(0), other, make(2, model="local"))
    assert code == 1
    assert "train.learning_rate" in capsys.readouterr().err
    assert "transformer" not in text
    assert "local" in text


def test_other_data_are_another_cell(tmp_path: Path) -> None:
    text, _, code = table(tmp_path, make(0), make(1, data={"source": "official files"}))
    assert code == 0
    assert "Data: official files." in text
    assert "Data: generated, seed 0." in text


def test_broken_files_are_named_and_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = records.write(make(), tmp_path).parent
    (folder / "half.json").write_text('{"schema_version": 1,')
    (folder / "notes.txt").write_text("hello")
    text, _, code = table(tmp_path)
    said = capsys.readouterr().err
    assert code == 0
    assert "half.json" in said
    assert "notes.txt" in said
    assert "transformer" in text


def test_smoke_is_left_out(tmp_path: Path) -> None:
    text, _, _ = table(tmp_path, make(0, setting="smoke"))
    assert "No runs yet" in text


def test_an_average_needs_all_of_its_tasks(tmp_path: Path) -> None:
    five = ("listops", "text", "retrieval", "image", "pathfinder")
    made = [make(0, 1000 + 100 * at, task=task) for at, task in enumerate(five)]
    made += [make(0, 1000, task=task, model="local") for task in five[:-1]]
    text, _, _ = table(tmp_path, *made)
    overview = text.split("###")[0]
    assert "avg5" in overview
    assert "avg6" not in overview
    assert "60.00" in next(line for line in overview.splitlines() if "transformer" in line)
    assert next(line for line in overview.splitlines() if "local" in line).count("50.00") == 4


FIVE = ("listops", "text", "retrieval", "image", "pathfinder")


def overview_of(text: str) -> list[str]:
    return text.split("###")[0].splitlines()


@pytest.mark.parametrize(
    ("task", "data", "marked"),
    [
        ("image", {"source": "CIFAR-10", "details": "x"}, ""),
        (
            "image",
            {"source": "CIFAR-10 (JPEG copy)", "note": "its pixels are not the official ones"},
            "image [CIFAR-10 (JPEG copy)]",
        ),
        (
            "text",
            {"source": "IMDB reviews, not the official set", "warning": "it has 9 reviews"},
            "text [IMDB reviews, not the official set, SHA-256 0123abcd]",
        ),
    ],
)
def test_data_that_are_not_the_promised_are_marked_and_never_averaged(
    tmp_path: Path, task: str, data: dict[str, str], marked: str
) -> None:
    made = [make(0, 1000, task=name) for name in FIVE if name != task]
    made.append(make(0, 2000, task=task, data=data, data_sha256="0123abcd" * 8))
    text, text_csv, code = table(tmp_path, *made)
    overview = overview_of(text)
    header = next(line for line in overview if line.startswith("| model"))
    line = next(line for line in overview if line.startswith("| transformer"))
    rows = list(csv.DictReader(text_csv.splitlines()))
    (row,) = [row for row in rows if row["task"] == task]
    reason = data.get("warning", data.get("note", ""))
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
    warned = {"source": "official files, not the official set", "warning": "3 examples"}
    text, _, code = table(
        tmp_path,
        make(0, 700),
        make(0, 1900, model="local", data=warned, data_sha256="a" * 64),
        make(0, 1800, model="third", data=warned, data_sha256="b" * 64),
    )
    assert code == 0
    sections = text.split("### ")[1:]
    names = ("transformer", "local", "third")
    found = [[name for name in names if f"| {name} " in section] for section in sections]
    assert sorted(found) == [["local"], ["third"], ["transformer"]]
    # In the overview, too, each has a column of its own.
    header = next(line for line in overview_of(text) if line.startswith("| model"))
    assert header.count("not the official set, SHA-256") == 2


def test_review_pairs_are_not_retrieval(tmp_path: Path) -> None:
    made = [make(0, 1000, task=task) for task in (*FIVE, "pathx") if task != "retrieval"]
    text, _, _ = table(tmp_path, *made, make(0, 2000, task="review_pairs"))
    assert "avg" not in text
    assert "review_pairs" in next(line for line in overview_of(text) if "| model" in line)


def test_a_task_on_two_data_enters_no_average(tmp_path: Path) -> None:
    made = [make(0, 1000, task=task) for task in FIVE]
    other = make(1, 2000, model="local", data={"source": "official files"})
    text, _, _ = table(tmp_path, *made, other)
    overview = overview_of(text)
    assert "listops [generated, seed 0]" in text
    assert "listops [official files]" in text
    barred = "listops [generated, seed 0], listops [official files]"
    assert overview[-2].endswith(f"No avg5: it may not hold {barred}.")


def test_tables_are_the_same_bytes_again(tmp_path: Path) -> None:
    first = table(tmp_path, make(2, 740), make(0, 700), make(1, 720, model="local"))
    assert first == table(tmp_path, out="again")


def test_the_same_run_counts_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    failed = replace(make(0), status="failed", test=None)
    records.write(failed, one)
    records.write(make(0), two)
    found = leaderboard.collect([one, two]).records
    assert [record.status for record in found] == ["completed"]


def test_the_shipped_tables_are_those_of_the_shipped_records(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[1] / "results"
    leaderboard.publish([shipped], tmp_path)
    for name in ("leaderboard.md", "leaderboard.csv"):
        assert (tmp_path / name).read_text() == (shipped / name).read_text()


def test_torch_is_not_needed() -> None:
    script = "import sys, lra_bench.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
