"""The page as a file: what is in it, how large it is, and that nothing in it is obeyed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_up_records import begun, make, make_pretrained, published, tables_of, told

from lra_bench import leaderboard
from lra_bench.leaderboard.board import read_board
from lra_bench.leaderboard.page import page
from lra_bench.record import RunRecord

CURVE = [{"step": 10 * step, "validation_accuracy": step / 100} for step in range(1, 21)]


def content_of(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found)


def made_page(*made: RunRecord, **options: Any) -> str:
    board = read_board()
    options = {"results_dirs": [Path("results")], "out": Path("results"), **options}
    return page(tables_of(*made, board=board), [], board, **options)


def test_it_holds_the_runs_behind_a_number(tmp_path: Path) -> None:
    command = "lra-bench run task=listops seed={}"
    made = [make(seed, 700 + seed, command=command.format(seed), curve=CURVE) for seed in range(2)]
    published(tmp_path, *made, make(2, status="diverged", error="nan", command="other"))
    content = content_of((tmp_path / "out/leaderboard.html").read_text())
    (setting,) = content["settings"]
    (cell,) = setting["cells"]
    assert (cell["mean"], cell["completed"], cell["number"]) == (0.35025, 2, 3)
    assert cell["folder"] == "../runs/cpu/listops/transformer"
    assert cell["command"] == "lra-bench run task=listops "
    seeds = [run[0] for run in cell["runs"]]
    assert seeds == [0, 1, 2]
    assert cell["runs"][0][1:6] == ["completed", None, 0.35, 0.36, 61.5]
    # What its cell does not say stands with the run.
    assert len(cell["runs"][0]) == 7
    assert cell["runs"][2][7] == "other"
    assert cell["steps"] == [10 * step for step in range(1, 21)]
    assert cell["curves"] == [[seed, [step / 100 for step in range(1, 21)]] for seed in range(2)]
    assert content["summary"] == "3 runs, 1 model, 1 task, 1 setting"


def test_families_are_named_by_the_plain_name() -> None:
    made = [make(changes={"model.x": 1}), make(model="local")]
    content = content_of(made_page(*made, families={"transformer": "dense"}))
    assert content["families"] == ["dense"]
    families = {cell["model"]: cell["family"] for cell in content["settings"][0]["cells"]}
    assert families == {"transformer(x=1)": "dense", "local": ""}
    assert content_of(made_page(*made))["families"] == []


def test_nothing_in_the_data_ends_their_element() -> None:
    name = "</script><script>alert(1)</script><!--&{{script}}"
    text = made_page(make(model=name, device=name, data=told(name, note=name), command=name))
    assert text.count("</script>") == 2
    assert "<script>alert" not in text
    assert "<!--" not in text
    assert content_of(text)["settings"][0]["cells"][0]["model"] == name


def test_it_asks_for_nothing_from_anywhere() -> None:
    text = made_page(make())
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    without_data = text.split('id="data"')[0] + text.split("</script>")[1]
    # The name of a language of pictures, which nobody fetches.
    assert set(re.findall(r"https?://[^\s\"']+", without_data)) == {"http://www.w3.org/2000/svg"}


def test_an_empty_board_is_a_page(tmp_path: Path) -> None:
    published(tmp_path)
    content = content_of((tmp_path / "out/leaderboard.html").read_text())
    assert (content["settings"], content["legend"]) == ([], [])


@pytest.mark.parametrize("num_points", [20, 200])
def test_a_full_board_stays_below_a_megabyte(num_points: int) -> None:
    curve = [
        {"step": 500 * step, "validation_accuracy": round(step / 7 % 1, 4)}
        for step in range(1, num_points + 1)
    ]
    # Twenty models on six tasks with five seeds are 600 runs, of which a board has three settings:
    # a third of it has to stay below a third.
    made = [
        make(
            seed,
            700 + 10 * model + seed,
            model=f"a_long_model_name_{model}",
            task=task,
            curve=curve,
            command=f"lra-bench run setting=cpu task={task} model=a_long_model_name_{model} "
            f"objective=cross_entropy seed={seed}",
        )
        for model in range(20)
        for task in ("listops", "text", "retrieval", "image", "pathfinder", "pathx")
        for seed in range(5)
    ]
    text = made_page(*made)
    cell = content_of(text)["settings"][0]["cells"][0]
    assert len(text) < 400_000
    assert len(cell["curves"][0][1]) >= 15
    # However it is thinned out, the last point stays.
    assert cell["steps"][-1] == 500 * num_points


def test_the_shipped_page_leads_to_the_shipped_records() -> None:
    shipped = Path(leaderboard.__file__).parents[2] / "results"
    content = content_of((shipped / "leaderboard.html").read_text())
    cells = content["settings"][0]["cells"]
    assert len(cells) == 5
    for cell in cells:
        for run in cell["runs"]:
            assert (shipped / cell["folder"] / run[6]).is_file()


def test_pretraining_is_told_apart_and_paid_for() -> None:
    parent = make_pretrained()
    made = [parent, make(), *(begun(parent, seed, 700 + seed) for seed in range(2))]
    content = content_of(made_page(*made))
    plain, pretrained = content["settings"]
    assert [task.get("pretraining") for task in plain["tasks"]] == [None, True]
    assert plain["tasks"][1]["title"] == "listops, denoising"
    (cell,) = pretrained["cells"]
    wanted = {"pretrainings": 1, "pretraining_seconds": 300, "total_steps": 1200}
    assert {name: cell[name] for name in wanted} == wanted
    assert cell["total_seconds"] == 361.5
    assert "total_steps" not in plain["cells"][0]
    (table,) = content["equal_cost"]
    assert table["name"] == "cpu + denoising"
    assert table["rows"][0][:3] == ["transformer", "listops", "1,200"]
