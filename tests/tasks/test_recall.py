from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import recall as oracle

from lra_bench.errors import UserError
from lra_bench.types import IGNORED, SPLITS, Example
from lra_tasks.recall import Recall

SMALL: dict[str, Any] = {
    "num_train": 2_500,
    "num_validation": 30,
    "num_test": 20,
    "length": 32,
    "num_pairs": 4,
    "num_keys": 6,
    "num_values": 5,
}


def make(folder: Path, **options: Any) -> Recall:
    return Recall(cache_dir=folder, **(SMALL | options))


def words_of(task: Recall, split: Any = "train") -> list[list[str]]:
    examples = task.examples(split)
    return [task.decode(examples[at]).split() for at in range(len(examples))]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_fillers": 7, "gap_power": 1.0},
        # As many questions as there are slots for them.
        {"length": 16, "num_keys": 4},
        {"num_pairs": 1, "num_keys": 1, "length": 4},
        {"pair_tokens": 1},
        {"pair_tokens": 1, "length": 18, "num_keys": 4, "num_fillers": 2},
    ],
)
def test_every_answer(tmp_path: Path, options: dict[str, Any]) -> None:
    task = make(tmp_path, num_train=300, **options)
    task.prepare()
    num_pairs, pair_tokens = (SMALL | options)["num_pairs"], options.get("pair_tokens", 2)
    for split in SPLITS:
        examples = task.examples(split)
        for at, words in enumerate(words_of(task, split)):
            assert np.asarray(examples[at].target).tolist() == oracle.answers(
                words, pair_tokens=pair_tokens
            )
            asked = [word[1:] for word in words if word.startswith("?")]
            listed = [word.split("=")[0] for word in words[:num_pairs]]
            assert sorted(asked) == sorted(listed)
            assert len(set(asked)) == num_pairs
    assert [check.problem for check in task.verify()] == 6 * [None]


@pytest.mark.parametrize("gap_power", [0.01, 0.5, 1.0])
def test_slots_are_those_of_the_oracle(tmp_path: Path, gap_power: float) -> None:
    task = make(tmp_path, gap_power=gap_power)
    task.prepare()
    num_pairs, num_slots = SMALL["num_pairs"], SMALL["length"] // 2 - SMALL["num_pairs"]
    ours, theirs = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for words in words_of(task):
        keys = [word.split("=")[0] for word in words[:num_pairs]]
        slots = {word[1:]: at // 2 for at, word in enumerate(words[num_pairs:]) if word[0] == "?"}
        ours.update((pair, slots[key]) for pair, key in enumerate(keys))
    rng = random.Random(0)
    for _ in range(SMALL["num_train"]):
        drawn = oracle.draw_slots(
            rng, num_slots=num_slots, num_pairs=num_pairs, gap_power=gap_power
        )
        theirs.update(enumerate(drawn))
    assert ours.keys() == theirs.keys()
    # Two samples of the same shares differ by a few standard errors at most.
    for key, number in theirs.items():
        assert abs(ours[key] - number) < 5 * (ours[key] + number) ** 0.5, key


def test_keys_and_values_are_uniform(tmp_path: Path) -> None:
    task = make(tmp_path)
    task.prepare()
    pairs = Counter(word for words in words_of(task) for word in words if "=" in word)
    expected = SMALL["num_train"] * SMALL["num_pairs"] / (SMALL["num_keys"] * SMALL["num_values"])
    assert len(pairs) == SMALL["num_keys"] * SMALL["num_values"]
    assert all(abs(number - expected) < 5 * expected**0.5 for number in pairs.values())


def test_bytes_that_never_change(tmp_path: Path) -> None:
    task, other = make(tmp_path), make(tmp_path, seed=1)
    assert task.fingerprint() == "f0a1bc0beb2d047612cfe18877ed2713b5449cfa88579738bcb6d84f255435bd"
    assert other.fingerprint() != task.fingerprint()
    assert task.spec.is_diagnostic
    assert task.spec.metrics == ("accuracy", "exact_match")


def test_an_example_that_was_tampered_with(tmp_path: Path) -> None:
    task = make(tmp_path)
    example = task.examples("test")[0]
    tokens, target = np.array(example.inputs[0]), np.array(example.target)
    assert task.is_right(Example((tokens,), target))
    asked = int(np.flatnonzero(target != IGNORED)[0])
    for change in (1, IGNORED - target[asked]):
        wrong = target.copy()
        wrong[asked] += change
        assert not task.is_right(Example((tokens,), wrong))
    missing = tokens.copy()
    missing[asked] = tokens.max()
    assert not task.is_right(Example((missing,), target))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_keys": 3}, r"num_keys=3 must be at least task\.num_pairs=4"),
        ({"length": 33}, r"length=33 must be even, and at least 16"),
        ({"length": 14}, r"length=14 must be even, and at least 16"),
        ({"num_values": 1}, r"num_values=1 must be at least 2"),
        ({"pair_tokens": 3}, r"pair_tokens=3 is not one of 1, 2"),
        ({"num_pairs": 0}, r"num_pairs=0 must be at least 1"),
        ({"gap_power": 0.0}, r"gap_power=0\.0 must be above 0 and at most 1"),
        ({"gap_power": float("nan")}, r"gap_power=nan must be above 0"),
        ({"num_train": 0}, r"num_train=0 must be at least 1"),
        ({"seed": -1}, r"seed=-1 must not be negative"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        make(tmp_path, **options)
