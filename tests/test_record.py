"""One file a run: what is written is read again, what is older is upgraded, the rest is refused."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_records import counted, make, told, two_classes

from lra_bench import record as records
from lra_bench.record import BadRecord, RunRecord
from lra_bench.types import DataInfo

FIXTURES = Path(__file__).parent / "fixtures"
OLD, *MINOR, NEW = (FIXTURES / f"record_v{version}.json" for version in ("1", "2", "2_1", "2_2"))

Change = Callable[[dict[str, Any]], None]


def saved(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadRecord) as caught:
        records.read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Written and read again.


def test_a_record_survives_the_round_trip(tmp_path: Path) -> None:
    record = make(changes={"train.learning_rate": 0.003}, curve=[{"step": 1, "train_loss": 0.5}])
    path = records.write(record, tmp_path)
    assert records.read(path) == record
    assert not [item for item in path.parent.iterdir() if item != path]


def test_the_same_record_is_the_same_bytes(tmp_path: Path) -> None:
    first = records.write(make(), tmp_path / "1").read_bytes()
    assert records.write(make(), tmp_path / "2").read_bytes() == first
    assert first.endswith(b"}\n")


def test_a_file_lies_under_plain_names(tmp_path: Path) -> None:
    record = make(changes={"model.mixer.block_size": 64})
    path = records.write(record, tmp_path)
    assert path.relative_to(tmp_path).parts == (
        *("runs", "cpu", "listops", "transformer"),
        f"{record.run_id}.json",
    )


@pytest.mark.parametrize("name", ["..", ".", "a/b", "..\\x", "two words", "x" * 300])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    path = records.record_path(tmp_path, name, name, name, "id")
    assert len(path.relative_to(tmp_path).parts) == 5
    assert path.resolve().is_relative_to(tmp_path.resolve() / "runs")
    assert ".." not in path.parts


def test_a_reader_without_our_code_finds_the_numbers(tmp_path: Path) -> None:
    content = json.loads(records.write(make(correct=720), tmp_path).read_text())
    assert content["metrics"]["accuracy"] == {"test": 0.36, "validation": 0.36}
    assert content["metrics"]["loss"]["test"] == 10.5 / 2000
    assert content["test"] == {
        "examples": 2000,
        "targets": 2000,
        "correct": 720,
        "exact": 720,
        "loss": 10.5,
    }
    assert content["schema_version"] == "2.2"


def test_where_nothing_was_evaluated_there_is_no_number(tmp_path: Path) -> None:
    failed = make(status="failed")
    assert failed.metrics["accuracy"] == {"test": None, "validation": None}
    assert records.read(records.write(failed, tmp_path)) == failed


def test_a_record_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_seconds must be a number or null, not nan"):
        make(train_seconds=math.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        make(config={"train": {"learning_rate": math.inf}})
    record = make(curve=[{"train_loss": math.nan}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(record, tmp_path)
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


def test_what_a_record_keeps_of_the_data() -> None:
    info = DataInfo("a server", "CC0", {"test": 5}, "the set", "9 reviews", "", {"archive": "x"})
    assert records.data_of(info) == told("the set", warning="9 reviews", archive="x")
    careless: dict[Any, Any] = {"size": 5}
    assert records.data_of(replace(info, details=careless))["details"] == {"size": "5"}


# Older and newer versions.


def test_ids_stay_what_they_are() -> None:
    """What is published under an id must be found under it for ever."""
    assert records.read(OLD).run_id == "07a3e83a0adcec5b-6e095f0c"
    assert records.read(NEW).run_id == "d63f673c512eae2a-fedcba98"


def test_the_first_version_is_upgraded(tmp_path: Path) -> None:
    old, record = json.loads(OLD.read_text()), records.read(OLD)
    assert (record.setting, record.task, record.model) == ("cpu", "image", "ernie_sparse")
    assert record.test is not None
    assert record.test.sums == {
        "examples": 10_000,
        "targets": 10_000,
        "correct": 3025,
        "exact": 3025,
        "loss": 19196.379354578647,
    }
    assert record.metrics["accuracy"] == {"test": 0.3025, "validation": 0.2882}
    assert record.ranking_metric == "accuracy"
    assert record.data["source"] == "CIFAR-10 (JPEG copy)"
    assert record.data["note"].startswith("the pixels are not the official ones")
    assert record.data["warning"] == ""
    assert sorted(record.data["details"]) == ["archive_sha256", "read", "validation"]
    assert (record.parent, record.num_processes, record.num_resumes) == (None, 1, 0)
    kept = (
        *("seed", "status", "command", "best_step", "num_steps", "curve", "config", "versions"),
        *("device", "started_at", "train_seconds", "peak_memory_bytes", "majority_baseline"),
    )
    assert {name: getattr(record, name) for name in kept} == {name: old[name] for name in kept}
    # What has been upgraded is written in the layout of today, and then stays the same.
    path = records.write(record, tmp_path)
    assert path.name == "07a3e83a0adcec5b-6e095f0c.json"
    assert records.read(path) == record


def test_names_of_the_first_version_lose_their_brackets(tmp_path: Path) -> None:
    changes = {
        "model.mixer.block_size": 64,
        "train.learning_rate": 0.01,
        "trunk.width": 32,
        "task.source": "official",
    }
    labelled = {
        "setting": "cpu(trunk.width=32,train.learning_rate=0.01)",
        "task": "listops(source=official)",
        "model": "local(block_size=64)",
    }
    old = json.loads(OLD.read_text()) | labelled | {"changes": changes}
    record = records.read(saved(tmp_path / "old.json", old))
    assert record.names == {
        "setting": "cpu",
        "task": "listops",
        "model": "local",
        "objective": "cross_entropy",
    }
    assert record.labels["setting"] == "cpu(train.learning_rate=0.01,trunk.width=32)"
    assert record.labels["model"] == "local(block_size=64)"


def test_this_version_is_read() -> None:
    record = records.read(NEW)
    assert record.labels == {
        "setting": "small(train.learning_rate=0.003)",
        "task": "pairs",
        "model": "local(block_size=64)",
        "objective": "sar(alpha=0.5)",
    }
    assert record.test is not None
    assert record.test["f1_of_1"] == record.metrics["f1_of_1"]["test"]
    assert (record.parent, record.num_processes) == ("0123456789abcdef-89abcdef", 2)
    assert records.as_dict(record) == json.loads(NEW.read_text())


@pytest.mark.parametrize(("fixture", "missing"), zip(MINOR, (0, 1), strict=True))
def test_an_older_minor_version_is_given_what_came_later(fixture: Path, missing: int) -> None:
    came: list[dict[str, object]] = [
        {"sessions": []},
        {"pretraining": None, "weights_sha256": None},
    ]
    content = json.loads(fixture.read_text()) | {"schema_version": records.SCHEMA_VERSION}
    for of_a_version in came[missing:]:
        assert not of_a_version.keys() & content.keys()
        content |= of_a_version
    # Sessions from before they told of processes had those of the record.
    for session in content["sessions"]:
        session.setdefault("num_processes", content["num_processes"])
    assert records.as_dict(records.read(fixture)) == content


def test_a_newer_minor_version_keeps_its_fields(tmp_path: Path) -> None:
    content = json.loads(NEW.read_text())
    content |= {"schema_version": "2.7", "energy_joules": 5.5, "hosts": ["a", "b"]}
    # A metric of tomorrow cannot be computed here, and is believed.
    content["metrics"]["mcc"] = {"test": 0.4, "validation": 0.5}
    record = records.read(saved(tmp_path / "newer.json", content))
    assert record.extra == {"energy_joules": 5.5, "hosts": ["a", "b"]}
    assert json.loads(records.write(record, tmp_path).read_text()) == content


def test_a_newer_minor_version_is_checked_as_well(tmp_path: Path) -> None:
    content = json.loads(NEW.read_text()) | {"schema_version": "2.7"}
    del content["test"]["fp/1"]
    assert "f1_of_1 cannot be read from the sums" in refused(saved(tmp_path / "x.json", content))


@pytest.mark.parametrize("version", ["3.0", "2", 2, 0, 99, 1.0, True, None, [], "x", "2.0.1"])
def test_an_unknown_version_is_refused(tmp_path: Path, version: object) -> None:
    content = json.loads(NEW.read_text()) | {"schema_version": version, "new": 1}
    assert refused(saved(tmp_path / "x.json", content)).startswith("has schema_version ")


# What is no record.


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is not JSON; it may be half written"),
        ('{"schema_version": 1, "run_id"', "is not JSON; it may be half written"),
        ("[]", "no schema_version"),
        ("{}", "no schema_version"),
        ("7", "no schema_version"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"schema_version": 1}', "missing fields"),
        ('{"schema_version": "2.0"}', "missing fields"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ('{"schema_version": "2.0", "seed": 1e400}', "the number 1e400, which is too large"),
        ('{"schema_version": "2.0", "seed": -1e400}', "the number -1e400, which is too large"),
        (f'{{"seed": {10**400}}}', "which is too large"),
        (f'{{"seed": {"9" * 10_000}}}', "which is too large"),
        ('{"train_seconds": NaN}', "holds NaN, which is no number"),
        ('{"train_seconds": -Infinity}', "holds -Infinity, which is no number"),
        (r'{"model": "\ud800"}', "which is no Unicode text"),
        (r'{"\udfff": 1}', "which is no Unicode text"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    assert why in refused(path)


def test_what_is_no_file_or_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe{}")
    assert "half written" in refused(tmp_path / "x.json")
    assert "cannot be read" in refused(tmp_path)
    assert "cannot be read: No such file" in refused(tmp_path / "y.json")


@pytest.mark.parametrize("fixture", [OLD, NEW], ids=["v1", "v2.2"])
def test_every_half_written_file_is_refused(tmp_path: Path, fixture: Path) -> None:
    text = fixture.read_text()
    for length in range(0, len(text) - 2, 97):
        (tmp_path / "x.json").write_text(text[:length])
        refused(tmp_path / "x.json")


@pytest.mark.parametrize("fixture", [OLD, NEW], ids=["v1", "v2.2"])
@pytest.mark.parametrize("value", [None, True, -1, 0.5, "", "x", [], [1], {}, {"x": 1}], ids=repr)
def test_a_field_of_the_wrong_type_is_refused_or_harmless(
    tmp_path: Path, fixture: Path, value: object
) -> None:
    """Whatever stands in a field, there is a record that can be written again, or one line."""
    content = json.loads(fixture.read_text())
    for name in content:
        path = saved(tmp_path / "x.json", content | {name: value})
        try:
            record = records.read(path)
        except BadRecord:
            refused(path)
        else:
            assert records.read(records.write(record, tmp_path)) == record


@pytest.mark.parametrize("fixture", [OLD, NEW], ids=["v1", "v2.2"])
def test_no_field_may_be_missing(tmp_path: Path, fixture: Path) -> None:
    content = json.loads(fixture.read_text())
    # These are made anew of the first version.
    made_anew = {"run_id", "config_sha256"} if fixture == OLD else set()
    for name in set(content) - made_anew:
        less = {other: content[other] for other in content if other != name}
        assert {name, "schema_version"} & set(refused(saved(tmp_path / "x.json", less)).split())


def set_in(*keys: str, to: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_in("status", to="fine"), "has the unknown status 'fine'"),
        (set_in("surprise", to=1), "unknown fields surprise"),
        (set_in("test", to=None), "it is completed and has no test result"),
        (set_in("status", to="failed"), "it is failed and has a test result"),
        (set_in("error", to="the disk is full"), "it is completed and has an error"),
        (set_in("test", "correct", to=401), "correct=401 of 400 cannot be"),
        (set_in("test", "examples", to=0), "0 examples"),
        (set_in("test", "loss", to="1"), "are not the sums of an evaluation"),
        (set_in("test", "tp/1", to=119), "f1_of_1 on test is 0.774193"),
        (set_in("validation", to={"accuracy": 0.5}), "lack examples"),
        (set_in("validation", to=None), "on validation is"),
        (set_in("metrics", "accuracy", "test", to=0.826), "accuracy on test is 0.826, and 0.825"),
        (set_in("metrics", "accuracy", "test", to=None), "accuracy on test is None, and 0.825"),
        (set_in("metrics", "accuracy", to={"test": 0.825}), "one for validation"),
        (set_in("metrics", "mcc", to={"test": 0.4, "validation": 0.5}), "there is no metric 'mcc'"),
        (set_in("metrics", "f1_of_2", to={"test": 0.0, "validation": 0.0}), "f1_of_2 cannot be"),
        (set_in("metrics", to={}), "ranking_metric 'f1_of_1' is not among the metrics"),
        (set_in("ranking_metric", to="token_f1"), "ranking_metric 'token_f1' is not among"),
        (set_in("run_id", to="d63f673c512eae2a-00000000"), "does not fit"),
        (set_in("data_sha256", to="0" * 64), "run_id 'd63f673c512eae2a-fedcba98' does not fit"),
        (set_in("data_sha256", to="abc"), "is not 64 hexadecimal digits"),
        (set_in("request_id", to="0" * 16), "does not fit"),
        (set_in("seed", to=4), "request_id 'd63f673c512eae2a' does not fit"),
        (set_in("model", to="transformer"), "request_id 'd63f673c512eae2a' does not fit"),
        (set_in("changes", to={}), "request_id 'd63f673c512eae2a' does not fit"),
        (set_in("config", "trunk", "width", to=128), "does not fit"),
        (set_in("config_sha256", to="0" * 64), "config_sha256 '0000"),
        (set_in("best_step", to=401), "best_step 401 lies after num_steps 400"),
        (set_in("num_resumes", to=-1), "num_resumes is -1, which is negative"),
        (set_in("num_processes", to=0), "num_processes is 0"),
        (set_in("num_steps", to=True), "num_steps must be a whole number, not True"),
        (set_in("train_seconds", to="9"), "train_seconds must be a number or null, not '9'"),
        (set_in("versions", "torch", to=2), "versions must be an object (each value a text)"),
        (set_in("curve", to=[1]), "curve must be a list (each item an object), not [1]"),
        (set_in("config", to=[]), "config must be an object, not []"),
        (set_in("setting", to=""), "setting is empty"),
        (set_in("data", to={}), "data must hold the texts source, warning and note"),
        (set_in("data", "details", "x", to=1), "data must hold the texts"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    tmp_path: Path, change: Change, why: str
) -> None:
    content = json.loads(NEW.read_text())
    change(content)
    assert why in refused(saved(tmp_path / "x.json", content))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (set_in("status", to="fine"), "has the unknown status 'fine'"),
        (set_in("surprise", to=1), "unknown fields surprise"),
        (set_in("test", to=None), "it is completed and has no test result"),
        (set_in("test", "num_correct", to=10_001), "correct=10001 of 10000 cannot be"),
        (set_in("test", "num_examples", to=0), "0 examples"),
        (set_in("validation", to={"accuracy": 0.5}), "are not the sums of an evaluation"),
        (set_in("validation", to=5), "are not the sums of an evaluation"),
        (set_in("config", to=[]), "config must be an object"),
        (set_in("data", "source", to=1), "data must be an object (each value a text)"),
        (set_in("data_sha256", to=None), "data_sha256 must be a text, not None"),
    ],
)
def test_wrong_records_of_the_first_version_are_refused(
    tmp_path: Path, change: Change, why: str
) -> None:
    content = json.loads(OLD.read_text())
    change(content)
    assert why in refused(saved(tmp_path / "x.json", content))


def test_a_wrong_record_cannot_be_made() -> None:
    record = make()
    for wrong in ({"seed": 1}, {"best_step": 5, "num_steps": 4}, {"test": counted(3)}):
        with pytest.raises(ValueError, match=r"does not fit|lies after|according to the sums"):
            replace(record, **wrong)
    with pytest.raises(AttributeError):
        record.seed = 1  # type: ignore[misc]


def test_other_kinds_of_answers_have_their_metrics(tmp_path: Path) -> None:
    of = two_classes(tp=3, fp=1, fn=2, tn=4)
    record: RunRecord = make(test=of, validation=of, ranking_metric="f1_of_1")
    assert record.metrics["f1_of_1"]["test"] == pytest.approx(6 / 9)
    assert records.read(records.write(record, tmp_path)) == record


def test_neither_torch_nor_hydra_is_needed() -> None:
    script = "import sys, lra_bench.record; sys.exit(bool({'torch', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("config", "text"), ("metrics", "text"), ("seed", True), ("train_seconds", float("nan"))],
)
def test_a_field_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        replace(make(), **{name: value})  # type: ignore[arg-type]
