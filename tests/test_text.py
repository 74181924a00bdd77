from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lra_bench.types import SPLITS, Progress, Split, UserError
from lra_tasks import _imdb_builder, text
from lra_tasks.text import ARCHIVE_NAME, Archive, Text

Rows = list[tuple[bytes, int]]


def rows_of(task: Text, split: Split) -> Rows:
    """Return the reviews of a split as bytes again, with their labels."""
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [((one.inputs[0] - np.uint8(1)).tobytes(), one.label) for one in found]


def archive_rows(path: Path, split: str) -> Rows:
    """Read an archive in the plainest way; in the order of the names."""
    rows = {}
    with tarfile.open(path) as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.isfile() and parts[1:2] == [split] and parts[2] in ("neg", "pos"):
                file = tar.extractfile(member)
                assert file is not None
                rows[member.name] = file.read().strip(), int(parts[2] == "pos")
    return [rows[name] for name in sorted(rows)]


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
    assert len(list(cache_dir.iterdir())) == 1
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
    with tarfile.open(path, "w:gz") as tar:
        for name, content in made_up_reviews().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def data_dir(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that holds the archive, which passes for the official one."""
    content = packed.read_bytes()
    known = Archive("made-up archive", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(text, "OFFICIAL", known)
    monkeypatch.setattr(text, "KNOWN", (known, text.REPACKED))
    monkeypatch.setattr(text, "_NUM_TRAINING", NUM_REVIEWS)
    monkeypatch.setattr(_imdb_builder, "NUM_LABELLED", 2 * NUM_REVIEWS)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / ARCHIVE_NAME).write_bytes(content)
    return folder


def no_network(*args: Any, **options: Any) -> Any:
    raise urllib.error.URLError("no network here")


def make(data_dir: Path, **options: Any) -> Text:
    options = {"num_validation": 6} | options
    return Text(data_dir=data_dir, cache_dir=data_dir.parent / "cache", **options)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_made_up_archive(data_dir: Path) -> None:
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
    assert task.provenance()["archive"] == "made-up archive"
    # One cache and nothing that was needed on the way; the archive is not unpacked.
    assert len(names_in(data_dir.parent / "cache")) == 1
    assert names_in(data_dir) == {ARCHIVE_NAME}
    assert [progress.done for progress in seen] == sorted({progress.done for progress in seen})
    assert {progress.total for progress in seen} == {2 * NUM_REVIEWS}
    assert seen[-1].done == 2 * NUM_REVIEWS


def test_ids_length_and_decoding(data_dir: Path) -> None:
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
    assert len(names_in(data_dir.parent / "cache")) == 1


def test_validation_is_drawn_by_its_seed(data_dir: Path) -> None:
    held_out = []
    for seed in (0, 0, 1, 2, 3, 4):
        task = make(data_dir, validation_seed=seed)
        rows = rows_of(task, "validation")
        assert Counter(label for _, label in rows) == {0: 3, 1: 3}
        assert not set(rows) & set(rows_of(task, "train"))
        held_out.append(frozenset(rows))
    assert held_out[0] == held_out[1]
    assert len(set(held_out)) == 5
    assert len(names_in(data_dir.parent / "cache")) == 5


def test_the_order_in_the_archive_does_not_matter(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(data_dir)
    first.prepare()
    path = data_dir / ARCHIVE_NAME
    with tarfile.open(path, "w:gz") as tar:
        for name, content in sorted(made_up_reviews().items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    known = Archive("other archive", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(text, "KNOWN", (known,))
    second = make(data_dir)
    assert second.provenance()["archive"] == "other archive"
    assert second.fingerprint() == first.fingerprint()


def test_prepared_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(data_dir)
    first.prepare()
    monkeypatch.setattr(text, "_reviews", None)
    assert make(data_dir).fingerprint() == first.fingerprint()


def test_prepared_data_outlive_the_archive(data_dir: Path) -> None:
    first = make(data_dir)
    first.prepare()
    (data_dir / ARCHIVE_NAME).unlink()
    second = make(data_dir)
    assert second.fingerprint() == first.fingerprint()
    assert rows_of(second, "test") == rows_of(first, "test")
    # Another division was not prepared, and cannot be.
    with pytest.raises(UserError, match="cannot download"):
        make(data_dir, num_validation=4).prepare()


def test_stdout_stays_clean(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(data_dir).prepare()
    assert capfd.readouterr().out == ""


PREPARING = """
    import sys
    from pathlib import Path
    from lra_tasks import _imdb_builder, text

    data_dir, num_bytes, sha256, number = sys.argv[1:]
    text.KNOWN = (text.Archive("made-up archive", int(num_bytes), sha256),)
    text._NUM_TRAINING = int(number)
    task = text.Text(data_dir=Path(data_dir), cache_dir=Path(data_dir) / "cache", num_validation=2)
    task.prepare()
    assert len(task.examples("train")) == int(number) - 2
    print("tensorflow_datasets" in sys.modules, "tensorflow" in sys.modules, "torch" in sys.modules)
"""


def test_neither_tensorflow_nor_torch_is_imported(data_dir: Path, tmp_path: Path) -> None:
    # Were it asked for, this would be found, whether or not the real one is installed.
    (tmp_path / "modules" / "tensorflow").mkdir(parents=True)
    (tmp_path / "modules" / "tensorflow" / "__init__.py").write_text("")
    known = text.OFFICIAL
    done = subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(PREPARING)),
            *(str(data_dir), str(known.num_bytes), known.sha256, str(NUM_REVIEWS)),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False", "False"]


# What can go wrong with the archive.


def test_no_file_and_no_network(data_dir: Path) -> None:
    (data_dir / ARCHIVE_NAME).unlink()
    started = time.monotonic()
    with pytest.raises(UserError, match="no network here") as caught:
        make(data_dir).prepare()
    assert time.monotonic() - started < 5
    for named in (ARCHIVE_NAME, f"{text.OFFICIAL.num_bytes:,} bytes", str(data_dir), text.URL):
        assert named in str(caught.value)
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def test_archive_of_a_wrong_size(data_dir: Path) -> None:
    path = data_dir / ARCHIVE_NAME
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="incomplete or another file") as caught:
        make(data_dir).prepare()
    for named in (
        str(path),
        f"{text.OFFICIAL.num_bytes - 1:,} bytes",
        f"{text.OFFICIAL.num_bytes:,} (made-up archive)",
        f"{text.REPACKED.num_bytes:,} (repacked archive)",
    ):
        assert named in str(caught.value)
    assert names_in(data_dir.parent / "cache") == set()


def test_archive_of_a_wrong_checksum(data_dir: Path) -> None:
    path = data_dir / ARCHIVE_NAME
    damage(path)
    with pytest.raises(UserError, match="damaged") as caught:
        make(data_dir).prepare()
    for named in (str(path), text.OFFICIAL.sha256, hashlib.sha256(path.read_bytes()).hexdigest()):
        assert named in str(caught.value)
    assert names_in(data_dir.parent / "cache") == set()


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_cache_folder_cannot_be_made(data_dir: Path) -> None:
    # A file stands where the folder should be.
    (data_dir.parent / "cache").write_text("")
    with pytest.raises(UserError, match="cache_dir="):
        make(data_dir).prepare()


def test_damaged_cache(data_dir: Path) -> None:
    make(data_dir).prepare()
    (place,) = (data_dir.parent / "cache").iterdir()
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


@pytest.fixture
def served(
    tmp_path: Path, data_dir: Path, lost_bytes: Lost, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Serve the archive and return its path there; there is none in ``data_dir`` any more."""
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
        monkeypatch.setattr(
            text, "URL", f"http://127.0.0.1:{server.server_address[1]}/{ARCHIVE_NAME}"
        )
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


URLOPEN = urllib.request.urlopen


def test_download(data_dir: Path, served: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = make(data_dir)
    task.prepare()
    assert (data_dir / ARCHIVE_NAME).read_bytes() == served.read_bytes()
    assert names_in(data_dir) == {ARCHIVE_NAME}
    assert len(task.examples("train")) == NUM_REVIEWS - 6
    assert capfd.readouterr().out == ""


def test_download_into_a_folder_that_is_not_there(data_dir: Path, served: Path) -> None:
    task = make(data_dir / "deeper" / "still")
    task.prepare()
    assert names_in(task.data_dir) == {ARCHIVE_NAME}


def test_download_of_a_wrong_checksum(data_dir: Path, served: Path) -> None:
    damage(served)
    with pytest.raises(UserError, match="download failed") as caught:
        make(data_dir).prepare()
    assert ARCHIVE_NAME in str(caught.value)
    assert str(data_dir) in str(caught.value)
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def test_download_that_breaks_off(data_dir: Path, served: Path, lost_bytes: Lost) -> None:
    lost_bytes.number = 100
    with pytest.raises(UserError, match="download failed"):
        make(data_dir).prepare()
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def test_download_that_is_not_there(data_dir: Path, served: Path) -> None:
    served.unlink()
    with pytest.raises(UserError, match="cannot download") as caught:
        make(data_dir).prepare()
    assert str(data_dir) in str(caught.value)
    assert names_in(data_dir) == set()


def test_download_folder_cannot_be_made(data_dir: Path, served: Path) -> None:
    (data_dir / "file").write_text("")
    with pytest.raises(UserError, match="data_dir="):
        make(data_dir / "file" / "deeper").prepare()


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
def test_options_out_of_range(tmp_path: Path, options: dict[str, int]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=rf"task\.{name}={value}"):
        make(tmp_path / "data", **options)
    assert names_in(tmp_path) == set()


def test_constructing_reads_nothing(tmp_path: Path) -> None:
    task = make(tmp_path / "data", num_validation=24_998)
    assert task.spec.majority_baseline == 0.5
    assert names_in(tmp_path) == set()


def test_known_archives() -> None:
    assert (text.OFFICIAL, text.REPACKED) == text.KNOWN
    assert replace(text.OFFICIAL, name="") == Archive(
        "", 84_125_825, "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
    )
