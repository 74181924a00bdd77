"""What a contribution of results must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_records import CONFIG, begun, make, make_pretrained, told

from lra_bench import leaderboard
from lra_bench import record as records
from lra_bench.record import RunRecord

GOOD: dict[str, Any] = {
    "command": "lra-bench run setting=cpu task=listops model=transformer objective=cross_entropy "
    "seed=0",
    "git_commit": "a" * 40,
    "git_dirty": False,
    "versions": {"python": "3.11", "torch": "2.13.0", "lra_bench": "0.1.0"},
    "device": "a machine",
    "dtype": "float32",
    "started_at": "2026-01-01T00:00:00+00:00",
    "num_steps": 200,
}


def checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *made: RunRecord
) -> tuple[int, list[str]]:
    for record in made:
        records.write(record, tmp_path)
    code = leaderboard.check([tmp_path])
    said = capsys.readouterr()
    return code, (said.err or said.out).splitlines()


def test_a_good_record_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = checked(tmp_path, capsys, make(**GOOD))
    assert (code, said) == (0, ["1 record, and nothing is in the way of adding them"])


def test_the_shipped_records_pass() -> None:
    assert leaderboard.check([Path(__file__).parents[2] / "results"]) == 0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"git_commit": None}, "it names no commit"),
        ({"git_dirty": True}, "its code had changes that are in no commit"),
        ({"git_dirty": None}, "its code had changes"),
        ({"versions": {"python": "3.11", "lra_bench": "1"}}, "does not name the version of torch"),
        ({"device": ""}, "its device is empty"),
        ({"started_at": ""}, "its started_at is empty"),
        ({"command": ""}, "it lacks setting=cpu task=listops model=transformer"),
        ({"command": GOOD["command"].replace("seed=0", "seed=1")}, "it lacks seed=0"),
        ({"command": GOOD["command"].replace("lra-bench", "rm")}, "it lacks `lra-bench run`"),
        ({"changes": {"model.x": 1}}, "it lacks model.x=..."),
        ({"command": "lra-bench run 'x"}, "its command does not repeat it"),
        ({"data": told("x", warning="9 files")}, "its data are not the official ones: 9 files"),
        ({"num_steps": 150}, "it ended after 150 of 200 steps"),
        ({"setting": "smoke"}, "setting smoke makes no results"),
        ({"model": "mine"}, "model mine is not in conf/model"),
        ({"model": "../../x"}, "model ../../x is not in conf/model"),
    ],
)
def test_what_is_in_the_way_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], expected: str
) -> None:
    code, said = checked(tmp_path, capsys, make(**{**GOOD, **fields}))
    assert code == 1
    assert any(expected in line for line in said)
    assert all(".json: " in line for line in said)


DENOISING = {**GOOD, "command": GOOD["command"].replace("cross_entropy", "denoising")}


def begun_well(parent: RunRecord, more: str = "", **fields: Any) -> RunRecord:
    """Return a record whose command says what it began from."""
    command = f"{GOOD['command']} init_from={parent.run_id}{more}"
    return begun(parent, **{**GOOD, "command": command, **fields})


def test_a_pretrained_record_comes_with_what_it_began_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = make_pretrained(**DENOISING)
    child = begun_well(parent)
    code, said = checked(tmp_path / "alone", capsys, child)
    assert code == 1
    (line,) = said
    assert f"it began from, {parent.run_id}, is not among these; add it, or make it: " in line
    assert line.endswith(f"{parent.command} keep_weights=true")
    assert checked(tmp_path, capsys, child, parent)[0] == 0
    tiled = begun_well(parent, " init_positions=tile", positions="tile")
    assert checked(tmp_path, capsys, tiled)[0] == 0


def test_a_command_must_say_what_a_run_began_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = make_pretrained(**DENOISING)
    code, said = checked(tmp_path, capsys, parent, begun(parent, **GOOD, positions="tile"))
    assert code == 1
    assert said[0].endswith(f"it lacks init_from={parent.run_id} init_positions=tile")
    assert len(said) == 1


def test_other_weights_than_those_of_the_record_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = make_pretrained(**DENOISING)
    code, said = checked(
        tmp_path, capsys, parent, begun_well(make_pretrained(**DENOISING, weights_sha256="b" * 64))
    )
    assert code == 1
    assert "the weights that it began from are not those of" in said[0]
    orphan = make(1, **{**GOOD, "parent": "x", "command": GOOD["command"][:-1] + "1"})
    _, said = checked(tmp_path / "other", capsys, orphan)
    assert "it names the parent x and not what that run was" in said[0]


def test_a_known_copy_of_the_data_is_no_obstacle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(tmp_path, capsys, make(**GOOD, data=told("a copy", note="JPEG")))[0] == 0


def test_a_run_that_failed_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, capsys, make(**{**GOOD, "status": "failed", "num_steps": 3}))[0] == 0


def test_a_file_elsewhere_a_mixed_cell_and_no_record_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.write(make(**GOOD), tmp_path)
    moved = path.rename(path.parent / "other.json")
    (path.parent / "notes.txt").write_text("x")
    command = GOOD["command"].replace("seed=0", "seed=1")
    config = {**CONFIG, "train": {"learning_rate": 9.0, "num_steps": 200}}
    code, said = checked(tmp_path, capsys, make(1, **{**GOOD, "command": command}, config=config))
    assert code == 1
    assert f"{moved}: it belongs to {path}" in said
    assert any("notes.txt: it is not a run record" in line for line in said)
    assert any("its 2 runs differ in train.learning_rate" in line for line in said)
    assert len(said) == 3


def test_nothing_is_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tmp_path, capsys) == (1, ["there are no records"])
