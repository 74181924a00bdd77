"""Needle, a diagnostic task: the answer stands at a known distance from where it is asked.

Among fillers stands one needle, a token that carries a value. Which value? That is asked several
times: at a distance, at half of it, at a quarter, and so on, on the one side of the needle or on
the other. Each distance has a token of its own for its question, so that one run measures an
encoder at all of them, and learns to answer from afar after it has learned it nearby.

What an encoder can carry to a position is bounded by what its layers let reach it, however many
questions there are in between: a question passes on what any filler could pass on, too.

Shapes: N examples, L length, K distances, M distractors, Q questions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import IGNORED, Example, TaskSpec
from lra_tasks._drawn_task import DrawnTask
from lra_tasks._draws import Draws
from lra_tasks._options import check_at_least

# Raised when the same options would give other bytes.
GENERATOR_VERSION = 1


class Needle(DrawnTask):
    """Which value has the needle?

    Token ids: 0 is padding and does not occur; 1 to K, the questions, the longest distance first;
    then ``num_values`` needles, as many distractors, and the fillers. The needle's position and
    value, the side of each question, distractors and fillers are drawn uniformly. A distance that
    fits on neither side of a needle is not asked for in that example; the shortest always fits.

    Args:
        cache_dir: Folder of prepared data.
        seed: The same seed gives the same bytes on every machine.
        num_train: Examples to draw.
        num_validation: Examples to draw.
        num_test: Examples to draw.
        length: Of every example [tokens].
        distance: From the needle to a question, the longest [tokens].
        num_distances: How many (K): the longest, half of it, a quarter of it, rounded down.
        num_values: Values of the needle; the classes.
        num_distractors: Tokens that carry a value as well, for which nobody asks (M).
        num_fillers: Different tokens among which the rest is drawn.

    Raises:
        UserError: A number is out of range, or they do not fit together.
    """

    def __init__(
        self,
        *,
        cache_dir: Path,
        seed: int = 0,
        num_train: int = 16_000,
        num_validation: int = 200,
        num_test: int = 1_000,
        length: int = 1_024,
        distance: int = 768,
        num_distances: int = 8,
        num_values: int = 8,
        num_distractors: int = 8,
        num_fillers: int = 1,
    ) -> None:
        check_at_least(1, distance=distance, num_distances=num_distances, num_fillers=num_fillers)
        check_at_least(2, num_values=num_values)
        check_at_least(0, num_distractors=num_distractors)
        distances = _halved(distance, num_distances)
        least = max(distance, num_distances + num_distractors) + 1
        if length < least:
            raise UserError(
                f"task.length={length} must be at least {least} for task.distance={distance}, "
                f"task.num_distances={num_distances} and task.num_distractors={num_distractors}"
            )
        super().__init__(
            cache_dir=cache_dir,
            version=GENERATOR_VERSION,
            seed=seed,
            counts={"train": num_train, "validation": num_validation, "test": num_test},
            shape={
                "length": length,
                "distances": list(distances),
                "num_values": num_values,
                "num_distractors": num_distractors,
                "num_fillers": num_fillers,
            },
        )
        self.length = length
        self.distances = distances
        self.num_values = num_values
        self.num_distractors = num_distractors
        self.num_fillers = num_fillers
        self.first_needle = 1 + num_distances
        self.first_filler = self.first_needle + 2 * num_values
        questions = {f"distance_{one}": at for at, one in enumerate(distances, start=1)}
        self.spec = TaskSpec(
            name="needle",
            vocab_size=self.first_filler + num_fillers,
            max_length=length,
            num_classes=num_values,
            target="tokens",
            metrics=("accuracy", *(f"accuracy_of_{name}" for name in questions)),
            majority_baseline=1 / num_values,
            questions=questions,
            is_diagnostic=True,
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: ``=5`` is the needle, ``-3`` a distractor, ``?96`` a question."""
        words = []
        for token in example.inputs[0].tolist():
            value = token - self.first_needle
            if value < 0:
                words.append(f"?{self.distances[token - 1]}")
            elif value < self.num_values:
                words.append(f"={value}")
            else:
                words.append("." if token >= self.first_filler else f"-{value - self.num_values}")
        return " ".join(words)

    def draw(self, draws: Draws, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `DrawnTask.draw`."""
        rows_N1 = np.arange(number)[:, None]
        tokens_NL = self.first_filler + draws.below(self.num_fillers, number, self.length)
        targets_NL = np.full((number, self.length), IGNORED, np.int64)
        needle_N1 = self._needles(draws, number)
        values_N1 = draws.below(self.num_values, number, 1)
        tokens_NL[rows_N1, needle_N1] = self.first_needle + values_N1
        # On the one side or the other, and where only one has room, on that one.
        sides_NK = 2 * draws.below(2, number, len(self.distances)) - 1
        asked_NK = needle_N1 + sides_NK * self.distances
        outside_NK = (asked_NK < 0) | (asked_NK >= self.length)
        asked_NK = np.where(outside_NK, needle_N1 - sides_NK * self.distances, asked_NK)
        rows_Q, kinds_Q = np.nonzero((asked_NK >= 0) & (asked_NK < self.length))
        places_Q = asked_NK[rows_Q, kinds_Q]
        tokens_NL[rows_Q, places_Q] = 1 + kinds_Q
        targets_NL[rows_Q, places_Q] = values_N1[rows_Q, 0]
        if self.num_distractors:
            places_NM = draws.choices(tokens_NL >= self.first_filler, self.num_distractors)
            others_NM = draws.below(self.num_values, number, self.num_distractors)
            tokens_NL[rows_N1, places_NM] = self.first_needle + self.num_values + others_NM
        return tokens_NL, targets_NL

    def _needles(self, draws: Draws, number: int) -> NDArray[np.int64]:
        """Return where the needles stand, (N, 1): wherever the shortest distance fits."""
        shortest = self.distances[-1]
        # As many positions at the end have room before them as at the beginning behind them.
        room = self.length - shortest
        if room >= shortest:
            return draws.below(self.length, number, 1)
        drawn_N1 = draws.below(2 * room, number, 1)
        return np.where(drawn_N1 < room, drawn_N1, drawn_N1 - room + shortest)

    def is_right(self, example: Example) -> bool:
        """Return whether a needle, and one alone, stands as far from each question as that says."""
        tokens_L, target_L = example.inputs[0].astype(np.int64), np.asarray(example.target)
        values_L = tokens_L - self.first_needle
        needles = np.flatnonzero((values_L >= 0) & (values_L < self.num_values))
        places = np.flatnonzero(tokens_L < self.first_needle)
        if len(needles) != 1 or not np.array_equal(places, np.flatnonzero(target_L != IGNORED)):
            return False
        asked = np.array(self.distances)[tokens_L[places] - 1]
        right = np.abs(places - needles) == asked
        return bool((right & (target_L[places] == values_L[needles])).all())


def _halved(distance: int, number: int) -> tuple[int, ...]:
    """Return a distance, its half, its quarter and so on, rounded down.

    Raises:
        UserError: Nothing would be left of it.
    """
    distances = tuple(distance >> halvings for halvings in range(number))
    if distances[-1] < 1:
        raise UserError(
            f"task.distance={distance} cannot be halved so often that there are "
            f"task.num_distances={number}"
        )
    return distances
