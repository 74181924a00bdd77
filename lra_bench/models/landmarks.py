"""Landmarks: a few rows that stand for all rows of a sequence, and inverting what lies among them.

Shapes: B batch, L length, H heads, K head width, M landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def lengths_of(mask_BL: Tensor | None, rows_BHLK: Tensor) -> Tensor:
    """Return the number of real tokens of each example, (B,)."""
    if mask_BL is not None:
        return mask_BL.sum(dim=1)
    batch, _, length, _ = rows_BHLK.shape
    return torch.full((batch,), length, device=rows_BHLK.device)


def segment_means(
    rows: Sequence[Tensor], lengths_B: Tensor, num_landmarks: int
) -> tuple[list[Tensor], Tensor]:
    """Return the means of segments of each example's own length.

    Args:
        rows: Some (B, H, L, K); the real tokens come first.
        lengths_B: From `lengths_of`.
        num_landmarks: Segments a sequence; one with fewer tokens has a segment a token.

    Returns:
        The means, (B, H, M, K) each and zero where unused, M being no more than L; and which of
        them are used (B, M).
    """
    length = rows[0].shape[2]
    places_L = torch.arange(length, device=lengths_B.device)
    numbers_M = torch.arange(min(num_landmarks, length), device=lengths_B.device)
    used_B = lengths_B.clamp(max=num_landmarks)
    segment_BL = places_L * used_B[:, None] // lengths_B[:, None].clamp(min=1)
    is_real_BL = places_L < lengths_B[:, None]
    belongs_BML = (segment_BL[:, None] == numbers_M[:, None]) & is_real_BL[:, None]
    # One small matrix product instead of sums by index, whose order a GPU does not promise.
    weights_BML = belongs_BML.to(rows[0].dtype)
    weights_BML = weights_BML / weights_BML.sum(dim=2, keepdim=True).clamp(min=1)
    # Zeros times something that is not finite would be no zeros: padding may be anything.
    means = [
        weights_BML[:, None] @ part.masked_fill(~is_real_BL[:, None, :, None], 0.0) for part in rows
    ]
    return means, numbers_M < used_B[:, None]


def sampled_rows(rows_BHLK: Tensor, lengths_B: Tensor, draws_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return one row of each of M equal parts of each example's own length.

    Args:
        rows_BHLK: Rows to choose from; the real tokens come first.
        lengths_B: From `lengths_of`.
        draws_M: Where in its part each row lies, in [0, 1).

    Returns:
        The rows, (B, H, M, K), M being no more than L; and which of them are used (B, M): an
        example with fewer tokens than parts has all of its rows once.
    """
    num_landmarks, (_, heads, length, width) = len(draws_M), rows_BHLK.shape
    used_B = lengths_B.clamp(max=num_landmarks)
    numbers_M = torch.arange(min(num_landmarks, length), device=lengths_B.device)
    part_B = lengths_B / used_B.clamp(min=1)
    places_BM = ((numbers_M + draws_M[: len(numbers_M)]) * part_B[:, None]).long()
    # Rounding must not carry a place over the end; unused ones lie beyond it.
    places_BM = places_BM.clamp(max=length - 1).minimum(lengths_B[:, None] - 1)
    index = places_BM[:, None, :, None].expand(-1, heads, -1, width)
    return rows_BHLK.gather(2, index), numbers_M < used_B[:, None]


def inverse(matrix: Tensor, start: Tensor, num_iterations: int) -> Tensor:
    """Approximate the pseudo-inverse of matrices, (..., M, M), with matrix products alone.

    Args:
        matrix: What to invert (A).
        start: A first guess (Z), a multiple of the transpose.
        num_iterations: How often it is improved; the order of convergence is three.

    Source: the iteration of arXiv 2102.03902 (there after Razavi and others),
    Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4.
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    guess = start
    for _ in range(num_iterations):
        product = matrix @ guess
        inner = 15 * eye - product @ (7 * eye - product)
        guess = 0.25 * guess @ (13 * eye - product @ inner)
    return guess
