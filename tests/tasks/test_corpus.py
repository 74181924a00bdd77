from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_documents import Members, articles, books, documents, pack, papers, reviews, write

from lra_bench.build import build_task
from lra_bench.compose import compose_task
from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Split
from lra_tasks import _arxiv, _hyperpartisan
from lra_tasks._imdb import ARCHIVE_NAME
from lra_tasks._same_text import key_of
from lra_tasks._vocabulary import FILE_NAME, read_vocabulary
from lra_tasks.corpus import Corpus, cut, packed

Make = Callable[..., Corpus]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a corpus of documents."""
    number = itertools.count()

    def making(members: Members | None = None, **options: Any) -> Corpus:
        folder = tmp_path / f"data-{next(number)}"
        write(folder / "documents", documents() if members is None else members)
        given: dict[str, Any] = {"path": "documents", "data_dir": folder} | options
        return Corpus(cache_dir=tmp_path / "cache", **given)

    return making


def texts_of(task: Corpus, split: Split) -> list[str]:
    """Return the documents of a split in their order."""
    examples = task.examples(split)
    ids = np.concatenate([examples[at].inputs[0].astype(np.int64) for at in range(len(examples))])
    text = task.symbols().decode(ids)
    assert text.endswith("\n=====\n")
    return text.split("\n=====\n")[:-1]


def all_texts(task: Corpus) -> dict[Split, list[str]]:
    return {split: texts_of(task, split) for split in SPLITS}


def contents(members: Members) -> list[str]:
    found = []
    for name, content in members.items():
        if name.endswith(".jsonl"):
            found += [json.loads(line)["text"] for line in content.splitlines()]
        else:
            found.append(content.decode())
    return sorted(text.strip() for text in found)


# What is read.


@pytest.mark.parametrize("tokens", ["bytes", "bpe"])
@pytest.mark.parametrize("mode", ["packed", "cut"])
def test_every_document_is_there_once(make: Make, tokens: str, mode: str) -> None:
    task = make(tokens=tokens, vocab_size=400, documents=mode, max_length=100)
    found = all_texts(task)
    assert sorted(itertools.chain(*found.values())) == contents(documents())
    sizes = {split: len(some) for split, some in found.items()}
    assert sizes == {"train": 54, "validation": 3, "test": 3}
    assert task.spec.is_corpus
    assert task.spec.vocab_size == (257 if tokens == "bytes" else 400)
    assert {int(task.examples("train")[at].target) for at in range(9)} == {0}


def test_sequences(make: Make) -> None:
    joined, alone = (make(documents=mode, max_length=64) for mode in ("packed", "cut"))
    assert joined.options() == alone.options()
    lengths = joined.examples("train").lengths()
    assert set(lengths[:-1]) == {64}
    found = alone.examples("train")
    separators = [int(np.sum(found[at].inputs[0] == 256)) for at in range(len(found))]
    ends = [at for at, number in enumerate(separators) if number]
    # A separator stands at the end of a sequence only, and each document has its own sequences.
    assert set(separators) == {0, 1}
    assert all(found[at].inputs[0][-1] == 256 for at in ends)
    assert len(ends) == len(texts_of(alone, "train"))
    assert alone.fingerprint() == joined.fingerprint()


def test_where_documents_are_divided() -> None:
    rng = random.Random(0)
    for longest in (2, 3, 10, 64):
        for _ in range(30):
            sizes = [rng.randrange(2, 200) for _ in range(rng.randrange(1, 9))]
            offsets = np.concatenate(([0], np.cumsum(sizes)))
            for divide in (packed, cut):
                ends = divide(offsets, longest)
                assert ends[0] == 0
                assert ends[-1] == offsets[-1]
                lengths = np.diff(ends)
                assert lengths.max() <= longest
                if longest > 2:
                    assert lengths.min() >= 2
            assert set(offsets.tolist()) <= set(cut(offsets, longest).tolist())
            assert len(cut(offsets, longest)) == 1 + sum(-(-size // longest) for size in sizes)
            assert len(packed(offsets, longest)) == 1 + -(-sum(sizes) // longest)


def test_bytes_have_the_ids_of_the_task_text(make: Make) -> None:
    task = make()
    examples = task.examples("test")
    ids = np.concatenate([examples[at].inputs[0].astype(int) for at in range(len(examples))])
    assert bytes((ids[ids != 256] - 1).tolist()) == "".join(texts_of(task, "test")).encode()
    assert task.spec.symbol_bytes == (0,) + (1,) * 255 + (0,)


def test_how_many_bytes_pieces_stand_for(make: Make) -> None:
    task = make(tokens="bpe", vocab_size=400)
    assert task.spec.symbol_bytes == ()
    task.prepare()
    sizes = task.spec.symbol_bytes
    assert sizes is not None
    assert len(sizes) == 400
    for split in SPLITS:
        examples = task.examples(split)
        number = sum(
            sizes[token] for at in range(len(examples)) for token in examples[at].inputs[0]
        )
        assert number == sum(len(text.encode()) for text in texts_of(task, split))


# What does not matter, and what does.


@pytest.mark.parametrize("tokens", ["bytes", "bpe"])
def test_names_and_order_of_files_make_no_difference(make: Make, tokens: str) -> None:
    members = documents()
    lines = members.pop("lines.jsonl").splitlines()
    renamed = {f"{hashlib.md5(text).hexdigest()}.txt": text for text in members.values()}
    renamed |= {f"z{at}.md": json.loads(line)["text"].encode() for at, line in enumerate(lines)}
    first, second = (make(one, tokens=tokens, vocab_size=400) for one in (documents(), renamed))
    assert first.fingerprint() == second.fingerprint()
    assert first.info().details["documents_sha256"] == second.info().details["documents_sha256"]


def test_the_seed_divides_anew(make: Make) -> None:
    assert all_texts(make()) == all_texts(make())
    assert set(texts_of(make(seed=1), "test")) != set(texts_of(make(), "test"))


def test_a_vocabulary_is_learned_on_training_documents_alone(make: Make) -> None:
    members = books()
    other = dict(members)
    for name in members:
        if "/train/" not in name and name.endswith(".md"):
            other[name] = members[name] + b" quite other words, and many of them" * 99
    first, second = (make(one, tokens="bpe", vocab_size=400) for one in (members, other))
    texts = [all_texts(one) for one in (first, second)]
    assert texts[0]["train"] == texts[1]["train"]
    assert texts[0]["test"] != texts[1]["test"]
    sums = [one.info().details["vocabulary_sha256"] for one in (first, second)]
    assert sums[0] == sums[1]
    assert first.fingerprint() != second.fingerprint()


def test_a_vocabulary_of_another_corpus(make: Make, tmp_path: Path) -> None:
    first = make(tokens="bpe", vocab_size=400)
    first.prepare()
    folder = first.folder()
    assert folder is not None
    second = make(books(), tokens="bpe", vocab_size=400, vocabulary=str(folder / FILE_NAME))
    second.prepare()
    details = [one.info().details for one in (first, second)]
    assert details[0]["vocabulary_sha256"] == details[1]["vocabulary_sha256"]
    assert second.spec.symbol_bytes == first.spec.symbol_bytes
    with pytest.raises(UserError, match=r"give task\.vocab_size=400"):
        make(books(), tokens="bpe", vocab_size=500, vocabulary=str(folder))
    with pytest.raises(UserError, match=r"needs task\.tokens=bpe"):
        make(books(), vocabulary=str(folder))
    with pytest.raises(UserError, match=r"task\.vocabulary=nowhere: cannot read"):
        make(books(), tokens="bpe", vocabulary="nowhere")


@pytest.mark.parametrize("harm", ["removed", "edited", "exchanged"])
def test_a_vocabulary_that_is_not_that_of_the_data(make: Make, harm: str) -> None:
    first, second = (make(one, tokens="bpe", vocab_size=400) for one in (None, books()))
    places = []
    for task in (first, second):
        task.prepare()
        folder = task.folder()
        assert folder is not None
        places.append(folder / FILE_NAME)
    if harm == "removed":
        places[0].unlink()
    elif harm == "edited":
        places[0].write_bytes(places[0].read_bytes().replace(b"a", b"b", 1))
    else:
        places[0].write_bytes(places[1].read_bytes())
    checks = {check.what: check.problem for check in first.verify()}
    assert checks["vocabulary"] is not None
    again = Corpus(
        data_dir=first.data_dir,
        cache_dir=first.cache_dir,
        path="documents",
        tokens="bpe",
        vocab_size=400,
    )
    with pytest.raises(UserError, match="delete the folder"):
        again.prepare()


# Splits.


def test_parts_of_an_index(make: Make) -> None:
    members = books()
    found = all_texts(make(members))
    for split, texts in found.items():
        own = [text.decode() for name, text in members.items() if f"/{split}/" in name]
        assert sorted(texts) == sorted(own)
    by_content = all_texts(make(members, parts="content", validation_share=0.3, test_share=0.3))
    assert {split: len(some) for split, some in by_content.items()} == {
        "train": 4,
        "validation": 3,
        "test": 3,
    }


def test_authors_stay_together(make: Make) -> None:
    lines = [
        json.dumps({"text": f"text {at} of {at % 7}", "author": f"Author {at % 7}"})
        for at in range(70)
    ]
    found = all_texts(make({"x.jsonl": "\n".join(lines).encode()}, test_share=0.3))
    authors = {split: {text.split()[-1] for text in some} for split, some in found.items()}
    assert {split: len(some) for split, some in authors.items()} == {
        "train": 4,
        "validation": 1,
        "test": 2,
    }
    assert len(set().union(*authors.values())) == 7


def test_copies_are_in_one_split(make: Make) -> None:
    members = documents(40)
    rng = random.Random(1)
    names = [name for name in members if not name.endswith(".jsonl")]
    for at in range(60):
        text = members[rng.choice(names)]
        members[f"copies/{at}.txt"] = rng.choice([text, text.upper(), text.replace(b" ", b"\n")])
    task = make(members, test_share=0.3, validation_share=0.3)
    keys = {
        split: {key_of(text.encode()) for text in some} for split, some in all_texts(task).items()
    }
    assert not any(keys[one] & keys[other] for one, other in itertools.combinations(SPLITS, 2))
    assert task.info().details["copies_of_documents"].startswith("60,")
    assert sum(map(len, all_texts(task).values())) == 140


def test_a_text_that_is_said_to_be_in_two_parts(make: Make) -> None:
    parts = ["train", "train", "validation", "test", "train", "test"]
    texts = ["one", "two", "three", "four", "Four!", "THREE"]
    lines = [
        json.dumps({"text": text, "part": part}) for text, part in zip(texts, parts, strict=True)
    ] + [json.dumps({"text": "five", "part": "dev"})]
    task = make({"x.jsonl": "\n".join(lines).encode()})
    assert {split: sorted(some) for split, some in all_texts(task).items()} == {
        "train": ["one", "two"],
        "validation": ["five"],
        "test": ["THREE", "four"],
    }
    assert task.info().details["copies_in_other_parts_left_out"] == "2"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({}, "holds no documents that could be used"),
        ({"a.txt": b"  ", "b.txt": b"\xff"}, r"left out: 1 empty, 1 not UTF-8"),
        ({"a.txt": b"one", "b.txt": b"two"}, "2 documents .* 3 are needed"),
        ({"a.txt": b"one", "b.txt": b"One.", "c.txt": b"two"}, "2 documents .* 3 are needed"),
        (
            {
                "index.tsv": b"file\tpart\na.txt\ttrain\nb.txt\ttest\n",
                **{f"{name}.txt": name.encode() for name in "abc"},
            },
            r"1 of 3 documents have no part, the first of which is c\.txt",
        ),
        (
            {
                "index.tsv": b"file\tpart\na.txt\ttrain\nb.txt\ttest\n",
                **{f"{name}.txt": name.encode() for name in "ab"},
            },
            "has no documents for validation",
        ),
        (
            {f"{at}/index.tsv": b"file\tpart\n" for at in "ab"} | {"a.txt": b"one"},
            "second index",
        ),
    ],
)
def test_corpora_that_cannot_be(make: Make, members: Members, why: str, tmp_path: Path) -> None:
    task = make({"ignored.pdf": b"x", **members})
    with pytest.raises(UserError, match=why) as caught:
        task.prepare()
    assert "\n" not in str(caught.value)
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left <= {"checksums"}


# What must not be in it.


@pytest.fixture
def tests_of_tasks(tmp_path: Path) -> Path:
    """Return a folder with the raw files of all tasks whose texts can be left out."""
    folder = tmp_path / "raw"
    folder.mkdir()
    pack(folder / ARCHIVE_NAME, reviews())
    members = {f"{_hyperpartisan.FOLDER}/{name}": text for name, text in articles().items()}
    pack(folder / _hyperpartisan.ARCHIVE_NAME, members)
    write(folder / _arxiv.FOLDER, papers())
    return folder


def test_test_texts_are_left_out(tests_of_tasks: Path, tmp_path: Path) -> None:
    folder = tests_of_tasks
    copied = {
        "imdb": reviews()["aclImdb/test/neg/0_2.txt"],
        "hyperpartisan": _hyperpartisan.articles_of(articles(), "test")[0].raw,
        "own.txt": b"a text of my own",
    }
    arxiv = papers()
    in_test = _arxiv.divided(*zip(*((name, _label(name)) for name in sorted(arxiv)), strict=True))
    copied["arxiv11"] = arxiv[sorted(arxiv)[in_test.index("test")]]
    members = documents()
    for at, text in enumerate(copied.values()):
        members[f"copies/{at}.txt"] = text.upper()
    # Training texts may be in it.
    members["train.txt"] = reviews()["aclImdb/train/pos/0_9.txt"]
    write(folder / "documents", members)
    (folder / "own.txt").write_bytes(b"a text of my OWN.")
    options: dict[str, Any] = {
        "data_dir": folder,
        "cache_dir": tmp_path / "cache",
        "path": "documents",
    }
    for number, names in enumerate(itertools.accumulate([name] for name in copied)):
        task = Corpus(exclude=names, **options)
        total = sum(map(len, all_texts(task).values()))
        assert total == 60 + 5 - len(names)
        told = task.info().details["test_texts_left_out"]
        assert told == f"{number + 1}, of {', '.join(sorted(names))}"
    assert sum(map(len, all_texts(Corpus(**options)).values())) == 65
    with pytest.raises(UserError, match="is a test text of imdb"):
        Corpus(exclude=["imdb"], on_overlap="refuse", **options).prepare()
    only = Corpus(exclude=["own.txt"], on_overlap="refuse", **options | {"include": "*.jsonl"})
    only.prepare()
    # All that was read counts, what is left out as well.
    sums = {
        Corpus(exclude=names, **options).cache().info.details["documents_sha256"]
        for names in ((), ("imdb",))
    }
    assert len(sums) == 1


def _label(name: str) -> int:
    return _arxiv.CLASSES.index(name.split("/")[0])


def test_what_is_left_out_must_be_there(make: Make) -> None:
    for name in ("imdb", "text", "review_pairs", "hyperpartisan", "arxiv11", "later.txt"):
        with pytest.raises(UserError, match=f"task.exclude has {name}.*put it there"):
            make(exclude=[name]).prepare()
    for name in ("listops", ""):
        with pytest.raises(UserError, match=r"task\.exclude: .* none of the tasks"):
            make(exclude=[name])


def test_unlabeled_reviews(tmp_path: Path) -> None:
    pack(tmp_path / ARCHIVE_NAME, reviews())
    words = [
        "task=unlabelled_reviews",
        f"data_dir={tmp_path}",
        f"cache_dir={tmp_path / 'c'}",
        "task.documents_sha256=''",
    ]
    task = build_task(compose_task(words))
    task.prepare()
    details = task.info().details
    assert details["test_texts_left_out"] == "2, of imdb"
    # 20 and one that is a copy but for a sign.
    assert details["copies_of_documents"].startswith("1,")
    assert task.info().warning == ""


def test_other_documents_than_were_meant(make: Make) -> None:
    found = make().cache().info.details["documents_sha256"]
    assert make(documents_sha256=found).cache().info.warning == ""
    other = make(documents_sha256="0" * 64)
    assert "does not hold the documents that were meant" in other.cache().info.warning


def test_options_that_cannot_be(make: Make) -> None:
    wrong: dict[str, Any] = {
        "max_length": 1,
        "validation_share": 0.0,
        "test_share": 0.5,
        "include": "unsup/",
        "documents_sha256": "x",
        "vocab_size": 100,
        "tokens": "words",
        "path": "nowhere",
    }
    for name, value in wrong.items():
        with pytest.raises(UserError, match=f"task.{name}"):
            make(**{name: value})


def test_nothing_is_named(tmp_path: Path) -> None:
    task = Corpus(data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert task.is_prepared() is False
    with pytest.raises(UserError, match=r"task\.path= names no documents"):
        task.prepare()
    with pytest.raises(UserError, match="put it there"):
        Corpus(data_dir=tmp_path, cache_dir=tmp_path / "cache", path="later.zip").prepare()


def test_it_outlives_its_documents(make: Make) -> None:
    task = make(tokens="bpe", vocab_size=400)
    task.prepare()
    (task.data_dir / "documents").rename(task.data_dir / "gone")
    (task.data_dir / "documents").mkdir()
    assert task.folder() is None
    (task.data_dir / "documents").rmdir()
    (task.data_dir / "documents").touch()
    (task.data_dir / "documents").unlink()
    assert task.is_prepared() is True


# The real ones.


@pytest.fixture(scope="module")
def data_dir() -> Path:
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder or not (Path(folder) / "classic_books.tar.xz").exists():
        pytest.skip("LRA_BENCH_DATA does not name a folder with classic_books.tar.xz")
    return Path(folder)


def test_real_books(data_dir: Path, tmp_path: Path) -> None:
    words = ["task=classic_books", f"data_dir={data_dir}", f"cache_dir={tmp_path}"]
    task = build_task(compose_task(words))
    task.prepare()
    info = task.info()
    assert (info.warning, info.note) == ("", "")
    told = {split: info.details[f"{split}_documents"] for split in SPLITS}
    assert told == {
        "train": "124, 56,175,531 bytes",
        "validation": "7, 3,966,194 bytes",
        "test": "5, 3,673,263 bytes",
    }
    assert task.fingerprint() == "ed38020bbf5c30922381cd4d4203e52288e4bac39bce5560e3f3e8d03e69c408"


@pytest.mark.slow
def test_real_unlabeled_reviews(data_dir: Path, tmp_path: Path) -> None:
    words = ["task=unlabelled_reviews", f"data_dir={data_dir}", f"cache_dir={tmp_path}"]
    task = build_task(compose_task(words))
    task.prepare()
    assert task.info().warning == ""
    assert task.info().details["test_texts_left_out"] == "270, of imdb"
    assert task.fingerprint() == "213902dcca9957c9e09391de5740206ac07d22ec6e347a468aa016607159f7de"


def test_the_vocabulary_of_a_corpus_can_be_read_by_others(make: Make) -> None:
    task = make(tokens="bpe", vocab_size=400)
    task.prepare()
    folder = task.folder()
    assert folder is not None
    assert read_vocabulary(folder).sha256 == task.info().details["vocabulary_sha256"]
