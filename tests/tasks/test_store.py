from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_bench.types import IGNORED, SPLITS, DataInfo, Example, Split, TaskSpec
from lra_tasks._store import FORMAT, Chunk, ChunkStream, FlatCache, FlatExamples, Layout, check_of
from lra_tasks._store_writer import writing

REMEDY = "run the command again"
INFO = DataInfo(source="made up", note="none of it is real", details={"number": "3"})
OPTIONS = {"version": 1}
Rows = list[tuple[list[int], int]]
ROWS: dict[Split, Rows] = {
    "train": [([1, 2, 3], 0), ([255], 2), ([0, 7], 1), ([5] * 300, 2), ([4, 4], 0)],
    "validation": [([9, 8], 1), ([6], 0)],
    "test": [([3, 2, 1, 0], 2)],
}
NAMES = [f"{split}.{name}" for split in SPLITS for name in ("tokens", "offsets", "labels")]


def chunk(rows: Sequence[tuple[list[int], int]]) -> Chunk:
    return Chunk(
        np.array([token for tokens, _ in rows for token in tokens], np.uint8),
        np.array([len(tokens) for tokens, _ in rows], np.int64),
        np.array([label for _, label in rows], np.int64),
    )


def chunks(rows: Rows, at_once: int = 2) -> Iterator[Chunk]:
    for start in range(0, len(rows), at_once):
        yield chunk(rows[start : start + at_once])


def write(
    place: Path,
    splits: Mapping[Split, Iterable[Chunk]],
    info: DataInfo | None = None,
    layout: Layout | None = None,
) -> None:
    with writing(place, layout) as writer:
        for split, some in splits.items():
            writer.add(split, some)
        writer.info = info or DataInfo()
        writer.options = OPTIONS


def write_rows(place: Path, *, at_once: int = 2) -> None:
    write(place, {split: chunks(rows, at_once) for split, rows in ROWS.items()}, INFO)


def open_cache(place: Path) -> FlatCache:
    return FlatCache(place, remedy=REMEDY)


def rows_of(cache: FlatCache, split: Split, max_length: int = 1000) -> Rows:
    examples = cache.examples(split, max_length=max_length)
    found = [examples[at] for at in range(len(examples))]
    assert all(len(example.inputs) == 1 for example in found)
    return [(example.inputs[0].tolist(), int(example.target)) for example in found]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def check_sound(place: Path) -> None:
    cache = open_cache(place)
    assert {split: rows_of(cache, split) for split in SPLITS} == ROWS
    assert [check.problem for check in cache.verify()] == [None] * 3


def assert_refused(place: Path, *, naming: str) -> None:
    with pytest.raises(UserError) as caught:
        open_cache(place)
    assert str(place / naming) in str(caught.value)
    assert f"delete the folder {place} and {REMEDY}" in str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "deep" / "below" / "some-data"
    write_rows(place)
    return place


# Reading what was written.


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_round_trip(tmp_path: Path, at_once: int) -> None:
    write_rows(tmp_path / "data", at_once=at_once)
    check_sound(tmp_path / "data")
    cache = open_cache(tmp_path / "data")
    assert cache.info == INFO
    assert [check.what for check in cache.verify()] == [
        "train: 5 examples",
        "validation: 2 examples",
        "test: 1 examples",
    ]
    # Nothing but the cache, and nothing in it but its files.
    assert names_in(tmp_path) == {"data"}
    assert names_in(tmp_path / "data") == {*NAMES, "manifest.json"}


def test_empty_chunks_and_an_empty_split(tmp_path: Path) -> None:
    splits: dict[Split, list[Chunk]] = {
        "train": [chunk([]), chunk([([1], 0)]), chunk([]), chunk([([2, 3], 1)])],
        "validation": [],
        "test": [chunk([])],
    }
    write(tmp_path / "data", splits)
    cache = open_cache(tmp_path / "data")
    assert rows_of(cache, "train") == [([1], 0), ([2, 3], 1)]
    assert rows_of(cache, "validation") == rows_of(cache, "test") == []
    assert [check.problem for check in cache.verify()] == [None] * 3


@pytest.mark.parametrize("max_length", [1, 2, 3, 299, 300, 301])
def test_cut_to_the_length(place: Path, max_length: int) -> None:
    cache = open_cache(place)
    expected = [(tokens[:max_length], label) for tokens, label in ROWS["train"]]
    assert rows_of(cache, "train", max_length) == expected
    lengths = cache.examples("train", max_length=max_length).lengths()
    assert lengths.tolist() == [len(tokens) for tokens, _ in expected]


PAIRS: dict[Split, list[tuple[tuple[list[int], list[int]], int]]] = {
    "train": [(([1, 2, 3], [4]), 0), (([5], [6, 7]), 1), (([8], [9]), 1)],
    "validation": [(([3], [2] * 20), 1)],
    "test": [],
}


def pair_chunks(split: Split) -> Iterator[Chunk]:
    for inputs, label in PAIRS[split]:
        yield Chunk(
            np.array([token for tokens in inputs for token in tokens], np.uint8),
            np.array([[len(tokens) for tokens in inputs]], np.int64),
            np.array([label], np.int64),
        )


@pytest.mark.parametrize("order", [SPLITS, SPLITS[::-1]])
def test_two_inputs_an_example(tmp_path: Path, order: Sequence[Split]) -> None:
    with writing(tmp_path / "data", Layout(num_inputs=2)) as writer:
        for split in order:
            assert writer.add(split, pair_chunks(split)) == len(PAIRS[split])
        assert writer.counts == {split: len(rows) for split, rows in PAIRS.items()}
        writer.info = INFO
    cache = open_cache(tmp_path / "data")
    assert cache.info == INFO
    for split, rows in PAIRS.items():
        for max_length in (1, 2, 100):
            examples = cache.examples(split, max_length=max_length)
            assert len(examples) == len(rows)
            lengths = []
            for at, (inputs, label) in enumerate(rows):
                for index in (at, at - len(rows)):
                    example = examples[index]
                    found = tuple(tokens.tolist() for tokens in example.inputs)
                    assert found == tuple(tokens[:max_length] for tokens in inputs)
                    assert example.target == label
                lengths.append(max(map(len, found)))
            assert examples.lengths().tolist() == lengths
    assert [check.problem for check in cache.verify()] == [None] * 3


def test_one_input_is_not_two(tmp_path: Path) -> None:
    # The same bytes, divided otherwise, are other examples.
    with writing(tmp_path / "pairs", Layout(num_inputs=2)) as writer:
        for split in SPLITS:
            writer.add(split, pair_chunks(split))
    change_manifest(tmp_path / "pairs", setting(1, "layout", "num_inputs"))
    assert_refused(tmp_path / "pairs", naming="manifest.json")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Chunk(np.ones(2, np.uint8), np.array([2, 0]), np.array([0, 1])), "without tokens"),
        (Chunk(np.ones(2, np.uint8), np.array([3]), np.array([0])), "not of these tokens"),
        (Chunk(np.ones(2, np.uint8), np.array([1]), np.array([0])), "not of these tokens"),
        (Chunk(np.ones(2, np.uint8), np.array([2]), np.array([0, 1])), "targets of shape"),
        (Chunk(np.ones(2, np.uint8), np.array([[1, 1]]), np.array([0])), "not one length"),
    ],
)
def test_a_task_that_writes_nonsense(tmp_path: Path, broken: Chunk, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        write(tmp_path / "data", {split: [broken] for split in SPLITS}, INFO)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("missing", SPLITS)
def test_a_split_is_not_written(tmp_path: Path, missing: Split) -> None:
    rest = {split: chunks(rows) for split, rows in ROWS.items() if split != missing}
    with pytest.raises(AssertionError, match="were written"):
        write(tmp_path / "data", rest, INFO)
    assert names_in(tmp_path) == set()


def test_a_split_is_written_twice(tmp_path: Path) -> None:
    with writing(tmp_path / "data") as writer:
        for split in SPLITS:
            writer.add(split, [])
        with pytest.raises(AssertionError, match="test was written already"):
            writer.add("test", [])


def test_tokens_are_not_copied_and_cannot_be_changed(place: Path) -> None:
    example = open_cache(place).examples("train", max_length=1000)[0]
    assert example.inputs[0].dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        example.inputs[0][0] = 1


def test_fingerprint_is_of_the_content(tmp_path: Path, place: Path) -> None:
    fingerprint = open_cache(place).fingerprint()
    write_rows(tmp_path / "other", at_once=3)
    assert open_cache(tmp_path / "other").fingerprint() == fingerprint
    seen = {fingerprint}
    for changed in (
        ROWS | {"test": [([3, 2, 1, 1], 2)]},
        ROWS | {"test": [([3, 2, 1, 0], 1)]},
        ROWS | {"validation": [([9], 1), ([8, 6], 0)]},
        ROWS | {"validation": ROWS["test"], "test": ROWS["validation"]},
    ):
        shutil.rmtree(tmp_path / "other")
        write(tmp_path / "other", {split: [chunk(rows)] for split, rows in changed.items()})
        seen.add(open_cache(tmp_path / "other").fingerprint())
    assert len(seen) == 5


# Ids of more bytes, and what else may be asked.


@pytest.mark.parametrize(
    ("vocab_size", "first_id", "ids"),
    [
        (2, 0, "u1"),
        (256, 0, "u1"),
        (257, 1, "u1"),
        (257, 0, "u2"),
        (65_536, 0, "u2"),
        (65_537, 1, "u2"),
        (65_537, 0, "u4"),
        (1 << 32, 0, "u4"),
    ],
)
@pytest.mark.parametrize("num_inputs", [1, 2])
def test_ids_take_the_least_bytes(
    tmp_path: Path, vocab_size: int, first_id: int, ids: str, num_inputs: int
) -> None:
    spec = TaskSpec("wide", vocab_size, 10, num_classes=3, num_inputs=num_inputs)
    layout = Layout.of(spec, first_id=first_id)
    assert layout.ids == ids
    largest = vocab_size - 1
    rows = [[first_id, largest, first_id], [largest], [first_id] * 4, [largest, largest]]
    examples = [
        Example(tuple(np.array(row) for row in rows[at : at + num_inputs]), 2)
        for at in range(0, 4, num_inputs)
    ]
    with writing(tmp_path / "data", layout) as writer:
        for split in SPLITS:
            assert writer.add_examples(split, examples) == len(examples)
    cache = open_cache(tmp_path / "data")
    size = (tmp_path / "data" / "train.tokens").stat().st_size
    assert size == 10 * np.dtype(ids).itemsize
    found = cache.examples("validation", max_length=9)
    assert len(found) == len(examples)
    for at, example in enumerate(examples):
        assert [ids.tolist() for ids in found[at].inputs] == [
            ids.tolist() for ids in example.inputs
        ]
        assert found[at].target == 2
    assert [check.problem for check in cache.verify()] == [None] * 3


@pytest.mark.parametrize("first_id", [0, 1, 65_280])
@pytest.mark.parametrize("num_inputs", [1, 2])
def test_ids_above_a_byte(tmp_path: Path, num_inputs: int, first_id: int) -> None:
    lengths = np.array([[3], [1]] if num_inputs == 1 else [[1, 2], [1, 3]], np.int64)
    tokens = np.array([0, 254, 255, 7, 7, 7, 255][: lengths.sum()], np.uint8)
    splits = {split: [Chunk(tokens, lengths, np.array([1, 0]))] for split in SPLITS}
    caches = []
    for first in (0, first_id):
        write(tmp_path / str(first), splits, layout=Layout(num_inputs, first))
        caches.append(open_cache(tmp_path / str(first)))
    examples = caches[-1].examples("train", max_length=2)
    starts = np.concatenate(([0], np.cumsum(lengths.ravel())))
    assert [ids.tolist() for at in range(2) for ids in examples[at].inputs] == [
        [int(token) + first_id for token in tokens[start:stop][:2]]
        for start, stop in pairwise(starts.tolist())
    ]
    # The same bytes with other ids are other data.
    assert len({cache.fingerprint() for cache in caches}) == (2 if first_id else 1)


SPANS = [([1, 2, 3, 4], [1, 2]), ([5, 6], [0, 0]), ([7], [0, 0]), ([8, 9, 9], [0, 2])]


def test_spans(tmp_path: Path) -> None:
    spec = TaskSpec("spans", 300, 10, target="span")
    with writing(tmp_path / "data", Layout.of(spec)) as writer:
        for split in SPLITS:
            writer.add_examples(
                split, (Example((np.array(ids),), np.array(span)) for ids, span in SPANS)
            )
    cache = open_cache(tmp_path / "data")
    assert cache.layout == Layout(ids="u2", target="span")
    examples = cache.examples("train", max_length=10)
    found = [(examples[at].inputs[0].tolist(), asked(examples, at)) for at in range(4)]
    assert found == SPANS
    assert examples[-1].inputs[0].tolist() == SPANS[-1][0]
    assert asked(examples, -1) == [0, 2]
    # What does not lie within what is left of the input cannot be asked.
    cut = cache.examples("train", max_length=2)
    gone = [IGNORED, IGNORED]
    assert [asked(cut, at) for at in range(4)] == [gone, [0, 0], [0, 0], gone]
    assert [check.problem for check in cache.verify()] == [None] * 3


SEVERAL = [
    ([1, 2, 3, 4], [[1, 2], [3, 3]]),
    ([5, 6], []),
    ([7, 8, 9], [[0, 0]]),
    ([8, 9, 9], [[0, 2], [1, 1], [1, 2]]),
]


def test_several_spans_an_example(tmp_path: Path) -> None:
    spec = TaskSpec("spans", 300, 10, target="spans", answer_length=4)
    rows = [
        Example((np.array(ids),), np.reshape(np.array(spans, np.int64), (-1, 2)))
        for ids, spans in SEVERAL
    ]
    with writing(tmp_path / "data", Layout.of(spec)) as writer:
        for split in SPLITS:
            writer.add_examples(split, rows if split != "test" else rows[:2])
    cache = open_cache(tmp_path / "data")
    examples = cache.examples("train", max_length=10)
    found = [(examples[at].inputs[0].tolist(), asked(examples, at)) for at in range(-4, 4)]
    assert found == SEVERAL * 2
    # What does not lie within what is left of the input is left out.
    cut = cache.examples("train", max_length=2)
    assert [asked(cut, at) for at in range(4)] == [[], [], [[0, 0]], [[1, 1]]]
    assert [check.problem for check in cache.verify()] == [None] * 3
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["splits"]["train"]["num_spans"] == 6


def test_a_stream_of_several_spans_is_cut_into_portions() -> None:
    rng = np.random.default_rng(0)
    lengths, counts = rng.integers(1, 9, 50), rng.integers(0, 4, 50)
    spans = rng.integers(0, 9, (counts.sum(), 2))
    whole = Chunk(rng.integers(0, 256, lengths.sum()), lengths, spans, counts)
    taken = [chunk for number in (5, 10, 35) for chunk in ChunkStream(iter([whole])).take(number)]
    assert [len(chunk) for chunk in taken] == [5, 10, 35]
    for chunk in taken:
        assert chunk.counts is not None
        assert len(chunk.targets) == chunk.counts.sum()
    stream = ChunkStream(iter([whole]))
    parts = [chunk for number in (7, 43) for chunk in stream.take(number)]
    assert np.array_equal(np.concatenate([part.targets for part in parts]), spans)


def test_choices_are_numbers(tmp_path: Path) -> None:
    spec = TaskSpec("choice", 300, 10, target="choice", candidate=299)
    with writing(tmp_path / "data", Layout.of(spec)) as writer:
        for split in SPLITS:
            writer.add_examples(split, [Example((np.array([299, 1, 299]),), 1)])
    examples = open_cache(tmp_path / "data").examples("train", max_length=10)
    assert (examples[0].inputs[0].tolist(), examples[0].target) == ([299, 1, 299], 1)


def noted(folder: Path, texts: list[str]) -> FlatCache:
    with writing(folder / "data") as writer:
        for split in SPLITS:
            writer.add(split, [Chunk(np.ones(1, np.uint8), np.array([1]), np.zeros(1, np.int64))])
            writer.note(split, {"split": split, "texts": texts})
    return open_cache(folder / "data")


def test_notes_are_part_of_the_content(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = noted(tmp_path / "a", ["caf\u00e9"]), noted(tmp_path / "b", ["tea"])
    assert first.notes("test") == {"split": "test", "texts": ["caf\u00e9"]}
    assert first.fingerprint() != second.fingerprint()
    assert [check.problem for check in first.verify()] == [None] * 3
    place = tmp_path / "a/data/test.notes"
    place.write_bytes(place.read_bytes().replace(b"texts", b"lines"))
    problems = [check.problem for check in first.verify()]
    assert problems[:2] == [None, None]
    assert "its content was changed" in str(problems[2])
    with pytest.raises(UserError, match=r"test\.notes cannot be used: its content was changed"):
        first.notes("test")
    place.unlink()
    with pytest.raises(UserError, match=r"test\.notes cannot be used"):
        open_cache(tmp_path / "a/data")


def asked(examples: FlatExamples, at: int) -> Any:
    return np.asarray(examples[at].target).tolist()


POSITIONS = [([1, 2, 3], [0, IGNORED, 4]), ([5, 6], [1, 1]), ([7], [IGNORED]), ([8, 9], [2, 3])]


@pytest.mark.parametrize(
    ("num_classes", "kind"), [(5, "i1"), (128, "i1"), (129, "i2"), (1 << 15, "i2"), (50_000, "i4")]
)
def test_classes_of_positions(tmp_path: Path, num_classes: int, kind: str) -> None:
    spec = TaskSpec("positions", 300, 10, num_classes=num_classes, target="tokens")
    layout = Layout.of(spec)
    assert (layout.target, layout.targets) == ("tokens", kind)
    rows = [*POSITIONS, ([4], [num_classes - 1])]
    with writing(tmp_path / "data", layout) as writer:
        for split in SPLITS:
            writer.add_examples(
                split, (Example((np.array(ids),), np.array(classes)) for ids, classes in rows)
            )
    cache = open_cache(tmp_path / "data")
    for max_length in (10, 2, 1):
        examples = cache.examples("test", max_length=max_length)
        found = [
            (examples[at].inputs[0].tolist(), asked(examples, at)) for at in range(-1, len(rows))
        ]
        cut = [(ids[:max_length], classes[:max_length]) for ids, classes in rows]
        assert found == [cut[-1], *cut]
    assert [check.problem for check in cache.verify()] == [None] * 3


def test_what_is_asked_is_part_of_the_content(tmp_path: Path) -> None:
    ones, lengths = np.ones(4, np.uint8), np.array([1, 1, 1, 1])
    fingerprints = set()
    for at, (layout, targets) in enumerate(
        [
            (Layout(), np.zeros(4, np.int64)),
            (Layout(target="span"), np.zeros((4, 2), np.int64)),
            (Layout(target="tokens", targets="i1"), np.zeros(4, np.int64)),
            (Layout(target="tokens", targets="i2"), np.zeros(4, np.int64)),
            (Layout(ids="u2"), np.zeros(4, np.int64)),
            (Layout(target="choice"), np.zeros(4, np.int64)),
            (Layout(target="spans"), np.zeros((4, 2), np.int64)),
        ]
    ):
        counts = np.ones(4, np.int64) if layout.target == "spans" else None
        splits = {split: [Chunk(ones, lengths, targets, counts)] for split in SPLITS}
        write(tmp_path / str(at), splits, layout=layout)
        fingerprints.add(open_cache(tmp_path / str(at)).fingerprint())
    assert len(fingerprints) == 7


@pytest.mark.parametrize(
    ("layout", "broken", "why"),
    [
        (Layout(), Chunk(np.array([256]), np.array([1]), np.array([0])), "id 256 is above 255"),
        (Layout(), Chunk(np.array([-1]), np.array([1]), np.array([0])), "id -1 is below 0"),
        (
            Layout(target="tokens", targets="i1"),
            Chunk(np.array([1]), np.array([1]), np.array([128])),
            "target 128 is above 127",
        ),
        (
            Layout(target="tokens", targets="i1"),
            Chunk(np.array([1, 2]), np.array([2]), np.array([1])),
            "targets of shape",
        ),
        (
            Layout(target="span"),
            Chunk(np.array([1, 2]), np.array([2]), np.array([1])),
            "targets of shape",
        ),
        (
            Layout(target="spans"),
            Chunk(np.array([1, 2]), np.array([2]), np.array([[0, 1]])),
            "counts are of several spans",
        ),
        (
            Layout(target="spans"),
            Chunk(np.array([1, 2]), np.array([2]), np.array([[0, 1]]), np.array([2])),
            "targets of shape",
        ),
        (
            Layout(),
            Chunk(np.array([1]), np.array([1]), np.array([0]), np.array([1])),
            "counts are of several spans",
        ),
    ],
)
def test_what_does_not_fit_the_layout(
    tmp_path: Path, layout: Layout, broken: Chunk, why: str
) -> None:
    with pytest.raises(AssertionError, match=why):
        write(tmp_path / "data", {"train": [broken]}, layout=layout)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("target", ["class", "span", "tokens"])
def test_a_stream_is_cut_into_portions(target: str) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 50)
    tokens = rng.integers(0, 256, lengths.sum())
    shape = {"class": (50,), "span": (50, 2), "tokens": (len(tokens),)}[target]
    targets = rng.integers(0, 9, shape)
    ends = np.cumsum(lengths)
    pieces = []
    for start, stop in pairwise([0, 7, 8, 30, 50]):
        at = slice(ends[start] - lengths[start], ends[stop - 1])
        of_targets = at if target == "tokens" else slice(start, stop)
        pieces.append(Chunk(tokens[at], lengths[start:stop], targets[of_targets]))
    stream = ChunkStream(iter(pieces))
    taken = [list(stream.take(number)) for number in (5, 10, 35)]
    assert [sum(map(len, portion)) for portion in taken] == [5, 10, 35]
    every = [chunk for portion in taken for chunk in portion]
    for name, expected in (("tokens", tokens), ("lengths", lengths), ("targets", targets)):
        assert np.array_equal(np.concatenate([getattr(one, name) for one in every]), expected)


# Caches of the format before.


def as_before(place: Path) -> None:
    """Rewrite the manifest in the form that it had in format 2."""

    def change(manifest: Any) -> None:
        layout, info = manifest.pop("layout"), manifest.pop("info")
        manifest["format"] = 2
        manifest |= {name: layout[name] for name in ("num_inputs", "first_id")}
        details = info["details"] | {"note": info["note"]}
        options = manifest.pop("options")
        manifest["facts"] = {"source": info["source"], "options": options, "details": details}
        manifest["facts"]["unofficial"] = "nobody knows them"

    change_manifest(place, change)


@pytest.mark.parametrize("layout", [Layout(), Layout(first_id=1)])
def test_a_cache_of_the_format_before_is_read(tmp_path: Path, layout: Layout) -> None:
    place = tmp_path / "data"
    write(place, {split: chunks(rows) for split, rows in ROWS.items()}, INFO, layout)
    fingerprint = open_cache(place).fingerprint()
    as_before(place)
    cache = open_cache(place)
    assert cache.fingerprint() == fingerprint
    assert cache.layout == layout
    assert cache.info == replace(INFO, warning="nobody knows them")
    assert cache.manifest["options"] == OPTIONS
    assert [check.problem for check in cache.verify()] == [None] * 3


def test_a_cache_of_the_format_before_with_its_digest(tmp_path: Path) -> None:
    # Written by the format before, of these rows: the SHA-256 of a content is for ever.
    write_rows(tmp_path / "data")
    expected = "1e243cd44a978b864445edaf903614a3e5718b83036d19cfc3f2e5a41bf671c5"
    assert open_cache(tmp_path / "data").fingerprint() == expected


def test_exists(tmp_path: Path, place: Path) -> None:
    assert FlatCache.exists(place)
    assert not FlatCache.exists(tmp_path / "nothing")
    (place / "manifest.json").unlink()
    # Broken, but there: to be refused, not to be written over.
    assert FlatCache.exists(place)


# Damage.


@pytest.mark.parametrize("name", NAMES)
def test_cut_short(place: Path, name: str) -> None:
    path = place / name
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(place, naming=name)


@pytest.mark.parametrize("name", NAMES)
def test_missing_file(place: Path, name: str) -> None:
    (place / name).unlink()
    assert_refused(place, naming=name)


def edit(path: Path) -> os.stat_result:
    """Change a byte of a file and return its status before."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    return status


@pytest.mark.parametrize("name", NAMES)
def test_edited_in_place(place: Path, name: str) -> None:
    status = edit(place / name)
    # The clock of the file system may be coarser than this test is fast.
    os.utime(place / name, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert_refused(place, naming=name)


@pytest.mark.parametrize("name", NAMES)
def test_touched_but_unchanged(place: Path, name: str) -> None:
    os.utime(place / name, ns=(1, 1))
    check_sound(place)


@pytest.mark.parametrize("name", NAMES)
def test_verify_finds_an_edit_that_kept_the_time(place: Path, name: str) -> None:
    status = edit(place / name)
    os.utime(place / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    problems = {check.what.split(":")[0]: check.problem for check in open_cache(place).verify()}
    damaged = name.split(".")[0]
    assert {split for split, problem in problems.items() if problem} == {damaged}
    assert str(place / name) in str(problems[damaged])
    assert REMEDY in str(problems[damaged])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [b"", b"longer than it was, whatever it was" * 80, None])
def test_examples_of_what_changed_while_it_was_open(
    place: Path, name: str, change: bytes | None
) -> None:
    cache = open_cache(place)
    if change is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(change)
    damaged = name.split(".")[0]
    for split in SPLITS:
        if split == damaged:
            with pytest.raises(UserError, match="delete the folder"):
                cache.examples(split, max_length=9)
        else:
            assert rows_of(cache, split) == ROWS[split]


def test_verify_finds_what_changes_while_it_is_open(place: Path) -> None:
    cache = open_cache(place)
    (place / "test.labels").unlink()
    problems = {check.what: check.problem for check in cache.verify()}
    assert "test.labels" in str(problems["test: 1 examples"])
    assert problems["train: 5 examples"] is None


def without(*keys: str) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        del manifest[keys[-1]]

    return change


def setting(value: Any, *keys: str) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return change


def change_manifest(place: Path, change: Callable[[Any], None]) -> None:
    """Change the manifest so that its checksum is right again."""
    path = place / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["check"] = check_of(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        without("format"),
        setting(FORMAT - 2, "format"),
        # What the format before had is not there.
        setting(FORMAT - 1, "format"),
        setting(FORMAT + 1, "format"),
        without("layout"),
        setting(3, "layout"),
        setting({}, "layout"),
        setting("u8", "layout", "ids"),
        setting("u2", "layout", "ids"),
        setting(["u1"], "layout", "ids"),
        setting("i4", "layout", "targets"),
        setting("span", "layout", "target"),
        setting("tokens", "layout", "target"),
        setting("words", "layout", "target"),
        setting(1, "layout", "more"),
        without("layout", "first_id"),
        setting(-1, "layout", "first_id"),
        setting(65_281, "layout", "first_id"),
        setting("1", "layout", "first_id"),
        without("layout", "num_inputs"),
        setting(0, "layout", "num_inputs"),
        setting(2, "layout", "num_inputs"),
        setting("one", "layout", "num_inputs"),
        setting("1", "layout", "num_inputs"),
        setting(1.0, "layout", "num_inputs"),
        setting([], "layout", "num_inputs"),
        setting(10**400, "layout", "num_inputs"),
        without("info"),
        setting(3, "info"),
        without("info", "source"),
        setting(3, "info", "warning"),
        setting([], "info", "details"),
        setting({"a": 1}, "info", "details"),
        without("splits"),
        setting([], "splits"),
        without("splits", "test"),
        without("splits", "test", "num_examples"),
        setting(2, "splits", "test", "num_examples"),
        setting(-1, "splits", "test", "num_examples"),
        setting("1", "splits", "test", "num_examples"),
        without("splits", "test", "files"),
        without("splits", "test", "files", "labels"),
        without("splits", "test", "files", "labels", "sha256"),
        setting("8", "splits", "test", "files", "labels", "bytes"),
        setting(None, "splits", "test", "files", "labels", "mtime_ns"),
    ],
)
def test_manifest_of_a_wrong_form(place: Path, change: Callable[[Any], None]) -> None:
    change_manifest(place, change)
    assert_refused(place, naming="manifest.json")


@pytest.mark.parametrize(
    "change",
    [
        without("check"),
        setting("0" * 64, "check"),
        setting(None, "check"),
        # What was written down about the origin goes into records.
        setting("the real ones", "info", "source"),
        setting("", "info", "note"),
        without("info", "details", "number"),
        setting("1", "info", "more"),
        setting({"version": 2}, "options"),
        setting(1, "more"),
        setting("0" * 64, "splits", "test", "files", "tokens", "sha256"),
        setting(3, "splits", "test", "num_tokens"),
    ],
)
def test_edited_manifest(place: Path, change: Callable[[Any], None]) -> None:
    path = place / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    assert_refused(place, naming="manifest.json")


def test_manifest_of_other_files(place: Path) -> None:
    change_manifest(place, setting("0" * 64, "splits", "train", "files", "tokens", "sha256"))
    # The time of the file is that in the manifest, so that opening does not read it.
    problems = [check.problem for check in open_cache(place).verify()]
    assert "checksum" in str(problems[0])
    assert problems[1:] == [None, None]
    change_manifest(place, setting(1, "splits", "train", "files", "tokens", "bytes"))
    assert_refused(place, naming="manifest.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"{}"])
def test_broken_manifest(place: Path, content: bytes) -> None:
    (place / "manifest.json").write_bytes(content)
    assert_refused(place, naming="manifest.json")


def test_manifest_cut_short(place: Path) -> None:
    path = place / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert_refused(place, naming="manifest.json")


def test_missing_manifest(place: Path) -> None:
    (place / "manifest.json").unlink()
    assert_refused(place, naming="manifest.json")


# Writers that meet, die or find no room.


def test_two_writers_at_once(tmp_path: Path) -> None:
    place = tmp_path / "data"
    barrier = threading.Barrier(2, timeout=30)
    failed: list[Exception] = []

    def meeting(rows: Rows) -> Iterator[Chunk]:
        # In step, so that both come to the end with the place still free.
        barrier.wait()
        yield from chunks(rows)
        barrier.wait()

    def work() -> None:
        try:
            write(place, {split: meeting(rows) for split, rows in ROWS.items()}, INFO)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    check_sound(place)
    assert names_in(tmp_path) == {"data"}


def test_the_second_writer_leaves_the_first_ones_cache_alone(place: Path) -> None:
    before = (place / "manifest.json").stat()
    cache = open_cache(place)
    write_rows(place)
    assert (place / "manifest.json").stat() == before
    assert rows_of(cache, "train") == ROWS["train"]
    assert names_in(place.parent) == {place.name}


def test_a_broken_cache_is_not_taken_for_a_second_writers(place: Path) -> None:
    (place / "manifest.json").unlink()
    with pytest.raises(UserError, match="cannot write prepared data") as caught:
        write_rows(place)
    assert str(place) in str(caught.value)
    assert names_in(place.parent) == {place.name}


def test_error_while_the_examples_are_made(tmp_path: Path) -> None:
    def failing() -> Iterator[Chunk]:
        yield chunk(ROWS["train"])
        raise UserError("the source is broken")

    splits: dict[Split, Iterator[Chunk]] = {
        "train": chunks(ROWS["train"]),
        "validation": failing(),
        "test": iter(()),
    }
    with pytest.raises(UserError, match="the source is broken"):
        write(tmp_path / "data", splits, INFO)
    assert names_in(tmp_path) == set()


KILLED = """
    import os, sys
    from pathlib import Path
    import numpy as np
    from lra_tasks.cached_task import Chunk
    from lra_tasks._store_writer import writing

    def chunks():
        yield Chunk(np.ones(3, np.uint8), np.array([3]), np.array([0]))
        os._exit(9)

    with writing(Path(sys.argv[1])) as writer:
        writer.add("train", chunks())
"""


def test_killed_writer(tmp_path: Path) -> None:
    place = tmp_path / "data"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(place)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 9
    assert not FlatCache.exists(place)
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    write_rows(place)
    check_sound(place)
    # It may belong to a writer that is alive; after a day it does not.
    assert left.exists()
    os.utime(left, ns=(1, 1))
    write_rows(tmp_path / "other")
    assert names_in(tmp_path) == {"data", "other"}


STOPPED = """
    import signal, sys
    from pathlib import Path
    import numpy as np
    from lra_tasks._store import Chunk
    from lra_tasks._store_writer import writing

    def chunks():
        yield Chunk(np.ones(3, np.uint8), np.array([3]), np.array([0]))
        print("half done", flush=True)
        signal.pause()

    with writing(Path(sys.argv[1])) as cache:
        cache.add("test", [])
        cache.add("train", chunks())
"""


def test_killed_from_outside(tmp_path: Path) -> None:
    place = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STOPPED), str(place)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half done\n"
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    assert not FlatCache.exists(place)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert not FlatCache.exists(place)
    write_rows(place)
    check_sound(place)
    assert names_in(tmp_path) == {"data", left.name}


def test_only_what_writers_abandoned_is_removed(tmp_path: Path) -> None:
    seconds = (tmp_path.stat().st_mtime - 90_000, tmp_path.stat().st_mtime - 80_000)
    made = {
        ".old.1.a.partial": seconds[0],
        ".fresh.1.a.partial": seconds[1],
        "old.partial": seconds[0],
        ".old.1.a": seconds[0],
        "old-data": seconds[0],
    }
    for name, time in made.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
        os.utime(tmp_path / name, (time, time))
    write_rows(tmp_path / "data")
    assert names_in(tmp_path) == {*made, "data"} - {".old.1.a.partial"}


# Three files a split and the manifest are flushed.
@pytest.mark.parametrize("succeeding", [0, 1, 2, 4, 9])
def test_disk_full_when_flushing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, succeeding: int
) -> None:
    fsync, called = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal called
        called += 1
        if called > succeeding:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    check_refused_for_space(tmp_path)
    assert called == succeeding + 1


def check_refused_for_space(folder: Path) -> None:
    place = folder / "cache" / "data"
    with pytest.raises(UserError, match="free some space") as caught:
        write_rows(place)
    assert str(place) in str(caught.value)
    assert "cache_dir=" in str(caught.value)
    assert names_in(folder / "cache") == set()


def test_disk_full_when_writing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may have this many bytes; Python ignores the signal, so that the write fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="free some space"):
            write_rows(tmp_path / "cache" / "data")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path / "cache") == set()


@pytest.mark.parametrize("below", ["cache", "cache/deeper"])
def test_cache_folder_cannot_be_made(tmp_path: Path, below: str) -> None:
    # A file stands where the folder should be.
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="cache_dir="):
        write_rows(tmp_path / below / "data")


# Damage of every kind.

MANY = pytest.mark.parametrize("number", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])


def opened(place: Path) -> FlatCache | None:
    """Open a cache; None if it is refused with a text that names it."""
    try:
        return open_cache(place)
    except UserError as error:
        if str(place) not in str(error):
            raise
        return None


@MANY
def test_damaged_manifests(place: Path, number: int) -> None:
    path = place / "manifest.json"
    sound = json.loads(path.read_text())
    compact, reordered = json.dumps(sound), json.dumps(dict(reversed(sound.items())))
    accepted = 0
    for content in mutants([path.read_bytes(), compact.encode(), reordered.encode()], number):
        path.write_bytes(content)
        cache = opened(place)
        accepted += cache is not None
        # Blanks may have changed, and nothing else.
        assert cache is None or cache.manifest == json.loads(content) == sound
    assert accepted > number // 100


@MANY
def test_damaged_manifests_with_a_right_checksum(place: Path, number: int) -> None:
    # Not an accident any more; but whoever does that gets an error, not a traceback.
    path = place / "manifest.json"
    compact = json.dumps(json.loads(path.read_text())).encode()
    parsed = accepted = 0
    for content in mutants([compact], number):
        try:
            manifest = json.loads(content)
            manifest["check"] = check_of(manifest)
        except (ValueError, TypeError, AttributeError):
            continue
        parsed += 1
        path.write_text(json.dumps(manifest))
        cache = opened(place)
        if cache is None:
            continue
        accepted += 1
        assert len(cache.fingerprint()) == 64
        for check in cache.verify():
            assert check.problem is None or str(place) in check.problem
        for split in SPLITS:
            # Another first id, say, gives other tokens, but no other number of them.
            with suppress(UserError):
                examples = cache.examples(split, max_length=1000)
                found = [examples[at].inputs for at in range(len(examples))]
                assert len(found) == manifest["splits"][split]["num_examples"]
    assert parsed > number // 10
    assert accepted > number // 100


@MANY
def test_damaged_files(place: Path, number: int) -> None:
    contents = {name: (place / name).read_bytes() for name in NAMES}
    status = {name: (place / name).stat() for name in NAMES}
    damaged = mutants(list(contents.values()), number)
    accepted = 0
    for at, content in enumerate(damaged):
        name = NAMES[at % len(NAMES)]
        (place / name).write_bytes(content)
        # As if it had been written at another time.
        os.utime(place / name, ns=(1, 1))
        is_sound = content == contents[name]
        assert (opened(place) is not None) == is_sound
        accepted += is_sound
        if len(content) == len(contents[name]) and not is_sound:
            # With its old time it is not read on opening; what is read of it may be wrong, but
            # nothing falls over, and verifying finds it.
            os.utime(place / name, ns=(status[name].st_atime_ns, status[name].st_mtime_ns))
            cache = open_cache(place)
            for split in SPLITS:
                with suppress(UserError):
                    rows_of(cache, split)
            problems = [check.what.split(":")[0] for check in cache.verify() if check.problem]
            assert problems == [name.split(".")[0]]
        (place / name).write_bytes(contents[name])
        os.utime(place / name, ns=(status[name].st_atime_ns, status[name].st_mtime_ns))
    assert accepted > 0
    check_sound(place)
