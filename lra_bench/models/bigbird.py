"""BigBird: blocks that see their neighbors, a few blocks drawn at random, and global blocks.

Shapes: B batch, L length, D width, H heads, K head width, N blocks, W block size, G global blocks,
V blocks that a block sees, E examples whose padding differs (B or 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra_bench.models.attention import HIDDEN, attend, key_bias
from lra_bench.models.draws import own_generator
from lra_bench.models.encoder import EncoderSpec, Mixer
from lra_bench.models.layers import Projections


def bigbird_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask_BL: Tensor | None = None,
    *,
    block_size: int,
    num_window_blocks: int,
    num_global_blocks: int,
    num_random_blocks: int,
    priority_HNN: Tensor,
    dropout_p: float = 0.0,
) -> Tensor:
    """Let every position look at the real ones of the blocks that its own block sees.

    Args:
        query: (B, H, L, K).
        key: (B, H, L, K).
        value: (B, H, L, K).
        mask_BL: True at real tokens; None if all are real.
        block_size: Positions a block (W).
        num_window_blocks: Blocks of the window, the own one in the middle; odd.
        num_global_blocks: So many of the first blocks see all and are seen by all (G).
        num_random_blocks: Blocks beyond these that a block sees.
        priority_HNN: Of the blocks that hold a real token and are in neither window nor global, a
            block sees those with the highest numbers in its row. May be of more blocks than there
            are.
        dropout_p: Probability on the weights.

    Returns:
        (B, H, L, K).
    """
    length = query.shape[2]
    extra = -length % block_size
    if mask_BL is None:
        mask_BL = torch.ones((1, length), dtype=torch.bool, device=query.device)
    if extra:
        query, key, value = (F.pad(rows, (0, 0, 0, extra)) for rows in (query, key, value))
    mask_BL = F.pad(mask_BL, (0, extra))
    num_first = num_global_blocks * block_size
    bias = key_bias(mask_BL, query.dtype)
    out = attend(query[:, :, :num_first], key, value, bias, dropout_p)
    if num_first < length:
        mask_ENW = mask_BL.unflatten(1, (-1, block_size))
        index_EHNV, visible_EHNV = _blocks_seen(
            mask_ENW.any(-1),
            priority_HNN,
            num_window_blocks // 2,
            num_global_blocks,
            num_random_blocks,
        )
        seen_EHNVW = _rows_of(mask_ENW[:, None], index_EHNV) & visible_EHNV[..., None]
        bias_EHN1S = torch.zeros_like(seen_EHNVW, dtype=query.dtype)
        bias_EHN1S = bias_EHN1S.masked_fill_(~seen_EHNVW, HIDDEN).flatten(-2)[..., None, :]
        # Every block is an example of one head to the kernel: so its gradients come in the order of
        # the rows that were picked, and need no copy.
        key, value = (
            _rows_of(rows.unflatten(2, (-1, block_size)), index_EHNV).flatten(3, 4).flatten(0, 2)
            for rows in (key, value)
        )
        bias = bias_EHN1S.expand(len(query), -1, -1, -1, -1).flatten(0, 2)
        rows = query[:, :, num_first:].unflatten(2, (-1, block_size))
        mixed = attend(
            rows.flatten(0, 2)[:, None], key[:, None], value[:, None], bias[:, None], dropout_p
        )
        mixed = mixed.reshape(rows.shape).flatten(2, 3)
        out = torch.cat((out, mixed), dim=2)
    return out[:, :, :length]


def _blocks_seen(
    occupied_EN: Tensor, priority_HNN: Tensor, radius: int, num_global: int, num_random: int
) -> tuple[Tensor, Tensor]:
    """Return which blocks each block beyond the global ones sees, and which of these count.

    Both are (E, H, N - G, V): global blocks, window, random blocks.
    """
    num_blocks = occupied_EN.shape[1]
    every = torch.arange(num_blocks, device=occupied_EN.device)
    own_N1 = every[num_global:, None]
    window = own_N1 + torch.arange(-radius, radius + 1, device=own_N1.device)
    # A global block in the window is not to count twice.
    in_window = (window >= num_global) & (window < num_blocks)
    fixed = torch.cat((every[:num_global].expand(len(window), -1), window), dim=1)
    is_seen = F.pad(in_window, (num_global, 0), value=True)

    free_NN = ((every - own_N1).abs() > radius) & (every >= num_global)
    free_E1NN = (free_NN & occupied_EN[:, None])[:, None]
    order = priority_HNN[:, num_global:num_blocks, :num_blocks]
    order = torch.where(free_E1NN, order, -torch.inf)
    best = order.topk(min(num_random, num_blocks), dim=-1)

    shape = (*best.indices.shape[:2], -1, -1)
    index = torch.cat((fixed.clamp(0, num_blocks - 1).expand(shape), best.indices), dim=-1)
    visible = torch.cat((is_seen.expand(shape), best.values > -torch.inf), dim=-1)
    return index, visible


def _rows_of(blocks: Tensor, index_EHNV: Tensor) -> Tensor:
    """Return the blocks of an index: (B, H or 1, N, W, ...) to (B, H, N - G, V, W, ...)."""
    batch, _, num_blocks = blocks.shape[:3]
    heads = index_EHNV.shape[1]
    first = torch.arange(batch * heads, device=blocks.device).view(batch, heads, 1, 1) * num_blocks
    table = blocks.expand(-1, heads, *blocks.shape[2:]).reshape(batch * heads * num_blocks, -1)
    # The gradient of an embedding is added up row by row; that of an index is far slower.
    picked = F.embedding(first + index_EHNV, table)
    rows: Tensor = picked.unflatten(-1, blocks.shape[3:])
    return rows


class BigBirdAttention(Mixer):
    """Softmax attention of blocks over a window, random blocks and global blocks.

    Args:
        spec: Sizes.
        block_size: Positions a block.
        num_window_blocks: Blocks of the window, the own one in the middle; odd.
        num_global_blocks: So many of the first blocks see all and are seen by all.
        num_random_blocks: Blocks beyond these that a block sees; fewer where a sequence has no
            more. Drawn once, for every head.

    Topology ``redrawn``: another draw of the random blocks.

    Source: arXiv 2007.14062, section 2 (ITC: global tokens are some of the sequence) and the block
    form of its appendix D. Which random blocks an example sees depends on its own length and not
    on its padding. The released code of arXiv 2011.04006 makes the first and the last block global
    (the last can be all padding), and draws from the first 1,024 tokens alone.
    """

    turns = True
    topologies = ("redrawn",)

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        block_size: int = 64,
        num_window_blocks: int = 3,
        num_global_blocks: int = 2,
        num_random_blocks: int = 3,
    ) -> None:
        super().__init__()
        if block_size < 1 or num_global_blocks < 0 or num_random_blocks < 0:
            raise ValueError(
                f"block_size={block_size} must be at least 1, num_global_blocks="
                f"{num_global_blocks} and num_random_blocks={num_random_blocks} at least 0"
            )
        if num_window_blocks < 1 or num_window_blocks % 2 == 0:
            raise ValueError(
                f"num_window_blocks={num_window_blocks} must be odd: a block has as many neighbors "
                "on either side"
            )
        num_blocks = math.ceil(spec.max_length / block_size)
        num_free = num_blocks - num_window_blocks - num_global_blocks
        # In a sequence that window and global blocks cover there is nothing to draw.
        if 0 < num_free < num_random_blocks:
            raise ValueError(
                f"num_random_blocks={num_random_blocks} does not fit: the longest sequence, "
                f"{spec.max_length} tokens, has {num_free} blocks of block_size={block_size} "
                f"outside the window and the global blocks; choose at most {num_free}, or smaller "
                "blocks"
            )
        self.projections = Projections(spec)
        self.attention_dropout = spec.attention_dropout
        self.block_size = block_size
        self.num_window_blocks = num_window_blocks
        self.num_global_blocks = num_global_blocks
        self.num_random_blocks = num_random_blocks
        shape = (2, spec.num_heads, num_blocks, num_blocks)
        # One for each topology; in the state dict, so that a checkpoint keeps its blocks.
        self.priority_2HNN = nn.Buffer(torch.rand(shape, generator=own_generator()))

    def forward(
        self, x_BLD: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `Mixer.forward`."""
        mixed = bigbird_attention(
            *self.projections.split(x_BLD),
            mask_BL,
            block_size=self.block_size,
            num_window_blocks=self.num_window_blocks,
            num_global_blocks=self.num_global_blocks,
            num_random_blocks=self.num_random_blocks,
            priority_HNN=self.priority_2HNN[1 if topology == "redrawn" else 0],
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.projections.merge(mixed)

    if TYPE_CHECKING:
        __call__ = forward
