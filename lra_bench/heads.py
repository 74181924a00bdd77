"""From states to answers: pooling, the class token, and a head for each kind of target.

Shapes: B batch, I inputs an example, L length, D width, C choices, T sequences (B * I), N asked
positions of all examples.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from lra_bench.errors import UserError
from lra_bench.models.attention import HIDDEN
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.schema import Activation, HeadConfig, Interaction, Pooling, TrunkConfig
from lra_bench.types import Batch, Target, TaskSpec


class Head(nn.Module, ABC):
    """Contract of a head: states of the task's own tokens in, logits out."""

    target: ClassVar[Target]

    @abstractmethod
    def forward(self, states_BILD: Tensor, first_BID: Tensor, batch: Batch) -> Tensor:
        """Answer.

        Args:
            states_BILD: One state a token.
            first_BID: The state of the class token where there is one, else that of the first.
            batch: What is asked, and where; its targets are not to be looked at.

        Returns:
            Logits, whose last dimension is the choice; see `TaskModel.forward` for the others.
        """

    if TYPE_CHECKING:
        __call__ = forward


class ClassHead(Head):
    """One class an example: pooling, then hidden layers over the pooled inputs.

    Args:
        width: Width of the states (D).
        num_classes: Number of classes (C).
        num_inputs: Inputs an example (I), 1 or 2.
        hidden_widths: Widths of the hidden layers.
        activation: What stands between layers.
        pooling: ``first``, the state of the first token; ``cls``, that of a class token put in
            front; ``mean`` and ``max`` over real tokens.
        interaction: What the head sees of two inputs: both states, or also their product and
            difference.

    Source: arXiv 2011.04006, released code: hidden layer with ReLU (two layers for two inputs).
    The pair features ``nli`` are in its paper, ``concatenate`` in its code.
    """

    target = "class"

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        num_inputs: int,
        hidden_widths: Sequence[int],
        activation: Activation = "relu",
        pooling: Pooling,
        interaction: Interaction,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.interaction = interaction
        features = num_inputs * width
        if num_inputs == 2 and interaction == "nli":
            features *= 2
        self.layers = _perceptron(features, *hidden_widths, num_classes, activation=activation)

    def forward(self, states_BILD: Tensor, first_BID: Tensor, batch: Batch) -> Tensor:
        """See `Head.forward`; logits_BC."""
        pooled_BID = self._pool(states_BILD, batch.mask_BIL, first_BID)
        features = pooled_BID.flatten(1)
        if pooled_BID.shape[1] == 2 and self.interaction == "nli":
            first, second = pooled_BID.unbind(1)
            features = torch.cat((features, first * second, first - second), dim=1)
        logits_BC: Tensor = self.layers(features)
        return logits_BC

    def _pool(self, states_BILD: Tensor, mask_BIL: Tensor | None, first_BID: Tensor) -> Tensor:
        if self.pooling in ("first", "cls"):
            return first_BID
        if self.pooling == "max":
            if mask_BIL is not None:
                states_BILD = states_BILD.masked_fill(~mask_BIL[..., None], -torch.inf)
            return states_BILD.amax(dim=2)
        if mask_BIL is None:
            return states_BILD.mean(dim=2)
        total = (states_BILD * mask_BIL[..., None]).sum(dim=2)
        return total / mask_BIL.sum(dim=2, keepdim=True)

    if TYPE_CHECKING:
        __call__ = forward


class SpanHead(Head):
    """The first and the last position of a span: a hidden layer over each state, two scores.

    Args:
        width: Width of the states (D).
        hidden_widths: Widths of the hidden layers.
        activation: What stands between layers.

    Source: section 4.2 of arXiv 1810.04805 scores both ends from each state alone; the hidden
    layer is that of `ClassHead`.
    """

    target = "span"

    def __init__(
        self, width: int, *, hidden_widths: Sequence[int], activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.layers = _perceptron(width, *hidden_widths, 2, activation=activation)

    def forward(self, states_BILD: Tensor, first_BID: Tensor, batch: Batch) -> Tensor:
        """See `Head.forward`; logits (B, 2, L), which choose no padding."""
        del first_BID
        scores_B2L: Tensor = self.layers(states_BILD[:, 0]).transpose(1, 2)
        if batch.mask_BIL is None:
            return scores_B2L
        return scores_B2L.float().masked_fill(~batch.mask_BIL, HIDDEN)

    if TYPE_CHECKING:
        __call__ = forward


class TokensHead(Head):
    """A class a position: a hidden layer over each state of those where one is asked.

    Args:
        width: Width of the states (D).
        num_classes: Number of classes (C).
        hidden_widths: Widths of the hidden layers.
        activation: What stands between layers.
    """

    target = "tokens"

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        hidden_widths: Sequence[int],
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.layers = _perceptron(width, *hidden_widths, num_classes, activation=activation)

    def forward(self, states_BILD: Tensor, first_BID: Tensor, batch: Batch) -> Tensor:
        """See `Head.forward`; logits_NC, of the positions where something is asked."""
        del first_BID
        logits_NC: Tensor = self.layers(states_BILD[:, 0].flatten(0, 1)[batch.places_N])
        return logits_NC

    if TYPE_CHECKING:
        __call__ = forward


class SpansHead(Head):
    """The same where any of several spans is right: none lies in what is asked.

    Args:
        width: See `SpanHead`; likewise the next ones.
        hidden_widths: See there.
        activation: See there.
    """

    target = "spans"

    def __init__(
        self, width: int, *, hidden_widths: Sequence[int], activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.ends = SpanHead(width, hidden_widths=hidden_widths, activation=activation)

    def forward(self, states_BILD: Tensor, first_BID: Tensor, batch: Batch) -> Tensor:
        """See `Head.forward`; logits (B, 2, L), which choose no padding and no question."""
        logits_B2L = self.ends(states_BILD, first_BID, batch)
        if batch.context_B is None:
            return logits_B2L
        places_L = torch.arange(logits_B2L.shape[-1], device=logits_B2L.device)
        is_asking_BL = places_L < batch.context_B[:, None]
        return logits_B2L.float().masked_fill(is_asking_BL[:, None], HIDDEN)

    if TYPE_CHECKING:
        __call__ = forward


class ChoiceHead(Head):
    """One of the candidates in the input: a hidden layer over the state where each stands.

    A candidate has one score an input, and their sum over the inputs of an example.

    Args:
        width: Width of the states (D).
        hidden_widths: Widths of the hidden layers.
        activation: What stands between layers.

    Source: the code of arXiv 2004.05150 for WikiHop: a linear layer without bias over the state of
    a token before each candidate, scores of the pieces of a long text added; the hidden layer is
    that of `ClassHead`.
    """

    target = "choice"

    def __init__(
        self, width: int, *, hidden_widths: Sequence[int], activation: Activation = "relu"
    ) -> None:
        super().__init__()
        # What all candidates have in common does not matter: the last layer needs no bias.
        self.layers = _perceptron(width, *hidden_widths, 1, activation=activation, last_bias=False)

    def forward(self, states_BILD: Tensor, first_BID: Tensor, batch: Batch) -> Tensor:
        """See `Head.forward`; logits_BC, which choose no candidate that is not there."""
        del first_BID
        assert batch.candidates_BC is not None, "whoever pads finds the candidates"
        places_BC = batch.candidates_BC.clamp(min=0)
        inputs, width = states_BILD.shape[1], states_BILD.shape[-1]
        index_BICD = places_BC[:, None, :, None].expand(-1, inputs, -1, width)
        scores_BIC: Tensor = self.layers(states_BILD.gather(2, index_BICD))[..., 0].float()
        if batch.rows_T is not None and batch.mask_BIL is not None:
            scores_BIC = scores_BIC.masked_fill(~batch.mask_BIL[:, :, :1], 0.0)
        return scores_BIC.sum(dim=1).masked_fill(batch.candidates_BC < 0, HIDDEN)

    if TYPE_CHECKING:
        __call__ = forward


class TaskModel(nn.Module):
    """An encoder and the head of a task.

    Args:
        encoder: Gives one state a position.
        head: Makes answers of them.
        cls_id: The id of a class token to put in front of each input, None for none. Heads that
            answer at positions never see it: targets count the task's own tokens.
    """

    def __init__(self, encoder: SequenceEncoder, head: Head, *, cls_id: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.cls_id = cls_id

    def forward(self, batch: Batch, *, topology: str | None = None) -> Tensor:
        """Answer a batch.

        Args:
            batch: Padded examples.
            topology: One of the encoder's, None for its own.

        Returns:
            Logits in float32: (B, C) for a class or a choice, (B, 2, L) for spans, and (N, C) for
            tokens, a row for each of ``batch.places_N``. The answers that belong to them:
            `lra_bench.counting.targets_of`.

        Raises:
            UserError: The encoder does not return one state a position.
        """
        tokens_TL = batch.tokens_BIL.flatten(0, 1)
        mask_TL = None if batch.mask_BIL is None else batch.mask_BIL.flatten(0, 1)
        if batch.rows_T is not None:
            tokens_TL = tokens_TL[batch.rows_T]
            mask_TL = None if mask_TL is None else mask_TL[batch.rows_T]
        if self.cls_id is not None:
            tokens_TL = F.pad(tokens_TL, (1, 0), value=self.cls_id)
            mask_TL = None if mask_TL is None else F.pad(mask_TL, (1, 0), value=True)
        states_TLD = self.encoder(tokens_TL, mask_TL, topology=topology)
        wanted = (*tokens_TL.shape, self.encoder.width)
        if getattr(states_TLD, "shape", None) != wanted:
            kind, shape = type(self.encoder).__name__, getattr(states_TLD, "shape", None)
            raise UserError(
                f"model: {kind} must return one state a position, of shape {wanted}, not "
                f"{type(states_TLD).__name__ if shape is None else tuple(shape)}"
            )
        if batch.rows_T is not None:
            # No encoder sees an input that is not there; its states are 0.
            whole = states_TLD.new_zeros(batch.tokens_BIL[:, :, 0].numel(), *states_TLD.shape[1:])
            states_TLD = whole.index_copy(0, batch.rows_T, states_TLD)
        states_BILD = states_TLD.unflatten(0, batch.tokens_BIL.shape[:2])
        first_BID = states_BILD[:, :, 0]
        if self.cls_id is not None:
            states_BILD = states_BILD[:, :, 1:]
        return self.head(states_BILD, first_BID, batch).float()

    if TYPE_CHECKING:
        __call__ = forward


def encoder_spec(trunk: TrunkConfig, task: TaskSpec, head: HeadConfig) -> EncoderSpec:
    """Return what a task under a setting asks of an encoder; a class token is one id more.

    Args:
        trunk: Sizes.
        task: Vocabulary and length.
        head: Tells whether there is a class token.

    Raises:
        UserError: The sizes do not fit together.
    """
    has_cls = head.pooling == "cls"
    try:
        return EncoderSpec(
            **trunk.model_dump(include=set(TrunkConfig.model_fields)),
            vocab_size=task.vocab_size + has_cls,
            max_length=task.max_length + has_cls,
            has_cls=has_cls,
            has_mask=task.has_mask,
            reads_first=task.target == "class" and head.pooling in ("cls", "first"),
            quantities=task.quantities,
        )
    except ValidationError as error:
        ours = ("heads", "rotary", "input")
        problems = [problem["msg"] for problem in error.errors() if problem["type"] in ours]
        if not problems:
            raise
        raise UserError(f"trunk: {'; '.join(problems)}") from error


def make_model(encoder: SequenceEncoder, task: TaskSpec, head: HeadConfig) -> TaskModel:
    """Put the head of a task on an encoder; draws the weights of the head.

    Args:
        encoder: Made for what `encoder_spec` returns.
        task: What is asked.
        head: How a class is read from the states; for all other targets its hidden width, and
            whether the encoder sees a class token.

    Raises:
        UserError: The encoder is none, or does not tell its width, or the head is too narrow.
    """
    kind = type(encoder).__name__
    if not isinstance(encoder, SequenceEncoder):
        raise UserError(f"model: {kind} is no lra_bench.models.encoder.SequenceEncoder")
    width = getattr(encoder, "width", None)
    if not isinstance(width, int):
        raise UserError(f"model: {kind} has no width; set self.width = spec.width in __init__")
    cls_id = task.vocab_size if head.pooling == "cls" else None
    return TaskModel(encoder, make_head(width, task, head), cls_id=cls_id)


def make_head(width: int, task: TaskSpec, head: HeadConfig) -> Head:
    """Return the head for a task over states of a width.

    Raises:
        UserError: The second hidden layer would have no width.
    """
    number = head.num_hidden_layers
    if number is None:
        # What was hidden is read from its state alone, as a language model does: a hidden layer
        # over all of them would cost as much as a layer of the encoder. The inputs of a choice are
        # pieces of one text, and each is scored alone.
        number = 0 if task.has_mask else 1 if task.target == "choice" else task.num_inputs
    widths = [head.hidden_width, head.hidden_width // 2][:number]
    if 0 in widths:
        raise UserError(
            f"head.hidden_width={head.hidden_width} must be at least 2 for two inputs or two layers"
        )
    if task.target == "span":
        return SpanHead(width, hidden_widths=widths, activation=head.activation)
    if task.target == "spans":
        return SpansHead(width, hidden_widths=widths, activation=head.activation)
    if task.target == "choice":
        return ChoiceHead(width, hidden_widths=widths, activation=head.activation)
    if task.target == "tokens":
        return TokensHead(width, task.num_classes, hidden_widths=widths, activation=head.activation)
    return ClassHead(
        width,
        task.num_classes,
        num_inputs=task.num_inputs,
        hidden_widths=widths,
        activation=head.activation,
        pooling=head.pooling,
        interaction=head.interaction,
    )


def _perceptron(*sizes: int, activation: Activation, last_bias: bool = True) -> nn.Sequential:
    """Return linear layers between the sizes with an activation between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes[:-1]):
        layers += [_linear(fan_in, fan_out), nn.ReLU() if activation == "relu" else nn.GELU()]
    return nn.Sequential(*layers, _linear(*sizes[-2:], bias=last_bias))


def _linear(fan_in: int, fan_out: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer initialized as LeCun normal with zero bias."""
    linear = nn.Linear(fan_in, fan_out, bias=bias)
    nn.init.normal_(linear.weight, std=fan_in**-0.5)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
