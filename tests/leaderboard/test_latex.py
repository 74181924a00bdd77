"""LaTeX that compiles, whatever the names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from made_up_records import make, tables_of, told

from lra_bench import leaderboard
from lra_bench.leaderboard.latex import latex
from lra_bench.leaderboard.layout import Entry, Note, Section, sections

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc} \usepackage[utf8]{inputenc} \usepackage{booktabs,graphicx,textcomp}
\begin{document}
\listoftables
\input{leaderboard}
\end{document}
"""
HOSTILE = r"\end{document}\input{x} %&#_$^^41~{é名😀±†"


def test_a_table_has_the_rules_of_booktabs() -> None:
    rows = [[Entry("x"), Entry("1", bold=True)]]
    text = latex([Section("A_b", 2), Section(columns=["m", "n"], rows=rows)])
    assert text.count("\\toprule") == text.count("\\midrule") == text.count("\\bottomrule") == 1
    assert "m & n \\\\\n\\midrule\nx & \\textbf{1} \\\\\n\\bottomrule" in text
    assert "\\caption{A\\_b}" in text


def test_no_name_ends_the_document() -> None:
    text = latex(sections(tables_of(make(model=HOSTILE, data=told(HOSTILE, note=HOSTILE)))))
    assert "\\end{document}" not in text
    assert "\\input" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_a_document_takes_the_tables_in(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "results"
    leaderboard.publish([shipped], tmp_path)
    many = [make(model=HOSTILE, task=f"{HOSTILE} {number}") for number in range(60)]
    hostile = latex(sections(tables_of(*many, make(data=told(HOSTILE, note=HOSTILE)))))
    content = (tmp_path / "leaderboard.tex").read_text() + hostile
    (tmp_path / "leaderboard.tex").write_text(content)
    (tmp_path / "all.tex").write_text(DOCUMENT)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_a_wide_table_goes_on_in_another() -> None:
    columns = ["model", *(f"t{number}" for number in range(20))]
    rows = [[Entry("x" * 200), *(Entry(str(number)) for number in range(20))]]
    text = latex([Section("Wide", 2, columns, rows, [Note("Once.")])])
    assert text.count("\\begin{tabular}") == 2
    assert text.count("Once.") == 1
    assert text.count("x" * 80 + "...") == 2
    for number in range(20):
        assert text.count(f"t{number} ") == 1
