from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracles import pathfinder as oracle
from pathfinders import (
    DIFFICULTIES,
    NUM_DRAWN,
    drawn_by_us,
    few_drawn,
)

from lra_tasks._pathfinder_draw import (
    RESOLUTIONS,
    Difficulty,
    draw,
    marker,
    parameters,
    strokes_of,
)
from lra_tasks._pathfinder_geometry import (
    Drawn,
    Floats,
)

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
