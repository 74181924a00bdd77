"""Questions about texts: pieces, another order, and answers judged over all texts of a question."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_questions import put_triviaqa, put_wikihop, trivia_parts, trivia_row, wikihop_rows

from lra_bench.errors import UserError
from lra_bench.types import Answers, DrawnAnew, Example, Judged
from lra_tasks import _reading
from lra_tasks._reading import BLANK, CANDIDATE, CONTEXT, PASSAGE, ids_of, sequence_of, text_of
from lra_tasks.triviaqa import TriviaQA
from lra_tasks.wikihop import WikiHop


def wikihop(folder: Path, **options: Any) -> WikiHop:
    if not (folder / "data").exists():
        (folder / "data").mkdir()
        put_wikihop(folder / "data")
    return WikiHop(
        data_dir=folder / "data", cache_dir=folder / "cache", num_validation=4, **options
    )


def triviaqa(folder: Path, **options: Any) -> TriviaQA:
    if not (folder / "data").exists():
        (folder / "data").mkdir()
        put_triviaqa(folder / "data")
    options = {"num_validation": 3, **options}
    return TriviaQA(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def test_a_sequence() -> None:
    tokens, head = sequence_of(ids_of("q\u00e9?"), ["ab", "c"], ["x", "yz"])
    assert head == 10
    assert tokens[:4].tolist() == [114, 196, 170, 64]
    assert tokens[4:].tolist() == [
        *(CANDIDATE, 98, 99, CANDIDATE, 100, CONTEXT, 121, PASSAGE, 122, 123),
    ]
    assert text_of(tokens) == "q\u00e9?\n- ab\n- c\n\nx\n\nyz"
    assert text_of(np.array([98, BLANK, 99])) == "a____b"
    assert min(CANDIDATE, CONTEXT, PASSAGE, BLANK) > 256
    assert len(_reading.SYMBOL_BYTES) == _reading.VOCAB_SIZE


def parts_of(example: Example) -> tuple[str, list[str], list[str]]:
    """Return the question, the candidates and the passages of an example of one piece."""
    (tokens,) = example.inputs
    at = int(np.flatnonzero(tokens == CONTEXT)[0])

    def split(ids: Any, symbol: int) -> list[str]:
        places = [-1, *np.flatnonzero(ids == symbol), len(ids)]
        return [text_of(ids[a + 1 : b]) for a, b in pairwise(places)]

    question, *candidates = split(tokens[:at], CANDIDATE)
    return question, candidates, split(tokens[at + 1 :], PASSAGE)


def test_the_order_is_drawn_in_training_alone(tmp_path: Path) -> None:
    examples = wikihop(tmp_path).examples("train")
    assert isinstance(examples, DrawnAnew)
    orders, passages_seen = set(), set()
    for index in range(len(examples)):
        still = examples[index]
        question, candidates, passages = parts_of(still)
        for step in range(6):
            drawn = examples.draw(index, seed=0, step=step)
            again = examples.draw(index, seed=0, step=step)
            assert np.array_equal(drawn.inputs[0], again.inputs[0])
            other_question, others, other_passages = parts_of(drawn)
            assert other_question == question
            assert sorted(others) == sorted(candidates)
            assert sorted(other_passages) == sorted(passages)
            assert others[int(drawn.target)] == candidates[int(still.target)]
            assert len(drawn.inputs[0]) == len(still.inputs[0])
            orders.add(tuple(map(candidates.index, others)))
            passages_seen.add(tuple(map(passages.index, other_passages)))
    assert len(orders) == 6
    assert len(passages_seen) > 6
    assert parts_of(examples[0]) == parts_of(examples[0])


def test_a_long_text_is_read_in_pieces_behind_the_whole_question(tmp_path: Path) -> None:
    whole = wikihop(tmp_path).examples("test")
    for max_pieces in (1, 2, 50):
        pieces = wikihop(tmp_path, max_length=80, max_pieces=max_pieces).examples("test")
        for at in range(len(whole)):
            (tokens,) = whole[at].inputs
            head = int(np.flatnonzero(tokens == CONTEXT)[0]) + 1
            inputs = pieces[at].inputs
            assert all(np.array_equal(one[:head], tokens[:head]) for one in inputs)
            assert all(head < len(one) <= 80 for one in inputs)
            read = np.concatenate([one[head:] for one in inputs])
            assert np.array_equal(read, tokens[head:][: len(read)])
            needed = -(-(len(tokens) - head) // (80 - head))
            assert len(inputs) == min(needed, max_pieces)
            assert pieces[at].target == whole[at].target
            drawn = pieces.draw(at, seed=1, step=2)  # type: ignore[attr-defined]
            assert list(map(len, drawn.inputs)) == list(map(len, inputs))


def test_a_length_without_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.max_length=30 leaves no room for the text: in wik"):
        wikihop(tmp_path, max_length=30).examples("test")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"task\.max_length=5 leaves no room.*choose at least"):
        triviaqa(tmp_path / "other", max_length=5).examples("test")


def test_spans_move_with_their_pieces(tmp_path: Path) -> None:
    whole = triviaqa(tmp_path).examples("test")
    texts = {text_of(tokens) for tokens in spans_of(whole)}
    assert {text.lower() for text in texts} == {"york"}
    pieces = triviaqa(tmp_path, max_length=60, max_pieces=9).examples("test")
    assert len(pieces) > len(whole)
    assert {text_of(tokens) for tokens in spans_of(pieces)} <= texts
    # Only what a cut divides is lost.
    assert len(spans_of(whole)) - 2 <= len(spans_of(pieces)) <= len(spans_of(whole))
    lengths = [len(pieces[at].inputs[0]) for at in range(len(pieces))]
    assert pieces.lengths().tolist() == lengths  # type: ignore[attr-defined]
    assert max(lengths) == 60
    first = triviaqa(tmp_path, max_length=60, max_pieces=1).examples("test")
    assert len(first) == len(whole)
    # What has no answer teaches nothing.
    training = triviaqa(tmp_path, max_length=60, max_pieces=9).examples("train")
    assert all(len(np.asarray(training[at].target)) for at in range(len(training)))


def spans_of(examples: Any) -> list[Any]:
    return [
        examples[at].inputs[0][first : last + 1]
        for at in range(len(examples))
        for first, last in np.asarray(examples[at].target).tolist()
    ]


def answering(examples: Any, answers: dict[int, tuple[str, float]]) -> Answers:
    """Return answers by example: a text in it, and how sure; none for the others."""
    spans, scores = [], []
    for at in range(len(examples)):
        text, score = answers.get(at, ("", -np.inf))
        place = bytes((examples[at].inputs[0] - 1).clip(0, 255).astype(np.uint8))
        first = place.rfind(text.encode()) if text else -100
        assert first != -1
        spans.append([first, first + len(text.encode()) - 1] if text else [-100, -100])
        scores.append(score)
    order = np.random.default_rng(0).permutation(len(examples))
    return Answers(order, np.array(spans)[order], np.array(scores)[order])


def test_the_surest_answer_over_all_articles_counts(tmp_path: Path) -> None:
    """Three questions, one of them without a text; the first has two articles."""
    examples = triviaqa(tmp_path).examples("test")
    assert isinstance(examples, Judged)
    assert len(examples) == 3
    right, wrong = ("York", 3.0), ("lies", 2.0)
    sums = examples.judge(answering(examples, {0: right, 1: wrong, 2: wrong}))
    assert sums == {"examples": 3, "exact": 1, "answer_f1": 1.0}
    sums = examples.judge(answering(examples, {0: right, 1: ("lies", 4.0), 2: wrong}))
    assert sums == {"examples": 3, "exact": 0, "answer_f1": 0.0}
    # Nothing found in one article is no answer to the question.
    sums = examples.judge(answering(examples, {0: right}))
    assert sums == {"examples": 3, "exact": 1, "answer_f1": 1.0}
    assert examples.judge(answering(examples, {})) == {"examples": 3, "exact": 0, "answer_f1": 0.0}


def test_what_a_record_says(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    task: Any = wikihop(tmp_path / "a")
    assert "nobody has yet run it" in task.info().origin
    task.prepare()
    info = task.info()
    assert "16 questions" not in info.warning
    assert "12 train and 4 dev questions, expected 43,738 train and 5,129 dev" in info.warning
    assert "nobody has yet run it" in info.note
    assert set(info.baselines) == {"most frequent candidate", "last candidate", "random"}
    assert info.baselines["random"] == pytest.approx(1 / 3)
    task = WikiHop(
        data_dir=tmp_path / "a/data",
        cache_dir=tmp_path / "a/other",
        num_validation=4,
        official={"train": 12, "dev": 4},
    )
    task.prepare()
    assert (task.info().warning, task.info().note) == ("", info.note)
    task = triviaqa(tmp_path / "b")
    task.prepare()
    details = task.info().details
    assert details["articles missing"] == "2"
    assert details["articles empty"] == "1"
    assert details["questions without text"].endswith("1 in test")
    assert details["questions without answer"].endswith("2 in test")
    assert task.info().baselines == {"empty answer": 0.0}


def test_simple_choices(tmp_path: Path) -> None:
    """Whole words count, whatever their case; of equals the first candidate."""
    rows = wikihop_rows("dev", 2)
    rows[0] |= {
        "candidates": ["york", "paris"],
        "answer": "paris",
        "supports": ["Yorkshire, Yorkshire, York. PARIS and Paris."],
    }
    rows[1] |= {
        "candidates": ["york", "paris"],
        "answer": "york",
        "supports": ["York and Paris and Oslo"],
    }
    (tmp_path / "data").mkdir()
    put_wikihop(tmp_path / "data", dev=rows)
    task = wikihop(tmp_path)
    task.prepare()
    found = task.info().baselines
    assert (found["most frequent candidate"], found["last candidate"]) == (1.0, 0.5)


def test_validation_is_drawn_by_the_ids(tmp_path: Path) -> None:
    """Another order of the file, or more questions of test, move no question."""
    found = []
    for name, reverse in (("a", False), ("b", True)):
        (tmp_path / name / "data").mkdir(parents=True)
        parts = trivia_parts()
        if reverse:
            parts["train"].reverse()
            parts["dev"].append(trivia_row("dv_9", "More?", ["York"], ["York"]))
        put_triviaqa(tmp_path / name / "data", parts)
        task: Any = triviaqa(tmp_path / name)
        notes = task.cache().notes("validation")
        found.append({question for question, _ in notes["questions"]})
    assert found[0] == found[1]
    assert len(found[0]) == 3
