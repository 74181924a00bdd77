"""The verb ``show``."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_records import make

from lra_bench import record as records
from lra_bench.cli import main


def test_a_run_is_shown_from_the_results_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = records.write(make(), tmp_path / "results")
    records.write(make(1), tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert main(["show", make().run_id[:6]]) == 0
    assert "seed 0: completed" in capsys.readouterr().out
    assert main(["show", make(1).run_id, "--results", "results", "--results", "other"]) == 0
    assert "seed 1: completed" in capsys.readouterr().out
    assert main(["show", str(path)]) == 0
    assert main(["show", "zzz"]) == 2
    assert "there is no file 'zzz'" in capsys.readouterr().err
    assert main(["show"]) == 2
