"""The figures of the diagnostic tasks, from runs of seconds."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lra_bench.cli import main

SCRIPT = Path(__file__).parents[2] / "benchmarks/diagnostics.py"
SHORT = ["setting=smoke", "train.num_steps=1", "train.eval_every=1", "quiet=true"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagnostics", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclass asks for the module that it stands in.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "diagnostics", module)
        spec.loader.exec_module(module)
    return module


def test_the_same_records_give_the_same_bytes(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [f"results_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]
    for words in (
        ["task=needle", "model=local"],
        ["task=needle", "model=local", "seed=1"],
        ["task=needle", "model=ernie_sparse", "model.context=none"],
        ["task=recall", "model=local"],
    ):
        assert main(["run", *words, *SHORT, *folders]) == 0
    drawn = []
    for name in ("first", "second"):
        capsys.readouterr()
        script.main([str(tmp_path), "--to", str(tmp_path / name)])
        drawn.append(
            [(tmp_path / name / f"{task}.svg").read_bytes() for task in ("needle", "recall")]
        )
    assert drawn[0] == drawn[1]
    text = capsys.readouterr().out
    # The spread where there are two seeds, and what was changed about a model.
    assert re.search(r"\| local num_steps=1 \| 2 \| \d+ \(\d+-\d+\) \|", text)
    assert "| ernie_sparse(context=none)" in text
    assert "| model | seeds | 6 | 12 | 24 | 48 |" in text
    assert b"ernie_sparse(context=none)" in drawn[0][0]


def test_nothing_to_draw(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no finished run of needle or recall"):
        script.main([str(tmp_path), "--to", str(tmp_path)])
    assert not list(tmp_path.glob("*.svg"))
