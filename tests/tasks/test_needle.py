from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles import needle as oracle

from lra_bench.errors import UserError
from lra_bench.types import IGNORED, SPLITS, Example
from lra_tasks.needle import Needle

SMALL: dict[str, Any] = {
    "num_train": 2_500,
    "num_validation": 30,
    "num_test": 20,
    "length": 40,
    "distance": 24,
    "num_distances": 4,
    "num_values": 5,
    "num_distractors": 3,
}


def make(folder: Path, **options: Any) -> Needle:
    return Needle(cache_dir=folder, **(SMALL | options))


def words_of(task: Needle, split: Any = "train") -> list[list[str]]:
    examples = task.examples(split)
    return [task.decode(examples[at]).split() for at in range(len(examples))]


def kind_of(word: str) -> str:
    kinds = {"=": "needle", "-": "distractor", ".": "filler"}
    return kinds.get(word[0], word[1:])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_distractors": 0, "num_fillers": 7},
        {"num_distances": 1},
        {"length": 25, "num_distances": 1, "num_distractors": 20},
        {"distance": 9, "num_distances": 3, "length": 10},
    ],
)
def test_every_answer(tmp_path: Path, options: dict[str, Any]) -> None:
    task = make(tmp_path, num_train=300, **options)
    task.prepare()
    for split in SPLITS:
        examples = task.examples(split)
        for at, words in enumerate(words_of(task, split)):
            assert len(words) == task.spec.max_length
            assert np.asarray(examples[at].target).tolist() == oracle.answers(words)
            assert any(word.startswith("?") for word in words)
    assert [check.problem for check in task.verify()] == 6 * [None]


def test_what_is_drawn_is_what_the_oracle_draws(tmp_path: Path) -> None:
    task = make(tmp_path)
    task.prepare()
    rng = random.Random(0)
    length, num_rows = task.spec.max_length, SMALL["num_train"]
    ours, theirs = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    for words in words_of(task):
        ours.update((at, kind_of(word)) for at, word in enumerate(words))
    for _ in range(num_rows):
        words = oracle.draw(
            rng, length=length, distances=task.distances, num_distractors=SMALL["num_distractors"]
        )
        theirs.update(enumerate(words))
    assert ours.keys() == theirs.keys()
    assert ours.total() == theirs.total() == num_rows * length
    # Two samples of the same shares differ by a few standard errors at most.
    for key, number in theirs.items():
        assert abs(ours[key] - number) < 5.5 * (ours[key] + number) ** 0.5, key


def test_values_are_uniform_and_independent(tmp_path: Path) -> None:
    task = make(tmp_path)
    task.prepare()
    rows = words_of(task)
    values = Counter(word for words in rows for word in words if word[0] in "=-")
    for mark, number in (("=", 1), ("-", SMALL["num_distractors"])):
        expected = SMALL["num_train"] * number / SMALL["num_values"]
        for value in range(SMALL["num_values"]):
            assert abs(values[f"{mark}{value}"] - expected) < 5 * expected**0.5


def test_each_distance_has_a_question_and_a_metric(tmp_path: Path) -> None:
    spec = make(tmp_path).spec
    assert list(spec.questions) == ["distance_24", "distance_12", "distance_6", "distance_3"]
    assert spec.metrics == ("accuracy", *(f"accuracy_of_{name}" for name in spec.questions))
    assert spec.is_diagnostic
    assert spec.majority_baseline == 0.2


def test_bytes_that_never_change(tmp_path: Path) -> None:
    task, other = make(tmp_path), make(tmp_path, seed=1)
    assert task.fingerprint() == "41696c7e3a61ff8754897d7133431fec449966179b52ed1c382a6f8027e21b44"
    assert other.fingerprint() != task.fingerprint()
    # A split does not depend on the size of another one.
    longer = make(tmp_path, num_train=3_000)
    assert words_of(longer, "test") == words_of(task, "test")
    assert words_of(longer)[:1_000] == words_of(task)[:1_000]


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
    for place, token in ((asked, tokens.max()), (asked - 1, tokens[asked])):
        moved = tokens.copy()
        moved[place] = token
        assert not task.is_right(Example((moved,), target))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_distances": 6}, r"distance=24 cannot be halved .*num_distances=6"),
        ({"length": 24}, r"length=24 must be at least 25 for task\.distance=24"),
        ({"num_distractors": 36}, r"length=40 must be at least 41 .*num_distractors=36"),
        ({"num_values": 1}, r"num_values=1 must be at least 2"),
        ({"num_fillers": 0}, r"num_fillers=0 must be at least 1"),
        ({"distance": 0}, r"distance=0 must be at least 1"),
        ({"num_distractors": -1}, r"num_distractors=-1 must be at least 0"),
        ({"num_test": 0}, r"num_test=0 must be at least 1"),
        ({"seed": -1}, r"seed=-1 must not be negative"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        make(tmp_path, **options)
