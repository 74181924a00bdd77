"""Raw files of made-up content, as the tasks read them."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import made_up_documents
import numpy as np
from made_up_questions import put_books, put_covid_qa, put_triviaqa, put_wikihop

from lra_tasks._cifar import BINARY_ARCHIVE, BINARY_FILES, BINARY_FOLDER, RECORD_BYTES
from lra_tasks._imdb import ARCHIVE_NAME
from lra_tasks.retrieval import RELEASED

# Contents by name.
Members = dict[str, bytes]


def key(*parts: object) -> bytes:
    return hashlib.sha256("|".join(map(str, parts)).encode()).digest()


def made_up_members(seed: int = 0, *, num_films: int = 160, most: int = 6) -> Members:
    """Return the members of an archive with all that the real one has of odd things.

    Films in both parts, copies of a text under one film and under several, in one part and in
    both, and copies that differ in case, blanks and punctuation.
    """
    rng = random.Random(seed)
    films = [f"tt{number:07}" for number in range(1, num_films + 1)]
    # Every tenth film has reviews in both parts.
    shares = {
        "train": [film for at, film in enumerate(films) if at % 2 == 0 or at % 10 == 1],
        "test": [film for at, film in enumerate(films) if at % 2 == 1],
    }
    members: Members = {}
    texts: list[tuple[str, str]] = []
    for part, own in shares.items():
        rows: dict[str, list[tuple[str, str]]] = {"neg": [], "pos": []}
        for film in own:
            # Most reviews of a film agree, as in the real ones.
            moods = ("neg", "pos") if rng.random() < 0.5 else ("pos", "neg")
            for at in range(rng.randrange(1, most + 1)):
                line = f"Review {part} {film} {at}: caf\u00e9 " + "so, so. " * rng.randrange(9)
                chance = rng.random()
                if texts and chance < 0.08:
                    line = rng.choice(texts)[1]
                elif texts and chance < 0.16:
                    line = rng.choice([one for one in texts if one[0] == film] or texts)[1]
                if chance < 0.2:
                    line = rng.choice([line.upper(), line.replace(" ", "\t\n"), f" _{line}!?"])
                texts.append((film, line))
                rows[moods[rng.random() < 0.15]].append((film, line))
        for mood, some in rows.items():
            for number, (_, line) in enumerate(some):
                name = f"aclImdb/{part}/{mood}/{number}_{1 + number % 10}.txt"
                members[name] = f"{line}\n".encode()
            members[f"aclImdb/{part}/urls_{mood}.txt"] = b"".join(
                f"http://www.imdb.com/title/{film}/usercomments\n".encode() for film, _ in some
            )
    members["aclImdb/train/unsup/0_0.txt"] = b"nobody knows"
    members["aclImdb/train/urls_unsup.txt"] = b"nowhere"
    members["aclImdb/README"] = b"read me"
    # Archives are in no order that could be relied on.
    return dict(sorted(members.items(), key=lambda item: key(item[0])))


def pack(path: Path, members: Mapping[str, bytes]) -> None:
    """Write an archive."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def put_reviews(folder: Path) -> list[str]:
    members = {
        f"aclImdb/{part}/{mood}/{number}_{2 if mood == 'neg' else 9}.txt": (
            f"{mood} {part} {number} caf\u00e9 \u65e5\u672c " * (1 + number % 5)
        ).encode()
        for part in ("train", "test")
        for mood in ("neg", "pos")
        for number in range(12)
    }
    pack(folder / ARCHIVE_NAME, members)
    return ["task.num_validation=6"]


def put_reviews_of_films(folder: Path) -> list[str]:
    pack(folder / ARCHIVE_NAME, made_up_members())
    return ["task.num_train=100", "task.num_validation=20", "task.num_test=20"]


def put_pictures(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    members = {}
    for name in BINARY_FILES:
        records = rng.integers(0, 256, (12, RECORD_BYTES)).astype(np.uint8)
        records[:, 0] = np.arange(12) % 10
        members[f"{BINARY_FOLDER}/{name}"] = records.tobytes()
    pack(folder / BINARY_ARCHIVE, members)
    return []


def put_papers(folder: Path) -> list[str]:
    rng = random.Random(0)
    for name in RELEASED.names.values():
        lines = []
        for number in range(20):
            first, second = (bytes(rng.choices(b"abc. \"'\xff", k=60)) for _ in "12")
            lines.append(b"%d.0\tP\tQ\t%s\t%s\n" % (number % 2, first, second))
        (folder / name).write_bytes(b"".join(lines))
    return []


def put_nothing(folder: Path) -> list[str]:
    """Draw fewer images than a run of seconds does: the large ones take their time."""
    return ["task.num_train=10", "task.num_validation=4", "task.num_test=4"]


# By the name of a task: writes its raw files to a folder, and returns the options that go with
# them. A task that needs none, and is quick enough under setting=smoke, has no entry.
PUT: dict[str, Callable[[Path], list[str]]] = {
    "text": put_reviews,
    "review_pairs": put_reviews_of_films,
    "image": put_pictures,
    "retrieval": put_papers,
    "pathfinder": put_nothing,
    "pathx": put_nothing,
    "pathx_256": put_nothing,
    **made_up_documents.PUT,
    "wikihop": put_wikihop,
    "triviaqa": put_triviaqa,
    "covid_qa": put_covid_qa,
    "book_cloze": put_books,
}
