"""Published numbers: a source for each, no protocol mixed, ours beside theirs under one alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_records import make, published, told

from lra_bench.errors import UserError
from lra_bench.leaderboard.board import read_board
from lra_bench.leaderboard.published import lines_of, read_published, tasks_of

SHIPPED = Path(__file__).parents[2] / "results/published.csv"
HEAD = "protocol,model,year,task,accuracy,std,status,parameters,source,source_title,note\n"
GOOD = "lra-2020,Local,2020,listops,15.82,0.1,reported,,https://example.org,A paper,alone\n"


def test_every_shipped_number_has_a_source_and_a_protocol() -> None:
    rows = read_published(SHIPPED, read_board())
    assert len(rows) == 515
    assert {row.protocol for row in rows} == {one.name for one in read_board().protocols}
    assert all(row.source and row.source_title and row.year for row in rows)
    # Failed, not run and not given are three things.
    assert {row.status for row in rows if row.accuracy is None} == {
        "failed",
        "not run",
        "not given",
    }


def test_the_averages_of_ernie_sparse_stand_alone() -> None:
    rows = read_published(SHIPPED, read_board())
    lines = lines_of(rows, "lra-2020")
    (ernie,) = [line for line in lines if line.model == "ERNIE-Sparse"]
    numbers = {task: row.accuracy for task, row in ernie.by_task.items()}
    assert numbers.pop("avg5") == 57.78
    assert set(numbers.values()) == {None}
    big_bird = next(line for line in lines if line.model == "BigBird")
    assert big_bird.by_task["avg5"].accuracy == 55.01
    assert any("55.01" in note for note in ernie.notes)


def test_columns_are_in_the_order_of_the_averages() -> None:
    board = read_board()
    tasks = tasks_of(lines_of(read_published(SHIPPED, board), "large-model"), board)
    assert tasks == [
        *("listops", "text", "retrieval", "image", "pathfinder", "pathx"),
        *("image_rgb", "avg6", "avg_other"),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("model,accuracy\n", "must have the columns protocol, model"),
        (HEAD + GOOD.replace("lra-2020,", "mine,"), "line 2: there is no protocol 'mine'"),
        (HEAD + GOOD.replace("15.82", "1582"), "line 2: accuracy must be between 0 and 100"),
        (HEAD + GOOD.replace("15.82", "nan"), "between 0 and 100 per cent, not 'nan'"),
        (HEAD + GOOD.replace("15.82", ""), "its accuracy is '', and its status reported"),
        (HEAD + GOOD.replace("reported", "failed"), "its status failed"),
        (HEAD + GOOD.replace("reported", "x"), "status must be one of"),
        (HEAD + GOOD + GOOD.replace("https://example.org", ""), "line 3: source is empty"),
        (HEAD + "lra-2020,Local\n", "it must have 11 values"),
        (HEAD + GOOD.replace("\n", ",more\n"), "it must have 11 values"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "published.csv").write_text(content)
    with pytest.raises(UserError, match=why) as caught:
        read_published(tmp_path / "published.csv", read_board())
    assert "published.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_published(tmp_path / "none.csv", read_board())


def block(text: str, protocol: str) -> str:
    return text.split(f"\n### {protocol}\n")[1].split("\n###")[0]


def test_ours_stand_beside_theirs_only_under_the_same_protocol(tmp_path: Path) -> None:
    large = GOOD.replace("lra-2020", "large-model").replace("Local", "Large")
    (tmp_path / "published.csv").write_text(HEAD + GOOD + large)
    text, _, _ = published(
        tmp_path,
        make(0, 700, setting="lra2020"),
        make(1, 740, setting="lra2020"),
        make(0, 800, setting="cpu", model="other_setting"),
        make(0, 820, setting="lra2020", changes={"train.num_steps": 9}, model="other_steps"),
        make(0, 840, setting="lra2020", model="other_data", task="text", data=told("x", note="y")),
    )
    own = block(text, "lra-2020")
    ours = [line for line in own.splitlines() if "(ours)" in line]
    assert len(ours) == 1
    assert "transformer (ours)" in ours[0]
    assert "36.00 ± 1.41" in ours[0]
    assert "| Local " in own
    assert "15.82 ± 0.10" in own
    assert "1. A paper (2020): https://example.org; alone" in own
    assert "(ours)" not in block(text, "large-model")


def test_without_the_file_nothing_is_said(tmp_path: Path) -> None:
    text, _, _ = published(tmp_path, make())
    assert "Published" not in text
