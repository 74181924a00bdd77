"""What papers print: every row has a source, and its ratio is what it prints."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lra_bench.errors import UserError
from lra_bench.paths import conf_dir
from lra_bench.speed.published import read_published
from lra_bench.words import options

SHIPPED = conf_dir() / "board/published_speed.csv"


def test_every_shipped_row_has_a_source_and_a_model_that_exists() -> None:
    rows = read_published()
    assert len(rows) > 100
    tasks = {*options("task"), "all"}
    for row in rows:
        assert row.source.startswith(("arXiv ", "Skyformer (arXiv", "facebookresearch/xformers "))
        assert row.model in {"", *options("model")}, row
        assert row.task in tasks


def test_ratios_are_those_of_the_printed_figures() -> None:
    """Of the table that everybody cites, recomputed: steps a second and GB of each length."""
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if "2011.04006, table 2" in row["source"]]
    printed = {row["length"]: row for row in rows if row["model"] == "transformer"}
    assert set(printed) == {"1000", "2000", "3000", "4000"}
    checked = 0
    for row in rows:
        if not row["printed_speed"]:
            continue
        for ratio, text in (
            ("train_speed_ratio", "printed_speed"),
            ("memory_ratio", "printed_memory"),
        ):
            own, theirs = (float(of[text].split()[0]) for of in (row, printed[row["length"]]))
            assert float(row[ratio]) == pytest.approx(own / theirs, rel=1e-3)
            checked += 1
    assert checked == 72


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("model,name", "name,model"), "must have the columns"),
        (("arXiv", ""), "needs a name, a task and a source"),
        (("text", "text,more"), "must have 13 columns"),
        (("1000", "long"), "invalid literal"),
        (("1.136", "0"), "must be positive"),
        (("1.136", "nan"), "must be positive"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_file_is_one_clear_line(
    change: tuple[str, str], expected: str, tmp_path: Path
) -> None:
    header = SHIPPED.read_text(encoding="utf-8").splitlines()[0]
    row = "local,Local,text,1000,1.136,0.4941,9.2 steps/s,0.42 GB,32,a TPU,arXiv,2020,"
    path = tmp_path / "published.csv"
    path.write_text(f"{header}\n{row}\n")
    assert read_published(path)[0].train_speed_ratio == 1.136
    path.write_text(f"{header}\n{row}\n".replace(*change, 1))
    with pytest.raises(UserError, match=expected):
        read_published(path)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot be read"):
        read_published(path)
