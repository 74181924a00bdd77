"""The verb ``ls``: what there is to choose from."""

from __future__ import annotations

import pytest

from lra_bench.cli import main


def test_ls_names_everything(outside: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", *outside[:2]]) == 0
    said = capsys.readouterr().out
    for name in ("listops", "text", "ernie_sparse", "local", "cpu", "lra2020", "sar", "wandb"):
        assert f"\n  {name}" in said
    assert "majority baseline 16.8%" in said
    # From outside, too.
    assert "\n  full" in said


@pytest.mark.parametrize("word", ["models", "model"])
def test_ls_lists_one_kind(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", word]) == 0
    said = capsys.readouterr().out
    assert said.startswith("models\n  ")
    assert "tasks" not in said.split("\n")
