from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import approx_fprime

from lra_tasks import _bag_of_words
from lra_tasks._bag_of_words import accuracy, answers, count, fit

Rows = tuple[list[bytes], list[int]]


def made_up(number: int, seed: int, num_classes: int = 2) -> Rows:
    """Return texts of which one word in ten tells the class."""
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(number):
        label = rng.randrange(num_classes)
        words = [
            f"sign{label}" if rng.random() < 0.1 else f"word{rng.randrange(50)}" for _ in range(40)
        ]
        texts.append(" ".join(words).encode())
        labels.append(label)
    return texts, labels


@pytest.mark.parametrize("num_classes", [2, 5])
def test_words_that_tell_the_class(num_classes: int) -> None:
    training, test = (made_up(200, seed, num_classes) for seed in (0, 1))
    assert accuracy(training, test, num_classes) > 0.95
    again = accuracy(training, test, num_classes)
    assert again == accuracy(training, test, num_classes)


def test_words_that_tell_nothing() -> None:
    training, test = made_up(300, 0), made_up(300, 1)
    rng = random.Random(2)
    shuffled = rng.choices([0, 1], k=300)
    assert 0.35 < accuracy((training[0], shuffled), (test[0], rng.choices([0, 1], k=300)), 2) < 0.65


def test_pairs_of_words_in_their_order() -> None:
    rng = random.Random(0)
    texts, labels = [], []
    for _ in range(300):
        label = rng.randrange(2)
        pair = "good bad" if label else "bad good"
        filler = [f"w{rng.randrange(30)}" for _ in range(10)]
        texts.append(" ".join([*filler[:5], pair, *filler[5:]]).encode())
        labels.append(label)
    assert accuracy((texts[:200], labels[:200]), (texts[200:], labels[200:]), 2) == 1.0


def test_counts() -> None:
    counts = count([b"One two, one TWO one.", b"", b"\xe6\x97\xa5 !?"])
    assert counts.starts.tolist() == [0, 4, 4, 5]
    # one 3, two 2, one-two 2, two-one 2
    assert sorted(counts.numbers[:4].tolist()) == [2, 2, 2, 3]
    long = count([b"x " * (_bag_of_words.MOST_WORDS * 2)])
    assert sorted(long.numbers.tolist()) == [_bag_of_words.MOST_WORDS - 1, _bag_of_words.MOST_WORDS]


@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_least_of_the_loss_is_found(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5))
    classes = rng.integers(0, num_classes, 40)
    weights = fit(sparse.csr_matrix(rows), classes, num_classes, 2.0)

    def loss(flat: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        own = flat.reshape(6, num_classes)
        scores = rows @ own[:-1] + own[-1]
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(-2.0 * logs[np.arange(40), classes].sum() + 0.5 * (own[:-1] ** 2).sum())

    slope = approx_fprime(weights.ravel(), loss, 1e-6)
    assert abs(slope).max() < 0.02
    assert (answers(rows, weights) == (rows @ weights[:-1] + weights[-1]).argmax(axis=1)).all()


def test_texts_without_words() -> None:
    assert accuracy(([b"!", b"?"], [0, 1]), ([b"."], [0]), 2) in (0.0, 1.0)
