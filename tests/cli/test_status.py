"""The verb ``status``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import records_in
from lra_bench.cli import main


def test_what_is_done_is_shown(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "quiet=true"]) == 0
    (record,) = records_in(tmp_path)
    capsys.readouterr()
    results = str(tmp_path / "results")
    assert main(["status", results]) == 0
    assert capsys.readouterr().out == (
        "0 running, 0 failed, 0 interrupted, 0 waiting, 1 done\n"
        "done\n  ernie_sparse on listops, setting smoke, objective cross_entropy  1 run, seed 0\n"
    )
    assert main(["status", "--json", results]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["done"][0]["request_id"] == record.request_id
    assert content["done"][0]["test"] == record.metrics["accuracy"]["test"]
    assert content["running"] == []


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "nowhere"]) == 2
    assert "nowhere is not a folder" in capsys.readouterr().err
