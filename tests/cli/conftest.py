"""What the tests of the verbs share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli import outside as tasks_outside
from lra_bench import record as records


@pytest.fixture
def words(cache_dir: Path, tmp_path: Path) -> list[str]:
    """Return the words of a run that takes seconds."""
    return [
        "run",
        "task=listops",
        "model=ernie_sparse",
        "setting=smoke",
        f"cache_dir={cache_dir}",
        f"results_dir={tmp_path / 'results'}",
    ]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that add two tasks from outside, and a folder of prepared data."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("outside_bare", "outside_full"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("LRA_BENCH_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("COLUMNS", "100")
    tasks_outside.write(tmp_path / "conf")
    return ["--config-dir", str(tmp_path / "conf"), f"cache_dir={tmp_path / 'cache'}"]


def records_in(tmp_path: Path) -> list[records.RunRecord]:
    """Return all records that runs have written."""
    return [records.read(path) for path in sorted((tmp_path / "results/runs").rglob("*.json"))]
