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
