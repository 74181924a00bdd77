"""What docs/pretraining.md says of runs is what their records say."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from lra_bench import record as records
from lra_bench.record import RunRecord

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/pretraining.md").read_text(encoding="utf-8")


def shipped() -> list[RunRecord]:
    return [records.read(path) for path in sorted((ROOT / "results/pretraining").rglob("*.json"))]


def result(run: RunRecord) -> float:
    assert run.test is not None
    return run.test[run.ranking_metric]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind some words."""
    table = PAGE.split(heading)[1].split("\n\n")[1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]


def test_lengths_of_denoising() -> None:
    of_image = [run for run in shipped() if run.task == "image"]
    first = {run.num_steps: run for run in of_image if run.objective == "denoising"}
    second = {run.parent: run for run in of_image if run.objective == "cross_entropy"}
    for steps, loss, accuracy in rows("How long must it be?"):
        number = int(steps.replace(",", ""))
        parent = first[number].run_id if number else None
        assert accuracy == f"{100 * result(second[parent]):.2f}"
        assert second[parent].num_steps == 900
        if number:
            assert loss == f"{result(first[number]):.3f}"


def test_equal_total_updates() -> None:
    found = []
    for total, pretrained in ((725, 0), (725, 290), (435, 0)):
        runs = {
            run.seed: result(run)
            for run in shipped()
            if run.task == "hyperpartisan" and run.objective == "cross_entropy"
            if run.num_steps == total - pretrained and (run.parent is not None) == bool(pretrained)
        }
        values = [100 * runs[seed] for seed in (0, 1, 2)]
        spread = f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
        found.append([*(f"{value:.2f}" for value in values), spread])
    assert [row[1:] for row in rows("**At equal total updates**")] == found


def test_every_run_is_there_with_what_it_began_from() -> None:
    ids = {run.run_id: run for run in shipped()}
    for run in ids.values():
        assert run.git_dirty is False
        if run.parent is not None:
            assert run.pretraining is not None
            assert run.pretraining["weights_sha256"] == ids[run.parent].weights_sha256
    assert re.search(r"@@", PAGE) is None
