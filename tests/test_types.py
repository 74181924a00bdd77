"""What a task may promise."""

from __future__ import annotations

import numpy as np
import pytest

from lra_bench.types import Example, Task, TaskSpec, lengths_of


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "word"}, "target='word' is not one of class, span, tokens, choice, spans"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"num_classes": 0, "target": "tokens"}, "num_classes=0"),
        ({"target": "span"}, "a span has none"),
        ({"target": "tokens", "num_inputs": 2}, "a single input only"),
        ({"target": "choice", "candidate": 1}, "num_classes=3: a choice has none"),
        ({"target": "choice", "num_classes": 0}, "target='choice' needs candidate="),
        ({"target": "choice", "num_classes": 0, "candidate": 9}, "candidate=9 is no token id"),
        ({"target": "spans", "num_classes": 0}, "target='spans' needs answer_length="),
        ({"target": "spans", "num_classes": 0, "answer_length": 0}, "answer_length=0 must be at"),
        ({"answer_length": 3}, "answer_length=3: it needs target='spans'"),
        ({"candidate": 3}, "candidate=3: it needs target='choice'"),
        ({"context": 3}, "context=3: it needs target='choice' or 'spans'"),
        ({"questions": {"near": 1}}, "they need target='tokens'"),
        ({"target": "tokens", "questions": {"near": 1, "far": 9}}, "far=9 is no token id"),
    ],
)
def test_a_spec_that_no_model_could_answer(options: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        TaskSpec(**{"name": "t", "vocab_size": 9, "max_length": 5, "num_classes": 3, **options})  # type: ignore[arg-type]


def test_every_target_has_its_usual_metrics() -> None:
    assert TaskSpec("t", 9, 5, 3).metrics == ("accuracy",)
    assert TaskSpec("t", 9, 5, 3, target="tokens").metrics == ("accuracy",)
    assert TaskSpec("t", 9, 5, target="span").metrics == ("exact_match", "token_f1")
    assert TaskSpec("t", 9, 5, target="choice", candidate=8).metrics == ("accuracy",)
    assert TaskSpec("t", 9, 5, target="spans", answer_length=3).metrics == ("exact_match",)
    assert TaskSpec("t", 9, 5, 3, metrics=("f1_macro",)).metrics == ("f1_macro",)


class Known(list[Example]):
    """Examples that know their lengths."""

    def lengths(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([7, 8])


class Two(Task):
    """The least that a task must be."""

    spec = TaskSpec("two", 9, 5, 3)

    def examples(self, split: str) -> list[Example]:
        return [Example((np.arange(3), np.arange(1, 6)), 1), Example((np.arange(2),), 0)]

    def fingerprint(self) -> str:
        return "0" * 64


def test_lengths() -> None:
    examples = Two().examples("train")
    assert lengths_of(examples).tolist() == [5, 2]
    assert lengths_of(Known(examples)).tolist() == [7, 8]


def test_what_a_task_need_not_say() -> None:
    task = Two()
    task.prepare()
    assert task.is_prepared() is None
    assert (task.folder(), list(task.verify()), task.has_pictures) == (None, [], False)
    two_inputs, one = task.examples("train")
    assert task.decode(one) == "0 1"
    assert task.decode(two_inputs) == "input 1:\n0 1 2\n\ninput 2:\n1 2 3 4 5"
    assert task.picture(one) is None
    assert task.info().source == ""
