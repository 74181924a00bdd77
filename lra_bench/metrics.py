"""What an evaluation counted, and the numbers that are read from it. Needs no torch.

An evaluation is a dict of sums that can be added over batches, processes and shards. Ratios are
read from the sums, never averaged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import TARGETS, Target, TaskSpec

# Sums that every evaluation has:
#   examples  examples evaluated
#   targets   answers asked for: one an example, two for a span, or the positions that count
#   correct   answers that were right
#   exact     examples all of whose answers were right
#   loss      cross entropies of the answers [nats]
# Where examples are judged as texts (`lra_bench.types.Judged`), `examples` are questions, answered
# or not, `exact` those whose text is right, and `answer_f1` is the F1 of each question between bags
# of words; the others are about positions.
ALWAYS = ("examples", "targets", "correct", "exact", "loss")
# Sums that only some metrics need: `tp/C`, `fp/C`, `fn/C` for each class C (right answers, and the
# two kinds of wrong ones); `token_f1`, the F1 of each example between bags of tokens; `targets/Q`
# and `correct/Q` of each kind of question Q that the task names; `bytes`, of text that the right
# answers stand for.
PER_CLASS = ("tp", "fp", "fn")

Sums = Mapping[str, float]


@dataclass(frozen=True)
class Metric:
    """A number that is read from the sums of an evaluation.

    Args:
        name: What it is called in configurations, records and tables.
        title: What it is called in a sentence.
        read: Reads it from the sums.
        targets: The kinds of answers that it can judge.
        higher_is_better: Which way is better.
        is_share: Lies between 0 and 1, and is shown in percent.
        needs_classes: Needs `PER_CLASS` sums.
        needs_bags: Needs the sum `token_f1`.
        needs_bytes: Needs the sum `bytes`.
        needs_judge: Needs examples that judge answers as texts.
        question: Needs the sums of this kind of question.
    """

    name: str
    title: str
    read: Callable[[Sums], float]
    targets: tuple[Target, ...] = TARGETS
    higher_is_better: bool = True
    is_share: bool = True
    needs_classes: bool = False
    needs_bags: bool = False
    needs_bytes: bool = False
    needs_judge: bool = False
    question: str | None = None

    @property
    def constant(self) -> str:
        """What the baseline does that looks at no example, in words."""
        if self.is_share:
            return "always answering the most frequent class"
        return "always stating how frequent each class is"

    def is_better(self, value: float, than: float | None) -> bool:
        """Return whether a value beats another, or there is none to beat."""
        if than is None:
            return True
        return value > than if self.higher_is_better else value < than


@dataclass(frozen=True)
class Evaluation:
    """Sums over the examples of a split; see `ALWAYS` and `PER_CLASS`.

    Args:
        sums: By name. Counts are whole numbers.
    """

    sums: Mapping[str, float]

    @property
    def num_examples(self) -> int:
        """Examples evaluated."""
        return int(self.sums["examples"])

    @property
    def loss(self) -> float:
        """Mean cross entropy of the answers [nats]."""
        return self.sums["loss"] / self.sums["targets"]

    def __getitem__(self, name: str) -> float:
        """Return a metric by name.

        Raises:
            UserError: There is no metric of that name, or its sums were not counted.
        """
        found = metric(name)
        try:
            return found.read(self.sums)
        except (KeyError, ZeroDivisionError) as error:
            raise UserError(f"{name} cannot be read from the sums {sorted(self.sums)}") from error

    def __add__(self, other: Evaluation) -> Evaluation:
        """Return the evaluation of both sets of examples together."""
        names = [*self.sums, *(name for name in other.sums if name not in self.sums)]
        return Evaluation(
            {name: self.sums.get(name, 0) + other.sums.get(name, 0) for name in names}
        )

    def check_asked(self, task: str, metrics: Sequence[Metric]) -> None:
        """Refuse a split of which nothing, or nothing that a metric is about, was asked.

        Args:
            task: Its name, for the message.
            metrics: Those of the task.

        Raises:
            UserError: It is such a split.
        """
        if not self.sums["targets"]:
            raise UserError(f"task {task} has a split that asks nothing at all")
        for one in metrics:
            if one.question is not None and not self.sums[f"targets/{one.question}"]:
                raise UserError(f"task {task} has a split that never asks {one.question}")

    @classmethod
    def from_dict(cls, content: Any) -> Evaluation:
        """Read the sums from plain data, for example from a file.

        Raises:
            ValueError: They are not the sums of an evaluation, or contradict each other.
        """
        if not isinstance(content, Mapping) or not all(
            isinstance(name, str)
            and isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            for name, value in content.items()
        ):
            raise ValueError(f"{content!r:.200} are not the sums of an evaluation")
        if missing := [name for name in ALWAYS if name not in content]:
            raise ValueError(f"the sums of an evaluation lack {', '.join(missing)}")
        number, targets = content["examples"], content["targets"]
        if number < 1 or targets < 1:
            raise ValueError(f"{number} examples with {targets} answers were evaluated")
        limits = {"correct": targets, "exact": number, "token_f1": number, "answer_f1": number}
        for name, most in limits.items():
            if not 0 <= content.get(name, 0) <= most:
                raise ValueError(f"{name}={content[name]} of {most} cannot be")
        for name, value in content.items():
            if name != "loss" and value < 0:
                raise ValueError(f"{name}={value} cannot be negative")
        return cls(dict(content))


def _accuracy(sums: Sums) -> float:
    return sums["correct"] / sums["targets"]


def _exact_match(sums: Sums) -> float:
    return sums["exact"] / sums["examples"]


def _loss(sums: Sums) -> float:
    return sums["loss"] / sums["targets"]


def _bits_per_byte(sums: Sums) -> float:
    return sums["loss"] / math.log(2) / sums["bytes"]


def _token_f1(sums: Sums) -> float:
    return sums["token_f1"] / sums["examples"]


def _answer_f1(sums: Sums) -> float:
    return sums["answer_f1"] / sums["examples"]


def _classes(sums: Sums) -> list[str]:
    classes = [name.removeprefix("tp/") for name in sums if name.startswith("tp/")]
    if not classes:
        raise KeyError("tp/")
    return classes


def _f1_of(sums: Sums, classes: Iterable[str]) -> float:
    """Return the F1 of the counts of some classes taken together; 0 where nothing was right."""
    right, false, missed = (
        sum(sums[f"{kind}/{number}"] for number in classes) for kind in PER_CLASS
    )
    return 2 * right / (2 * right + false + missed) if right else 0.0


def _f1_micro(sums: Sums) -> float:
    return _f1_of(sums, _classes(sums))


def _f1_macro(sums: Sums) -> float:
    classes = _classes(sums)
    return sum(_f1_of(sums, [number]) for number in classes) / len(classes)


# The metrics by name; besides, `f1_of_C` is the F1 of class C, and `accuracy_of_Q` the accuracy of
# the kind of question Q.
METRICS: dict[str, Metric] = {
    found.name: found
    for found in (
        Metric("accuracy", "accuracy", _accuracy),
        Metric("exact_match", "exact match", _exact_match),
        Metric("loss", "loss", _loss, higher_is_better=False, is_share=False),
        Metric("token_f1", "token F1", _token_f1, ("span",), needs_bags=True),
        Metric(
            "bits_per_byte",
            "bits per byte",
            _bits_per_byte,
            ("tokens",),
            higher_is_better=False,
            is_share=False,
            needs_bytes=True,
        ),
        Metric("answer_f1", "answer F1", _answer_f1, ("spans",), needs_judge=True),
        Metric("f1_micro", "micro F1", _f1_micro, ("class", "tokens"), needs_classes=True),
        Metric("f1_macro", "macro F1", _f1_macro, ("class", "tokens"), needs_classes=True),
    )
}


def metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        UserError: There is none of that name.
    """
    if name in METRICS:
        return METRICS[name]
    if of := re.fullmatch(r"f1_of_(\d{1,9})", name):
        number = str(int(of[1]))
        return Metric(
            name,
            f"F1 of class {number}",
            lambda sums: _f1_of(sums, [number]),
            ("class", "tokens"),
            needs_classes=True,
        )
    if of := re.fullmatch(r"accuracy_of_(\w+)", name):
        kind = of[1]
        return Metric(
            name,
            f"accuracy of {kind}",
            lambda sums: sums[f"correct/{kind}"] / sums[f"targets/{kind}"],
            ("tokens",),
            question=kind,
        )
    raise UserError(
        f"there is no metric {name!r}; choose from {', '.join(METRICS)}, or f1_of_0, f1_of_1 ..., "
        f"or accuracy_of_Q for a kind of question Q that the task names"
    )


def metrics_of(spec: TaskSpec) -> tuple[Metric, ...]:
    """Return the metrics of a task; the first one ranks.

    Raises:
        UserError: One is unknown, or does not fit what the task asks.
    """
    found = tuple(metric(name) for name in spec.metrics)
    for one in found:
        if spec.target not in one.targets:
            raise UserError(
                f"task {spec.name}: the metric {one.name} judges {' and '.join(one.targets)} "
                f"targets, not {spec.target}"
            )
        if one.needs_bytes and spec.symbol_bytes is None:
            raise UserError(
                f"task {spec.name}: the metric {one.name} needs symbol_bytes, and what its ids "
                f"stand for is no text"
            )
        of = re.fullmatch(r"f1_of_(\d+)", one.name)
        if of and int(of[1]) >= spec.num_classes:
            raise UserError(
                f"task {spec.name}: {one.name} asks for a class beyond 0 to {spec.num_classes - 1}"
            )
        if one.question is not None and one.question not in spec.questions:
            known = ", ".join(spec.questions) or "none"
            raise UserError(
                f"task {spec.name}: {one.name} is about {one.question}; the kinds of questions "
                f"that it names are {known}"
            )
    return found


def constant_answer(
    counts: Mapping[int, int], answer: int, num_classes: int, num_examples: int
) -> Evaluation:
    """Return the evaluation of giving the same class as every answer.

    Args:
        counts: Answers asked for, by class.
        answer: The class that is always given.
        num_classes: Number of classes.
        num_examples: Examples that the answers belong to. Whether all answers of an example are
            right is known only where it has one.
    """
    total = sum(counts.values())
    right = counts.get(answer, 0)
    sums: dict[str, float] = {"examples": num_examples, "targets": total, "correct": right}
    sums |= {"exact": right if total == num_examples else 0, "loss": 0.0}
    for number in range(num_classes):
        same = number == answer
        sums[f"tp/{number}"] = right if same else 0
        sums[f"fp/{number}"] = total - right if same else 0
        sums[f"fn/{number}"] = 0 if same else counts.get(number, 0)
    return Evaluation(sums)


def measured(
    names: Iterable[str], *, test: Evaluation | None, validation: Evaluation | None
) -> dict[str, dict[str, float | None]]:
    """Return the values of metrics, and of the loss, by name and split.

    Raises:
        UserError: A metric is unknown, or its sums were not counted.
    """
    splits = {"test": test, "validation": validation}
    return {
        name: {split: None if of is None else of[name] for split, of in splits.items()}
        for name in dict.fromkeys([*names, "loss"])
    }
