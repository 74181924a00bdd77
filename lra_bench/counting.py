"""What a batch adds to the sums of an evaluation.

Shapes: B batch, L length, C choices, N asked positions of all examples, A spans that are right, K
best ends of spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lra_bench.metrics import Evaluation, Metric, metrics_of
from lra_bench.models.attention import HIDDEN
from lra_bench.types import IGNORED, Answers, Batch, Examples, Judged, Target, TaskSpec

# Of each end, so many best places are looked at for the best span; arXiv 2004.05150, released code.
BEST_ENDS = 20


def targets_of(batch: Batch, target: Target) -> Tensor:
    """Return the answers that belong to logits, shaped as these without their last dimension.

    Of ``spans`` there is no such: any of several is right; see `spans_loss`.
    """
    assert target != "spans", "one of several is right"
    return batch.targets.flatten()[batch.places_N] if target == "tokens" else batch.targets


def count(
    logits: Tensor,
    batch: Batch,
    metrics: tuple[Metric, ...],
    *,
    target: Target,
    questions: Mapping[str, int] | None = None,
    bytes_C: Tensor | None = None,
    answer_length: int | None = None,
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
        answer_length: Of spans; see there.

    Returns:
        Whole numbers as int64, the loss and the sum of F1 as float64.
    """
    if target == "spans":
        assert answer_length is not None, "a task with spans has it"
        return _count_spans(logits, batch, answer_length)
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
    if target in ("class", "choice"):
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


def best_answers(logits_B2L: Tensor, answer_length: int) -> tuple[Tensor, Tensor]:
    """Return the best span that is no longer than allowed, (B, 2), and its score, (B,).

    Among the pairs of the `BEST_ENDS` best first and last positions, the one with the highest sum
    of scores; `IGNORED` with a score of minus infinity where no pair is a span.

    Source: arXiv 2004.05150, released code for TriviaQA.
    """
    number = min(BEST_ENDS, logits_B2L.shape[-1])
    scores_B2K, places_B2K = logits_B2L.double().topk(number, dim=-1)
    ahead_BKK = places_B2K[:, 1, None, :] - places_B2K[:, 0, :, None]
    is_span_BKK = (ahead_BKK >= 0) & (ahead_BKK < answer_length)
    # Neither padding nor the question is among the places that can be chosen.
    is_open_B2K = scores_B2K > HIDDEN / 2
    is_span_BKK = is_span_BKK & is_open_B2K[:, 0, :, None] & is_open_B2K[:, 1, None, :]
    sums_BKK = scores_B2K[:, 0, :, None] + scores_B2K[:, 1, None, :]
    score_B, pair_B = sums_BKK.masked_fill(~is_span_BKK, -torch.inf).flatten(1).max(dim=1)
    pairs_B2 = torch.stack((pair_B // number, pair_B % number), dim=1)
    spans_B2 = places_B2K.gather(2, pairs_B2[..., None])[..., 0]
    return spans_B2.masked_fill(score_B.isneginf()[:, None], IGNORED), score_B


def spans_loss(scores_B2L: Tensor, targets_BA2: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of both ends where any of several spans is right, (B, 2); and where, (B,).

    Of an end, minus the logarithm of the probability of all its right places together, each
    counted once; 0 where an example has no right span.

    Args:
        scores_B2L: Logits, or logarithms of probabilities.
        targets_BA2: First and last positions, `IGNORED` where there is none.

    Source: Clark and Gardner, ACL 2018 (arXiv 1710.10723), section 2.2 ("shared normalization" is
    not meant).
    """
    places_B2A = targets_BA2.mT
    is_there_B2A = places_B2A != IGNORED
    # A place more takes what is no answer.
    is_right_B2L = torch.zeros_like(F.pad(scores_B2L, (0, 1)), dtype=torch.bool)
    beyond = scores_B2L.shape[-1]
    is_right_B2L.scatter_(2, places_B2A.masked_fill(~is_there_B2A, beyond), value=True)
    right_B2L = scores_B2L.masked_fill(~is_right_B2L[..., :beyond], HIDDEN)
    losses_B2 = scores_B2L.logsumexp(-1) - right_B2L.logsumexp(-1)
    is_asked_B = is_there_B2A[:, 0].any(-1)
    return torch.where(is_asked_B[:, None], losses_B2, 0.0), is_asked_B


def _count_spans(logits_B2L: Tensor, batch: Batch, answer_length: int) -> dict[str, Tensor]:
    """Count by positions; an example without a right span asks nothing, and is not answered."""
    spans_B2, _ = best_answers(logits_B2L, answer_length)
    is_same_BA2 = (spans_B2[:, None] == batch.targets) & (batch.targets != IGNORED)
    losses_B2, is_asked_B = spans_loss(logits_B2L.double(), batch.targets)
    return {
        "examples": is_asked_B.new_full((), batch.size, dtype=torch.int64),
        "targets": 2 * is_asked_B.sum(),
        "correct": is_same_BA2.any(1).sum(),
        "exact": is_same_BA2.all(2).any(1).sum(),
        "loss": losses_B2.sum(),
    }


# Places of examples in their split; of each the span that was found, (N, 2), and its score, (N,).
Found = tuple[list[int], Tensor, Tensor]


class Tally:
    """What an evaluation has counted so far; nothing waits for the device before the end.

    Args:
        spec: What the task promises.
        examples: Those of the split; they may judge the answers themselves.
    """

    def __init__(self, spec: TaskSpec, examples: Examples) -> None:
        self.spec = spec
        self.metrics = metrics_of(spec)
        self.judge = examples.judge if isinstance(examples, Judged) else None
        self.sums: dict[str, Tensor] = {}
        self._bytes_C: Tensor | None = None
        self._found: list[tuple[tuple[int, ...], Tensor, Tensor]] = []

    def add(self, logits: Tensor, batch: Batch) -> None:
        """Count a batch."""
        spec = self.spec
        counted = count(
            logits,
            batch,
            self.metrics,
            target=spec.target,
            questions=spec.questions,
            bytes_C=self._bytes_on(logits.device),
            answer_length=spec.answer_length,
        )
        for name, value in counted.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        if self.judge is not None:
            assert spec.answer_length is not None, "only spans are judged"
            assert len(batch.indices) == batch.size, "it is known which examples they are"
            self._found.append((batch.indices, *best_answers(logits, spec.answer_length)))

    def _bytes_on(self, device: torch.device) -> Tensor | None:
        """Return how many bytes of text each class stands for, made once."""
        if self._bytes_C is None and self.spec.symbol_bytes is not None:
            self._bytes_C = torch.tensor(self.spec.symbol_bytes, device=device)
        return self._bytes_C

    def counted(self) -> dict[str, float]:
        """Return the sums; waits for the device."""
        return {name: value.item() for name, value in self.sums.items()}

    def found(self) -> Found | None:
        """Return the spans that were found, on the CPU; None if nobody judges them."""
        if self.judge is None:
            return None
        indices = [index for some, _, _ in self._found for index in some]
        spans = [spans_B2.cpu() for _, spans_B2, _ in self._found]
        scores = [score_B.cpu() for _, _, score_B in self._found]
        nothing = torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
        return indices, torch.cat([nothing[0], *spans]), torch.cat([nothing[1], *scores])

    def evaluation(self, sums: Mapping[str, float], found: Sequence[Found | None]) -> Evaluation:
        """Return what was counted, once every example was.

        Args:
            sums: Those of `counted`, of all processes together.
            found: What `found` returned in each of them.

        Raises:
            UserError: The split asks nothing.
        """
        if self.judge is not None:
            parts = [part for part in found if part is not None]
            indices, spans, scores = zip(*parts, strict=True)
            answers = Answers(
                np.concatenate([np.array(some, np.int64) for some in indices]),
                torch.cat(spans).numpy(),
                torch.cat(scores).numpy(),
            )
            sums = {**sums, **self.judge(answers)}
        evaluation = Evaluation(sums)
        evaluation.check_asked(self.spec.name, self.metrics)
        return evaluation


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
