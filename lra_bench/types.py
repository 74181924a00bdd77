"""The types that the harness and the tasks share; nothing here does any work.

Shapes: B batch, I inputs an example, L length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    # Only named in annotations: a task, and each worker process of one, must not pay for torch.
    from torch import Tensor

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class UserError(ValueError):
    """Something the user wrote or provided is wrong; the text names it and says what to do.

    The command line prints the text alone, without a traceback, and exits with status 2.
    """


@dataclass(frozen=True)
class TaskSpec:
    """What a model has to know about a task.

    Args:
        name: The task's name in records and tables.
        vocab_size: Number of token ids; ids are 0..vocab_size-1 and 0 is reserved for padding,
            unless the task gives it a meaning (padding is told by the length, not by the id).
        max_length: Longest input [tokens].
        num_classes: Number of labels; labels are 0..num_classes-1.
        num_inputs: Sequences an example: 1, or 2 where two documents are compared.
        majority_baseline: Accuracy of always answering the most frequent class, as expected from
            how the data are made (a record holds the value counted on its own test split).
    """

    name: str
    vocab_size: int
    max_length: int
    num_classes: int
    num_inputs: int = 1
    majority_baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One example, unpadded.

    Args:
        inputs: One 1-D integer array of token ids an input, each at least one token long.
        label: The class.
    """

    inputs: tuple[NDArray[Any], ...]
    label: int


class Examples(Protocol):
    """The examples of one split in a fixed order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


class LengthsKnown(Protocol):
    """Examples that know their lengths without being read; others are read once to measure them."""

    def lengths(self) -> NDArray[np.int64]:
        """Return the length of the longest input of each example, shape (N,) [tokens]."""
        ...


@dataclass(frozen=True)
class Progress:
    """A sign of life from long work: ``done`` of ``total`` units of ``what``."""

    what: str
    done: int
    total: int


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
class About:
    """What is known of a task's data before anything is read.

    Args:
        origin: Where the data come from, in a few words.
        terms: Licence or terms of use, in a few words.
        num_examples: Examples of each split; empty where it is not known beforehand.
    """

    origin: str = ""
    terms: str = ""
    num_examples: Mapping[Split, int] = field(default_factory=dict)


class Task(ABC):
    """A data set and what is asked about it.

    A subclass sets ``spec`` and defines ``examples`` and ``fingerprint``. Constructing a task must
    be cheap and must not read data, so that a wrong option is refused before any work is done.
    """

    spec: TaskSpec

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

    def about(self) -> About:
        """Say what is known without reading anything: a table of all tasks is made of it."""
        return About()

    def is_prepared(self) -> bool:
        """Return whether ``prepare`` would find nothing to do; cheap, and changes nothing."""
        return False

    def folder(self) -> Path | None:
        """Return the folder that holds the prepared data, None if there is none; cheap as well."""
        return None

    def verify(self) -> Iterator[Verification]:
        """Read all prepared data again and compare with what was written down about them.

        Data that can be read, but are not the set that the task's name promises, are a problem.
        """
        yield from ()

    def provenance(self) -> dict[str, str]:
        """Say in words what was read, for the record.

        ``source`` names the data wherever a number made of them is shown; runs on different
        sources are never averaged. ``warning`` is what everybody must know who sees the number:
        why the data are not the set that the task's name promises. ``note`` says the same of data
        that are known, but not the original. A number with either is marked in every table and
        enters no average. Other keys are free.
        """
        return {}

    def decode(self, example: Example) -> str:
        """Return an example in a form that a person can read."""
        return "\n".join(" ".join(map(str, tokens.tolist())) for tokens in example.inputs)

    def picture(self, example: Example) -> NDArray[np.uint8] | None:
        """Return an example as an image, shape (height, width), 0 black; None if it is none."""
        del example
        return None


@dataclass(frozen=True)
class Batch:
    """Padded examples.

    Args:
        tokens_BIL: int64 token ids, 0 where padded.
        mask_BIL: True at real tokens; None where no token is padding, so that a kernel may skip
            masking without looking at the values.
        labels_B: int64 classes.
        num_tokens: Real tokens, known without asking the device.
    """

    tokens_BIL: Tensor
    mask_BIL: Tensor | None
    labels_B: Tensor
    num_tokens: int

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.labels_B)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with each of its tensors changed."""
        mask_BIL = None if self.mask_BIL is None else change(self.mask_BIL)
        return Batch(change(self.tokens_BIL), mask_BIL, change(self.labels_B), self.num_tokens)
