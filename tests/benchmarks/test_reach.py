"""The reach of untrained models, where it is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/reach.py"


def test_known_reaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("reach", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--models", "local,ernie_sparse", "--examples", "6", "--to", str(tmp_path)])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    table = {name: [float(cell) for cell in cells] for name, *cells in lines[2:]}
    assert lines[0] == ["model", "3", "6", "12", "24", "48", "96", "192", "coherence"]
    # Blocks of 16; one more on either side in each of two layers; everything.
    is_reached = {name: [value > 0 for value in cells[:-1]] for name, cells in table.items()}
    assert is_reached["local"][3:] == 4 * [False]
    assert is_reached["local"][0]
    assert is_reached["ernie_sparse(context=none)"] == 4 * [True] + 3 * [False]
    assert all(is_reached["transformer"])
    assert all(is_reached["ernie_sparse"])
    assert all(0 <= cells[-1] <= 1.005 for cells in table.values())
    assert (tmp_path / "reach.svg").read_bytes().startswith(b"<?xml")
