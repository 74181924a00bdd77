"""What docs/settings.md says of updates and batches is what the files say."""

from __future__ import annotations

import re
from pathlib import Path

from lra_bench.compose import compose
from lra_bench.words import options

PAGE = Path(__file__).parents[1] / "docs/settings.md"
SETTINGS = ("cpu", "small", "lra2020", "s4")


def rows() -> dict[str, list[str]]:
    """Return the cells of the table of updates and batches, by task."""
    table = PAGE.read_text(encoding="utf-8").split("Updates and batch by task:")[1]
    cells: dict[str, list[str]] = {}
    for line in table.strip().splitlines()[2:]:
        if not line.startswith("|"):
            break
        names, *row = (cell.strip() for cell in line.strip("|").split("|"))
        cells |= {name: row for name in re.findall(r"`(\w+)`", names)}
    return cells


def test_the_table_of_updates_and_batches_has_every_task() -> None:
    assert set(rows()) == set(options("task"))


def test_the_table_says_what_the_files_say() -> None:
    for task, row in rows().items():
        for setting, cell in zip(SETTINGS, row, strict=True):
            found = re.match(r"([\d,]+) of (\d+)", cell)
            assert found is not None, (task, setting, cell)
            train = compose(
                [f"task={task}", f"setting={setting}", "model=transformer"]
            ).config.train
            said = int(found[1].replace(",", "")), int(found[2])
            assert said == (train.num_steps, train.batch_size), (task, setting)


def test_both_stages_of_self_pretraining_are_what_the_files_say() -> None:
    section = PAGE.read_text(encoding="utf-8").split("Updates of each stage:")[1]
    lines = [line for line in section.split("## ")[0].splitlines() if " of 32 at " in line]
    told = []
    for line in lines:
        names, *stages = (cell.strip() for cell in line.strip("|").split("|"))
        for task in re.findall(r"`(\w+)`", names):
            told.append(task)
            for objective, stage in zip(("denoising", "cross_entropy"), stages, strict=True):
                words = ["setting=spt", "model=transformer", f"objective={objective}"]
                train = compose([f"task={task}", *words]).config.train
                said = f"{train.num_steps:,} of {train.batch_size} at {train.learning_rate}"
                assert stage == said, (task, objective)
    files = (PAGE.parents[1] / "conf/setting/spt").glob("*.yaml")
    assert sorted(told) == sorted(path.stem for path in files)
