"""What a batch adds to the sums of an evaluation.

Shapes: B batch, L length, C choices, N asked positions of all examples.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.metrics import Metric
from lra_bench.types import IGNORED, Batch, Target


def targets_of(batch: Batch, target: Target) -> Tensor:
    """Return the answers that belong to logits, shaped as these without their last dimension."""
    return batch.targets.flatten()[batch.places_N] if target == "tokens" else batch.targets


def count(
    logits: Tensor,
    batch: Batch,
    metrics: tuple[Metric, ...],
    *,
    target: Target,
    questions: Mapping[str, int] | None = None,
    bytes_C: Tensor | None = None,
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
        bytes_C: Bytes of text that each class stands for, int64.

    Returns:
        Whole numbers as int64, the loss and the sum of F1 as float64.
    """
    targets = targets_of(batch, target)
    answers = best_spans(logits) if target == "span" else logits.argmax(dim=-1)
    is_asked = targets != IGNORED
    is_right = (answers == targets) & is_asked
    sums = {
        "examples": targets.new_full((), batch.size),
        "targets": is_asked.sum(),
        "correct": is_right.sum(),
        "exact": _num_exact(is_right, batch, target),
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
    if any(metric.needs_bytes for metric in metrics):
        assert bytes_C is not None, "bytes of no text"
        sums["bytes"] = bytes_C[targets].sum()
    for kind in (metric.question for metric in metrics if metric.question is not None):
        assert questions is not None, f"{kind} is a question of no task"
        is_here = batch.tokens_BIL[:, 0].flatten()[batch.places_N] == questions[kind]
        sums[f"targets/{kind}"] = is_here.sum()
        sums[f"correct/{kind}"] = (is_right & is_here).sum()
    return sums


def _num_exact(is_right: Tensor, batch: Batch, target: Target) -> Tensor:
    """Return how many examples have nothing wrong."""
    if target == "class":
        return is_right.sum()
    if target == "span":
        # One that cannot be answered, since the input was cut before it, is not right.
        return is_right.all(dim=1).sum()
    rows_N = batch.places_N // batch.targets.shape[1]
    wrong_B = torch.zeros(batch.size, dtype=torch.int64, device=is_right.device)
    return (wrong_B.index_add_(0, rows_N, (~is_right).long()) == 0).sum()


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
