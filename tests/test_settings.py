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
