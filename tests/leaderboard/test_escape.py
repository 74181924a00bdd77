"""No text is more than a text, in whatever format."""

from __future__ import annotations

import pytest

from lra_bench.leaderboard import escape

HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](http://example.org/x.png)",
    "a|b",
    "*a* _b_ `c` ~~d~~ $e$ \\f",
    "&lt;b&gt;",
    "\\input{/etc/passwd} \\write18{ls} %",
    "^^5cinput",
    "=cmd|' /C calc'!A0",
    "名前 😀 \u202e",
]


def test_markdown_has_no_markup() -> None:
    shown = {text: escape.markdown(text) for text in HOSTILE}
    assert shown["<script>alert(1)</script>"] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert shown["[x](javascript:alert(1))"] == "\\[x](javascript:alert(1))"
    assert shown["![x](http://example.org/x.png)"].startswith("\\!\\[x]")
    assert shown["a|b"] == "a\\|b"
    assert shown["*a* _b_ `c` ~~d~~ $e$ \\f"] == (
        "\\*a\\* \\_b\\_ \\`c\\` \\~\\~d\\~\\~ \\$e\\$ \\\\f"
    )
    assert shown["&lt;b&gt;"] == "&amp;lt;b&amp;gt;"


@pytest.mark.parametrize(
    "text", ["ernie_sparse", "image [CIFAR-10 (JPEG copy)]", "a(x=1,y=2) + b", "50% & more"]
)
def test_honest_names_stay_readable(text: str) -> None:
    assert escape.markdown(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_has_no_command_of_the_text(text: str) -> None:
    shown = escape.latex(text)
    ours = shown
    for command in (
        *("\\textbackslash{}", "\\textasciitilde{}", "\\textasciicircum{}", "\\textless{}"),
        *("\\textgreater{}", "\\textbar{}", "\\textquotesingle{}", "\\textasciigrave{}"),
        *("\\{", "\\}", "\\$", "\\&", "\\#", "\\%", "\\_", "{[}", "{]}", "-{}"),
    ):
        ours = ours.replace(command, "")
    assert not set(ours) & set("\\{}$&#%_~^<>|`'")
    assert ours.isascii()


def test_a_spreadsheet_sees_no_formula() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)"):
        assert escape.spreadsheet(text) == f"'{text}"
    assert escape.spreadsheet("a=1") == "a=1"


def test_a_line_is_one_and_acts_on_nothing() -> None:
    assert escape.line("a\nb\t c") == "a b c"
    assert escape.line("\x1b[31m\u202e\x00é名") == "\\x1b[31m\\u202e\\x00é名"


def test_a_line_ends_somewhere() -> None:
    assert len(escape.line("x" * 10_000)) < 600
    assert len(escape.markdown(escape.line("[" * 10_000))) < 2000
