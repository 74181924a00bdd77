"""Recall, a diagnostic task: multi-query associative recall.

An example lists pairs of a key and a value, and then names each key once more, at some distance
among fillers: which value came with it? All pairs must pass from where they stand to where they
are asked for, and each question must find its own.

Shapes: N examples, L length, P pairs, S slots.

Source: arXiv 2312.04927 (zoology), section 3 and appendix: the order of keys, values and questions,
and the distribution of the distances. Differences: values may occur twice, so that few suffice; the
rest is filled with tokens of its own, since an encoder that sees both sides would take what follows
a question for its value; the vocabulary is given as keys and values; and a pair may be one token,
so that finding it takes one hop, and what an encoder can pass on is measured alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import IGNORED, Example, TaskSpec
from lra_tasks._drawn_task import DrawnTask
from lra_tasks._draws import Draws
from lra_tasks._options import check_at_least, check_choice

# Raised when the same options would give other bytes.
GENERATOR_VERSION = 1
# Weights are whole numbers of this resolution, so that every machine draws the same.
_RESOLUTION = 1 << 20


class Recall(DrawnTask):
    """Which value came with this key?

    Token ids: 0 is padding and does not occur; then ``num_keys`` keys; ``num_values`` values, or of
    each key the pairs with them; and the fillers. Keys of an example are distinct; values and
    fillers are drawn uniformly. Behind the pairs, the rest of the example is divided into slots of
    two tokens; a question takes the first token of slot ``s`` (from 1) with a weight of
    ``gap_power * s ** (gap_power - 1)``, one after the other among those that are free.

    Args:
        cache_dir: Folder of prepared data.
        seed: The same seed gives the same bytes on every machine.
        num_train: Examples to draw.
        num_validation: Examples to draw.
        num_test: Examples to draw.
        length: Of every example, an even number [tokens].
        num_pairs: Pairs of an example; as many questions (P).
        pair_tokens: 2, a key and behind it its value; or 1, a token that is both.
        num_keys: Keys of the vocabulary.
        num_values: Values of the vocabulary; the classes.
        num_fillers: Different tokens among which the rest is drawn.
        gap_power: The smaller, the more questions follow soon; 1 for all slots alike.

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
        length: int = 256,
        num_pairs: int = 16,
        pair_tokens: int = 2,
        num_keys: int = 32,
        num_values: int = 8,
        num_fillers: int = 1,
        gap_power: float = 0.01,
    ) -> None:
        check_at_least(1, num_pairs=num_pairs, num_fillers=num_fillers)
        check_at_least(2, num_values=num_values)
        check_choice("pair_tokens", pair_tokens, (1, 2))
        _check_room(length, num_pairs, num_keys)
        if not 0 < gap_power <= 1:
            raise UserError(f"task.gap_power={gap_power} must be above 0 and at most 1")
        super().__init__(
            cache_dir=cache_dir,
            version=GENERATOR_VERSION,
            seed=seed,
            counts={"train": num_train, "validation": num_validation, "test": num_test},
            shape={
                "length": length,
                "num_pairs": num_pairs,
                "pair_tokens": pair_tokens,
                "num_keys": num_keys,
                "num_values": num_values,
                "num_fillers": num_fillers,
                "gap_power": gap_power,
            },
        )
        self.length = length
        self.num_pairs = num_pairs
        self.pair_tokens = pair_tokens
        self.num_keys = num_keys
        self.num_values = num_values
        self.num_fillers = num_fillers
        self.gap_power = gap_power
        self.first_value = 1 + num_keys
        self.first_filler = self.first_value + num_values * (num_keys if pair_tokens == 1 else 1)
        self.spec = TaskSpec(
            name="recall",
            vocab_size=self.first_filler + num_fillers,
            max_length=length,
            num_classes=num_values,
            target="tokens",
            metrics=("accuracy", "exact_match"),
            majority_baseline=1 / num_values,
            is_diagnostic=True,
        )

    def decode(self, example: Example) -> str:
        """See `Task.decode`: ``k7=3`` is a pair, ``?k7`` a question, a dot a filler."""
        tokens = example.inputs[0].tolist()
        words = [f"k{key - 1}={value}" for key, value in self._pairs(tokens).items()]
        for token in tokens[self._num_listed :]:
            words.append("." if token >= self.first_filler else f"?k{token - 1}")
        return " ".join(words)

    def draw(self, draws: Draws, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `DrawnTask.draw`."""
        tokens_NL = self.first_filler + draws.below(self.num_fillers, number, self.length)
        targets_NL = np.full((number, self.length), IGNORED, np.int64)
        all_keys = np.ones((number, self.num_keys), np.bool_)
        keys_NP = draws.choices(all_keys, self.num_pairs)
        values_NP = draws.below(self.num_values, number, self.num_pairs)
        listed = self._num_listed
        if self.pair_tokens == 2:
            tokens_NL[:, 0:listed:2] = 1 + keys_NP
            tokens_NL[:, 1:listed:2] = self.first_value + values_NP
        else:
            tokens_NL[:, :listed] = self.first_value + keys_NP * self.num_values + values_NP
        places_NP = listed + 2 * self._slots(draws, number)
        np.put_along_axis(tokens_NL, places_NP, 1 + keys_NP, axis=1)
        np.put_along_axis(targets_NL, places_NP, values_NP, axis=1)
        return tokens_NL, targets_NL

    def _slots(self, draws: Draws, number: int) -> NDArray[np.int64]:
        """Return the slot of each question, from 0, (N, P): drawn again until it is free."""
        num_slots = (self.length - self._num_listed) // 2
        weights_S = np.arange(1, num_slots + 1) ** (self.gap_power - 1)
        # At least one, so that a slot can be found when it is the last one free.
        ends_S = np.maximum(np.rint(weights_S * _RESOLUTION), 1).astype(np.int64).cumsum()
        slots_NP = np.full((number, self.num_pairs), -1)
        for pair in range(self.num_pairs):
            open_N = np.arange(number)
            while len(open_N):
                drawn_N = np.searchsorted(
                    ends_S, draws.below(int(ends_S[-1]), len(open_N)), side="right"
                )
                is_taken_N = (slots_NP[open_N, :pair] == drawn_N[:, None]).any(axis=1)
                slots_NP[open_N, pair] = drawn_N
                open_N = open_N[is_taken_N]
        return slots_NP

    def is_right(self, example: Example) -> bool:
        """Return whether each key is asked for once, and answered with its value."""
        tokens, target = example.inputs[0].tolist(), np.asarray(example.target).tolist()
        pairs = self._pairs(tokens)
        behind = tokens[self._num_listed :]
        right = [IGNORED] * self._num_listed + [pairs.get(token, IGNORED) for token in behind]
        return target == right and all(behind.count(key) == 1 for key in pairs)

    @property
    def _num_listed(self) -> int:
        """Tokens that the pairs take."""
        return self.pair_tokens * self.num_pairs

    def _pairs(self, tokens: Sequence[int]) -> dict[int, int]:
        """Return the value of each key, by its token, in the order in which they are listed."""
        listed = tokens[: self._num_listed]
        if self.pair_tokens == 2:
            keys, values = listed[::2], [token - self.first_value for token in listed[1::2]]
            return dict(zip(keys, values, strict=True))
        both = (divmod(token - self.first_value, self.num_values) for token in listed)
        return {1 + key: value for key, value in both}


def _check_room(length: int, num_pairs: int, num_keys: int) -> None:
    """Refuse sizes with which not all pairs can be listed and asked for.

    Raises:
        UserError: There are too few keys, or the length is too short, or odd: the slots have two
            tokens each.
    """
    if num_keys < num_pairs:
        raise UserError(
            f"task.num_keys={num_keys} must be at least task.num_pairs={num_pairs}: keys of an "
            f"example are distinct"
        )
    if length % 2 or length < 4 * num_pairs:
        raise UserError(
            f"task.length={length} must be even, and at least {4 * num_pairs} for "
            f"task.num_pairs={num_pairs}"
        )
