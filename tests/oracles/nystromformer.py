"""The slow, obvious version of Nystrom attention: one example, one segment at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def nystrom_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    num_landmarks: int,
    num_iterations: int,
) -> Tensor:
    out = []
    for row in range(len(query)):
        length = query.shape[2]
        size = length if mask_BL is None else int(mask_BL[row].sum())
        heads = [
            _one_head(
                query[row, head, :size],
                key[row, head, :size],
                value[row, head, :size],
                num_landmarks,
                num_iterations,
            )
            for head in range(query.shape[1])
        ]
        rest = value.new_zeros(length - size, value.shape[-1])
        out.append(torch.stack([torch.cat((mixed, rest)) for mixed in heads]))
    return torch.stack(out)


def _one_head(q: Tensor, k: Tensor, v: Tensor, num_landmarks: int, num_iterations: int) -> Tensor:
    scale = q.shape[-1] ** -0.5
    q_means, k_means = means(q, num_landmarks), means(k, num_landmarks)
    first = (q @ k_means.T * scale).softmax(-1)
    among = (q_means @ k_means.T * scale).softmax(-1)
    last = (q_means @ k.T * scale).softmax(-1)
    mixed: Tensor = first @ pseudo_inverse(among, num_iterations) @ last @ v
    return mixed


def means(rows: Tensor, num_landmarks: int) -> Tensor:
    """Return the means of segments as equal as can be; token t is in segment t * M // L."""
    size = len(rows)
    num_landmarks = min(num_landmarks, size)
    segments: list[list[Tensor]] = [[] for _ in range(num_landmarks)]
    for place in range(size):
        segments[place * num_landmarks // size].append(rows[place])
    return torch.stack([torch.stack(segment).mean(0) for segment in segments])


def pseudo_inverse(a: Tensor, num_iterations: int) -> Tensor:
    z = a.T / (a.sum(0).max() * a.sum(1).max())
    eye = torch.eye(len(a), dtype=a.dtype)
    for _ in range(num_iterations):
        az = a @ z
        z = z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az))) / 4
    return z


def convolution(value: Tensor, kernel_HS: Tensor, mask_BL: Tensor | None = None) -> Tensor:
    """Return each head's values, (B, H, L, K), weighted along the positions by its kernel."""
    length, reach = value.shape[2], kernel_HS.shape[1] // 2
    rows = []
    for place in range(length):
        row = torch.zeros_like(value[:, :, 0])
        for near in range(max(0, place - reach), min(length, place + reach + 1)):
            part = kernel_HS[:, near - place + reach, None] * value[:, :, near]
            row = row + (part if mask_BL is None else part * mask_BL[:, None, near, None])
        rows.append(row)
    return torch.stack(rows, dim=2)
