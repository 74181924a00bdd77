"""From folders to files: the same bytes, whatever lies there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_records import make, published, told

from lra_bench import leaderboard
from lra_bench import record as records
from lra_bench.cli import main
from lra_bench.errors import UserError

FILES = tuple(f"leaderboard.{kind}" for kind in ("md", "tex", "csv", "json", "html"))


def test_tables_are_the_same_bytes_again(tmp_path: Path) -> None:
    published(tmp_path, make(2, 740), make(0, 700), make(1, 720, model="local"))
    published(tmp_path, out="again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_the_shipped_tables_are_those_of_the_shipped_records(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "results"
    # The page has links to the records, as they lie beside it.
    shutil.copytree(shipped / "runs", tmp_path / "runs")
    shutil.copy(shipped / "published.csv", tmp_path)
    assert main(["leaderboard", str(tmp_path)]) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (shipped / name).read_bytes()


def test_torch_is_not_needed() -> None:
    script = "import sys, lra_bench.leaderboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_runs_make_tables_too(tmp_path: Path) -> None:
    text, text_csv, code = published(tmp_path)
    assert (text_csv.strip(), code) == ("", 0)
    assert "No runs yet. `lra-bench run task=listops model=ernie_sparse`" in text


def test_tables_that_cannot_be_written_are_the_users_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the tables to"):
        leaderboard.publish([tmp_path], tmp_path / "file")
    with pytest.raises(UserError, match="nowhere is not a folder"):
        leaderboard.publish([tmp_path / "nowhere"], tmp_path)


NAMES = ("<script>x</script>", "a|b", "[x](javascript:y)", "\x1b[2J\u202e", "=1+1", "../../etc")


def test_hostile_names_are_shown_and_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [make(0, 700 + index, model=name) for index, name in enumerate(NAMES)]
    made += [make(7, task=name, data=told(name, note=name), device=name) for name in NAMES]
    text, text_csv, code = published(tmp_path, *made)
    said = capsys.readouterr()
    assert code == 0
    assert not said.err
    for shown in (
        text,
        text_csv,
        said.out,
        *((tmp_path / "out" / name).read_text() for name in FILES),
    ):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "<script" not in text
    width = 0
    for row in text.splitlines():
        bars = row.replace("\\|", "").count("|") if row.startswith("|") else 0
        # Every line of a table has as many cells as its first.
        assert width in (0, bars) or not bars
        width = bars
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)


BROKEN = {
    "half.json": '{"schema_version": "2.0",',
    "list.json": "[1, 2]",
    "deep.json": "[" * 5000 + "]" * 5000,
    "nan.json": '{"schema_version": NaN}',
    "huge.json": '{"schema_version": 1e400}',
    "many_digits.json": '{"schema_version": ' + "9" * 5000 + "}",
    "newer.json": '{"schema_version": "9.0"}',
    "surrogate.json": '{"schema_version": "2.0", "task": "\\ud800"}',
    "empty.json": "",
    "notes.txt": "hello",
    ".hidden.json": "{}",
}


def test_files_that_are_no_records_are_named_and_cost_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.write(make(), tmp_path)
    for name, content in BROKEN.items():
        (path.parent / name).write_text(content)
    (path.parent / "folder.json").mkdir()
    (path.parent / "binary.json").write_bytes(b"\xff\xfe\x00")
    content = json.loads(path.read_text())
    for key, value in {"model": 3, "seed": "0", "changes": [], "curve": 7, "device": None}.items():
        (path.parent / f"wrong_{key}.json").write_text(json.dumps({**content, key: value}))
    (path.parent / "elsewhere.json").symlink_to(path.parent / "nowhere.json")
    # Nobody will ever write to it, and reading would wait.
    os.mkfifo(path.parent / "pipe.json")
    with (path.parent / "large.json").open("wb") as file:
        file.truncate(60_000_000)
    text, _, code = published(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert code == 0
    assert "35.00" in text
    expected = [*BROKEN, "binary.json", "elsewhere.json", "pipe.json", "large.json"]
    expected += [f"wrong_{key}.json" for key in ("model", "seed", "changes", "curve", "device")]
    assert len(said) == len(expected)
    for name in expected:
        assert any(line.startswith("skipped") and f"/{name}: it " in line for line in said), name


def test_very_many_wrong_files_do_not_fill_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    for number in range(30):
        (tmp_path / f"runs/{number}.txt").write_text("")
    published(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert (len(said), said[-1]) == (21, "skipped 10 more files")


def test_a_record_that_contradicts_another_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = records.write(make(0, 700), tmp_path)
    other = tmp_path / "runs/z/other.json"
    other.parent.mkdir()
    other.write_bytes(records.write(make(0, 900), tmp_path / "elsewhere").read_bytes())
    text, _, _ = published(tmp_path)
    assert "35.00" in text
    assert f"it contradicts {first}, which counts" in capsys.readouterr().err


def test_a_cell_made_by_different_code_or_hardware_says_so(tmp_path: Path) -> None:
    made = [
        make(
            seed, 700, git_commit=f"{seed}" * 40, device=f"machine {seed % 2}", git_dirty=seed == 0
        )
        for seed in range(5)
    ]
    text, _, _ = published(tmp_path, *made, make(0, 700, model="alike"), make(1, model="alike"))
    marked = [line for line in text.splitlines() if line.startswith("| transformer")]
    assert all("35.00 ± 0.00 †" in line for line in marked)
    assert (
        "† transformer: its 5 runs are of 5 commits (00000000; 11111111; 22222222; ...) and are of "
        "2 kinds of hardware (machine 0; machine 1)." in text
    )
    assert "transformer: 1 of its runs came from code that was not committed." in text
    assert "† alike" not in text
