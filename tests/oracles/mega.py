"""The slow, obvious version of Mega: a step at a time, a query at a time, one sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from oracles import trunk


def damped_ema(
    x_BLD: Tensor,
    mask_BL: Tensor | None = None,
    *,
    gain_RDN: Tensor,
    damping_RDN: Tensor,
    input_RDN: Tensor,
    output_RDN: Tensor,
) -> Tensor:
    out = []
    for row in range(len(x_BLD)):
        length = x_BLD.shape[1]
        size = length if mask_BL is None else int(mask_BL[row].sum())
        states = [torch.zeros_like(x_BLD[row, 0]) for _ in range(length)]
        for direction in range(len(gain_RDN)):
            average = torch.zeros_like(gain_RDN[0])
            kept = 1 - gain_RDN[direction] * damping_RDN[direction]
            for place in range(size) if direction == 0 else reversed(range(size)):
                if direction == 1:
                    # What is left of the positions to the right, one step on; not the place itself.
                    left = output_RDN[1] * kept * average
                    states[place] = states[place] + left.sum(-1)
                put = gain_RDN[direction] * input_RDN[direction] * x_BLD[row, place][:, None]
                average = put + kept * average
                if direction == 0:
                    states[place] = states[place] + (output_RDN[0] * average).sum(-1)
        out.append(torch.stack(states))
    return torch.stack(out)


def mega_attention(
    query_BLZ: Tensor,
    key_BLZ: Tensor,
    value_BLV: Tensor,
    mask_BL: Tensor | None = None,
    *,
    bias_CC: Tensor,
    attention: str = "softmax",
) -> Tensor:
    size = len(bias_CC)
    rows = []
    for query_LZ, key_LZ, value_LV, number in zip(
        query_BLZ,
        key_BLZ,
        value_BLV,
        [query_BLZ.shape[1]] * len(query_BLZ) if mask_BL is None else mask_BL.sum(1).tolist(),
        strict=True,
    ):
        row = [torch.zeros_like(value_LV[0]) for _ in range(len(query_LZ))]
        for place in range(number):
            first = place // size * size
            keys = range(first, min(first + size, number))
            products = torch.stack([query_LZ[place] @ key_LZ[other] for other in keys])
            bias = torch.stack([bias_CC[place - first, other - first] for other in keys])
            if attention == "softmax":
                weights = (products / math.sqrt(query_LZ.shape[1]) + bias).softmax(0)
            else:
                scores = products / len(keys) + bias
                mean, deviation = math.sqrt(1 / 2), math.sqrt(1 / (4 * math.pi))
                weights = (1 + torch.erf((scores - mean) / (deviation * math.sqrt(2)))) / 2
            row[place] = sum(
                (weight * value_LV[other] for weight, other in zip(weights, keys, strict=True)),
                row[place],
            )
        rows.append(torch.stack(row))
    return torch.stack(rows)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def linear(x: Tensor, part: Any) -> Tensor:
    mapped: Tensor = x @ part.weight.T + part.bias
    return mapped


def encode(encoder: Any, tokens_L: Tensor, bias_of: Callable[[Any, int], Tensor]) -> Tensor:
    """Return the states of one sequence, (L, D), of a Mega encoder with layer norms.

    Args:
        encoder: Its weights are used; nothing of it is called.
        tokens_L: The sequence.
        bias_of: Makes of the part that holds a bias the table of a chunk of some positions.
    """
    x_LD = encoder.embedding.tokens.weight[tokens_L]
    if encoder.embedding.positions is not None:
        x_LD = x_LD + encoder.embedding.positions[: len(tokens_L)]

    def norm(x: Tensor, part: Any, *, here: bool) -> Tensor:
        return trunk.layer_norm(x, (part.weight, part.bias)) if here else x

    pre = encoder.norm is not None
    for layer in encoder.layers:
        x_LD = _attend(x_LD, layer.attend, pre, norm, bias_of)
        before = norm(x_LD, layer.norm, here=pre)
        x_LD = x_LD + linear(silu(linear(before, layer.up)), layer.down)
        x_LD = norm(x_LD, layer.norm, here=not pre)
    return norm(x_LD, encoder.norm, here=pre)


def _attend(x_LD: Tensor, part: Any, pre: bool, norm: Any, bias_of: Any) -> Tensor:
    before = norm(x_LD, part.norm, here=pre)
    ema = part.average
    averaged = damped_ema(
        before[None],
        gain_RDN=sigmoid(ema.gain_RDN),
        damping_RDN=sigmoid(ema.damping_RDN),
        input_RDN=ema.input_RDN,
        output_RDN=ema.output_RDN / math.sqrt(ema.output_RDN.shape[-1]),
    )[0]
    averaged = silu(averaged + ema.skip_D * before)
    width, num_keys = x_LD.shape[1], part.scale_2Z.shape[1]
    update, shared, reset, beside = linear(averaged, part.gates).split(
        [width, num_keys, part.values.weight.shape[0], width], dim=-1
    )
    shared = silu(shared)
    size = len(x_LD) if part.chunk_size is None else min(part.chunk_size, len(x_LD))
    mixed = mega_attention(
        (shared * part.scale_2Z[0] + part.shift_2Z[0])[None],
        (shared * part.scale_2Z[1] + part.shift_2Z[1])[None],
        silu(linear(before, part.values))[None],
        bias_CC=bias_of(part.bias, size),
        attention=part.attention,
    )[0]
    new = silu(beside + linear(silu(reset) * mixed, part.out))
    gate = sigmoid(update)
    out_LD: Tensor = norm(gate * new + (1 - gate) * x_LD, part.norm, here=not pre)
    return out_LD
