from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lra_bench.counting import count
from lra_bench.data import (
    POOL_BATCHES,
    Loader,
    TrainingPlan,
    collate,
    evaluation_plan,
    majority_baseline,
)
from lra_bench.errors import UserError
from lra_bench.metrics import metrics_of
from lra_bench.types import IGNORED, Batch, Example, TaskSpec, lengths_of

SPEC = TaskSpec("made up", vocab_size=256, max_length=50, num_classes=4)
CPU = torch.device("cpu")


def example(*inputs: Sequence[int], label: int = 0) -> Example:
    return Example(tuple(np.array(tokens, np.uint8) for tokens in inputs), label)


def made_up(number: int, *, num_inputs: int = 1, seed: int = 0) -> list[Example]:
    """Return examples of many lengths, full of zeros that are no padding."""
    rng = np.random.default_rng(seed)
    return [
        Example(
            tuple(rng.integers(0, 3, rng.integers(1, 50), np.uint8) for _ in range(num_inputs)),
            int(rng.integers(0, 4)),
        )
        for _ in range(number)
    ]


def check_batch(batch: Batch, examples: Sequence[Example]) -> None:
    """Compare with a loop over the cells."""
    num_inputs = len(examples[0].inputs)
    longest = max(len(tokens) for one in examples for tokens in one.inputs)
    assert batch.tokens_BIL.shape == (len(examples), num_inputs, longest)
    assert batch.tokens_BIL.dtype == batch.targets.dtype == torch.int64
    assert batch.size == len(examples)
    num_tokens = 0
    for row, one in enumerate(examples):
        assert batch.targets[row] == one.target
        for which, tokens in enumerate(one.inputs):
            for at in range(longest):
                real = at < len(tokens)
                num_tokens += real
                assert batch.tokens_BIL[row, which, at] == (tokens[at] if real else 0)
                if batch.mask_BIL is not None:
                    assert bool(batch.mask_BIL[row, which, at]) is real
    assert batch.num_tokens == num_tokens
    if batch.mask_BIL is None:
        assert num_tokens == batch.tokens_BIL.numel()
    else:
        assert batch.mask_BIL.dtype == torch.bool
        assert batch.mask_BIL.shape == batch.tokens_BIL.shape
        assert num_tokens < batch.tokens_BIL.numel()


# Collating.


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 1000))
def test_collate_equals_a_loop(number: int, num_inputs: int, seed: int) -> None:
    examples = made_up(number, num_inputs=num_inputs, seed=seed)
    check_batch(collate(examples), examples)


def test_mask_is_from_the_length_and_not_from_the_tokens() -> None:
    # Token 0 may mean something: a black pixel.
    batch = collate([example([0, 0, 0, 0]), example([0, 5])])
    assert batch.mask_BIL is not None
    assert batch.mask_BIL[:, 0].tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.num_tokens == 6


def test_no_mask_where_nothing_is_padded() -> None:
    assert collate([example([0, 0]), example([1, 0])]).mask_BIL is None
    assert collate([example([0])]).mask_BIL is None
    assert collate([example([1, 2], [3, 4])]).mask_BIL is None
    # One input shorter than the other is padded, though all examples are alike.
    assert collate([example([1, 2], [3]), example([1, 2], [3])]).mask_BIL is not None


def test_two_inputs_of_different_lengths() -> None:
    batch = collate([example([1], [2, 3, 4], label=1), example([5, 6], [7])])
    assert batch.tokens_BIL.tolist() == [[[1, 0, 0], [2, 3, 4]], [[5, 6, 0], [7, 0, 0]]]
    assert batch.mask_BIL is not None
    assert batch.mask_BIL.long().tolist() == [[[1, 0, 0], [1, 1, 1]], [[1, 1, 0], [1, 0, 0]]]
    assert batch.targets.tolist() == [1, 0]
    assert batch.num_tokens == 7


def test_tokens_above_a_byte() -> None:
    tokens = np.array([70_000, 1], np.int32)
    assert collate([Example((tokens,), 0)]).tokens_BIL.tolist() == [[[70_000, 1]]]


def test_batch_is_a_copy() -> None:
    tokens = np.array([1, 2], np.int64)
    batch = collate([Example((tokens,), 0)])
    batch.tokens_BIL.zero_()
    assert tokens.tolist() == [1, 2]


def test_nothing_to_collate() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([])


@pytest.mark.parametrize("inputs", [[[]], [[1], []]])
def test_empty_input(inputs: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        collate([example(*([1] for _ in inputs)), example(*inputs)])


def test_examples_with_unlike_numbers_of_inputs() -> None:
    with pytest.raises(ValueError, match="shape"):
        collate([example([1]), example([1], [2])])


def test_lengths_are_of_the_longest_input() -> None:
    assert lengths_of([example([1], [2, 3]), example([4, 5, 6], [7])]).tolist() == [2, 3]


def test_known_lengths_are_not_measured() -> None:
    class Known:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Example:
            raise AssertionError("read")

        def lengths(self) -> NDArray[np.int64]:
            return np.array([3, 4])

    assert lengths_of(Known()).tolist() == [3, 4]


# The order of training.


def some_lengths(number: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(1, 1000, number)


def make_plan(
    number: int = 70, *, batch_size: int = 8, seed: int = 0, bucketing: bool = False
) -> TrainingPlan:
    return TrainingPlan(some_lengths(number), batch_size, seed, bucketing)


def lists(batches: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def padded_tokens(lengths: NDArray[np.int64], batches: Sequence[NDArray[np.int64]]) -> int:
    return sum(int(lengths[batch].max()) * len(batch) for batch in batches)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 700), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_an_epoch_holds_each_example_once(
    number: int, batch_size: int, epoch: int, bucketing: bool
) -> None:
    plan = make_plan(number, batch_size=batch_size, bucketing=bucketing)
    batches = lists(plan.epoch(epoch))
    assert sorted(itertools.chain(*batches)) == list(range(number))
    assert len(batches) == plan.steps_per_epoch == (number + batch_size - 1) // batch_size
    # One batch may be short, the others are whole.
    short = number % batch_size
    expected = [batch_size] * (number // batch_size) + ([short] if short else [])
    assert sorted(map(len, batches), reverse=True) == expected


@pytest.mark.parametrize("bucketing", [False, True])
def test_steps_run_through_the_epochs(bucketing: bool) -> None:
    plan = make_plan(bucketing=bucketing)
    assert plan.steps_per_epoch == 9
    expected = [*plan.epoch(0), *plan.epoch(1), *plan.epoch(2)]
    assert lists(list(plan.batches(0, 27))) == lists(expected)


@pytest.mark.parametrize("bucketing", [False, True])
@pytest.mark.parametrize("start", [1, 8, 9, 10, 17, 18, 26, 27])
def test_the_middle_equals_the_tail(start: int, bucketing: bool) -> None:
    # A fresh plan knows nothing of the steps before: this is how a run resumes.
    whole = lists(list(make_plan(bucketing=bucketing).batches(0, 30)))
    assert lists(list(make_plan(bucketing=bucketing).batches(start, 30))) == whole[start:]


def test_no_steps() -> None:
    assert list(make_plan().batches(5, 5)) == []


@pytest.mark.parametrize("bucketing", [False, True])
def test_epochs_and_seeds_differ(bucketing: bool) -> None:
    plan = make_plan(bucketing=bucketing)
    orders = [
        lists(plan.epoch(0)),
        lists(plan.epoch(1)),
        lists(make_plan(seed=1, bucketing=bucketing).epoch(0)),
    ]
    assert all(first != second for first, second in itertools.combinations(orders, 2))


def test_bucketing_saves_most_of_the_padding() -> None:
    number, batch_size = 20_000, 32
    lengths = some_lengths(number)
    batches = {
        bucketing: make_plan(number, batch_size=batch_size, bucketing=bucketing).epoch(0)
        for bucketing in (False, True)
    }
    padding = {
        bucketing: padded_tokens(lengths, some) - int(lengths.sum())
        for bucketing, some in batches.items()
    }
    assert padding[True] < 0.1 * padding[False]


def test_bucketing_does_not_sort_the_epoch() -> None:
    number, batch_size = 20_000, 32
    lengths = some_lengths(number)
    batches = make_plan(number, batch_size=batch_size, bucketing=True).epoch(0)
    longest = np.array([lengths[batch].max() for batch in batches[:-1]])
    # As unordered as a shuffle: no trend, and neighbors are unlike.
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.15
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.15


def test_bucketing_gathers_within_a_pool_only() -> None:
    # Were all examples sorted together, each epoch would have the same batches.
    number, batch_size = 4 * POOL_BATCHES * 8, 8
    plan = make_plan(number, batch_size=batch_size, bucketing=True)
    first, second = ({frozenset(batch.tolist()) for batch in plan.epoch(n)} for n in (0, 1))
    assert len(first & second) < 0.05 * len(first)


# Evaluation.


@pytest.mark.parametrize("bucketing", [False, True])
@pytest.mark.parametrize(("number", "batch_size"), [(1, 1), (1, 8), (16, 8), (17, 8), (23, 1)])
def test_evaluation_holds_each_example_once(number: int, batch_size: int, bucketing: bool) -> None:
    lengths = some_lengths(number)
    batches = evaluation_plan(lengths, batch_size, bucketing=bucketing)
    assert sorted(itertools.chain(*lists(batches))) == list(range(number))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-number // batch_size)


def test_evaluation_by_length_saves_padding() -> None:
    lengths = some_lengths(500)
    plain, bucketed = (
        padded_tokens(lengths, evaluation_plan(lengths, 8, bucketing=bucketing))
        for bucketing in (False, True)
    )
    assert bucketed < plain
    assert bucketed - lengths.sum() < 0.1 * (plain - lengths.sum())


# The loader.


@pytest.mark.parametrize("num_inputs", [1, 2])
@pytest.mark.parametrize("bucketing", [False, True])
def test_loader_follows_the_plan(num_inputs: int, bucketing: bool) -> None:
    examples = made_up(30, num_inputs=num_inputs)
    loader = Loader(examples, SPEC, batch_size=4, bucketing=bucketing, device=CPU)
    plan = TrainingPlan(lengths_of(examples), 4, 3, bucketing)
    batches = list(loader.training(seed=3, start=5, stop=20))
    assert len(batches) == 15
    for batch, indices in zip(batches, plan.batches(5, 20), strict=True):
        check_batch(batch, [examples[at] for at in indices])


@pytest.mark.parametrize("bucketing", [False, True])
def test_loader_evaluates_each_example_once(bucketing: bool) -> None:
    examples = made_up(30)
    loader = Loader(examples, SPEC, batch_size=7, bucketing=bucketing, device=CPU)
    plan = evaluation_plan(lengths_of(examples), 7, bucketing=bucketing)
    batches = list(loader.evaluation())
    for batch, indices in zip(batches, plan, strict=True):
        check_batch(batch, [examples[at] for at in indices])
    assert sum(batch.size for batch in batches) == 30
    assert sum(batch.num_tokens for batch in batches) == sum(len(e.inputs[0]) for e in examples)


def test_loader_without_examples() -> None:
    with pytest.raises(ValueError, match="without examples"):
        Loader([], SPEC, batch_size=4, bucketing=False, device=CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_loader_on_a_gpu() -> None:
    examples = made_up(30)
    device = torch.device("cuda")
    loader = Loader(examples, SPEC, batch_size=7, bucketing=False, device=device)
    plan = evaluation_plan(lengths_of(examples), 7, bucketing=False)
    for batch, indices in zip(loader.evaluation(), plan, strict=True):
        assert batch.tokens_BIL.device.type == batch.targets.device.type == "cuda"
        check_batch(batch.map(lambda x: x.cpu()), [examples[at] for at in indices])


# Answers at positions.


def positions_of(*targets: list[int]) -> list[Example]:
    return [
        Example((np.arange(1, len(target) + 1),), np.array(target, np.int8)) for target in targets
    ]


def test_classes_of_positions_are_padded_with_what_asks_nothing() -> None:
    spec = TaskSpec("made up", 9, 50, num_classes=3, target="tokens")
    examples = positions_of([0, 1], [2, IGNORED, 1, 0])
    loader = Loader(examples, spec, batch_size=2, bucketing=False, device=CPU)
    (batch,) = loader.evaluation()
    assert batch.targets.tolist() == [[0, 1, IGNORED, IGNORED], [2, IGNORED, 1, 0]]
    assert batch.size == 2


def test_spans_stay_as_they_are() -> None:
    spec = TaskSpec("made up", 9, 50, target="span")
    rows = [Example((np.arange(1, 6),), np.array(span)) for span in ([0, 0], [1, 4])]
    (batch,) = Loader(rows, spec, batch_size=2, bucketing=True, device=CPU).evaluation()
    assert batch.targets.tolist() == [[0, 0], [1, 4]]
    assert batch.targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("target", "answer", "text"),
    [
        ("class", 4, "a class of 4; 0 to 3 are allowed"),
        ("class", -1, "a class of -1"),
        ("class", [1, 2], r"answers of shape \(2,\).*one class an example"),
        ("tokens", [0, 1], r"shape \(2,\); target=tokens needs 5, one a token"),
        ("tokens", [0, 1, 4, 0, 0], "a class of 4; 0 to 3"),
        ("tokens", [0, 1, -1, 0, 0], "a class of -1"),
        ("span", 3, r"shape \(\); target=span needs two positions"),
        ("span", [3, 5], "a position of an answer of 5; 0 to 4"),
        ("span", [3, 2], "a span from 3 to 2; it must not end before it begins"),
    ],
)
def test_an_answer_that_breaks_the_promise_is_refused(
    target: str, answer: object, text: str
) -> None:
    classes = {} if target == "span" else {"num_classes": 4}
    spec = TaskSpec("mine", 9, 50, target=target, **classes)  # type: ignore[arg-type]
    row = Example((np.arange(1, 6),), answer if isinstance(answer, int) else np.array(answer))
    loader = Loader([row], spec, batch_size=1, bucketing=False, device=CPU)
    with pytest.raises(UserError, match=f"task mine has .*{text}"):
        list(loader.evaluation())


# Candidates stand behind an 8, and the text behind a 7.
CHOICE = TaskSpec("mine", 9, 50, num_inputs=2, target="choice", candidate=8, context=7)
SPANS = TaskSpec("mine", 9, 50, target="spans", context=7, answer_length=4)


def test_pieces_and_candidates_are_padded() -> None:
    rows = [
        Example((np.array([8, 1, 8, 2, 8, 3, 7, 5]), np.array([8, 1, 8, 2, 8, 3, 7])), 2),
        Example((np.array([8, 4, 7, 6, 6, 6, 6, 6, 6]),), 0),
    ]
    loader = Loader(rows, CHOICE, batch_size=2, bucketing=False, device=CPU)
    (batch,) = loader.evaluation()
    assert batch.tokens_BIL.shape == (2, 2, 9)
    assert batch.candidates_BC is not None
    assert batch.candidates_BC.tolist() == [[0, 2, 4], [0, -1, -1]]
    assert batch.context_B is not None
    assert batch.context_B.tolist() == [7, 3]
    assert batch.rows_T is not None
    assert batch.rows_T.tolist() == [0, 1, 2]
    assert batch.mask_BIL is not None
    assert batch.mask_BIL.sum(2).tolist() == [[8, 7], [9, 0]]
    assert (batch.num_tokens, batch.targets.tolist(), batch.indices) == (24, [2, 0], (0, 1))
    (alone,) = Loader(rows[:1], CHOICE, batch_size=2, bucketing=False, device=CPU).evaluation()
    assert alone.rows_T is None
    (drawn,) = loader.training(seed=0, start=0, stop=1)
    assert drawn.indices == ()
    moved = batch.map(lambda x: x + 1 if x.dtype == torch.int64 else x)
    assert moved.candidates_BC is not None
    assert moved.candidates_BC.tolist() == [[1, 3, 5], [1, 0, 0]]
    assert moved.indices == batch.indices


def test_spans_are_padded() -> None:
    rows = [
        Example((np.array([1, 7, 2, 3]),), np.array([[2, 3], [3, 3]])),
        Example((np.array([7, 2, 3]),), np.zeros((0, 2), np.int64)),
        Example((np.array([2, 3]),), np.array([[0, 0]])),
    ]
    (batch,) = Loader(rows, SPANS, batch_size=3, bucketing=False, device=CPU).evaluation()
    gone = [IGNORED, IGNORED]
    assert batch.targets.tolist() == [[[2, 3], [3, 3]], [gone, gone], [[0, 0], gone]]
    assert batch.context_B is not None
    assert batch.context_B.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("spec", "inputs", "answer", "text"),
    [
        (CHOICE, [[8, 1, 7]], 1, "a right candidate of 1; 0 to 0"),
        (CHOICE, [[8, 1, 7]], -1, "a right candidate of -1"),
        (CHOICE, [[8, 1, 7]], [0, 1], r"shape \(2,\); target=choice needs the number"),
        (CHOICE, [[1, 7]], 0, "an example without candidates: no token 8 in it"),
        (CHOICE, [[8, 1, 7], [1, 8, 7]], 0, "inputs do not begin with the same candidates"),
        (CHOICE, [[8, 1]] * 3, 0, "an example of 3 inputs; its spec says 1 to 2"),
        (SPANS, [[7, 1]], 1, r"shape \(\); target=spans needs \(A, 2\)"),
        (SPANS, [[7, 1]], [1, 1], r"shape \(2,\); target=spans needs"),
        (SPANS, [[7, 1]], [[1, 2]], "a position of an answer of 2; 0 to 1"),
        (SPANS, [[7, 1, 2]], [[2, 1]], "a span from 2 to 1; it must not end before"),
        (SPANS, [[1, 7, 2]], [[1, 2]], "an answer that begins at 1, within the 2 tokens that ask"),
    ],
)
def test_questions_about_texts_that_break_the_promise_are_refused(
    spec: TaskSpec, inputs: list[list[int]], answer: object, text: str
) -> None:
    target = answer if isinstance(answer, int) else np.array(answer)
    row = Example(tuple(map(np.array, inputs)), target)
    loader = Loader([row], spec, batch_size=1, bucketing=False, device=CPU)
    with pytest.raises(UserError, match=f"task mine has .*{text}"):
        list(loader.evaluation())


def test_tokens_and_lengths_that_break_the_promise_are_refused() -> None:
    spec = TaskSpec("mine", vocab_size=3, max_length=4, num_classes=4)
    options = {"batch_size": 1, "bucketing": False, "device": CPU}
    loader = Loader([example([1, 3])], spec, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="a token id of 3; 0 to 2"):
        list(loader.evaluation())
    with pytest.raises(UserError, match="an input of 5 tokens, its spec says at most 4"):
        Loader([example([1] * 5)], spec, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="an input without tokens"):
        Loader([example([])], spec, **options)  # type: ignore[arg-type]


class Short(list[Example]):
    """Examples that tell fewer lengths than they are, or too small ones."""

    def lengths(self) -> NDArray[np.int64]:
        return np.array([1])


def test_what_examples_tell_of_themselves_is_checked() -> None:
    options = {"batch_size": 1, "bucketing": False, "device": CPU}
    with pytest.raises(UserError, match="the lengths of 1 examples, and has 2"):
        Loader(Short([example([1]), example([2])]), SPEC, **options)  # type: ignore[arg-type]
    loader = Loader(Short([example([1] * 60)]), SPEC, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="an input of 60 tokens, its spec says at most 50"):
        list(loader.evaluation())
    with pytest.raises(UserError, match="token ids must be whole numbers, not float64"):
        collate([Example((np.array([7.5]),), 0)])
    with pytest.raises(UserError, match="answers must be whole numbers, not float64"):
        collate([Example((np.arange(3),), np.array([0.5, 2.0]))], target="span")


def test_an_answer_beyond_the_cut_asks_nothing_and_is_not_right() -> None:
    spec = TaskSpec("mine", 9, 50, target="span")
    rows = [Example((np.arange(1, 6),), np.array(span)) for span in ([IGNORED] * 2, [1, 2])]
    loader = Loader(rows, spec, batch_size=2, bucketing=False, device=CPU)
    (batch,) = loader.evaluation()
    logits = torch.zeros(2, 2, 5)
    logits[:, 0, 1] = logits[:, 1, 2] = 9.0
    sums = count(logits, batch, metrics_of(spec), target="span")
    assert {name: sums[name].item() for name in ("examples", "targets", "correct", "exact")} == {
        "examples": 2, "targets": 2, "correct": 2, "exact": 1,
    }  # fmt: skip
    assert sums["token_f1"] == 1.0


def test_a_split_that_asks_nothing_is_refused() -> None:
    spec = TaskSpec("mine", 9, 50, num_classes=3, target="tokens")
    silent, asking = positions_of([IGNORED, IGNORED]), positions_of([0, 1])
    for training, test in ((silent, asking), (asking, silent)):
        with pytest.raises(UserError, match="task mine has a split that asks nothing"):
            majority_baseline(training, test, spec)


def test_few_lengths_where_few_are_wanted() -> None:
    examples = made_up(40)
    loader = Loader(examples, SPEC, batch_size=4, bucketing=True, device=CPU, lengths=(16, 32, 50))
    plain = Loader(examples, SPEC, batch_size=4, bucketing=True, device=CPU)
    seen = set()
    for padded, batch in zip(loader.evaluation(), plain.evaluation(), strict=True):
        length, longest = padded.tokens_BIL.shape[-1], batch.tokens_BIL.shape[-1]
        seen.add(length)
        assert length == min(one for one in (16, 32, 50) if one >= longest)
        assert torch.equal(padded.tokens_BIL[..., :longest], batch.tokens_BIL)
        assert padded.mask_BIL is not None or length == longest
        assert padded.num_tokens == batch.num_tokens
        if padded.mask_BIL is not None:
            assert padded.mask_BIL.sum() == batch.num_tokens
    assert seen == {16, 32, 50}


# The baseline.


def test_majority_baseline_is_counted_on_test_for_the_class_of_training() -> None:
    training = [example([1], label=label) for label in (2, 0, 2, 1, 2)]
    test = [example([1], label=label) for label in (0, 0, 0, 2)]
    assert majority_baseline(training, test, SPEC) == 0.25
    assert majority_baseline(training, training, SPEC) == 0.6
    assert majority_baseline(test, training, SPEC) == 0.2
    by_loss = TaskSpec("made up", 256, 50, num_classes=4, metrics=("loss",))
    # Of the classes: 1, 1, 3 and 0 answers in training, and one more each.
    expected = -(3 * math.log(2 / 9) + math.log(4 / 9)) / 4
    assert majority_baseline(training, test, by_loss) == pytest.approx(expected)


def test_majority_baseline_of_positions_counts_what_is_asked() -> None:
    rows = [
        Example((np.arange(4),), np.array(target))
        for target in ([0, IGNORED, 1, 1], [1, 1, IGNORED, 0])
    ]
    spec = TaskSpec("made up", 9, 50, num_classes=3, target="tokens")
    assert majority_baseline(rows, rows, spec) == pytest.approx(4 / 6)
    assert majority_baseline(rows, rows, TaskSpec("made up", 9, 50, target="span")) is None
    assert majority_baseline(rows, rows, CHOICE) is None
    assert majority_baseline(rows, rows, SPANS) is None


class Watched(list[Example]):
    """Examples that tell how many of them have been asked for."""

    def __init__(self, examples: Sequence[Example]) -> None:
        super().__init__(examples)
        self.asked = threading.Semaphore(0)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        self.asked.release()
        return super().__getitem__(index)


def rows(number: int) -> list[Example]:
    return [example([1 + index % 4] * (2 + index % 5)) for index in range(number)]


def test_batches_made_ahead_are_the_same_in_the_same_order() -> None:
    def batches(ahead: int) -> list[list[list[int]]]:
        loader = Loader(rows(23), SPEC, batch_size=4, bucketing=True, device=CPU, ahead=ahead)
        made = [*loader.training(seed=3, start=4, stop=15), *loader.evaluation()]
        return [batch.tokens_BIL[:, 0].tolist() for batch in made]

    assert batches(0) == batches(1) == batches(3)


def test_while_a_slow_device_computes_the_next_batches_are_made() -> None:
    """The device is done with the first batch only when the third has been asked for."""
    examples = Watched(rows(16))
    loader = Loader(examples, SPEC, batch_size=2, bucketing=False, device=CPU, ahead=2)
    computed = 0
    for _ in loader.evaluation():
        if computed < 5:
            for _ in range(2 if computed else 6):
                assert examples.asked.acquire(timeout=60)
        computed += 1
    assert computed == 8


def test_what_goes_wrong_ahead_comes_in_its_place_and_no_thread_stays() -> None:
    bad = [*rows(6), example([1, 9]), *rows(3)]
    spec = TaskSpec("bad", vocab_size=9, max_length=20, num_classes=10)
    loader = Loader(bad, spec, batch_size=2, bucketing=False, device=CPU, ahead=2)
    before = threading.active_count()
    batches = loader.evaluation()
    for _ in range(3):
        assert threading.active_count() <= before + 1
        next(batches)
    with pytest.raises(UserError, match="token id"):
        next(batches)
    assert threading.active_count() == before
    left = loader.evaluation()
    next(left)
    left.close()
    assert threading.active_count() == before


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches_ahead() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    device = torch.device("cuda")
    expected = Loader(rows(40), SPEC, batch_size=4, bucketing=True, device=CPU)
    ahead = Loader(rows(40), SPEC, batch_size=4, bucketing=True, device=device, ahead=2)
    pairs = zip(
        expected.training(seed=1, start=0, stop=30),
        ahead.training(seed=1, start=0, stop=30),
        strict=True,
    )
    for one, other in pairs:
        assert other.tokens_BIL.device.type == "cuda"
        assert torch.equal(one.tokens_BIL, other.tokens_BIL.cpu())
        assert torch.equal(one.targets, other.targets.cpu())
