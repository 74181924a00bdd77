"""From states to answers: pooling, the class token, a head for each kind of target, and counting.

Shapes: B batch, I inputs an example, L length, D width, C choices, T sequences (B * I).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from lra_bench.errors import UserError
from lra_bench.metrics import Metric
from lra_bench.models.attention import HIDDEN
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.schema import Activation, HeadConfig, Interaction, Pooling, TrunkConfig
from lra_bench.types import IGNORED, Batch, Target, TaskSpec


class Head(nn.Module, ABC):
    """Contract of a head: states of the task's own tokens in, logits out."""

    @abstractmethod
    def forward(self, states_BILD: Tensor, mask_BIL: Tensor | None, first_BID: Tensor) -> Tensor:
        """Answer.

        Args:
            states_BILD: One state a token.
            mask_BIL: True at real tokens; None if all are real.
            first_BID: The state of the class token where there is one, else that of the first.

        Returns:
            Logits, whose last dimension is the choice and whose others are those of the targets.
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

    def forward(self, states_BILD: Tensor, mask_BIL: Tensor | None, first_BID: Tensor) -> Tensor:
        """See `Head.forward`; logits_BC."""
        pooled_BID = self._pool(states_BILD, mask_BIL, first_BID)
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

    def __init__(
        self, width: int, *, hidden_widths: Sequence[int], activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.layers = _perceptron(width, *hidden_widths, 2, activation=activation)

    def forward(self, states_BILD: Tensor, mask_BIL: Tensor | None, first_BID: Tensor) -> Tensor:
        """See `Head.forward`; logits (B, 2, L), which choose no padding."""
        del first_BID
        scores_B2L: Tensor = self.layers(states_BILD[:, 0]).transpose(1, 2)
        if mask_BIL is None:
            return scores_B2L
        return scores_B2L.float().masked_fill(~mask_BIL, HIDDEN)

    if TYPE_CHECKING:
        __call__ = forward


class TokensHead(Head):
    """A class a position: a hidden layer over each state.

    Args:
        width: Width of the states (D).
        num_classes: Number of classes (C).
        hidden_widths: Widths of the hidden layers.
        activation: What stands between layers.
    """

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

    def forward(self, states_BILD: Tensor, mask_BIL: Tensor | None, first_BID: Tensor) -> Tensor:
        """See `Head.forward`; logits_BLC, without a meaning where padded."""
        del mask_BIL, first_BID
        logits_BLC: Tensor = self.layers(states_BILD[:, 0])
        return logits_BLC

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
            Logits in float32. The last dimension is the choice, the others are those of the
            targets: (B, C) for a class, (B, 2, L) for a span, (B, L, C) for tokens.

        Raises:
            UserError: The encoder does not return one state a position.
        """
        tokens_TL = batch.tokens_BIL.flatten(0, 1)
        mask_TL = None if batch.mask_BIL is None else batch.mask_BIL.flatten(0, 1)
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
        states_BILD = states_TLD.unflatten(0, batch.tokens_BIL.shape[:2])
        first_BID = states_BILD[:, :, 0]
        if self.cls_id is not None:
            states_BILD = states_BILD[:, :, 1:]
        return self.head(states_BILD, batch.mask_BIL, first_BID).float()

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
        head: How a class is read from the states; for spans and tokens its hidden width, and
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
    number = task.num_inputs if head.num_hidden_layers is None else head.num_hidden_layers
    widths = [head.hidden_width, head.hidden_width // 2][:number]
    if 0 in widths:
        raise UserError(
            f"head.hidden_width={head.hidden_width} must be at least 2 for two inputs or two layers"
        )
    if task.target == "span":
        return SpanHead(width, hidden_widths=widths, activation=head.activation)
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


def _perceptron(*sizes: int, activation: Activation) -> nn.Sequential:
    """Return linear layers between the sizes with an activation between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(sizes[:-1]):
        layers += [_linear(fan_in, fan_out), nn.ReLU() if activation == "relu" else nn.GELU()]
    return nn.Sequential(*layers, _linear(*sizes[-2:]))


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    """Return a linear layer initialized as LeCun normal with zero bias."""
    linear = nn.Linear(fan_in, fan_out)
    nn.init.normal_(linear.weight, std=fan_in**-0.5)
    nn.init.zeros_(linear.bias)
    return linear


def count(
    logits: Tensor,
    batch: Batch,
    metrics: tuple[Metric, ...],
    *,
    target: Target,
    questions: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Count what a batch adds to the sums of an evaluation; see `lra_bench.metrics`.

    Nothing waits for the device: every sum is a scalar there. Where several answers belong to an
    example, it is exact if all of them are right; one that asks nothing has nothing wrong.

    Args:
        logits: From `TaskModel`.
        batch: What was answered.
        metrics: What is to be read from the sums.
        target: What was asked.
        questions: The tokens at which each kind of question is asked; see `TaskSpec`.

    Returns:
        Whole numbers as int64, the loss and the sum of F1 as float64.
    """
    targets = batch.targets
    answers = best_spans(logits) if target == "span" else logits.argmax(dim=-1)
    is_asked = targets != IGNORED
    is_right = (answers == targets) & is_asked
    # A span that cannot be answered, since the input was cut before it, is not right.
    is_exact = is_right if target == "span" else is_right == is_asked
    sums = {
        "examples": targets.new_full((), batch.size),
        "targets": is_asked.sum(),
        "correct": is_right.sum(),
        "exact": (is_exact if targets.ndim == 1 else is_exact.all(dim=1)).sum(),
        "loss": F.cross_entropy(
            logits.double().flatten(0, -2),
            targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        ),
    }
    if any(metric.needs_classes for metric in metrics):
        sums |= _class_sums(answers, targets, is_asked, is_right, num_classes=logits.shape[-1])
    if any(metric.needs_bags for metric in metrics):
        sums["token_f1"] = token_f1(batch.tokens_BIL[:, 0], answers, targets).sum()
    for kind in (metric.question for metric in metrics if metric.question is not None):
        assert questions is not None, f"{kind} is a question of no task"
        is_here = is_asked & (batch.tokens_BIL[:, 0] == questions[kind])
        sums[f"targets/{kind}"] = is_here.sum()
        sums[f"correct/{kind}"] = (is_right & is_here).sum()
    return sums


def _class_sums(
    answers: Tensor, targets: Tensor, is_asked: Tensor, is_right: Tensor, *, num_classes: int
) -> dict[str, Tensor]:
    """Count right, false and missed answers of each class."""
    is_wrong = is_asked & ~is_right
    sums: dict[str, Tensor] = {}
    for kind, where, classes in (
        ("tp", is_right, targets),
        ("fp", is_wrong, answers),
        ("fn", is_wrong, targets),
    ):
        # What does not count goes into one class more. A table of known size, and not
        # `bincount`, which asks the device for the largest class first.
        chosen = torch.where(where, classes, num_classes).flatten()
        table = chosen.new_zeros(num_classes + 1).index_add_(0, chosen, torch.ones_like(chosen))
        sums |= {f"{kind}/{number}": table[number] for number in range(num_classes)}
    return sums


def best_spans(logits_B2L: Tensor) -> Tensor:
    """Return the first and last position of the span with the highest sum of both scores, (B, 2).

    Of all pairs whose first position is not after the last; the two highest scores alone may be
    no span. However long the span is.

    Source: section 4.2 of arXiv 1810.04805.
    """
    first_BL, last_BL = logits_B2L.unbind(1)
    # The best beginning up to each position, so that one pass sees all pairs.
    best_first = first_BL.cummax(dim=1)
    last_B1 = (best_first.values + last_BL).argmax(dim=1, keepdim=True)
    return torch.cat((best_first.indices.gather(1, last_B1), last_B1), dim=1)


def token_f1(tokens_BL: Tensor, answers_B2: Tensor, targets_B2: Tensor) -> Tensor:
    """Return the F1 between the bags of tokens of two spans, (B,), in float64.

    A token counts as often as both spans have it. Bags are of token ids as the task made them:
    no articles or punctuation are dropped first, as the data set's own script does with words.

    Args:
        tokens_BL: Token ids.
        answers_B2: First and last positions that were answered, first not after last.
        targets_B2: First and last positions that are right.

    Source: arXiv 1606.05250, section 6.1.
    """
    places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
    ordered = tokens_BL.sort(dim=1)
    # The last of each run of equal ids.
    ends_BL = F.pad(ordered.values[:, 1:] != ordered.values[:, :-1], (0, 1), value=True)
    sizes, counts = [], []
    for span_B2 in (answers_B2, targets_B2):
        inside_BL = (places_L >= span_B2[:, :1]) & (places_L <= span_B2[:, 1:])
        sizes.append(inside_BL.sum(dim=1))
        so_far_BL = inside_BL.gather(1, ordered.indices).cumsum(dim=1)
        # How many the run holds: what there is at its end, less what there was at the last end.
        at_ends_BL = torch.where(ends_BL, so_far_BL, 0)
        before_BL = F.pad(at_ends_BL.cummax(dim=1).values[:, :-1], (1, 0))
        counts.append(torch.where(ends_BL, so_far_BL - before_BL, 0))
    shared_B = torch.minimum(*counts).sum(dim=1)
    return 2 * shared_B.double() / (sizes[0] + sizes[1])
