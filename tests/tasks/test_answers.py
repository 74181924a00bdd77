"""Rules of three data sets for when a text is the answer, where they agree and where they do not.

The expected texts were found by hand from the published scripts, step by step.
"""

from __future__ import annotations

import pytest

from lra_tasks import _answers
from lra_tasks._answers import Rule, f1, is_exact, judge, plain

RULES: tuple[Rule, ...] = ("triviaqa", "squad", "hotpotqa")


@pytest.mark.parametrize(
    ("text", "trivia", "others"),
    [
        # Punctuation becomes a blank, or nothing.
        ("U.S.", "u s", "us"),
        ("C++", "c", "c"),
        ("C++17", "c 17", "c17"),
        ("rock-'n'-roll", "rock n roll", "rocknroll"),
        # An underscore is punctuation as well, and hides an article only where it becomes nothing.
        ("The_Who", "who", "thewho"),
        ("snake_case_a", "snake case", "snakecasea"),
        # Quotes beyond ASCII are punctuation of TriviaQA alone; these four and no others.
        ("\u2018Tis", "tis", "\u2018tis"),
        ("don\u2019t", "don t", "don\u2019t"),
        ("\u00b4x`", "x", "\u00b4x"),
        ("\u201cx\u201d", "\u201cx\u201d", "\u201cx\u201d"),
        ("a\u2013b", "\u2013b", "\u2013b"),
        # Articles are whole words, and may leave nothing.
        ("The  Theatre\tof an\nanna", "theatre of anna", "theatre of anna"),
        ("the", "", ""),
        ("A.", "", ""),
        ("a's", "s", "as"),
        ("  ", "", ""),
        ("", "", ""),
        ("\u00c9COLE", "\u00e9cole", "\u00e9cole"),
        ("1,000", "1 000", "1000"),
    ],
)
def test_plain(text: str, trivia: str, others: str) -> None:
    assert [plain(text, rule) for rule in RULES] == [trivia, others, others]


@pytest.mark.parametrize(
    ("answer", "right", "trivia", "squad", "hotpot"),
    [
        ("the cat sat", "cat", 2 / 3, 2 / 3, 2 / 3),
        # Each word as often as it stands.
        ("no no no", "no no", 0.8, 0.8, 0.8),
        ("U.S. army", "us army", 0.4, 1.0, 1.0),
        ("yes", "yes", 1.0, 1.0, 1.0),
        ("yes", "Yes!", 1.0, 1.0, 1.0),
        # HotpotQA: yes, no and noanswer are right or wrong, nothing between.
        ("yes it is", "yes", 0.5, 0.5, 0.0),
        ("no", "no way", 2 / 3, 2 / 3, 0.0),
        ("noanswer", "noanswer given", 2 / 3, 2 / 3, 0.0),
        ("nothing", "else", 0.0, 0.0, 0.0),
        # Without a word there is nothing in common, though they match exactly.
        ("the", "a", 0.0, 0.0, 0.0),
        ("", "", 0.0, 0.0, 0.0),
        ("", "cat", 0.0, 0.0, 0.0),
    ],
)
def test_f1(answer: str, right: str, trivia: float, squad: float, hotpot: float) -> None:
    found = [f1(answer, right, rule) for rule in RULES]
    assert found == pytest.approx([trivia, squad, hotpot])
    assert found == [f1(right, answer, rule) for rule in RULES]


def test_exact() -> None:
    assert is_exact("The U.S.", "u s", "triviaqa")
    assert not is_exact("The U.S.", "u s", "squad")
    assert is_exact("The U.S.", "us", "squad")
    assert is_exact("the", "", "squad")


def test_the_best_of_all_answers_over_all_questions() -> None:
    """Half of the questions got no answer; they count."""
    right = [
        ("one", ["cat", "the big cat"]),
        ("two", ["dog"]),
        ("three", ["fish"]),
        ("four", []),
    ]
    said = {"one": "a big cat", "two": "small dog", "four": "what", "five": "is asked nowhere"}
    sums = judge(said, right, "squad")
    assert sums == {"examples": 4, "exact": 1, "answer_f1": pytest.approx(1 + 2 / 3)}
    assert judge({}, right, "triviaqa") == {"examples": 4, "exact": 0, "answer_f1": 0.0}
    assert _answers.judge({"one": ""}, right, "squad")["exact"] == 0
