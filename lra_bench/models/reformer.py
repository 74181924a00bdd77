"""Reformer: attention among positions that locality-sensitive hashing puts into one bucket.

Shapes: B batch, L length, D width, H heads, K head width, Q all heads (H * K), X hash rounds, R
random rotations (half the buckets), N chunks, W chunk size, S keys of a chunk (2 * W), E examples
whose padding differs (B or 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import HIDDEN, merge_heads, split_heads
from lra_bench.models.draws import Decided, Drawn
from lra_bench.models.encoder import EncoderSpec, Mixer, MixerFactory, SequenceEncoder
from lra_bench.models.reversible import ReversibleEncoder
from lra_bench.models.trunk import TransformerEncoder

# Subtracted from the score of a position for itself, so that it looks at itself only where there
# is nothing else: far more than scores differ, far less than `HIDDEN`.
_ITSELF = 1e5


def reformer_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    rotations_XKR: Tensor,
    chunk_size: int,
    dropout_p: float = 0.0,
    keep: Callable[[Callable[[], Tensor]], Tensor] | None = None,
) -> Tensor:
    """Let every position look at the real ones that share a bucket with it in some round.

    In each round, positions are sorted by bucket and cut into chunks; those further away than the
    chunk before are not seen.

    Args:
        query: (B, H, L, K); buckets are those of the queries.
        key: (B, H, L, K), of the same directions as the queries.
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        rotations_XKR: Random, of each round; see `LshAttention`.
        chunk_size: Positions a chunk (W).
        dropout_p: Probability on the weights.
        keep: Is given what computes the buckets, and returns them; None to compute them.

    Returns:
        (B, H, L, K).
    """
    length = query.shape[2]
    extra = -length % chunk_size
    if mask_BL is None:
        mask_BL = torch.ones((1, length), dtype=torch.bool, device=query.device)
    if extra:
        query, key, value = (F.pad(rows, (0, 0, 0, extra)) for rows in (query, key, value))
        mask_BL = F.pad(mask_BL, (0, extra))
    decide = partial(_buckets, query, mask_BL, rotations_XKR)
    bucket_BHXL = decide() if keep is None else keep(decide)
    order_BHXL = bucket_BHXL.argsort(dim=-1, stable=True)
    place_BHXL = order_BHXL.argsort(dim=-1)

    bias_BHXNWS = _bias(bucket_BHXL, order_BHXL, place_BHXL, chunk_size, query.dtype)
    query = query * query.shape[-1] ** -0.5
    query, key, value = (
        _picked(rows, order_BHXL).unflatten(3, (-1, chunk_size)) for rows in (query, key, value)
    )
    scores = torch.matmul(query, _with_last(key).mT).add_(bias_BHXNWS)
    largest = scores.detach().amax(-1, keepdim=True)
    weights = scores.sub_(largest).exp_()
    sums = weights.sum(-1, keepdim=True)
    mixed = torch.matmul(F.dropout(weights, dropout_p), _with_last(value)) / sums
    # What a round weighs among all rounds is the sum of its exponentials.
    total_BHXL = (largest + sums.log()).flatten(3)
    mixed_BHXLK = mixed.flatten(3, 4)

    share_BHXL = total_BHXL.gather(-1, place_BHXL).softmax(2)
    out = (_unsorted(mixed_BHXLK, place_BHXL) * share_BHXL[..., None]).sum(2)
    return out[:, :, :length]


def _buckets(query: Tensor, mask_BL: Tensor, rotations_XKR: Tensor) -> Tensor:
    """Return the bucket of each position in each round, (B, H, X, L); padding has its own."""
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        wide = torch.promote_types(query.dtype, torch.float32)
        rotated = torch.matmul(query.to(wide)[:, :, None], rotations_XKR.to(wide))
        bucket_BHXL = torch.cat((rotated, -rotated), dim=-1).argmax(-1)
    num_buckets = 2 * rotations_XKR.shape[-1]
    # The last, so that sorting leaves real tokens where they would be without padding.
    return bucket_BHXL.masked_fill(~mask_BL[:, None, None], num_buckets)


def _bias(
    bucket_BHXL: Tensor,
    order_BHXL: Tensor,
    place_BHXL: Tensor,
    chunk_size: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return what is added to the scores of each round, (B, H, X, N, W, S).

    It hides other buckets, keeps positions from themselves, and takes the logarithm of the number
    of rounds in which a pair meets, so that all rounds together count it once.
    """
    num_chunks = place_BHXL.shape[-1] // chunk_size
    # One number for bucket and chunk: of those that a position sees, it is the same or one less.
    code_BHXL = bucket_BHXL * (num_chunks + 1) + place_BHXL // chunk_size
    times: Tensor = torch.zeros((), dtype=torch.int8, device=order_BHXL.device)
    for other in range(bucket_BHXL.shape[2]):
        # Of the positions in the order of every round, the numbers in this other round.
        code = code_BHXL[:, :, other, None].expand_as(order_BHXL).gather(-1, order_BHXL)
        times = times + (_equal(code, chunk_size) | _equal(code, chunk_size, less=1))
    bias = times.to(dtype).clamp_(min=1).log_().neg_()
    bucket = bucket_BHXL.gather(-1, order_BHXL)
    bias.masked_fill_(~_equal(bucket, chunk_size), HIDDEN)
    return bias.sub_(_equal(order_BHXL, chunk_size).to(dtype), alpha=_ITSELF)


def _equal(numbers_BHXL: Tensor, chunk_size: int, *, less: int = 0) -> Tensor:
    """Tell for queries and keys of a chunk whether their numbers are equal.

    Args:
        numbers_BHXL: None of them negative, in the order of a round.
        chunk_size: Positions a chunk (W).
        less: By how much the query's must exceed the key's instead.

    Returns:
        (B, H, X, N, W, S).
    """
    own = numbers_BHXL.int().unflatten(3, (-1, chunk_size))
    # Before the first chunk there is nothing.
    seen = torch.cat((F.pad(own, (0, 0, 1, 0), value=-2)[..., :-1, :], own), dim=-1)
    equal: Tensor = (own - less)[..., None] == seen[..., None, :]
    return equal


def _with_last(chunks: Tensor) -> Tensor:
    """Put the chunk before each in front of it: (B, H, X, N, W, K) to (B, H, X, N, S, K)."""
    return torch.cat((F.pad(chunks, (0, 0, 0, 0, 1, 0))[:, :, :, :-1], chunks), dim=4)


def _picked(rows: Tensor, order_BHXL: Tensor) -> Tensor:
    """Return rows in the order of each round: (B, H, L, K) to (B, H, X, L, K)."""
    batch, heads, length, width = rows.shape
    first = torch.arange(batch * heads, device=rows.device).view(batch, heads, 1, 1) * length
    # The gradient of an embedding is added up row by row; that of an index is far slower.
    return F.embedding(first + order_BHXL, rows.reshape(-1, width))


def _unsorted(rows: Tensor, place_BHXL: Tensor) -> Tensor:
    """Put rows of each round back in their places, (B, H, X, L, K)."""
    mixed: Tensor = _picked(rows.flatten(1, 2), place_BHXL.flatten(1, 2)[:, :, None])
    return mixed.view(rows.shape)


class LshAttention(Mixer):
    """Softmax attention among positions of one bucket, with queries that are keys, too.

    Args:
        spec: Sizes.
        chunk_size: Positions a chunk; a position sees those of its bucket in its own chunk and in
            the one before.
        num_rounds: Hash rounds; the more, the fewer near positions are missed.
        num_buckets: Even; None for so many that two fill a chunk of the longest sequence.
        redraw_every: Training steps after which the hashes are drawn anew; 0 for never.

    Source: arXiv 2001.04451, section 2 (shared queries and keys, hashing by random rotations;
    equations 4 to 6 for buckets, chunks and rounds) and appendix A (a pair that meets in several
    rounds counts once; a position looks at itself only if it meets nobody else). Reversible layers:
    `reformer_encoder`. The first chunk has none before it. The number of buckets depends on the
    longest sequence and not on the batch. The released code of arXiv 2011.04006 mixes up heads and
    positions, has no projection of what comes out, multiplies scores by the root of the width,
    always cuts ten chunks, sees other buckets and padding, and never draws another hash.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        chunk_size: int = 64,
        num_rounds: int = 2,
        num_buckets: int | None = None,
        redraw_every: int = 1,
    ) -> None:
        super().__init__()
        if not 1 <= num_rounds <= 127 or chunk_size < 1:
            raise ValueError(
                f"chunk_size={chunk_size} must be at least 1 and num_rounds={num_rounds} from 1 "
                "to 127"
            )
        if num_buckets is None:
            num_buckets = 2 * math.ceil(spec.max_length / chunk_size)
        if num_buckets < 2 or num_buckets % 2:
            raise ValueError(f"num_buckets={num_buckets} must be even and at least 2")
        self.num_heads = spec.num_heads
        self.attention_dropout = spec.attention_dropout
        self.chunk_size = chunk_size
        # Queries, which are keys as well, and values.
        self.shared = nn.Linear(spec.width, 2 * spec.qkv_width, bias=False)
        self.out = nn.Linear(spec.qkv_width, spec.width, bias=False)
        for weight in (*self.shared.weight.split(spec.qkv_width), self.out.weight):
            nn.init.xavier_uniform_(weight.detach())
        shape = (num_rounds, spec.qkv_width // spec.num_heads, num_buckets // 2)
        self.rotations = Drawn(
            lambda generator: torch.randn(shape, generator=generator), every=redraw_every
        )
        # Padding has a bucket of its own, the one after the last.
        self.buckets = Decided(largest=num_buckets)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `Mixer.forward`."""
        query, value = (
            split_heads(rows, self.num_heads) for rows in self.shared(x_BLD).chunk(2, -1)
        )
        mixed = reformer_attention(
            query,
            F.normalize(query, dim=-1),
            value,
            mask_BL,
            rotations_XKR=self.rotations(),
            chunk_size=self.chunk_size,
            dropout_p=self.attention_dropout if self.training else 0.0,
            keep=self.buckets,
        )
        out_BLD: Tensor = self.out(merge_heads(mixed))
        return out_BLD

    if TYPE_CHECKING:
        __call__ = forward


def reformer_encoder(
    spec: EncoderSpec, *, mixer: MixerFactory, reversible: bool = False
) -> SequenceEncoder:
    """Make the encoder around the attention.

    Args:
        spec: Sizes.
        mixer: Makes the attention of one layer.
        reversible: Two streams whose layers are computed again in the backward pass instead of
            being kept (`lra_bench.models.reversible.ReversibleEncoder`); otherwise the trunk of
            all other models.

    Source: arXiv 2001.04451, section 3 (reversible) or the released code of arXiv 2011.04006,
    which has the Reformer's attention alone.
    """
    if reversible:
        return ReversibleEncoder(spec, mixer=mixer)
    return TransformerEncoder(spec, mixer=mixer)
