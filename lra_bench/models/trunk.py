"""The trunk that most encoders share.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec, Mixer, MixerFactory, SequenceEncoder
from lra_bench.models.layers import Dropout, Embedding, FeedForward, layer_norm


class TransformerEncoder(SequenceEncoder):
    """The shared trunk: embedding, positions, pre-norm layers of a mixer and a feed-forward part.

    Args:
        spec: Sizes.
        mixer: Makes the mixer of one layer.

    Source: arXiv 2011.04006, released code; the initialization follows it.
    """

    def __init__(self, spec: EncoderSpec, *, mixer: MixerFactory) -> None:
        super().__init__()
        self.embedding = Embedding(spec)
        self.layers = nn.ModuleList(_Layer(spec, mixer(spec)) for _ in range(spec.num_layers))
        self.norm = layer_norm(spec)

    def forward(self, tokens_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """See `SequenceEncoder.forward`."""
        x_BLD = self.embedding(tokens_BL)
        for layer in self.layers:
            x_BLD = layer(x_BLD, mask_BL)
        return self.norm(x_BLD)  # type: ignore[no-any-return]

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    def __init__(self, spec: EncoderSpec, mixer: Mixer) -> None:
        super().__init__()
        self.mixer_norm = layer_norm(spec)
        self.mixer = mixer
        self.dropout = Dropout(spec.dropout)
        self.feed_forward = FeedForward(spec)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        x_BLD = x_BLD + self.dropout(self.mixer(self.mixer_norm(x_BLD), mask_BL))
        return self.feed_forward(x_BLD)
