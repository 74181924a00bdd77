"""Tasks on long documents: IMDB in pieces of words, Hyperpartisan news, papers of eleven fields."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import mutants
from made_up_documents import (
    Members,
    articles,
    pack,
    papers,
    put_articles,
    put_labeled,
    put_papers,
    reviews,
    write,
)

from lra_bench.cli import main
from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Split
from lra_tasks import _arxiv
from lra_tasks._hyperpartisan import ARCHIVE_NAME, FILES, FOLDER, articles_of, prepared
from lra_tasks._symbols_task import SymbolsTask
from lra_tasks.arxiv11 import Arxiv11
from lra_tasks.corpus import Corpus
from lra_tasks.hyperpartisan import Hyperpartisan
from lra_tasks.imdb import Imdb
from lra_tasks.text import Text

Rows = list[tuple[str, int]]


def rows_of(task: Any, split: Split) -> Rows:
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [(task.decode(one), int(one.target)) for one in found]


def folders(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "data").mkdir(parents=True, exist_ok=True)
    return {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "max_length": 100_000}


# IMDB.


def test_imdb_has_the_reviews_and_the_splits_of_text(tmp_path: Path) -> None:
    options = folders(tmp_path)
    put_labeled(options["data_dir"])
    pieces = Imdb(num_validation=6, vocab_size=300, **options)
    of_bytes = Text(num_validation=6, **options)
    for split in SPLITS:
        assert rows_of(pieces, split) == rows_of(of_bytes, split)
    assert set(pieces.info().baselines) == {"bag of words"}


def test_the_vocabulary_of_imdb_is_of_training_reviews_alone(tmp_path: Path) -> None:
    sums, prints = [], []
    members = reviews()
    for name in ("one", "other"):
        options = folders(tmp_path / name)
        pack(options["data_dir"] / "aclImdb_v1.tar.gz", members)
        task = Imdb(num_validation=6, vocab_size=300, **options)
        task.prepare()
        sums.append(task.info().details["vocabulary_sha256"])
        prints.append(task.fingerprint())
        held_out = {text.encode() for text, _ in rows_of(task, "validation")}
        members = {
            key: text + b" zebra" * 50 if "/test/" in key or text in held_out else text
            for key, text in members.items()
        }
    assert sums[0] == sums[1]
    assert prints[0] != prints[1]


@pytest.mark.parametrize("kind", [Imdb, Hyperpartisan, Arxiv11])
def test_the_vocabulary_of_a_corpus(tmp_path: Path, kind: type[SymbolsTask[Any]]) -> None:
    options = folders(tmp_path)
    for put in (put_labeled, put_articles, put_papers):
        put(options["data_dir"])
    (options["data_dir"] / "x.jsonl").write_text(
        "\n".join(json.dumps({"text": f"text number {at}"}) for at in range(9))
    )
    corpus = Corpus(path="x.jsonl", tokens="bpe", vocab_size=280, **options)
    corpus.prepare()
    more: dict[str, Any] = {"num_validation": 6} if kind is Imdb else {}
    task = kind(vocab_size=280, vocabulary=str(corpus.folder()), **more, **options)  # type: ignore[call-arg]
    task.prepare()
    details = [one.info().details for one in (corpus, task)]
    assert details[0]["vocabulary_sha256"] == details[1]["vocabulary_sha256"]
    assert details[1]["vocabulary_learned_on"] == "task=corpus task.path=x.jsonl, training texts"
    assert task.spec.vocab_size == corpus.spec.vocab_size
    assert task.spec.symbol_bytes == corpus.spec.symbol_bytes
    # By its name alone, which says the same on every machine.
    place = corpus.folder()
    assert place is not None
    named = kind(vocab_size=280, vocabulary=place.name, **more, **options)  # type: ignore[call-arg]
    assert named.folder() == task.folder()


# Hyperpartisan.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("and/or", "and or"),
        ("a/b/c 1/2", "a b c 1/2"),
        ("one\ntwo", "one two"),
        ("a&#160;b", "ab"),
        ("see http://x.com and https://a, www.b.c! href=x end", "see and end"),
        # The first rule comes before that of addresses.
        ("http://x.y/z?q", "z?q"),
        ("  many   blanks\t\u00a0here ", "many blanks here"),
        ("What?!?! No... yes!", "What! No. yes!"),
        ("sooooo good, aaaah aab", "so good, aaaah aab"),
        ("caf\u00e9\u00e9\u00e9", "caf\u00e9\u00e9\u00e9"),
    ],
)
def test_how_a_text_is_prepared(text: str, expected: str) -> None:
    assert prepared(text) == expected


@pytest.mark.parametrize("tokens", ["bytes", "bpe"])
def test_articles(tmp_path: Path, tokens: str) -> None:
    options = folders(tmp_path)
    put_articles(options["data_dir"])
    task = Hyperpartisan(tokens=tokens, vocab_size=300, **options)
    rows = {split: rows_of(task, split) for split in SPLITS}
    assert {split: Counter(label for _, label in some) for split, some in rows.items()} == {
        "train": {0: 23, 1: 13},
        "validation": {0: 3, 1: 1},
        "test": {0: 27, 1: 13},
    }
    expected = {(one.text.decode(), one.label) for one in articles_of(articles(), "test")}
    assert set(rows["test"]) == expected
    text = rows["test"][0][0]
    assert "link and or" in text
    assert "<" not in text
    assert task.spec.metrics == ("accuracy", "f1_of_1")
    info = task.info()
    assert "is not the official file" in info.warning
    assert info.details["test_texts_also_in_training_or_validation"] == "0"


def test_every_way_in_which_the_files_can_lie(tmp_path: Path) -> None:
    members = {name: articles()[name] for name in FILES}
    prints = set()
    for way in ("archive", "xml", "zip", "folder"):
        options = folders(tmp_path / way)
        data_dir = options["data_dir"]
        if way == "archive":
            pack(data_dir / ARCHIVE_NAME, members)
        elif way == "zip":
            for name, content in members.items():
                with zipfile.ZipFile((data_dir / name).with_suffix(".zip"), "w") as archive:
                    archive.writestr(name, content)
        else:
            write(data_dir / FOLDER if way == "folder" else data_dir, members)
        task = Hyperpartisan(tokens="bytes", **options)
        prints.add(task.fingerprint())
    assert len(prints) == 1


def test_files_that_are_missing(tmp_path: Path) -> None:
    options = folders(tmp_path)
    with pytest.raises(UserError, match="put them there"):
        Hyperpartisan(**options).prepare()
    members = articles()
    write(options["data_dir"], {name: members[name] for name in FILES[:3]})
    with pytest.raises(UserError, match=rf"{FILES[3]} is missing"):
        Hyperpartisan(**options).prepare()
    pack(options["data_dir"] / ARCHIVE_NAME, {name: members[name] for name in FILES[:3]})
    with pytest.raises(UserError, match=rf"has no {FILES[3]}"):
        Hyperpartisan(**options).prepare()


def changed(name: str, before: str, after: str, count: int = 1) -> Members:
    members = articles()
    (key,) = [one for one in members if one.startswith(name)]
    assert before.encode() in members[key]
    return {**members, key: members[key].replace(before.encode(), after.encode(), count)}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        (changed("articles-training", "</articles>", ""), "is no XML"),
        (changed("articles-training", "<articles>", "<!DOCTYPE x><articles>"), "entities"),
        (changed("articles-training", "UTF-8", "UTF-99"), "is no XML"),
        (changed("articles-training", '"0000003"', '"0000002"'), "id '0000002' twice"),
        (changed("articles-training", 'id="0000003"', 'number="3"'), "without an id"),
        (changed("articles-training", '"0000003"', '"0000999"'), "nothing of 1 articles"),
        (changed("ground-truth-test", '"0000043"', '"0000999"'), "nothing of 1 articles"),
        (changed("ground-truth-test", '"true"', '"maybe"'), "hyperpartisan='maybe'"),
        (changed("ground-truth-test", 'hyperpartisan="true"', ""), "hyperpartisan=''"),
        (changed("ground-truth-training", "<article ", "<item ", -1), "has no articles"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, members: Members, why: str) -> None:
    options = folders(tmp_path)
    pack(options["data_dir"] / ARCHIVE_NAME, members)
    with pytest.raises(UserError, match=why) as caught:
        Hyperpartisan(tokens="bytes", **options).prepare()
    assert "\n" not in str(caught.value)


def test_damaged_articles() -> None:
    members = articles(number=4)
    names = [name for name in FILES if "training" in name]
    refused = 0
    for name in names:
        for content in mutants([members[name]], 150):
            try:
                found = articles_of({**members, name: content}, "training")
            except UserError as error:
                refused += "\n" not in str(error)
                continue
            assert {one.label for one in found} <= {0, 1}
    assert refused > 100


def test_an_article_without_text(tmp_path: Path) -> None:
    options = folders(tmp_path)
    content = articles()[FILES[0]].decode()
    emptied = re.sub(
        r'(<article id="0000003"[^>]*>).*?</article>', r"\1 </article>", content, flags=re.S
    )
    pack(options["data_dir"] / ARCHIVE_NAME, {**articles(), FILES[0]: emptied.encode()})
    task = Hyperpartisan(tokens="bytes", **options)
    assert task.info().details == {}
    assert " " in [text for split in SPLITS for text, _ in rows_of(task, split)]
    assert task.info().details["empty_texts"] == "1"


def test_the_released_division(tmp_path: Path) -> None:
    options = folders(tmp_path)
    split = {"train": list(range(30)), "dev": [29, 31, 32, 33], "test": [0, 1, 33, 35]}
    members = {**articles(), "longformer-hp-splits.json": json.dumps(split).encode()}
    pack(options["data_dir"] / ARCHIVE_NAME, members)
    task = Hyperpartisan(split="released", tokens="bytes", **options)
    assert {split: len(rows_of(task, split)) for split in SPLITS} == {
        "train": 30,
        "validation": 4,
        "test": 4,
    }
    warning = task.info().warning
    assert warning.startswith("2 of the 4 test articles are training articles, and 1 are valid")
    assert task.info().details["test_texts_also_in_training_or_validation"] == "3"
    # The official division does not say so.
    assert "test articles are" not in Hyperpartisan(tokens="bytes", **options).cache().info.warning


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is no object of train, dev and test"),
        (b'{"train": [1], "dev": [2]}', "must name articles of train, dev and test"),
        (b'{"train": [1], "dev": [2], "test": []}', "must name articles of train, dev and test"),
        (b'{"train": [1], "dev": [2], "test": [999]}', "names the article 999"),
        (b'{"train": ["x"], "dev": [2], "test": [3]}', "is no object of train, dev and test"),
        (None, "needs longformer-hp-splits.json"),
    ],
)
def test_a_division_that_is_none(tmp_path: Path, content: bytes | None, why: str) -> None:
    options = folders(tmp_path)
    members = articles()
    del members["longformer-hp-splits.json"]
    if content is not None:
        members["hp-splits.json"] = content
    pack(options["data_dir"] / ARCHIVE_NAME, members)
    with pytest.raises(UserError, match=why):
        Hyperpartisan(split="released", tokens="bytes", **options).prepare()


# arXiv-11.


def tables(endings: str, as_number: bool = False) -> Members:
    """Return the papers as tables, in another order."""
    rows = []
    for name, text in sorted(papers().items(), key=lambda item: item[1]):
        folder = name.split("/")[0]
        label = _arxiv.CLASSES.index(folder) if as_number else folder
        rows.append({"text": text.decode(), "label": label})
    if endings == ".jsonl":
        return {"train.jsonl": "\n".join(map(json.dumps, rows)).encode()}
    separator = "\t" if endings == ".tsv" else ","
    lines = [f"label{separator}text"]
    for row in rows:
        quoted = '"' + str(row["text"]).replace('"', '""') + '"'
        lines.append(f"{row['label']}{separator}{quoted}")
    return {f"all{endings}": "\n".join(lines).encode()}


def test_papers(tmp_path: Path) -> None:
    options = folders(tmp_path)
    put_papers(options["data_dir"])
    task = Arxiv11(vocab_size=300, **options)
    rows = {split: rows_of(task, split) for split in SPLITS}
    assert {split: len(some) for split, some in rows.items()} == {
        "train": 88,
        "validation": 11,
        "test": 11,
    }
    for some in rows.values():
        counts = Counter(label for _, label in some)
        assert set(counts) == set(range(11))
        assert len(set(counts.values())) == 1
        assert not any("arXiv" in text or "[cs." in text for text, _ in some)
    info = task.info()
    assert info.details["papers_that_named_their_class"] == "55, taken out"
    assert "never seen by us" in info.warning
    assert "never seen by us" in Arxiv11(**options).info().origin


def test_every_form_of_papers(tmp_path: Path) -> None:
    prints: dict[str, set[str]] = {"files": set(), "tables": set()}
    forms: dict[str, Members] = {
        "folder": papers(),
        "x.tar.gz": papers(),
        "x.zip": {f"any/{name.replace('cs.CV', 'cs.cv')}": text for name, text in papers().items()},
        ".jsonl": tables(".jsonl"),
        "number": tables(".jsonl", as_number=True),
        ".csv": tables(".csv"),
        ".tsv": tables(".tsv"),
    }
    for at, (form, members) in enumerate(forms.items()):
        options = folders(tmp_path / str(at))
        data_dir = options["data_dir"]
        if form == "x.tar.gz":
            pack(data_dir / "arxiv11.tar.gz", members)
        elif form == "x.zip":
            with zipfile.ZipFile(data_dir / "arxiv11.zip", "w") as archive:
                for name, content in reversed(members.items()):
                    archive.writestr(name, content)
        else:
            write(data_dir / "arxiv11", members)
        task = Arxiv11(tokens="bytes", **options)
        task.prepare()
        kind = "files" if any(name.endswith(".txt") for name in members) else "tables"
        prints[kind].add(task.fingerprint())
    assert {kind: len(some) for kind, some in prints.items()} == {"files": 1, "tables": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"Title\narXiv:1711.02281v2  [cs.CL]  9 Mar 2018\nText", b"Title\n\nText"),
        (b"arXiv:cs/0112017v1 [cs.CL] 8 Dec 2001", b"arXiv:cs/0112017v1 [cs.CL] 8 Dec 2001"),
        (b"see arXiv:1711.02281 and [3]", b"see arXiv:1711.02281 and [3]"),
        (b"a arXiv:1 [math.GR] b arXiv:2\n[cs.AI] c", b"a  b  c"),
    ],
)
def test_stamps(text: bytes, expected: bytes) -> None:
    found, was_there = _arxiv.without_stamp(text)
    assert found == expected
    # A text that is nothing else is kept.
    assert was_there == (b"[cs." in text or b"[math." in text)


def test_odd_papers(tmp_path: Path) -> None:
    options = folders(tmp_path)
    members = papers()
    members |= {
        "cs.AI/empty.txt": b" ",
        "cs.AI/latin.txt": b"caf\xe9 of AI",
        "cs.CE/copy.txt": members["cs.AI/0.txt"],
        "notes/x.txt": b"no class",
        "loose.txt": b"no class",
        "cs.AI/.hidden.txt": b"hidden",
    }
    write(options["data_dir"] / "arxiv11", members)
    task = Arxiv11(tokens="bytes", **options)
    task.prepare()
    details = task.info().details
    assert details["empty_papers_left_out"] == "1"
    assert details["papers_not_utf_8"].startswith("1,")
    assert sum(task.info().num_examples.values()) == 112
    again = int(details["test_texts_also_in_training_or_validation"])
    keys = {split: {text for text, _ in rows_of(task, split)} for split in SPLITS}
    assert again == len(keys["test"] & (keys["train"] | keys["validation"]))


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"x.txt": b"x"}, "holds no papers"),
        ({"cs.AI/x.txt": b"x"}, r"the class cs\.AI has 1 papers"),
        ({"x.jsonl": b'{"text": "x"}'}, "line 1 has no text and label"),
        ({"x.jsonl": b'{"text": "x", "label": 11}'}, "the label '11' is not one of"),
        ({"x.jsonl": b'{"text": "x", "label": 1.0}'}, "line 1 has no text and label"),
        ({"x.jsonl": b'{"text": "x", "label": true}'}, "line 1 has no text and label"),
        ({"x.jsonl": b'["text"]'}, "line 1 has no text and label"),
        ({"x.jsonl": b"{"}, "line 1 is not JSON"),
        ({"x.csv": b"text,label\nx,cs.XX\n"}, r"row 1: the label 'cs\.xx' is not one of"),
        ({"x.csv": b"Text,label\nx,cs.AI\n"}, "row 1 has no text and label"),
        ({"x.csv": b"text,label\n\xff,cs.AI\n"}, "is not UTF-8"),
    ],
)
def test_papers_that_are_none(tmp_path: Path, members: Members, why: str) -> None:
    options = folders(tmp_path)
    write(options["data_dir"] / "arxiv11", members)
    with pytest.raises(UserError, match=why) as caught:
        Arxiv11(tokens="bytes", **options).prepare()
    assert "\n" not in str(caught.value)
    shutil.rmtree(options["data_dir"] / "arxiv11")
    with pytest.raises(UserError, match="there is no folder arxiv11"):
        Arxiv11(tokens="bytes", **options).prepare()


def test_damaged_tables(tmp_path: Path) -> None:
    refused = 0
    for ending in (".jsonl", ".csv"):
        ((name, good),) = tables(ending).items()
        path = write(tmp_path / ending, {name: b""})
        for content in mutants([good[:2_000]], 150):
            (path / name).write_bytes(content)
            try:
                for paper in _arxiv.read(path):
                    assert 0 <= paper.label < 11
                    assert paper.text.decode()
            except UserError:
                refused += 1
    assert refused > 30


# A run.


def test_what_a_bag_of_words_reaches_stands_beside_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = folders(tmp_path)
    words = put_articles(options["data_dir"])
    words += [f"{name}={options[name]}" for name in ("data_dir", "cache_dir")]
    words += ["task=hyperpartisan", "setting=smoke", "train.num_steps=2", "train.eval_every=2"]
    run = ["run", *words, "model=transformer", f"results_dir={tmp_path / 'results'}"]
    assert main(run) == 0
    said = re.search(r"test accuracy .*; bag of words: (\d+\.\d\d)%\)", capsys.readouterr().out)
    assert said is not None
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    found = json.loads(path.read_text())["data"]["baselines"]["bag of words"]
    assert f"{100 * found:.2f}" == said[1]
    # Another question is asked then.
    assert main([*run, "objective=denoising"]) == 0
    assert "bag of words" not in capsys.readouterr().out


# The real ones.


@pytest.fixture(scope="module")
def data_dir() -> Path:
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder or not (Path(folder) / ARCHIVE_NAME).exists():
        pytest.skip(f"LRA_BENCH_DATA does not name a folder with {ARCHIVE_NAME}")
    return Path(folder)


def test_real_articles(data_dir: Path, tmp_path: Path) -> None:
    task = Hyperpartisan(data_dir=data_dir, cache_dir=tmp_path)
    task.prepare()
    info = task.info()
    assert (info.warning, info.note) == ("", "")
    assert info.num_examples == {"train": 580, "validation": 65, "test": 628}
    assert info.details["test_texts_also_in_training_or_validation"] == "3"
    assert info.details["texts_twice_in_training_and_validation"] == "2"
    assert info.details["empty_texts"] == "0"
    assert task.fingerprint() == "2f85d28a865baa82ee46741c947a481b45e280eb86881f45fef9b7b3d18ffe81"
    test = [label for _, label in rows_of(task, "test")]
    assert Counter(test) == {0: 314, 1: 314}
    # A bag of words tells more than chance, and less than all.
    assert 0.74 < info.baselines["bag of words"] < 0.82


def test_the_real_released_division_leaks(data_dir: Path, tmp_path: Path) -> None:
    task = Hyperpartisan(data_dir=data_dir, cache_dir=tmp_path, split="released")
    task.prepare()
    info = task.info()
    assert info.warning.startswith("51 of the 65 test articles are training articles, and 7 are")
    assert info.num_examples == {"train": 516, "validation": 64, "test": 65}
    assert task.fingerprint() == "83c0073f8107db5285b1cafec9f729145000c41a9246f778e84864c6eb7594f7"


@pytest.mark.slow
def test_real_reviews(data_dir: Path, tmp_path: Path) -> None:
    task = Imdb(data_dir=data_dir, cache_dir=tmp_path)
    task.prepare()
    info = task.info()
    assert (info.warning, info.note) == ("", "")
    assert task.fingerprint() == "dc40a1c343220d89713e2a48d7912d46f60affc0d76a4c401ea8c30a83dab330"
    assert 0.89 < info.baselines["bag of words"] < 0.92
    lengths = np.concatenate([task.examples(split).lengths() for split in SPLITS])
    assert 0.95 < (lengths < 1_024).mean() < 0.97
