"""Whether a text is the answer: exact match and F1 as the scripts of three data sets have them.

The three make an answer plain in different ways, and so their numbers cannot be compared:

    rule      "U.S."   "The_A-Team"   F1 of "yes" against "yes it is"
    triviaqa  "u s"    "team"         0.5
    squad     "us"     "theateam"     0.5
    hotpotqa  "us"     "theateam"     0

Sources: TriviaQA, ``evaluation/triviaqa_evaluation.py`` of mandarjoshi90/triviaqa; SQuAD 1.1,
``evaluate-v1.1.py``; HotpotQA, ``hotpot_evaluate_v1.py`` of hotpotqa/hotpot.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

Rule = Literal["triviaqa", "squad", "hotpotqa"]

# TriviaQA takes these for punctuation, too; the others leave what is not ASCII.
_QUOTES = "\u2018\u2019\u00b4`"
_WHOLE = ("yes", "no", "noanswer")


def plain(text: str, rule: Rule) -> str:
    """Return a text as answers are compared: no case, punctuation, articles, further blanks."""
    if rule == "triviaqa":
        marks = dict.fromkeys(map(ord, string.punctuation + _QUOTES), " ")
    else:
        marks = dict.fromkeys(map(ord, string.punctuation), "")
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(marks)).split())


def is_exact(answer: str, right: str, rule: Rule) -> bool:
    """Return whether two texts are the same answer."""
    return plain(answer, rule) == plain(right, rule)


def f1(answer: str, right: str, rule: Rule) -> float:
    """Return the F1 between the words of two answers, each as often as it stands."""
    answer, right = plain(answer, rule), plain(right, rule)
    if rule == "hotpotqa" and answer != right and {answer, right} & set(_WHOLE):
        return 0.0
    given, wanted = Counter(answer.split()), Counter(right.split())
    shared = (given & wanted).total()
    # Of two texts without a word, too: the scripts say so, although they match exactly.
    return 2 * shared / (given.total() + wanted.total()) if shared else 0.0


def judge(
    said: Mapping[str, str], right: Sequence[tuple[str, Sequence[str]]], rule: Rule
) -> dict[str, float]:
    """Return the sums of `lra_bench.types.Judged` over all questions.

    Args:
        said: An answer by question; a question without one counts as wrong.
        right: Every question, and all texts that answer it, of which the best counts.
        rule: Of the data set.
    """
    exact, total = 0, 0.0
    for question, answers in right:
        answer = said.get(question)
        if answer is None:
            continue
        exact += any(is_exact(answer, one, rule) for one in answers)
        total += max((f1(answer, one, rule) for one in answers), default=0.0)
    return {"examples": len(right), "exact": exact, "answer_f1": total}
