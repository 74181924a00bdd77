"""Performer: softmax attention approximated by positive orthogonal random features (FAVOR+).

Shapes: B batch, L length, D width, H heads, K head width, F features, V values and a one (K + 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import HIDDEN
from lra_bench.models.draws import Drawn
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.feature_maps import feature_attention
from lra_bench.models.layers import Projections
from lra_bench.models.precision import in_full_precision

Kernel = Literal["softmax", "relu"]
# Keeps features from vanishing altogether; the authors' code has the same two numbers.
_FLOOR = {"softmax": 1e-6, "relu": 1e-3}
# Keeps a sequence without any real key from dividing by zero.
_EPSILON = 1e-20

# Features that are held at once. On a CPU they stay in the cache of a core; elsewhere every round
# costs more than it saves.
_HELD_ON_CPU, _HELD = 1 << 18, 1 << 26


# The exponential would magnify what is lost in a number of 16 bits.
@in_full_precision
def performer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    directions_FK: Tensor,
    kernel: Kernel = "softmax",
) -> Tensor:
    """Let every position look at every real one, weighing them by products of random features.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        directions_FK: What queries and keys are projected on; see `orthogonal_directions`.
        kernel: See `PerformerAttention`.

    Returns:
        (B, H, L, K).
    """
    # What is added to the sum of the weights is far below the smallest of a sequence with a real
    # key.
    if kernel == "relu":
        directions_KF = directions_FK.mT / math.sqrt(len(directions_FK))
        query, key = (torch.relu(rows @ directions_KF) for rows in (query, key))
        return feature_attention(query, key, value, mask_BL, floor=_FLOOR[kernel], epsilon=_EPSILON)
    scaled_KF = directions_FK.mT * math.pow(query.shape[-1], -0.25)
    inputs = (query, key, value, mask_BL, scaled_KF)
    mixed: Tensor = _ExponentialAttention.apply(*inputs)  # type: ignore[no-untyped-call]
    return mixed


class _ExponentialAttention(torch.autograd.Function):
    """Attention by the features exp(w . x - |x|^2 / 2), a chunk of positions at a time.

    The features of a whole sequence would be F / K times as large as what they are made of; going
    backward, they are computed again. Each query is scaled so that its largest feature is one, and
    all keys together, which has no influence on the weights and takes part in no derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask_BL: Tensor | None,
        scaled_KF: Tensor,
    ) -> Tensor:
        floor = _FLOOR["softmax"]
        shape = (*key.shape[:2], scaled_KF.shape[1], value.shape[3] + 1)
        summary_BHFV = value.new_zeros(shape)
        largest = value.new_full((*shape[:2], 1, 1), HIDDEN / 2)
        total_BH1V = value.new_zeros((*shape[:2], 1, shape[3]))
        for part in _chunks(key, scaled_KF):
            exponent = _key_exponents(key, mask_BL, scaled_KF, part)
            before, largest = largest, largest.maximum(exponent.amax((-2, -1), keepdim=True))
            features = exponent.sub_(largest).exp_()
            seen = _with_one(value, mask_BL, part)
            summary_BHFV.mul_((before - largest).exp_()).add_(features.mT @ seen)
            total_BH1V += seen.sum(-2, keepdim=True)
        summary_BHFV += floor * total_BH1V
        lowest_BH1V = floor * summary_BHFV.sum(-2, keepdim=True)
        out = torch.empty_like(value)
        weight_BHL1 = value.new_empty((*value.shape[:3], 1))
        for part in _chunks(query, scaled_KF):
            mixed = _query_features(query, scaled_KF, part) @ summary_BHFV + lowest_BH1V
            weight_BHL1[:, :, part] = mixed[..., -1:] + _EPSILON
            torch.div(mixed[..., :-1], weight_BHL1[:, :, part], out=out[:, :, part])
        ctx.save_for_backward(
            query, key, value, mask_BL, scaled_KF, summary_BHFV, largest, out, weight_BHL1
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask_BL, scaled_KF, summary_BHFV, largest, out, weight_BHL1 = (
            ctx.saved_tensors
        )
        floor = _FLOOR["softmax"]
        grad_out = grads[0] / weight_BHL1
        grad_out = torch.cat((grad_out, -(grad_out * out).sum(-1, keepdim=True)), dim=-1)
        grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
        grad_summary = floor * grad_out.sum(-2, keepdim=True).expand_as(summary_BHFV)
        for part in _chunks(query, scaled_KF):
            features = _query_features(query, scaled_KF, part)
            grad = grad_out[:, :, part]
            grad_summary = grad_summary + features.mT @ grad
            grad_exponent = features.mul_(grad @ summary_BHFV.mT)
            grad_query[:, :, part] = _of_rows(grad_exponent, query[:, :, part], scaled_KF)
        lowest_BH1V = floor * grad_summary.sum(-2, keepdim=True)
        for part in _chunks(key, scaled_KF):
            features = _key_exponents(key, mask_BL, scaled_KF, part).sub_(largest).exp_()
            grad = features @ grad_summary[..., :-1] + lowest_BH1V[..., :-1]
            if mask_BL is not None:
                grad.masked_fill_(~mask_BL[:, None, part, None], 0.0)
            grad_value[:, :, part] = grad
            grad_exponent = features.mul_(_with_one(value, mask_BL, part) @ grad_summary.mT)
            grad_key[:, :, part] = _of_rows(grad_exponent, key[:, :, part], scaled_KF)
        return grad_query, grad_key, grad_value, None, None


def _chunks(rows: Tensor, scaled_KF: Tensor) -> list[slice]:
    """Return parts of the length whose features are few enough to be held at once."""
    held = _HELD_ON_CPU if rows.device.type == "cpu" else _HELD
    batch, heads, length, _ = rows.shape
    size = max(16, held // (batch * heads * scaled_KF.shape[1]))
    return [slice(first, first + size) for first in range(0, length, size)]


def _projected(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return the products of rows, (B, H, l, X), with one matrix, as one product of matrices."""
    products: Tensor = rows.reshape(-1, rows.shape[-1]) @ matrix
    return products.view(*rows.shape[:-1], -1)


def _query_features(query: Tensor, scaled_KF: Tensor, part: slice) -> Tensor:
    """Return the features of some queries, of each the largest one; |x|^2 is no part of these."""
    exponent = _projected(query[:, :, part], scaled_KF)
    features: Tensor = exponent.sub_(exponent.amax(-1, keepdim=True)).exp_()
    return features


def _key_exponents(key: Tensor, mask_BL: Tensor | None, scaled_KF: Tensor, part: slice) -> Tensor:
    """Return the logarithms of the features of some keys."""
    rows = key[:, :, part]
    halves = rows.square().sum(-1, keepdim=True).mul_(0.5 * rows.shape[-1] ** -0.5)
    exponent: Tensor = _projected(rows, scaled_KF).sub_(halves)
    if mask_BL is not None:
        # A feature of padding could be too large for a number.
        exponent.masked_fill_(~mask_BL[:, None, part, None], HIDDEN)
    return exponent


def _of_rows(grad_exponent: Tensor, rows: Tensor, scaled_KF: Tensor) -> Tensor:
    """Return the gradient of rows from that of their exponents w . x - |x|^2 / 2."""
    halves = grad_exponent.sum(-1, keepdim=True).mul_(rows.shape[-1] ** -0.5)
    return _projected(grad_exponent, scaled_KF.mT).addcmul_(rows, halves, value=-1.0)


def _with_one(value: Tensor, mask_BL: Tensor | None, part: slice) -> Tensor:
    """Return some values and a one, whose sums are the sums of the weights; zeros for padding."""
    seen = F.pad(value[:, :, part], (0, 1), value=1.0)
    if mask_BL is not None:
        seen = seen.masked_fill(~mask_BL[:, None, part, None], 0.0)
    return seen


def orthogonal_directions(num_directions: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw directions, orthogonal in groups of ``width``, each as long as a normal vector.

    Returns:
        (num_directions, width), every row with the distribution of a standard normal vector.
    """
    groups = []
    for _ in range(-(-num_directions // width)):
        normal = torch.randn(width, width, generator=generator, dtype=torch.float64)
        rotation, triangle = torch.linalg.qr(normal)
        # Without the signs, some rotations would be likelier than others.
        groups.append((rotation * triangle.diagonal().sign()).mT)
    lengths = torch.randn(num_directions, width, generator=generator, dtype=torch.float64)
    directions: Tensor = torch.cat(groups)[:num_directions] * lengths.norm(dim=-1, keepdim=True)
    return directions.float()


class PerformerAttention(Mixer):
    """Attention by FAVOR+: positive features of random, orthogonal directions.

    Args:
        spec: Sizes.
        num_features: Random features; the more, the closer to softmax attention.
        kernel: ``softmax``: exponential features, the approximation of softmax attention;
            ``relu``: the generalized attention of the paper, with a kernel of its own.
        redraw_every: Training steps after which other directions are drawn; 0 for never.

    Source: arXiv 2009.14794, lemma 1 and section 2.4 (positive orthogonal features), section 2.2
    (other kernels). Padding is never seen, and the weights, never written out, have no dropout.
    The released code of arXiv 2011.04006 uses no mask, and is a linear attention with ReLU and
    without any random direction in all tasks but ListOps, where it has two features, drawn anew at
    every call.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        num_features: int = 256,
        kernel: Kernel = "softmax",
        redraw_every: int = 0,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features={num_features} must be at least 1")
        self.projections = Projections(spec)
        # Those of the softmax know the inner product of two turned rows; relu's are not of it.
        self.turns = kernel == "softmax"
        self.kernel: Kernel = kernel
        head_width = spec.qkv_width // spec.num_heads
        self.directions = Drawn(
            lambda generator: orthogonal_directions(num_features, head_width, generator),
            every=redraw_every,
        )

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = performer_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            directions_FK=self.directions(),
            kernel=self.kernel,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
