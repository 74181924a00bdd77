"""Tasks of a few short examples that a tiny model learns in seconds: one of each kind of target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lra_bench.types import IGNORED, SPLITS, Answers, DataInfo, Example, Split, Task, TaskSpec

# What marks the ends of a span.
OPENING, CLOSING = 7, 8


class MadeUp(Task):
    """Rows of random tokens, and something that can be read from them.

    Args:
        num_examples: Examples of each split.
        seed: What they are drawn with.
    """

    def __init__(self, *, num_examples: int = 64, seed: int = 0) -> None:
        self.num_examples = num_examples
        self.seed = seed

    def examples(self, split: Split) -> Sequence[Example]:
        rng = np.random.default_rng((self.seed, SPLITS.index(split)))
        rows = [rng.integers(1, 7, rng.integers(6, 20)) for _ in range(self.num_examples)]
        return [self.example(row, rng) for row in rows]

    def example(self, row: np.ndarray[tuple[int], np.dtype[np.int64]], rng: object) -> Example:
        raise AssertionError

    def fingerprint(self) -> str:
        options = f"{type(self).__name__} {self.num_examples} {self.seed}"
        return hashlib.sha256(options.encode()).hexdigest()

    def info(self) -> DataInfo:
        return DataInfo(origin="made up", source=f"made up, seed {self.seed}")


class FirstToken(MadeUp):
    """A class: the first token modulo three."""

    spec = TaskSpec("first", 9, 20, num_classes=3, metrics=("f1_macro", "accuracy"))

    def example(self, row: np.ndarray[tuple[int], np.dtype[np.int64]], rng: object) -> Example:
        return Example((row,), int(row[0] % 3))


class EvenTokens(MadeUp):
    """A class at each position: whether the token is even; every fifth position asks nothing."""

    spec = TaskSpec(
        "even", 9, 20, num_classes=2, target="tokens", metrics=("f1_of_1", "accuracy", "f1_micro")
    )

    def example(self, row: np.ndarray[tuple[int], np.dtype[np.int64]], rng: object) -> Example:
        target = row % 2
        target[::5] = IGNORED
        return Example((row,), target)


class Brackets(MadeUp):
    """A span: from the opening to the closing bracket."""

    spec = TaskSpec("brackets", 9, 20, target="span")

    def example(self, row: np.ndarray[tuple[int], np.dtype[np.int64]], rng: object) -> Example:
        assert isinstance(rng, np.random.Generator)
        first, last = np.sort(rng.choice(len(row), 2, replace=False))
        row[first], row[last] = OPENING, CLOSING
        return Example((row,), np.array([first, last]))


class LastCandidate(MadeUp):
    """A choice: the last of two to four candidates; every other example has two pieces of text."""

    spec = TaskSpec("last", 9, 20, num_inputs=2, target="choice", candidate=7, context=8)

    def example(self, row: np.ndarray[tuple[int], np.dtype[np.int64]], rng: object) -> Example:
        number = 2 + int(row[0]) % 3
        head = np.append(np.stack([np.full(number, 7), row[:number]], axis=1).ravel(), 8)
        pieces = [row[:5], row[5:10]][: 1 + int(row[1]) % 2]
        return Example(tuple(np.concatenate([head, piece]) for piece in pieces), number - 1)


class Questions(list[Example]):
    """Examples whose answers are judged: the tokens of the span, against those of the brackets."""

    def judge(self, answers: Answers) -> dict[str, float]:
        exact = 0
        for index, span in zip(answers.indices_N.tolist(), answers.spans_N2, strict=True):
            exact += any((span == one).all() for one in np.asarray(self[index].target))
        return {"examples": len(self), "exact": exact, "answer_f1": float(exact)}


class AnyBrackets(Brackets):
    """Any of several spans: from an opening bracket to the closing one behind it."""

    spec = TaskSpec(
        "any", 9, 20, target="spans", metrics=("answer_f1", "exact_match"), answer_length=12
    )

    def examples(self, split: Split) -> Questions:
        return Questions(super().examples(split))

    def example(self, row: np.ndarray[tuple[int], np.dtype[np.int64]], rng: object) -> Example:
        example = super().example(row, rng)
        return Example(example.inputs, np.asarray(example.target)[None])


CONFIGURATIONS = {
    "first": "FirstToken",
    "even": "EvenTokens",
    "brackets": "Brackets",
    "last": "LastCandidate",
    "any": "AnyBrackets",
}


def write_configurations(folder: Path) -> Path:
    """Write a configuration for each of the tasks, as a user would, and return the folder."""
    (folder / "task").mkdir(parents=True)
    for name, target in CONFIGURATIONS.items():
        (folder / f"task/{name}.yaml").write_text(
            f"# Made up.\n_target_: made_up_tasks.{target}\nnum_examples: 64\nseed: 0\n"
        )
    return folder
