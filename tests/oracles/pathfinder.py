"""The published Pathfinder generator, written from its description: the slow obvious version.

One image, one attempt, one stroke at a time. Tests compare the package with it by statistics;
nothing else uses it, and nothing here is taken from the package. The words are the generator's: a
paddle is one dash, a snake or contour is a chain of paddles, the margin is half the gap between
two paddles of a chain and the clearance kept around ink.

Points are (row, column). At angle a the row grows with sin a and the column with cos a.

Shapes: R side of the image, C side of an enlarged canvas, P side of a paddle's patch, W side of the
window of a structuring element; all squares.

Source: arXiv 2011.04006, and the generator of arXiv 1805.08315 as it was in 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats: TypeAlias = NDArray[np.float64]
Bytes: TypeAlias = NDArray[np.uint8]
Pixel: TypeAlias = tuple[int, int]
Point: TypeAlias = tuple[float, float]
Offsets: TypeAlias = tuple[Pixel, ...]

TARGET_TRIES = 3
DISTRACTOR_TRIES = 5
PADDLE_TRIES = 3
# A pixel is free for a seed up to this occupancy.
FREE_UP_TO = 0.3
# A new paddle must keep the sum of occupancies below this everywhere.
OVERLAP_BELOW = 1.8
LEAST_WEIGHT = 1e-4
LEAST_FREE_SHARE = 0.01


@dataclass(frozen=True)
class Params:
    """The generator's settings.

    Args:
        size: Side of the image [pixels].
        padding: Width of the frame that contours keep out of [pixels].
        seed_distance: Distance of the two seeds [pixels].
        length: Length of a paddle [pixels].
        thickness: Width of a paddle [pixels].
        margins: One is drawn for each image [pixels].
        marker_radius: Radius of a disc [pixels].
        contour_length: Paddles of a target contour.
        distractor_length: Paddles of a distractor.
        num_distractors: Distractors that one tries to place.
        continuity: The larger, the straighter the contours.
        snake_contrasts: Drawn for each target snake and for each paddle of a distractor.
        paddle_contrasts: Drawn for each paddle of a target; multiplies the snake's.
        antialias: Paddles and discs are drawn this many times too large, and shrunk.
    """

    size: int
    padding: int
    seed_distance: int
    length: int
    thickness: float
    margins: tuple[int, ...]
    marker_radius: float
    contour_length: int
    distractor_length: int
    num_distractors: int
    continuity: float
    snake_contrasts: tuple[float, ...]
    paddle_contrasts: tuple[float, ...]
    antialias: int = 2


@dataclass(frozen=True)
class OracleImage:
    """One image and how it came about.

    Args:
        image: The finished image, (R, R).
        label: 1 if both discs are on one contour.
        contours: For both targets the ends (head, tail) of each paddle from the seed on; where a
            paddle starts is a pixel, its other end is not rounded. The seed's tail and the last
            head are the contour's ends.
        markers: The pixels of the two discs: one on a seed's tail, one on a last head.
        targets_only: The image without distractors and discs, in the finished image's gray levels.
        num_distractors_placed: How many distractors found room.
        num_pair_attempts: How many times the two targets were begun.
    """

    image: Bytes
    label: int
    contours: tuple[list[tuple[Point, Point]], list[tuple[Point, Point]]]
    markers: tuple[Pixel, Pixel]
    targets_only: Bytes
    num_distractors_placed: int
    num_pair_attempts: int


class Stroke(NamedTuple):
    """A paddle of contrast 1 and its mask, (P, P); it starts at the center of the patch."""

    ink_PP: Floats
    mask_PP: Floats


@dataclass
class Snake:
    """A snake that grows.

    Args:
        pivot: The point around which the last paddle's head was chosen.
        angle: Direction of the last paddle.
        last_mask_RR: The last paddle's mask, which is not yet part of the shared one.
        contrast: Multiplies the contrast of its paddles.
        paddles: Ends (head, tail) of each paddle.
    """

    pivot: Pixel
    angle: float
    last_mask_RR: Floats
    contrast: float
    paddles: list[tuple[Point, Point]]


@dataclass
class Canvas:
    """What has been drawn, (R, R): the ink, and the occupancy mask between 0 and 1."""

    ink_RR: Floats
    mask_RR: Floats

    def copy(self) -> Canvas:
        return Canvas(self.ink_RR.copy(), self.mask_RR.copy())

    def paint(self, patch: Stroke, start: Pixel, contrast: float) -> None:
        """Add a paddle's ink, not its mask."""
        # As published, in single precision: with it the halves of gray levels are rounded alike.
        ink_PP = (patch.ink_PP * contrast).astype(np.float32)
        ink_RR = pasted(ink_PP.astype(np.float64), start, len(self.ink_RR))
        self.ink_RR = np.maximum(self.ink_RR, ink_RR)


# ---------------------------------------------------------------------------------------- pixels


def moved(point: Pixel, distance: float, angle: float) -> Pixel:
    """Move a point and round both coordinates up."""
    return (
        math.ceil(point[0] + distance * math.sin(angle)),
        math.ceil(point[1] + distance * math.cos(angle)),
    )


def moved_exactly(point: Pixel, distance: float, angle: float) -> Point:
    """Move a point."""
    return point[0] + distance * math.sin(angle), point[1] + distance * math.cos(angle)


def flipped(angle: float) -> float:
    """Turn an angle by half a circle, within -pi to pi: rounding up tells the two ways apart."""
    return angle + math.pi if angle < 0 else angle - math.pi


def inside(point: Pixel, size: int) -> bool:
    """Tell whether a point lies in the window."""
    return 0 <= point[0] < size and 0 <= point[1] < size


def to_bytes(values: Floats) -> Bytes:
    """Stretch values so that the least is 0 and the greatest 255, and round to nearest."""
    low, high = values.min(), values.max()
    assert high > low, "a constant image cannot be stretched"
    stretched: Floats = (values - low) * (255 / (high - low))
    return np.floor(stretched + 0.5).astype(np.uint8)


def shrunk(enlarged_CC: Floats, side: int) -> Floats:
    """Shrink a canvas with Lanczos through 8-bit images; values between 0 and 1, (side, side)."""
    small = Image.fromarray(to_bytes(enlarged_CC)).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(small, dtype=np.float64) / 255


def disc(radius: float) -> Offsets:
    """Return the offsets of a disc's pixels."""
    reach = math.floor(radius)
    return tuple(
        (row, column)
        for row in range(-reach, reach + 1)
        for column in range(-reach, reach + 1)
        if row * row + column * column <= radius * radius
    )


def dilated(values_RR: Floats, offsets: Offsets) -> Floats:
    """Return for each pixel the maximum over the element laid on it.

    What lies outside the image is ignored; a pixel whose element lies outside as a whole gets -1.
    """
    size = len(values_RR)
    reach = max((max(abs(row), abs(column)) for row, column in offsets), default=0)
    padded = np.pad(values_RR, reach, constant_values=-1.0)
    greatest_RR = np.full_like(values_RR, -1.0)
    for row, column in offsets:
        top, left = reach + row, reach + column
        np.maximum(greatest_RR, padded[top : top + size, left : left + size], out=greatest_RR)
    return greatest_RR


def pasted(patch_PP: Floats, center: Pixel, size: int) -> Floats:
    """Return an empty window, (size, size), with a patch around a point, clipped."""
    half = len(patch_PP) // 2
    window = np.zeros((size, size))
    top, left = center[0] - half, center[1] - half
    first_row, first_column = max(0, -top), max(0, -left)
    last_row, last_column = (
        min(len(patch_PP), size - top),
        min(len(patch_PP), size - left),
    )
    if first_row < last_row and first_column < last_column:
        window[top + first_row : top + last_row, left + first_column : left + last_column] = (
            patch_PP[first_row:last_row, first_column:last_column]
        )
    return window


# --------------------------------------------------------------------------------------- strokes


@lru_cache(maxsize=4096)
def stroke(angle: float, length: int, thickness: float, margin: int, antialias: int) -> Stroke:
    """Draw a paddle from the center of a patch along an angle."""
    half = length + math.ceil(thickness) + margin
    center = half * antialias
    end_row, end_column = moved((center, center), length * antialias, angle)
    canvas = Image.new("F", (2 * center + 1, 2 * center + 1), 0)
    # Pillow has the column first.
    ImageDraw.Draw(canvas).line(
        [(center, center), (end_column, end_row)], fill=255, width=round(thickness * antialias)
    )
    line_CC = np.asarray(canvas, dtype=np.float64)
    mask_CC = dilated(line_CC, disc(margin * antialias))
    return Stroke(shrunk(line_CC, 2 * half + 1), shrunk(mask_CC, 2 * half + 1))


def stroke_of(params: Params, margin: int, angle: float) -> Stroke:
    """Draw a paddle with an image's settings."""
    return stroke(angle, params.length, params.thickness, margin, params.antialias)


def marker(params: Params, center: Pixel) -> Floats:
    """Draw a disc into an empty window, (R, R)."""
    enlarged_size = params.size * params.antialias
    enlarged_CC = np.zeros((enlarged_size, enlarged_size))
    for row, column in disc(params.marker_radius * params.antialias):
        point = (center[0] * params.antialias + row, center[1] * params.antialias + column)
        if inside(point, enlarged_size):
            enlarged_CC[point] = 1.0
    return shrunk(enlarged_CC, params.size)


# ----------------------------------------------------------------------------------------- seeds


def seed_element(params: Params, margin: int, angle: float) -> Offsets:
    """Return the structuring element of a seed: the full pixels of its mask.

    The published generator draws it one pixel off the element's center, down and to the right.
    """
    reach = params.length + margin
    mask_PP = stroke_of(params, margin, angle).mask_PP
    mask_WW = pasted(mask_PP, (reach + 1, reach + 1), 2 * reach + 1)
    return tuple(
        (int(row) - reach, int(column) - reach) for row, column in np.argwhere(mask_WW == 1.0)
    )


def free_tails(mask_RR: Floats, element: Offsets) -> list[Pixel]:
    """Return the pixels where a seed may start.

    The published generator reports none if the dilated mask is negative anywhere: that is where
    the element of some pixel lies outside the image as a whole.
    """
    dilated_RR = dilated(mask_RR, element)
    if dilated_RR.min() < 0:
        return []
    return [(int(row), int(column)) for row, column in np.argwhere(dilated_RR <= FREE_UP_TO)]


def draw_degrees(rng: np.random.Generator, low: int, high: int) -> float:
    """Draw a whole number of degrees, the upper end excluded, and return it in radians."""
    return math.radians(int(rng.integers(low, high)))


def seed_fits(params: Params, margin: int, tail: Pixel, angle: float) -> bool:
    """Tell whether the head and the pivot of a seed lie in the window."""
    head = moved(tail, params.length, angle)
    pivot = moved(head, params.length + margin, flipped(angle))
    return inside(head, params.size) and inside(pivot, params.size)


def planted(
    params: Params,
    margin: int,
    canvas: Canvas,
    tail: Pixel,
    angle: float,
    contrast: float,
    paddle: float,
) -> Snake:
    """Draw a seed; its mask waits in the snake."""
    patch = stroke_of(params, margin, angle)
    canvas.paint(patch, tail, contrast * paddle)
    head = moved(tail, params.length, angle)
    return Snake(
        pivot=moved(head, params.length + margin, flipped(angle)),
        angle=angle,
        last_mask_RR=pasted(patch.mask_PP, tail, params.size),
        contrast=contrast,
        paddles=[(moved_exactly(tail, params.length, angle), tail)],
    )


def find_seed(
    params: Params, margin: int, rng: np.random.Generator, mask_RR: Floats
) -> tuple[Pixel, float] | None:
    """Find a tail and an angle for a seed; None if no room is left or it never fits."""
    for _ in range(TARGET_TRIES):
        angle = draw_degrees(rng, -180, 180)
        tails = free_tails(mask_RR, seed_element(params, margin, angle))
        if not tails:
            return None
        tail = tails[int(rng.integers(len(tails)))]
        if seed_fits(params, margin, tail, angle):
            return tail, angle
    return None


def find_second_seed(
    params: Params, margin: int, rng: np.random.Generator, first: Pixel
) -> tuple[Pixel, float] | None:
    """Find a tail and an angle at the seed distance from the first; overlap is not tested."""
    for _ in range(TARGET_TRIES):
        angle = draw_degrees(rng, -180, 180)
        direction = draw_degrees(rng, 0, 360)
        row, column = moved_exactly(first, params.seed_distance, direction)
        tail = (round(row), round(column))
        if seed_fits(params, margin, tail, angle):
            return tail, angle
    return None


def framed(mask_RR: Floats, width: int) -> Floats:
    """Return a mask with a frame of a width set to 1."""
    framed_RR = mask_RR.copy()
    framed_RR[:width, :] = 1
    framed_RR[:, :width] = 1
    framed_RR[len(mask_RR) - width :, :] = 1
    framed_RR[:, len(mask_RR) - width :] = 1
    return framed_RR


# ---------------------------------------------------------------------------------------- growth


def candidate_heads(pivot: Pixel, radius: int, size: int) -> list[Pixel]:
    """Return the pixels of a circle, one per pixel of its arc, by row and column."""
    step = 360 / (2 * math.pi * radius)
    heads = set()
    for degrees in np.arange(0, 360, step).tolist():
        row, column = moved_exactly(pivot, radius, math.radians(degrees))
        if 0 <= row < size and 0 <= column < size:
            heads.add((int(row), int(column)))
    return sorted(heads)


def grow(
    params: Params,
    margin: int,
    rng: np.random.Generator,
    canvas: Canvas,
    snake: Snake,
    paddle_contrast: float,
) -> bool:
    """Add one paddle to a snake, and the one before it to the mask; False if there is no room."""
    pivot = moved(snake.pivot, params.length + 2 * margin, snake.angle)
    heads = candidate_heads(pivot, params.length + margin, params.size)
    occupied_RR = dilated(canvas.mask_RR, disc(margin))
    angles = [math.atan2(row - pivot[0], column - pivot[1]) for row, column in heads]
    weights = []
    for head, angle in zip(heads, angles, strict=True):
        turn = abs(angle - snake.angle) % (2 * math.pi)
        turn = min(turn, 2 * math.pi - turn)
        straight = math.cos(min(params.continuity * turn, math.pi / 2)) ** 2
        weights.append(straight * (1 - float(occupied_RR[head])))
    if sum(weights) < LEAST_WEIGHT:
        return False
    chances = np.array(weights) / sum(weights)
    for _ in range(PADDLE_TRIES):
        drawn = int(rng.choice(len(heads), p=chances))
        head, angle = heads[drawn], angles[drawn]
        patch = stroke_of(params, margin, flipped(angle))
        mask_RR = pasted(patch.mask_PP, head, params.size)
        if (canvas.mask_RR + mask_RR).max() >= OVERLAP_BELOW:
            continue
        canvas.paint(patch, head, snake.contrast * paddle_contrast)
        canvas.mask_RR = np.maximum(canvas.mask_RR, snake.last_mask_RR)
        snake.pivot, snake.angle, snake.last_mask_RR = pivot, angle, mask_RR
        snake.paddles.append((head, moved_exactly(head, params.length, flipped(angle))))
        return True
    return False


# ---------------------------------------------------------------------------------------- images


def draw_from(rng: np.random.Generator, values: tuple[float, ...]) -> float:
    """Draw one of some values."""
    return values[int(rng.integers(len(values)))]


def draw_targets(
    params: Params, margin: int, rng: np.random.Generator
) -> tuple[Canvas, Snake, Snake] | None:
    """Attempt once to draw the two target snakes into an empty image."""
    empty_RR = np.zeros((params.size, params.size))
    canvas = Canvas(empty_RR, framed(empty_RR, params.padding))
    contrasts = rng.permutation(2 * params.snake_contrasts).tolist()
    first_seed = find_seed(params, margin, rng, framed(canvas.mask_RR, 2 * params.seed_distance))
    if first_seed is None:
        return None
    second_seed = find_second_seed(params, margin, rng, first_seed[0])
    if second_seed is None:
        return None
    first = planted(
        params, margin, canvas, *first_seed, contrasts[0], draw_from(rng, params.paddle_contrasts)
    )
    second = planted(
        params, margin, canvas, *second_seed, contrasts[1], draw_from(rng, params.paddle_contrasts)
    )
    for _ in range(params.contour_length - 1):
        paddle_contrast = draw_from(rng, params.paddle_contrasts)
        for snake in (first, second):
            if not grow(params, margin, rng, canvas, snake, paddle_contrast):
                return None
    # As published: the first snake's last mask is left out.
    canvas.mask_RR = np.maximum(canvas.mask_RR, second.last_mask_RR)
    return canvas, first, second


def draw_distractor(
    params: Params, margin: int, rng: np.random.Generator, canvas: Canvas
) -> Canvas | None:
    """Attempt once to add a distractor; return the new canvas."""
    if (canvas.mask_RR <= FREE_UP_TO).mean() < LEAST_FREE_SHARE:
        return None
    seed = find_seed(params, margin, rng, framed(canvas.mask_RR, 1))
    if seed is None:
        return None
    grown = canvas.copy()
    snake = planted(params, margin, grown, *seed, 1.0, draw_from(rng, params.snake_contrasts))
    for _ in range(params.distractor_length - 1):
        contrast = draw_from(rng, params.snake_contrasts)
        if not grow(params, margin, rng, grown, snake, contrast):
            return None
    grown.mask_RR = np.maximum(grown.mask_RR, snake.last_mask_RR)
    return grown


def make(params: Params, rng: np.random.Generator) -> OracleImage:
    """Make one image."""
    label = int(rng.integers(2))
    margin = params.margins[int(rng.integers(len(params.margins)))]
    targets = None
    num_pair_attempts = 0
    while targets is None:
        targets = draw_targets(params, margin, rng)
        num_pair_attempts += 1
    canvas, *snakes = targets
    targets_RR = canvas.ink_RR.copy()

    num_placed = 0
    for _ in range(params.num_distractors):
        for _ in range(DISTRACTOR_TRIES):
            grown = draw_distractor(params, margin, rng, canvas)
            if grown is not None:
                canvas = grown
                num_placed += 1
                break

    with_origin = int(rng.integers(2))
    with_terminal = with_origin if label else 1 - with_origin
    _, (row, column) = snakes[with_origin].paddles[0]
    origin = (int(row), int(column))
    (row, column), _ = snakes[with_terminal].paddles[-1]
    terminal = (int(row), int(column))
    image_RR = np.maximum(
        canvas.ink_RR, np.maximum(marker(params, origin), marker(params, terminal))
    )
    gain = 255 / (image_RR.max() - image_RR.min())
    return OracleImage(
        image=to_bytes(image_RR),
        label=label,
        contours=(snakes[0].paddles, snakes[1].paddles),
        markers=(origin, terminal),
        targets_only=np.floor((targets_RR - image_RR.min()) * gain + 0.5).astype(np.uint8),
        num_distractors_placed=num_placed,
        num_pair_attempts=num_pair_attempts,
    )


CONTOUR_LENGTHS = {"easy": 6, "intermediate": 9, "hard": 14}


def params_of(size: int, level: str) -> Params:
    """Return the settings of a published set.

    The documentation of the benchmark's code gives those of 32, 64 and 128 at the hard level. What
    it leaves out, and those of 256, are the generator's defaults. How many distractors the other
    two levels have is not published: the same rule is taken for all.
    """
    contour_length = CONTOUR_LENGTHS[level]
    distractor_length = contour_length // 3
    if size == 32:
        return Params(
            size=32,
            padding=1,
            seed_distance=7,
            length=2,
            thickness=0.5,
            margins=(1,),
            marker_radius=1.5,
            contour_length=contour_length,
            distractor_length=distractor_length,
            num_distractors=20 // distractor_length,
            continuity=1.0,
            snake_contrasts=(2.0,),
            paddle_contrasts=(0.75,),
        )
    if size == 64:
        return Params(
            size=64,
            padding=1,
            seed_distance=12,
            length=5,
            thickness=1,
            margins=(1,),
            marker_radius=2.5,
            contour_length=contour_length,
            distractor_length=distractor_length,
            num_distractors=22 // distractor_length,
            continuity=1.8,
            snake_contrasts=(0.8,),
            paddle_contrasts=(1.0,),
        )
    if size == 128:
        return Params(
            size=128,
            padding=1,
            seed_distance=20,
            length=5,
            thickness=1.5,
            margins=(2, 3),
            marker_radius=3,
            contour_length=contour_length,
            distractor_length=distractor_length,
            num_distractors=35 // distractor_length,
            continuity=1.8,
            snake_contrasts=(0.9,),
            paddle_contrasts=(1.0,),
        )
    assert size == 256
    return Params(
        size=256,
        padding=22,
        seed_distance=27,
        length=5,
        thickness=2,
        margins=(3,),
        marker_radius=5,
        contour_length=contour_length,
        distractor_length=distractor_length,
        num_distractors=30 // distractor_length,
        continuity=1.8,
        snake_contrasts=(1.0,),
        paddle_contrasts=(1.0,),
    )


PARAMS = {
    (size, level): params_of(size, level)
    for size in (32, 64, 128, 256)
    for level in CONTOUR_LENGTHS
}
