from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracles import pathfinder as oracle
from pathfinders import (
    drawn_by_us,
)

from lra_tasks._pathfinder_draw import (
    RESOLUTIONS,
    Canvas,
    Difficulty,
    Growing,
    Random,
    Strokes,
    are_free,
    draw_distractors,
    draw_targets,
    moved,
    parameters,
    strokes_of,
)
from lra_tasks._pathfinder_geometry import (
    Floats,
    clearances,
)

# Against the oracle: one stroke at a time, by the letter of the description. First piece by piece.


NUM_SIGMAS = 5
SIZES_AND_MARGINS = [
    (size, margin) for size in RESOLUTIONS for margin in parameters(size, "hard").margins
]


def angles_of(table: Strokes) -> list[float]:
    """Return the directions of all strokes but the blank one: of those drawn back, the reverse."""
    along = [math.atan2(row, col) for row, col in table.candidates.tolist()]
    return [math.radians(degrees) for degrees in range(-180, 180)] + along


@pytest.mark.parametrize(("size", "margin"), SIZES_AND_MARGINS)
def test_strokes_are_those_of_the_oracle(size: int, margin: int) -> None:
    table, params = strokes_of(parameters(size, "hard"), margin), oracle.PARAMS[size, "hard"]
    for state, angle in enumerate(angles_of(table)):
        drawn_along = angle if state < 360 else oracle.flipped(angle)
        expected = oracle.stroke_of(params, margin, drawn_along)
        assert np.array_equal(table.ink[state], np.rint(expected.ink_PP * 255)), state
        assert np.array_equal(table.mask[state], np.rint(expected.mask_PP * 255)), state
    assert not table.ink[-1].any()
    assert not table.mask[-1].any()


@pytest.mark.parametrize(("size", "margin"), SIZES_AND_MARGINS)
def test_moves_are_those_of_the_oracle(size: int, margin: int) -> None:
    # Everywhere: near the first row and column rounding up has effects that it has nowhere else.
    table, length = (
        strokes_of(parameters(size, "hard"), margin),
        parameters(size, "hard").paddle_length,
    )
    points = np.stack([np.arange(size)] * 2, axis=-1)
    for state, angle in enumerate(angles_of(table)):
        found = moved(points, table.advance[state])
        assert found.tolist() == [
            list(oracle.moved((at, at), length + 2 * margin, angle)) for at in range(size)
        ]
        if state < 360:
            heads = moved(points, table.seed_head[state])
            backs = moved(points, table.seed_back[state])
            back = oracle.flipped(angle)
            for at in range(size):
                assert tuple(heads[at]) == oracle.moved((at, at), length, angle)
                assert tuple(backs[at]) == oracle.moved((at, at), length + margin, back)


@pytest.mark.parametrize(("size", "margin"), SIZES_AND_MARGINS)
def test_candidates_and_weights_are_those_of_the_oracle(size: int, margin: int) -> None:
    params = parameters(size, "hard")
    table, center = strokes_of(params, margin), size // 2
    expected = oracle.candidate_heads((center, center), params.paddle_length + margin, size)
    assert [(row + center, col + center) for row, col in table.candidates.tolist()] == expected
    angles = np.array(angles_of(table))
    away = np.abs(angles[:, None] - angles[None, 360:])
    turns = np.minimum(away, 2 * np.pi - away)
    weights = np.cos(np.minimum(params.continuity * turns, np.pi / 2)) ** 2
    assert table.weights / (1 << 16) == pytest.approx(weights, abs=1e-5)


@pytest.mark.parametrize(("size", "margin"), SIZES_AND_MARGINS)
def test_first_strokes_begin_where_the_oracles_do(size: int, margin: int) -> None:
    params, theirs = parameters(size, "hard"), oracle.PARAMS[size, "hard"]
    canvas = Canvas(params, margin)
    empty = oracle.framed(np.zeros((size, size)), params.padding)
    possible = 0
    for state in range(0, 360, {32: 1, 64: 1, 128: 15, 256: 30}[size]):
        element = oracle.seed_element(theirs, margin, math.radians(state - 180))
        # The frame of distractors' strokes is checked below.
        expected = oracle.free_tails(oracle.framed(empty, 2 * params.seed_distance), element)
        places = canvas.target_places
        number = int(places.counts[state])
        found = places.at(np.full(number, state), np.arange(number))
        assert list(map(tuple, canvas.rows_and_columns(found).tolist())) == expected
        possible += number > 0
    assert possible


def test_free_places_are_those_of_the_oracle() -> None:
    params, theirs = parameters(32, "hard"), oracle.PARAMS[32, "hard"]
    canvas = Canvas(params, 1)
    rng = np.random.default_rng(0)
    values = np.array([0, 76, 77, 255], np.uint8)
    mask = rng.choice(values, size=(32, 32), p=[0.88, 0.04, 0.04, 0.04])
    growing = Growing(canvas, framed_by_us(canvas, mask)[None], Random(0))
    expected_mask = oracle.framed(mask / 255, 1)
    num_free = 0
    for state in range(360):
        element = oracle.seed_element(theirs, 1, math.radians(state - 180))
        expected = oracle.free_tails(expected_mask, element)
        number = int(canvas.distractor_places.counts[state])
        every = canvas.distractor_places.at(np.full(number, state), np.arange(number))
        found = every
        if number:
            found = every[are_free(growing, np.zeros(1, int), np.array([state]), every[None])[0]]
        assert list(map(tuple, canvas.rows_and_columns(found).tolist())) == expected
        num_free += len(expected)
    assert num_free > 100


def framed_by_us(canvas: Canvas, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask with our frame around it, and its border, flat."""
    framed = canvas.template.reshape(canvas.side, canvas.side).copy()
    inner = slice(canvas.frame, canvas.frame + len(mask))
    framed[inner, inner] = np.maximum(framed[inner, inner], mask)
    return framed.ravel()


@pytest.mark.parametrize("size", [32, 64])
def test_next_strokes_are_chosen_as_by_the_oracle(size: int) -> None:
    # One step many times in crowded images, against the chances that follow from the description.
    params, theirs = parameters(size, "hard"), oracle.PARAMS[size, "hard"]
    canvas, number = Canvas(params, 1), 2000
    angles = angles_of(canvas.strokes)
    rng = np.random.default_rng(0)
    chance = Random(0)
    shares_found = []
    for _ in range(30):
        mask = rng.choice(
            np.array([0, 90, 180, 230, 255], np.uint8), (size, size), p=[0.8] + [0.05] * 4
        )
        flat = framed_by_us(canvas, mask)
        row, col = rng.integers(3, size - 3, 2).tolist()
        state = int(rng.integers(len(angles)))
        growing = Growing(canvas, np.tile(flat, (number, 1)), chance)
        pivot = np.full(number, canvas.at(np.array(row), np.array(col)))
        found, tips, states = growing.grow(np.arange(number), pivot, np.full(number, state))

        mask_RR = oracle.framed(mask / 255, params.padding)
        occupied_RR = oracle.dilated(mask_RR, oracle.disc(1))
        heads = oracle.candidate_heads((row, col), params.paddle_length + 1, size)
        weights, fits = [], []
        for head in heads:
            angle = math.atan2(head[0] - row, head[1] - col)
            turn = abs(angle - angles[state])
            turn = min(turn, 2 * math.pi - turn)
            straight = math.cos(min(params.continuity * turn, math.pi / 2)) ** 2
            weights.append(straight * (1 - occupied_RR[head]))
            patch = oracle.stroke_of(theirs, 1, oracle.flipped(angle)).mask_PP
            fits.append((mask_RR + oracle.pasted(patch, head, size)).max() < oracle.OVERLAP_BELOW)
        if sum(weights) < oracle.LEAST_WEIGHT:
            assert not found.any()
            continue
        fitting = np.where(fits, weights, 0) / sum(weights)
        share = 1 - (1 - fitting.sum()) ** oracle.PADDLE_TRIES
        shares_found.append(share)
        assert found.mean() == pytest.approx(share, abs=NUM_SIGMAS * 0.5 / number**0.5)
        ends = canvas.rows_and_columns(tips[found]).tolist()
        assert {tuple(end) for end in ends} <= set(heads)
        for at, head in enumerate(heads):
            expected = share * fitting[at] / max(fitting.sum(), 1e-9)
            error = NUM_SIGMAS * math.sqrt(expected * (1 - expected) / number) + 1e-6
            assert ends.count(list(head)) / number == pytest.approx(expected, abs=error)
        assert (states[found] >= 360).all()
    # Some steps are nearly hopeless, some need several draws, some never fail.
    assert min(shares_found) < 0.3
    assert sum(0.3 < share < 0.99 for share in shares_found) > 3
    assert max(shares_found) > 0.99


def test_the_mask_holds_what_was_placed_and_nothing_else() -> None:
    # With distractors of more than two strokes: one that is given up has left some.
    params = parameters(32, "hard")
    canvas, number = Canvas(params, 1), 300
    random = Random(0)
    targets = draw_targets(canvas, number, random)
    expected = Growing(canvas, np.tile(canvas.template, (number, 1)), random)
    every = np.arange(number)
    for contour, stroke in np.ndindex(2, 14):
        # As published: of the last two strokes only the second contour's.
        if (contour, stroke) != (0, 13):
            at = contour, stroke
            expected.paste(every, targets.positions[:, *at], targets.states[:, *at])
    assert np.array_equal(targets.masks, expected.masks)
    positions, states = draw_distractors(canvas, targets, random)
    # Many were begun and given up.
    blank = states == canvas.blank
    assert 0.3 < blank.mean() < 0.95
    assert np.array_equal(blank.any(axis=2), blank.all(axis=2))
    for distractor, stroke in np.ndindex(states.shape[1:]):
        some = np.flatnonzero(~blank[:, distractor, stroke])
        at = distractor, stroke
        expected.paste(some, positions[some, *at], states[some, *at])
    assert np.array_equal(targets.masks, expected.masks)


# Then whole images, by statistics.


@dataclass(frozen=True)
class Facts:
    """What two sets of images are compared by, one row an image."""

    images: Floats
    labels: NDArray[np.int64]
    contours: Floats
    markers: Floats
    num_distractors: NDArray[np.int64]

    def turns(self) -> Floats:
        """Return the angles between consecutive strokes [degrees]."""
        along = self.contours[..., 1, :] - self.contours[..., 0, :]
        turn = np.abs(np.diff(np.degrees(np.arctan2(along[..., 0], along[..., 1])), axis=-1))
        return np.asarray(np.minimum(turn, 360 - turn))

    def scalars(self) -> dict[str, Floats]:
        """Return numbers of each image by their name."""
        pixels = self.images.reshape(len(self.images), -1)
        apart = np.hypot(*(self.markers[:, 0] - self.markers[:, 1]).T)
        near = clearances(self.contours)
        found = {f"over {level}": (pixels > level).mean(axis=1) for level in (0, 64, 128, 200)}
        found |= {f"discs apart, label {one}": apart[self.labels == one] for one in (0, 1)}
        turns = self.turns().reshape(len(self.images), -1)
        return found | {
            "pixel": pixels.mean(axis=1),
            "spread": pixels.std(axis=1),
            "label": self.labels.astype(float),
            "distractors": self.num_distractors.astype(float),
            "turn": turns.mean(axis=1),
            "straight": (turns < 20).mean(axis=1),
            "touch or cross": (near < 0.5).astype(float),
            "clearance": near,
        }


def facts_of_ours(difficulty: Difficulty) -> Facts:
    drawn = drawn_by_us(difficulty)
    return Facts(
        drawn.images.astype(float),
        drawn.labels,
        drawn.contours,
        drawn.markers.astype(float),
        drawn.num_distractors,
    )


@lru_cache
def facts_of_oracle(difficulty: Difficulty, number: int) -> Facts:
    rng = np.random.default_rng(3)
    made = [oracle.make(oracle.PARAMS[32, difficulty], rng) for _ in range(number)]
    # There a stroke is head and tail; here the end nearer to the contour's origin comes first.
    contours = np.array([one.contours for one in made], float)[..., ::-1, :]
    return Facts(
        np.array([one.image for one in made], float),
        np.array([one.label for one in made]),
        contours,
        np.array([one.markers for one in made], float),
        np.array([one.num_distractors_placed for one in made]),
    )


# The oracle is slow.
NUM_EASY = 200
AGAINST_ORACLE = [
    pytest.param("easy", NUM_EASY, id="easy"),
    pytest.param("easy", 400, id="easy, more", marks=pytest.mark.slow),
    pytest.param("intermediate", 800, id="intermediate", marks=pytest.mark.slow),
    pytest.param("hard", 400, id="hard", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("difficulty", "number"), AGAINST_ORACLE)
def test_numbers_of_images_are_those_of_the_oracle(difficulty: Difficulty, number: int) -> None:
    ours, theirs = facts_of_ours(difficulty), facts_of_oracle(difficulty, number)
    theirs_by_name = theirs.scalars()
    for name, values in ours.scalars().items():
        others = theirs_by_name[name]
        error = (values.var() / len(values) + others.var() / len(others)) ** 0.5
        assert abs(values.mean() - others.mean()) < NUM_SIGMAS * error, name


@pytest.mark.parametrize(("difficulty", "number"), AGAINST_ORACLE)
def test_histograms_are_those_of_the_oracle(difficulty: Difficulty, number: int) -> None:
    ours, theirs = facts_of_ours(difficulty), facts_of_oracle(difficulty, number)
    # Off the angles between pixels, which are few.
    assert_alike(ours.turns().ravel(), theirs.turns().ravel(), np.arange(-0.5, 196, 15))
    assert_alike(ours.num_distractors, theirs.num_distractors, np.arange(-0.5, 12))
    for axis in (0, 1):
        assert_alike(ours.markers[:, 0, axis], theirs.markers[:, 0, axis], np.arange(-0.5, 33))
        assert_alike(ours.markers[:, 1, axis], theirs.markers[:, 1, axis], np.arange(-0.5, 33, 3))


def assert_alike(ours: NDArray[Any], theirs: NDArray[Any], edges: Floats) -> None:
    """Compare two samples by the two-sample chi-square statistic of their histograms."""
    a, b = (np.histogram(values, edges)[0].astype(float) for values in (ours, theirs))
    assert (a.sum(), b.sum()) == (ours.size, theirs.size), "a value outside the edges"
    # Rare classes together.
    rare = a + b < 40
    a, b = (np.append(one[~rare], one[rare].sum()) for one in (a, b))
    scale = (b.sum() / a.sum()) ** 0.5
    statistic = float(((scale * a - b / scale) ** 2 / np.maximum(a + b, 1)).sum())
    freedom = len(a) - 1
    assert statistic < freedom + NUM_SIGMAS * (2 * freedom) ** 0.5


@pytest.mark.parametrize(("difficulty", "number"), AGAINST_ORACLE)
def test_ink_lies_where_the_oracle_has_it(difficulty: Difficulty, number: int) -> None:
    ours, theirs = facts_of_ours(difficulty).images, facts_of_oracle(difficulty, number).images
    observed, by_chance = map_difference(ours, theirs)
    assert observed < by_chance.mean() + NUM_SIGMAS * by_chance.std()


def test_the_map_would_show_a_shift() -> None:
    ours, theirs = facts_of_ours("easy").images, facts_of_oracle("easy", NUM_EASY).images
    observed, by_chance = map_difference(ours, np.roll(theirs, 1, axis=1))
    assert observed > by_chance.mean() + 2 * NUM_SIGMAS * by_chance.std()


def map_difference(first: Floats, second: Floats) -> tuple[float, Floats]:
    """Compare the mean of every pixel between two sets of images.

    Returns:
        The sum over the pixels of the squared differences in standard errors, and the same for
        sets that were shuffled: pixels hang together, so that a table of chi-square is no help.
    """
    pooled = np.concatenate((first, second)).reshape(len(first) + len(second), -1)
    pooled = pooled - pooled.mean(axis=0)
    spread = pooled.std(axis=0)
    pooled = pooled[:, spread > 0] / spread[spread > 0]
    rng = np.random.default_rng(0)
    is_second = np.arange(len(pooled)) >= len(first)
    choices = np.array([is_second, *(rng.permutation(is_second) for _ in range(200))])
    weights = np.where(choices, 1 / len(second), -1 / len(first))
    sums: Floats = ((weights @ pooled) ** 2).sum(axis=1)
    return float(sums[0]), sums[1:]
