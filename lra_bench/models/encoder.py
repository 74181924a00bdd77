"""The contracts of models: what an encoder is given, and what it and its parts must do.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from lra_bench.schema import Count, Positions, Probability, TrunkConfig


class EncoderSpec(TrunkConfig):
    """Everything that a task and a setting ask of an encoder, whatever the encoder is.

    The sizes of a trunk (`lra_bench.schema.TrunkConfig` says what they are), of which the last
    three may be left out here, and what the task adds to them.

    Raises:
        ValueError: A size is not positive, a probability not in [0, 1), or the heads do not
            divide their width.
    """

    vocab_size: Count
    """Rows of the embedding table."""
    max_length: Count
    """Longest sequence [tokens]."""
    has_cls: bool = False
    """The last vocabulary row is a class token that starts at zero."""
    reads_first: bool = False
    """The answer is read from the state of the first position alone."""
    dropout: Probability = 0.0
    """See `lra_bench.schema.TrunkConfig`."""
    attention_dropout: Probability = 0.0
    """See `lra_bench.schema.TrunkConfig`."""
    positions: Positions = "learned"
    """See `lra_bench.schema.TrunkConfig`."""

    @model_validator(mode="after")
    def _heads_divide_their_width(self) -> Self:
        if self.qkv_width % self.num_heads:
            raise PydanticCustomError(
                "heads",
                "num_heads={num_heads} does not divide the attention width qkv_width={qkv_width}; "
                "choose a number of heads that does: {fitting}",
                {
                    "num_heads": self.num_heads,
                    "qkv_width": self.qkv_width,
                    "fitting": ", ".join(
                        str(number)
                        for number in range(1, self.qkv_width + 1)
                        if self.qkv_width % number == 0
                    ),
                },
            )
        return self


class SequenceEncoder(nn.Module, ABC):
    """Contract of an encoder: token ids in, one state a position out.

    A subclass sets ``width``, the width of its states (D), and may name in ``topologies`` further
    attention patterns that the same weights can run with.
    """

    width: int
    topologies: tuple[str, ...] = ()

    @abstractmethod
    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """Encode sequences.

        Args:
            tokens_BL: Token ids; anything where padded.
            mask_BL: True at real tokens; None if all are real.
            topology: One of ``topologies``, or None for the encoder's own pattern.

        Returns:
            states_BLD; padding has no influence on the states of real tokens.

        Raises:
            ValueError: The topology is unknown, or a sequence is too long.
        """

    def check_topology(self, topology: str | None) -> None:
        """Refuse a pattern that the encoder does not offer.

        Raises:
            ValueError: The topology is neither None nor one of ``topologies``.
        """
        if topology is not None and topology not in self.topologies:
            raise ValueError(
                f"unknown topology {topology!r}; "
                + (
                    f"choose from {', '.join(self.topologies)}"
                    if self.topologies
                    else "none is offered"
                )
            )

    if TYPE_CHECKING:
        __call__ = forward


class Mixer(nn.Module, ABC):
    """Contract of a mixer: the part of a layer in which positions exchange information.

    One that can run with further attention patterns names them in ``topologies`` and takes
    ``topology=`` in ``forward``; the trunk passes it on.
    """

    topologies: tuple[str, ...] = ()

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
