"""The contracts of models: what an encoder is given, and what it and its parts must do.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that a task and a setting ask of an encoder, whatever the encoder is.

    Args:
        vocab_size: Rows of the embedding table.
        max_length: Longest sequence [tokens].
        num_layers: Number of layers.
        width: Width of the states (D).
        num_heads: Number of attention heads.
        qkv_width: Width of all heads together (Q).
        ffn_width: Hidden width of the feed-forward part.
        dropout: Probability on embeddings and residual branches.
        attention_dropout: Probability on attention weights; above 0 the fused kernels of the CPU
            are out of reach and a step takes several times as long.
        positions: Learned table, or sinusoids.
        has_cls: The last vocabulary row is a class token that starts at zero.
    """

    vocab_size: int
    max_length: int
    num_layers: int
    width: int
    num_heads: int
    qkv_width: int
    ffn_width: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    positions: Literal["learned", "sinusoidal"] = "learned"
    has_cls: bool = False

    def __post_init__(self) -> None:
        """Refuse what no encoder can be built from.

        Raises:
            ValueError: A size is not positive, a probability not in [0, 1), or the heads do not
                divide their width.
        """
        for name in ("vocab_size", "max_length", "num_layers", "width", "num_heads", "ffn_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.qkv_width < 1 or self.qkv_width % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide the attention width "
                f"{self.qkv_width}; choose a number of heads that does"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1)")


class SequenceEncoder(nn.Module, ABC):
    """Contract of an encoder: token ids in, one state a position out.

    ``topologies`` names further attention patterns that the same weights can run with; an encoder
    that has some takes ``topology=`` in ``forward``.
    """

    topologies: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def forward(self, tokens_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Encode sequences.

        Args:
            tokens_BL: Token ids; anything where padded.
            mask_BL: True at real tokens; None if all are real.

        Returns:
            states_BLD; padding has no influence on the states of real tokens.
        """

    if TYPE_CHECKING:
        __call__ = forward


class Mixer(nn.Module, ABC):
    """Contract of a mixer: the part of a layer in which positions exchange information."""

    @abstractmethod
    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Mix positions; padded ones must not reach real ones.

        Args:
            x_BLD: Normalized states.
            mask_BL: True at real tokens; None if all are real.

        Returns:
            What is added to the residual stream, (B, L, D).
        """

    if TYPE_CHECKING:
        __call__ = forward


MixerFactory = Callable[[EncoderSpec], Mixer]
