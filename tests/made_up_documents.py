"""Raw files of made-up documents: corpora, news articles and papers, as the tasks read them."""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from xml.sax.saxutils import escape, quoteattr

from lra_tasks import _arxiv, _hyperpartisan, _imdb

Members = dict[str, bytes]
_WORDS = [
    "the",
    "a",
    "of",
    "and",
    "film",
    "news",
    "left",
    "right",
    "caf\u00e9",
    "\u65e5\u672c",
    "so",
    "not",
]


def sentence(rng: random.Random, most: int = 60) -> str:
    """Return some words, never the same ones twice."""
    words = rng.choices(_WORDS, k=rng.randrange(12, most))
    return f"{' '.join(words)} {rng.randrange(10**12)}."


def pack(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    """Write an archive and return its path."""
    with tarfile.open(path, cast(Any, mode)) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write(folder: Path, members: Mapping[str, bytes]) -> Path:
    """Write files below a folder and return it."""
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def documents(number: int = 30, seed: int = 0) -> Members:
    """Return documents in nested folders, and in a file of lines."""
    rng = random.Random(seed)
    members = {
        f"some/{at % 3}/{at}.{'md' if at % 2 else 'txt'}": sentence(rng, 200).encode()
        for at in range(number)
    }
    lines = [json.dumps({"text": sentence(rng), "id": at}) for at in range(number)]
    members["lines.jsonl"] = "\n".join(lines).encode()
    return members


def books(seed: int = 0) -> Members:
    """Return books by author, and an index."""
    rng = random.Random(seed)
    parts = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    members, rows = {}, ["path\tauthor\tyear\tsplit"]
    for at, part in enumerate(parts):
        name = f"{part}/{at:03}.md"
        members[f"classic_books/{name}"] = "\n\n".join(sentence(rng) for _ in range(20)).encode()
        rows.append(f"{name}\tAuthor {at // 2}\t18{at:02}\t{part}")
    return {"classic_books/index.tsv": "\n".join(rows).encode(), **members}


def reviews(seed: int = 0, number: int = 12) -> Members:
    """Return an archive's reviews, some of the unlabeled ones copies of those for testing."""
    rng = random.Random(seed)
    members = {
        f"aclImdb/{part}/{mood}/{at}_{2 if mood == 'neg' else 9}.txt": sentence(rng).encode()
        for part in ("train", "test")
        for mood in ("neg", "pos")
        for at in range(number)
    }
    unlabeled = [sentence(rng).encode() for _ in range(20)]
    copy = members["aclImdb/test/pos/3_9.txt"]
    unlabeled += [copy, copy.upper().replace(b" ", b"\n"), unlabeled[0] + b"!"]
    members |= {f"aclImdb/train/unsup/{at}_0.txt": text for at, text in enumerate(unlabeled)}
    return members


def articles(seed: int = 0, number: int = 40) -> Members:
    """Return the files of Hyperpartisan, and a division without a leak."""
    rng = random.Random(seed)
    members = {}
    for at, part in enumerate(_hyperpartisan.PARTS.values()):
        ids = range(at * number, (at + 1) * number)
        rows = [
            f'\t<article id="{one:07}" published-at="2017-01-01" title={quoteattr(sentence(rng))}>'
            f"{escape(sentence(rng))}<p>{escape(sentence(rng))} <a href='x' type='external'>"
            f"link</a></p>\n<q>and/or</q></article>"
            for one in ids
        ]
        truth = [
            f'<article hyperpartisan="{"true" if one % 3 == 0 else "false"}" id="{one:07}" '
            f'labeled-by="article" url="http://x"/>'
            for one in ids
        ]
        for kind, lines in (("articles", rows), ("ground-truth", truth)):
            text = '<?xml version="1.0" encoding="UTF-8"?><articles>\n' + "\n".join(lines)
            members[f"{kind}-{part}.xml"] = f"{text}\n</articles>\n".encode()
    split = {"train": list(range(30)), "dev": list(range(30, 34)), "test": list(range(34, 40))}
    members["longformer-hp-splits.json"] = json.dumps(split).encode()
    return members


def papers(seed: int = 0, number: int = 10) -> Members:
    """Return a folder a class, each paper with the stamp of the server or without."""
    rng = random.Random(seed)
    members = {}
    for name in _arxiv.CLASSES:
        for at in range(number):
            stamp = f"arXiv:1{at:03}.0{at:04}v2 [{name}] 9 Mar 2018\n" if at % 2 else ""
            members[f"{name}/{at}.txt"] = f"{sentence(rng)}\n{stamp}{sentence(rng)}".encode()
    return members


def put_documents(folder: Path) -> list[str]:
    write(folder / "documents", documents())
    return ["task.path=documents"]


def put_books(folder: Path) -> list[str]:
    pack(folder / "classic_books.tar.xz", books(), "w:xz")
    return []


def put_unlabeled(folder: Path) -> list[str]:
    pack(folder / _imdb.ARCHIVE_NAME, reviews())
    return []


def put_labeled(folder: Path) -> list[str]:
    pack(folder / _imdb.ARCHIVE_NAME, reviews())
    return ["task.num_validation=6", "task.vocab_size=300"]


def put_articles(folder: Path) -> list[str]:
    members = {f"{_hyperpartisan.FOLDER}/{name}": text for name, text in articles().items()}
    pack(folder / _hyperpartisan.ARCHIVE_NAME, members)
    return ["task.vocab_size=300"]


def put_papers(folder: Path) -> list[str]:
    write(folder / _arxiv.FOLDER, papers())
    return ["task.vocab_size=300"]


# See `made_up_raw.PUT`.
PUT: dict[str, Callable[[Path], list[str]]] = {
    "corpus": put_documents,
    "classic_books": put_books,
    "unlabelled_reviews": put_unlabeled,
    "imdb": put_labeled,
    "hyperpartisan": put_articles,
    "hyperpartisan_released": put_articles,
    "arxiv11": put_papers,
}
