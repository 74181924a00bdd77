"""What a board compares is written in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra_bench.errors import UserError
from lra_bench.leaderboard.board import read_board

GOOD = """
averages:
  mean: {metric: f1_macro, tasks: [a, b]}
same_task: []
diagnostics: [c]
ask_themselves: [o]
left_out: [x]
protocols:
  p: {title: a paper, settings: [big]}
"""


def test_the_board_of_the_benchmark() -> None:
    board = read_board()
    assert [average.name for average in board.averages] == ["avg5", "avg6"]
    assert set(board.averages[1].tasks) - set(board.averages[0].tasks) == {"pathx"}
    assert board.left_out == ("smoke",)
    assert not {task for average in board.averages for task in average.tasks} & {*board.diagnostics}
    assert {p.name: p.settings for p in board.protocols if p.settings} == {
        "lra-2020": ("lra2020",),
        "self-pretrain": ("spt + denoising",),
    }
    assert board.ask_themselves == ("denoising",)


def test_another_board_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(GOOD)
    board = read_board(tmp_path / "x.yaml")
    (average,), (protocol,) = board.averages, board.protocols
    assert (average.metric, average.tasks) == ("f1_macro", ("a", "b"))
    assert (protocol.name, protocol.title, protocol.settings) == ("p", "a paper", ("big",))


@pytest.mark.parametrize(
    ("task", "objective", "changes", "counts_as"),
    [
        ("a", "x", {}, "a"),
        ("a", "x", {"task.x": 1}, None),
        ("c", "x", {}, None),
        ("c", "x", {"model.x": 1}, None),
        ("a", "o", {}, None),
        ("a", "o", {"objective.x": 1}, None),
    ],
)
def test_a_diagnostic_task_and_a_question_of_its_own_count_as_nothing(
    tmp_path: Path,
    task: str,
    objective: str,
    changes: dict[str, object],
    counts_as: str | None,
) -> None:
    (tmp_path / "x.yaml").write_text(GOOD)
    assert read_board(tmp_path / "x.yaml").counts_as(task, objective, changes) == counts_as


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "is no YAML"),
        ("", "must have the keys averages, same_task, diagnostics, ask_themselves, left_out"),
        (GOOD + "more: 1", "and no others"),
        (GOOD.replace("metric: f1_macro, ", ""), r"averages.mean must have the keys metric, tasks"),
        (GOOD.replace("f1_macro", "7"), "averages.mean: metric must be a text"),
        (GOOD.replace("[a, b]", "[a, c]"), "averages.mean holds c, which is among the diagnostics"),
        (GOOD.replace("[big]", "big"), r"protocols.p: settings must be a list"),
        (GOOD.replace("[o]", "o"), r"ask_themselves must be a list \(each item a text\)"),
        (GOOD.replace("[x]", "x"), r"left_out must be a list \(each item a text\)"),
    ],
)
def test_a_wrong_board_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=why) as caught:
        read_board(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_board_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_board(tmp_path / "x.yaml")
