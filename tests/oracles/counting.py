"""Counting answers one at a time, in plain Python."""

from __future__ import annotations

import math
from collections import Counter

from torch import Tensor

from lra_bench.types import IGNORED, Batch, Target


def count(
    logits: Tensor, batch: Batch, *, target: Target, per_class: bool = False
) -> dict[str, float]:
    """Return the sums of a batch; see `lra_bench.metrics.ALWAYS`."""
    sums = dict.fromkeys(("examples", "targets", "correct", "exact", "loss"), 0.0)
    if per_class:
        for kind in ("tp", "fp", "fn"):
            sums |= {f"{kind}/{number}": 0.0 for number in range(logits.shape[-1])}
    if target == "span":
        sums["token_f1"] = 0.0
    for row in range(len(batch.targets)):
        sums["examples"] += 1
        scores = logits[row].tolist()
        rows = [scores] if target == "class" else scores
        wanted = batch.targets[row].tolist()
        wanted = [wanted] if target == "class" else wanted
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
