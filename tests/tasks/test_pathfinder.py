from __future__ import annotations

import errno
import hashlib
import io
import math
import multiprocessing
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import made_up_release as made_up
import numpy as np
import pytest
from fuzzing import mutants
from numpy.typing import NDArray
from oracles import pathfinder as oracle
from PIL import Image

from lra_bench.cli import main
from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Progress, Split
from lra_tasks import pathfinder
from lra_tasks._pathfinder_draw import (
    RESOLUTIONS,
    Canvas,
    Difficulty,
    Growing,
    Random,
    Strokes,
    are_free,
    draw,
    draw_distractors,
    draw_targets,
    marker,
    moved,
    parameters,
    strokes_of,
)
from lra_tasks._pathfinder_geometry import (
    Drawn,
    Floats,
    clearances,
    discs_fit_labels,
    gaps,
    problem_of,
)
from lra_tasks._pathfinder_release import decode_png, parse_metadata
from lra_tasks._pathfinder_shards import Shards
from lra_tasks._sources import RELEASE_URL
from lra_tasks._store import Chunk
from lra_tasks._store_writer import writing
from lra_tasks.pathfinder import Pathfinder

Rows = list[tuple[bytes, int]]
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
STROKES: dict[Difficulty, int] = {"easy": 6, "intermediate": 9, "hard": 14}


def make(folder: Path, **options: Any) -> Pathfinder:
    return Pathfinder(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def rows_of(task: Pathfinder, split: Split) -> Rows:
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [(example.inputs[0].tobytes(), int(example.target)) for example in found]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


# The images. Figures measured on the published generator.


@dataclass(frozen=True)
class Published:
    """Means over some images of the published generator at size 32, as they were rounded."""

    number: int
    pixel: float
    nonzero: float
    over64: float
    label: float


PUBLISHED: dict[Difficulty, Published] = {
    "easy": Published(600, 13.0, 0.228, 0.076, 0.512),
    "intermediate": Published(400, 15.4, 0.265, 0.093, 0.485),
    "hard": Published(400, 20.2, 0.342, 0.126, 0.505),
}
# Of 400 hard ones.
PUBLISHED_NONZERO_SD = 0.037
PUBLISHED_HARD_PIXEL_BY_LABEL = (20.12, 20.27)
# Of a few images each.
PUBLISHED_ZERO: dict[int, float] = {64: 0.73, 128: 0.86, 256: 0.96}
NUM_DRAWN = 4000


@lru_cache
def drawn_by_us(difficulty: Difficulty) -> Drawn:
    return draw(parameters(32, difficulty), NUM_DRAWN, 1, 0)


@lru_cache
def few_drawn(resolution: int) -> Drawn:
    """Return some hard images of any size, drawn once for all tests that look at them."""
    return draw(parameters(resolution, "hard"), 20 if resolution == 64 else 40, 0, 0)


def error_of_difference(values: Floats, number: int) -> float:
    """Return four standard errors between the mean of values and that of another sample."""
    return 4 * float(values.std()) * math.sqrt(1 / len(values) + 1 / number)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_images_have_the_published_statistics(difficulty: Difficulty) -> None:
    drawn, published = drawn_by_us(difficulty), PUBLISHED[difficulty]
    pixels = drawn.images.reshape(NUM_DRAWN, -1)
    for values, expected, rounding in (
        (pixels.mean(axis=1), published.pixel, 0.05),
        ((pixels > 0).mean(axis=1), published.nonzero, 0.0005),
        ((pixels > 64).mean(axis=1), published.over64, 0.0005),
        (drawn.labels.astype(float), published.label, 0.0005),
    ):
        error = error_of_difference(values, published.number) + rounding
        assert values.mean() == pytest.approx(expected, abs=error)
    assert drawn.labels.mean() == pytest.approx(0.5, abs=4 * 0.5 / NUM_DRAWN**0.5)


def test_images_vary_as_published() -> None:
    spread = (drawn_by_us("hard").images > 0).mean(axis=(1, 2)).std()
    error = 4 * spread * (0.5 / 400 + 0.5 / NUM_DRAWN) ** 0.5 + 0.0005
    assert spread == pytest.approx(PUBLISHED_NONZERO_SD, abs=error)


def test_ink_does_not_tell_the_label() -> None:
    drawn = drawn_by_us("hard")
    means = drawn.images.mean(axis=(1, 2))
    for label, expected in enumerate(PUBLISHED_HARD_PIXEL_BY_LABEL):
        some = means[drawn.labels == label]
        assert some.mean() == pytest.approx(expected, abs=error_of_difference(some, 200) + 0.005)
    difference = means[drawn.labels == 1].mean() - means[drawn.labels == 0].mean()
    assert abs(difference) < 4 * means.std() * 2 / NUM_DRAWN**0.5


@pytest.mark.parametrize("resolution", PUBLISHED_ZERO)
def test_larger_images_are_as_empty_as_published(resolution: int) -> None:
    images = few_drawn(resolution).images
    assert images.shape[1:] == (resolution, resolution)
    zero = (images == 0).mean(axis=(1, 2))
    # How many published ones there were is not known; few.
    error = error_of_difference(zero, 10) + 0.005
    assert zero.mean() == pytest.approx(PUBLISHED_ZERO[resolution], abs=error)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_background_is_black_and_the_brightest_pixel_white(difficulty: Difficulty) -> None:
    images = drawn_by_us(difficulty).images
    assert images.dtype == np.uint8
    assert (images.max(axis=(1, 2)) == 255).all()
    assert not images[:, 0, 0].any()


def test_faint_ringing_is_kept() -> None:
    # Counted on the published images: the values 1 to 5 fill about 17 % of the pixels.
    images = drawn_by_us("hard").images
    assert ((images > 0) & (images < 6)).mean() == pytest.approx(0.17, abs=0.02)


def ink_off_the_discs(drawn: Drawn) -> float:
    """Return the median of bright pixels that are at least five from both discs' centers."""
    rows, columns = np.mgrid[: drawn.images.shape[1], : drawn.images.shape[2]]
    near = np.zeros(drawn.images.shape, np.bool_)
    for centers in np.moveaxis(drawn.markers, 1, 0):
        near |= (abs(rows - centers[:, 0, None, None]) < 5) & (
            abs(columns - centers[:, 1, None, None]) < 5
        )
    ink = drawn.images[~near & (drawn.images > 20)]
    return float(np.median(ink))


def test_distractors_are_brighter_than_targets_at_size_32_only() -> None:
    # At half the contrast, so that the discs are the brightest and give the scale.
    params = replace(parameters(32, "easy"), target_contrast=0.75, distractor_contrast=1.0)
    targets = ink_off_the_discs(draw(replace(params, num_distractors=0), 1000, 0, 0))
    distractors = ink_off_the_discs(draw(replace(params, target_contrast=0.0), 1000, 0, 0))
    assert targets / distractors == pytest.approx(0.75, abs=0.02)
    for resolution in RESOLUTIONS:
        params = parameters(resolution, "hard")
        expected = 0.75 if resolution == 32 else 1.0
        assert params.target_contrast / params.distractor_contrast == expected


def test_distractors_make_the_difference() -> None:
    params = parameters(32, "easy")
    many, none = draw(params, 500, 0, 0), draw(replace(params, num_distractors=0), 500, 0, 0)
    assert not none.num_distractors.any()
    assert many.num_distractors.max() <= params.num_distractors
    # The same contours, or the comparison says nothing.
    assert np.array_equal(many.contours, none.contours)
    more = (many.images > 64).sum(axis=(1, 2)) > (none.images > 64).sum(axis=(1, 2))
    assert (more == (many.num_distractors > 0)).mean() > 0.98


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_parameters_are_the_published_ones(resolution: int, difficulty: Difficulty) -> None:
    ours, theirs = parameters(resolution, difficulty), oracle.PARAMS[resolution, difficulty]
    assert (ours.contour_length, ours.distractor_length, ours.num_distractors) == (
        theirs.contour_length,
        theirs.distractor_length,
        theirs.num_distractors,
    )
    assert (ours.padding, ours.seed_distance, ours.paddle_length, ours.paddle_thickness) == (
        theirs.padding,
        theirs.seed_distance,
        theirs.length,
        theirs.thickness,
    )
    assert (ours.margins, ours.marker_radius, ours.continuity, ours.antialias) == (
        theirs.margins,
        theirs.marker_radius,
        theirs.continuity,
        theirs.antialias,
    )
    (snake,), (paddle,) = theirs.snake_contrasts, theirs.paddle_contrasts
    assert (ours.target_contrast, ours.distractor_contrast) == (snake * paddle, snake)


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
    for state in range(0, 360, 1 if size <= 64 else 15):
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


# The same images from the same seed.


def digest(*arrays: NDArray[Any]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def same_drawn(first: Drawn, second: Drawn) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in vars(first))


@pytest.mark.parametrize("resolution", [32, 128])
def test_same_seed_same_images(resolution: int) -> None:
    params = parameters(resolution, "easy")
    first = draw(params, 20, 5, 2)
    assert same_drawn(first, draw(params, 20, 5, 2))
    for seed in ((5, 3), (6, 2), (2, 5)):
        other = draw(params, 20, *seed)
        assert not {image.tobytes() for image in first.images} & {
            image.tobytes() for image in other.images
        }


# Of the strokes and discs as Pillow draws them, and of 50 images with their labels.
GOLDEN: dict[int, tuple[str, str]] = {
    32: (
        "649837fc225f558ea92b2c0f99b0976853ebc763b7a76e80471cdf0787dde3e1",
        "0466fb2ed2b61d48c01053616461ec12d4c38620de5568b1e92e4fcc7d5b3afd",
    ),
    64: (
        "11abc63c734bd6539aeed2cf32180282ed4ec04ce115809d85f51da3f39a9d64",
        "ffa57fd831eed9ca533b0bde5bb6907ee790db36101dd6c44d7082cc9990e69e",
    ),
    128: (
        "a1f3d175dd08fabf60b2d1867e2adf36e76f9e827ac11f6a2ca4631b3ab49e9f",
        "71cc52f88aea8c5685f519c626ddef0824c1609f072bc96adcf97e58599d9b4f",
    ),
    256: (
        "1ba073bcdd19329d8a56d3c306886c4dcf6f9357a410a3c38c137dd6c753d8b3",
        "7886cdcf52829a47ec16fbdd896b000a1708196059797cc4d0215d4857f8a1ab",
    ),
}


# Of five images with their labels: the same check, in a moment.
GOLDEN_FEW: dict[int, str] = {
    32: "cf914ac1f2b01d4a55ad710a52066d23c2f0955dc190968f393152f1bc5597f1",
    64: "4d62851c511f70fe9efc71840799e6e9993a866c1b0e45a26fb3771c93242762",
    128: "eca603a73e4d3f9c7e85865e73a4ced32b4d123924c230553a1d3b00e513ad9d",
    256: "d38b696c6fb7232c0de1d8f52cbecb6fdda65bfef2abfdb3ecda6198415bd163",
}


@pytest.mark.parametrize("often", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_pinned_images(resolution: int, often: bool) -> None:
    params = parameters(resolution, "hard")
    tables = [strokes_of(params, margin) for margin in params.margins]
    parts = [part for table in tables for part in (table.ink, table.mask)]
    discs = [marker(params, row, col)[0] for row, col in ((0, 0), (9, 20), (31, 4))]
    of_parts, of_images = GOLDEN[resolution]
    if digest(*parts, *discs) != of_parts:
        pytest.skip("this version of Pillow draws other strokes; they are part of a cache's name")
    number = (50 if resolution != 128 else 20) if often else 5
    drawn = draw(params, number, 0, 0)
    # If this changes, GENERATOR_VERSION must change too, or old caches pass for new ones.
    expected = of_images if often else GOLDEN_FEW[resolution]
    assert digest(drawn.images, drawn.labels) == expected


# Geometry.


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


# Preparing.

TOTAL = 21
SHARD = 4
NUM_SHARDS = 6
# Shards of four images, drawn in this process.
SMALL: dict[str, Any] = {
    "difficulty": "easy",
    "num_train": 13,
    "num_validation": 5,
    "num_test": 3,
    "shard_size": SHARD,
    "num_workers": 1,
}


@dataclass(frozen=True)
class CountedShards(Shards):
    """Shards that remember which of them were drawn."""

    drawn: list[int] = field(default_factory=list)

    def draw(self, shard: int) -> Drawn:
        self.drawn.append(shard)
        return super().draw(shard)


class Counted(Pathfinder):
    """A task that remembers which shards were drawn."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drawn: list[int] = []

    def shards(self, place: Path) -> Shards:
        plain = super().shards(place)
        return CountedShards(**vars(plain), drawn=self.drawn)


def small(folder: Path, **options: Any) -> Counted:
    """Return a task of few images."""
    options = SMALL | options
    return Counted(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def expected_rows(seed: int = 0) -> Rows:
    """Return what the shards hold, drawn directly."""
    rows: Rows = []
    for shard in range(NUM_SHARDS):
        some = draw(parameters(32, "easy"), min(SHARD, TOTAL - shard * SHARD), seed, shard)
        rows += [
            (image.tobytes(), int(label))
            for image, label in zip(some.images, some.labels, strict=True)
        ]
    return rows


def all_rows(task: Pathfinder) -> Rows:
    """Return the rows of all splits in the order in which they are drawn."""
    order: tuple[Split, ...] = ("test", "train", "validation")
    return [row for split in order for row in rows_of(task, split)]


class StopHereError(Exception):
    pass


def stop_after(number: int) -> Callable[[Progress], None]:
    """Return a progress callback that ends preparing when so many images are drawn."""

    def stop(progress: Progress) -> None:
        if progress.what == "drawing images" and progress.done >= number:
            raise StopHereError

    return stop


def shards_folder(folder: Path) -> Path:
    (found,) = (folder / "cache").glob(".*.shards")
    return found


def test_counts_that_no_shard_divides(tmp_path: Path) -> None:
    task = small(tmp_path)
    assert not task.is_prepared()
    assert task.folder() is None
    told: list[Progress] = []
    task.prepare(told.append)
    assert task.is_prepared()
    folder = task.folder()
    assert folder is not None
    assert names_in(tmp_path / "cache") == {folder.name}
    assert [len(task.examples(split)) for split in SPLITS] == [13, 5, 3]
    assert all_rows(task) == expected_rows()
    assert task.drawn == list(range(NUM_SHARDS))
    for what in ("drawing images", "writing images"):
        done = [one.done for one in told if one.what == what]
        assert {one.total for one in told if one.what == what} == {TOTAL}
        assert done == sorted(done)
        assert done[-1] == TOTAL
    # Once more: nothing to do.
    again = small(tmp_path)
    assert again.is_prepared()
    before = (folder / "manifest.json").stat()
    again.prepare(told.append)
    assert again.fingerprint() == task.fingerprint()
    assert (folder / "manifest.json").stat() == before
    assert again.drawn == []


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    expected = expected_rows()
    fingerprints = set()
    for number in (1, 2, 3):
        most = 0

        def count_processes(progress: Progress) -> None:
            nonlocal most
            most = max(most, len(multiprocessing.active_children()))

        task = make(tmp_path / str(number), **SMALL | {"num_workers": number})
        task.prepare(count_processes)
        assert most == (0 if number == 1 else number)
        assert all_rows(task) == expected
        fingerprints.add(task.fingerprint())
    assert len(fingerprints) == 1


@pytest.mark.parametrize("number", [1, 5, 12, TOTAL])
def test_resumed_after_an_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(StopHereError):
        small(tmp_path).prepare(stop_after(number))
    kept = names_in(shards_folder(tmp_path))
    assert len(kept) == -(-number // SHARD)
    task = small(tmp_path)
    assert not task.is_prepared()
    told: list[Progress] = []
    task.prepare(told.append)
    assert task.drawn == list(range(len(kept), NUM_SHARDS))
    assert told[0] == Progress("drawing images", min(len(kept) * SHARD, TOTAL), TOTAL)
    assert all_rows(task) == expected_rows()
    assert len(names_in(tmp_path / "cache")) == 1


def flipped(content: bytes) -> bytes:
    return content[:40] + bytes((content[40] ^ 1,)) + content[41:]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:31]), id="cut short"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="longer"),
        pytest.param(lambda path: path.write_bytes(flipped(path.read_bytes())), id="a bit"),
        pytest.param(lambda path: path.write_bytes(bytes(5000)), id="zeros"),
        pytest.param(lambda path: shutil.copy(path.with_name("000003"), path), id="another one"),
        pytest.param(lambda path: path.unlink(), id="gone"),
    ],
)
def test_a_damaged_shard_is_drawn_again(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    with pytest.raises(StopHereError):
        small(tmp_path).prepare(stop_after(TOTAL))
    damage(shards_folder(tmp_path) / "000002")
    task = small(tmp_path)
    task.prepare()
    assert task.drawn == [2]
    assert all_rows(task) == expected_rows()


def test_a_shard_of_other_images_is_drawn_again(tmp_path: Path) -> None:
    for folder, seed in ((tmp_path, 0), (tmp_path / "other", 1)):
        with pytest.raises(StopHereError):
            small(folder, seed=seed).prepare(stop_after(TOTAL))
    theirs, ours = shards_folder(tmp_path / "other"), shards_folder(tmp_path)
    assert theirs.name != ours.name
    shutil.copy(theirs / "000002", ours / "000002")
    task = small(tmp_path)
    task.prepare()
    assert task.drawn == [2]
    assert all_rows(task) == expected_rows()


@pytest.mark.parametrize("at", [8, TOTAL])
def test_another_process_is_first(tmp_path: Path, at: int) -> None:
    other = small(tmp_path)

    def meanwhile(progress: Progress) -> None:
        if progress == Progress("drawing images", at, TOTAL) and not other.is_prepared():
            other.prepare()

    task = small(tmp_path)
    task.prepare(meanwhile)
    # What the other one has made and taken away is not made again.
    assert sorted(task.drawn + other.drawn) == list(range(NUM_SHARDS))
    assert all_rows(task) == expected_rows()
    assert len(names_in(tmp_path / "cache")) == 1


def test_another_process_is_first_while_shards_are_put_together(tmp_path: Path) -> None:
    other = small(tmp_path)

    def meanwhile(progress: Progress) -> None:
        if progress.what == "writing images" and not other.is_prepared():
            other.prepare()

    task = small(tmp_path)
    task.prepare(meanwhile)
    assert sorted(task.drawn + other.drawn) == list(range(NUM_SHARDS))
    assert all_rows(task) == expected_rows()
    assert len(names_in(tmp_path / "cache")) == 1


# Of each test below a process of its own draws, so that it can be ended from outside.
DRAWING = """
    import multiprocessing, sys, time
    from pathlib import Path
    from lra_tasks.pathfinder import Pathfinder

    def tell(progress):
        pids = [child.pid for child in multiprocessing.active_children()]
        print(progress.done, *pids, flush=True)
        # Whoever wants to end it in the middle is given the time.
        if progress.done >= int(sys.argv[3]):
            time.sleep(100)

    folder, options = Path(sys.argv[1]), eval(sys.argv[2])
    task = Pathfinder(data_dir=folder / "data", cache_dir=folder / "cache", **options)
    task.prepare(tell)
    print(task.fingerprint(), flush=True)
"""
# Slow enough to be ended in the middle.
LONG: dict[str, Any] = {
    "resolution": 64,
    "difficulty": "easy",
    "num_train": 70,
    "num_validation": 5,
    "num_test": 2,
    "shard_size": SHARD,
}


def start_drawing(
    folder: Path, num_workers: int, wait_at: int = sys.maxsize
) -> subprocess.Popen[str]:
    # Without a guard of its main part, as people write them.
    script = folder / "drawing.py"
    script.write_text(textwrap.dedent(DRAWING))
    options = LONG | {"num_workers": num_workers}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), repr(options), str(wait_at)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_alive(pid: int) -> bool:
    try:
        # A process that nobody has taken note of is a Z.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@lru_cache
def fingerprint_of_long(folder: Path) -> str:
    return make(folder, **LONG, num_workers=1).fingerprint()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("number", "num_workers"),
    [
        (signal.SIGKILL, 2),
        (signal.SIGINT, 2),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
)
def test_ended_from_outside(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    number: signal.Signals,
    num_workers: int,
) -> None:
    children: set[int] = set()
    with start_drawing(tmp_path, num_workers, wait_at=12) as process:
        assert process.stdout is not None
        for line in process.stdout:
            done, *pids = map(int, line.split())
            children |= set(pids)
            if done >= 12:
                break
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    assert len(children) == (0 if num_workers == 1 else num_workers)
    deadline = time.monotonic() + 30
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline, "workers stay behind"
        time.sleep(0.05)

    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".shards"}
    folder = shards_folder(tmp_path)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("??????")}
    assert len(kept) >= 3
    left: dict[str, int] = {}

    def note(progress: Progress) -> None:
        if progress.what == "writing images" and not left:
            left.update({path.name: path.stat().st_mtime_ns for path in folder.glob("??????")})

    task = make(tmp_path, **LONG, num_workers=1)
    task.prepare(note)
    assert len(left) == 20
    assert {name: left[name] for name in kept} == kept
    assert task.fingerprint() == fingerprint_of_long(tmp_path_factory.getbasetemp() / "long")
    assert len(names_in(tmp_path / "cache")) == 1


def test_two_processes_at_once(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    processes = [start_drawing(tmp_path, 1) for _ in range(2)]
    found = {process.communicate(timeout=120)[0].splitlines()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert found == {fingerprint_of_long(tmp_path_factory.getbasetemp() / "long")}
    assert len(names_in(tmp_path / "cache")) == 1


def test_disk_full_while_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, called = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal called
        called += 1
        if called > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(
            UserError, match=r"free some space or .*what was drawn is kept"
        ) as caught:
            small(tmp_path).prepare()
    assert str(tmp_path / "cache") in str(caught.value)
    assert names_in(shards_folder(tmp_path)) == {"000000", "000001", "000002"}
    task = small(tmp_path)
    assert all_rows(task) == expected_rows()
    assert task.drawn == [3, 4, 5]


def test_disk_full_while_shards_are_put_together(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for a shard of four images, but not for thirteen.
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write prepared data .* free some space"):
            small(tmp_path).prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path / "cache") == {shards_folder(tmp_path).name}
    assert len(names_in(shards_folder(tmp_path))) == NUM_SHARDS
    task = small(tmp_path)
    assert all_rows(task) == expected_rows()
    assert task.drawn == []


def test_cache_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cache_dir="):
        small(tmp_path).prepare()


OPENING = """
    import sys
    from pathlib import Path
    sys.modules["PIL"] = None
    from lra_tasks.pathfinder import Pathfinder

    class NoDrawing(Pathfinder):
        def encode(self, source, writer, progress):
            raise AssertionError("it is prepared")

    folder = Path(sys.argv[1])
    task = NoDrawing(data_dir=folder / "data", cache_dir=folder / "cache", **eval(sys.argv[2]))
    assert task.is_prepared() and task.folder()
    task.prepare()
    example = task.examples("test")[1]
    assert task.picture(example).shape == (32, 32) and task.decode(example)
    assert "tensorflow_datasets" not in sys.modules and "torch" not in sys.modules
    print(task.fingerprint())
"""


def test_prepared_images_are_opened_without_drawing(tmp_path: Path) -> None:
    task = small(tmp_path)
    task.prepare()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OPENING), str(tmp_path), repr(SMALL)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [task.fingerprint()]


def test_what_shapes_the_images_names_the_cache(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"difficulty": "hard"},
        {"contours": "apart"},
        {"num_train": 12},
        {"num_validation": 4, "num_test": 4},
        {"resolution": 64},
    ]
    fingerprints = {make(tmp_path, **SMALL | one).fingerprint() for one in variants}
    assert len(fingerprints) == len(names_in(tmp_path / "cache")) == len(variants)


def test_what_a_generated_task_says_of_itself(tmp_path: Path) -> None:
    task = small(tmp_path, seed=4)
    assert (task.spec.name, task.spec.vocab_size, task.spec.max_length) == ("pathfinder", 256, 1024)
    assert (task.spec.num_classes, task.spec.num_inputs, task.spec.majority_baseline) == (2, 1, 0.5)
    assert task.info().num_examples == {"train": 13, "validation": 5, "test": 3}
    assert (task.info().origin, task.info().source) == ("generated here", "")
    assert names_in(tmp_path) == set()
    task.prepare()
    info = task.info()
    assert info.source == (
        "generated 32x32 easy, contours published, seed 4, generator "
        f"{pathfinder.GENERATOR_VERSION}"
    )
    assert (info.warning, info.note, info.details) == ("", "", {})
    example = task.examples("train")[0]
    picture = task.picture(example)
    assert picture.shape == (32, 32)
    assert picture.tobytes() == example.inputs[0].tobytes()
    said = {label: task.decode(replace(example, target=label)) for label in (0, 1)}
    assert said == {
        0: "the two discs sit on different contours",
        1: "the two discs sit on one contour",
    }


@pytest.mark.parametrize("size", RESOLUTIONS)
def test_of_whatever_size_it_is_one_task(tmp_path: Path, size: int) -> None:
    task = make(tmp_path, resolution=size)
    assert task.spec.name == "pathfinder"
    # What a message says can be typed.
    words = "task=pathfinder" if size == 32 else f"task=pathfinder task.resolution={size}"
    assert task.words() == words


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"resolution": 48}, "task.resolution=48 is not one of 32, 64, 128, 256"),
        ({"difficulty": "medium"}, "task.difficulty=medium is not one of easy, interm"),
        ({"source": "released"}, "task.source=released is not one of generated, official"),
        ({"contours": "far"}, "task.contours=far is not one of published, apart"),
        ({"num_train": 0}, "must be at least 1"),
        ({"num_validation": -3}, "must be at least 1"),
        ({"num_test": 0}, "must be at least 1"),
        ({"seed": -1}, "task.seed=-1 must lie between"),
        ({"seed": 1 << 32}, "task.seed=4294967296 must lie between"),
        ({"source": "official", "contours": "apart"}, "task.contours=apart is for"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        make(tmp_path, **options)
    assert names_in(tmp_path) == set()


# Verifying.


def test_verify(tmp_path: Path) -> None:
    task = small(tmp_path)
    task.prepare()
    checks = list(small(tmp_path).verify())
    assert [check.problem for check in checks] == [None] * 5
    assert [check.what for check in checks[3:]] == [
        "the first 3 test images, drawn again",
        "their contours and discs",
    ]


@pytest.mark.parametrize("name", ["train.tokens", "train.labels", "test.tokens"])
def test_verify_finds_an_edited_cache(tmp_path: Path, name: str) -> None:
    task = small(tmp_path)
    task.prepare()
    folder = task.folder()
    assert folder is not None
    path = folder / name
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert name in str(next(iter(problems.values())))
    assert len(problems) == (2 if name.startswith("test") else 1)


Change = Callable[[dict[Split, tuple[NDArray[np.uint8], NDArray[np.int64]]]], None]


def other_pixel(splits: Any) -> None:
    splits["test"][0][2, 500] ^= 1


def other_label(splits: Any) -> None:
    splits["test"][1][0] ^= 1


def one_less(splits: Any) -> None:
    splits["train"] = tuple(part[:-1] for part in splits["train"])


def too_few_to_compare(splits: Any) -> None:
    splits["test"] = tuple(part[:1] for part in splits["test"])


def one_less_to_test(splits: Any) -> None:
    splits["test"] = tuple(part[1:] for part in splits["test"])


def longer(splits: Any) -> None:
    splits["test"] = np.pad(splits["test"][0], ((0, 0), (0, 1))), splits["test"][1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (other_pixel, "not what the generator draws from this seed, from number 2 on"),
        (other_label, "not what the generator draws from this seed, from number 0 on"),
        (longer, "not what the generator draws"),
        (one_less, "'train': 12, .* not .*'train': 13"),
        (too_few_to_compare, "'test': 1\\b.* not .*'test': 3"),
        (one_less_to_test, "'test': 2"),
    ],
)
def test_verify_finds_images_that_the_seed_does_not_draw(
    tmp_path: Path, change: Change, problem: str
) -> None:
    task = small(tmp_path)
    task.prepare()
    place = task.folder()
    assert place is not None
    splits: dict[Split, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
    for split in SPLITS:
        rows = rows_of(task, split)
        pixels = np.array([np.frombuffer(pixels, np.uint8) for pixels, _ in rows])
        splits[split] = pixels, np.array([label for _, label in rows])
    info, options = task.info(), task.options()
    change(splits)
    shutil.rmtree(place)
    with writing(place) as cache:
        for split, (pixels, labels) in splits.items():
            lengths = np.full(len(labels), pixels.shape[1])
            cache.add(split, [Chunk(pixels.ravel(), lengths, labels)])
        cache.info, cache.options = info, options
    checks = list(small(tmp_path).verify())
    assert [check.problem for check in checks[:3]] == [None] * 3
    (found,) = [check for check in checks if check.problem]
    assert found.what == "the first 3 test images, drawn again"
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(found.problem)


# The release.


def official(folder: Path, **options: Any) -> Pathfinder:
    return make(folder, source="official", **options)


INNER = "lra_release/lra_release/pathfinder32"


@pytest.fixture(scope="module")
def released() -> made_up.Files:
    return made_up.release()


def expected_splits(
    files: made_up.Files, difficulty: Difficulty, inside: str, *, size: int = 32
) -> dict[Split, Rows]:
    """Return what a release holds, read in the plainest way and put in the published order."""
    folder = f"{inside}/{made_up.PATHFINDER_FOLDERS[difficulty]}"
    keyed = []
    for batch in range(made_up.NUM_METADATA):
        text = files[f"{folder}/metadata/{batch}.npy"].decode()
        for number, line in enumerate(text.splitlines(), start=1):
            sub, name, _, label, *_ = line.split()
            key = hashlib.md5(f"{difficulty}{sub}_{name}_{number}".encode()).hexdigest()
            keyed.append((key, files[f"{folder}/{sub}/{name}"], int(label)))
    keyed.sort()
    assert len(keyed) == made_up.NUM_IMAGES
    # Of 48: 38.4 and 43.2, rounded.
    parts: dict[Split, Any] = {
        "train": keyed[:38],
        "validation": keyed[38:43],
        "test": keyed[43:],
    }
    return {
        split: [
            (np.asarray(Image.open(io.BytesIO(content))).tobytes(), label)
            for _, content, label in part
            if content
        ]
        for split, part in parts.items()
    }


def splits_of(task: Pathfinder) -> dict[Split, Rows]:
    return {split: rows_of(task, split) for split in SPLITS}


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_released_images(tmp_path: Path, released: made_up.Files, difficulty: Difficulty) -> None:
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path, difficulty=difficulty)
    assert not task.is_prepared()
    found = splits_of(task)
    assert found == expected_splits(released, difficulty, INNER)
    assert sum(map(len, found.values())) == made_up.NUM_IMAGES - 1
    assert task.is_prepared()
    assert official(tmp_path, difficulty=difficulty).is_prepared()


def test_the_order_is_that_of_tensorflow_datasets(tmp_path: Path, released: made_up.Files) -> None:
    hashing = pytest.importorskip("tensorflow_datasets.core.hashing")
    hasher = hashing.Hasher("hard")
    folder = f"{INNER}/curv_contour_length_14"
    keyed = []
    for batch in range(made_up.NUM_METADATA):
        for at in range(made_up.IMAGES_EACH):
            key = f"imgs/{batch}_sample_{at}.png_{at + 1}"
            content = released[f"{folder}/imgs/{batch}/sample_{at}.png"]
            keyed.append((hasher.hash_key(key), content))
    expected = [
        np.asarray(Image.open(io.BytesIO(content))).tobytes()
        for _, content in sorted(keyed)
        if content
    ]
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path)
    assert [pixels for split in SPLITS for pixels, _ in rows_of(task, split)] == expected


def test_the_order_of_the_metadata_does_not_matter(tmp_path: Path, released: made_up.Files) -> None:
    # The number counts within a file: the same lines in other files are other images.
    made_up.write(tmp_path / "data", released)
    whole = dict(released)
    folder = f"{INNER}/curv_contour_length_14/metadata"
    swapped = {"10": "2", "2": "10"}
    for name in swapped:
        whole[f"{folder}/{swapped[name]}.npy"] = released[f"{folder}/{name}.npy"]
    made_up.write(tmp_path / "other/data", whole)
    assert splits_of(official(tmp_path / "other")) == splits_of(official(tmp_path))


@pytest.mark.parametrize(
    "base", ["lra_release/lra_release", "lra_release", ""], ids=["parent", "outer", "inner"]
)
def test_found_in_a_folder(tmp_path: Path, released: made_up.Files, base: str) -> None:
    # The task is told of the parent, of the outer folder, or of the inner one.
    inside = "lra_release/lra_release"
    files = {
        str(Path(base) / Path(name).relative_to(inside)): content
        for name, content in released.items()
    }
    made_up.write(tmp_path / "data", files)
    assert splits_of(official(tmp_path)) == expected_splits(released, "hard", INNER)


def test_the_folder_itself_may_be_named(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path, released)
    for data_dir in (tmp_path, tmp_path / "lra_release", tmp_path / "lra_release/lra_release"):
        task = Pathfinder(data_dir=data_dir, cache_dir=tmp_path / "cache", source="official")
        assert splits_of(task) == expected_splits(released, "hard", INNER)


def ordered(files: made_up.Files, order: str) -> list[tuple[str, bytes]]:
    members = sorted(files.items())
    if order == "images first":
        members.sort(key=lambda member: "/metadata/" in member[0])
    if order == "metadata first":
        members.sort(key=lambda member: "/imgs/" in member[0])
    if order == "shuffled":
        random.Random(0).shuffle(members)
    return members


@pytest.mark.parametrize("order", ["images first", "metadata first", "shuffled"])
@pytest.mark.parametrize(
    "name", ["lra_release.gz", "lra_release.tar", "lra_release/lra_release.gz"]
)
def test_found_in_the_archive(
    tmp_path: Path, released: made_up.Files, name: str, order: str
) -> None:
    path = tmp_path / "data" / name
    made_up.pack(path, ordered(released, order))
    task = official(tmp_path)
    assert splits_of(task) == expected_splits(released, "hard", INNER)
    assert task.info().details["read"] == f"archive {path.name}, {INNER}/curv_contour_length_14"
    # Neither unpacked, nor anything left behind.
    assert [found for found in (tmp_path / "data").rglob("*") if found.is_file()] == [path]
    folder = task.folder()
    assert folder is not None
    assert names_in(tmp_path / "cache") == {"checksums", folder.name}


@pytest.mark.parametrize("inside", ["pathfinder32/", "", "lra_release/pathfinder32/", "./"])
@pytest.mark.parametrize("name", ["pathfinder32.tar.gz", "pathfinder32.tar", "pathfinder32.gz"])
def test_found_in_an_archive_of_its_own(
    tmp_path: Path, released: made_up.Files, name: str, inside: str
) -> None:
    files = {
        inside + key.removeprefix(f"{INNER}/"): content
        for key, content in released.items()
        if key.startswith(INNER)
    }
    made_up.pack(tmp_path / "data" / name, ordered(files, "shuffled"))
    task = official(tmp_path)
    assert splits_of(task) == expected_splits(released, "hard", INNER)
    made_up.write(tmp_path / "folder/data", released)
    assert official(tmp_path / "folder").fingerprint() == task.fingerprint()


@pytest.mark.parametrize("packed", [False, True])
def test_the_inner_copy_is_preferred(tmp_path: Path, packed: bool) -> None:
    files = made_up.release(resolution=128)
    if packed:
        # The outer copy comes first.
        members = sorted(files.items(), key=lambda member: "/lra_release/" in member[0])
        made_up.pack(tmp_path / "data/lra_release.gz", members)
    else:
        made_up.write(tmp_path / "data", files)
    task = official(tmp_path, resolution=128, difficulty="easy")
    inner, outer = (
        expected_splits(files, "easy", f"{base}/pathfinder128")
        for base in ("lra_release/lra_release", "lra_release")
    )
    assert splits_of(task) == inner != outer


@pytest.mark.parametrize("kind", ["U12", "S12", ">U14", "S60"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_metadata_as_the_generator_writes_them(
    tmp_path: Path, released: made_up.Files, kind: str, version: tuple[int, int]
) -> None:
    files = dict(released)
    for name, content in released.items():
        if name.endswith(".npy"):
            fields = [line.split() for line in content.decode().splitlines()]
            files[name] = as_array(np.array(fields).astype(kind), version)
    made_up.write(tmp_path / "data", files)
    assert splits_of(official(tmp_path)) == expected_splits(released, "hard", INNER)


def as_array(array: NDArray[Any], version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


FIELDS = [made_up.metadata_line(3, at, at % 2) for at in range(5)]


def test_an_array_that_python_2_wrote() -> None:
    content = as_array(np.array(FIELDS).astype("S12"))
    old = content.replace(b"(5, 11), }  ", b"(5L, 11L), }")
    assert old != content
    assert parse_metadata(old, "x") == parse_metadata(content, "x")
    assert [(row.name, row.label, row.number) for row in parse_metadata(old, "x")] == [
        (f"imgs/3/sample_{at}.png", at % 2, at + 1) for at in range(5)
    ]


def test_same_images_from_folder_and_archive(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    made_up.pack(tmp_path / "packed/data/lra_release.gz", released.items())
    packed = official(tmp_path / "packed")
    assert packed.fingerprint() == official(tmp_path).fingerprint()


def test_a_few_images_are_no_official_set(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path)
    task.prepare()
    info = task.info()
    assert info.source == "official 32x32 hard, not the official set"
    assert info.details["empty_files"] == f"1 dropped: {made_up.EMPTY}"
    assert info.details["read"] == f"folder {INNER}, curv_contour_length_14"
    for number in ("48", "200,000", "curv_contour_length_14"):
        assert number in info.warning
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert problems == {"official set": info.warning}


def test_the_official_number_is_the_official_set(tmp_path: Path, released: made_up.Files) -> None:
    assert pathfinder.OFFICIAL_COUNT == 200_000
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path, official_count=made_up.NUM_IMAGES)
    task.prepare()
    assert (task.info().source, task.info().warning) == ("official 32x32 hard", "")
    assert [check.problem for check in task.verify()] == [None] * 3


@pytest.mark.parametrize("packed", [False, True])
def test_prepared_images_outlive_the_release(
    tmp_path: Path, released: made_up.Files, packed: bool
) -> None:
    if packed:
        made_up.pack(tmp_path / "data/lra_release.gz", released.items())
    else:
        made_up.write(tmp_path / "data", released)
    task = official(tmp_path)
    task.prepare()
    shutil.rmtree(tmp_path / "data")
    again = official(tmp_path)
    assert again.is_prepared()
    assert again.folder() == task.folder()
    assert again.fingerprint() == task.fingerprint()
    # Other images are not there.
    other = official(tmp_path, difficulty="easy")
    assert not other.is_prepared()
    with pytest.raises(UserError, match="put the unpacked lra_release or its archive"):
        other.prepare()


def test_changed_files_are_read_again(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    first = official(tmp_path).fingerprint()
    path = tmp_path / "data" / INNER / "curv_contour_length_14/metadata/4.npy"
    path.write_bytes(path.read_bytes().replace(b".png 3 0 ", b".png 3 7 ").replace(b" 7 ", b" 1 "))
    status = path.stat()
    path.write_bytes(made_up.metadata_text([made_up.metadata_line(4, at, 1) for at in range(4)]))
    # The clock of the file system may be coarser than this test is fast.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert official(tmp_path).fingerprint() != first


def test_progress_of_reading(tmp_path: Path, released: made_up.Files) -> None:
    made_up.pack(tmp_path / "data/lra_release.gz", released.items())
    told: list[Progress] = []
    official(tmp_path).prepare(told.append)
    assert told[-1] == Progress("encoding images", 47, 47)
    size = (tmp_path / "data/lra_release.gz").stat().st_size
    assert Progress("reading lra_release.gz [bytes]", size, size) in told


# What can be wrong with a release; each change is told its files by their name in the difficulty.

HARD = f"{INNER}/curv_contour_length_14/"
Broken = Callable[[made_up.Files], None]


def without(*names: str) -> Broken:
    def change(files: made_up.Files) -> None:
        for name in names:
            del files[name]

    return change


def with_file(name: str, content: bytes) -> Broken:
    def change(files: made_up.Files) -> None:
        files[name] = content

    return change


def with_line(at: int, line: list[str]) -> Broken:
    """Change a line of metadata/7.npy."""

    def change(files: made_up.Files) -> None:
        lines = [text.split() for text in files["metadata/7.npy"].decode().splitlines()]
        lines[at] = line
        files["metadata/7.npy"] = made_up.metadata_text(lines)

    return change


def no_metadata(files: made_up.Files) -> None:
    for name in [name for name in files if name.startswith("metadata/")]:
        del files[name]


def only_the_first(number: int) -> Broken:
    def change(files: made_up.Files) -> None:
        text = made_up.metadata_text([made_up.metadata_line(1, at, 0) for at in range(number)])
        no_metadata(files)
        files["metadata/1.npy"] = text

    return change


def all_empty(files: made_up.Files) -> None:
    for name in files:
        if name.endswith(".png"):
            files[name] = b""


PIXELS = np.arange(1024, dtype=np.uint8).reshape(32, 32)
GOOD_PNG = made_up.png(PIXELS)
IMAGE = "imgs/5/sample_1.png"
LINE = made_up.metadata_line(7, 1, 0)
BROKEN = [
    pytest.param(without(IMAGE), IMAGE, "missing|lacks", id="missing image"),
    pytest.param(with_file(IMAGE, b"hello"), IMAGE, "no readable PNG", id="no PNG"),
    pytest.param(with_file(IMAGE, GOOD_PNG[:-20]), IMAGE, "cut short", id="cut PNG"),
    pytest.param(
        with_file(IMAGE, GOOD_PNG[:60] + b"\xff" + GOOD_PNG[61:]), IMAGE, "checksum", id="corrupt"
    ),
    pytest.param(with_file(IMAGE, made_up.png(PIXELS[:, :31])), IMAGE, "31 by 32", id="size"),
    pytest.param(
        with_file(IMAGE, made_up.png(np.stack([PIXELS] * 3, axis=-1))),
        IMAGE,
        "8 bits, color type 2; expected gray of 8 bits",
        id="RGB",
    ),
    pytest.param(
        with_file(IMAGE, made_up.png(PIXELS.astype(np.uint16))), IMAGE, "16 bits", id="16 bits"
    ),
    pytest.param(
        with_file(IMAGE, made_up.png(PIXELS > 9)), IMAGE, "1 bits, color type 0", id="1 bit"
    ),
    pytest.param(with_file(IMAGE, bytes(1 << 21)), IMAGE, "at most|no readable", id="huge file"),
    pytest.param(with_line(1, LINE[:-1]), "metadata/7.npy", "line 2: .*11 fields", id="10 fields"),
    pytest.param(with_line(1, [*LINE, "1"]), "metadata/7.npy", "line 2", id="12 fields"),
    pytest.param(with_line(3, []), "metadata/7.npy", "line 4", id="blank line"),
    pytest.param(
        with_line(1, [*LINE[:3], "2", *LINE[4:]]),
        "metadata/7.npy",
        "line 2: .*0 or 1",
        id="label 2",
    ),
    pytest.param(
        with_line(1, [*LINE[:3], "-1", *LINE[4:]]), "metadata/7.npy", "line 2", id="label -1"
    ),
    pytest.param(
        with_line(1, ["../..", "x.png", *LINE[2:]]), "metadata/7.npy", r"'\.\./\.\. x", id="climbs"
    ),
    pytest.param(
        with_line(1, ["imgs/7", "../../x.png", *LINE[2:]]),
        "metadata/7.npy",
        "line 2",
        id="climbs 2",
    ),
    pytest.param(
        with_line(1, ["/imgs/7", *LINE[1:]]), "metadata/7.npy", "line 2", id="absolute name"
    ),
    pytest.param(
        with_line(1, ["imgs/\u0667", *LINE[1:]]), "metadata/7.npy", "line 2", id="digit of others"
    ),
    pytest.param(
        with_line(1, made_up.metadata_line(7, 0, 1)),
        "metadata/7.npy",
        r"line 2: imgs/7/sample_0\.png was named before",
        id="twice",
    ),
    pytest.param(
        with_file("metadata/7.npy", b""), "metadata/7.npy", "is empty", id="empty metadata"
    ),
    pytest.param(
        with_file("metadata/7.npy", b"\x93NUMPY\x01\x00v\x00{'descr'"),
        "metadata/7.npy",
        "no whole array",
        id="cut array",
    ),
    pytest.param(
        with_file("metadata/7.npy", as_array(np.zeros((4, 11)))),
        "metadata/7.npy",
        "no whole array",
        id="array of numbers",
    ),
    pytest.param(
        with_file("metadata/7.npy", as_array(np.array([[{}] * 11], object))),
        "metadata/7.npy",
        "no whole array",
        id="array of objects",
    ),
    pytest.param(no_metadata, "", "no metadata", id="no metadata"),
    pytest.param(only_the_first(1), "", "1 images of .* too few", id="one image"),
    pytest.param(only_the_first(4), "", "4 images of .* too few", id="four images"),
    pytest.param(all_empty, "", "too few for three", id="all empty"),
]


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize(("change", "named", "why"), BROKEN)
def test_broken_release(
    tmp_path: Path, released: made_up.Files, change: Broken, named: str, why: str, packed: bool
) -> None:
    files = {
        name.removeprefix(HARD): content
        for name, content in released.items()
        if name.startswith(HARD)
    }
    change(files)
    data = tmp_path / "data"
    if packed:
        made_up.pack(data / "lra_release.gz", made_up.below(HARD.rstrip("/"), files).items())
    else:
        made_up.write(data, made_up.below(HARD.rstrip("/"), files))
    with pytest.raises(UserError, match=why) as caught:
        official(tmp_path).prepare()
    said = str(caught.value)
    # The file, and the remedy.
    assert str(data) in said
    assert named in said
    assert RELEASE_URL in said or "again" in said
    # Nothing of what was read before.
    assert names_in(tmp_path / "cache") <= {"checksums"}


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_a_link_is_refused(
    tmp_path: Path, released: made_up.Files, kind: bytes
) -> None:
    members: dict[str, bytes | tarfile.TarInfo] = dict(released)
    members[HARD + IMAGE] = link(kind, "/etc/passwd")
    path = tmp_path / "data/lra_release.gz"
    made_up.pack(path, members.items())
    with pytest.raises(UserError, match=r"refused: it has a member .*sample_1\.png") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert names_in(tmp_path / "cache") <= {"checksums"}


@pytest.mark.parametrize("name", [HARD + IMAGE, f"{HARD}metadata/3.npy"])
def test_an_archive_that_has_a_file_twice(
    tmp_path: Path, released: made_up.Files, name: str
) -> None:
    members = [*released.items(), (name, released[name])]
    path = tmp_path / "data/lra_release.gz"
    made_up.pack(path, members)
    with pytest.raises(UserError, match="is there twice") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert name in str(caught.value)


def test_an_archive_cut_behind_the_last_image(tmp_path: Path, released: made_up.Files) -> None:
    path = tmp_path / "data/lra_release.gz"
    made_up.pack(path, released.items())
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(UserError, match="broken or cut short"):
        official(tmp_path).prepare()
    assert names_in(tmp_path / "cache") <= {"checksums"}


def test_a_dangling_link_in_the_folder(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    path = tmp_path / "data" / (HARD + IMAGE)
    path.unlink()
    path.symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"missing; unpack the release again") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert "0 more" in str(caught.value)


@pytest.mark.parametrize("gone", ["imgs", "metadata"])
def test_a_folder_is_missing(tmp_path: Path, released: made_up.Files, gone: str) -> None:
    made_up.write(tmp_path / "data", released)
    folder = tmp_path / "data" / HARD / gone
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="unpack the release again") as caught:
        official(tmp_path).prepare()
    assert str(folder) in str(caught.value)


def test_no_release_at_all(tmp_path: Path) -> None:
    task = official(tmp_path, resolution=64, difficulty="easy")
    assert not task.is_prepared()
    with pytest.raises(UserError, match="pathfinder64/curv_baseline") as caught:
        task.prepare()
    assert str(tmp_path / "data") in str(caught.value)
    assert RELEASE_URL in str(caught.value)
    assert names_in(tmp_path) == set()


def test_disk_full_while_the_archive_is_read(tmp_path: Path, released: made_up.Files) -> None:
    made_up.pack(tmp_path / "data/lra_release.gz", released.items())
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(UserError, match="free some space"):
            official(tmp_path).prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path / "cache") <= {"checksums"}


# Bytes of strangers.


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the parts of a good PNG."""
    found, at = [], 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def some_images() -> dict[bytes, bytes]:
    """Return PNG files and their pixels."""
    rng = np.random.default_rng(0)
    arrays = [
        np.zeros((32, 32), np.uint8),
        PIXELS,
        rng.integers(256, size=(32, 32), dtype=np.uint8),
        *draw(parameters(32, "hard"), 5, 0, 0).images,
    ]
    return {made_up.png(array): array.tobytes() for array in arrays}


FEW_AND_MANY = [
    pytest.param(1_000, id="few"),
    pytest.param(100_000, id="many", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_damaged_png(number: int) -> None:
    images = some_images()
    pixels = set(images.values())
    refused = 0
    for content in mutants(list(images), number):
        try:
            found = decode_png(content, 32, "x.png")
        except UserError:
            refused += 1
            continue
        # Its checksums would have told.
        assert found.tobytes() in pixels
        assert found.shape == (32, 32)
    assert refused > 0.9 * number


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_png_of_damaged_parts_with_right_checksums(number: int) -> None:
    # What the library that decodes has to stand by itself.
    more = [(b"tEXt", b"a\0b"), (b"tRNS", b"\0\1"), (b"acTL", bytes(8)), (b"gAMA", bytes(4))]
    files = [chunks_of(content) for content in some_images()]
    rng = random.Random(1)
    names = [b"IHDR", b"IDAT", b"IEND", *(name for name, _ in more)]
    damaged = mutants(
        [body for file in files for _, body in file if body] + [body for _, body in more], number
    )
    accepted = 0
    for body in damaged:
        parts = list(rng.choice(files))
        at = rng.randrange(len(parts) + 1)
        if at < len(parts) and rng.random() < 0.8:
            parts[at] = parts[at][0], body
        else:
            parts.insert(at, (rng.choice(names), body))
        content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
        try:
            found = decode_png(content, 32, "x.png")
        except UserError:
            continue
        assert found.shape == (32, 32)
        assert found.dtype == np.uint8
        accepted += 1
    assert accepted


def test_an_enormous_png_is_not_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)
    with pytest.raises(UserError, match="2147483647 by 2147483647"):
        decode_png(content + chunk(b"IEND", b""), 32, "x.png")


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_damaged_metadata(number: int) -> None:
    text = made_up.metadata_text(FIELDS)
    array = np.array(FIELDS)
    seeds = [text, text.replace(b"\n", b"\r\n"), text.rstrip()]
    seeds += [as_array(array.astype(kind)) for kind in ("U12", "S12", ">U11", "S20")]
    accepted = 0
    for content in mutants(seeds, number):
        try:
            rows = parse_metadata(content, "metadata/0.npy")
        except UserError:
            continue
        accepted += 1
        assert rows
        for at, row in enumerate(rows, start=1):
            folder, batch, name = row.name.split("/")
            assert folder == "imgs"
            assert batch.isascii()
            assert batch.isdigit()
            assert name.removeprefix("sample_").removesuffix(".png").isdigit()
            assert row.label in (0, 1)
            assert row.number == at
    assert accepted


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_damaged_shards(tmp_path: Path, number: int) -> None:
    with pytest.raises(StopHereError):
        small(tmp_path).prepare(stop_after(TOTAL))
    shards = CountedShards(
        shards_folder(tmp_path), parameters(32, "easy"), seed=0, total=TOTAL, size=SHARD
    )
    seeds = [shards.path(shard).read_bytes() for shard in range(NUM_SHARDS)]
    good = shards.parse(2, seeds[2])
    assert good is not None
    accepted = 0
    for content in mutants(seeds, number):
        found = shards.parse(2, content)
        if found is not None:
            # Not even another good shard passes for this one.
            assert content == seeds[2]
            assert np.array_equal(found[0], good[0])
            assert np.array_equal(found[1], good[1])
            accepted += 1
    assert accepted < 0.05 * number


# The command line.


def test_the_data_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task=pathfinder", "setting=smoke", f"cache_dir={tmp_path / 'cache'}"]
    assert main(["data", "prepare", *words]) == 0
    assert "train: 64 examples" in capsys.readouterr().out
    assert main(["data", "verify", *words]) == 0
    said = capsys.readouterr()
    assert "pathfinder: 5 checks, all good" in said.out
    assert "the first 16 test images, drawn again" in said.err
    assert main(["data", "show", *words, "index=3"]) == 0
    shown = capsys.readouterr().out
    assert "contour" in shown
    assert "1,024" in shown
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", *words, "count=4", "--save", str(sheet)]) == 0
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert min(image.size) > 32
        assert image.convert("L").getextrema() == (0, 255)
    assert main(["data", "show", *words, "index=16"]) == 2
