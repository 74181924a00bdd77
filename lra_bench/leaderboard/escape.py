"""Texts that nobody vouches for, in formats that would act on them.

A name in a record may hold anything that is Unicode. What is written must show it, and no more.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Underscores inside of a word, and brackets that lead nowhere, are no markup.
_MARKDOWN = re.compile(
    r"[\\`*<>|~$]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])|\[(?=[^\]]*\][(\[:])|!(?=\[)"
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # Else two of them would become one dash.
    "-": "-{}",
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
    "†": r"\textdagger{}",
}
# No honest name or reason is longer.
_LONGEST = 500
# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@lru_cache(maxsize=10_000)
def line(text: str) -> str:
    """Return a text in one line, with what has no shape of its own spelt out.

    Control characters would act on a terminal; others change the direction of what follows.
    """
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character)[0] == "C"
        else character
        for character in text
    )


def markdown(text: str) -> str:
    """Return a text that stays in its cell: no markup, no HTML, no link."""
    return _MARKDOWN.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), text)


def latex(text: str) -> str:
    """Return a text that LaTeX sets as it is; what its fonts lack is named by its number."""
    return "".join(_LATEX.get(character) or _letter(character) for character in text)


def _letter(character: str) -> str:
    # The accented letters that the default encodings of fonts and input have.
    if character.isascii() or "À" <= character <= "ÿ":
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


def spreadsheet(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    Source: OWASP, CSV injection.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
