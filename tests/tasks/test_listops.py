from __future__ import annotations

import errno
import io
import multiprocessing
import os
import random
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pytest
from fuzzing import mutants
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from oracles import listops as oracle
from oracles.listops import Limits, Operation, Tree

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, Example, Progress, Split
from lra_tasks import _listops_trees as trees
from lra_tasks._sources import Member
from lra_tasks._store import Chunk
from lra_tasks._store_writer import writing
from lra_tasks.listops import RELEASED, ListOps, chunk_of, encode, read_tsv

TOKENS = {number: token for token, number in trees.IDS.items()}
# 99.99 % points of chi-square, by degrees of freedom; the seeds are fixed, so nothing flickers.
CHI_SQUARE_LIMIT = {3: 21.1, 8: 31.8, 9: 33.7, 15: 44.3}
# Short, and many: for everything that does not depend on the length.
SMALL = Limits(min_length=5, max_length=60, max_depth=5, max_args=4)
SMALL_OPTIONS = asdict(SMALL) | {"num_train": 300, "num_validation": 40, "num_test": 40}


def flat(expressions: Sequence[Sequence[int]]) -> tuple[trees.Tokens, trees.Offsets]:
    lengths = [len(expression) for expression in expressions]
    tokens = np.array([token for expression in expressions for token in expression], np.uint8)
    return tokens, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def ids(tokens: Sequence[str]) -> list[int]:
    return [trees.IDS[token] for token in tokens]


def ids_of(text: str) -> list[int]:
    return ids(text.split())


def values_of(*texts: str) -> list[int]:
    values: list[int] = trees.evaluate(*flat([ids_of(text) for text in texts])).tolist()
    return values


def tree_of(expression: NDArray[np.uint8]) -> Tree:
    tree = oracle.parse([TOKENS[token] for token in expression.tolist()])
    assert tree is not None
    return tree


def cut(tokens: trees.Tokens, offsets: trees.Offsets) -> list[NDArray[np.uint8]]:
    return [tokens[start:stop] for start, stop in pairwise(offsets)]


def make(folder: Path, **options: Any) -> ListOps:
    return ListOps(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def expressions_of(task: ListOps) -> dict[Split, list[bytes]]:
    found = {}
    for split in SPLITS:
        examples = task.examples(split)
        found[split] = [examples[at].inputs[0].tobytes() for at in range(len(examples))]
    return found


# Evaluation.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("0", 0),
        ("[MIN 3 8 X", 3),
        ("[MAX 3 8 X", 8),
        ("[SM 3 8 X", 1),
        ("[SM 5 5 X", 0),
        # The mean of the middle two is cut, not rounded: 3.5 is 3, 0.5 is 0.
        ("[MED 3 4 X", 3),
        ("[MED 4 3 X", 3),
        ("[MED 0 1 X", 0),
        ("[MED 9 0 5 X", 5),
        ("[MED 9 1 8 2 X", 5),
        ("[MED 9 1 8 3 X", 5),
        ("[SM 9 9 9 9 9 9 9 9 9 9 X", 0),
        ("[MED [MAX 1 [SM 9 9 X X 4 [MIN 7 2 X 1 X", 3),
        ("[MIN [MIN [MIN 4 5 X 6 X 7 X", 4),
    ],
)
def test_value_of_an_expression(text: str, value: int) -> None:
    assert values_of(text) == [value]
    tree = oracle.parse(text.split())
    assert tree is not None
    assert oracle.evaluate(tree) == value


def test_values_of_many_expressions_at_once() -> None:
    rng = random.Random(0)
    drawn = [oracle.draw(rng, SMALL)[0] for _ in range(3000)]
    drawn += oracle.draw_kept(rng, Limits(), 60)
    tokens, offsets = flat([ids(oracle.tokens(tree)) for tree in drawn])
    assert trees.evaluate(tokens, offsets).tolist() == [oracle.evaluate(tree) for tree in drawn]


def test_labels_of_drawn_expressions() -> None:
    tokens, offsets = trees.draw(0, 0, trees.Shape())
    values = trees.evaluate(tokens, offsets)
    assert len(values) > 200
    expected = [oracle.evaluate(tree_of(expression)) for expression in cut(tokens, offsets)]
    assert values.tolist() == expected


TREES = st.recursive(
    st.integers(0, 9),
    lambda arguments: st.builds(
        Operation,
        st.sampled_from(oracle.OPERATORS),
        st.lists(arguments, min_size=2, max_size=10).map(tuple),
    ),
    max_leaves=60,
)


def check_evaluate_and_encode(chosen: list[Tree]) -> None:
    tokens, offsets = flat([ids(oracle.tokens(tree)) for tree in chosen])
    assert trees.evaluate(tokens, offsets).tolist() == [oracle.evaluate(tree) for tree in chosen]
    for tree in chosen:
        assert encode(oracle.to_source(tree).encode()) == bytes(ids(oracle.tokens(tree)))


SOME_TREES = st.lists(TREES, min_size=1, max_size=5)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(SOME_TREES)
def test_evaluate_and_encode_equal_the_oracle(chosen: list[Tree]) -> None:
    check_evaluate_and_encode(chosen)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=200)
@given(SOME_TREES)
def test_evaluate_and_encode_equal_the_oracle_often(chosen: list[Tree]) -> None:
    check_evaluate_and_encode(chosen)


def check_well_formed(chosen: list[list[str]]) -> None:
    parsed = [oracle.parse(tokens) for tokens in chosen]
    expected = [-1 if tree is None else oracle.evaluate(tree) for tree in parsed]
    assert trees.evaluate(*flat([ids(tokens) for tokens in chosen])).tolist() == expected


SOME_TOKENS = st.lists(
    st.lists(st.sampled_from(["[MIN", "[SM", "[MED", "X", "X", "0", "3", "9"]), max_size=9),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(SOME_TOKENS)
def test_well_formed_or_not_equals_the_oracle(chosen: list[list[str]]) -> None:
    check_well_formed(chosen)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=500)
@given(SOME_TOKENS)
def test_well_formed_or_not_equals_the_oracle_often(chosen: list[list[str]]) -> None:
    check_well_formed(chosen)


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(ids_of("[MAX 3 4"), id="missing close"),
        pytest.param(ids_of("[MAX 3 [MIN 2 1 X"), id="missing outer close"),
        pytest.param(ids_of("[MAX 3 4 X X"), id="extra close"),
        pytest.param(ids_of("3 X"), id="digit closed"),
        pytest.param(ids_of("X"), id="close alone"),
        pytest.param(ids_of("X [MAX 3 4"), id="close before open"),
        pytest.param(ids_of("[MAX"), id="open alone"),
        pytest.param(ids_of("[MAX X"), id="no arguments"),
        pytest.param(ids_of("[MIN 3 [SM X 4 X"), id="no arguments inside"),
        pytest.param(ids_of("3 4"), id="two digits"),
        pytest.param(ids_of("[MAX 3 4 X [MIN 1 2 X"), id="two expressions"),
        pytest.param(ids_of("[MAX 3 4 X 5"), id="digit behind"),
        pytest.param([], id="empty"),
        pytest.param([trees.UNKNOWN], id="unknown token alone"),
        pytest.param([*ids_of("[MAX 3"), trees.UNKNOWN, *ids_of("4 X")], id="unknown token"),
        pytest.param([*ids_of("[MAX 3 4 X"), 255], id="id out of range"),
        pytest.param([*ids_of("[MAX 3 4 X"), 0], id="padding behind"),
        pytest.param([0, *ids_of("[MAX 3 4 X")], id="padding before"),
        pytest.param([0], id="padding alone"),
    ],
)
def test_malformed_is_minus_one_and_spares_its_neighbours(malformed: list[int]) -> None:
    before, after = ids_of("[MED 3 4 1 X"), ids_of("[SM 9 [MAX 2 3 X X")
    for expressions, expected in [
        ([malformed], [-1]),
        ([malformed, after], [-1, 2]),
        ([before, malformed], [3, -1]),
        ([before, malformed, after], [3, -1, 2]),
        ([malformed, before, malformed, malformed, after, malformed], [-1, 3, -1, -1, 2, -1]),
    ]:
        assert trees.evaluate(*flat(expressions)).tolist() == expected


def test_nothing_to_evaluate() -> None:
    assert trees.evaluate(*flat([])).tolist() == []


@pytest.mark.parametrize("operator", oracle.OPERATORS)
def test_many_arguments(operator: str) -> None:
    # task.max_args has no upper limit; a sum of 5,000 nines does not fit into 16 bits.
    rng = random.Random(0)
    tree = Operation(operator, tuple(rng.choices((8, 9), k=5000)))
    assert trees.evaluate(*flat([ids(oracle.tokens(tree))])).tolist() == [oracle.evaluate(tree)]


def test_deep_nesting() -> None:
    # Deeper than 16 bits can count, as an edited file might be.
    tokens, offsets = flat([[trees.MIN] * 33_000 + ids_of("4") + [trees.CLOSE] * 33_000])
    assert trees.evaluate(tokens, offsets).tolist() == [4]


# Drawing. The figures of the published generator were counted on its own output.


# Shards that we draw, and expressions that the oracle draws.
FEW_AND_MANY = [
    pytest.param((14, 900), id="few"),
    pytest.param((40, 3000), id="many", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=FEW_AND_MANY)
def numbers(request: pytest.FixtureRequest) -> tuple[int, int]:
    asked: tuple[int, int] = request.param
    return asked


@pytest.fixture(scope="module")
def ours(numbers: tuple[int, int]) -> list[NDArray[np.uint8]]:
    drawn = []
    for shard in range(numbers[0]):
        drawn += cut(*trees.draw(0, shard, trees.Shape()))
    assert len(drawn) > 250 * numbers[0]
    return drawn


@pytest.fixture(scope="module")
def theirs(numbers: tuple[int, int]) -> list[Tree]:
    return oracle.draw_kept(random.Random(0), Limits(), numbers[1])


def chi_square(first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sample statistic of counts in the same classes."""
    a, b = np.array(first, float), np.array(second, float)
    scale = np.sqrt(b.sum() / a.sum())
    return float((((scale * a - b / scale) ** 2) / (a + b)).sum())


def counts(values: Sequence[int], classes: Sequence[int]) -> list[int]:
    found = Counter(values)
    assert set(found) <= set(classes)
    return [found[number] for number in classes]


def test_defaults_are_the_published_ones() -> None:
    assert asdict(trees.Shape()) == asdict(Limits())


def test_lengths_are_distributed_as_published(
    ours: list[NDArray[np.uint8]], theirs: list[Tree]
) -> None:
    lengths = np.array([len(expression) for expression in ours])
    assert lengths.min() > 500
    assert lengths.max() < 2000
    # 6,000 published ones; four standard errors.
    assert abs(lengths.mean() - 1040) < 4 * 394 * np.sqrt(1 / 6000 + 1 / len(lengths))
    assert abs(lengths.std() - 394) < 16
    for percent, published, error in ((5, 538, 12), (50, 967, 48), (95, 1808, 56)):
        assert np.percentile(lengths, percent) == pytest.approx(published, abs=error)
    edges = np.linspace(500, 2000, 17)
    expected = np.histogram([len(oracle.tokens(tree)) for tree in theirs], edges)[0]
    assert chi_square(np.histogram(lengths, edges)[0], expected) < CHI_SQUARE_LIMIT[15]


def test_about_one_draw_in_twelve_is_kept(
    ours: list[NDArray[np.uint8]], numbers: tuple[int, int]
) -> None:
    # 6,000 of 71,085 published draws were; four standard errors.
    draws = numbers[0] * 4096
    error = 4 * np.sqrt(0.0844 * (1 / draws + 1 / 71_085))
    assert len(ours) / draws == pytest.approx(0.0844, abs=error)


def test_labels_are_distributed_as_published(
    ours: list[NDArray[np.uint8]], theirs: list[Tree]
) -> None:
    offsets = np.concatenate(([0], np.cumsum([len(tokens) for tokens in ours])))
    found = counts(trees.evaluate(np.concatenate(ours), offsets).tolist(), range(10))
    expected = counts([oracle.evaluate(tree) for tree in theirs], range(10))
    assert chi_square(found, expected) < CHI_SQUARE_LIMIT[9]
    shares = np.array(found) / len(ours)
    # 32,000 published ones: 0 and 9 are twice as frequent as the others; four standard errors.
    error = 4 * np.sqrt(0.167 * 0.833 * (1 / 32_000 + 1 / len(ours)))
    assert shares[[0, 9]] == pytest.approx([0.167, 0.168], abs=error)
    error = 4 * np.sqrt(0.08 * 0.92 * (1 / 32_000 + 1 / len(ours)))
    assert ((shares[1:9] > 0.073 - error) & (shares[1:9] < 0.090 + error)).all()
    assert make(Path()).spec.majority_baseline == pytest.approx(max(shares), abs=0.01)


def test_operators_nest_nine_deep_always(ours: list[NDArray[np.uint8]]) -> None:
    for tokens in ours:
        change = ((tokens >= trees.MIN) & (tokens <= trees.SM)).astype(int)
        change -= tokens == trees.CLOSE
        assert change.cumsum().max() == 9


def test_operators_and_digits_are_uniform(ours: list[NDArray[np.uint8]]) -> None:
    tokens = np.concatenate(ours)
    found = np.bincount(tokens, minlength=trees.VOCAB_SIZE)
    assert found[[0, trees.UNKNOWN]].tolist() == [0, 0]
    operators = found[trees.MIN : trees.SM + 1]
    assert operators.sum() == found[trees.CLOSE]
    assert operators / operators.sum() == pytest.approx(np.full(4, 0.25), abs=0.002)
    digits = found[trees.ZERO : trees.ZERO + 10]
    assert digits / digits.sum() == pytest.approx(np.full(10, 0.1), abs=0.001)


def arguments_of_root(tokens: NDArray[np.uint8]) -> int:
    """Return how many arguments begin directly below the first operator."""
    opens = (tokens >= trees.MIN) & (tokens <= trees.SM)
    closes = tokens == trees.CLOSE
    before = np.cumsum(opens.astype(int) - closes) - (opens.astype(int) - closes)
    return int(((before == 1) & ~closes).sum())


def test_arity_and_operator_of_the_root(ours: list[NDArray[np.uint8]], theirs: list[Tree]) -> None:
    # Among the kept ones roots with many arguments are more frequent; not so among the drawn.
    arity, operator = [], []
    for number, tokens in enumerate(ours):
        arity.append(arguments_of_root(tokens))
        operator.append(int(tokens[0]) - trees.MIN)
        if number < 100:
            root = tree_of(tokens)
            assert isinstance(root, Operation)
            assert arity[-1] == len(root.arguments)
            assert operator[-1] == oracle.OPERATORS.index(root.operator)
    roots = [root for root in theirs if isinstance(root, Operation)]
    expected = counts([len(root.arguments) for root in roots], range(2, 11))
    assert chi_square(counts(arity, range(2, 11)), expected) < CHI_SQUARE_LIMIT[8]
    expected = counts([oracle.OPERATORS.index(root.operator) for root in roots], range(4))
    assert chi_square(counts(operator, range(4)), expected) < CHI_SQUARE_LIMIT[3]


def test_drawn_operators_have_two_to_ten_arguments_uniformly() -> None:
    # No length is refused here, so what is kept is every draw that is not a digit.
    num_draws = 40_000
    shape = trees.Shape(min_length=1, max_length=1_000_000, max_depth=3, max_args=10)
    roots = [tree_of(tokens) for tokens in cut(*trees.draw(1, 0, shape, num_draws=num_draws))]
    assert len(roots) / num_draws == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / num_draws))
    arity = Counter(len(root.arguments) for root in roots if isinstance(root, Operation))
    assert sorted(arity) == list(range(2, 11))
    expected = len(roots) / 9
    statistic = sum((number - expected) ** 2 / expected for number in arity.values())
    assert statistic < CHI_SQUARE_LIMIT[8]


@pytest.mark.parametrize(
    "limits", [SMALL, Limits(0, 30, 3, 2), Limits(0, 12, 2, 10), Limits(20, 400, 30, 3)]
)
def test_drawn_expressions_keep_to_the_shape(limits: Limits) -> None:
    shape = trees.Shape(**asdict(limits))
    tokens, offsets = trees.draw(3, 0, shape)
    drawn = [tree_of(expression) for expression in cut(tokens, offsets)]
    assert drawn
    for tree in drawn:
        assert limits.min_length < len(oracle.tokens(tree)) < limits.max_length
        assert oracle.nesting(tree) < limits.max_depth
        assert most_arguments(tree) <= limits.max_args
    assert trees.evaluate(tokens, offsets).tolist() == [oracle.evaluate(tree) for tree in drawn]


def test_both_limits_of_the_length_are_exclusive() -> None:
    shape = trees.Shape(min_length=4, max_length=11, max_depth=2, max_args=10)
    lengths = np.diff(trees.draw(0, 0, shape)[1])
    assert sorted(set(lengths.tolist())) == [5, 6, 7, 8, 9, 10]


def most_arguments(tree: Tree) -> int:
    if isinstance(tree, int):
        return 0
    return max(len(tree.arguments), *map(most_arguments, tree.arguments))


def test_shards_and_seeds_are_independent() -> None:
    drawn = {
        (seed, shard): set(map(bytes, cut(*trees.draw(seed, shard, trees.Shape()))))
        for seed in (0, 1)
        for shard in (0, 1)
    }
    together = set().union(*drawn.values())
    assert len(together) == sum(map(len, drawn.values()))


# The generated task.


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    task = make(tmp_path, seed=7, num_train=60, num_validation=10, num_test=10)
    again = make(tmp_path / "again", seed=7, num_train=60, num_validation=10, num_test=10)
    assert expressions_of(task) == expressions_of(again)
    # If this changes, GENERATOR_VERSION must change too, or old caches pass for new ones.
    golden = "1ad199119635936b27b8e57b24c386d54de7af65e3a8cb8e928f81b047acee94"
    assert task.fingerprint() == again.fingerprint() == golden


def test_other_seed_other_expressions(tmp_path: Path) -> None:
    few = {"num_train": 300, "num_validation": 40, "num_test": 40}
    first, second = (make(tmp_path, seed=seed, **few) for seed in (0, 1))
    found = [set().union(*expressions_of(task).values()) for task in (first, second)]
    assert not found[0] & found[1]
    assert first.fingerprint() != second.fingerprint()


@pytest.mark.parametrize("most_workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, most_workers: int) -> None:
    fingerprints = set()
    for num_workers in range(1, most_workers + 1):
        # As many as are worth processes.
        options = SMALL_OPTIONS | {"num_train": 5000, "num_workers": num_workers}
        most = 0

        def count_processes(progress: Progress) -> None:
            nonlocal most
            most = max(most, len(multiprocessing.active_children()))

        task = make(tmp_path / str(num_workers), **options)
        task.prepare(count_processes)
        assert most == (0 if num_workers == 1 else num_workers)
        fingerprints.add(task.fingerprint())
    assert len(fingerprints) == 1


def test_splits_are_distinct_and_of_exact_size(tmp_path: Path) -> None:
    task = make(
        tmp_path, **(SMALL_OPTIONS | {"num_train": 3000, "num_validation": 1, "num_test": 7})
    )
    found = expressions_of(task)
    assert {split: len(some) for split, some in found.items()} == {
        "train": 3000,
        "validation": 1,
        "test": 7,
    }
    everything = [expression for some in found.values() for expression in some]
    assert len(set(everything)) == len(everything) == 3008


def test_labels_are_the_values(tmp_path: Path) -> None:
    task = make(tmp_path, **SMALL_OPTIONS)
    for split in SPLITS:
        examples = task.examples(split)
        for at in range(len(examples)):
            example = examples[at]
            assert example.target == oracle.evaluate(tree_of(example.inputs[0]))


def test_length_may_be_exhausted_to_the_last_expression(tmp_path: Path) -> None:
    # Below three tokens there are the ten digits and nothing else.
    limits = {"min_length": 0, "max_length": 3, "max_depth": 2, "max_args": 2}
    counted = {"num_train": 8, "num_validation": 1, "num_test": 1}
    found = expressions_of(make(tmp_path, **limits, **counted))
    everything = sorted(expression for some in found.values() for expression in some)
    assert everything == [bytes([trees.ZERO + digit]) for digit in range(10)]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"min_length": 0, "max_length": 3, "num_train": 9}, "only 10 of 11"),
        # Two levels of at most two arguments never have a hundred tokens.
        ({"min_length": 100, "max_length": 200, "num_train": 1}, "only 0 of 3"),
        # With processes.
        ({"min_length": 0, "max_length": 3, "num_train": 6000}, "only 10 of 6,002"),
    ],
)
def test_too_narrow_a_shape_is_refused(tmp_path: Path, options: dict[str, int], found: str) -> None:
    counted = {"num_validation": 1, "num_test": 1, "num_workers": 2}
    task = make(tmp_path, max_depth=2, max_args=2, **counted, **options)
    with pytest.raises(UserError, match=found):
        task.prepare()
    assert list((tmp_path / "cache").iterdir()) == []


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    seen: list[Progress] = []
    make(tmp_path, **SMALL_OPTIONS).prepare(seen.append)
    assert {progress.total for progress in seen} == {380}
    assert [progress.done for progress in seen] == sorted({progress.done for progress in seen})
    assert seen[-1].done == 380


def test_verify_evaluates_again(tmp_path: Path) -> None:
    task = make(tmp_path, **SMALL_OPTIONS)
    checks = list(task.verify())
    assert {f"{split}: labels" for split in SPLITS} <= {check.what for check in checks}
    assert [check.problem for check in checks] == [None] * len(checks)
    # A cache that is sound, of expressions that are worth something else.
    place = task.folder()
    assert place is not None
    rows = {split: (task.examples(split), len(task.examples(split))) for split in SPLITS}
    other = tmp_path / "other" / place.name
    with writing(other) as writer:
        for split, (examples, number) in rows.items():
            writer.add_examples(
                split,
                (
                    Example(examples[at].inputs, (int(examples[at].target) + 1) % 10)
                    for at in range(number)
                ),
            )
        writer.options, writer.info = task.options(), task.info()
    again = ListOps(data_dir=tmp_path, cache_dir=tmp_path / "other", **SMALL_OPTIONS)
    problems = {check.what: check.problem for check in again.verify()}
    assert "300 labels" in str(problems["train: labels"])


def test_what_a_person_reads(tmp_path: Path) -> None:
    task = make(tmp_path, seed=5, **SMALL_OPTIONS)
    example = task.examples("test")[0]
    expected = " ".join(oracle.tokens(tree_of(example.inputs[0]))).replace("X", "]")
    assert task.decode(example) == expected
    assert task.info() == DataInfo(
        "generated here", "none needed", task.counts, source="generated, seed 5, generator 1"
    )
    assert task.spec.vocab_size == 17
    assert task.spec.num_classes == 10
    assert (task.spec.max_length, task.spec.num_inputs) == (60, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"num_train": 0},
        {"num_validation": 0},
        {"num_test": -1},
        {"seed": -1},
        {"min_length": -1},
        {"min_length": 2000},
        # There is no whole number between 9 and 10.
        {"min_length": 9, "max_length": 10},
        {"max_length": 0},
        {"max_depth": 1},
        {"max_args": 1},
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(UserError, match=rf"task\.({name}|num_\*)"):
        make(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


# The released files.

FILES = RELEASED.names
# More than are read at once.
NUM_ROWS: dict[Split, int] = {"train": 1203, "validation": 5, "test": 4}


@pytest.fixture(scope="module")
def released() -> dict[Split, list[Tree]]:
    stream = iter(oracle.draw_kept(random.Random(1), SMALL, sum(NUM_ROWS.values())))
    return {split: [next(stream) for _ in range(number)] for split, number in NUM_ROWS.items()}


def write_files(folder: Path, rows: dict[Split, list[Tree]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, some in rows.items():
        lines = [f"{oracle.to_source(tree)}\t{oracle.evaluate(tree)}" for tree in some]
        text = "".join(f"{line}\r\n" for line in ["Source\tTarget", *lines])
        (folder / FILES[split]).write_bytes(text.encode())


def official(folder: Path, **options: Any) -> ListOps:
    return make(folder, source="official", **options)


def details_of(task: ListOps) -> Mapping[str, str]:
    task.prepare()
    return task.info().details


def expected_expressions(rows: dict[Split, list[Tree]]) -> dict[Split, list[bytes]]:
    return {
        split: [bytes(ids(oracle.tokens(tree))) for tree in some] for split, some in rows.items()
    }


def test_released_files(tmp_path: Path, released: dict[Split, list[Tree]]) -> None:
    write_files(tmp_path / "data", released)
    task = official(tmp_path)
    assert expressions_of(task) == expected_expressions(released)
    for split, some in released.items():
        examples = task.examples(split)
        labels = [examples[at].target for at in range(len(examples))]
        assert labels == [oracle.evaluate(tree) for tree in some]
    checks = list(task.verify())
    assert [check.what for check in checks if check.problem] == ["official set"]
    assert len(checks) == 7


def test_released_files_are_cut_to_the_length(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    write_files(tmp_path / "data", released)
    examples = official(tmp_path, min_length=0, max_length=9).examples("train")
    for at, tree in enumerate(released["train"]):
        expected = ids(oracle.tokens(tree))[:9]
        assert examples[at].inputs[0].tolist() == expected
        assert examples[at].target == oracle.evaluate(tree)


def test_lines_may_end_with_a_line_feed_alone(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    write_files(tmp_path / "data", released)
    for name in FILES.values():
        path = tmp_path / "data" / name
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").removesuffix(b"\n"))
    assert expressions_of(official(tmp_path)) == expected_expressions(released)


INNER = "lra_release/lra_release/listops-1000"
OUTER = "lra_release/listops-1000"


@pytest.mark.parametrize("folder", [INNER, OUTER, "listops-1000"])
def test_found_in_the_unpacked_release(
    tmp_path: Path, released: dict[Split, list[Tree]], folder: str
) -> None:
    write_files(tmp_path / "data" / folder, released)
    assert expressions_of(official(tmp_path)) == expected_expressions(released)


def test_the_inner_copy_is_preferred(tmp_path: Path, released: dict[Split, list[Tree]]) -> None:
    write_files(tmp_path / "data" / OUTER, {split: [3] for split in SPLITS})
    write_files(tmp_path / "data" / INNER, released)
    assert expressions_of(official(tmp_path)) == expected_expressions(released)


def pack(path: Path, folder: str, rows: dict[Split, list[Tree]], *, more: str = "") -> None:
    """Write an archive of the released files; ``more`` names a folder with other ones, first."""
    with TemporaryDirectory() as name, tarfile.open(path, cast(Any, compression(path))) as tar:
        if more:
            write_files(Path(name) / "other", {split: [3] for split in SPLITS})
            tar.add(Path(name) / "other", more)
        write_files(Path(name) / "files", rows)
        tar.add(Path(name) / "files", folder)


def compression(path: Path) -> str:
    return "w" if path.suffix == ".tar" else "w:gz"


@pytest.mark.parametrize(
    ("archive", "folder"),
    [
        ("lra_release.gz", INNER),
        ("lra_release.tar.gz", OUTER),
        ("lra_release/lra_release.tar", "listops-1000"),
        ("listops-1000.tar.gz", "listops-1000"),
        ("listops-1000.tar", "."),
    ],
)
def test_found_in_an_archive(
    tmp_path: Path, released: dict[Split, list[Tree]], archive: str, folder: str
) -> None:
    path = tmp_path / "data" / archive
    path.parent.mkdir(parents=True)
    pack(path, folder, released, more="" if folder == "." else f"not/{folder}")
    task = official(tmp_path)
    assert expressions_of(task) == expected_expressions(released)
    inside = "" if folder == "." else f", {folder}"
    assert details_of(task)["read"] == f"archive {path.name}{inside}"
    # It is not unpacked.
    assert [found for found in (tmp_path / "data").rglob("*") if found.is_file()] == [path]


def test_the_inner_copy_of_the_archive_is_preferred(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    (tmp_path / "data").mkdir()
    pack(tmp_path / "data" / "lra_release.gz", INNER, released, more=OUTER)
    assert expressions_of(official(tmp_path)) == expected_expressions(released)


def test_same_examples_from_folder_and_archive(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    write_files(tmp_path / "data", released)
    (tmp_path / "packed" / "data").mkdir(parents=True)
    pack(tmp_path / "packed" / "data" / "lra_release.gz", INNER, released)
    packed = official(tmp_path / "packed")
    assert packed.fingerprint() == official(tmp_path).fingerprint()


def test_released_file_that_an_archive_has_twice(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "lra_release.tar"
    pack(path, INNER, released, more=INNER)
    with pytest.raises(UserError, match=r"basic_\w+\.tsv is there twice") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["checksums"]


def test_released_file_that_an_archive_lacks(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "lra_release.tar"
    pack(path, INNER, {split: released[split] for split in ("train", "test")})
    with pytest.raises(UserError, match=r"has no basic_val\.tsv") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    pack(path, "elsewhere", released)
    with pytest.raises(UserError, match=", ".join(f"{name}" for name in FILES.values())):
        official(tmp_path).prepare()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["checksums"]


def test_damaged_archive_of_released_files(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "lra_release.gz"
    pack(path, INNER, released)
    # All the files are before the damage: the checksum at the end.
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="broken or cut short") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["checksums"]


@pytest.mark.parametrize("succeeding", [0, 3, 9])
def test_disk_full_while_an_archive_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    released: dict[Split, list[Tree]],
    succeeding: int,
) -> None:
    (tmp_path / "data").mkdir()
    pack(tmp_path / "data" / "lra_release.gz", INNER, released)
    fsync, called = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal called
        called += 1
        if called > succeeding:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(UserError, match="the disk is full; free some space") as caught:
        official(tmp_path).prepare()
    # Of the disk, not of the archive.
    assert str(tmp_path / "cache") in str(caught.value)
    assert "broken" not in str(caught.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["checksums"]


def test_prepared_data_outlive_the_released_files(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    write_files(tmp_path / "data", released)
    task = official(tmp_path)
    assert not task.is_prepared()
    task.prepare()
    assert task.is_prepared()
    for name in FILES.values():
        (tmp_path / "data" / name).unlink()
    again = official(tmp_path)
    assert again.is_prepared()
    assert again.folder() == task.folder()
    assert expressions_of(again) == expected_expressions(released)
    # Drawn ones are other data.
    assert not make(tmp_path, **SMALL_OPTIONS).is_prepared()


def test_verify_goes_on_behind_a_damaged_split(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    write_files(tmp_path / "data", released)
    task = official(tmp_path)
    task.prepare()
    folder = task.folder()
    assert folder is not None
    (folder / "train.labels").unlink()
    problems = {check.what: str(check.problem) for check in task.verify() if check.problem}
    assert set(problems) == {"train: 1,203 examples", "official set", "train: labels"}
    assert "train.labels" in problems["train: 1,203 examples"]


def test_two_processes_draw_at_once(tmp_path: Path) -> None:
    options = SMALL_OPTIONS | {"num_train": 1000}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = [pool.submit(fingerprint_of, tmp_path, options) for _ in range(2)]
        fingerprints = {future.result(timeout=300) for future in found}
    assert fingerprints == {make(tmp_path / "alone", **options).fingerprint()}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def fingerprint_of(folder: Path, options: dict[str, int]) -> str:
    return make(folder, **options).fingerprint()


def test_changed_files_are_read_again(tmp_path: Path, released: dict[Split, list[Tree]]) -> None:
    write_files(tmp_path / "data", released)
    first = official(tmp_path).fingerprint()
    write_files(tmp_path / "data", released | {"test": [3, 4]})
    task = official(tmp_path)
    assert len(task.examples("test")) == 2
    assert task.fingerprint() != first


def test_counts_other_than_the_official_ones_are_no_official_set(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    assert RELEASED.counts == {"train": 96_000, "validation": 2_000, "test": 2_000}
    write_files(tmp_path / "data", released)
    task = official(tmp_path)
    task.prepare()
    info = task.info()
    assert info.source == "official files, not the official set"
    assert "folder data" in info.warning
    assert str(tmp_path) not in str(info)
    for number in ("1203", "96000"):
        assert number in info.warning
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert problems == {"official set": info.warning}


def test_official_counts_are_the_official_set(
    tmp_path: Path, released: dict[Split, list[Tree]]
) -> None:
    write_files(tmp_path / "data", released)
    task = official(tmp_path, released=replace(RELEASED, counts=NUM_ROWS))
    task.prepare()
    info = task.info()
    assert (info.source, info.warning, info.note) == ("official files", "", "")
    assert info.details == {"read": "folder data"}
    assert [check.problem for check in task.verify()] == [None] * 6


def test_example_of_the_protocol() -> None:
    assert encode(b"( ( ( ( [MED 3 ) 4 ) 1 ) ] )") == bytes(ids_of("[MED 3 4 1 X"))
    # The order of the ids is fixed for ever: a checkpoint depends on it.
    assert list(trees.TOKENS) == ["[MIN", "[MAX", "[MED", "[SM", "X", *"0123456789"]
    assert list(trees.IDS.values()) == list(range(1, 16))
    assert (trees.UNKNOWN, trees.VOCAB_SIZE) == (16, 17)


@pytest.mark.parametrize("source", [b"( [FIRST 3 )", b"a", b"[MEDIAN", b"-", b"X"])
def test_unknown_text_gives_the_unknown_token(source: bytes) -> None:
    assert trees.UNKNOWN in encode(source)


def last_line_cut(text: bytes) -> bytes:
    return text[: text.rindex(b"\r\n", 0, -2) + 12]


def edited(at: int, line: bytes) -> Any:
    """Return a change of the line with that number; the header is line 1."""

    def change(text: bytes) -> bytes:
        lines = text.split(b"\r\n")
        lines[at - 1] = line
        return b"\r\n".join(lines)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(last_line_cut, "line 1204", id="cut in the middle of a row"),
        pytest.param(lambda text: text[:-3], "line 1204", id="cut before the label"),
        pytest.param(edited(1, b"Source,Target"), "Source,Target", id="wrong header"),
        pytest.param(edited(1, b"( ( [MIN 3 ) ] )\t3"), "first line", id="no header"),
        pytest.param(lambda text: b"", "first line", id="empty file"),
        pytest.param(lambda text: text[:13], "no examples", id="header cut"),
        pytest.param(lambda text: text[:15], "no examples", id="header alone"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) ] )\t4"), "line 7: .*worth 3", id="label"),
        pytest.param(edited(1100, b"7\t8"), "line 1100: .*worth 7", id="label, second portion"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) ] )\tx"), "line 7", id="label no digit"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) ] )\t03"), "line 7", id="label two digits"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) ] )\t-3"), "line 7", id="label negative"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) ] )\t\xb2"), "line 7", id="label no ASCII"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) ] )"), "line 7", id="no label"),
        pytest.param(edited(7, b"3\t3\t3"), "line 7", id="three columns"),
        pytest.param(edited(7, b""), "line 7", id="blank line"),
        pytest.param(edited(7, b"( ( [MIN " + b"3 ) " * 300_000), "line 7: .*long", id="endless"),
        # Two lines in one, so long that the first is read as a whole line.
        pytest.param(
            edited(7, b"3".rjust((1 << 20) - 2) + b"\t34\t4"), "line 7: .*long", id="two in one"
        ),
        pytest.param(edited(7, b"\t3"), "line 7", id="no expression"),
        pytest.param(edited(7, b"( ( ( [MIN 3 ) 4 ) )\t3"), "line 7", id="no closing bracket"),
        pytest.param(edited(7, b"( ( [FIRST 3 ) ] )\t3"), "line 7", id="unknown operator"),
    ],
)
def test_damaged_released_file(
    tmp_path: Path, released: dict[Split, list[Tree]], change: Any, named: str
) -> None:
    write_files(tmp_path / "data", released)
    path = tmp_path / "data" / FILES["train"]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=named) as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    # Nothing of what could be read before the damage.
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["checksums"]


def test_missing_released_file(tmp_path: Path, released: dict[Split, list[Tree]]) -> None:
    with pytest.raises(UserError, match=", ".join(FILES.values())) as caught:
        official(tmp_path).prepare()
    assert str(tmp_path / "data") in str(caught.value)
    write_files(tmp_path / "data", released)
    missing = tmp_path / "data" / FILES["validation"]
    missing.unlink()
    with pytest.raises(UserError, match="missing") as caught:
        official(tmp_path).prepare()
    assert str(missing) in str(caught.value)


# Damage of every kind.

MANY = pytest.mark.parametrize("number", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])


def rows_of(chunks: Iterable[Chunk]) -> list[tuple[NDArray[np.uint8], int]]:
    rows = []
    for chunk in chunks:
        offsets = np.concatenate(([0], np.cumsum(chunk.lengths)))
        rows += list(zip(cut(chunk.tokens, offsets), chunk.targets.tolist(), strict=True))
    return rows


def read(content: bytes) -> list[tuple[NDArray[np.uint8], int]] | None:
    """Read a released file; None if it is refused with a text that names it."""
    try:
        return rows_of(read_tsv(Member("a.tsv", len(content), io.BytesIO(content), "PLACE")))
    except UserError as error:
        if "PLACE" not in str(error):
            raise
        return None


def plain_rows(content: bytes) -> list[tuple[list[str], int]]:
    """Read a released file in the plainest way; blanks and round brackets mean nothing at all."""
    rows = []
    for line in content.split(b"\n")[1:]:
        if line:
            source, target = line.rstrip(b"\r").split(b"\t")
            source = re.sub(rb"[() ]", b"", source)
            tokens = re.findall(rb"\[MIN|\[MAX|\[MED|\[SM|\]|[0-9]|.", source)
            rows.append(([token.decode().replace("]", "X") for token in tokens], int(target)))
    return rows


@MANY
def test_damaged_released_files(number: int) -> None:
    rng = random.Random(2)
    tiny = Limits(min_length=0, max_length=16, max_depth=3, max_args=3)
    files = []
    for end in ("\r\n", "\n"):
        drawn = [7, *oracle.draw_kept(rng, tiny, 6)]
        lines = [f"{oracle.to_source(tree)}\t{oracle.evaluate(tree)}" for tree in drawn]
        files.append(end.join(["Source\tTarget", *lines, ""]).encode())
        assert read(files[-1]) is not None
    accepted = 0
    for content in mutants(files, number):
        rows = read(content)
        if rows is None:
            continue
        accepted += 1
        # What is accepted stands there, and is worth what the file says.
        found = [([TOKENS[token] for token in tokens.tolist()], label) for tokens, label in rows]
        assert found == plain_rows(content)
        for tokens, label in found:
            tree = oracle.parse(tokens)
            assert tree is not None
            assert oracle.evaluate(tree) == label
    assert number // 50 < accepted < number // 2


@MANY
def test_damaged_expressions(number: int) -> None:
    rng = random.Random(3)
    sources = [oracle.to_source(tree).encode() for tree in oracle.draw_kept(rng, SMALL, 20)]
    well_formed = 0
    for source in mutants(sources, number):
        encoded = encode(source)
        assert len(encoded) <= len(source)
        tokens = np.frombuffer(encoded, np.uint8)
        assert ((tokens > 0) & (tokens < trees.VOCAB_SIZE)).all()
        value = trees.evaluate(tokens, np.array([0, len(tokens)]))[0]
        # Whatever is not known is no closing bracket or digit by chance.
        tree = None
        if trees.UNKNOWN not in encoded:
            tree = oracle.parse([TOKENS[token] for token in encoded])
        assert value == (-1 if tree is None else oracle.evaluate(tree))
        well_formed += tree is not None
        label = int(value) if tree is not None else 0
        if tree is None:
            with pytest.raises(UserError, match="PLACE, line 9: it is not a well-formed"):
                chunk_of([(encoded, label)], "PLACE", 9)
        else:
            assert chunk_of([(encoded, label)], "PLACE", 9).targets.tolist() == [label]
    assert number // 20 < well_formed < number // 2
