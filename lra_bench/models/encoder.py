"""The contracts of models: what an encoder is given, and what it and its parts must do.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from lra_bench.schema import Count, Input, Norm, NormPlace, Positions, Probability, TrunkConfig
from lra_bench.types import Quantities

# The parts of a state space's kernel that the training can treat apart: its diagonal (A), what
# enters the states (B) and the steps (dt).
KernelPart = Literal["diagonal", "input", "step"]


class EncoderSpec(TrunkConfig):
    """Everything that a task and a setting ask of an encoder, whatever the encoder is.

    The sizes of a trunk (`lra_bench.schema.TrunkConfig` says what they are), of which all after
    ``ffn_width`` may be left out here, and what the task adds to them.

    Raises:
        ValueError: A size is not positive, a probability not in [0, 1), the heads do not divide
            their width or cannot be turned, or there are no quantities for a linear input.
    """

    vocab_size: Count
    """Number of ids, that of a class token and of a mask included."""
    max_length: Count
    """Longest sequence [tokens]."""
    has_cls: bool = False
    """The last id is a class token that starts at zero."""
    has_mask: bool = False
    """One id stands for what is hidden: the last one, or the one before the class token. Its state
    is a parameter of its own (`lra_bench.models.layers.Embedding`), so that weights of a model
    with one fit a model without."""
    reads_first: bool = False
    """The answer is read from the state of the first position alone."""
    quantities: Quantities | None = None
    """What ids are as numbers; None where they are symbols."""
    dropout: Probability = 0.0
    """See `lra_bench.schema.TrunkConfig`."""
    attention_dropout: Probability = 0.0
    """See `lra_bench.schema.TrunkConfig`."""
    positions: Positions = "learned"
    """See `lra_bench.schema.TrunkConfig`."""
    input: Input = "symbols"
    """See `lra_bench.schema.TrunkConfig`."""
    norm: Norm = "layer"
    """See `lra_bench.schema.TrunkConfig`."""
    norm_place: NormPlace = "pre"
    """See `lra_bench.schema.TrunkConfig`."""
    tied_dropout: bool = False
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

    @model_validator(mode="after")
    def _turned_features_come_in_pairs(self) -> Self:
        head_width = self.qkv_width // self.num_heads
        if self.positions == "rotary" and head_width % 2:
            raise PydanticCustomError(
                "rotary",
                "positions=rotary turns pairs of features, and qkv_width={qkv_width} over "
                "num_heads={num_heads} leaves {head_width} a head; choose "
                "qkv_width={fitting} or another number of heads",
                {
                    "num_heads": self.num_heads,
                    "qkv_width": self.qkv_width,
                    "head_width": head_width,
                    "fitting": (head_width + 1) * self.num_heads,
                },
            )
        return self

    @model_validator(mode="after")
    def _numbers_can_be_read(self) -> Self:
        if self.input == "symbols":
            return self
        if self.quantities is None:
            raise PydanticCustomError(
                "input",
                "input=linear reads ids as quantities, and those of this task are symbols; choose "
                "trunk.input=symbols",
            )
        if self.has_cls:
            raise PydanticCustomError(
                "input",
                "input=linear has no number for a class token; choose head.pooling=mean, or "
                "trunk.input=symbols",
            )
        return self


class SequenceEncoder(nn.Module, ABC):
    """Contract of an encoder: token ids in, one state a position out.

    A subclass sets ``width``, the width of its states (D), and may name in ``topologies`` further
    attention patterns that the same weights can run with. What of the trunk's later choices it
    goes along with, it names in ``takes``, as on the command line (``norm=batch``); any other is
    refused by `check_choices`, so that none is passed over.
    """

    width: int
    topologies: tuple[str, ...] = ()
    takes: Collection[str] = ()

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


def check_choices(encoder: SequenceEncoder, spec: EncoderSpec) -> None:
    """Refuse what a setting asks of a trunk and an encoder would pass over.

    Raises:
        ValueError: The encoder does not take a choice.
    """
    for name, always in _TAKEN_BY_ALL.items():
        value = getattr(spec, name)
        said = f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        if value not in always and said not in encoder.takes:
            others = [one for one in encoder.takes if one.startswith(f"{name}=")]
            may = [*(f"{name}={str(one).lower()}" for one in always), *sorted(others)]
            raise ValueError(
                f"{type(encoder).__name__} does not take trunk.{said}; choose {' or '.join(may)}"
            )


# Every encoder must go along with these.
_TAKEN_BY_ALL: Mapping[str, Collection[str | bool]] = {
    "positions": ("learned", "sinusoidal"),
    "input": ("symbols",),
    "norm": ("layer",),
    "norm_place": ("pre",),
    "tied_dropout": (False,),
}


class Mixer(nn.Module, ABC):
    """Contract of a mixer: the part of a layer in which positions exchange information.

    One that can run with further attention patterns names them in ``topologies`` and takes
    ``topology=`` in ``forward``; the trunk passes it on. One that turns its queries and keys where
    ``spec.positions`` is ``rotary`` says so in ``turns``. A part of a state space says in
    ``kernel_parts`` which of its parameters are what.
    """

    topologies: tuple[str, ...] = ()
    turns: bool = False
    kernel_parts: Mapping[str, KernelPart] = {}

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
