from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from pathfinders import (
    DIFFICULTIES,
    NUM_DRAWN,
    STROKES,
    drawn_by_us,
    few_drawn,
)

from lra_tasks._pathfinder_draw import (
    RESOLUTIONS,
    Difficulty,
    draw,
    parameters,
)
from lra_tasks._pathfinder_geometry import (
    Drawn,
    Floats,
    clearances,
    discs_fit_labels,
    gaps,
    problem_of,
)


def path_of(contour: Floats) -> Floats:
    """Return the points of a contour, shape (C, 2, 2), in order: its strokes and its gaps."""
    return contour.reshape(-1, 2)


def dense(path: Floats, step: float) -> Floats:
    """Return points on a line of straight pieces, at most a step from each other."""
    pieces = []
    for start, stop in pairwise(path):
        number = int(np.hypot(*(stop - start)) / step) + 2
        pieces.append(np.linspace(start, stop, number))
    return np.concatenate(pieces)


def distance_by_points(first: Floats, second: Floats, step: float) -> float:
    a, b = dense(path_of(first), step), dense(path_of(second), step)
    return float(np.hypot(*(a[:, None] - b[None, :]).transpose(2, 0, 1)).min())


@pytest.mark.parametrize("number", [12, pytest.param(40, marks=pytest.mark.slow)])
def test_clearances_against_points(number: int) -> None:
    rng = np.random.default_rng(0)
    made = rng.uniform(0, 32, size=(number, 2, 4, 2, 2))
    # Whole pixels meet and touch more often; strokes may be points.
    whole = rng.integers(0, 7, size=(number, 2, 3, 2, 2)).astype(float)
    for contours in (made, whole, few_drawn(32).contours[: number // 6]):
        found = clearances(contours)
        for (first, second), distance in zip(contours, found, strict=True):
            expected = distance_by_points(first, second, 0.05)
            assert distance - 1e-9 <= expected <= distance + 0.05


def row_of_strokes(*, row: float, col: float = 0.0) -> Floats:
    """Return a contour of three strokes of length 2, gaps of 2, along a row, shape (3, 2, 2)."""
    ends = col + np.arange(6) * 2.0
    return np.stack((np.full(6, row), ends), axis=-1).reshape(3, 2, 2)


def upright(contour: Floats) -> Floats:
    return contour[..., ::-1]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (row_of_strokes(row=3), 3.0),
        (row_of_strokes(row=0.3), 0.3),
        (row_of_strokes(row=0), 0.0),
        # Through a stroke, and through a gap.
        (upright(row_of_strokes(row=1, col=-3)), 0.0),
        (upright(row_of_strokes(row=3, col=-3)), 0.0),
        # An end on the line.
        (upright(row_of_strokes(row=1, col=0)), 0.0),
        (upright(row_of_strokes(row=1, col=0.25)), 0.25),
        # Behind its end.
        (row_of_strokes(row=0, col=14), 4.0),
    ],
)
def test_clearances_of_plain_cases(second: Floats, expected: float) -> None:
    both = np.stack((row_of_strokes(row=0), second))[None]
    assert clearances(both).tolist() == pytest.approx([expected], abs=1e-12)
    assert clearances(both[:, ::-1]).tolist() == pytest.approx([expected], abs=1e-12)


def test_gaps_of_plain_cases() -> None:
    contour = row_of_strokes(row=0)
    torn = contour.copy()
    torn[2:] += (3.0, 4.0)
    assert gaps(np.stack((contour, torn))[None]).tolist() == [
        [[2.0, 2.0], [2.0, pytest.approx((3**2 + 6**2) ** 0.5)]]
    ]


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_contours_hang_together(resolution: int) -> None:
    params = parameters(resolution, "hard")
    contours = few_drawn(resolution).contours
    assert contours.shape[1:] == (2, 14, 2, 2)
    found = gaps(contours)
    assert found.max() <= 2 * max(params.margins) + 3
    assert found.min() > 0
    length = np.hypot(*np.moveaxis(contours[..., 1, :] - contours[..., 0, :], -1, 0))
    assert length == pytest.approx(params.paddle_length)
    assert contours.min() > -1
    assert contours.max() < resolution


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_discs_sit_on_tips_of_one_contour_if_and_only_if_the_label_is_1(
    difficulty: Difficulty,
) -> None:
    drawn = drawn_by_us(difficulty)
    assert drawn.contours.shape[2] == STROKES[difficulty]
    # From the tail of the first stroke to the head of the last.
    origins, terminals = drawn.contours[:, :, 0, 0], drawn.contours[:, :, -1, 1]
    on_origin = (origins == drawn.markers[:, None, 0]).all(axis=-1)
    on_terminal = (terminals == drawn.markers[:, None, 1]).all(axis=-1)
    assert (on_origin.sum(axis=1) == 1).all()
    assert on_terminal.any(axis=1).all()
    # Both contours may end at one pixel, as published: then the label cannot be told.
    one_tip = (terminals[:, 0] == terminals[:, 1]).all(axis=-1)
    assert one_tip.mean() < 0.01
    is_one = (on_origin & on_terminal).any(axis=1)
    assert np.array_equal(is_one[~one_tip], drawn.labels[~one_tip] == 1)
    # One contour as often as the other.
    assert on_origin[:, 0].mean() == pytest.approx(0.5, abs=4 * 0.5 / NUM_DRAWN**0.5)
    at = tuple(np.moveaxis(drawn.markers, -1, 0))
    every = np.arange(NUM_DRAWN)[:, None]
    assert (drawn.images[every, at[0], at[1]] > 200).all()


def test_second_contour_begins_at_the_seed_distance() -> None:
    drawn = drawn_by_us("easy")
    tails = drawn.contours[:, :, 0, 0]
    distance = np.hypot(*(tails[:, 0] - tails[:, 1]).T)
    assert abs(distance - 7).max() <= 2**0.5 / 2 + 1e-9


@pytest.mark.parametrize(
    ("difficulty", "share"), [("easy", 0.16), ("intermediate", 0.20), ("hard", 0.34)]
)
def test_published_contours_touch_in_a_known_share(difficulty: Difficulty, share: float) -> None:
    drawn = drawn_by_us(difficulty)
    touch = clearances(drawn.contours) < parameters(32, difficulty).paddle_thickness
    assert touch.mean() == pytest.approx(share, abs=0.035)
    # Whatever the label.
    by_label = [touch[drawn.labels == label] for label in (0, 1)]
    error = 4 * touch.std() * (1 / len(by_label[0]) + 1 / len(by_label[1])) ** 0.5
    assert abs(by_label[0].mean() - by_label[1].mean()) < error


@pytest.mark.parametrize("often", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_contours_apart_never_touch(resolution: int, difficulty: Difficulty, often: bool) -> None:
    number = {32: 1000, 64: 20, 128: 20, 256: 40}[resolution] // (1 if often else 3)
    params = parameters(resolution, difficulty, apart=True)
    drawn = draw(params, number, 0, 0)
    assert clearances(drawn.contours).min() >= params.paddle_thickness
    assert drawn.labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / number**0.5)


def one_pair(first: NDArray[np.float64], second: NDArray[np.float64]) -> Drawn:
    """Return one image of two contours, with discs on both."""
    tips = np.stack((first[0, 0], second[-1, 1]))
    return Drawn(
        images=np.zeros((1, 32, 32), np.uint8),
        labels=np.zeros(1, np.int64),
        contours=np.stack((first, second))[None],
        markers=np.floor(tips + 0.5)[None].astype(np.int64),
        num_distractors=np.zeros(1, np.int64),
    )


def problem(drawn: Drawn, *, apart: bool = False) -> str | None:
    params = parameters(32, "hard")
    thickness = params.paddle_thickness
    return problem_of(drawn, margin=max(params.margins), thickness=thickness, apart=apart)


def test_discs_are_checked() -> None:
    drawn = draw(parameters(32, "hard", apart=True), 30, 0, 0)
    assert discs_fit_labels(drawn).all()
    swapped = replace(drawn, labels=1 - drawn.labels)
    assert problem(swapped) == "30 images have discs that do not sit where the label says"


def test_geometry_is_checked() -> None:
    drawn = draw(parameters(32, "hard", apart=True), 30, 0, 0)
    assert problem(drawn) is None
    assert problem(drawn, apart=True) is None
    torn = drawn.contours.copy()
    torn[3, 1, 7:] += 6.0
    for apart in (False, True):
        assert "1 images have a contour that does not hang together" in str(
            problem(replace(drawn, contours=torn), apart=apart)
        )
    for first, second in (
        (row_of_strokes(row=4), upright(row_of_strokes(row=3, col=1))),
        (row_of_strokes(row=4), row_of_strokes(row=4.4)),
    ):
        both = one_pair(first, second)
        # As published they may.
        assert problem(both) is None
        assert problem(both, apart=True) == "1 images have contours that touch or cross"
    near = one_pair(row_of_strokes(row=4), row_of_strokes(row=4.6))
    assert problem(near, apart=True) is None
