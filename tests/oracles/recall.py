"""Recall, written to be read: one example at a time, with Python's own random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

NOTHING = -100


def draw_slots(
    rng: random.Random, *, num_slots: int, num_pairs: int, gap_power: float
) -> list[int]:
    """Return the slot of each question, from 0: one after the other, none twice."""
    free = list(range(num_slots))
    slots = []
    for _ in range(num_pairs):
        weights = [gap_power * (slot + 1) ** (gap_power - 1) for slot in free]
        (slot,) = rng.choices(free, weights)
        free.remove(slot)
        slots.append(slot)
    return slots


def answers(words: Sequence[str], *, pair_tokens: int) -> list[int]:
    """Return what is to be answered at each token, from `lra_tasks.recall.Recall.decode`."""
    values = dict(word.split("=") for word in words if "=" in word)
    found = [NOTHING] * pair_tokens * len(values)
    for word in words[len(values) :]:
        found.append(int(values[word[1:]]) if word.startswith("?") else NOTHING)
    return found
