"""Readers of WikiHop, TriviaQA, COVID-QA and book cloze: oddities, bad files, real ones."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_questions as made_up
import numpy as np
import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Task
from lra_tasks import _cloze, _reading
from lra_tasks.book_cloze import BookCloze
from lra_tasks.covid_qa import CovidQA, nearest
from lra_tasks.triviaqa import TriviaQA, matches
from lra_tasks.wikihop import WikiHop, cleaned


def folders(folder: Path) -> dict[str, Any]:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    return {"data_dir": folder / "data", "cache_dir": folder / "cache"}


def answers_of(task: Task, split: Any) -> list[list[str]]:
    """Return the texts of all answers of each example."""
    examples = task.examples(split)
    return [
        [
            _reading.text_of(examples[at].inputs[0][first : last + 1])
            for first, last in np.asarray(examples[at].target).tolist()
        ]
        for at in range(len(examples))
    ]


# TriviaQA.


@pytest.mark.parametrize(
    ("text", "aliases", "expected"),
    [
        ("C++ is not C, but C++.", ["C++"], ["C++", "C++"]),
        ("Yorkshire, New York, york's", ["york"], ["York", "york"]),
        ("A.B. and AxB", ["a.b"], ["A.B"]),
        ("(C++) C++17", ["C++"], ["C++"]),
        # Any white space stands for a blank, but only one.
        ("New\nYork C.", ["new york", "york c", "york"], ["New\nYork", "York", "York C"]),
        ("New\n York C.", ["new york", "york c", "york"], ["York", "York C"]),
        ("aaa aa", ["aa"], ["aa"]),
        ("ha ha ha", ["ha ha"], ["ha ha", "ha ha"]),
        # A capital letter whose small one is longer moves nothing.
        ("\u0130\u0130 York \u0130x", ["york", "\u0130x"], ["York", "\u0130x"]),
        ("caf\u00e9s caf\u00c9", ["caf\u00e9"], ["caf\u00c9"]),
        ("anything", ["", " "], []),
        (".*", ["."], ["."]),
        ("2nd 22 2", ["2"], ["2"]),
    ],
)
def test_every_match_of_an_alias(text: str, aliases: list[str], expected: list[str]) -> None:
    found = matches(text, aliases)
    assert [text[start:stop] for start, stop in found] == expected


def test_triviaqa_answers(tmp_path: Path) -> None:
    options = folders(tmp_path)
    made_up.put_triviaqa(options["data_dir"])
    task = TriviaQA(**options, num_validation=3)
    york = ["York", "York", "EBORACUM", "York"]
    # A training article without an answer is left out; of test every article stays.
    assert answers_of(task, "test") == [[one for one in york if one == "York"], ["York"], []]
    every = [
        answer
        for split in ("train", "validation")
        for answers in answers_of(task, split)
        for answer in answers
    ]
    assert {"C++", "C\tplus\nplus", "c plus plus", "EBORACUM", "\u0130stanbul"} <= set(every)
    assert "C++17" not in every


def test_triviaqa_aliases_are_compared_as_the_data_set_has_them(tmp_path: Path) -> None:
    options = folders(tmp_path)
    made_up.put_triviaqa(options["data_dir"])
    task = TriviaQA(**options, num_validation=3)
    questions = {
        name: answers
        for split in SPLITS
        for name, answers in task.cache().notes(split)["questions"]
    }
    assert len(questions) == 13
    assert questions["tc_8"] == ["c", "c plus plus"]
    assert questions["tc_9"] == ["i\u0307stanbul", "big smoke"]


# COVID-QA.


@pytest.mark.parametrize(
    ("at", "expected"),
    [(0, 0), (1, 0), (4, 7), (3, 0), (7, 7), (99, 14), (-5, 0), (10, 7), (11, 14)],
)
def test_the_nearest_place(at: int, expected: int) -> None:
    assert nearest("abc----abc----abc", "abc", at) == expected
    assert nearest("abc", "x", at) is None


def test_covid_answers_are_mended_and_counted(tmp_path: Path) -> None:
    options = folders(tmp_path)
    content = made_up.covid_content()
    made_up.put_covid_qa(options["data_dir"], content)
    task = CovidQA(**options)
    found = [answer for split in SPLITS for one in answers_of(task, split) for answer in one]
    assert sorted(found) == sorted(
        [*(f"the answer {at}" for at in range(12)), *["lies here."] * 12]
    )
    info = task.info()
    assert info.details["answers mended"].startswith("12:")
    assert info.details["articles"].startswith("10 train, 1 validation, 1 test")
    assert "is not the official file" in info.warning
    # Unpacked it is the same, and so are its articles in another order.
    content["data"].reverse()
    other = folders(tmp_path / "other")
    (other["data_dir"] / "200423_covidQA.json").write_text(json.dumps(content))
    again = CovidQA(**other)
    for split in SPLITS:
        assert sorted(answers_of(again, split)) == sorted(answers_of(task, split))


# Book cloze.


def test_a_cloze_is_what_it_says() -> None:
    text = made_up.book("Melville", 0)
    found = list(_cloze.questions_of(text, name="a"))
    assert found == list(_cloze.questions_of(text, name="a"))
    assert len(found) > 3
    plain = " ".join(text.split())
    places = []
    for one in found:
        assert len(one.context.encode()) <= _cloze.CONTEXT_BYTES
        assert one.answer in one.candidates
        assert sorted(set(one.candidates)) == list(one.candidates)
        assert 2 <= len(one.candidates) <= _cloze.MAX_CANDIDATES
        assert all(name in one.context for name in one.candidates)
        assert one.answer not in (one.before + one.after)
        assert set(one.candidates) <= {*made_up.NAMES, "Melville"}
        # The sentence stands right behind the context, apart from headings.
        sentence = one.before + one.answer + one.after
        assert sentence in plain
        assert "CHAPTER" not in one.context
        assert "Title" not in one.context
        places.append((one.context[:40], sentence))
    assert len(set(places)) == len(places)


def test_contexts_do_not_overlap() -> None:
    # Every sentence stands once, so that it can be told where a context is.
    names = made_up.NAMES
    lines = [
        f"Sentence {at} of {names[at % 8]} went to {names[(at + 3) % 8]} and was long."
        for at in range(600)
    ]
    seen: set[int] = set()
    number = 0
    for one in _cloze.questions_of("\n\n".join(lines), name="a"):
        mine = {int(word) for word in (one.context + one.before).split() if word.isdigit()}
        assert not mine & seen
        seen |= mine
        number += 1
    assert number > 5


def test_both_forms_ask_the_same(tmp_path: Path) -> None:
    options = folders(tmp_path)
    made_up.put_books(options["data_dir"])
    choice, span = (BookCloze(**options, form=form) for form in ("choice", "span"))
    for split in SPLITS:
        texts = answers_of(span, split)
        examples, spans = choice.examples(split), span.examples(split)
        assert len(examples) == len(spans) == len(texts) > 1
        for at, answers in enumerate(texts):
            (tokens,) = examples[at].inputs
            named = choice.decode(examples[at]).split("\n\n")[0].split("\n- ")
            assert len(set(answers)) == 1
            assert answers[0] == named[1:][int(examples[at].target)]
            context = tokens[np.flatnonzero(tokens == _reading.CONTEXT)[0] :]
            other = spans[at].inputs[0]
            assert np.array_equal(context, other[np.flatnonzero(other == _reading.CONTEXT)[0] :])
            assert _reading.text_of(context).count(answers[0]) == len(answers)
            assert "____" in named[0]
    assert choice.fingerprint() != span.fingerprint()
    assert "is not the archive that the numbers" in choice.info().warning


# Bad files.


def wikihop_with(**changes: Any) -> list[dict[str, Any]]:
    rows = made_up.wikihop_rows("train", 6)
    rows[2] |= changes
    return rows


def without(name: str) -> list[dict[str, Any]]:
    rows = made_up.wikihop_rows("train", 6)
    del rows[2][name]
    return rows


@pytest.mark.parametrize(
    ("train", "text"),
    [
        (
            wikihop_with(answer="rome"),
            r"questions 2 .'WH_train_2'.: the answer 'rome' is not among",
        ),
        (wikihop_with(id="WH_train_1"), "two questions of the id 'WH_train_1'"),
        (wikihop_with(id="WH_dev_1"), "two questions of the id 'WH_dev_1'"),
        (wikihop_with(supports=[]), "has no supports"),
        (wikihop_with(supports=[" "]), "has no supports"),
        (wikihop_with(supports="text"), "'supports' of .*questions 2 is 'text', not a list"),
        (wikihop_with(candidates=[1]), "candidates of .*questions 2 is 1, not a text"),
        (wikihop_with(query=" "), "empty 'query'"),
        (wikihop_with(query="\ud800"), "'query' holds half a character"),
        (without("answer"), "has no field 'answer'"),
        ([1], "questions 0 is 1, not an object"),
        ({"id": 1}, "not a list"),
        (made_up.wikihop_rows("train", 3), "3 questions; task.num_validation=4 leaves none"),
    ],
)
def test_bad_wikihop(tmp_path: Path, train: Any, text: str) -> None:
    options = folders(tmp_path)
    made_up.put_wikihop(options["data_dir"], train=train)
    refused(WikiHop(**options, num_validation=4), text)


def refused(task: Task, text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        task.prepare()
    assert "\n" not in str(caught.value)


def trivia_with(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    parts = made_up.trivia_parts()
    change(parts["train"][1])
    return parts


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda row: row.update(QuestionId="tc_0"), "two questions of the id 'tc_0'"),
        (lambda row: row.update(QuestionId="dv_0"), "two questions of the id 'dv_0'"),
        (lambda row: row.update(Question=""), "empty 'Question'"),
        (lambda row: row.update(Answer=3), "'Answer' of .*Data 1 is 3, not an object"),
        (lambda row: row["Answer"].update(NormalizedAliases=[]), "has no aliases"),
        (
            lambda row: row["EntityPages"][0].pop("Filename"),
            "EntityPages 0 has no field 'Filename'",
        ),
        (
            lambda row: row["EntityPages"][0].update(Filename="../../x"),
            r"Filename '\.\./\.\./x' is no name of a file",
        ),
    ],
)
def test_bad_triviaqa(tmp_path: Path, change: Callable[[dict[str, Any]], Any], text: str) -> None:
    options = folders(tmp_path)
    made_up.put_triviaqa(options["data_dir"], trivia_with(change))
    refused(TriviaQA(**options, num_validation=3), text)


def test_evidence_that_is_missing(tmp_path: Path) -> None:
    options = folders(tmp_path)
    made_up.put_triviaqa(options["data_dir"])
    evidence = options["data_dir"] / "triviaqa-rc/evidence/wikipedia"
    (evidence / "Leeds.txt").write_bytes(b"\xff")
    refused(TriviaQA(**options, num_validation=3), r"Leeds\.txt is not UTF-8")
    for path in evidence.iterdir():
        path.unlink()
    refused(TriviaQA(**options, num_validation=3), "has none of the articles; get triviaqa-rc")
    evidence.rmdir()
    refused(TriviaQA(**options, num_validation=3), "cannot read .*evidence/wikipedia")


def covid_with(**changes: Any) -> dict[str, Any]:
    content = made_up.covid_content()
    paragraph = content["data"][3]["paragraphs"][0]
    question = paragraph["qas"][0]
    for name, value in changes.items():
        if name in paragraph:
            paragraph[name] = value
        elif name in question:
            question[name] = value
        else:
            question["answers"][0][name] = value
    return content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (covid_with(text="nowhere to be seen"), "'nowhere to be seen' is nowhere in the article"),
        (covid_with(context=" "), "empty 'context'"),
        (covid_with(id=1), "two questions of the id '1'"),
        (covid_with(answers=[]), "qas 0 has no answer"),
        (covid_with(answer_start=True), "'answer_start' of .* is True, not a whole number"),
        (covid_with(document_id="x"), "'document_id' of .* is 'x', not a whole number"),
        ({"data": []}, "0 articles with questions; 3 are needed"),
        ([1], "is .1., not an object"),
    ],
)
def test_bad_covid_qa(tmp_path: Path, content: Any, text: str) -> None:
    options = folders(tmp_path)
    made_up.put_covid_qa(options["data_dir"], content)
    refused(CovidQA(**options), text)


def more(author: str, split: str) -> list[tuple[str, str, str]]:
    return [*made_up.ROWS, ("test/1.md", author, split)]


@pytest.mark.parametrize(
    ("rows", "texts", "text"),
    [
        (more("Bob", "test"), {"test/1.md": b"x"}, "'Bob' is in train and in test"),
        (more("Bo", "dev"), {"test/1.md": b"x"}, "split 'dev' is not one of"),
        (more("Bo", "test"), {}, "'test/1.md' is not in the archive"),
        ([*made_up.ROWS, made_up.ROWS[0]], {}, "'train/0.md' is not in the .*, or named twice"),
        (made_up.ROWS, {"train/0.md": b"\xff"}, r"train/0\.md is not UTF-8"),
        (made_up.ROWS, {"test/0.md": b"No name. At all."}, "has no question for test"),
        (made_up.ROWS[:2], {}, "has no question for validation"),
    ],
)
def test_bad_books(
    tmp_path: Path, rows: list[tuple[str, str, str]], texts: dict[str, bytes], text: str
) -> None:
    options = folders(tmp_path)
    good = {path: made_up.book(author, 1).encode() for path, author, _ in made_up.ROWS}
    archive = made_up.books_archive(rows, good | texts)
    (options["data_dir"] / "classic_books.tar.xz").write_bytes(archive)
    refused(BookCloze(**options), text)


def test_what_is_nowhere_is_named(tmp_path: Path) -> None:
    for kind, name in (
        (WikiHop, "qangaroo_v1.1"),
        (TriviaQA, "triviaqa-rc"),
        (CovidQA, "covid_qa_200423.json.gz"),
        (BookCloze, "classic_books.tar.xz"),
    ):
        task = kind(**folders(tmp_path))
        assert task.is_prepared() is False
        refused(task, name)


def write_covid(folder: Path, content: bytes) -> None:
    (folder / "covid_qa_200423.json").write_bytes(content)


def write_wikihop(folder: Path, content: bytes) -> None:
    (folder / "wikihop").mkdir(exist_ok=True)
    (folder / "wikihop/train.json").write_bytes(content)
    (folder / "wikihop/dev.json").write_text(json.dumps(made_up.wikihop_rows("dev", 2)))


def write_trivia(folder: Path, content: bytes) -> None:
    if not (folder / "triviaqa-rc").exists():
        made_up.put_triviaqa(folder)
    (folder / "triviaqa-rc/qa/wikipedia-train.json").write_bytes(content)


@pytest.mark.parametrize("number", [60, pytest.param(2_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["covid", "wikihop", "trivia"])
def test_fuzz_json(tmp_path: Path, name: str, number: int) -> None:
    """Whatever a file holds: it is read, or refused in one line."""
    options = folders(tmp_path)
    seed, write, kind = {
        "covid": (made_up.covid_content(4), write_covid, CovidQA),
        "wikihop": (made_up.wikihop_rows("train", 3), write_wikihop, WikiHop),
        "trivia": ({"Data": made_up.trivia_parts()["train"][6:]}, write_trivia, TriviaQA),
    }[name]
    more: dict[str, Any] = {} if name == "covid" else {"num_validation": 1}
    outcomes = set()
    for at, content in enumerate(mutants([json.dumps(seed).encode()], number)):
        write(options["data_dir"], content)
        task: Any = kind(data_dir=options["data_dir"], cache_dir=tmp_path / f"cache{at}", **more)
        try:
            task.prepare()
            for split in SPLITS:
                assert len(task.examples(split)) >= 0
            outcomes.add("read")
        except UserError as error:
            outcomes.add("refused" if "\n" not in str(error) else str(error))
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("number", [25, pytest.param(1_000, marks=pytest.mark.slow)])
def test_fuzz_packed(tmp_path: Path, number: int) -> None:
    options = folders(tmp_path)
    packed = gzip.compress(json.dumps(made_up.covid_content(4)).encode(), mtime=0)
    books = made_up.books_archive(
        made_up.ROWS, {path: made_up.book(author, 1).encode() for path, author, _ in made_up.ROWS}
    )
    refusals = []
    for name, seed, kind in (
        ("covid_qa_200423.json.gz", packed, CovidQA),
        ("classic_books.tar.xz", books, BookCloze),
    ):
        for at, content in enumerate(mutants([seed], number)):
            (options["data_dir"] / name).write_bytes(content)
            task = kind(data_dir=options["data_dir"], cache_dir=tmp_path / f"{name}{at}")
            try:
                task.prepare()
            except UserError as error:
                refusals.append(str(error))
    assert len(refusals) > number
    assert not any("\n" in one for one in refusals)


# Real files.


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder:
        pytest.skip("LRA_BENCH_DATA does not name a folder with the real files")
    return Path(folder)


def there(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        pytest.skip(f"there is no {folder / name}")
    return folder / name


def test_the_published_sample_of_wikihop(real: Path, tmp_path: Path) -> None:
    rows = json.loads(there(real, "wikihop_sample.json").read_text())
    options = folders(tmp_path)
    made_up.put_wikihop(options["data_dir"], train=made_up.wikihop_rows("train", 6), dev=rows)
    task = WikiHop(**options, num_validation=2, max_length=1_000, max_pieces=30)
    examples = task.examples("test")
    for example, row in zip((examples[0], examples[1]), rows, strict=True):
        text = task.decode(example).split("\n\n")[0].split("\n- ")
        names = [cleaned(one) for one in row["candidates"]]
        assert text[1:] == names
        assert names[int(example.target)] == cleaned(row["answer"])
        assert len(example.inputs) > 1


def test_the_published_sample_of_triviaqa(real: Path, tmp_path: Path) -> None:
    options = folders(tmp_path)
    with tarfile.open(there(real, "triviaqa_wikipedia_sample.tar.gz")) as tar:
        tar.extractall(options["data_dir"], filter="data")
    (options["data_dir"] / "triviaqa_sample").rename(options["data_dir"] / "triviaqa")
    task = TriviaQA(**options, num_validation=1, max_pieces=1_000)
    assert len(task.examples("test")) > 2
    said = {text.lower() for split in SPLITS for one in answers_of(task, split) for text in one}
    assert "andrew lloyd webber" in said or len(said) > 2
    assert task.info().warning.startswith("these are not the official files of TriviaQA: 4 train")


def test_the_real_covid_qa(real: Path, tmp_path: Path) -> None:
    there(real, "covid_qa_200423.json.gz")
    task = CovidQA(data_dir=real, cache_dir=tmp_path)
    task.prepare()
    info = task.info()
    assert info.warning == ""
    assert info.num_examples == {"train": 1_047, "validation": 225, "test": 108}
    assert info.details["answers mended"].startswith("234:")
    assert task.fingerprint() == "43e2e936552ea1a96f05330d7616afc748e66fa67de185faf9c4a00a118416db"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "fingerprint"),
    [
        ("choice", "4a24328270e87c957f078203aa4ae5e5ad47c14be1237349be14dd36bc470b40"),
        ("span", "c44c4970b3caa8ce86be0d6f5453f5815b5be8bb431b5fb7994fd56c7aecd7bd"),
    ],
)
def test_the_real_books(real: Path, tmp_path: Path, form: Any, fingerprint: str) -> None:
    there(real, "classic_books.tar.xz")
    task = BookCloze(data_dir=real, cache_dir=tmp_path, form=form)
    task.prepare()
    info = task.info()
    assert info.warning == ""
    assert info.num_examples == {"train": 6_677, "validation": 543, "test": 415}
    assert round(info.baselines["most frequent candidate"], 3) == 0.32
    assert task.fingerprint() == fingerprint
