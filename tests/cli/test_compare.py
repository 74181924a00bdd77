"""The verb ``compare``."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_records import make

from lra_bench import record as records
from lra_bench.cli import main


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(records.write(make(seed, 700 + 20 * seed), tmp_path)) for seed in (0, 1)]
    assert main(["compare", *paths]) == 0
    assert "B less A: +1.00 points accuracy on test." in capsys.readouterr().out
    for wrong in (paths[:1], [*paths, paths[0]]):
        assert main(["compare", *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
