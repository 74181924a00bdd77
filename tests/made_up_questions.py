"""Raw files of made-up questions about texts, in the layouts of the data sets, with oddities."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

NAMES = ("Ahab", "Starbuck", "Stubb", "Flask", "Queequeg", "Daggoo", "Pip", "Elijah")


def wikihop_rows(part: str, number: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(f"{part} {seed}")
    rows: list[dict[str, Any]] = []
    for at in range(number):
        candidates = rng.sample(["london", "paris", "new york", "caf\u00e9 town", "oslo"], 3)
        supports = [f"Place {at} , in {one} , is ( so to say ) old . {part}" for one in candidates]
        supports += ["Nothing !  "] if at % 2 else []
        rows.append(
            {
                "id": f"WH_{part}_{at}",
                "query": f"country {part} place {at}",
                "answer": candidates[at % 3],
                "candidates": candidates,
                "supports": supports,
            }
        )
    rows[0]["annotations"] = [["follows", "multiple"]] * 3
    return rows


def put_wikihop(folder: Path, *, train: Any = None, dev: Any = None) -> list[str]:
    place = folder / "qangaroo_v1.1/wikihop"
    place.mkdir(parents=True)
    rows = {"train": train or wikihop_rows("train", 12), "dev": dev or wikihop_rows("dev", 4)}
    for part, some in rows.items():
        (place / f"{part}.json").write_text(json.dumps(some), encoding="utf-8")
    return ["task.num_validation=4"]


def trivia_row(name: str, question: str, aliases: list[str], pages: list[str]) -> dict[str, Any]:
    return {
        "QuestionId": name,
        "Question": question,
        "QuestionSource": "http://nowhere",
        "Answer": {
            "Value": aliases[0],
            "Type": "WikipediaEntity",
            "Aliases": aliases,
            "NormalizedAliases": [one.lower().replace("+", "") for one in aliases],
            "NormalizedValue": aliases[0].lower(),
        },
        "EntityPages": [
            {"DocSource": "TagMe", "Filename": f"{page}.txt", "Title": page} for page in pages
        ],
    }


def trivia_parts() -> dict[str, list[dict[str, Any]]]:
    train = [
        trivia_row(f"tc_{at}", f"Where was number {at}?", ["York", "Eboracum"], ["York", "Leeds"])
        for at in range(8)
    ]
    train.append(trivia_row("tc_8", "Which language?", ["C++", "C plus plus"], ["Languages"]))
    # A human's answer; an article that is not there, one that is empty, one without the answer.
    train.append(trivia_row("tc_9", "Who?", ["\u0130stanbul"], ["Gone", "Blank", "Leeds"]))
    train[-1]["Answer"]["HumanAnswers"] = ["The Big Smoke!"]
    dev = [
        trivia_row("dv_0", "What city of England?", ["York"], ["York", "Leeds"]),
        trivia_row("dv_1", "What else?", ["Nowhere"], ["Leeds"]),
        trivia_row("dv_2", "And without a text?", ["Nothing"], ["Gone"]),
    ]
    return {"train": train, "dev": dev}


ARTICLES = {
    "York": "York is a city. Yorkshire is not York; EBORACUM\n was its name.\n\nNew York's is not.",
    "Leeds": "Leeds lies in Yorkshire, and so does not York-on-Sea lie there. \u0130stanbul.",
    "Languages": "C++ came after C, and C++17 later. (C++) C\tplus\nplus, c plus plus.",
    "Blank": " \n",
}


def put_triviaqa(folder: Path, parts: dict[str, Any] | None = None) -> list[str]:
    place = folder / "triviaqa-rc"
    (place / "qa").mkdir(parents=True)
    (place / "evidence/wikipedia").mkdir(parents=True)
    for part, rows in (parts or trivia_parts()).items():
        content = {"Data": rows, "Domain": "Wikipedia", "Split": part, "Version": 1.0}
        (place / f"qa/wikipedia-{part}.json").write_text(json.dumps(content), encoding="utf-8")
    for name, text in ARTICLES.items():
        (place / f"evidence/wikipedia/{name}.txt").write_text(text, encoding="utf-8")
    return ["task.num_validation=3"]


def covid_content(number: int = 12) -> dict[str, Any]:
    data = []
    for at in range(number):
        text = f"Article {at}: caf\u00e9 virus \u2013 the answer {at} lies here. " + "So. " * at
        answers = {"answer_start": text.index("the answer"), "text": f"the answer {at}"}
        mended = {"answer_start": text.index("lies") + 3, "text": f" lies here. {'So.' * (at < 0)}"}
        data.append(
            {
                "paragraphs": [
                    {
                        "context": text,
                        "document_id": 100 + at,
                        "qas": [
                            {"id": 2 * at, "question": f"What is {at}?", "answers": [answers]},
                            {"id": 2 * at + 1, "question": "What lies?", "answers": [mended]},
                        ],
                    }
                ]
            }
        )
    return {"data": data}


def put_covid_qa(folder: Path, content: Any = None) -> list[str]:
    packed = gzip.compress(json.dumps(content or covid_content()).encode(), mtime=0)
    (folder / "covid_qa_200423.json.gz").write_bytes(packed)
    return []


def book(author: str, seed: int) -> str:
    rng = random.Random(seed)
    lines = [f"# Title: {author}'s Book", f"## Author: {author}", "## Year: 1850", "-------"]
    for chapter in range(3):
        lines.append(f"### CHAPTER {chapter}")
        for _ in range(30):
            first, second = rng.sample(NAMES, 2)
            words = rng.choices(["whale", "ship", "sea", "rope", "caf\u00e9", "storm"], k=8)
            lines.append(
                f"Then {first} told {second} of the {' and the '.join(words)}. "
                f'"Never!" cried Mr. {second}, and {first}\u2019s answer was {author} at sea. '
                f"Once more the {words[0]} was seen by {first} from the {words[1]}."
            )
    return "\n\n".join(lines) + "\n"


def books_archive(rows: list[tuple[str, str, str]], texts: dict[str, bytes]) -> bytes:
    """Return an archive of books.

    Args:
        rows: Path, author and split of each, as the index has them.
        texts: Contents by path.
    """
    index = "path\tauthor\tyear\tsplit\n" + "".join(
        f"{path}\t{author}\t1850\t{split}\n" for path, author, split in rows
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=0) as tar:
        for name, content in {"index.tsv": index.encode(), **texts}.items():
            info = tarfile.TarInfo(f"classic_books/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ROWS = [("train/0.md", "Bob", "train"), ("train/1.md", "Ann", "train")]
ROWS += [("validation/0.md", "Val", "validation"), ("test/0.md", "Tess", "test")]


def put_books(folder: Path) -> list[str]:
    texts = {path: book(author, at).encode() for at, (path, author, _) in enumerate(ROWS)}
    (folder / "classic_books.tar.xz").write_bytes(books_archive(ROWS, texts))
    return []
