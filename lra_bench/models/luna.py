"""Luna: attention by way of a packed memory that lives through the layers.

Shapes: B batch, L length, D width, Q all heads, M rows of the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lra_bench.models.attention import attend, key_bias, merge_heads, split_heads
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.layers import Dropout, Embedding, FeedForward, layer_norm


class LunaEncoder(SequenceEncoder):
    """Layers in which a memory of fixed size reads the sequence, and the sequence the memory.

    Args:
        spec: Sizes.
        num_memory: Rows of the memory; the cost of a layer grows with the length times them.

    Source: arXiv 2106.01540, section 3 (pack and unpack attention; the layer, in which the memory
    has a residual and a norm of its own, and no feed-forward part). As in the released code, keys
    are values in both attentions and packed attention gets no further projection on its way to the
    sequence. Different here: norms come before, as in all layers of this package (an option of the
    released code); what the memory adds to itself goes through the output projection, so that
    heads may be narrower than the states; the memory has all of its rows for short sequences too,
    and no sinusoids beside its learned start.
    """

    takes = ("positions=none", "input=linear")

    def __init__(self, spec: EncoderSpec, *, num_memory: int = 256) -> None:
        super().__init__()
        if num_memory < 1:
            raise ValueError(f"num_memory={num_memory} must be at least 1")
        self.width = spec.width
        self.embedding = Embedding(spec)
        self.memory = nn.Parameter(torch.randn(num_memory, spec.width) * spec.width**-0.5)
        self.layers = nn.ModuleList(_Layer(spec) for _ in range(spec.num_layers))
        self.norm = layer_norm(spec)

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `SequenceEncoder.forward`."""
        self.check_topology(topology)
        x_BLD = self.embedding(tokens_BL)
        memory_BMD = self.memory.expand(len(tokens_BL), -1, -1)
        for layer in self.layers:
            x_BLD, memory_BMD = layer(x_BLD, memory_BMD, mask_BL)
        states_BLD: Tensor = self.norm(x_BLD)
        return states_BLD

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    """Packed and unpacked attention, then a feed-forward part for the sequence alone."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.norm = layer_norm(spec)
        self.memory_norm = layer_norm(spec)
        self.attention = PackedAttention(spec)
        self.dropout = Dropout(spec.dropout)
        self.feed_forward = FeedForward(spec)

    def forward(
        self, x_BLD: Tensor, memory_BMD: Tensor, mask_BL: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        mixed, packed = self.attention(self.norm(x_BLD), self.memory_norm(memory_BMD), mask_BL)
        x_BLD = x_BLD + self.dropout(mixed)
        return self.feed_forward(x_BLD), memory_BMD + self.dropout(packed)


class PackedAttention(nn.Module):
    """The memory attends to the sequence; the sequence attends to what came of it."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.num_heads = spec.num_heads
        self.attention_dropout = spec.attention_dropout
        self.memory_query = nn.Linear(spec.width, spec.qkv_width, bias=False)
        # The queries of the sequence, and its keys, which are its values.
        self.query_context = nn.Linear(spec.width, 2 * spec.qkv_width, bias=False)
        self.packed_context = nn.Linear(spec.qkv_width, spec.qkv_width, bias=False)
        self.out = nn.Linear(spec.qkv_width, spec.width, bias=False)
        inward = (self.memory_query.weight, *self.query_context.weight.split(spec.qkv_width))
        for weight in (*inward, self.packed_context.weight, self.out.weight):
            nn.init.xavier_uniform_(weight.detach())

    def forward(
        self, x_BLD: Tensor, memory_BMD: Tensor, mask_BL: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to the sequence, (B, L, D), and to the memory, (B, M, D)."""
        dropout_p = self.attention_dropout if self.training else 0.0
        query, context = (
            split_heads(part, self.num_heads) for part in self.query_context(x_BLD).chunk(2, -1)
        )
        memory_query = split_heads(self.memory_query(memory_BMD), self.num_heads)
        hidden = key_bias(mask_BL, query.dtype)
        packed_BMQ = merge_heads(attend(memory_query, context, context, hidden, dropout_p))
        packed = split_heads(self.packed_context(packed_BMQ), self.num_heads)
        mixed_BLQ = merge_heads(attend(query, packed, packed, None, dropout_p))
        return self.out(mixed_BLQ), self.out(packed_BMQ)

    if TYPE_CHECKING:
        __call__ = forward
