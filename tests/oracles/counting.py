"""Counting answers one at a time, in plain Python."""

from __future__ import annotations

import math
from collections import Counter

from torch import Tensor

from lra_bench.types import IGNORED, Batch, Target


def count(
    logits: Tensor,
    batch: Batch,
    *,
    target: Target,
    per_class: bool = False,
    answer_length: int | None = None,
) -> dict[str, float]:
    """Return the sums of a batch; see `lra_bench.metrics.ALWAYS`."""
    sums = dict.fromkeys(("examples", "targets", "correct", "exact", "loss"), 0.0)
    if target == "spans":
        assert answer_length is not None
        return sums | _count_spans(logits, batch, answer_length)
    if per_class:
        for kind in ("tp", "fp", "fn"):
            sums |= {f"{kind}/{number}": 0.0 for number in range(logits.shape[-1])}
    if target == "span":
        sums["token_f1"] = 0.0
    for row in range(len(batch.targets)):
        sums["examples"] += 1
        scores = logits[row].tolist()
        one_answer = target in ("class", "choice")
        rows = [scores] if one_answer else scores
        wanted = batch.targets[row].tolist()
        wanted = [wanted] if one_answer else wanted
        if target == "span":
            answers = list(best_span(*rows))
            tokens = batch.tokens_BIL[row, 0].tolist()
            sums["token_f1"] += token_f1(tokens, (answers[0], answers[1]), (wanted[0], wanted[1]))
        else:
            answers = [max(range(len(one)), key=one.__getitem__) for one in rows]
        wrong = 0
        for one, answer, right in zip(rows, answers, wanted, strict=True):
            if right == IGNORED:
                continue
            sums["targets"] += 1
            sums["loss"] += math.log(sum(map(math.exp, one))) - one[right]
            sums["correct"] += answer == right
            wrong += answer != right
            if per_class and answer == right:
                sums[f"tp/{right}"] += 1
            elif per_class:
                sums[f"fp/{answer}"] += 1
                sums[f"fn/{right}"] += 1
        sums["exact"] += not wrong
    return sums


def _count_spans(logits: Tensor, batch: Batch, answer_length: int) -> dict[str, float]:
    sums = dict.fromkeys(("examples", "targets", "correct", "exact", "loss"), 0.0)
    for row in range(len(batch.targets)):
        sums["examples"] += 1
        spans = [tuple(pair) for pair in batch.targets[row].tolist() if pair != [IGNORED] * 2]
        firsts, lasts = logits[row].tolist()
        if not spans:
            continue
        sums["targets"] += 2
        sums["loss"] += math.fsum(ends_loss(firsts, lasts, spans))
        answer = best_short_span(firsts, lasts, answer_length)
        for end in (0, 1):
            sums["correct"] += answer is not None and answer[end] in {pair[end] for pair in spans}
        sums["exact"] += answer in spans
    return sums


def ends_loss(
    first: list[float], last: list[float], spans: list[tuple[int, int]]
) -> tuple[float, float]:
    """Return for each end minus the logarithm of the probability of all its right places."""
    losses = []
    for scores, right in zip((first, last), map(set, zip(*spans, strict=True)), strict=True):
        chances = [math.exp(score) for score in scores]
        losses.append(-math.log(sum(chances[place] for place in right) / sum(chances)))
    return losses[0], losses[1]


def best_short_span(
    first: list[float], last: list[float], answer_length: int, number: int = 20
) -> tuple[int, int] | None:
    """Return the best pair of the best places of both ends; none where no pair is a span."""
    ends = [
        [place for place in sorted(range(len(scores)), key=lambda at: -scores[at])][:number]
        for scores in (first, last)
    ]
    pairs = [
        (begin, end)
        for begin in ends[0]
        for end in ends[1]
        if begin <= end < begin + answer_length and min(first[begin], last[end]) > -1e8
    ]
    return max(pairs, key=lambda pair: first[pair[0]] + last[pair[1]], default=None)


def best_span(first: list[float], last: list[float]) -> tuple[int, int]:
    """Return the pair of positions with the highest sum of scores."""
    places = range(len(first))
    pairs = [(begin, end) for end in places for begin in places if begin <= end]
    return max(pairs, key=lambda pair: first[pair[0]] + last[pair[1]])


def token_f1(tokens: list[int], answer: tuple[int, int], right: tuple[int, int]) -> float:
    """Return the F1 between two spans as bags of tokens, as the script of SQuAD finds it."""
    given, wanted = (Counter(tokens[first : last + 1]) for first, last in (answer, right))
    shared = sum((given & wanted).values())
    if not shared:
        return 0.0
    precision, recall = shared / given.total(), shared / wanted.total()
    return 2 * precision * recall / (precision + recall)
