"""The slow, obvious version of kernelized attention: every weight, one example and head a time."""

from __future__ import annotations

import torch
from torch import Tensor


def skyformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    query_draws_M: Tensor,
    key_draws_M: Tensor,
    num_iterations: int,
    ridge: float,
) -> Tensor:
    out = []
    for row in range(len(query)):
        length = query.shape[2]
        size = length if mask_BL is None else int(mask_BL[row].sum())
        heads = []
        for head in range(query.shape[1]):
            q, k, v = (x[row, head, :size] for x in (query, key, value))
            landmarks = torch.cat((chosen(q, query_draws_M), chosen(k, key_draws_M)))
            among = gaussian(landmarks, landmarks)
            among = among + ridge * torch.eye(len(among), dtype=among.dtype)
            inner = inverse(among, num_iterations)
            mixed = gaussian(q, landmarks) @ inner @ gaussian(landmarks, k) @ v
            heads.append(torch.cat((mixed, v.new_zeros(length - size, v.shape[-1]))))
        out.append(torch.stack(heads))
    return torch.stack(out)


def kernelized_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_BL: Tensor | None = None
) -> Tensor:
    """Return what is approximated."""
    if mask_BL is not None:
        value = value * mask_BL[:, None, :, None]
    return gaussian(query, key) @ value


def gaussian(x: Tensor, y: Tensor) -> Tensor:
    distance = (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)
    weights: Tensor = (-distance / (2 * x.shape[-1] ** 0.5)).exp()
    return weights


def chosen(rows: Tensor, draws_M: Tensor) -> Tensor:
    """Return a row from each of as many parts as there are draws, or all if there are fewer."""
    number = min(len(draws_M), len(rows))
    places = [int((part + float(draws_M[part])) * len(rows) / number) for part in range(number)]
    return torch.stack([rows[place] for place in places])


def inverse(matrix: Tensor, num_iterations: int) -> Tensor:
    sums = matrix.sum(1)
    scaled = matrix / (sums[:, None] * sums[None]).sqrt()
    guess = scaled.T / scaled.sum(0).max()
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(num_iterations):
        az = scaled @ guess
        guess = guess @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az))) / 4
    return guess / (sums[:, None] * sums[None]).sqrt()
