"""The identity of code: what a step runs counts, words about it do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lra_bench.compose import compose
from lra_bench.speed.sources import code_sha256

MODEL = '''
"""A model."""
from mine_of_sources import helper


def make():
    return helper.VALUE
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package with a model, what it imports, and what it does not."""
    folder = tmp_path / "mine_of_sources"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "model.py").write_text(MODEL)
    (folder / "helper.py").write_text("from . import deep\nVALUE = deep.VALUE\n")
    (folder / "deep.py").write_text("VALUE = 3\n")
    (folder / "other.py").write_text("VALUE = 4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def identity() -> str:
    return code_sha256([{"mixer": {"_target_": "mine_of_sources.model.make"}, "size": 3}])


def test_what_a_model_imports_counts(package: Path) -> None:
    before = identity()
    (package / "other.py").write_text("VALUE = 5\n")
    (package / "model.py").write_text(f"# A word.\n{MODEL.replace('A model', 'The model')}\n")
    assert identity() == before
    seen = {before}
    for name, text in (("deep", "VALUE = 7\n"), ("model", MODEL.replace("VALUE", "OTHER"))):
        (package / f"{name}.py").write_text(text)
        seen.add(identity())
    assert len(seen) == 3
    del sys.modules["mine_of_sources"]


def test_models_of_the_harness_differ_and_share_nothing_that_computes_nothing() -> None:
    nodes = [
        compose([f"model={name}", "task=listops", "setting=smoke"]).config.model
        for name in ("local", "transformer", "local")
    ]
    local, transformer, again = (code_sha256([node]) for node in nodes)
    assert local == again != transformer


def test_a_class_that_is_nowhere_changes_nothing() -> None:
    assert code_sha256([{"_target_": "nowhere.Nothing"}]) == code_sha256([])
