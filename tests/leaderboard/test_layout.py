"""Tables as people read them."""

from __future__ import annotations

from pathlib import Path

from made_up_records import counted, make, overview_of, published, two_classes


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    text, _, _ = published(tmp_path, make(0, 700))
    assert "35.00 |" in text
    tables = text.split("Accuracy: mean")[0]
    assert "±" not in tables
    assert "1 seed |" in tables


def test_a_cell_without_a_result_is_shown(tmp_path: Path) -> None:
    failed = make(0, status="failed", model="local")
    text, _, _ = published(tmp_path, failed, make(1, 700))
    assert "local" in text
    assert "none" in text


def test_shares_are_in_percent_and_other_metrics_are_not(tmp_path: Path) -> None:
    of = two_classes(40, 10, 10, 40)
    text, _, _ = published(
        tmp_path,
        make(task="a", test=of, validation=of, ranking_metric="f1_of_1", majority_baseline=0.25),
        make(0, task="b", ranking_metric="loss", majority_baseline=None),
        make(1, task="b", ranking_metric="loss", test=counted(7, loss=21.0), majority_baseline=1.5),
    )
    by_task = {section.split("\n")[0]: section for section in text.split("### ")[1:]}
    assert "|   F1 of class 1 [%] |" in by_task["a"]
    assert "80.00 |" in by_task["a"]
    assert "Always answering the most frequent class: 25.00%." in by_task["a"]
    assert "|   loss |" in " ".join(by_task["b"].split("seeds")[0].split(" " * 10))
    assert "0.0079 ± 0.0037 |" in by_task["b"]
    assert "Always stating how frequent each class is: 1.5000." in by_task["b"]
    metrics_of = "Metric of a: F1 of class 1 [%]; of b: loss."
    assert overview_of(text)[-2].endswith(metrics_of)
    legend = text.splitlines()[-1]
    assert "test F1 of class 1 [%], each run" in legend
    assert "test loss, lower is better, each run" in legend
    assert "within two standard errors (F1 of class 1, loss: no better at all)." in legend


def rows_of(text: str, start: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| {start}")
    ]


def test_a_table_says_how_sure_it_is(tmp_path: Path) -> None:
    text, _, _ = published(
        tmp_path,
        *(make(seed, 1400 + seed, model="good", task=task) for seed in range(3) for task in "ab"),
        *(make(seed, 700 + seed, model="poor", task=task) for seed in range(3) for task in "ab"),
    )
    overview, first, *_ = rows_of(text, "good")
    assert overview == ["good", "**70.05 ± 0.05**", "**70.05 ± 0.05**"]
    assert first[:4] == ["good", "**70.05 ± 0.05**", "69.93 to 70.17", "3"]
    assert "3 seeds a cell." in text
    assert "good is better than all others beyond the noise." in text
    assert "Test split: 2,000 examples; sampling them alone has a standard error of 1.02" in text


def test_what_is_not_told_apart_is_named(tmp_path: Path) -> None:
    others = [make(0, 1380, model=f"near{number}") for number in range(8)]
    text, _, _ = published(tmp_path, make(0, 1400), make(0, 700, model="far"), *others)
    names = ", ".join(f"near{number}" for number in range(5))
    assert "**" not in text
    assert (
        f"transformer leads; it is not told apart from far (one seed, so no test over seeds); "
        f"{names}, near5 and 2 more (within the sampling error of the test split)." in text
    )


def test_seeds_that_failed_are_seen_in_the_overview(tmp_path: Path) -> None:
    text, _, _ = published(
        tmp_path,
        *(make(0, task="a"), make(1, task="a", status="diverged"), make(2, 720, task="a")),
        make(0, task="b"),
    )
    overview, *_ = rows_of(text, "transformer")
    assert overview == ["transformer", "35.50 ± 0.71 (2 of 3)", "35.00 (1)"]
    assert "In parentheses: seeds that completed, of those that were begun." in text


def test_a_result_that_is_no_better_than_chance_says_so(tmp_path: Path) -> None:
    text, _, _ = published(tmp_path, make(0, 345, task="a"), make(0, 700, task="b"))
    assert rows_of(text, "transformer")[0] == ["transformer", "17.25 (at baseline)", "35.00"]


def test_hardware_has_letters_where_there_is_more_than_one_kind(tmp_path: Path) -> None:
    text, _, _ = published(tmp_path, make(device="big"), make(model="local", device="old"))
    assert rows_of(text, "transformer")[0][-1] == "A"
    assert rows_of(text, "local")[0][-1] == "B"
    assert "Time, rate and memory are comparable within one kind of hardware." in text
    assert "Measured on: A: big; B: old." in text


def test_diagnostic_tasks_have_a_table_of_their_own(tmp_path: Path) -> None:
    made = [make(task=task) for task in ("listops", "text", "needle", "recall")]
    text, _, _ = published(tmp_path, *made)
    overview, diagnostics = text.split("### Diagnostic tasks, which enter no average\n")
    assert "needle" not in overview
    header = next(line for line in diagnostics.splitlines() if line.startswith("| model"))
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["model", "needle", "recall"]
