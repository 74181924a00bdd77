"""What others published on downstream tasks: a file of its own, and the tables made of it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "results/published_downstream.csv"
PAGE = ROOT / "docs/downstream.md"
COLUMNS = ("protocol", "task", "metric", "split", "model", "value", "std", "note", "source")
PROTOCOLS = ("longformer-2020", "bigbird-2020", "rmt-2022", "quoted", "unnamed")

Row = dict[str, str]


def read() -> list[Row]:
    with FILE.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def tables_of(rows: list[Row]) -> str:
    """Return a table for each task: numbers of two metrics, splits or protocols share no column."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        parts += [
            f"### {task}",
            "",
            "| protocol | metric | split | model | value | note | source |",
        ]
        parts.append("| --- | --- | --- | --- | ---: | --- | --- |")
        for row in rows:
            if row["task"] == task:
                value = f"{row['value']} \u00b1 {row['std']}" if row["std"] else row["value"]
                cells = [row[name] for name in ("protocol", "metric", "split", "model")]
                parts.append("| " + " | ".join([*cells, value, row["note"], row["source"]]) + " |")
        parts.append("")
    return "\n".join(parts)


def test_every_number_has_a_source_a_protocol_and_a_split() -> None:
    rows = read()
    assert len(rows) == 100
    for row in rows:
        assert row["protocol"] in PROTOCOLS, row
        assert all(row[name] for name in ("task", "metric", "split", "model", "source")), row
        assert 0 < float(row["value"]) <= 100, row
        assert not row["std"] or 0 < float(row["std"]) < 10, row
        assert not any("|" in value or "\n" in value for value in row.values()), row
    keys = [tuple(row[name] for name in COLUMNS[:5]) for row in rows]
    twice = {key for key in keys if keys.count(key) > 1}
    # Two tables of one paper, with budgets that differ.
    assert all(key[:2] == ("longformer-2020", "wikihop") for key in twice), twice


def test_what_nobody_can_compare_says_so() -> None:
    unnamed = [row for row in read() if row["protocol"] == "unnamed"]
    assert {row["value"] for row in unnamed} == {"92.46", "91.63", "74.67", "71.43"}
    for row in unnamed:
        assert row["task"].startswith("average of")
        assert "comparable with nothing" in row["note"]
    # No average of this repository has a task of these.
    board = (ROOT / "conf/board/lra.yaml").read_text(encoding="utf-8")
    (lists,) = {" ".join(re.findall(r"^    tasks: \[(.*)\]$", board, flags=re.MULTILINE))}
    for task in ("wikihop", "triviaqa", "covid_qa", "book_cloze", "hyperpartisan", "imdb"):
        assert task not in lists


def test_the_page_has_the_tables_of_the_file() -> None:
    assert tables_of(read()) in PAGE.read_text(encoding="utf-8")
