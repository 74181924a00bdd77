"""What Pathfinder images are made of, and whether it is as it must be: the judge of the drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Images and what they are made of.

    Args:
        images: Gray levels, shape (N, R, R).
        labels: Shape (N,).
        contours: The strokes of the two targets as segments, shape (N, 2, C, 2, 2): contour,
            stroke, near and far end seen from the contour's origin, row and column [pixels].
        markers: Centers of the two discs, shape (N, 2, 2) [pixels].
        num_distractors: That found room, shape (N,).
    """

    images: Bytes
    labels: Ints
    contours: Floats
    markers: Ints
    num_distractors: Ints


def problem_of(drawn: Drawn, *, margin: int, thickness: float, apart: bool) -> str | None:
    """Say what is wrong with some images, None if nothing is.

    Args:
        drawn: The images, and the strokes that they were made of.
        margin: Half the widest gap between strokes [pixels].
        thickness: Of a stroke [pixels].
        apart: Whether the contours must neither touch nor cross.
    """
    # Rounding to whole pixels may add to a gap.
    widest = 2 * margin + 3
    torn = int((gaps(drawn.contours) > widest).any(axis=(1, 2)).sum())
    if torn:
        return f"{torn:,} images have a contour that does not hang together"
    near = int((clearances(drawn.contours) < thickness).sum())
    if apart and near:
        return f"{near:,} images have contours that touch or cross"
    wrong = int((~discs_fit_labels(drawn)).sum())
    if wrong:
        return f"{wrong:,} images have discs that do not sit where the label says"
    return None


def gaps(contours: Floats) -> Floats:
    """Return the gaps between consecutive strokes of each contour [pixels].

    In a contour that hangs together, twice the margin and what is lost by rounding to whole
    pixels, at most 3.

    Args:
        contours: Shape (N, 2, C, 2, 2), see `Drawn`.

    Returns:
        Shape (N, 2, C - 1).
    """
    between = contours[:, :, 1:, 0] - contours[:, :, :-1, 1]
    distances: Floats = np.hypot(between[..., 0], between[..., 1])
    return distances


def discs_fit_labels(drawn: Drawn) -> Bools:
    """Return in which images the discs sit where the label says, from the geometry.

    One sits where a contour begins, the other one where the same contour ends (label 1) or the
    other one (label 0). Both can be true, where contours end at one pixel.

    Returns:
        Shape (N,).
    """
    begins, ends = drawn.contours[:, :, 0, 0], drawn.contours[:, :, -1, 1]
    # Tips are whole pixels.
    on_begin = np.abs(begins - drawn.markers[:, None, 0]).max(axis=-1) < 0.5
    on_end = np.abs(ends - drawn.markers[:, None, 1]).max(axis=-1) < 0.5
    end_wanted = np.where((drawn.labels == 1)[:, None], on_end, on_end[:, ::-1])
    fit: Bools = (on_begin & end_wanted).any(axis=1)
    return fit


def clearances(contours: Floats) -> Floats:
    """Return how near the two contours, gaps included, come to each other [pixels].

    They touch where this is less than the thickness of a stroke, and cross where it is 0. The
    published generator lets them, in a third of the hard images at size 32: a contour keeps clear
    of what was drawn some steps ago, but not of the other one's newest stroke.

    Args:
        contours: Shape (N, 2, C, 2, 2), see `Drawn`.

    Returns:
        Shape (N,).
    """
    bridges = np.stack((contours[:, :, :-1, 1], contours[:, :, 1:, 0]), axis=3)
    lines = np.concatenate((contours, bridges), axis=2)
    nearest = np.zeros(len(lines))
    for start in range(0, len(lines), 100):
        portion = lines[start : start + 100]
        between = _segment_distances(portion[:, 0, :, None], portion[:, 1, None, :])
        nearest[start : start + 100] = between.min(axis=(1, 2))
    return nearest


def _segment_distances(first: Floats, second: Floats) -> Floats:
    """Return the distances between segments, shape (..., 2 ends, 2 coordinates) each."""
    first, second = np.broadcast_arrays(first, second)
    a, b, c, d = first[..., 0, :], first[..., 1, :], second[..., 0, :], second[..., 1, :]
    ends = ((a, c, d), (b, c, d), (c, a, b), (d, a, b))
    nearest = np.min([_point_distance(*three) for three in ends], axis=0)
    crosses = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    return np.where(crosses, 0.0, nearest)


def _point_distance(point: Floats, start: Floats, stop: Floats) -> Floats:
    along = stop - start
    # A segment may be a point.
    length = np.maximum((along**2).sum(axis=-1), 1e-12)
    share = np.clip(((point - start) * along).sum(axis=-1) / length, 0, 1)
    distances: Floats = np.linalg.norm(point - start - share[..., None] * along, axis=-1)
    return distances


def _side(start: Floats, stop: Floats, point: Floats) -> Floats:
    """Return on which side of a line a point lies: the sign of the cross product."""
    along, to = stop - start, point - start
    cross: Floats = along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
    return cross
