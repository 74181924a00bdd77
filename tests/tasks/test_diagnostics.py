"""Tasks that tell models apart are marked wherever a task is named, and rank nothing."""

from __future__ import annotations

import pytest

from lra_bench.build import build_task
from lra_bench.compose import compose_task
from lra_bench.leaderboard.board import read_board
from lra_bench.paths import conf_dir
from lra_bench.words import options


@pytest.mark.parametrize("name", options("task"))
def test_the_mark_of_a_task(name: str) -> None:
    is_diagnostic = build_task(compose_task([f"task={name}"])).spec.is_diagnostic
    text = (conf_dir() / "task" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# Diagnostic: ") == is_diagnostic
    assert is_diagnostic == (name in {"needle", "recall"})
    averaged = {task for average in read_board().averages for task in average.tasks}
    assert not (is_diagnostic and name in averaged)
