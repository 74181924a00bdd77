r"""Sections as LaTeX, with the rules of booktabs.

A document takes them by ``\input{leaderboard}``; it needs the packages booktabs and textcomp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lra_bench.leaderboard import escape
from lra_bench.leaderboard.layout import Entry, Section

_HEAD = r"""% Made by lra-bench leaderboard; do not edit. In the preamble:
%   \usepackage[T1]{fontenc} \usepackage[utf8]{inputenc} \usepackage{booktabs,graphicx,textcomp}
"""
# LaTeX gives up on a document with too many tables that have found no page.
_MOST_FLOATS = 12
# More columns, or longer texts, than these make a table that LaTeX cannot measure.
_MOST_COLUMNS, _LONGEST = 14, 80


def latex(sections: Iterable[Section]) -> str:
    """Return sections as LaTeX: a table each, with its notes below."""
    context, parts, waiting = "", [_HEAD], 0
    for section in sections:
        if section.level == 2:
            context = section.heading
        for part in _narrow(section) if section.rows else ():
            parts.append(_table(part, context))
            waiting += 1
            if waiting == _MOST_FLOATS:
                parts.append("\\clearpage\n")
                waiting = 0
    return "\n".join(parts)


def _narrow(section: Section) -> Iterator[Section]:
    """Yield a table in parts that are not too wide; each has the first column."""
    step = _MOST_COLUMNS - 1
    for first in range(1, len(section.columns), step):
        chosen = [0, *range(first, min(first + step, len(section.columns)))]
        yield replace(
            section,
            columns=[_short(section.columns[index]) for index in chosen],
            rows=[
                [replace(row[index], text=_short(row[index].text)) for index in chosen]
                for row in section.rows
            ],
            notes=section.notes if first == 1 else (),
            items=section.items if first == 1 else (),
        )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
        rf"\caption{{{escape.latex(name)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(section.columns) - 1)}}}",
        r"\toprule",
        _row([Entry(column) for column in section.columns]),
        r"\midrule",
        *map(_row, section.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        # Not in the caption, which LaTeX measures in one line, however long that is.
        *([r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {notes}}}"] if notes else []),
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
