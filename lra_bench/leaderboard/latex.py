r"""Sections as LaTeX, with the rules of booktabs.

A document takes them by ``\input{leaderboard}``; it needs the packages booktabs and textcomp.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lra_bench.leaderboard import escape
from lra_bench.leaderboard.layout import Entry, Section

_HEAD = r"""% Made by lra-bench leaderboard; do not edit. In the preamble:
%   \usepackage[T1]{fontenc} \usepackage[utf8]{inputenc} \usepackage{booktabs,graphicx,textcomp}
"""


def latex(sections: Iterable[Section]) -> str:
    """Return sections as LaTeX: a table each, with its notes as the caption."""
    context, parts = "", [_HEAD]
    for section in sections:
        if section.level == 2:
            context = section.heading
        if section.rows:
            parts.append(_table(section, context))
    return "\n".join(parts)


def _table(section: Section, context: str) -> str:
    name = ": ".join(filter(None, [context, section.heading]))
    notes = " ".join(
        rf"\textbf{{{escape.latex(note.text)}}}" if note.strong else escape.latex(note.text)
        for note in section.notes
    )
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\setlength{\tabcolsep}{4pt}",
        # A short caption for the list of tables.
        rf"\caption[{{{escape.latex(name)}}}]{{{escape.latex(name)}. {notes}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(section.columns) - 1)}}}",
        r"\toprule",
        _row([Entry(column) for column in section.columns]),
        r"\midrule",
        *map(_row, section.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
        "",
    ]
    if section.items:
        items = [rf"\item {_breakable(escape.latex(item))}" for item in section.items]
        lines += [r"\begin{enumerate}", r"\footnotesize\raggedright", *items]
        lines += [r"\end{enumerate}", ""]
    return "\n".join(lines)


def _breakable(text: str) -> str:
    """Return a text whose addresses may go on in the next line."""
    for character in ("/", ":", r"\_"):
        text = text.replace(character, rf"{character}\allowbreak{{}}")
    return text


def _row(entries: Sequence[Entry]) -> str:
    texts = (escape.latex(entry.text) for entry in entries)
    bold = (
        rf"\textbf{{{text}}}" if entry.bold and text else text
        for text, entry in zip(texts, entries, strict=True)
    )
    return " & ".join(bold) + r" \\"
