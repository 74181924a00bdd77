"""What words and pairs of words alone tell: a model without order, to stand beside every other.

TF-IDF of words and bigrams and logistic regression, learned on the training split. Features are
numbers in a table of fixed size, in which two may meet.

Shapes: N texts, F features, C classes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What it is called in records and tables.
NAME = "bag of words"
# Words of a text that are looked at: of a paper, the first pages.
MOST_WORDS = 1_000
_NUM_BUCKETS = 1 << 20
_MOST_FEATURES = 1 << 18
# Of training texts that must have a feature.
_LEAST_TEXTS = 2
# Weight of the data against the penalty; the smaller, the simpler. Not tuned for any task: the
# validation splits of small ones are too small to choose it.
STRENGTH = 10.0
_MOST_STEPS = 100
_WORD = re.compile(rb"[^\W_][^\W_']*|[\x80-\xff]+")
# Odd, so that the order of two words matters.
_FACTOR = np.uint32(0x9E3779B1)

# Texts, UTF-8, and their classes.
Labeled = tuple[Iterable[bytes], Sequence[int]]


@dataclass(frozen=True)
class Counts:
    """How often each feature stands in each text, rows one after the other."""

    starts: NDArray[np.int64]
    features: NDArray[np.int32]
    numbers: NDArray[np.float32]


def accuracy(training: Labeled, test: Labeled, num_classes: int) -> float:
    """Return the share of test texts whose class is told right.

    Args:
        training: The texts, UTF-8, and their classes.
        test: The same, looked at once.
        num_classes: Number of classes.
    """
    counted = _matrix(count(training[0]))
    in_texts = np.bincount(counted.indices, minlength=_NUM_BUCKETS)
    # The most frequent ones; of equals the first.
    kept = np.argsort(-in_texts, kind="stable")[:_MOST_FEATURES]
    kept = np.sort(kept[in_texts[kept] >= min(_LEAST_TEXTS, counted.shape[0])])
    rarity = np.log((1 + counted.shape[0]) / (1 + in_texts[kept])) + 1
    rows_NF = _weighted(counted[:, kept], rarity)
    weights = fit(rows_NF, np.asarray(training[1]), num_classes, STRENGTH)
    asked_NF = _weighted(_matrix(count(test[0]))[:, kept], rarity)
    return float((answers(asked_NF, weights) == np.asarray(test[1])).mean())


def _matrix(counts: Counts) -> Any:
    # It takes a moment, and only preparing needs it.
    from scipy import sparse

    shape = (len(counts.starts) - 1, _NUM_BUCKETS)
    return sparse.csr_matrix((counts.numbers, counts.features, counts.starts), shape)


def _weighted(rows_NF: Any, rarity: NDArray[np.float64]) -> Any:
    """Return TF-IDF, each text with the length 1."""
    from scipy import sparse

    rows_NF.data = (1 + np.log(rows_NF.data)) * rarity[rows_NF.indices]
    squares = np.asarray(rows_NF.multiply(rows_NF).sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.sqrt(np.maximum(squares, 1e-12))) @ rows_NF)


def count(texts: Iterable[bytes]) -> Counts:
    """Count words and pairs of neighboring words, in lower case."""
    numbers: dict[bytes, int] = {}
    starts, features, counts = [0], [], []
    for text in texts:
        words = _WORD.findall(text.lower())[:MOST_WORDS]
        codes = np.empty(len(words), np.uint32)
        for at, word in enumerate(words):
            if (code := numbers.get(word)) is None:
                code = numbers[word] = zlib.crc32(word)
            codes[at] = code
        pairs = codes[:-1] * _FACTOR + codes[1:]
        every = np.concatenate((codes, pairs * _FACTOR)) >> np.uint32(12)
        found, times = np.unique(every, return_counts=True)
        features.append(found.astype(np.int32))
        counts.append(times.astype(np.float32))
        starts.append(starts[-1] + len(found))
    return Counts(np.array(starts, np.int64), np.concatenate(features), np.concatenate(counts))


def fit(
    rows_NF: Any,
    classes_N: NDArray[Any],
    num_classes: int,
    strength: float,
) -> NDArray[np.float64]:
    """Return the weights of a logistic regression, shape (F + 1, C); the last row is the bias.

    Args:
        rows_NF: The features, a sparse matrix.
        classes_N: The classes.
        num_classes: C.
        strength: Weight of the sum of losses against half the squared weights.
    """
    from scipy.optimize import minimize

    shape = (rows_NF.shape[1] + 1, num_classes)
    answers_NC = np.eye(num_classes)[classes_N]
    columns_FN = rows_NF.T.tocsr()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        scores_NC = rows_NF @ weights[:-1] + weights[-1]
        scores_NC -= scores_NC.max(axis=1, keepdims=True)
        sums_N1 = np.exp(scores_NC).sum(axis=1, keepdims=True)
        logs_NC = scores_NC - np.log(sums_N1)
        wrong_NC = np.exp(logs_NC) - answers_NC
        of_bias = strength * wrong_NC.sum(axis=0)
        gradient = np.vstack((strength * (columns_FN @ wrong_NC) + weights[:-1], of_bias))
        value = -strength * logs_NC[answers_NC > 0].sum() + 0.5 * (weights[:-1] ** 2).sum()
        return float(value), gradient.ravel()

    found = minimize(
        loss,
        np.zeros(shape).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS, "gtol": 1e-3, "ftol": 1e-7},
    )
    return np.asarray(found.x).reshape(shape)


def answers(rows_NF: Any, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of each text, shape (N,)."""
    scores_NC = rows_NF @ weights[:-1] + weights[-1]
    return np.asarray(scores_NC.argmax(axis=1), np.int64)
