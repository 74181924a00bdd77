"""Drawing Pathfinder images: two dashed contours, distractors, and two discs on contour tips.

A label of 1 says that both discs sit on the tips of one contour, 0 that they sit on tips of two.
The images follow the distribution of the published generator: same parameters, same construction.
It draws one image at a time and throws nearly all its attempts at a pair of contours away. Here

- a thousand attempts grow at once, one stroke each a step, and a failed one starts anew;
- strokes are drawn beforehand: a contour only ever points from one whole pixel to another one at
  a fixed distance, so that there are few different strokes;
- choices are made in whole numbers, so that a seed gives the same images on every machine.

All attempts that succeed take the same number of steps; taking the first ones favors none.

Source: Linsley et al. 2018 (the construction) and arXiv 2011.04006 (the parameters).

Shapes: N images or attempts, S side of a stroke's patch [pixels], R side of an image [pixels],
K candidates for the next stroke, C strokes of a contour. Positions are flat indices into an image
with a frame around it, so that nothing near an edge needs care.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lra_tasks._pathfinder_geometry import Bools, Bytes, Drawn, Floats, Ints, clearances

Difficulty = Literal["easy", "intermediate", "hard"]
RESOLUTIONS = (32, 64, 128, 256)

# Gray levels, shape (N, R, R), and labels, shape (N,).
Images = tuple[Bytes, Ints]

_NUM_ANGLES = 360
# Attempts at one stroke, at one distractor.
_STROKE_TRIALS = 3
_DISTRACTOR_TRIALS = 5
# Of a mask's values 0..255: free is up to 0.3, and two masks may add up to less than 1.8.
_FREE = 76
_MAX_SUM = 458
_WEIGHT_ONE = 1 << 16
# The published generator gives up where the weights, of at most 1, add up to less than 1e-4.
_MIN_TOTAL = 1e-4 * _WEIGHT_ONE * 255
_SIGNS = np.array([(row, col) for row in (-1, 1) for col in (-1, 1)])
# Contrasts are whole multiples of a twentieth.
_CONTRAST_ONE = 20
_SEEDS_AT_ONCE = 16
_SEED_ROUNDS = 4


@dataclass(frozen=True)
class Parameters:
    """Parameters of the published generator; all lengths in pixels.

    Args:
        resolution: Side of the image.
        contour_length: Strokes of a target contour.
        distractor_length: Strokes of a distractor.
        num_distractors: Distractors, at most; one that finds no room is left out.
        padding: Border that strokes keep clear of.
        seed_distance: Between the first strokes of the two target contours.
        paddle_length: Of a stroke.
        paddle_thickness: Of a stroke.
        margins: Half the gap between strokes; an image draws one of these.
        marker_radius: Of the discs.
        continuity: How straight contours are.
        antialias: How much larger strokes and discs are drawn before they are shrunk.
        target_contrast: Of target strokes.
        distractor_contrast: Of distractor strokes.
        apart: Throw away pairs of contours that touch or cross (see `clearances`).
    """

    resolution: int
    contour_length: int
    distractor_length: int
    num_distractors: int
    padding: int
    seed_distance: int
    paddle_length: int
    paddle_thickness: float
    margins: tuple[int, ...]
    marker_radius: float
    continuity: float
    antialias: int
    target_contrast: float
    distractor_contrast: float
    apart: bool = False


CONTOUR_LENGTHS: dict[Difficulty, int] = {"easy": 6, "intermediate": 9, "hard": 14}


def parameters(resolution: int, difficulty: Difficulty, *, apart: bool = False) -> Parameters:
    """Return the parameters of a published set.

    At the easy and intermediate level the number of distractors is not known for the published
    sets; here it follows from the rule that is documented for the hard level.
    """
    contour_length = CONTOUR_LENGTHS[difficulty]
    distractor_length = contour_length // 3
    # Strokes for distractors, seed distance, padding, length, thickness, margins, radius, contrast.
    strokes, distance, padding, length, thickness, margins, radius, contrast = {
        32: (20, 7, 1, 2, 0.5, (1,), 1.5, 2.0),
        64: (22, 12, 1, 5, 1.0, (1,), 2.5, 0.8),
        128: (35, 20, 1, 5, 1.5, (2, 3), 3.0, 0.9),
        256: (30, 27, 22, 5, 2.0, (3,), 5.0, 1.0),
    }[resolution]
    return Parameters(
        resolution=resolution,
        contour_length=contour_length,
        distractor_length=distractor_length,
        num_distractors=strokes // distractor_length,
        padding=padding,
        seed_distance=distance,
        paddle_length=length,
        paddle_thickness=thickness,
        margins=margins,
        marker_radius=radius,
        continuity=1.0 if resolution == 32 else 1.8,
        antialias=2,
        # At this size, target strokes are drawn at three quarters of the contrast of distractors.
        target_contrast=contrast * (0.75 if resolution == 32 else 1.0),
        distractor_contrast=contrast,
        apart=apart,
    )


class Random:
    """Whole random numbers from the raw output of a bit generator, which is promised to stay."""

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.Philox(np.random.SeedSequence(seed))

    def below(self, limits: Ints | int, *size: int) -> Ints:
        """Return whole numbers from 0 to below ``limits`` (at most 2**31)."""
        raw = self._bits.random_raw(math.prod(size)).reshape(size) >> np.uint64(32)
        scaled: Ints = (raw * np.asarray(limits, np.uint64) >> np.uint64(32)).astype(np.int64)
        return scaled


@dataclass(frozen=True)
class Strokes:
    """Every stroke that can occur, drawn once, for one margin.

    A state is a stroke: 0..359 are first strokes at whole degrees from -180, then one for each
    candidate (the stroke drawn back from it), then one that is blank.
    """

    # Where the K candidates lie around the pivot, as rows and columns.
    candidates: Ints
    # Weights of the candidates after each state, shape (states, K).
    weights: Ints
    # From the old pivot to the new one, after each state, shape (states, 2); not yet rounded.
    advance: Floats
    # Ink and mask of each state, shape (states, S, S), 0..255.
    ink: Bytes
    mask: Bytes
    # The segment of each state relative to the center of its patch, shape (states, 2): the center
    # is the one end, this is the other.
    other_end: Floats
    # From the tail of a first stroke to its head, and from there back to its first pivot, shape
    # (360, 2); not yet rounded.
    seed_head: Floats
    seed_back: Floats


def _moves(angles: list[float], distance: float) -> Floats:
    """Return by how much points move along some angles, shape (angles, 2)."""
    return distance * np.array([(math.sin(angle), math.cos(angle)) for angle in angles])


def moved(points: Ints, moves: Floats) -> Ints:
    """Return moved points; each coordinate is rounded up, as published.

    A move along an axis has a tiny part across it, and near the first row or column, where numbers
    are small enough to keep it, rounding up makes a pixel of it. The published images have that.
    """
    moved: Ints = np.ceil(points + moves).astype(np.int64)
    return moved


def _flipped(angle: float) -> float:
    return angle + math.pi if angle < 0 else angle - math.pi


def _disc(radius: int) -> list[tuple[int, int]]:
    span = range(-radius, radius + 1)
    return [(row, col) for row in span for col in span if row**2 + col**2 <= radius**2]


def _shrunk(canvas: Bytes, height: int, width: int) -> Bytes:
    from PIL import Image

    picture = Image.fromarray(canvas).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8)


def _dilated(canvas: Bytes, radius: int) -> Bytes:
    side, frame = len(canvas), np.pad(canvas, radius)
    shifted = [
        frame[radius + row : radius + row + side, radius + col : radius + col + side]
        for row, col in _disc(radius)
    ]
    most: Bytes = np.max(shifted, axis=0)
    return most


def _reach(params: Parameters, margin: int) -> int:
    """Return half the side of a stroke's patch, without the center."""
    return params.paddle_length + math.ceil(params.paddle_thickness) + margin


def _draw_stroke(params: Parameters, margin: int, angle: float) -> tuple[Bytes, Bytes]:
    """Return ink and mask of a stroke from the center of a patch, shape (S, S) each."""
    # Here and above: to open prepared images, nothing is drawn.
    from PIL import Image, ImageDraw

    scale, reach = params.antialias, _reach(params, margin)
    center = reach * scale
    (move,) = _moves([angle], params.paddle_length * scale)
    row, col = moved(np.array((center, center)), move).tolist()
    canvas = Image.new("L", (2 * center + 1, 2 * center + 1))
    ImageDraw.Draw(canvas).line(
        [(center, center), (col, row)],
        fill=255,
        width=round(params.paddle_thickness * scale),
    )
    line = np.asarray(canvas, np.uint8)
    side = 2 * reach + 1
    return _shrunk(line, side, side), _shrunk(_dilated(line, margin * scale), side, side)


@lru_cache
def strokes_of(params: Parameters, margin: int) -> Strokes:
    """Draw every stroke."""
    length = params.paddle_length
    radius = length + margin
    seed_angles = [math.radians(degrees) for degrees in range(-180, 180)]
    # One candidate a pixel of arc; several may be cut to the same pixel.
    steps = [at / radius for at in range(math.ceil(2 * math.pi * radius))]
    points = sorted(
        {
            (math.floor(radius * math.sin(step)), math.floor(radius * math.cos(step)))
            for step in steps
        }
    )
    directions = seed_angles + [math.atan2(row, col) for row, col in points]
    drawn_along = seed_angles + [_flipped(math.atan2(row, col)) for row, col in points]
    weights = []
    for direction in directions:
        away = [abs(math.atan2(row, col) - direction) for row, col in points]
        turns = [min(turn, 2 * math.pi - turn) for turn in away]
        weights.append(
            [
                round(_WEIGHT_ONE * math.cos(min(params.continuity * turn, math.pi / 2)) ** 2)
                for turn in turns
            ]
        )
    patches = [_draw_stroke(params, margin, angle) for angle in drawn_along]
    blank = np.zeros((1, *patches[0][0].shape), np.uint8)
    return Strokes(
        candidates=np.array(points),
        weights=np.array(weights),
        advance=_moves(directions, length + 2 * margin),
        ink=np.concatenate([np.stack([ink for ink, _ in patches]), blank]),
        mask=np.concatenate([np.stack([mask for _, mask in patches]), blank]),
        other_end=np.concatenate([_moves(drawn_along, length), np.zeros((1, 2))]),
        seed_head=_moves(seed_angles, length),
        seed_back=_moves([_flipped(angle) for angle in seed_angles], radius),
    )


class Canvas:
    """The geometry of framed images, and the strokes as flat positions in them."""

    def __init__(self, params: Parameters, margin: int) -> None:
        self.params, self.margin = params, margin
        self.strokes = strokes = strokes_of(params, margin)
        resolution = params.resolution
        # A candidate lies at most this far outside, and its surroundings are looked at.
        far = params.paddle_length + 3 * margin + 3
        self.frame = frame = max(far, _reach(params, margin))
        self.side = side = resolution + 2 * frame
        self.area = side * side
        self.blank = len(strokes.ink) - 1

        template = np.full((side, side), 255, np.uint8)
        inner = frame + params.padding
        template[inner : side - inner, inner : side - inner] = 0
        self.template = template.ravel()

        self.candidates = self._flat(strokes.candidates)
        self.disc = self._flat(np.array(_disc(margin)))
        reach = _reach(params, margin)
        span = np.arange(-reach, reach + 1)
        patch = (span[:, None] * side + span[None, :]).ravel()
        masks = strokes.mask.reshape(len(strokes.mask), -1)
        # The pixels of each mask that are not 0, for pasting; those that alone can make a sum too
        # large, for checking. Padded with the first of them.
        self.paste_at, self.paste_value = _ragged(masks, masks > 0, patch)
        self.check_at, self.check_value = _ragged(masks, masks > _MAX_SUM - 255, patch)
        self.patch = patch
        self.target_ink, self.distractor_ink = (
            strokes.ink * np.int16(round(_CONTRAST_ONE * contrast))
            for contrast in (params.target_contrast, params.distractor_contrast)
        )

        elements = self._elements()
        # Offsets from where a stroke begins that must be free.
        self.blocking = _padded([self._flat(element) for element in elements])
        # First strokes of targets keep clear of a wide band, of distractors of a line.
        band = 2 * params.seed_distance
        self.target_places = self._places(elements, band)
        self.distractor_places = self._places(elements, 1)
        # Neither these nor the second seeds can leave the image, in whatever direction they go.
        assert params.seed_distance + params.paddle_length + margin + 1 <= band

    def _flat(self, points: Ints) -> Ints:
        return np.asarray(points[..., 0] * self.side + points[..., 1], np.int64)

    def at(self, rows: Ints, columns: Ints) -> Ints:
        """Return the flat positions of pixels."""
        return (rows + self.frame) * self.side + columns + self.frame

    def rows_and_columns(self, positions: Ints) -> Ints:
        """Return pixels of flat positions, shape (..., 2)."""
        rows, columns = np.divmod(positions, self.side)
        return np.stack((rows, columns), axis=-1) - self.frame

    def _elements(self) -> list[Ints]:
        """Return, for each first stroke, the offsets from its tail that must be free.

        None at all for most angles: the published generator cannot use them. It draws the stroke
        one pixel off the center of a small window and dilates what is occupied by what is fully
        inside the stroke's mask; an angle for which this lies wholly outside the image anywhere
        leaves it without a free place. The distribution of the published images depends on it.
        """
        half = self.params.paddle_length + self.margin
        reach = _reach(self.params, self.margin)
        elements = []
        for mask in self.strokes.mask[:_NUM_ANGLES]:
            points = np.argwhere(mask == 255) - reach + 1
            points = points[(np.abs(points) <= half).all(axis=1)]
            corners = [(points * sign <= 0).all(axis=1).any() for sign in _SIGNS]
            elements.append(points if all(corners) else points[:0])
        return elements

    def _places(self, elements: list[Ints], edge: int) -> _Places:
        """Return where strokes may begin so that their element keeps clear of the edges."""
        boxes = []
        for element in elements:
            if not len(element):
                boxes.append((0, 0, 0, 0))
                continue
            first = np.maximum(edge - element.min(axis=0), 0)
            last = self.params.resolution - 1 - np.maximum(edge + element.max(axis=0), 0)
            size = last - first + 1
            assert size.min() > 0, "a stroke is as long as the image"
            boxes.append((*first.tolist(), *size.tolist()))
        return _Places(self, np.array(boxes))

    def advanced(self, pivots: Ints, states: Ints) -> Ints:
        """Return the pivots of the strokes after some strokes."""
        points = moved(self.rows_and_columns(pivots), self.strokes.advance[states])
        return self.at(points[:, 0], points[:, 1])

    def seeded(self, tails: Ints, angles: Ints) -> tuple[Ints, Bools]:
        """Return the pivots of first strokes, and which of these are not whole in the image."""
        heads = moved(self.rows_and_columns(tails), self.strokes.seed_head[angles])
        pivots = moved(heads, self.strokes.seed_back[angles])
        ends = np.concatenate((heads, pivots), axis=1)
        outside = np.any((ends < 0) | (ends >= self.params.resolution), axis=1)
        return self.at(pivots[:, 0], pivots[:, 1]), outside


@dataclass(frozen=True)
class _Places:
    """Where first strokes may begin on an empty image: a rectangle for each angle.

    Args:
        canvas: Of the images.
        boxes: First row and column, height and width by angle, shape (360, 4).
    """

    canvas: Canvas
    boxes: Ints

    @property
    def counts(self) -> Ints:
        """Number of places by angle."""
        counts: Ints = self.boxes[:, 2] * self.boxes[:, 3]
        return counts

    def at(self, angles: Ints, numbers: Ints) -> Ints:
        """Return the positions of places, given by their number among those of their angle."""
        top, left, _, width = np.moveaxis(self.boxes[angles], -1, 0)
        return self.canvas.at(top + numbers // width, left + numbers % width)


def _padded(rows: list[Ints]) -> Ints:
    """Return rows of different lengths as one array, each filled up with its first number."""
    width = max(map(len, rows))
    return np.stack(
        [
            np.pad(row, (0, width - len(row)), mode="edge")
            if len(row)
            else np.zeros(width, np.int64)
            for row in rows
        ]
    )


def _ragged(masks: Bytes, chosen: Bools, patch: Ints) -> tuple[Ints, Bytes]:
    """Return positions and values of the chosen pixels of each mask, filled up with the first."""
    indices = _padded([np.flatnonzero(row) for row in chosen])
    values = np.take_along_axis(masks, indices, axis=1)
    return patch[indices], values


class Growing:
    """Masks of N framed images in which contours grow, all by one stroke at a time."""

    def __init__(self, canvas: Canvas, masks: Bytes, random: Random) -> None:
        self.canvas, self.random = canvas, random
        self.masks = masks
        self.flat = masks.reshape(-1)

    def paste(self, lanes: Ints, positions: Ints, states: Ints) -> None:
        """Add the masks of strokes."""
        at = (lanes * self.canvas.area + positions)[:, None] + self.canvas.paste_at[states]
        self.flat[at] = np.maximum(self.flat[at], self.canvas.paste_value[states])

    def grow(self, lanes: Ints, pivots: Ints, states: Ints) -> tuple[Bools, Ints, Ints]:
        """Find the next stroke of one contour in each of some images.

        Args:
            lanes: Which images, shape (N,).
            pivots: Where the next strokes begin.
            states: The strokes before.

        Returns:
            Which images have room for it, the positions of the new tips, and the new states.
        """
        canvas = self.canvas
        base = lanes * canvas.area + pivots
        around = base[:, None] + canvas.candidates
        occupied = self.flat.take(around + canvas.disc[0])
        for offset in canvas.disc[1:]:
            np.maximum(occupied, self.flat.take(around + offset), out=occupied)
        weights = canvas.strokes.weights[states] * (255 - occupied)
        sums = np.cumsum(weights, axis=1)
        found = np.zeros(len(lanes), np.bool_)
        chosen = np.zeros(len(lanes), np.int64)
        left = np.flatnonzero(sums[:, -1] >= _MIN_TOTAL)
        for _ in range(_STROKE_TRIALS):
            if not len(left):
                break
            drawn = self.random.below(sums[left, -1], len(left))
            new = (sums[left] <= drawn[:, None]).sum(axis=1)
            state = new + _NUM_ANGLES
            at = (base[left] + canvas.candidates[new])[:, None] + canvas.check_at[state]
            high = self.flat.take(at).astype(np.int16) + canvas.check_value[state]
            fits = (high <= _MAX_SUM).all(axis=1)
            found[left[fits]] = True
            chosen[left[fits]] = new[fits]
            left = left[~fits]
        return found, pivots + canvas.candidates[chosen], chosen + _NUM_ANGLES


@dataclass
class _Targets:
    """Images that have got their two target contours.

    Args:
        masks: Shape (N, area).
        positions: Of the strokes, shape (N, 2, C).
        states: Shape (N, 2, C).
    """

    masks: Bytes
    positions: Ints
    states: Ints


def draw_targets(canvas: Canvas, number: int, random: Random) -> _Targets:
    """Let pairs of contours grow until there are enough."""
    num_strokes = canvas.params.contour_length
    # Enough at once to hide the cost of a call, few enough for the cache of a core.
    num_lanes = max(64, min(1024, (4 << 20) // canvas.area, number))
    masks = np.empty((num_lanes, canvas.area), np.uint8)
    growing = Growing(canvas, masks, random)
    positions = np.zeros((num_lanes, 2, num_strokes), np.int64)
    states = np.zeros((num_lanes, 2, num_strokes), np.int64)
    pivots = np.zeros((num_lanes, 2), np.int64)
    steps = np.zeros(num_lanes, np.int64)
    every = np.arange(num_lanes)
    done: list[_Targets] = []
    num_done = 0
    fresh = every
    while True:
        masks[fresh] = canvas.template
        steps[fresh] = 0
        begin, angles = _target_seeds(canvas, len(fresh), random)
        positions[fresh, :, 0], states[fresh, :, 0] = begin, angles
        for contour in (0, 1):
            at_seed, outside = canvas.seeded(begin[:, contour], angles[:, contour])
            assert not outside.any(), "targets begin far from the edges"
            pivots[fresh, contour] = canvas.advanced(at_seed, angles[:, contour])

        which, at = steps % 2, steps // 2
        before, before_state = positions[every, which, at], states[every, which, at]
        found, tips, new = growing.grow(every, pivots[every, which], before_state)
        grown = np.flatnonzero(found)
        growing.paste(grown, before[grown], before_state[grown])
        which, at = which[grown], at[grown] + 1
        positions[grown, which, at] = tips[grown]
        states[grown, which, at] = new[grown]
        pivots[grown, which] = canvas.advanced(pivots[grown, which], new[grown])
        steps[grown] += 1
        finished = np.flatnonzero(steps == 2 * (num_strokes - 1))
        if len(finished):
            # As published: of the last two strokes only the second contour's is kept clear of.
            growing.paste(finished, positions[finished, 1, -1], states[finished, 1, -1])
            found[finished] = False
            if canvas.params.apart:
                drawn = _segments(canvas, positions[finished], states[finished])
                finished = finished[clearances(drawn) >= canvas.params.paddle_thickness]
            done.append(_Targets(masks[finished], positions[finished], states[finished]))
            num_done += len(finished)
            if num_done >= number:
                break
        fresh = np.flatnonzero(~found)
    return _Targets(
        np.concatenate([some.masks for some in done])[:number],
        np.concatenate([some.positions for some in done])[:number],
        np.concatenate([some.states for some in done])[:number],
    )


def _target_seeds(canvas: Canvas, number: int, random: Random) -> tuple[Ints, Ints]:
    """Draw the tails and angles of the first strokes of both contours, shape (number, 2) each."""
    places = canvas.target_places
    possible = np.flatnonzero(places.counts)
    first = possible[random.below(len(possible), number)]
    tails = places.at(first, random.below(places.counts[first], number))
    directions = np.radians(random.below(360, number))
    # Rounded first, so that halves are halves on every machine.
    away = np.round(
        canvas.params.seed_distance * np.stack((np.sin(directions), np.cos(directions)), axis=-1), 9
    )
    second_tails = np.round(canvas.rows_and_columns(tails) + away).astype(np.int64)
    second = random.below(_NUM_ANGLES, number)
    begin = np.stack((tails, canvas.at(second_tails[:, 0], second_tails[:, 1])), axis=1)
    return begin, np.stack((first, second), axis=1)


def draw_distractors(canvas: Canvas, targets: _Targets, random: Random) -> tuple[Ints, Ints]:
    """Add distractors to images.

    Returns:
        Positions and states of their strokes, shape (N, distractors, strokes); a stroke of a
        distractor that found no room is blank.
    """
    params = canvas.params
    number, length = len(targets.masks), params.distractor_length
    growing = Growing(canvas, targets.masks, random)
    # What is put back if a distractor is given up.
    saved = targets.masks.copy()
    center = canvas.area // 2
    positions = np.full((number, params.num_distractors, length), center)
    states = np.full((number, params.num_distractors, length), canvas.blank)
    trial_at, trial_state = (
        np.zeros((number, length), np.int64),
        np.zeros((number, length), np.int64),
    )
    pivots = np.zeros(number, np.int64)
    which, trials, steps = (np.zeros(number, np.int64) for _ in range(3))
    lanes = np.arange(number)
    while len(lanes):
        # One stroke each: the first for those that begin, the next one for the others.
        failed = np.zeros(len(lanes), np.bool_)
        begin = np.flatnonzero(steps[lanes] == 0)
        if len(begin):
            some = lanes[begin]
            found, tails, angles = _distractor_seeds(growing, some)
            failed[begin] = ~found
            trial_at[some, 0], trial_state[some, 0] = tails, angles
            pivots[some] = canvas.advanced(canvas.seeded(tails, angles)[0], angles)
        follow = np.flatnonzero(steps[lanes] > 0)
        if len(follow):
            some = lanes[follow]
            at = steps[some]
            before, before_state = trial_at[some, at - 1], trial_state[some, at - 1]
            found, tips, new = growing.grow(some, pivots[some], before_state)
            failed[follow] = ~found
            growing.paste(some[found], before[found], before_state[found])
            trial_at[some, at], trial_state[some, at] = tips, new
            pivots[some] = canvas.advanced(pivots[some], new)
        good = lanes[~failed]
        steps[good] += 1
        whole = good[steps[good] == length]
        growing.paste(whole, trial_at[whole, -1], trial_state[whole, -1])
        positions[whole, which[whole]] = trial_at[whole]
        states[whole, which[whole]] = trial_state[whole]
        saved[whole] = growing.masks[whole]
        bad = lanes[failed]
        growing.masks[bad] = saved[bad]
        trials[bad] += 1
        steps[bad] = 0
        given_up = bad[trials[bad] == _DISTRACTOR_TRIALS]
        for over in (whole, given_up):
            which[over] += 1
            trials[over] = steps[over] = 0
        lanes = lanes[which[lanes] < params.num_distractors]
    return positions, states


def _distractor_seeds(growing: Growing, lanes: Ints) -> tuple[Bools, Ints, Ints]:
    """Find a first stroke for a distractor in each of some images.

    The published generator also gives up when less than a hundredth of the image is free; these
    contours never fill so much.

    Returns:
        Which images have room for it, and tails and angles.
    """
    canvas, random = growing.canvas, growing.random
    found = np.zeros(len(lanes), np.bool_)
    tails, angles = np.zeros(len(lanes), np.int64), np.zeros(len(lanes), np.int64)
    left = np.arange(len(lanes))
    for _ in range(_STROKE_TRIALS):
        angle = random.below(_NUM_ANGLES, len(left))
        place = _free_places(growing, lanes[left], angle)
        # No free place at all ends the attempt; an end outside the image only this trial.
        some = place >= 0
        left, angle, tail = left[some], angle[some], place[some]
        good = ~canvas.seeded(tail, angle)[1]
        found[left[good]] = True
        angles[left[good]] = angle[good]
        tails[left[good]] = tail[good]
        left = left[~good]
        if not len(left):
            break
    return found, tails, angles


def _free_places(growing: Growing, lanes: Ints, angles: Ints) -> Ints:
    """Draw one of the free places in each of some images: its position, -1 where none is free."""
    places, random = growing.canvas.distractor_places, growing.random
    counts = places.counts[angles]
    chosen = np.full(len(lanes), -1)
    left = np.flatnonzero(counts)
    for _ in range(_SEED_ROUNDS):
        tries = random.below(counts[left, None], len(left), _SEEDS_AT_ONCE)
        positions = places.at(angles[left, None], tries)
        free = are_free(growing, lanes[left], angles[left], positions)
        hit = free.any(axis=1)
        chosen[left[hit]] = positions[hit, free[hit].argmax(axis=1)]
        left = left[~hit]
        if not len(left):
            return chosen
    # Hardly any is free: look at all of them.
    for at in left.tolist():
        every = places.at(angles[[at]], np.arange(counts[at]))
        rest = every[are_free(growing, lanes[[at]], angles[[at]], every[None])[0]]
        if len(rest):
            chosen[at] = rest[random.below(len(rest), 1)[0]]
    return chosen


def are_free(growing: Growing, lanes: Ints, angles: Ints, positions: Ints) -> Bools:
    """Return which strokes could begin at positions, shape (N, tries)."""
    canvas = growing.canvas
    at = lanes[:, None] * canvas.area + positions
    occupied = growing.flat.take(at[..., None] + canvas.blocking[angles][:, None, :])
    free: Bools = occupied.max(axis=-1) <= np.uint8(_FREE)
    return free


def draw(params: Parameters, number: int, *seed: int) -> Drawn:
    """Draw images; the same seed gives the same ones."""
    random = Random(*seed)
    labels = random.below(2, number)
    margins = np.array(params.margins)[random.below(len(params.margins), number)]
    parts = []
    order = []
    for margin in params.margins:
        chosen = np.flatnonzero(margins == margin)
        if len(chosen):
            parts.append(_draw_some(params, margin, labels[chosen], random))
            order.append(chosen)
    back = np.argsort(np.concatenate(order))
    return Drawn(
        np.concatenate([part.images for part in parts])[back],
        labels,
        np.concatenate([part.contours for part in parts])[back],
        np.concatenate([part.markers for part in parts])[back],
        np.concatenate([part.num_distractors for part in parts])[back],
    )


@lru_cache
def _canvas(params: Parameters, margin: int) -> Canvas:
    return Canvas(params, margin)


def _draw_some(params: Parameters, margin: int, labels: Ints, random: Random) -> Drawn:
    canvas = _canvas(params, margin)
    number, every = len(labels), np.arange(len(labels))
    targets = draw_targets(canvas, number, random)
    distractors = draw_distractors(canvas, targets, random)
    framed = np.zeros((number, canvas.area), np.int16)
    _ink(framed, canvas, targets.positions, targets.states, canvas.target_ink)
    _ink(framed, canvas, *distractors, canvas.distractor_ink)
    inner = slice(canvas.frame, canvas.frame + params.resolution)
    ink = framed.reshape(number, canvas.side, canvas.side)[:, inner, inner]

    origins = random.below(2, number)
    terminals = np.where(labels == 1, origins, 1 - origins)
    tips = np.stack(
        (targets.positions[every, origins, 0], targets.positions[every, terminals, -1]), axis=1
    )
    markers = canvas.rows_and_columns(tips)
    discs = np.zeros(ink.shape, np.uint8)
    for image, centers in zip(discs, markers.tolist(), strict=True):
        for row, col in centers:
            disc, top, left = marker(params, row, col)
            part = image[top : top + disc.shape[0], left : left + disc.shape[1]]
            np.maximum(part, disc, out=part)
    images = _developed(ink, discs)

    contours = _segments(canvas, targets.positions, targets.states)
    placed = (distractors[1][:, :, 0] != canvas.blank).sum(axis=1)
    return Drawn(images, labels, contours, markers, placed)


def _ink(
    framed: NDArray[np.int16],
    canvas: Canvas,
    positions: Ints,
    states: Ints,
    ink: NDArray[np.int16],
) -> None:
    """Draw strokes, shape (N, contours, C), into framed images."""
    flat, patches = framed.reshape(-1), ink.reshape(len(ink), -1)
    base = np.arange(len(framed)) * canvas.area
    # One stroke of all images after the other: strokes of one image may overlap.
    for contour, stroke in np.ndindex(positions.shape[1:]):
        at = (base + positions[:, contour, stroke])[:, None] + canvas.patch
        flat[at] = np.maximum(flat[at], patches[states[:, contour, stroke]])


def _developed(ink: NDArray[np.int16], discs: Bytes) -> Bytes:
    """Return images of strokes and discs, stretched from black to white and rounded as published.

    Args:
        ink: Ink times contrast of strokes, in twentieths of a gray level, shape (N, R, R).
        discs: Gray levels of discs, shape (N, R, R).
    """
    white = 255 * _CONTRAST_ONE
    assert (discs.max(axis=(1, 2)) == 255).all(), "discs are white"
    assert not np.maximum(ink, discs).min(axis=(1, 2)).any(), "there is background"
    # Some strokes are brighter than the discs: they darken all the rest of their image.
    brightest = np.maximum(ink.max(axis=(1, 2)), white)
    images = np.empty(ink.shape, np.uint8)
    for most in np.unique(brightest).tolist():
        some = brightest == most
        of_ink, of_discs = _gray_levels(most)
        images[some] = np.maximum(of_ink[ink[some]], of_discs[discs[some]])
    return images


@lru_cache
def _gray_levels(most: int) -> tuple[Bytes, Bytes]:
    """Return the gray levels of ink and of discs in an image whose most ink is ``most``."""
    # Strokes are kept in single precision, discs in double: it decides where halves are rounded to.
    ink = (np.arange(most + 1) / (255 * _CONTRAST_ONE)).astype(np.float32).astype(np.float64)
    stretch = 255 / float(ink[most])
    of_ink, of_discs = (
        np.floor(amounts * stretch + 0.5).astype(np.uint8)
        for amounts in (ink, np.arange(256) / 255)
    )
    return of_ink, of_discs


@lru_cache(maxsize=4096)
def marker(params: Parameters, row: int, col: int) -> tuple[Bytes, int, int]:
    """Return a disc, as far as it is in the image, and the row and column where it begins."""
    scale, radius = params.antialias, params.marker_radius
    # The kernel that shrinks it reaches three pixels beyond.
    reach = math.ceil(radius) + 4
    (top, bottom), (left, right) = (
        (max(0, center - reach), min(params.resolution, center + reach + 1))
        for center in (row, col)
    )
    rows = np.arange(top * scale, bottom * scale)[:, None] - row * scale
    columns = np.arange(left * scale, right * scale)[None, :] - col * scale
    inside = rows**2 + columns**2 <= (radius * scale) ** 2
    canvas = np.where(inside, 255, 0).astype(np.uint8)
    return _shrunk(canvas, bottom - top, right - left), top, left


def _segments(canvas: Canvas, positions: Ints, states: Ints) -> Floats:
    """Return strokes of contours, shape (N, 2, C), as segments (see `Drawn`)."""
    centers = canvas.rows_and_columns(positions)
    ends = centers + canvas.strokes.other_end[states]
    contours: Floats = np.stack((centers, ends), axis=-2).astype(np.float64)
    # A first stroke is drawn from its tail, the others from their head.
    contours[:, :, 1:] = contours[:, :, 1:, ::-1].copy()
    return contours
