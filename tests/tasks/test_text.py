from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import random
import re
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, cast

import numpy as np
import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, Progress, Split
from lra_tasks import _imdb
from lra_tasks._download import Archive
from lra_tasks._imdb import ARCHIVE_NAME, OFFICIAL, URL, Official, Review
from lra_tasks.text import Text

Rows = list[tuple[bytes, int]]


def rows_of(task: Text, split: Split) -> Rows:
    """Return the reviews of a split as bytes again, with their labels."""
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [((one.inputs[0] - np.uint8(1)).tobytes(), int(one.target)) for one in found]


def archive_rows(path: Path, split: str) -> Rows:
    """Read an archive in the plainest way; in the order of the names."""
    rows = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = PurePosixPath(member.name).as_posix()
            found = re.fullmatch(r"aclImdb/(train|test)/(neg|pos)/[0-9]+_[0-9]+\.txt", name)
            if member.isfile() and found and found[1] == split:
                file = tar.extractfile(member)
                assert file is not None
                rows[name] = file.read().strip(), int(found[2] == "pos")
    return [rows[name] for name in sorted(rows)]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def caches_in(cache_dir: Path) -> set[str]:
    """Return what is there beside the checksums of raw files."""
    return names_in(cache_dir) - {"checksums"}


# The real archive.


@pytest.fixture(scope="module")
def real_archive() -> Path:
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder:
        pytest.skip(f"LRA_BENCH_DATA does not name a folder with {ARCHIVE_NAME}")
    path = Path(folder) / ARCHIVE_NAME
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


@pytest.fixture(scope="module")
def real(real_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Text:
    cache_dir = tmp_path_factory.mktemp("cache")
    task = Text(data_dir=real_archive.parent, cache_dir=cache_dir, max_length=1_000_000)
    task.prepare()
    assert len(caches_in(cache_dir)) == 1
    return task


@pytest.fixture(scope="module")
def real_rows(real: Text) -> dict[Split, Rows]:
    return {split: rows_of(real, split) for split in SPLITS}


def test_real_counts(real_rows: dict[Split, Rows]) -> None:
    counted = {split: Counter(label for _, label in rows) for split, rows in real_rows.items()}
    assert counted == {
        "train": {0: 11_250, 1: 11_250},
        "validation": {0: 1_250, 1: 1_250},
        "test": {0: 12_500, 1: 12_500},
    }


def test_real_reviews_are_those_of_the_archive(
    real_archive: Path, real_rows: dict[Split, Rows]
) -> None:
    assert real_rows["test"] == archive_rows(real_archive, "test")
    training = archive_rows(real_archive, "train")
    assert Counter(real_rows["train"] + real_rows["validation"]) == Counter(training)
    # Reviews of one film have neighboring names: what is held out comes from everywhere.
    held_out = set(real_rows["validation"])
    at = [at for at, row in enumerate(training) if row in held_out]
    parts = np.histogram(at, 10, (0, len(training)))[0]
    assert (abs(parts - 250) < 4 * 15).all()


def test_real_ids_and_decoding(real: Text, real_rows: dict[Split, Rows]) -> None:
    for split in SPLITS:
        examples = real.examples(split)
        for at in range(0, len(examples), 97):
            example = examples[at]
            content, _ = real_rows[split][at]
            assert example.inputs[0].tolist() == [byte + 1 for byte in content]
            assert real.decode(example) == content.decode()


def test_real_reviews_are_official(real: Text, real_archive: Path) -> None:
    digest = hashlib.sha256(real_archive.read_bytes()).hexdigest()
    names = {archive.sha256: archive.name for archive in OFFICIAL.archives}
    info = real.info()
    assert (info.source, info.warning, info.note) == ("IMDB reviews", "", "")
    assert info.details == {
        "archive": names[digest],
        "archive_sha256": digest,
        "validation": "2,500 of the training reviews, stratified, seed 0",
    }


def test_real_fingerprint(real: Text) -> None:
    # If this changes, PREPARATION_VERSION must change too, or old caches pass for new ones.
    assert real.fingerprint() == "314883836414a7cc88115b5585a205e9c4b520457bf75a9b73716e524679e379"
    assert [check.problem for check in real.verify()] == [None] * 3


# A made-up archive, small, through the whole path.

NUM_REVIEWS = 24
MOODS = ((0, "neg"), (1, "pos"))


def made_up_reviews() -> dict[str, bytes]:
    """Return the members of the archive; the reviews among them are distinct."""
    members = {}
    for split in ("train", "test"):
        # The class without a label, and the files beside the reviews.
        members[f"aclImdb/{split}/labeledBow.feat"] = b"9 0:9"
        members[f"aclImdb/{split}/urls_pos.txt"] = b"http://localhost"
        members[f"aclImdb/{split}/unsup/0_0.txt"] = b"nobody knows"
        for number in range(NUM_REVIEWS // 2):
            for rating, (label, mood) in zip((2, 9), MOODS, strict=True):
                words = f"{mood} {split} {number} caf\u00e9 \u65e5\u672c <br /><br />" * (
                    1 + number
                )
                # White space around a review is not part of it.
                members[f"aclImdb/{split}/{mood}/{number}_{rating + label}.txt"] = (
                    f" \n{words}\n".encode()
                )
    # Archives are in no order that could be relied on.
    return dict(sorted(members.items(), key=lambda item: hashlib.md5(item[1]).digest()))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / ARCHIVE_NAME
    pack(path, made_up_reviews().items())
    return path


def pack(path: Path, members: Iterable[tuple[str, bytes]], *, mode: str = "w:gz") -> None:
    with tarfile.open(path, cast(Any, mode)) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def made_up(packed: Path) -> Official:
    """Return what makes the archive pass for the official one."""
    content = packed.read_bytes()
    rows = {split: archive_rows(packed, split) for split in ("train", "test")}
    known = Archive("made-up archive", len(content), hashlib.sha256(content).hexdigest())
    return Official(
        archives=(known,),
        url=URL,
        num_reviews=NUM_REVIEWS,
        content=_imdb.content_digest(rows),
        films="",
    )


@pytest.fixture
def data_dir(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that holds the archive; there is no network."""
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / ARCHIVE_NAME).write_bytes(packed.read_bytes())
    return folder


def no_network(*args: Any, **options: Any) -> Any:
    raise urllib.error.URLError("no network here")


Make = Callable[..., Text]


@pytest.fixture
def make(made_up: Official) -> Make:
    """Return a function that makes a task of a data folder."""

    def making(data_dir: Path, **options: Any) -> Text:
        given: dict[str, Any] = {"num_validation": 6, "official": made_up}
        options = given | options
        return Text(data_dir=data_dir, cache_dir=data_dir.parent / "cache", **options)

    return making


def info_of(task: Text) -> DataInfo:
    task.prepare()
    return task.info()


def test_made_up_archive(data_dir: Path, make: Make) -> None:
    task = make(data_dir)
    seen: list[Progress] = []
    task.prepare(seen.append)
    rows = {split: rows_of(task, split) for split in SPLITS}
    counted = {split: Counter(label for _, label in some) for split, some in rows.items()}
    assert counted == {
        "train": {0: 9, 1: 9},
        "validation": {0: 3, 1: 3},
        "test": {0: 12, 1: 12},
    }
    path = data_dir / ARCHIVE_NAME
    assert Counter(rows["train"] + rows["validation"]) == Counter(archive_rows(path, "train"))
    # In the order of the names, whatever the order in the archive.
    assert rows["test"] == archive_rows(path, "test")
    assert [check.problem for check in task.verify()] == [None] * 3
    assert task.info().details["archive"] == "made-up archive"
    # One cache and nothing that was needed on the way; the archive is not unpacked.
    assert len(caches_in(data_dir.parent / "cache")) == 1
    assert names_in(data_dir) == {ARCHIVE_NAME}
    assert [progress.done for progress in seen] == sorted({progress.done for progress in seen})
    size = (data_dir / ARCHIVE_NAME).stat().st_size
    assert {progress.total for progress in seen} == {size}
    assert seen[-1].done == size


def test_ids_length_and_decoding(data_dir: Path, make: Make) -> None:
    whole, cut = make(data_dir), make(data_dir, max_length=20)
    assert cut.spec.max_length == 20
    assert (cut.spec.vocab_size, cut.spec.num_classes) == (257, 2)
    for split in SPLITS:
        long, short = whole.examples(split), cut.examples(split)
        for at in range(len(long)):
            content = whole.decode(long[at]).encode()
            assert long[at].inputs[0].tolist() == [byte + 1 for byte in content]
            assert short[at].inputs[0].tolist() == [byte + 1 for byte in content[:20]]
            # A character that was cut in two is no error.
            assert cut.decode(short[at]) == content[:20].decode(errors="replace")
    # Cutting happens when the data are read: both share what was prepared.
    assert whole.fingerprint() == cut.fingerprint()
    assert len(caches_in(data_dir.parent / "cache")) == 1


def test_validation_is_drawn_by_its_seed(data_dir: Path, make: Make) -> None:
    held_out = []
    for seed in (0, 0, 1, 2, 3, 4):
        task = make(data_dir, validation_seed=seed)
        rows = rows_of(task, "validation")
        assert Counter(label for _, label in rows) == {0: 3, 1: 3}
        assert not set(rows) & set(rows_of(task, "train"))
        held_out.append(frozenset(rows))
    assert held_out[0] == held_out[1]
    assert len(set(held_out)) == 5
    assert len(caches_in(data_dir.parent / "cache")) == 5


def test_the_order_in_the_archive_does_not_matter(
    data_dir: Path, make: Make, made_up: Official
) -> None:
    first = make(data_dir)
    first.prepare()
    path = data_dir / ARCHIVE_NAME
    pack(path, sorted(made_up_reviews().items()))
    content = path.read_bytes()
    known = Archive("other archive", len(content), hashlib.sha256(content).hexdigest())
    second = make(data_dir, official=replace(made_up, archives=(known,)))
    assert info_of(second).details["archive"] == "other archive"
    assert second.fingerprint() == first.fingerprint()


def test_prepared_data_outlive_the_archive(data_dir: Path, make: Make) -> None:
    first = make(data_dir)
    first.prepare()
    (data_dir / ARCHIVE_NAME).unlink()
    second = make(data_dir)
    assert second.fingerprint() == first.fingerprint()
    assert rows_of(second, "test") == rows_of(first, "test")
    # Another division was not prepared, and cannot be.
    with pytest.raises(UserError, match="cannot download"):
        make(data_dir, num_validation=4).prepare()


def test_stdout_stays_clean(data_dir: Path, capfd: pytest.CaptureFixture[str], make: Make) -> None:
    make(data_dir).prepare()
    assert capfd.readouterr().out == ""


PREPARING = """
    import sys
    from pathlib import Path
    from lra_tasks.text import Text

    task = Text(data_dir=Path(sys.argv[1]), cache_dir=Path(sys.argv[1]) / "cache", num_validation=2)
    print("tensorflow_datasets" in sys.modules)
    task.prepare()
    assert len(task.examples("train")) == int(sys.argv[2]) - 2
    print("tensorflow_datasets" in sys.modules, "tensorflow" in sys.modules, "torch" in sys.modules)
"""


def test_neither_tensorflow_nor_torch_is_imported(data_dir: Path, tmp_path: Path) -> None:
    # Were it asked for, this would be found, whether or not the real one is installed.
    (tmp_path / "modules" / "tensorflow").mkdir(parents=True)
    (tmp_path / "modules" / "tensorflow" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PREPARING), str(data_dir), str(NUM_REVIEWS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True", "False", "False"]


def test_the_library_prepares_the_builder(
    data_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the task takes from the builder is a data set of the library's own, too."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    from lra_tasks._imdb_builder import ImdbReviews

    path = data_dir / ARCHIVE_NAME
    known = ImdbReviews.url_infos[URL]
    assert (known.size, known.checksum) == (
        OFFICIAL.archives[0].num_bytes,
        OFFICIAL.archives[0].sha256,
    )

    class MadeUp(ImdbReviews, skip_registration=True):  # type: ignore[call-arg]
        url_infos: ClassVar[dict[str, Any]] = {
            URL: UrlInfo(
                size=path.stat().st_size,
                checksum=hashlib.sha256(path.read_bytes()).hexdigest(),
                filename=ARCHIVE_NAME,
            )
        }

    builder = MadeUp(data_dir=str(tmp_path / "library"), file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(data_dir))
    builder.download_and_prepare(download_config=config)
    for split in ("train", "test"):
        source = builder.as_data_source(split=split)
        found = [(row["text"], int(row["label"])) for row in source]
        assert Counter(found) == Counter(archive_rows(path, split))
    streamed: dict[str, list[tuple[bytes, int]]] = {"train": [], "test": []}
    for part, example in builder.examples(path):
        streamed[part].append((example["text"].item(), example["label"]))
    assert {part: Counter(rows) for part, rows in streamed.items()} == {
        part: Counter(archive_rows(path, part)) for part in streamed
    }
    capfd.readouterr()


# What can go wrong with the archive.


def test_no_file_and_no_network(data_dir: Path, make: Make, made_up: Official) -> None:
    (data_dir / ARCHIVE_NAME).unlink()
    started = time.monotonic()
    with pytest.raises(UserError, match="no network here") as caught:
        make(data_dir).prepare()
    assert time.monotonic() - started < 5
    for named in (ARCHIVE_NAME, f"{made_up.archives[0].num_bytes:,} bytes", str(data_dir), URL):
        assert named in str(caught.value)
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def without_beside(members: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [(f"./{name}", content) for name, content in members.items() if "unsup" not in name]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_official_reviews_in_an_unknown_archive(data_dir: Path, mode: str, make: Make) -> None:
    first = make(data_dir)
    first.prepare()
    path = data_dir / ARCHIVE_NAME
    pack(path, without_beside(made_up_reviews()), mode=mode)
    second = make(data_dir)
    assert [check.problem for check in second.verify()] == [None] * 3
    assert second.fingerprint() == first.fingerprint()
    info = second.info()
    assert (info.source, info.warning) == ("IMDB reviews", "")
    assert info.details["archive"] == "unknown archive"
    assert info.details["archive_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def changed(name: str, content: bytes | None) -> Callable[[dict[str, bytes]], None]:
    """Return a change of a member, by the beginning of its name."""

    def change(members: dict[str, bytes]) -> None:
        found = min(found for found in members if found.startswith(name))
        if content is None:
            del members[found]
        else:
            members[found] = content

    return change


def added(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: content})


def relabeled(members: dict[str, bytes]) -> None:
    for name in [name for name in members if name.startswith("aclImdb/test/neg/1_")]:
        members[name.replace("neg/", "pos/")] = members.pop(name)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (changed("aclImdb/train/neg/1_", b"another review"), (24, 24)),
        (changed("aclImdb/test/pos/1_", b"another review"), (24, 24)),
        (changed("aclImdb/test/pos/1_", None), (24, 23)),
        (added("aclImdb/train/pos/999_9.txt", b"one more"), (25, 24)),
        # Not what they say, but reviews all the same.
        (changed("aclImdb/train/neg/1_", b"\x00\x80\xfe"), (24, 24)),
        (relabeled, (24, 24)),
    ],
)
def test_other_reviews_are_no_official_set(
    data_dir: Path, change: Callable[[dict[str, bytes]], None], counts: tuple[int, int], make: Make
) -> None:
    first = make(data_dir)
    first.prepare()
    members = made_up_reviews()
    change(members)
    path = data_dir / ARCHIVE_NAME
    pack(path, members.items())
    task = make(data_dir)
    # The content is the key: what was prepared of the old archive is not used for this one.
    assert task.fingerprint() != first.fingerprint()
    assert len(task.examples("test")) == counts[1]
    assert rows_of(task, "test") == archive_rows(path, "test")
    info = task.info()
    assert info.source == "IMDB reviews, not the official set"
    for named in (path.name, f"{counts[0]} training", f"{counts[1]} test", URL):
        assert named in info.warning
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert problems == {"official set": info.warning}


def test_files_beside_the_reviews_are_not_read(data_dir: Path, make: Make) -> None:
    members = made_up_reviews()
    for name in ("unsup/1_0.txt", "neg/readme.txt", "neg/deep/1_1.txt", "pos/1_1.txt.bak"):
        members[f"aclImdb/train/{name}"] = b"\xff"
    # Digits of another script are no numbers of reviews.
    members["aclImdb/train/neg/\u0661_\u0662.txt"] = b"\xff"
    members["elsewhere/aclImdb/train/neg/1_1.txt"] = b"\xff"
    pack(data_dir / ARCHIVE_NAME, members.items())
    assert not info_of(make(data_dir)).warning


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed("aclImdb/test/neg/3_", b""), "aclImdb/test/neg/3_2.txt is empty"),
        (changed("aclImdb/test/neg/3_", b" \r\n\t"), "aclImdb/test/neg/3_2.txt is empty"),
        (changed("aclImdb/train/pos/3_", b"caf\xff"), "aclImdb/train/pos/3_10.txt is not UTF-8"),
        (changed("aclImdb/train/pos/3_", b"x" * (1 << 20)), None),
        (changed("aclImdb/train/pos/3_", b"x" * ((1 << 20) + 1)), "3_10.txt has 1,048,577 bytes"),
        (lambda members: members.clear(), "no examples in one of its parts"),
        (
            lambda members: [members.pop(name) for name in list(members) if "/test/" in name],
            "no examples in one of its parts",
        ),
        (
            lambda members: [members.pop(name) for name in list(members) if "train/neg" in name],
            "0 training reviews of class 0; task.num_validation=6",
        ),
    ],
)
def test_archive_of_what_are_no_reviews(
    data_dir: Path, change: Callable[[dict[str, bytes]], None], named: str | None, make: Make
) -> None:
    members = made_up_reviews()
    change(members)
    path = data_dir / ARCHIVE_NAME
    pack(path, members.items())
    if named is None:
        make(data_dir).prepare()
        return
    with pytest.raises(UserError) as caught:
        make(data_dir).prepare()
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert caches_in(data_dir.parent / "cache") == set()


def test_archive_with_two_members_of_one_name(data_dir: Path, make: Make) -> None:
    members = list(made_up_reviews().items())
    twice = next(name for name, _ in members if "/pos/" in name)
    pack(data_dir / ARCHIVE_NAME, [*members, (f"./{twice}", b"the other one")])
    with pytest.raises(UserError, match=f"{twice} is there twice"):
        make(data_dir).prepare()
    assert caches_in(data_dir.parent / "cache") == set()


def test_archive_that_is_cut_short(data_dir: Path, make: Make) -> None:
    path = data_dir / ARCHIVE_NAME
    content = path.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 8, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"broken or cut short|no tar archive") as caught:
            make(data_dir).prepare()
        assert f"{path} is " in str(caught.value)
        assert "delete it to have it downloaded again" in str(caught.value)
        assert caches_in(data_dir.parent / "cache") == set()


def test_damaged_archive(data_dir: Path, make: Make) -> None:
    path = data_dir / ARCHIVE_NAME
    damage(path)
    with pytest.raises(UserError, match="broken or cut short") as caught:
        make(data_dir).prepare()
    assert str(path) in str(caught.value)
    assert URL in str(caught.value)
    assert caches_in(data_dir.parent / "cache") == set()


def test_damage_that_only_the_checksum_shows(data_dir: Path, make: Make) -> None:
    path = data_dir / ARCHIVE_NAME
    pack(path, made_up_reviews().items(), mode="w")
    content = bytearray(gzip.compress(path.read_bytes(), compresslevel=0))
    # Not compressed, so that the letter stands there.
    content[content.index(b"neg train 3")] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="CRC check failed"):
        make(data_dir).prepare()
    assert caches_in(data_dir.parent / "cache") == set()


def test_prepared_data_of_a_damaged_archive_are_not_used(data_dir: Path, make: Make) -> None:
    first = make(data_dir)
    first.prepare()
    content = (data_dir / ARCHIVE_NAME).read_bytes()
    damage(data_dir / ARCHIVE_NAME)
    assert not make(data_dir).is_prepared()
    with pytest.raises(UserError, match="broken or cut short"):
        make(data_dir).prepare()
    # They are there yet, for when it is whole again, or gone.
    (data_dir / ARCHIVE_NAME).write_bytes(content)
    assert make(data_dir).is_prepared()
    (data_dir / ARCHIVE_NAME).unlink()
    assert make(data_dir).is_prepared()
    assert make(data_dir).fingerprint() == first.fingerprint()


def test_official_data_are_left_behind_first(data_dir: Path, make: Make) -> None:
    path = data_dir / ARCHIVE_NAME
    content = path.read_bytes()
    others = set()
    # Before and behind the official one in the order of the names.
    for name in ("text-", "text-z"):
        members = made_up_reviews()
        changed("aclImdb/train/neg/1_", name.encode())(members)
        pack(path, members.items())
        task = make(data_dir)
        task.prepare()
        place = task.folder()
        assert place is not None
        others.add(place.rename(place.with_name(name)))
    path.write_bytes(content)
    task = make(data_dir)
    task.prepare()
    official = task.folder()
    assert official is not None
    path.unlink()
    assert make(data_dir).folder() == official
    # Broken ones are passed over.
    (official / "manifest.json").write_text("[" * 100_000)
    assert make(data_dir).folder() in others


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_archive_that_is_no_file(data_dir: Path, kind: str, make: Make) -> None:
    path = data_dir / ARCHIVE_NAME
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(UserError, match="no plain file") as caught:
        make(data_dir).prepare()
    assert str(path) in str(caught.value)


TWO_AT_ONCE = """
    import sys
    from pathlib import Path
    from lra_tasks.text import Text

    task = Text(data_dir=Path(sys.argv[1]), cache_dir=Path(sys.argv[2]), num_validation=6)
    print("ready", flush=True)
    sys.stdin.readline()
    task.prepare()
    print(task.fingerprint())
"""


def test_two_processes_at_once(data_dir: Path, make: Make) -> None:
    cache_dir = data_dir.parent / "cache"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TWO_AT_ONCE), str(data_dir), str(cache_dir)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs == [make(data_dir).fingerprint() + "\n"] * 2
    assert len(caches_in(cache_dir)) == 1


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_cache_folder_cannot_be_made(data_dir: Path, make: Make) -> None:
    # A file stands where the folder should be.
    (data_dir.parent / "cache").write_text("")
    with pytest.raises(UserError, match="cache_dir="):
        make(data_dir).prepare()


@pytest.mark.parametrize("room", [0, 1_000, 100_000])
def test_disk_full(data_dir: Path, room: int, make: Make) -> None:
    resource = pytest.importorskip("resource")
    # Imported before: what it writes on import is no matter here.
    importlib.import_module("tensorflow_datasets")
    members = made_up_reviews()
    # What does not fit, in the library's files or in ours.
    noise = random.Random(0).randbytes(300_000).replace(b"\xff", b"")
    members["aclImdb/train/neg/999_1.txt"] = noise
    pack(data_dir / ARCHIVE_NAME, members.items())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(UserError, match="free some space") as caught:
            make(data_dir).prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(caught.value)
    assert str(data_dir.parent / "cache") in str(caught.value)
    assert caches_in(data_dir.parent / "cache") == set()


def test_damaged_cache(data_dir: Path, make: Make) -> None:
    make(data_dir).prepare()
    place = make(data_dir).folder()
    assert place is not None
    (place / "train.labels").unlink()
    with pytest.raises(UserError, match="prepare task=text") as caught:
        make(data_dir).prepare()
    assert str(place / "train.labels") in str(caught.value)


# Downloading, from a server on this machine.


class Lost:
    """How many of the last bytes the server keeps for itself."""

    number = 0


@pytest.fixture
def lost_bytes() -> Lost:
    return Lost()


@dataclass(frozen=True)
class Served:
    """Where the archive lies on the server, and its address."""

    path: Path
    url: str


@pytest.fixture
def served(
    tmp_path: Path, data_dir: Path, lost_bytes: Lost, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    """Serve the archive; there is none in ``data_dir`` any more."""
    folder = tmp_path / "served"
    folder.mkdir()
    path = (data_dir / ARCHIVE_NAME).rename(folder / ARCHIVE_NAME)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            outputfile.write(content[: len(content) - lost_bytes.number])

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(urllib.request, "urlopen", URLOPEN)
        url = f"http://127.0.0.1:{server.server_address[1]}/{ARCHIVE_NAME}"
        try:
            yield Served(path, url)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def fetching(make: Make, made_up: Official, served: Served) -> Make:
    """Return a function that makes a task that downloads from the server."""
    return partial(make, official=replace(made_up, url=served.url))


URLOPEN = urllib.request.urlopen


def test_download(
    data_dir: Path, served: Served, capfd: pytest.CaptureFixture[str], fetching: Make
) -> None:
    task = fetching(data_dir)
    task.prepare()
    assert (data_dir / ARCHIVE_NAME).read_bytes() == served.path.read_bytes()
    assert names_in(data_dir) == {ARCHIVE_NAME}
    assert len(task.examples("train")) == NUM_REVIEWS - 6
    assert capfd.readouterr().out == ""


def test_download_into_a_folder_that_is_not_there(
    data_dir: Path, served: Served, fetching: Make
) -> None:
    task = fetching(data_dir / "deeper" / "still")
    task.prepare()
    assert names_in(task.data_dir) == {ARCHIVE_NAME}


def test_download_of_a_wrong_checksum(data_dir: Path, served: Served, fetching: Make) -> None:
    damage(served.path)
    with pytest.raises(UserError, match="download failed") as caught:
        fetching(data_dir).prepare()
    assert ARCHIVE_NAME in str(caught.value)
    assert str(data_dir) in str(caught.value)
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def test_download_that_breaks_off(
    data_dir: Path, served: Served, lost_bytes: Lost, fetching: Make
) -> None:
    lost_bytes.number = 100
    with pytest.raises(UserError, match="download failed"):
        fetching(data_dir).prepare()
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def test_download_that_is_not_there(data_dir: Path, served: Served, fetching: Make) -> None:
    served.path.unlink()
    with pytest.raises(UserError, match="cannot download") as caught:
        fetching(data_dir).prepare()
    assert str(data_dir) in str(caught.value)
    assert names_in(data_dir) == set()


def test_download_folder_cannot_be_made(data_dir: Path, served: Served, fetching: Make) -> None:
    (data_dir / "file").write_text("")
    with pytest.raises(UserError, match="data_dir="):
        fetching(data_dir / "file" / "deeper").prepare()


# Options.


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 0},
        {"validation_seed": -1},
        {"num_validation": 0},
        {"num_validation": -2},
        {"num_validation": 3},
        {"num_validation": 25_000},
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, int], make: Make) -> None:
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=rf"task\.{name}={value}"):
        make(tmp_path / "data", official=OFFICIAL, **options)
    assert names_in(tmp_path) == set()


def test_constructing_reads_nothing(tmp_path: Path, make: Make) -> None:
    task = make(tmp_path / "data", num_validation=24_998, official=OFFICIAL)
    assert task.spec.majority_baseline == 0.5
    assert names_in(tmp_path) == set()


def test_known_archives() -> None:
    names = [archive.name for archive in OFFICIAL.archives]
    assert names == ["official archive", "repacked archive"]
    assert replace(OFFICIAL.archives[0], name="") == Archive(
        "", 84_125_825, "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
    )


# Damage of every kind.

MANY = pytest.mark.parametrize("number", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])


def read(path: Path) -> dict[str, Rows] | None:
    """Read the reviews of an archive; None if it is refused with a text that names it."""
    try:
        reviews = [one for one in _imdb.read_archive(path) if isinstance(one, Review)]
    except UserError as error:
        if str(path) not in str(error):
            raise
        return None
    reviews.sort(key=lambda review: review.name)
    return {
        part: [(one.text, int(one.mood == "pos")) for one in reviews if one.part == part]
        for part in ("train", "test")
    }


@MANY
def test_damaged_archives(tmp_path: Path, number: int) -> None:
    path = tmp_path / ARCHIVE_NAME
    few = {
        name: content
        for name, content in made_up_reviews().items()
        if "/0_" in name or "/3_" in name
    }
    pack(path, few.items(), mode="w")
    plain = path.read_bytes().rstrip(b"\0") + bytes(2048)
    path.write_bytes(plain)
    official = read(path)
    assert official is not None
    assert [len(rows) for rows in official.values()] == [4, 4]
    accepted = same = 0
    for content in mutants([plain, plain, plain, gzip.compress(plain)], number):
        path.write_bytes(content)
        found = read(path)
        if found is None:
            continue
        accepted += 1
        for split, rows in found.items():
            assert all(review and b"\xff" not in review for review, _ in rows)
            # As the library alone reads it.
            assert rows == archive_rows(path, split)
        # Any difference in a review shows.
        same += found == official
        is_official = _imdb.content_digest(found) == _imdb.content_digest(official)
        assert is_official == (found == official)
    assert number // 50 < accepted < number // 2
    assert same > number // 100
