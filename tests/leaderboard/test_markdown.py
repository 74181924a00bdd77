"""Sections as Markdown."""

from __future__ import annotations

from lra_bench.leaderboard.layout import Entry, Note, Section
from lra_bench.leaderboard.markdown import markdown


def test_a_section_is_heading_table_notes_and_items() -> None:
    section = Section(
        "A|b",
        3,
        ["model", "x|y"],
        [[Entry("a*"), Entry("1", bold=True)], [Entry("b"), Entry("", bold=True)]],
        [Note("One."), Note("Two <b>.", strong=True)],
        ["first", "second"],
    )
    heading, table, *rest = markdown([section]).split("\n\n")
    assert heading == "### A\\|b"
    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "| model | x\\|y |",
        "|:--------|-------:|",
        "| a\\* | **1** |",
        "| b | |",
    ]
    assert rest == ["One. **Two &lt;b&gt;.**", "1. first\n2. second\n"]
