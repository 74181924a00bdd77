from __future__ import annotations

import hashlib
import io
import itertools
import os
import random
import re
import tarfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import mutants
from made_up_raw import Members, key, made_up_members

from lra_bench.cli import main
from lra_bench.data import Loader
from lra_bench.errors import UserError
from lra_bench.record import read as read_record
from lra_bench.types import SPLITS, DataInfo, Progress, Split
from lra_tasks import _imdb
from lra_tasks._imdb import ARCHIVE_NAME, OFFICIAL, URL
from lra_tasks._pairing import FilmReview, Match, exchanged, make_pairs
from lra_tasks._sources import Member
from lra_tasks.review_pairs import ReviewPairs, join, read_reviews

Counts = dict[Split, int]
FOLDERS = [f"aclImdb/{part}/{mood}" for part in ("train", "test") for mood in ("neg", "pos")]
SIZES: Counts = {"train": 100, "validation": 20, "test": 20}


def normal(line: str) -> str:
    """Return what two copies of a text have in common."""
    return "".join(filter(str.isalnum, line.lower()))


# Through an archive.


def pack(members: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with an archive below ``data``; there is no network."""

    def no_network(*args: Any, **options: Any) -> Any:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ARCHIVE_NAME).write_bytes(pack(made_up_members()))
    return tmp_path


def make(folder: Path, **options: Any) -> ReviewPairs:
    options = {f"num_{split}": number for split, number in SIZES.items()} | options
    return ReviewPairs(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def caches(folder: Path) -> list[Path]:
    return list((folder / "cache").glob("*review_pairs-*"))


def rewrite(folder: Path, change: Callable[[Members], None]) -> Path:
    """Pack the archive anew, changed."""
    members = made_up_members()
    change(members)
    path = folder / "data" / ARCHIVE_NAME
    path.write_bytes(pack(members))
    return path


def reviews_of(members: Mapping[str, bytes]) -> dict[str, list[FilmReview]]:
    """Read a good archive in the plainest way."""
    found: dict[str, list[FilmReview]] = {"train": [], "test": []}
    for folder in FOLDERS:
        part, mood = folder.split("/")[1:]
        films = members[f"aclImdb/{part}/urls_{mood}.txt"].decode().split()
        for number, film in enumerate(films):
            (name,) = (one for one in members if one.startswith(f"{folder}/{number}_"))
            line = re.sub(r"[\t\r\n]+", " ", members[name].decode().strip()).strip()
            found[part].append(
                FilmReview(f"{part}-{mood}-{number}", film.split("/")[4], mood, line)
            )
    return found


# What must hold of any pairs, by looking at all of them.


def check_pairs(
    pairs: Mapping[Split, Sequence[Match]],
    reviews: Mapping[str, Sequence[FilmReview]],
    counts: Mapping[Split, int],
    seed: int = 0,
) -> None:
    films_of_train = {review.film for review in reviews["train"]}
    places: dict[str, list[FilmReview]] = {}
    normals: dict[str, str] = {}
    for review in (*reviews["train"], *reviews["test"]):
        normals[review.id] = normal(review.text)
        places.setdefault(normals[review.id], []).append(review)
    # The texts of each film that a split may use.
    pools: dict[Split, dict[str, set[str]]] = {split: {} for split in SPLITS}
    for line, copies in places.items():
        film, part = copies[0].film, copies[0].id.split("-")[0]
        if any(copy.film != film for copy in copies) or (part == "test" and film in films_of_train):
            continue
        of_test: Split = "validation" if key(seed, "split", film)[0] % 2 else "test"
        split: Split = "train" if part == "train" else of_test
        pools[split].setdefault(film, set()).add(line)
    films: dict[Split, set[str]] = {}
    texts: dict[Split, set[str]] = {}
    for split, matches in pairs.items():
        used = {one for first, second, _ in matches for one in (first, second)}
        films[split] = {one.film for one in used}
        texts[split] = {normals[one.id] for one in used}
        # Of each text one copy.
        assert len(texts[split]) == len(used)
        assert used <= set(reviews["train" if split == "train" else "test"])
        for one in used:
            assert len({copy.film for copy in places[normals[one.id]]}) == 1
            assert split == "train" or one.film not in films_of_train
        # As many as were asked for, half of them positive, and the labels are true.
        assert Counter(label for *_, label in matches) == dict.fromkeys((0, 1), counts[split] // 2)
        for first, second, label in matches:
            assert first.id != second.id
            assert label == (first.film == second.film)
        positives = [{first.id, second.id} for first, second, label in matches if label]
        assert len(set(map(frozenset, positives))) == len(positives)
        # Neither a single text nor agreement in polarity says anything.
        for side in (0, 1):
            counted = Counter((match[:2][side].id, match[2]) for match in matches)
            assert all(
                number == counted[name, 1 - label] for (name, label), number in counted.items()
            )
        agreeing = Counter(label for first, second, label in matches if first.mood == second.mood)
        assert agreeing[0] == agreeing[1]
        check_turns([(first, second) for first, second, label in matches if label], pools[split])
    for split, other in itertools.combinations(SPLITS, 2):
        assert not films[split] & films[other]
        assert not texts[split] & texts[other]


def check_turns(
    positives: Sequence[tuple[FilmReview, FilmReview]], pool: Mapping[str, set[str]]
) -> None:
    """The films provide the pairs in turn, first those without a review in common."""
    used: dict[str, list[str]] = {film: [] for film in pool}
    for first, second in positives:
        used[first.film] += (first.id, second.id)
    most = max(map(len, used.values())) // 2
    for film, names in used.items():
        available, number = len(pool[film]), len(names) // 2
        assert min(available * (available - 1) // 2, most - 1) <= number
        if number <= available // 2:
            assert len(set(names)) == len(names)


SEEDS_AND_SIZES: tuple[tuple[int, Counts], ...] = (
    (0, SIZES),
    (1, {"train": 22, "validation": 20, "test": 24}),
    (2, {"train": 60, "validation": 30, "test": 82}),
    (3, {"train": 400, "validation": 40, "test": 40}),
    (12_345, {"train": 250, "validation": 100, "test": 20}),
)


@pytest.mark.parametrize("archive", range(4))
@pytest.mark.parametrize(("seed", "counts"), SEEDS_AND_SIZES)
def test_properties(archive: int, seed: int, counts: Counts) -> None:
    reviews = reviews_of(made_up_members(archive))
    check_pairs(make_pairs(reviews, counts, seed, Path()), reviews, counts, seed)


def most_pairs(reviews: Mapping[str, Sequence[FilmReview]], counts: Counts) -> Counts:
    """Return how many pairs each split can have, as the messages say."""
    found = {}
    for split in SPLITS:
        with pytest.raises(UserError, match=f"task.num_{split}=1000000 is too much") as caught:
            make_pairs(reviews, counts | {split: 1_000_000}, 0, Path("archive"))
        said = re.search(r"archive gives at most ([0-9,]+) pairs", str(caught.value))
        assert said is not None
        found[split] = int(said[1].replace(",", ""))
    return found


@pytest.mark.parametrize("archive", range(4))
def test_the_very_last_pair_can_be_had(archive: int) -> None:
    reviews = reviews_of(made_up_members(archive))
    most = most_pairs(reviews, SIZES)
    check_pairs(make_pairs(reviews, most, 0, Path()), reviews, most)


def test_pairs_are_drawn_by_the_seed() -> None:
    reviews = reviews_of(made_up_members())
    made = [make_pairs(reviews, SIZES, seed, Path())["train"] for seed in (0, 0, 1, 2)]
    assert made[0] == made[1]
    assert len({frozenset((a.id, b.id, label) for a, b, label in one) for one in made}) == 3
    # And in no order that tells the label.
    labels = [label for *_, label in made[0]]
    assert 30 < sum(one != other for one, other in itertools.pairwise(labels)) < 70


def tsv_digest(matches: Sequence[Match]) -> str:
    """Return the SHA-256 of the pairs as lines: label, ids, texts."""
    lines = (
        "\t".join((f"{label}.0", first.id, second.id, first.text, second.text)) + "\n"
        for first, second, label in matches
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def one_review(name: str, film: str, mood: str) -> FilmReview:
    return FilmReview(name, film, mood, f"text of {name}")


def test_the_same_pairs_for_ever() -> None:
    # If this changes, PREPARATION_VERSION must change too, or old caches pass for new ones.
    moods = ("neg", "pos")
    reviews = {
        part: [
            one_review(f"{part}-{moods[at % 2]}-{at}", f"tt{start + at * at % 97}", moods[at % 2])
            for at in range(500)
        ]
        for part, start in (("train", 0), ("test", 90))
    }
    found = {
        (seed, split): tsv_digest(pairs)[:16]
        for seed in (0, 5)
        for split, pairs in make_pairs(reviews, SIZES, seed, Path()).items()
    }
    assert found == {
        (0, "train"): "cfd9e253279001b7",
        (0, "validation"): "359600d6b66d9faa",
        (0, "test"): "2245ab08b3456c1f",
        (5, "train"): "19ed12275f0f4c2d",
        (5, "validation"): "033285d96d11bd4c",
        (5, "test"): "aae139239447fcfd",
    }


@pytest.mark.parametrize("number", range(1, 12))
def test_an_exchange_is_found_whenever_there_is_one(number: int) -> None:
    rng = random.Random(number)
    outcomes = Counter[bool]()
    for trial in range(300):
        positives = []
        for at in range(number):
            film = f"tt{rng.randrange(1, 6)}"
            pair = [one_review(f"{side}-{at}", film, rng.choice(["neg", "pos"])) for side in "lr"]
            positives.append((pair[0], pair[1]))
        # Left and right hold the same films, so that a film must give all its reviews to others.
        groups = [[one.film for _, one in positives if one.mood == mood] for mood in ("neg", "pos")]
        possible = all(2 * max(Counter(films).values()) <= len(films) for films in groups if films)
        rights = exchanged(positives, trial)
        assert (rights is not None) == possible
        outcomes[possible] += 1
        if rights is not None:
            assert Counter(one.id for one in rights) == Counter(one.id for _, one in positives)
            for (first, second), other in zip(positives, rights, strict=True):
                assert first.film != other.film
                assert second.mood == other.mood
    assert outcomes[False] > 10
    assert outcomes[True] > 10 or number < 4


def test_one_film_has_too_many_reviews(tmp_path: Path) -> None:
    reviews = {
        "train": [one_review(f"train-pos-{at}", "tt1", "pos") for at in range(8)],
        "test": [],
    }
    with pytest.raises(UserError, match=r"task\.num_train=8: .* ask for more, or for fewer"):
        make_pairs(reviews, {"train": 8, "validation": 4, "test": 4}, 0, tmp_path)


# Through the whole task.


def rows_of(task: ReviewPairs, split: Split) -> list[tuple[str, str, int]]:
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [
        (*(bytes((ids - 1).tolist()).decode() for ids in one.inputs), int(one.target))  # type: ignore[misc]
        for one in found
    ]


def test_made_up_archive(folder: Path) -> None:
    members = made_up_members()
    task = make(folder)
    seen: list[Progress] = []
    assert not task.is_prepared()
    task.prepare(seen.append)
    assert task.is_prepared()
    reviews = reviews_of(members)
    assert read_reviews(folder / "data" / ARCHIVE_NAME) == (reviews, False)
    expected = make_pairs(reviews, SIZES, 0, Path())
    for split in SPLITS:
        assert rows_of(task, split) == [
            (first.text, second.text, label) for first, second, label in expected[split]
        ]
    info = task.info()
    assert info.source == "IMDB review pairs, seed 0, not the official set"
    assert info.details["archive"] == "unknown archive"
    for said in (ARCHIVE_NAME, URL, "training and"):
        assert said in info.warning
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert problems == {"official set": info.warning}
    spec = task.spec
    assert (spec.name, spec.num_inputs, spec.vocab_size) == ("review_pairs", 2, 257)
    assert (spec.num_classes, spec.majority_baseline) == (2, 0.5)
    assert info.num_examples == SIZES
    for what in ("reading", "making"):
        done = [progress.done for progress in seen if progress.what.startswith(what)]
        assert done
        assert done == sorted(done)
    assert len(caches(folder)) == 1
    assert [path.name for path in (folder / "data").iterdir()] == [ARCHIVE_NAME]


def info_of(task: ReviewPairs) -> DataInfo:
    task.prepare()
    return task.info()


def test_official_reviews(folder: Path) -> None:
    members = made_up_members()
    rows: dict[str, list[tuple[bytes, int]]] = {"train": [], "test": []}
    lists: dict[tuple[str, str], list[str]] = {}
    for where in FOLDERS:
        _, part, mood = where.split("/")
        names = sorted(name for name in members if name.startswith(where))
        rows[part] += [(members[name].strip(), int(mood == "pos")) for name in names]
        lines = members[f"aclImdb/{part}/urls_{mood}.txt"].decode().split()
        lists[part, mood] = [line.split("/")[4] for line in lines]
    half_known = replace(OFFICIAL, content=_imdb.content_digest(rows))
    assert "films" in info_of(make(folder, official=half_known)).warning
    known = replace(half_known, films=_imdb.films_digest(lists))
    other = make(folder, seed=3, official=known)
    info = info_of(other)
    assert (info.source, info.warning, info.note) == ("IMDB review pairs, seed 3", "", "")
    assert info.details == {
        "archive": "unknown archive",
        "archive_sha256": hashlib.sha256((folder / "data" / ARCHIVE_NAME).read_bytes()).hexdigest(),
    }
    assert [check.problem for check in other.verify()] == [None] * 3
    # In any wrapping; but with another review, or of another film, they are no longer those.
    (folder / "data" / ARCHIVE_NAME).write_bytes(pack(dict(sorted(members.items())), "w"))
    again = make(folder, seed=3, official=known)
    assert again.fingerprint() == other.fingerprint()
    assert not again.info().warning
    for name in ("aclImdb/train/pos/0_1.txt", "aclImdb/test/urls_neg.txt"):
        rewrite(folder, lambda some, name=name: some.update({name: some[name].replace(b"1", b"7")}))  # type: ignore[misc]
        assert info_of(make(folder, seed=3, official=known)).warning


def test_cut_to_the_length(folder: Path) -> None:
    whole, cut = make(folder), make(folder, max_length=20)
    for split in SPLITS:
        long, short = whole.examples(split), cut.examples(split)
        for at in range(len(long)):
            for left, right in zip(long[at].inputs, short[at].inputs, strict=True):
                assert right.tolist() == left[:20].tolist()
    # Cutting happens when the data are read: both share what was prepared.
    assert whole.fingerprint() == cut.fingerprint()
    assert len(caches(folder)) == 1


def test_what_a_person_reads(folder: Path) -> None:
    task = make(folder)
    first, second, label = rows_of(task, "test")[0]
    answer = "the same film" if label else "two films"
    assert task.decode(task.examples("test")[0]) == (
        f"input 1:\n{first}\n\ninput 2:\n{second}\n\nanswer: {answer}"
    )


def test_prepared_once_for_each_choice(folder: Path) -> None:
    first = make(folder).fingerprint()
    others = [make(folder, seed=1), make(folder, num_train=98), make(folder, num_test=18)]
    assert len({first, *(other.fingerprint() for other in others)}) == 4
    assert len(caches(folder)) == 4
    # What was prepared outlives the archive.
    (folder / "data" / ARCHIVE_NAME).unlink()
    assert make(folder).fingerprint() == first
    with pytest.raises(UserError, match=r"cannot download .*no network here") as caught:
        make(folder, seed=2).prepare()
    for named in (ARCHIVE_NAME, str(folder / "data"), URL):
        assert named in str(caught.value)


def test_a_batch(folder: Path) -> None:
    task = make(folder)
    loader = Loader(
        task.examples("train"),
        batch_size=len(task.examples("train")),
        bucketing=True,
        device=torch.device("cpu"),
        spec=task.spec,
    )
    (batch,) = loader.evaluation()
    assert batch.mask_BIL is not None
    found = Counter(
        (
            *(bytes((ids[mask] - 1).tolist()).decode() for ids, mask in zip(*pair, strict=True)),
            label,
        )
        for *pair, label in zip(
            batch.tokens_BIL, batch.mask_BIL, batch.targets.tolist(), strict=True
        )
    )
    assert found == Counter(rows_of(task, "train"))


def test_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"{name}_dir={folder / name}" for name in ("data", "cache", "results")]
    words = ["run", "task=review_pairs", "model=local", "setting=smoke", *folders]
    assert main(words) == 0, capsys.readouterr().err
    (path,) = (folder / "results/runs").rglob("*.json")
    record = read_record(path)
    assert record.task == "review_pairs"
    assert record.test is not None
    assert record.test.num_examples == 40


# What can go wrong.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_train": 101}, "task.num_train=101"),
        ({"num_validation": 2}, "task.num_validation=2"),
        ({"num_test": 0}, "task.num_test=0"),
        ({"num_test": -4}, "task.num_test=-4"),
        ({"seed": -1}, "task.seed=-1"),
        ({"max_length": 0}, "task.max_length=0"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_too_many_pairs(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"task.num_train=9000 is too much: .* at most [0-9]+ pairs"
    ):
        make(folder, num_train=9_000).prepare()
    assert not caches(folder)


def without_a_list(members: Members) -> None:
    del members["aclImdb/test/urls_pos.txt"]


def with_a_line_less(members: Members) -> None:
    name = "aclImdb/test/urls_neg.txt"
    members[name] = members[name].split(b"\n", 1)[1]


def with_a_line_of_another_kind(members: Members) -> None:
    name = "aclImdb/train/urls_neg.txt"
    members[name] = members[name].replace(b"/title/tt", b"/name/nm", 1)


def without_a_review(members: Members) -> None:
    del members["aclImdb/train/pos/3_4.txt"]


def with_a_gap(members: Members) -> None:
    members["aclImdb/train/pos/03_4.txt"] = members.pop("aclImdb/train/pos/3_4.txt")


def with_a_number_twice(members: Members) -> None:
    members["aclImdb/train/pos/4_9.txt"] = members.pop("aclImdb/train/pos/3_4.txt")


def with_a_huge_number(members: Members) -> None:
    members[f"aclImdb/train/pos/{'9' * 90}_4.txt"] = members.pop("aclImdb/train/pos/3_4.txt")


def with_an_empty_review(members: Members) -> None:
    members["aclImdb/train/pos/3_4.txt"] = b" \n"


def with_a_review_of_blanks(members: Members) -> None:
    members["aclImdb/train/pos/3_4.txt"] = b"\xc2\xa0"


def with_half_a_character(members: Members) -> None:
    members["aclImdb/train/pos/3_4.txt"] = b"caf\xc3"


def with_a_wrong_byte(members: Members) -> None:
    members["aclImdb/train/pos/3_4.txt"] = b"caf\xff"


def without_anything(members: Members) -> None:
    members.clear()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_a_list, "test/urls_pos.txt is missing"),
        (with_a_line_less, r"test/urls_neg.txt has \d+ lines for \d+ reviews"),
        (with_a_line_of_another_kind, "urls_neg.txt, line 1: .* is no film"),
        (without_a_review, r"train/urls_pos.txt has \d+ lines for \d+ reviews"),
        (with_a_gap, "none of number 3"),
        (with_a_number_twice, "none of number 3"),
        (with_a_huge_number, "none of number 3"),
        (with_an_empty_review, "train/pos/3_4.txt is empty"),
        (with_a_review_of_blanks, "train/pos/3_4.txt is empty"),
        (with_half_a_character, "train/pos/3_4.txt is not UTF-8"),
        (with_a_wrong_byte, "train/pos/3_4.txt is not UTF-8"),
        (without_anything, "urls_neg.txt is missing"),
    ],
)
def test_what_the_archive_holds(folder: Path, change: Callable[[Members], None], said: str) -> None:
    path = rewrite(folder, change)
    with pytest.raises(UserError, match=said) as caught:
        make(folder).prepare()
    assert str(path) in str(caught.value)
    assert URL in str(caught.value)
    assert not caches(folder)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_an_archive_cut_short(folder: Path, share: float) -> None:
    path = folder / "data" / ARCHIVE_NAME
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=re.escape(str(path))):
        make(folder).prepare()
    assert not caches(folder)


# Damaged files, many of them.


def naive(members: Sequence[tuple[str, bytes]]) -> dict[str, list[FilmReview]] | None:
    """Read the members in the plainest way; None if something is wrong with them."""
    lists: dict[tuple[str, str], bytes] = {}
    files: dict[tuple[str, str], dict[str, bytes]] = {}
    names = []
    for name, content in members:
        parts = name.split("/")
        if parts[0] != "aclImdb" or parts[1:2] not in (["train"], ["test"]):
            continue
        if len(parts) == 3 and parts[2] in ("urls_neg.txt", "urls_pos.txt"):
            names.append(name)
            lists[parts[1], parts[2][5:8]] = content
        if len(parts) == 4 and parts[2] in ("neg", "pos") and parts[3].endswith(".txt"):
            stem = parts[3][:-4].split("_")
            if len(stem) == 2 and all(one.isascii() and one.isdigit() for one in stem):
                names.append(name)
                files.setdefault((parts[1], parts[2]), {})[stem[0]] = content
    if len(set(names)) != len(names) or len(names) != len(lists) + sum(map(len, files.values())):
        return None
    found: dict[str, list[FilmReview]] = {"train": [], "test": []}
    for part, mood in itertools.product(("train", "test"), ("neg", "pos")):
        some = files.get((part, mood), {})
        lines = lists.get((part, mood), b"?").splitlines()
        if len(lines) != len(some):
            return None
        for number, line in enumerate(lines):
            pieces = line.decode("latin-1").split("/")
            content = some.get(str(number), b"")
            try:
                film = pieces[4]
                words = content.decode()
            except (IndexError, UnicodeDecodeError):
                return None
            for blank in "\t\r\n":
                words = words.replace(blank, "\n")
            words = " ".join(filter(None, words.split("\n"))) if "\n" in words else words
            is_film = film[:2] == "tt" and film[2:].isdigit() and film.isascii()
            checks = (
                pieces[0] in ("http:", "https:") and not pieces[1] and pieces[3] == "title",
                is_film and len(film) <= 12,
                pieces[2] and line.decode("latin-1").split() == [line.decode("latin-1")],
                words.strip(),
            )
            if not all(checks):
                return None
            found[part].append(FilmReview(f"{part}-{mood}-{number}", film, mood, words.strip()))
    return found


def sealed(name: str, content: bytes) -> Member:
    return Member(name, len(content), io.BytesIO(content), f"archive, member {name}")


@pytest.mark.parametrize("number", [2_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_damaged_members(number: int) -> None:
    """Members are refused with a clear error, or read exactly as the plainest reader does."""
    good = [*made_up_members(num_films=6, most=2).items()]
    names = [name.encode() for name, _ in good]
    rng = random.Random(0)
    outcomes = Counter[str]()
    # As many damaged names as contents, each in a set that is sound otherwise.
    new_names = mutants(names, number // 2)
    for content in mutants([content for _, content in good], number // 2):
        new_name = next(new_names).decode("utf-8", "surrogateescape")
        for is_name in (True, False):
            members = good.copy()
            at = rng.randrange(len(members))
            name, old = members[at]
            members[at] = (new_name, old) if is_name else (name, content)
            expected = naive(members)
            files = _imdb.reviews_of(sealed(*one) for one in members)
            try:
                found, _ = join(files, Path("archive"), OFFICIAL)
            except UserError:
                assert expected is None, members[at]
                outcomes["refused"] += 1
            else:
                assert found == expected, members[at]
                outcomes["read"] += 1
    assert min(outcomes["refused"], outcomes["read"]) > number // 20


# The real archive.


@pytest.fixture(scope="module")
def real() -> dict[str, list[FilmReview]]:
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder:
        pytest.skip(f"LRA_BENCH_DATA does not name a folder with {ARCHIVE_NAME}")
    path = Path(folder) / ARCHIVE_NAME
    if not path.exists():
        pytest.skip(f"there is no {path}")
    reviews, is_official = read_reviews(path)
    assert is_official
    return reviews


def test_real_pairs(real: dict[str, list[FilmReview]]) -> None:
    counts: Counts = {"train": 80_000, "validation": 2_000, "test": 2_000}
    pairs = make_pairs(real, counts, 0, Path())
    check_pairs(pairs, real, counts)
    # Those of another program that follows the same rules.
    assert {split: tsv_digest(some) for split, some in pairs.items()} == {
        "train": "c2dbae87f56ccf8d140801c54111fca19d6aa6ca9982a7b94f5d90f0914b070b",
        "validation": "32e36adaabc51d339a306487c470d326c253a4d182ab885407121284dcc5075d",
        "test": "2d724afc05f3435e9b453369b118ecaeaa06794c670136be6a7b74961d86f33c",
    }
    assert ReviewPairs.__doc__ is not None
    for some in pairs.values():
        assert f"{tsv_digest(some)[:16]}..." in ReviewPairs.__doc__


@pytest.mark.slow
def test_real_pairs_of_another_seed(real: dict[str, list[FilmReview]]) -> None:
    counts: Counts = {"train": 20_000, "validation": 200, "test": 1_000}
    check_pairs(make_pairs(real, counts, 7, Path()), real, counts, 7)


@pytest.mark.slow
def test_as_many_real_pairs_as_there_are(real: dict[str, list[FilmReview]]) -> None:
    most = most_pairs(real, SIZES)
    assert most["train"] == 377_648
    assert len(make_pairs(real, SIZES | {"train": most["train"]}, 0, Path())["train"]) == 377_648


def test_real_task(real: dict[str, list[FilmReview]], tmp_path: Path) -> None:
    del real
    data_dir = Path(os.environ["LRA_BENCH_DATA"])
    task = ReviewPairs(
        data_dir=data_dir, cache_dir=tmp_path, num_train=2_000, num_validation=200, num_test=200
    )
    task.prepare()
    assert [check.problem for check in task.verify()] == [None] * 3
    info = task.info()
    assert (info.source, info.warning) == ("IMDB review pairs, seed 0", "")
    assert info.details["archive"] in [archive.name for archive in OFFICIAL.archives]
    assert task.fingerprint() == "dd597204b1788b3e8e7ebcb7c9aeb5e22020bdb7d830c4190cd295a2eca5413a"
