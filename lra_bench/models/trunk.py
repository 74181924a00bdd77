"""The trunk that most encoders share.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from lra_bench.models.encoder import EncoderSpec, Mixer, MixerFactory, SequenceEncoder
from lra_bench.models.layers import Dropout, Embedding, FeedForward, make_norm

FeedForwardFactory = Callable[[EncoderSpec], nn.Module]


class TransformerEncoder(SequenceEncoder):
    """Embedding, positions, and layers of a mixer and a feed-forward part.

    Args:
        spec: Sizes, and where which norms stand. With norms before the parts (``pre``) there is
            one more at the end.
        mixer: Makes the mixer of one layer.
        feed_forward: Makes the part after the mixer, (..., D) to (..., D), with a norm and a
            residual of its own; None for layers of a mixer alone.

    Source: arXiv 2011.04006, released code; the initialization follows it. Norms after the parts:
    arXiv 1706.03762.

    Raises:
        ValueError: Positions are to be rotary, and the mixer has nothing to turn.
    """

    takes = (
        "positions=none",
        "positions=rotary",
        "input=linear",
        "norm=batch",
        "norm=scale",
        "norm_place=post",
        "tied_dropout=true",
    )

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        mixer: MixerFactory,
        feed_forward: FeedForwardFactory | None = FeedForward,
    ) -> None:
        super().__init__()
        self.width = spec.width
        self.embedding = Embedding(spec)
        self.layers = nn.ModuleList(
            _Layer(spec, mixer, feed_forward) for _ in range(spec.num_layers)
        )
        self.norm = make_norm(spec) if spec.norm_place == "pre" else None
        # Each pattern once, in the order in which the layers name them.
        named = [name for layer in self._layers() for name in layer.mixer.topologies]
        self.topologies = tuple(dict.fromkeys(named))

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `SequenceEncoder.forward`."""
        self.check_topology(topology)
        x_BLD = self.embedding(tokens_BL)
        for layer in self._layers():
            x_BLD = layer(x_BLD, mask_BL, topology)
        return x_BLD if self.norm is None else self.norm(x_BLD, mask_BL)

    def _layers(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    def __init__(
        self, spec: EncoderSpec, mixer: MixerFactory, feed_forward: FeedForwardFactory | None
    ) -> None:
        super().__init__()
        self.is_pre = spec.norm_place == "pre"
        self.mixer_norm = make_norm(spec)
        self.mixer = mixer(spec)
        if not isinstance(self.mixer, Mixer):
            kind = type(self.mixer).__name__
            raise ValueError(f"mixer makes a {kind}, which is no lra_bench.models.encoder.Mixer")
        if spec.positions == "rotary" and not self.mixer.turns:
            raise ValueError(
                f"{type(self.mixer).__name__} compares no single queries and keys that "
                "trunk.positions=rotary could turn; choose learned, sinusoidal or none"
            )
        self.dropout = Dropout(spec.dropout, tied=spec.tied_dropout)
        self.feed_forward = nn.Identity() if feed_forward is None else feed_forward(spec)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None, topology: str | None) -> Tensor:
        # Most mixers have one pattern and take no such argument.
        mix: Callable[..., Tensor] = self.mixer
        options = {"topology": topology} if topology in self.mixer.topologies else {}
        before_BLD = self.mixer_norm(x_BLD, mask_BL) if self.is_pre else x_BLD
        x_BLD = x_BLD + self.dropout(mix(before_BLD, mask_BL, **options))
        if not self.is_pre:
            x_BLD = self.mixer_norm(x_BLD, mask_BL)
        # A part from outside sees single positions, and has no use for a mask.
        knows_padding = isinstance(self.feed_forward, FeedForward)
        hidden = (mask_BL,) if knows_padding else ()
        out_BLD: Tensor = self.feed_forward(x_BLD, *hidden)
        return out_BLD

    if TYPE_CHECKING:
        __call__ = forward
