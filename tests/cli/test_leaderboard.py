"""The verb ``leaderboard``: which folders it reads, and where it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_records import make

from lra_bench import record as records
from lra_bench.cli import main


def test_tables_go_to_the_first_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records.write(make(seed=0), tmp_path / "results")
    records.write(make(seed=1), tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard"]) == 0
    said = capsys.readouterr().out
    assert "transformer" in said
    assert (tmp_path / "results/leaderboard.md").exists()
    assert (tmp_path / "results/leaderboard.csv").exists()
    assert main(["leaderboard", "results", "--out", "tables", "other"]) == 0
    assert (tmp_path / "tables/leaderboard.md").exists()
    assert not (tmp_path / "other/leaderboard.md").exists()


def test_published_numbers_may_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records.write(make(), tmp_path / "results")
    shipped = Path(__file__).parents[2] / "results/published.csv"
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", "--published", str(shipped)]) == 0
    # They are in the files; the terminal has ours alone.
    assert "Published" not in capsys.readouterr().out
    assert "57.78" in (tmp_path / "results/leaderboard.md").read_text()
    assert main(["leaderboard", "--published", "none.csv"]) == 2
    assert "none.csv cannot be read" in capsys.readouterr().err


def test_the_page_knows_the_families_of_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records.write(make(model="ernie_sparse"), tmp_path)
    records.write(make(model="mine"), tmp_path)
    assert main(["leaderboard", str(tmp_path)]) == 0
    assert '"families":["hierarchy"]' in (tmp_path / "leaderboard.html").read_text()


def test_checking_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records.write(make(), tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", "--check"]) == 1
    assert "it names no commit" in capsys.readouterr().err
    assert not (tmp_path / "results/leaderboard.md").exists()
    assert main(["leaderboard", "nowhere", "--check"]) == 2
