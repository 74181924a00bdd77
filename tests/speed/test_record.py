"""The record of a cell: reading, writing, and refusing what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzzing import mutants
from made_up_speed import make, timing

from lra_bench.errors import UserError
from lra_bench.speed import record as records
from lra_bench.speed.record import BadSpeedRecord


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for made in (
        make(train=timing(0.1, 0.2, 0.3, joules=[1.0, 2.0, 3.0]), changes={"model.size": 3}),
        make(length=2048, baseline=None, memory=None),
        make(length=4096, status="out_of_time", limit_seconds=3.5),
    ):
        path = records.write(made, tmp_path)
        assert path.parent == tmp_path / "speed/cpu/text/local"
        assert path.name == f"{made.length}-{made.cell_id}.json"
        assert records.read(path) == made
    assert len(records.collect(tmp_path).records) == 3


def test_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = records.write(make(model="../../..", task=".."), tmp_path)
    assert (tmp_path / "speed") in path.resolve().parents


def test_who_is_busy() -> None:
    assert not make(other_cores=0.2).is_busy
    assert make(other_cores=0.3).is_busy
    assert not make(other_cores=0.3, num_cores=16).is_busy
    assert not make(other_cores=None).is_busy


def test_a_model_is_called_by_its_changes_and_an_unusual_objective() -> None:
    made = make(changes={"model.mixer.block_size": 8, "trunk.width": 32}, objective="sar")
    assert records.model_label(made.labels) == "local(block_size=8) + sar"
    assert made.labels["setting"] == "cpu(trunk.width=32)"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model": "other"}, "cell_id"),
        ({"length": 0}, "length is 0"),
        ({"length": 1.5}, "length must be a whole number"),
        ({"batch_size": -4}, "negative"),
        ({"code_sha256": "abc"}, "64 hexadecimal digits"),
        ({"error": "oh"}, "it is completed and has an error"),
        ({"status": "out_of_time", "error": "late"}, "it is out_of_time and has a result"),
        ({"status": "out_of_time"}, "has no error"),
        ({"train": None}, "has no result of train"),
        ({"baseline_train": timing(1.0)}, "different numbers of rounds"),
        ({"other_cores": float("nan")}, "other_cores must be"),
        ({"changes": {1: 2}}, "changes must be"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_record_that_contradicts_itself_is_refused(
    changed: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(make(), **changed)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"seconds_per_step": []}, "at least one round"),
        ({"seconds_per_step": [1.0, 0.0, 1.0]}, "must be positive"),
        ({"seconds_per_step": [1.0, 1e12, 1.0]}, "below 1e9"),
        ({"cpu_seconds_per_step": [1.0]}, "every round needs one value"),
        ({"joules_per_step": [1.0, 2.0, -3.0]}, "none negative"),
        ({"steps_per_round": 0}, "at least one round of one step"),
        ({"peak_memory_bytes": "much"}, "peak_memory_bytes must be"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_timing_that_nobody_measured_is_refused(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(timing(1.0, 2.0, 3.0), **changed)


def _timing_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["train"] |= changes

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda content: content.pop("length"), "missing fields length"),
        (lambda content: content.update(new=1), "unknown fields new"),
        (lambda content: content.update(status="great"), "status must be one of"),
        (lambda content: content.update(schema_version="2.0"), "reads up to 1.0"),
        (lambda content: content.update(schema_version=1), "reads up to 1.0"),
        (lambda content: content.pop("schema_version"), "has no schema_version"),
        (lambda content: content.update(train=[1, 2]), "train must have the fields"),
        (_timing_with(watts=[3]), "train must have the fields"),
        (_timing_with(seconds_per_step="fast"), "train: seconds_per_step must be a list"),
        (_timing_with(seconds_per_step=[True, 1.0, 1.0]), "train: seconds_per_step must be"),
    ],
    ids=range(10),
)
def test_a_file_that_is_no_record_is_refused(
    change: Callable[[dict[str, Any]], None], expected: str, tmp_path: Path
) -> None:
    path = records.write(make(), tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadSpeedRecord, match=expected):
        records.read(path)


def test_hostile_files_are_named_and_skipped(tmp_path: Path) -> None:
    good = records.write(make(), tmp_path)
    folder = good.parent
    hostile = {
        "empty.json": b"",
        "half.json": good.read_bytes()[:200],
        "list.json": b"[]",
        "deep.json": b"[" * 100_000,
        "nan.json": good.read_bytes().replace(b'"other_cores": 0.0', b'"other_cores": NaN'),
        "huge.json": good.read_bytes().replace(b'"length": 1024', b'"length": ' + b"9" * 5000),
        "binary.json": b"\xff\xfe\x00",
        ".hidden.json": good.read_bytes(),
        "notes.txt": b"remember",
    }
    for name, content in hostile.items():
        (folder / name).write_bytes(content)
    (folder / "gone.json").symlink_to(folder / "nowhere")
    (tmp_path / "speed/link").symlink_to(tmp_path)
    found = records.collect(tmp_path)
    assert found.records == [make()]
    assert {path.name for path in found.skipped} == {*hostile, "gone.json", "link"}


def test_a_damaged_file_is_refused_or_can_be_written_again(tmp_path: Path) -> None:
    seeds = [
        records.write(made, tmp_path).read_bytes()
        for made in (
            make(train=timing(0.1, 0.2, 0.3, joules=[1.0, 2.0, 3.0])),
            make("luna", status="failed", baseline=None),
        )
    ]
    path, complaints = tmp_path / "damaged.json", list[str]()
    for data in mutants(seeds, 500):
        path.write_bytes(data)
        try:
            made = records.read(path)
        except BadSpeedRecord as error:
            complaints.append(str(error))
        else:
            assert records.read(records.write(made, tmp_path / "again")) == made
    assert 200 < len(complaints) < 500
    assert not [text for text in complaints if "\n" in text]


def test_a_newer_minor_version_is_read_and_kept(tmp_path: Path) -> None:
    path = records.write(make(), tmp_path)
    content = json.loads(path.read_text()) | {"schema_version": "1.7", "carbon_grams": 3}
    path.write_text(json.dumps(content))
    made = records.read(path)
    assert made.extra == {"carbon_grams": 3}
    records.write(made, tmp_path)
    assert json.loads(path.read_text()) == content


def test_a_folder_that_is_not_there_is_the_users_matter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        records.collect(tmp_path / "nowhere")
    assert records.collect(tmp_path).records == []
