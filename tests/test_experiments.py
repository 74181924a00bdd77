"""Every ready sweep composes, and says what it costs; words of one's own replace its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra_bench import experiments, sweep
from lra_bench.build import build_task, check_options
from lra_bench.catalogue import choices
from lra_bench.console import Screen
from lra_bench.errors import UserError


@pytest.mark.parametrize("name", experiments.names())
def test_every_experiment_composes(name: str) -> None:
    parts = [part for stage in experiments.stages([f"experiment={name}"]) for part in stage]
    assert parts
    for part in parts:
        # What a run begins from is there when the runs before it are done.
        words = sweep.spelt_out([word for word in part if not word.startswith("init_from=")])
        if sweep.chooses_itself(words):
            words = [word for word in words if "interval(" not in word]
            words = [word for word in words if not word.startswith("hydra")]
        # That every model composes on every task is seen elsewhere.
        words = [word.split(",")[0] if word.startswith("model=") else word for word in words]
        requests = sweep.expand(words)
        assert len({request.request_id for request in requests}) == len(requests)
        build_task(requests[0])
        check_options(requests[-1].config.model, "model", {"spec"})


def test_they_are_listed() -> None:
    listed = choices("experiment", Screen())
    for name in experiments.names():
        assert f"lra-bench run -m experiment={name}" in listed
    assert "36.15 %" in listed


def test_words_replace_those_of_an_experiment() -> None:
    asked = ["experiment=how_far_to_look", "setting=smoke", "seed=5"]
    (stage,) = experiments.stages(asked)
    for part in stage:
        assert part[-2:] == ["setting=smoke", "seed=5"]
        assert sum(word.startswith("setting=") for word in part) == 1
    assert experiments.stages(["task=listops"]) == [[["task=listops"]]]


def test_what_comes_after_is_a_stage_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(
        "sweeps: [[a=1, b=2], [a=2]]\nthen: [[c=3, seed=0]]\ncost: x\nexpected: y\n"
    )
    stages = experiments.stages(["experiment=mine", "seed=7"], config_dirs=[tmp_path])
    assert stages == [[["a=1", "b=2", "seed=7"], ["a=2", "seed=7"]], [["c=3", "seed=7"]]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[", "cannot be read"),
        ("sweeps: 3\ncost: x\nexpected: y", "sweeps must be a list"),
        ("sweeps: [[a=b]]\ncost: 3\nexpected: y", "cost must be a text"),
        ("sweeps: [[a=b]]\ncost: x\nexpected: y\nprice: 3", "sets price, which nothing reads"),
        ("sweeps: [[a=b]]\ncost: x\nexpected: y\nthen: 3", "then must be a list"),
    ],
)
def test_what_is_no_experiment_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        experiments.stages(["experiment=mine"], config_dirs=[tmp_path])


def test_a_misspelt_name() -> None:
    with pytest.raises(UserError, match="did you mean board_cpu"):
        experiments.stages(["experiment=board_cpuu"])
    with pytest.raises(UserError, match="one name at a time"):
        experiments.stages(["experiment=board_cpu,learning_rate"])
