"""Examples as people see them: text, pictures, targets of each kind, lengths, files."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lra_bench import preview
from lra_bench.console import Screen
from lra_bench.errors import UserError
from lra_bench.types import IGNORED, Example, Examples, Progress, Split, Task, TaskSpec

CLASSES = TaskSpec("plain", 256, 64, 10)
SPANS = TaskSpec("spans", 256, 64, target="span")
CHOICE = TaskSpec("choice", 256, 64, target="choice", candidate=200, context=201)
SEVERAL = TaskSpec("several", 256, 64, target="spans", context=201, answer_length=9)
TOKENS = TaskSpec("tokens", 256, 64, 10, target="tokens")


class Plain(Task):
    """One example that says what it is told to say."""

    has_pictures = True

    def __init__(self, picture: object = None, text: str = "") -> None:
        self.spec = CLASSES
        self._picture, self._text = picture, text

    def examples(self, split: Split) -> Examples:
        return [Example((np.arange(1, 5),), 0)]

    def fingerprint(self) -> str:
        return ""

    def decode(self, example: Example) -> str:
        return self._text

    def picture(self, example: Example) -> np.ndarray | None:
        return self._picture  # type: ignore[return-value]


class Asking(Task):
    """Examples of any kind of target, as ids."""

    def __init__(self, spec: TaskSpec, *examples: Example) -> None:
        self.spec, self._examples = spec, examples

    def examples(self, split: Split) -> Examples:
        return self._examples

    def fingerprint(self) -> str:
        return ""


def shown(task: Task, screen: Screen, number: int = 1) -> str:
    return preview.as_text(preview.select(task, task.examples("test"), "test", 0, number), screen)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((3, 3)), np.zeros(9, np.uint8), np.zeros((0, 3), np.uint8), [[1]], "x"],
    ids=["float", "flat", "empty", "list", "text"],
)
def test_what_is_no_picture_is_a_clear_line(picture: object) -> None:
    with pytest.raises(UserError, match="must be an array of uint8, shape"):
        shown(Plain(picture), Screen())


def test_colors_are_those_of_the_pixels() -> None:
    picture = np.array([[0, 255, 255], [128, 8, 8], [7, 7, 7]], np.uint8)
    full = shown(Plain(picture), Screen(colors="24bit")).splitlines()
    assert full[0] == (
        "\x1b[38;2;0;0;0;48;2;128;128;128m▀\x1b[38;2;255;255;255;48;2;8;8;8m▀▀\x1b[0m"
    )
    # A row that is missing is black.
    assert full[1] == "\x1b[38;2;7;7;7;48;2;0;0;0m▀▀▀\x1b[0m"
    few = shown(Plain(picture), Screen(colors="256")).splitlines()
    assert few[0] == "\x1b[38;5;16;48;5;244m▀\x1b[38;5;231;48;5;232m▀▀\x1b[0m"
    assert shown(Plain(picture), Screen(colors="24bit", encoding="ascii")).isascii()


def test_a_wide_picture_shrinks() -> None:
    picture = np.zeros((256, 256), np.uint8)
    picture[:, 128:] = 255
    lines = shown(Plain(picture), Screen(width=100)).splitlines()
    width = 86
    assert {len(line) for line in lines[:40]} == {width}
    assert set(lines[0]) <= set(" @=+-*")
    assert lines[0][0] == " "
    assert lines[0][-1] == "@"


def test_a_text_cannot_act_on_a_terminal() -> None:
    said = shown(Plain(text="a\x1b]0;title\x07\u202e"), Screen())
    assert said.startswith("a\\x1b]0;title\\x07\\u202e\n\n")


def test_a_text_is_broken_for_a_terminal_alone() -> None:
    text = "some words " * 30
    assert text in shown(Plain(text=text), Screen(width=40))
    narrow = shown(Plain(text=text), Screen(width=40, is_terminal=True))
    assert max(map(len, narrow.split("\n\n")[0].splitlines())) <= 40


# Lengths.


def overview(lengths: Sequence[int], max_length: int = 100, screen: Screen | None = None) -> str:
    statistics = preview.Statistics(
        np.array(lengths, np.int64), {0: len(lengths)}, np.array([], np.int64)
    )
    spec = TaskSpec("x", 9, max_length, 2)
    return preview.overview_of(statistics, "test", spec, screen or Screen())


@pytest.mark.parametrize("seed", range(20))
def test_every_example_is_in_one_bar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    high = int(10 ** rng.uniform(0.4, 6))
    lengths = rng.integers(1, high + 1, 500)
    lines = overview(lengths.tolist(), high).splitlines()
    bars = [line.replace(",", "").split() for line in lines if " to " in line and line[0] == " "]
    assert 1 <= len(bars) <= 10
    total = 0
    for start, _, stop, *drawn, number in bars:
        inside = int(((lengths >= int(start)) & (lengths <= int(stop))).sum())
        assert inside == int(number)
        assert bool(drawn) == (inside > 0)
        total += inside
    assert total == 500
    assert max(map(len, lines)) <= 100


def test_what_is_cut_is_counted() -> None:
    assert "3 (75.0%) have max_length=100 tokens" in overview([7, 100, 100, 100])
    assert "none is cut (max_length=100)" in overview([7, 8])
    assert overview([]) == "test has no examples"
    assert "4 test examples, all of 9 tokens" in overview([9] * 4)
    assert overview([1, 50], screen=Screen(encoding="ascii")).isascii()


def test_a_label_and_its_number_stay_together() -> None:
    statistics = preview.Statistics(
        np.full(90, 9), {label: 1000 + label for label in range(50)}, np.array([], np.int64)
    )
    text = preview.overview_of(statistics, "test", TaskSpec("x", 9, 9, 50), Screen(width=80))
    lines = text.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    found = [pair for line in lines for pair in re.findall(r"(\d+): 1,(\d+)", line)]
    assert [(int(label), int(number)) for label, number in found] == [(n, n) for n in range(50)]


def test_of_many_labels_the_rare_ones_are_counted_together() -> None:
    counts = {label: label + 1 for label in range(60)}
    statistics = preview.Statistics(np.full(9, 9), counts, np.array([], np.int64))
    text = " ".join(preview.overview_of(statistics, "test", CLASSES, Screen()).split())
    assert "labels 10: 11, 11: 12" in text
    assert text.endswith("59: 60, and 10 rarer ones")


def test_lengths_are_taken_where_they_are_known() -> None:
    class Known(list[Example]):
        def lengths(self) -> np.ndarray:
            return np.array([5, 6])

    rows = [Example((np.arange(3), np.arange(4)), 1), Example((np.arange(2), np.arange(1)), 0)]
    assert preview.statistics_of(rows, CLASSES).lengths.tolist() == [4, 2]
    assert preview.statistics_of(Known(rows), CLASSES).lengths.tolist() == [5, 6]
    assert preview.statistics_of(rows, CLASSES).label_counts == {0: 1, 1: 1}


def test_counting_tells_how_far_it_is() -> None:
    seen: list[Progress] = []
    preview.statistics_of([Example((np.arange(3),), 1)] * 2500, CLASSES, seen.append)
    assert [(progress.done, progress.total) for progress in seen] == [(1000, 2500), (2000, 2500)]


# Each kind of target.


def test_a_span_is_shown_with_what_it_says() -> None:
    task = Asking(SPANS, Example((np.arange(10, 20),), np.array([2, 4])))
    said = shown(task, Screen())
    assert said == (
        "10 11 12 13 14 15 16 17 18 19\n\nanswer: 12 13 14\n\n"
        "answer at tokens 2 to 4, length 10 tokens, test example 0"
    )


def test_labels_of_tokens_are_shown_where_there_are_any() -> None:
    target = np.array([3, IGNORED, 0, IGNORED])
    said = shown(Asking(TOKENS, Example((np.arange(1, 5),), target)), Screen())
    assert said == (
        "1 2 3 4\n\nlabels: 3 . 0 .\n\nlabels at 2 of 4 tokens, length 4 tokens, test example 0"
    )


def test_candidates_and_several_answers_are_shown() -> None:
    tokens = np.array([7, 200, 1, 2, 200, 3, 201, 5, 6, 5, 6])
    said = shown(Asking(CHOICE, Example((tokens,), 1)), Screen())
    assert said.endswith("answer: 3\n\ncandidate 2 of 2, length 11 tokens, test example 0")
    said = shown(Asking(CHOICE, Example((tokens,), 0)), Screen())
    assert "answer: 1 2\n\ncandidate 1 of 2," in said
    # A text that stands twice is said once.
    spans = Example((tokens,), np.array([[7, 8], [9, 10], [7, 7]]))
    said = shown(Asking(SEVERAL, spans), Screen())
    assert "answer: 5 6, 5\n\nanswers at 3 places, length 11" in said
    none = Example((tokens,), np.zeros((0, 2), np.int64))
    assert "answer: none\n\nanswers at 0 places" in shown(Asking(SEVERAL, none), Screen())
    statistics = preview.statistics_of([spans, none], SEVERAL)
    assert statistics.answer_lengths.tolist() == [2, 2, 1]
    statistics = preview.statistics_of([Example((tokens,), at) for at in (1, 1, 0)], CHOICE)
    assert statistics.label_counts == {2: 2, 1: 1}


def test_answers_of_each_kind_are_counted() -> None:
    spans = [Example((np.arange(9),), np.array([0, last])) for last in (0, 1, 8)]
    statistics = preview.statistics_of(spans, SPANS)
    assert statistics.answer_lengths.tolist() == [1, 2, 9]
    assert statistics.label_counts == {}
    said = preview.overview_of(statistics, "test", SPANS, Screen())
    assert said == ("3 test examples, all of 9 tokens\nanswers [tokens]: 1 to 9, median 2, mean 4")
    tokens = [Example((np.arange(3),), np.array(row)) for row in ([1, 1, IGNORED], [0, 1, 1])]
    statistics = preview.statistics_of(tokens, TOKENS)
    assert statistics.label_counts == {0: 1, 1: 4}
    assert len(statistics.answer_lengths) == 0
    assert preview.overview_of(statistics, "test", TOKENS, Screen()).endswith("labels  0: 1, 1: 4")


@pytest.mark.parametrize(
    ("spec", "target", "caption"),
    [
        (CLASSES, 7, "0: label 7"),
        (SPANS, np.array([0, 1]), "0: answer at tokens 0 to 1"),
        (TOKENS, np.array([1, IGNORED]), "0: labels at 1 of 2 tokens"),
    ],
    ids=["class", "span", "tokens"],
)
def test_a_picture_has_its_target_below_it(
    spec: TaskSpec, target: int | np.ndarray, caption: str
) -> None:
    picture = np.zeros((2, 2), np.uint8)
    task = Plain(picture)
    task.spec = spec
    examples = [Example((np.arange(2),), target)] * 2
    selection = preview.Selection(task, "test", range(2), examples, [picture] * 2)
    assert caption in preview.as_text(selection, Screen())
    sheet = np.asarray(Image.open(io.BytesIO(preview.as_sheet(selection))))
    assert sheet.shape == (148 + 6, 2 * 134 + 6)


# Files.


def test_the_suffix_says_what_is_saved(tmp_path: Path) -> None:
    for name in ("sheet.gif", "sheet", "sheet.txt.gz"):
        with pytest.raises(UserError, match=r"must end in \.png \(pictures\) or \.txt"):
            preview.check_target(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png is a folder; name a file"):
        preview.check_target(tmp_path / "folder.png")
    with pytest.raises(UserError, match=r"cannot write --save .*missing/x\.txt: No such file"):
        preview.check_target(tmp_path / "missing/x.txt")
    preview.check_target(tmp_path / "fine.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sheet.png"
    path.write_bytes(b"old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="the disk is full; name another file"):
            preview.save(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["sheet.png"]


def test_of_a_corpus_nothing_is_asked() -> None:
    spec = TaskSpec("corpus", 257, 8, 1, is_corpus=True)
    examples = [Example((np.arange(1, 5),), 0)] * 3
    assert preview.target_in_words(spec, examples[0]) == "nothing is asked"
    statistics = preview.statistics_of(examples, spec)
    assert "label" not in preview.overview_of(statistics, "train", spec, Screen())
