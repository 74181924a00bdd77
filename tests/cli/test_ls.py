"""The verb ``ls``: what there is to choose from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lra_bench import paths
from lra_bench.cli import main
from lra_bench.words import options


def test_ls_names_everything(outside: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", *outside[:2]]) == 0
    said = capsys.readouterr().out
    for name in ("listops", "text", "ernie_sparse", "local", "cpu", "lra2020", "sar", "wandb"):
        assert f"\n  {name}" in said
    assert "majority baseline 16.8%" in said
    # From outside, too.
    assert "\n  full" in said


@pytest.mark.parametrize("word", ["settings", "setting"])
def test_ls_lists_one_kind(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", word]) == 0
    said = capsys.readouterr().out
    assert said.startswith("settings\n  ")
    assert "tasks" not in said.split("\n")


def test_models_are_a_table_that_programs_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns apart by two blanks or more, no cell empty; one from outside says what it says."""
    (tmp_path / "model").mkdir()
    shipped = (paths.conf_dir() / "model/local.yaml").read_text().split("\n_target_")[1]
    said = "# What is mine. Not yours.\n# family: mine\n# colour: red"
    (tmp_path / "model/mine.yaml").write_text(f"{said}\n_target_{shipped}")
    words = ["ls", "models", "--config-dir", str(tmp_path)]
    for changes, counted in (([], []), (["setting=small", "task=text"], ["parameters"])):
        assert main([*words, *changes]) == 0
        title, *lines = capsys.readouterr().out.splitlines()
        assert title == " ".join(["models, with" if changes else "models", *changes])
        header, *rows = [re.split("  +", line.strip()) for line in lines]
        assert header == [
            *("model", "family", "year", "paper", "cost", *counted),
            *("length", "causal", "topologies", "limits"),
        ]
        table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
        assert list(table) == options("model", config_dirs=[tmp_path])
        assert table["local"]["paper"] == "arXiv 2011.04006"
        assert table["mine"]["family"] == "mine"
        assert table["mine"]["paper"] == table["mine"]["limits"] == "-"
        if counted:
            assert table["mine"]["parameters"] == table["local"]["parameters"] == "347,586"


def test_what_is_not_given_is_a_default_and_options_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["ls", "models", "trunk.num_layers=3"]) == 0
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert {"setting=cpu", "task=listops"} <= set(title.split())
    # A layer of the Transformer more than the two of the setting.
    layer = 4 * 64 * 64 + 2 * 64 * 128 + 64 + 128 + 4 * 64
    assert re.split("  +", rows[-1].strip())[5] == f"{205_258 + layer:,}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls", "tasks", "setting=small"], "setting=small says where models are counted"),
        (["ls", "setting=small"], "lra-bench ls models"),
        (["ls", "models", "model=local"], "leave out model="),
        (["ls", "models", "setting=smal"], "did you mean small?"),
        (["ls", "modles"], "not 'modles'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_the_table_needs_no_torch() -> None:
    script = "from lra_bench.cli import main; import sys; sys.exit(main(['ls', 'models'])"
    script += " or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
