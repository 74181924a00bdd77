"""Questions drawn from books: which name was taken out of the sentence behind a context?

What a name is follows from the book alone: a word that begins with a capital letter wherever it
stands, and stands in the middle of sentences, too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

# Of a context [bytes], and candidates of a question.
CONTEXT_BYTES = 3_600
MAX_CANDIDATES = 10
# A sentence that is asked about [bytes]: with less nothing can be told.
_SENTENCE_BYTES = range(20, 601)
# How often a name stands in the middle of sentences of its book, at least.
_LEAST = 2
# Sentences that are tried.
TRIES = 2
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
# A sentence ends with a mark and what closes a quotation, before a capital letter or a quotation;
# not behind one letter or a title.
_END = re.compile(
    r"(?<!\b[A-Z])(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bMessrs)(?<!\bEsq)(?<!\bCapt)"
    r"[.!?]+[\"'\u201d\u2019)]*\s+(?=[\"'\u201c\u2018(]*[A-Z])"
)
_OPENING = re.compile(r"[\s\"'\u201c\u2018(\[_*-]*")
_QUOTES = "\"'\u201c\u2018"
_POSSESSIVE = re.compile(r"['\u2019]s$")


@dataclass(frozen=True, slots=True)
class Cloze:
    """A question.

    Args:
        before: The sentence up to the name that was taken out.
        after: What follows the name.
        answer: The name; it stands in the context.
        candidates: Names of the context in alphabetical order, the answer among them.
        context: What stands before the sentence.
    """

    before: str
    after: str
    answer: str
    candidates: tuple[str, ...]
    context: str


def questions_of(text: str, *, name: str) -> Iterator[Cloze]:
    """Yield the questions of a book; their contexts do not overlap.

    Args:
        text: Markdown; the lines that begin with ``#``, and all before the first of dashes, are no
            part of the book.
        name: Of the book: decides what is drawn.
    """
    sentences = [
        sentence
        for paragraph in _paragraphs(text)
        for sentence in _sentences(" ".join(paragraph.split()))
    ]
    names = _names(sentences)
    sizes = [len(sentence.encode()) + 1 for sentence in sentences]
    start = 0
    while True:
        stop, size = start, 0
        while stop < len(sentences) and size + sizes[stop] <= CONTEXT_BYTES:
            size += sizes[stop]
            stop += 1
        if stop == len(sentences):
            return
        if stop == start:
            # One that is longer than a context.
            start += 1
            continue
        # The sentence behind the context, or the one behind that.
        for asked in range(stop, min(stop + TRIES, len(sentences))):
            found = _question(sentences[start:asked], sentences[asked], names, f"{name} {start}")
            if found is not None:
                yield found
                break
            size += sizes[asked]
            while size > CONTEXT_BYTES:
                size -= sizes[start]
                start += 1
        start = asked + 1


def _paragraphs(text: str) -> Iterator[str]:
    _, _, body = text.replace("\r\n", "\n").partition("\n---")
    for paragraph in re.split(r"\n\s*\n", body or text):
        kept = [
            line
            for line in paragraph.split("\n")
            if not line.lstrip().startswith("#") and line.strip("-*_ \t")
        ]
        if kept:
            yield "\n".join(kept)


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(paragraph):
        yield paragraph[start : end.end()].strip()
        start = end.end()
    if rest := paragraph[start:].strip():
        yield rest


def _words(sentence: str) -> Iterator[tuple[str, int]]:
    """Yield the words of a sentence and where they begin; ``Ahab's`` is the word ``Ahab``."""
    for found in _WORD.finditer(sentence):
        yield _POSSESSIVE.sub("", found[0]), found.start()


def _names(sentences: list[str]) -> set[str]:
    """Return the names of a book."""
    inside: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for sentence in sentences:
        opening = _OPENING.match(sentence)
        first = opening.end() if opening else 0
        for word, at in _words(sentence):
            if word[0].islower():
                small[word] += 1
            elif (
                at > first and sentence[at - 1] == " " and sentence[at - 2] not in "\"'\u201c\u2018"
            ):
                inside[word] += 1
    return {
        word
        for word, number in inside.items()
        if number >= _LEAST
        and len(word) > 2
        and not word.isupper()
        and "'" not in word
        and "\u2019" not in word
        and word not in _NO_NAMES
        and small[word.lower()] * 10 <= number
    }


# Titles stand before names; and what English writes with a capital letter besides names.
_CAPITALS = """
    Mr Mrs Miss Ms Sir Lady Lord Dr Madam Madame Mademoiselle Monsieur Master Captain Colonel
    General Major Reverend Saint God Christ Heaven Lordship Ladyship Majesty Esq Messrs
    January February March April May June July August September October November December
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday Christmas Easter
    English Englishman French Frenchman German Christian Christians
"""
_NO_NAMES = frozenset(_CAPITALS.split())


def _question(context: list[str], sentence: str, names: set[str], key: str) -> Cloze | None:
    """Return a question about a sentence, or None if it has no name of the context."""
    if len(sentence.encode()) not in _SENTENCE_BYTES:
        return None
    counts = Counter(word for one in context for word, _ in _words(one) if word in names)
    asked = Counter(word for word, _ in _words(sentence) if word in counts)
    # One that stands twice would be given away by its other place.
    once = sorted(word for word, number in asked.items() if number == 1)
    if not once or len(counts) < 2:
        return None
    # The rarest: the most frequent one is guessed without reading.
    answer = min(once, key=lambda word: (counts[word], _draw(key, word)))
    at = next(at for word, at in _words(sentence) if word == answer)
    others = sorted((word for word in counts if word not in asked), key=lambda one: _draw(key, one))
    candidates = sorted([answer, *others[: MAX_CANDIDATES - 1]])
    if len(candidates) < 2:
        return None
    return Cloze(
        sentence[:at], sentence[at + len(answer) :], answer, tuple(candidates), " ".join(context)
    )


def _draw(key: str, word: str) -> bytes:
    """Return a number that is the same on every machine."""
    return hashlib.sha256(f"{key} {word}".encode()).digest()
