"""The types that the harness and the tasks share; nothing here does any work.

Shapes: B batch, I inputs an example, L length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    # Only named in annotations: a task, and each worker process of one, must not pay for torch.
    from torch import Tensor

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# What is asked about an example: one class, the first and last position of a span, a class at
# each position, one of the candidates that stand in the input, or any of several spans, of which
# there may be none.
Target = Literal["class", "span", "tokens", "choice", "spans"]
TARGETS: tuple[Target, ...] = get_args(Target)
# At a position with this id nothing is asked; it is also what PyTorch's cross entropy leaves out.
IGNORED = -100

_DEFAULT_METRICS: dict[Target, tuple[str, ...]] = {
    "class": ("accuracy",),
    "span": ("exact_match", "token_f1"),
    "tokens": ("accuracy",),
    "choice": ("accuracy",),
    "spans": ("exact_match",),
}


@dataclass(frozen=True)
class Quantities:
    """What the ids of a task are as numbers: ``(id - mean) / deviation``.

    Args:
        mean: The id that is 0, a fraction perhaps.
        deviation: How many ids make 1.
    """

    mean: float
    deviation: float

    def __post_init__(self) -> None:
        """Refuse what nothing can be divided by.

        Raises:
            ValueError: The deviation is not positive.
        """
        if not self.deviation > 0:
            raise ValueError(f"deviation={self.deviation} must be greater than 0")


@dataclass(frozen=True)
class TaskSpec:
    """What a model has to know about a task.

    Args:
        name: The task's name in messages; records and tables have the name of its configuration.
        vocab_size: Number of token ids; ids are 0..vocab_size-1 and 0 is reserved for padding,
            unless the task gives it a meaning (padding is told by the length, not by the id).
        max_length: Longest input [tokens].
        num_classes: Number of classes, of the example or of each position; 0 for spans and
            candidates.
        num_inputs: Sequences an example: 1, or 2 where two documents are compared. Of a
            ``choice``, the most that an example can have: each begins with the same question and
            candidates, and goes on with another piece of the text.
        target: What is asked: one ``class`` an example, the first and last position of a
            ``span``, a class at each of the ``tokens``, the right one of some candidates
            (``choice``), or any one of several ``spans``.
        metrics: Names from `lra_bench.metrics`; the first one ranks, and chooses the weights on
            validation. Empty for the usual ones of the target.
        majority_baseline: The ranking metric of always answering the most frequent class, as
            expected from how the data are made (a record holds what its own test split has).
        quantities: Where ids are not symbols but quantities, such as gray levels: which ones; then
            ``trunk.input=linear`` can read them as numbers. None for symbols.
        questions: Where classes of positions are asked for: kinds of questions by name, each the
            id of the token that stands where it is asked. ``accuracy_of_NAME`` is the accuracy of
            one kind.
        is_diagnostic: Made to tell models apart, not to rank them; in no average.
        is_corpus: Sequences that nothing is asked about; their class is always 0. Only an objective
            that asks something itself can be trained on them, such as ``denoising``.
        symbol_bytes: Where ids are pieces of text: how many bytes of it each stands for, one number
            an id, so that losses over different vocabularies can be compared. Empty where that is
            known only once the data are prepared; None where ids are no text.
        has_mask: The last id stands for what is hidden; it is never an answer.
        candidate: Of a ``choice``: the id of the token that stands before each candidate, and
            nowhere else.
        context: Of a ``choice`` and of ``spans``: the id of the token with which what is asked
            ends and the text begins; no answer lies before it. None where all of an input is text.
        answer_length: Of ``spans``: the longest answer that is looked for [tokens].
    """

    name: str
    vocab_size: int
    max_length: int
    num_classes: int = 0
    num_inputs: int = 1
    target: Target = "class"
    metrics: tuple[str, ...] = ()
    majority_baseline: float | None = None
    quantities: Quantities | None = None
    questions: Mapping[str, int] = field(default_factory=dict)
    is_diagnostic: bool = False
    is_corpus: bool = False
    symbol_bytes: tuple[int, ...] | None = None
    has_mask: bool = False
    candidate: int | None = None
    context: int | None = None
    answer_length: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no model could answer.

        Raises:
            ValueError: The target is unknown, or the numbers do not fit it.
        """
        if self.target not in TARGETS:
            raise ValueError(f"target={self.target!r} is not one of {', '.join(TARGETS)}")
        if self.target in ("span", "spans", "choice"):
            if self.num_classes:
                raise ValueError(
                    f"num_classes={self.num_classes}: a {self.target} has none; leave it out"
                )
        elif self.num_classes < 1:
            raise ValueError(f"num_classes={self.num_classes} must be at least 1")
        if self.target not in ("class", "choice") and self.num_inputs != 1:
            raise ValueError(
                f"num_inputs={self.num_inputs}: positions are asked about in a single input only"
            )
        if self.questions and self.target != "tokens":
            raise ValueError(f"questions={dict(self.questions)}: they need target='tokens'")
        for name, token in self.questions.items():
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"questions: {name}={token} is no token id of this vocabulary")
        self._check_text_questions()
        if self.symbol_bytes and len(self.symbol_bytes) != self.vocab_size:
            raise ValueError(
                f"symbol_bytes has {len(self.symbol_bytes):,} numbers for {self.vocab_size:,} ids"
            )
        if self.is_corpus and (self.target, self.num_classes) != ("class", 1):
            raise ValueError("is_corpus=True: nothing is asked; give num_classes=1")
        if not self.metrics:
            object.__setattr__(self, "metrics", _DEFAULT_METRICS[self.target])

    def _check_text_questions(self) -> None:
        """Refuse what only some targets have, where another has it or one of them lacks it."""
        needs = {"candidate": ("choice",), "answer_length": ("spans",)}
        for name, targets in (needs | {"context": ("choice", "spans")}).items():
            value, said = getattr(self, name), " or ".join(map(repr, targets))
            if value is not None and self.target not in targets:
                raise ValueError(f"{name}={value}: it needs target={said}")
            if value is None and self.target in targets and name in needs:
                raise ValueError(f"target={self.target!r} needs {name}=")
        for name in ("candidate", "context"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < self.vocab_size:
                raise ValueError(f"{name}={value} is no token id of this vocabulary")
        if self.answer_length is not None and self.answer_length < 1:
            raise ValueError(f"answer_length={self.answer_length} must be at least 1")


@dataclass(frozen=True, slots=True)
class Example:
    """One example, unpadded.

    Args:
        inputs: One 1-D integer array of token ids an input, each at least one token long.
        target: The class; or the first and the last position of the span, shape (2,); or a class
            a position, as long as the input, `IGNORED` where nothing is asked; or which of the
            candidates is right, from 0 in their order; or first and last positions of all spans
            that are right, shape (A, 2), A may be 0.
    """

    inputs: tuple[NDArray[Any], ...]
    target: int | NDArray[Any]


class Examples(Protocol):
    """The examples of one split in a fixed order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class DrawnAnew(Protocol):
    """Examples of which something is drawn anew each time in training, such as what is hidden.

    ``examples[index]`` is the example as it is evaluated, and as long as every one that is drawn.
    """

    def draw(self, index: int, *, seed: int, step: int) -> Example:
        """Return an example as it is in an update; a function of the arguments alone."""
        ...


@dataclass(frozen=True)
class Answers:
    """Spans that were found in the examples of a split; N of them, in any order.

    Args:
        indices_N: Places of the examples in their split, int64.
        spans_N2: First and last position, int64; `IGNORED` where none was found.
        scores_N: Of the spans, float64: the higher, the surer.
    """

    indices_N: NDArray[np.int64]
    spans_N2: NDArray[np.int64]
    scores_N: NDArray[np.float64]


@runtime_checkable
class Judged(Protocol):
    """Examples whose ``spans`` are judged as texts, those of a question together."""

    def judge(self, answers: Answers, /) -> Mapping[str, float]:
        """Return sums that take the place of those counted by positions.

        Args:
            answers: One for every example of the split.

        Returns:
            ``examples``, the number of questions; ``exact`` and ``answer_f1``, see
            `lra_bench.metrics`.
        """
        ...


@runtime_checkable
class LengthsKnown(Protocol):
    """Examples that know their lengths without being read; others are read once to measure them."""

    def lengths(self) -> NDArray[np.int64]:
        """Return the length of the longest input of each example, shape (N,) [tokens]."""
        ...


def lengths_of(examples: Examples) -> NDArray[np.int64]:
    """Return the length of the longest input of each example, shape (N,) [tokens]."""
    if isinstance(examples, LengthsKnown):
        return examples.lengths()
    return np.array(
        [max(map(len, examples[index].inputs)) for index in range(len(examples))], np.int64
    )


@dataclass(frozen=True)
class Progress:
    """A sign of life from long work.

    Args:
        what: The work, for example ``training``.
        done: Units done.
        total: Units to do.
        seconds_left: Time still needed, where the work knows better than who watches it.
    """

    what: str
    done: int
    total: int
    seconds_left: float | None = None


ProgressCallback = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Accept progress and do nothing with it."""


@dataclass(frozen=True)
class Verification:
    """What checking a task's prepared data found.

    Args:
        what: The thing checked, for example a split.
        problem: What is wrong with it, or None.
    """

    what: str
    problem: str | None


@dataclass(frozen=True)
class DataInfo:
    """What is known of a task's data.

    Args:
        origin: Where they come from, in a few words; known before anything is read.
        terms: License or terms of use, likewise.
        num_examples: Examples of each split, where known.
        source: What was read, in words; empty as long as nothing is prepared. It names the data
            wherever a number made of them is shown; runs on different sources are never averaged.
        warning: Why the data are not the set that the task's name promises; everybody must know
            who sees the number. Empty if they are.
        note: The same of data that are known, but not the original. A number with a warning or a
            note is marked in every table and enters no average.
        details: Anything else that a record should say.
        baselines: What simple methods reach on the test split, by name: the ranking metric.
    """

    origin: str = ""
    terms: str = ""
    num_examples: Mapping[Split, int] = field(default_factory=dict)
    source: str = ""
    warning: str = ""
    note: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, float] = field(default_factory=dict)


class Task(ABC):
    """A data set and what is asked about it.

    A subclass sets ``spec`` and defines ``examples`` and ``fingerprint``. Constructing a task must
    be cheap and must not read data, so that a wrong option is refused before any work is done.
    """

    spec: TaskSpec
    # Whether `picture` shows the examples.
    has_pictures: ClassVar[bool] = False

    @abstractmethod
    def examples(self, split: Split) -> Examples:
        """Return the examples of a split; the data have been prepared."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) of the content that was read; the data have been prepared."""

    def prepare(self, progress: ProgressCallback = ignore_progress) -> None:  # noqa: B027 - an optional part of the contract
        """Make the data ready to be read; cheap if they are ready already.

        Raises:
            UserError: The data cannot be had; the text says which file to put where.
        """

    def info(self) -> DataInfo:
        """Say what is known of the data, without reading more than is prepared."""
        return DataInfo()

    def is_prepared(self) -> bool | None:
        """Return whether ``prepare`` would find nothing to do; None if the task does not tell.

        Cheap, and changes nothing.
        """
        return None

    def folder(self) -> Path | None:
        """Return the folder that holds the prepared data, None if there is none; cheap as well."""
        return None

    def verify(self) -> Iterator[Verification]:
        """Read all prepared data again and compare with what was written down about them.

        Data that can be read, but are not the set that the task's name promises, are a problem.
        """
        yield from ()

    def decode(self, example: Example) -> str:
        """Return an example in a form that a person can read; several inputs are told apart."""
        texts = [" ".join(map(str, tokens.tolist())) for tokens in example.inputs]
        if len(texts) == 1:
            return texts[0]
        return "\n\n".join(f"input {number}:\n{text}" for number, text in enumerate(texts, 1))

    def picture(self, example: Example) -> NDArray[np.uint8] | None:
        """Return an example as an image, shape (height, width), 0 black; see `has_pictures`."""
        del example
        return None


@dataclass(frozen=True)
class Batch:
    """Padded examples.

    Args:
        tokens_BIL: int64 token ids, 0 where padded.
        mask_BIL: True at real tokens; None where no token is padding, so that a kernel may skip
            masking without looking at the values.
        targets: int64; classes, shape (B,); first and last positions of spans, shape (B, 2); or
            classes of positions, shape (B, L), `IGNORED` where padded or not asked; the right
            candidates, shape (B,); or all spans that are right, shape (B, A, 2), `IGNORED` where
            an example has fewer.
        num_tokens: Real tokens, known without asking the device.
        asked_N: Of classes of positions, where they are asked: row * L + position, rising. Known
            to whoever pads; left out, it is looked up in ``targets`` (which waits for the device).
        candidates_BC: Of a choice: where each candidate's token stands in every input of an
            example, -1 where an example has fewer.
        context_B: Of a choice and of spans: how many of the first tokens of every input ask.
        rows_T: Which inputs there are: row * I + input, rising; None where no example has fewer
            than others.
        indices: Places of the examples in their split; nothing where they were drawn.
    """

    tokens_BIL: Tensor
    mask_BIL: Tensor | None
    targets: Tensor
    num_tokens: int
    asked_N: Tensor | None = None
    candidates_BC: Tensor | None = None
    context_B: Tensor | None = None
    rows_T: Tensor | None = None
    indices: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.targets)

    @property
    def places_N(self) -> Tensor:
        """Where classes of positions are asked: row * L + position, rising."""
        if self.asked_N is not None:
            return self.asked_N
        return (self.targets.flatten() != IGNORED).nonzero()[:, 0]

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with each of its tensors changed."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        changed: dict[str, Any] = {
            name: change(one) for name, one in tensors.items() if one is not None
        }
        return replace(self, **changed)


_TENSORS = (
    "tokens_BIL",
    "mask_BIL",
    "targets",
    "asked_N",
    "candidates_BC",
    "context_B",
    "rows_T",
)
