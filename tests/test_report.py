"""One record as people read it, and two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_records import CONFIG, begun, counted, make, make_pretrained, told

from lra_bench import report
from lra_bench.console import Screen

SCREEN = Screen(encoding="ascii")
CURVE: list[dict[str, Any]] = [
    {"step": step, "validation_accuracy": accuracy, "train_loss": 1.0}
    for step, accuracy in ((10, 0.25), (20, 0.5), (30, 0.36))
]


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_a_record_is_shown_with_all_that_is_needed_to_trust_it() -> None:
    record = make(
        changes={"model.mixer.block_size": 64},
        command="lra-bench run task=listops",
        curve=CURVE,
        git_commit="a" * 40,
        git_dirty=True,
        best_step=20,
        num_steps=30,
        versions={"torch": "2.13.0"},
    )
    text = words_of(report.one(record, Path("a/b.json"), SCREEN))
    for expected in (
        "transformer(block_size=64) on listops, setting cpu, seed 0: completed",
        f"run {record.run_id} record a/b.json command lra-bench run task=listops",
        "accuracy on test 35.00% accuracy on validation 36.00%",
        "standard error, test split 1.07% (2,000 examples)",
        "most frequent answer 17.00% best of validation step 20 of 30",
        "training 1m 02s tokens/s 1,000 memory [MB] 1,000 parameters 205,258 passes a step 1",
        "source generated, seed 0 SHA-256 0123456789abcdef",
        "commit aaaaaaaaaaaa, with uncommitted changes",
        "torch 2.13.0",
        "model.mixer.block_size 64",
        "(bars from 25.00% to 50.00%) step accuracy 10 25.00% # 20 50.00%",
    ):
        assert expected in text


def test_a_run_without_a_result_says_why() -> None:
    text = report.one(make(status="diverged", error="the loss was nan"), Path("x"), SCREEN)
    assert "seed 0: diverged" in text
    assert "error                 the loss was nan" in text
    assert "accuracy on test" not in text


def test_two_records_are_shown_by_what_differs() -> None:
    other = {**CONFIG, "train": {"learning_rate": 0.01, "num_steps": 200}}
    second = make(1, 720, config=other, train_seconds=123.0, git_commit="b" * 40, curve=CURVE[:2])
    text = words_of(report.two(make(curve=CURVE), second, SCREEN))
    for expected in (
        "A transformer on listops, setting cpu, seed 0: completed B transformer on listops",
        "accuracy on test 35.00% 36.00%",
        "training 1m 02s 2m 03s x 2.00",
        "data: the same",
        "commit unknown bbbbbbbbbbbb",
        "configuration A B train.learning_rate 0.001 0.01",
        "B less A: +1.00 points accuracy on test.",
        "That is within two standard errors of sampling the test split (3.03 points)",
        "20 50.00% ######################## 50.00% ######################## 30 36.00%",
    ):
        assert expected in text
    assert "!" not in text
    assert "num_steps" not in text


PARENT = make_pretrained(command="lra-bench run objective=denoising keep_weights=true")


def test_a_record_says_what_it_began_from_and_what_both_cost() -> None:
    record = begun(PARENT, num_steps=200)
    text = words_of(report.one(record, Path("x"), SCREEN))
    assert "setting cpu + denoising, seed 0: completed" in text
    assert (
        f"began from what denoising updates in all 1,200 training in all 6m 02s its run "
        f"{PARENT.run_id} its updates 1,000 its training 5m 00s its positions as they were "
        f"its weights, SHA-256 {'0' * 16} its command {PARENT.command} keep_weights=true data"
    ) in text
    shown = words_of(report.one(PARENT, Path("x"), SCREEN))
    assert "began from" not in shown
    assert "frequencies alone 2.5000" in shown


def test_a_pretrained_run_and_one_from_scratch_are_held_against_each_other_by_all_they_cost() -> (
    None
):
    scratch = make(num_steps=1200, train_seconds=723.0)
    text = words_of(report.two(scratch, begun(PARENT, num_steps=200), SCREEN))
    assert "! not the same setting: tables never mix the two" in text
    assert "began from A B what fresh weights denoising updates in all 1,200 1,200 x 1.00" in text
    assert f"training in all 12m 03s 6m 02s x 0.50 its run - {PARENT.run_id}" in text
    assert "in all" not in report.two(scratch, make(), SCREEN)


def test_what_cannot_be_compared_is_said() -> None:
    first = make()
    changed: list[tuple[dict[str, Any], str]] = [
        ({"task": "text"}, "not the same task"),
        ({"data_sha256": "f" * 64}, "not the same data"),
        ({"setting": "small"}, "not the same setting"),
        ({"device": "another"}, "not the same hardware"),
    ]
    for fields, expected in changed:
        assert f"! {expected}" in report.two(first, make(**fields), SCREEN)
    text = report.two(first, make(data_sha256="f" * 64), SCREEN)
    assert "That says nothing" in text
    failed = report.two(first, make(status="failed"), SCREEN)
    assert "B less A" not in failed


def test_a_large_difference_is_beyond_the_noise_of_the_test_split() -> None:
    assert "That is beyond two standard errors" in report.two(make(), make(1, 1400), SCREEN)
    loss: dict[str, Any] = {"ranking_metric": "loss"}
    text = report.two(make(**loss), make(1, test=counted(7, loss=20.0), **loss), SCREEN)
    assert "B less A: +0.0047 loss on test." in text
    assert "standard errors" not in text


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    curve = [{"step": step, "validation_accuracy": step / 1000} for step in range(1, 501)]
    lines = report.one(make(curve=curve), Path("x"), SCREEN).split("was learned")[1].splitlines()
    assert len(lines) <= 23
    assert lines[-1].split()[:2] == ["500", "50.00%"]


@pytest.mark.parametrize("row", [{}, {"step": "x"}, {"step": 1, "validation_accuracy": None}])
def test_a_curve_without_numbers_is_left_out(row: dict[str, Any]) -> None:
    assert "was learned" not in report.one(make(curve=[row]), Path("x"), SCREEN)


def test_no_name_acts_on_the_terminal() -> None:
    hostile = "\x1b[2J\u202e"
    record = make(model=hostile, data=told(hostile), device=hostile, command=hostile)
    for text in (report.one(record, Path(hostile), SCREEN), report.two(record, record, SCREEN)):
        assert "\x1b" not in text
        assert "\u202e" not in text
