"""Pretraining in the tables: apart from results, counted as one where it is shared, paid for."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from made_up_records import (
    CONFIG,
    begun,
    counted,
    make,
    make_pretrained,
    overview_of,
    published,
    tables_of,
)

from lra_bench.leaderboard.board import read_board
from lra_bench.leaderboard.latex import latex
from lra_bench.leaderboard.layout import sections
from lra_bench.leaderboard.layout_equal_cost import equal_cost_sections
from lra_bench.leaderboard.markdown import markdown
from lra_bench.leaderboard.pictures import pictures
from lra_bench.leaderboard.ranks import ranks_of
from lra_bench.record import RunRecord

FIVE = ("listops", "text", "retrieval", "image", "pathfinder")
CURVE = [{"step": 10 * step, "validation_loss": 2.0 - step / 10} for step in range(1, 5)]


def with_length(num_steps: int, **train: Any) -> dict[str, Any]:
    """Return fields of a record that made so many updates, unlike its setting says."""
    changes = {"train.num_steps": num_steps, **{f"train.{key}": of for key, of in train.items()}}
    return {
        "config": {**CONFIG, "train": {**CONFIG["train"], "num_steps": num_steps, **train}},
        "changes": changes,
        "num_steps": num_steps,
    }


def rows_of(text: str, start: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| {start}")
    ]


def test_pretraining_leaves_the_tables_of_its_task_as_they_were() -> None:
    results = [
        make(seed, 1000, task=task, model=m) for task in FIVE for seed in range(2) for m in "ab"
    ]
    before = tables_of(*results, board=read_board())
    hidden = [make_pretrained(seed, task="image", model="c") for seed in range(2)]
    shared: dict[str, Any] = {"changes": {"objective.share": 0.3}}
    hidden += [make_pretrained(0, task=task, model="a", **shared) for task in ("image", "needle")]
    after = tables_of(*results, *hidden, board=read_board())
    ours = after.cells[~after.cells["is_pretraining"]].reset_index(drop=True)
    assert ours.equals(before.cells.astype(ours.dtypes))
    assert after.averages.equals(before.averages)
    assert after.barred.equals(before.barred)
    assert {*after.averages["method"]} == {"a", "b"}
    assert [rank.method for rank in ranks_of(after.cells)[0]] == ["a", "b"]
    theirs = after.cells[after.cells["is_pretraining"]]
    assert dict(zip(theirs["title"], theirs["method"], strict=True)) == {
        "image, denoising": "c",
        "image, denoising(share=0.3)": "a",
        "needle, denoising(share=0.3)": "a",
    }
    text = markdown(sections(after))
    overview, own = text.split("### Pretraining, which is no result on a task\n")
    assert "denoising" not in overview.split("### ")[0]
    assert "### Diagnostic" not in text
    assert rows_of(own, "model")[0] == ["model", *sorted(theirs["title"])]
    assert rows_of(own, "c ")[0] == ["c", "1.5000 ± 0.0000 (2)", "", ""]
    assert text.index("\n### pathfinder\n") < text.index("\n### image, denoising\n")
    assert "**" not in own
    assert "Metric of image, denoising: loss; of image, denoising(share=0.3): loss;" in own


def test_data_and_metrics_are_named_for_each_question_alone() -> None:
    bits = counted(900, loss=3000, bytes=2000)
    made = [make(task="text"), make_pretrained(task="text")]
    made += [make_pretrained(model="b", task="text", test=bits, ranking_metric="accuracy")]
    titles = set(tables_of(*made, board=read_board()).cells["title"])
    assert titles == {"text", "text, denoising by accuracy", "text, denoising by loss"}


def test_every_format_has_it(tmp_path: Path) -> None:
    parent = make_pretrained(curve=CURVE)
    _, text_csv, code = published(tmp_path, parent, begun(parent), make())
    assert code == 0
    rows = {
        (row["setting"], row["objective"]): row for row in csv.DictReader(text_csv.splitlines())
    }
    own = rows["cpu + denoising", "cross_entropy"]
    assert own["is_pretraining"] == "False"
    assert rows["cpu", "denoising"]["is_pretraining"] == "True"
    assert rows["cpu", "cross_entropy"]["total_steps"] == ""
    numbers = ("num_pretrainings", "pretraining_steps", "num_steps", "total_steps")
    assert [float(own[name]) for name in numbers] == [1, 1000, 200, 1200]
    assert float(own["pretraining_seconds_mean"]) == 300
    assert float(own["total_train_seconds_mean"]) == 361.5
    content = json.loads((tmp_path / "out/leaderboard.json").read_text())
    (cell,) = [cell for cell in content["cells"] if cell["setting"] == "cpu + denoising"]
    assert [cell[name] for name in numbers] == [1, 1000, 200, 1200]
    assert isinstance(cell["total_steps"], int)
    assert cell["runs"][0]["parent"] == parent.run_id
    (pair,) = content["equal_cost"]
    assert (pair["setting"], pair["total_steps"]) == ("cpu + denoising", 1200)
    text = (tmp_path / "out/leaderboard.tex").read_text()
    for caption in (
        "Setting cpu: Pretraining, which",
        "Setting cpu: listops, denoising",
        "At equal",
    ):
        assert rf"\caption{{{caption}" in text


def test_without_any_no_table_knows_of_it(tmp_path: Path) -> None:
    text, text_csv, _ = published(tmp_path, make(), make(model="local"))
    assert "retraining" not in text
    assert "At equal total cost" not in text
    header = text_csv.splitlines()[0]
    assert "pretraining" not in header
    assert "num_steps" not in header
    page = (tmp_path / "out/leaderboard.html").read_text().split('id="data">')[1]
    assert "retraining" not in page.split("</script>")[0]


def test_runs_of_one_pretraining_are_one_try() -> None:
    alone, parents = make_pretrained(7), [make_pretrained(seed, model="b") for seed in range(3)]
    made = [begun(alone, seed, 1400 + 20 * seed) for seed in range(5)]
    made += [begun(of, seed, 700 + 10 * seed, model="b") for of in parents for seed in (0, 1)]
    tables = tables_of(*made, board=read_board())
    cells = tables.cells.set_index("model")
    first, second = cells.loc["transformer"], cells.loc["b"]
    assert (first["num_completed"], first["num_pretrainings"]) == (5, 1)
    # No interval, and nothing bold, however far it is ahead.
    assert first[["test_std", "test_low", "test_high"]].isna().all()
    assert first["test_std_of_runs"] == pytest.approx(0.0158, abs=1e-4)
    assert not cells["is_best"].any()
    assert first["not_beaten"] == {"b": "one pretraining"}
    # Three pretrainings whose runs have the same mean: nothing varies.
    assert (second["num_completed"], second["num_pretrainings"]) == (6, 3)
    assert (second["test_mean"], second["test_std"]) == pytest.approx((0.3525, 0.0))
    assert (second["test_min"], second["test_max"]) == (0.35, 0.355)
    text = markdown(sections(tables))
    (row,) = rows_of(text, "transformer")
    assert row[1:4] == ["72.00", "1 pretraining", "5 (1 pretraining)"]
    assert row[7:12] == ["1m 02s", "1", "5m 00s", "1,200", "6m 02s"]
    (row,) = rows_of(text, "b ")
    assert row[3] == "6 (3 pretrainings)"
    assert (
        "transformer leads; it is not told apart from b (one pretraining, so no test over "
        "pretrainings)." in text
    )
    assert (
        "transformer: its 5 runs share 1 pretraining; over the runs the standard deviation is "
        "1.58, and how much another pretraining would change is not known." in text
    )
    assert "b: its 6 runs share 3 pretrainings, over which deviation, interval and tests" in text


def test_a_mean_is_over_pretrainings_however_many_runs_each_has() -> None:
    parents = [make_pretrained(seed) for seed in (4, 9)]
    made = [begun(parents[0], seed, 1000) for seed in range(3)] + [begun(parents[1], 3, 600)]
    (cell,) = tables_of(*made).cells.to_dict("records")
    assert cell["test_mean"] == pytest.approx(0.4)
    assert cell["test_std"] == pytest.approx(0.1 * 2**0.5)
    assert cell["test_low"] < 0 < 1 < cell["test_high"]


def test_a_pretraining_for_each_seed_is_as_good_as_a_seed() -> None:
    good = [begun(make_pretrained(seed), seed, 1400 + seed) for seed in range(4)]
    poor = [begun(make_pretrained(seed, model="b"), seed, 700, model="b") for seed in range(4)]
    tables = tables_of(*good, *poor, board=read_board())
    plain = tables_of(
        *(make(seed, 1400 + seed) for seed in range(4)),
        *(make(seed, 700, model="b") for seed in range(4)),
    )
    for name in ("test_mean", "test_std", "test_low", "test_high", "is_best"):
        assert tables.cells[name].equals(plain.cells[name]), name
    assert "share" not in markdown(sections(tables))


def test_an_overview_says_where_runs_share_one() -> None:
    made = []
    for task in ("listops", "text"):
        parent = make_pretrained(task=task)
        made += [begun(parent, seed, 700, task=task) for seed in range(2)]
    made += [begun(make_pretrained(task="text", model="b"), 0, task="text", model="b")]
    text = markdown(sections(tables_of(*made, board=read_board())))
    assert rows_of(text, "transformer")[0][1:] == ["35.00 (2, 1 pretraining)"] * 2
    assert rows_of(text, "b ")[0][1:] == ["", "35.00 (1)"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (with_length(9), "differ in pretraining.config_sha256"),
        ({"num_steps": 900}, "differ in pretraining.num_steps"),
        ({"data_sha256": "f" * 64}, "differ in pretraining.run_id, for other data"),
    ],
)
def test_runs_of_unlike_pretrainings_are_no_cell(fields: dict[str, Any], why: str) -> None:
    first, second = begun(make_pretrained(0), 0), begun(make_pretrained(1, **fields), 1)
    assert first.pretraining is not None
    assert second.pretraining is not None
    # Two that the label does not tell apart, as those of a file that somebody has edited.
    alike = {**second.pretraining, "label": first.pretraining["label"]}
    tables = tables_of(first, make(1, parent=second.parent, pretraining=alike))
    (complaint,) = tables.complaints
    assert why in complaint
    assert tables.cells.empty


def test_the_same_seed_of_pretraining_twice_is_refused() -> None:
    first, second = begun(make_pretrained(0), 0), begun(make_pretrained(1), 1)
    twin = make(1, parent=second.parent, pretraining={**(second.pretraining or {}), "seed": 0})
    (complaint,) = tables_of(first, twin).complaints
    assert "pretraining.run_id, for the same seed of pretraining" in complaint


def equal_cost(*made: RunRecord) -> str:
    return markdown(equal_cost_sections(tables_of(*made, board=read_board())))


def test_at_equal_total_cost_pretrained_and_from_scratch_stand_side_by_side() -> None:
    parents = [make_pretrained(seed) for seed in range(2)]
    made = [begun(of, seed, 1000, **with_length(500)) for seed, of in enumerate(parents)]
    made += [make(seed, 800, train_seconds=400.0, **with_length(1500)) for seed in range(2)]
    # As long as fine-tuning alone, longer, with another rate: not what it is compared with.
    made += [make(0, 1999, **with_length(500)), make(0, 1998, **with_length(1501))]
    made += [make(0, 1997, **with_length(1500, learning_rate=0.5))]
    made += [make(0, 1996, model="local", **with_length(1500))]
    text = equal_cost(*made)
    assert "\n## At equal total cost\n" in f"\n{text}"
    assert "### cpu(train.num_steps=500) + denoising(" in text
    head, row = (rows_of(text, start)[0] for start in ("model", "transformer"))
    assert head[2:6] == ["total updates", "from scratch", "its time", "pretrained"]
    assert row == [
        *("transformer", "listops", "1,500", "40.00 ± 0.00 (2)", "6m 40s"),
        *("50.00 ± 0.00 (2)", "1,000", "6m 02s"),
    ]
    assert "From scratch: setting cpu(train.num_steps=1500)." in text
    assert "Missing" not in text
    assert all(number not in text for number in ("99.9", "99.8"))


def test_the_length_of_a_setting_counts_as_any_other() -> None:
    parent = make_pretrained(num_steps=150)
    made = [begun(parent, **with_length(50)), make(0, 800)]
    assert rows_of(equal_cost(*made), "transformer")[0][3] == "40.00 (1)"


@pytest.mark.parametrize(
    ("seeds", "begins", "ends"),
    [([3], "lra-bench run ", "seed=3"), ([0, 2], "lra-bench run -m ", "seed=0,2")],
)
def test_what_is_missing_from_scratch_is_one_command(
    seeds: list[int], begins: str, ends: str
) -> None:
    parent = make_pretrained()
    own = "setting=cpu task=listops 'model.x=a b'"
    began = "lra-bench run {} train.num_steps=200 init_from=x init_positions=tile seed={}"
    made = [begun(parent, seed, command=began.format(own, seed)) for seed in seeds]
    (_, table) = equal_cost_sections(tables_of(*made, board=read_board()))
    expected = f"{begins}{own} train.num_steps=1200 {ends}"
    assert table.items == [f"transformer on listops: {expected}"]
    assert table.notes[-1].text == "Missing from scratch, and what makes it:"
    assert [entry.text for entry in table.rows[0]][3:5] == ["", ""]


@pytest.mark.parametrize("command", ["", "rm -rf / seed=0", "lra-bench run 'x"])
def test_a_command_that_is_none_is_not_given(command: str) -> None:
    text = equal_cost(begun(make_pretrained(), command=command))
    assert text.rstrip().endswith("1. transformer on listops: its command is not known")


def test_a_second_stage_of_pretraining_is_no_result() -> None:
    first = make_pretrained()
    stage: dict[str, Any] = {"objective": "denoising", "ranking_metric": "loss", "num_steps": 500}
    stage["weights_sha256"] = "a" * 64
    second = begun(first, test=counted(900, loss=1000.0), train_seconds=100.0, **stage)
    last = begun(second, 0, 900)
    tables = tables_of(first, second, last, board=read_board())
    assert list(tables.equal_cost["total_steps"]) == [1700]
    (cell,) = tables.cells[tables.cells["total_steps"] == 1700].to_dict("records")
    assert cell["pretraining_seconds_mean"] == 400
    assert tables.cells["is_pretraining"].sum() == 2


HEAD = "protocol,model,year,task,accuracy,std,status,parameters,source,source_title,note\n"


def test_ours_stand_beside_self_pretraining_only_if_pretrained_so(tmp_path: Path) -> None:
    row = "self-pretrain,Theirs,2023,listops,59.15,,reported,,https://example.org,A paper,\n"
    (tmp_path / "published.csv").write_text(HEAD + row + row.replace("self-pretrain", "lra-2020"))
    parent = make_pretrained(setting="spt")
    other = make_pretrained(setting="spt", changes={"objective.share": 0.3})
    text, _, _ = published(
        tmp_path,
        *(parent, other),
        begun(parent, 0, 700, setting="spt"),
        begun(other, 0, 800, setting="spt"),
        make(0, 900, setting="spt"),
        begun(parent, 0, 1000, setting="cpu"),
        begun(parent, 0, 1100, setting="spt", **with_length(9)),
        make(0, 1200, setting="lra2020"),
    )
    for protocol, number in (("self-pretrain", "35.00"), ("lra-2020", "60.00")):
        block = text.split(f"\n### {protocol}\n")[1].split("\n###")[0]
        ours = [line for line in block.splitlines() if "(ours)" in line]
        assert len(ours) == 1
        assert number in ours[0]


def test_pictures_count_pretraining_as_cost() -> None:
    parent = make_pretrained(curve=CURVE)
    made = [parent, make(), *(begun(parent, seed, 700 + seed) for seed in range(2))]
    found = dict(pictures(tables_of(*made, board=read_board())))
    drawn = {name.removesuffix(".svg") for name in found if name.endswith(".svg")}
    assert drawn == {"cpu-cost", "cpu-curves", "cpu_+_denoising-cost"}
    assert dict(pictures(tables_of(*made[::-1], board=read_board()))) == found


def test_a_hostile_command_is_text() -> None:
    command = "lra-bench run '<script>|\x1b[2J' seed=0"
    tables = tables_of(begun(make_pretrained(), command=command), board=read_board())
    for text in (markdown(equal_cost_sections(tables)), latex(equal_cost_sections(tables))):
        assert "\x1b" not in text
        assert "<script" not in text
    assert overview_of(markdown(equal_cost_sections(tables)))[0] == "## At equal total cost"
