"""Hierarchical attention: near keys one by one, far ones as means of ever longer runs.

Shapes: B batch, L length, D width, H heads, K head width, N blocks, W block size, S keys that a
block of queries sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.models.attention import HIDDEN
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections
from lra_bench.models.precision import in_full_precision


class _Level(NamedTuple):
    """Rows at one level: means of runs of queries and keys, sums of values, and their counts.

    Beyond the last token there are rows of zeros whose count is zero.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    count_B1L: Tensor


class _Sums(NamedTuple):
    """What a level adds for its queries: weighted values and weights, over exp(peak)."""

    values: Tensor
    weights: Tensor
    peak: Tensor


@in_full_precision
def hierarchical_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    block_size: int,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attend to keys at a resolution that falls with their distance.

    At level 0, blocks of W tokens see themselves and both neighbors. At each level above, rows are
    means of two rows of the level below, and blocks of W rows see their neighbors, without the
    quarter that the level below has seen already. So each pair of tokens meets at exactly one
    level. All scores of a query, of whatever level, share one softmax, in which the mean of a run
    weighs as many times as it has tokens.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        block_size: Rows a block at every level (W), even.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    length = query.shape[2]
    num_levels = 1
    while block_size << num_levels < length:
        num_levels += 1
    # At the highest level there are two blocks, which see each other.
    level = _finest(query, key, value, mask_BL, block_size << num_levels)
    sums = [_near(level, block_size, dropout_p)]
    for _ in range(1, num_levels):
        level = _coarser(level)
        sums.append(_far(level, block_size, dropout_p))
    total = sums.pop()
    while sums:
        total = _together(sums.pop(), _finer(total))
    # A query in a place without any token sees nothing.
    return (total.values / total.weights.clamp(min=torch.finfo(query.dtype).tiny))[:, :, :length]


def _finest(
    query: Tensor, key: Tensor, value: Tensor, mask_BL: Tensor | None, padded: int
) -> _Level:
    """Return the rows of level 0, padded to whole blocks at every level."""
    batch, _, length, _ = query.shape
    if mask_BL is None:
        count_B1L = query.new_ones(batch, 1, length)
    else:
        count_B1L = mask_BL[:, None].to(query.dtype)
        shown = mask_BL[:, None, :, None]
        query, key, value = (x.masked_fill(~shown, 0.0) for x in (query, key, value))
    extra = padded - length
    query, key, value = (F.pad(x, (0, 0, 0, extra)) for x in (query, key, value))
    return _Level(query / query.shape[-1] ** 0.5, key, value, F.pad(count_B1L, (0, extra)))


def _coarser(level: _Level) -> _Level:
    """Return the rows of the next level: means over the tokens of two rows, and sums of values."""
    count = level.count_B1L.unflatten(2, (-1, 2))
    total_B1L = count.sum(dim=3)
    share = (count / total_B1L.clamp(min=1)[..., None])[..., None]
    query, key = ((x.unflatten(2, (-1, 2)) * share).sum(dim=3) for x in level[:2])
    return _Level(query, key, level.value.unflatten(2, (-1, 2)).sum(dim=3), total_B1L)


def _near(level: _Level, block_size: int, dropout_p: float) -> _Sums:
    """Let the blocks see themselves and their neighbors."""
    count, key, value = (
        torch.cat((_before(x), x, _after(x)), dim=3)
        for x in (_blocks(x, block_size) for x in (level.count_B1L[..., None], *level[1:3]))
    )
    return _attend(_blocks(level.query, block_size), key, value, count, None, dropout_p)


def _far(level: _Level, block_size: int, dropout_p: float) -> _Sums:
    """Let the blocks see their neighbors, but for what the level below has seen."""
    count, key, value = (
        torch.cat((_before(x), _after(x)), dim=3)
        for x in (_blocks(x, block_size) for x in (level.count_B1L[..., None], *level[1:3]))
    )
    # The near half of a block and the near half of its neighbor were neighbors below.
    first = torch.arange(block_size, device=key.device) < block_size // 2
    seen_WS = torch.cat((first[:, None] & ~first, ~first[:, None] & first), dim=1)
    return _attend(_blocks(level.query, block_size), key, value, count, seen_WS, dropout_p)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, count: Tensor, seen_WS: Tensor | None, dropout: float
) -> _Sums:
    """Sum over what blocks of queries (B, H, N, W, K) see: keys and values (B, H, N, S, K)."""
    hidden = (count == 0).mT
    if seen_WS is not None:
        hidden = hidden | seen_WS
    scores = (query @ key.mT).masked_fill(hidden, HIDDEN)
    # The peak takes part in no derivative: the quotient at the end does not depend on it.
    peak = scores.detach().amax(dim=-1, keepdim=True)
    weights = (scores - peak).exp().masked_fill(hidden, 0.0)
    sums = (F.dropout(weights, dropout) @ value, weights @ count, peak)
    return _Sums(*(x.flatten(2, 3) for x in sums))


def _together(one: _Sums, other: _Sums) -> _Sums:
    """Add two sums of the same queries."""
    peak = torch.maximum(one.peak, other.peak)
    left, right = (one.peak - peak).exp(), (other.peak - peak).exp()
    return _Sums(
        one.values * left + other.values * right, one.weights * left + other.weights * right, peak
    )


def _finer(sums: _Sums) -> _Sums:
    """Give each of the two rows below a row what that row has."""
    return _Sums(*(x.repeat_interleave(2, dim=2) for x in sums))


def _blocks(x: Tensor, block_size: int) -> Tensor:
    """Cut into blocks: (B, H, N * W, K) to (B, H, N, W, K)."""
    blocks: Tensor = x.unflatten(2, (-1, block_size))
    return blocks


def _before(x: Tensor) -> Tensor:
    """Return what stands one block to the left of each block; zeros before the first."""
    return F.pad(x, (0, 0, 0, 0, 1, 0))[:, :, :-1]


def _after(x: Tensor) -> Tensor:
    """Return what stands one block to the right of each block; zeros after the last."""
    return F.pad(x, (0, 0, 0, 0, 0, 1))[:, :, 1:]


class HierarchicalAttention(Mixer):
    """Attention by a hierarchy of resolutions, in linear time.

    Args:
        spec: Sizes.
        block_size: Rows a block at every level, even: the numerical rank of the paper.

    Source: arXiv 2107.11906, sections 4 to 6: tokens in a hierarchy, in which queries and keys are
    averaged and values summed; near blocks (diagonal and beside it) at the finest level, blocks
    beside the diagonal at the levels above; one normalization for all of them. A public port lets
    a block see only its sibling at each level, so that the resolution drops at once at some
    borders; here both neighbors are seen, and what a finer level has seen is left out. Padding,
    of which the paper does not speak, enters no mean and no sum.
    """

    def __init__(self, spec: EncoderSpec, *, block_size: int = 16) -> None:
        super().__init__()
        if block_size < 2 or block_size % 2:
            raise ValueError(f"block_size={block_size} must be even and at least 2")
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        self.block_size = block_size

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        mixed = hierarchical_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            block_size=self.block_size,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
