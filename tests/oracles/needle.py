"""Needle, written to be read: one example at a time, with Python's own random numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

NOTHING = -100


def draw(
    rng: random.Random, *, length: int, distances: Sequence[int], num_distractors: int
) -> list[str]:
    """Return an example as words: needle, distractor, the distance of a question, or filler."""
    words = ["filler"] * length
    while True:
        needle = rng.randrange(length)
        if needle >= distances[-1] or needle + distances[-1] < length:
            break
    words[needle] = "needle"
    for distance in distances:
        sides = [needle - distance, needle + distance]
        inside = [place for place in sides if 0 <= place < length]
        if inside:
            words[rng.choice(inside)] = str(distance)
    free = [place for place in range(length) if words[place] == "filler"]
    for place in rng.sample(free, num_distractors):
        words[place] = "distractor"
    return words


def answers(words: Sequence[str]) -> list[int]:
    """Return what is to be answered at each word of `lra_tasks.needle.Needle.decode`."""
    found = []
    for at, word in enumerate(words):
        if not word.startswith("?"):
            found.append(NOTHING)
            continue
        distance = int(word[1:])
        sides = [place for place in (at - distance, at + distance) if 0 <= place < len(words)]
        (needle,) = (words[place] for place in sides if words[place].startswith("="))
        found.append(int(needle[1:]))
    return found
