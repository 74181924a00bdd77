from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from fuzzing import mutants
from numpy.typing import NDArray
from PIL import Image as Pictures

from lra_bench.data import collate
from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, Progress, Split
from lra_tasks._cifar import (
    BINARY_ARCHIVE,
    BINARY_FILES,
    BINARY_FOLDER,
    CLASSES,
    JPEG_ARCHIVE,
    OFFICIAL,
    RECORD_BYTES,
    URL,
    Official,
    Records,
    find,
    read,
    record_of_jpeg,
    records_of,
)
from lra_tasks._download import Archive
from lra_tasks.image import Image, gray, published_order

# Name and content; an archive has them in this order.
Members = list[tuple[str, bytes]]
# Gray levels and label.
Rows = list[tuple[bytes, int]]


def rows_of(task: Image, split: Split) -> Rows:
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [(one.inputs[0].tobytes(), int(one.target)) for one in found]


def row_of(record: bytes) -> tuple[bytes, int]:
    """Convert a record in the plainest way: one pixel after the other."""
    levels = bytearray()
    for at in range(1024):
        red, green, blue = (
            np.float32(record[1 + 1024 * color + at]) * np.float32(1 / 255) for color in range(3)
        )
        level = red * np.float32(0.2989) + green * np.float32(0.5870) + blue * np.float32(0.1140)
        levels.append(int(level * np.float32(255.5)))
    return bytes(levels), record[0]


def pack(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


# A made-up set in the official layout.

NUM_TRAINING, NUM_TEST = 60, 20


def made_up_files() -> dict[str, bytes]:
    """Return the files: of 12 records each, and 20 for the test; all of them distinct."""
    rng = np.random.default_rng(0)
    files = {}
    for name, part in BINARY_FILES.items():
        number = NUM_TEST if part == "test" else NUM_TRAINING // 5
        records = rng.integers(0, 256, (number, RECORD_BYTES)).astype(np.uint8)
        # Black and white are in it, and every class.
        records[0, 1:] = 255
        records[1, 1:] = 0
        records[:, 0] = np.arange(number) % 10
        files[name] = records.tobytes()
    return files


FILES = made_up_files()


def pixels_of(records: Records) -> NDArray[np.uint8]:
    """Return the colors of records, shape (N, 1024, 3)."""
    return records[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1)


def split_up(content: bytes) -> list[bytes]:
    return [content[at : at + RECORD_BYTES] for at in range(0, len(content), RECORD_BYTES)]


TRAINING = split_up(b"".join(FILES[f"data_batch_{number}.bin"] for number in range(1, 6)))
TEST = split_up(FILES["test_batch.bin"])


def in_folder(files: dict[str, bytes]) -> Members:
    """Return members as the official archive has them, with the others that nobody reads."""
    members = [(f"{BINARY_FOLDER}/{name}", content) for name, content in files.items()]
    # An archive is in no order that could be relied on.
    return [(f"{BINARY_FOLDER}/readme.html", b"<html>"), *reversed(members)]


# A made-up set of JPEG pictures.


def jpeg(
    seed: int = 0, *, mode: str = "RGB", size: tuple[int, int] = (32, 32), **options: Any
) -> bytes:
    rng = np.random.default_rng(seed)
    small = Pictures.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8))
    file = io.BytesIO()
    small.resize(size).convert(mode).save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


def made_up_pictures() -> Members:
    members = []
    seed = 0
    for part, number in (("train", NUM_TRAINING // 10), ("test", NUM_TEST // 10)):
        for name in CLASSES:
            for at in range(number):
                members.append((f"{part}/{name}/{at:04d}.jpg", jpeg(seed)))
                seed += 1
    return members


PICTURES = made_up_pictures()


def records_of_pictures(part: str) -> list[bytes]:
    """Decode the pictures of a part in the plainest way; in the order of the copies of them."""
    records = {}
    for name, content in PICTURES:
        if name.startswith(part):
            pixels = np.asarray(Pictures.open(io.BytesIO(content)))
            planes = b"".join(pixels[:, :, color].tobytes() for color in range(3))
            key = hashlib.sha256(f"0|{name}".encode()).hexdigest()
            records[key] = bytes([CLASSES.index(name.split("/")[1])]) + planes
    return [records[key] for key in sorted(records)]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder; there is no network."""
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def no_network(*args: Any, **options: Any) -> Any:
    raise urllib.error.URLError("no network here")


# The numbers of pictures are those of the made-up sets, and nothing is known of them.
UNKNOWN = replace(OFFICIAL, counts={"train": NUM_TRAINING, "test": NUM_TEST})


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def knowing(binary: Path | None = None, pictures: Path | None = None) -> Official:
    """Return what makes archives pass for known ones."""
    known = UNKNOWN
    if binary is not None:
        archive = Archive("made-up archive", binary.stat().st_size, digest_of(binary))
        known = replace(known, archive=archive)
    if pictures is not None:
        known = replace(known, jpeg_sha256=digest_of(pictures))
    return known


@pytest.fixture
def official(data_dir: Path) -> Path:
    """Return a folder with a made-up archive."""
    pack(data_dir / BINARY_ARCHIVE, in_folder(FILES))
    return data_dir


@pytest.fixture
def copied(data_dir: Path) -> Path:
    """Return a folder with a made-up archive of pictures."""
    pack(data_dir / JPEG_ARCHIVE, PICTURES)
    return data_dir


def make(data_dir: Path, known: Official | None = None) -> Image:
    """Return the task; by default the archives that are in the folder pass for known ones."""
    if known is None:
        known = UNKNOWN
        if data_dir.exists():
            paths = [data_dir / name for name in (BINARY_ARCHIVE, JPEG_ARCHIVE)]
            known = knowing(*(path if path.exists() else None for path in paths))
    return Image(data_dir=data_dir, cache_dir=data_dir.parent / "cache", official=known)


def info_of(task: Image) -> DataInfo:
    task.prepare()
    return task.info()


def divide(training: list[bytes], test: list[bytes]) -> dict[Split, Rows]:
    """Divide by the rule, written out again: hash the running number, hold out the last tenth."""
    keys = [hashlib.md5(b"train%d" % at).hexdigest() for at in range(len(training))]
    ordered = [row_of(training[keys.index(key)]) for key in sorted(keys)]
    cut = round(0.9 * len(training))
    return {
        "train": ordered[:cut],
        "validation": ordered[cut:],
        "test": [row_of(record) for record in test],
    }


def test_official_archive(official: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = make(official)
    assert not task.is_prepared()
    seen: list[Progress] = []
    task.prepare(seen.append)
    assert task.is_prepared()
    assert {split: rows_of(task, split) for split in SPLITS} == divide(TRAINING, TEST)
    assert {split: len(task.examples(split)) for split in SPLITS} == task.info().num_examples
    assert [check.problem for check in task.verify()] == [None] * 3
    info = task.info()
    assert (info.source, info.warning, info.note) == ("CIFAR-10", "", "")
    assert info.details["read"] == f"archive {BINARY_ARCHIVE}"
    assert info.details["archive_sha256"] == digest_of(official / BINARY_ARCHIVE)
    # One cache and nothing that was needed on the way; the archive is not unpacked.
    assert len(names_in(official.parent / "cache") - {"checksums"}) == 1
    assert names_in(official) == {BINARY_ARCHIVE}
    whats = list(dict.fromkeys(progress.what for progress in seen))
    assert whats == [f"reading {BINARY_ARCHIVE} [bytes]", "turning pictures gray"]
    for what in whats:
        done = [progress.done for progress in seen if progress.what == what]
        assert done == sorted(done)
        assert done[-1] == [progress.total for progress in seen if progress.what == what][-1]
    assert "tensorflow" not in sys.modules
    assert capfd.readouterr().out == ""


def test_jpeg_copy(copied: Path) -> None:
    task = make(copied)
    task.prepare()
    expected = divide(records_of_pictures("train"), records_of_pictures("test"))
    assert {split: rows_of(task, split) for split in SPLITS} == expected
    # A set of its own, with a name of its own: neither a problem nor the official one.
    assert [check.problem for check in task.verify()] == [None] * 3
    info = task.info()
    assert (info.source, info.warning) == ("CIFAR-10 (JPEG copy)", "")
    assert "not the official ones" in info.note


def binary_of_pictures() -> dict[str, bytes]:
    """Return the pictures in the official layout."""
    training = records_of_pictures("train")
    parts = [training[at : at + 12] for at in range(0, NUM_TRAINING, 12)]
    parts.append(records_of_pictures("test"))
    return {name: b"".join(part) for name, part in zip(BINARY_FILES, parts, strict=True)}


def test_jpeg_copy_in_the_official_layout(copied: Path) -> None:
    first = make(copied)
    note = info_of(first).note
    files = binary_of_pictures()
    content = hashlib.sha256(b"".join(files.values())).hexdigest()
    known = replace(UNKNOWN, jpeg_content=content)
    pack(copied / "archive" / BINARY_ARCHIVE, in_folder(files))
    put_folder(copied / "folder", files)
    for folder in (copied / "archive", copied / "folder"):
        task = Image(data_dir=folder, cache_dir=folder / "cache", official=known)
        assert task.fingerprint() == first.fingerprint()
        assert task.info().source == "CIFAR-10 (JPEG copy)"
        assert task.info().note == note
        assert [check.problem for check in task.verify()] == [None] * 3


def put_folder(base: Path, files: dict[str, bytes]) -> Path:
    folder = base / BINARY_FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "batches.meta.txt").write_text("airplane\n")
    return folder


def test_unpacked_folder(official: Path) -> None:
    first = make(official)
    first.prepare()
    put_folder(official / "other" / "lra_release", FILES)
    inner = official / "other" / "lra_release" / BINARY_FOLDER
    # Found below the folder of the release, and where the files themselves are.
    for folder in (official / "other", inner):
        task = Image(data_dir=folder, cache_dir=official.parent / "other_cache", official=UNKNOWN)
        assert task.fingerprint() == first.fingerprint()
        info = task.info()
        assert info.source == "CIFAR-10, not the official set"
        assert info.details["read"] == f"folder {BINARY_FOLDER}"
        for named in ("the checksum of the unpacked files is not known", "use the archive"):
            assert named in info.warning
        assert [check.problem is None for check in task.verify()] == [True] * 3 + [False]


def test_members_without_a_folder(data_dir: Path) -> None:
    path = data_dir / "lra_release" / BINARY_ARCHIVE
    pack(path, FILES.items())
    task = make(data_dir, knowing(path))
    assert rows_of(task, "test") == [row_of(record) for record in TEST]
    assert task.info().source == "CIFAR-10"


def test_the_best_source_comes_first(copied: Path) -> None:
    sources = [info_of(make(copied)).source]
    put_folder(copied, FILES)
    sources.append(info_of(make(copied)).source)
    pack(copied / BINARY_ARCHIVE, in_folder(FILES))
    sources.append(info_of(make(copied)).source)
    assert sources == ["CIFAR-10 (JPEG copy)", "CIFAR-10, not the official set", "CIFAR-10"]
    # All of them stay prepared; without a source the best of them is used.
    assert len(names_in(copied.parent / "cache") - {"checksums"}) == 3
    empty = copied.parent / "empty"
    task = Image(data_dir=empty, cache_dir=copied.parent / "cache")
    assert task.is_prepared()
    assert info_of(task).source == "CIFAR-10"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "the SHA-256 of the archive"),
        ({"data_batch_3.bin": FILES["data_batch_3.bin"][:RECORD_BYTES]}, "has 49 training and 20"),
        ({"test_batch.bin": FILES["test_batch.bin"] * 2}, "has 60 training and 40 test"),
    ],
)
def test_an_unknown_archive_is_called_so(
    data_dir: Path, files: dict[str, bytes], told: str
) -> None:
    pack(data_dir / BINARY_ARCHIVE, in_folder(FILES | files))
    task = make(data_dir, UNKNOWN)
    info = info_of(task)
    assert info.source == "CIFAR-10, not the official set"
    assert told in info.warning
    assert URL in info.warning
    assert [check.what for check in task.verify() if check.problem] == ["official set"]


@pytest.mark.parametrize("is_known", [False, True])
def test_an_unknown_archive_of_pictures_is_called_so(data_dir: Path, is_known: bool) -> None:
    path = data_dir / JPEG_ARCHIVE
    pack(path, PICTURES[:-1])
    # Not even a known checksum makes up for a wrong number.
    info = info_of(make(data_dir, knowing(pictures=path) if is_known else UNKNOWN))
    assert info.source == "CIFAR-10 (JPEG copy), not the official set"
    assert "60 training and 19 test" in info.warning
    assert info.note


# Gray levels and the order.


def test_gray_of_gray_is_itself() -> None:
    records = np.zeros((1, RECORD_BYTES), np.uint8)
    for color in range(3):
        records[0, 1 + 1024 * color : 257 + 1024 * color] = np.arange(256)
    assert gray(pixels_of(records))[0, :256].tolist() == list(range(256))


def test_gray_of_all_colors() -> None:
    """Checked once against TensorFlow 2.21's rgb_to_grayscale, which gave the same bytes."""
    green_and_blue = np.stack(np.divmod(np.arange(1 << 16), 256)).astype(np.uint8)
    digest = hashlib.sha256()
    num_other, num_colors = 0, 0
    for red in range(256):
        planes = np.concatenate([np.full((1, 1 << 16), red, np.uint8), green_and_blue])
        levels = gray(planes.T)
        digest.update(levels.tobytes())
        if red % 16 == 0:
            pixels = planes.T.reshape(256, 256, 3)
            other = np.asarray(Pictures.fromarray(np.ascontiguousarray(pixels)).convert("L"))
            apart = abs(other.ravel().astype(int) - levels.ravel())
            assert apart.max() == 1
            num_other += int(apart.sum())
            num_colors += apart.size
    assert digest.hexdigest() == "824a76d81dad2c5a2cf1fa0b2c0a5afe7d871ec2970e4fa2809b53ddbecdca93"
    assert 0.2 < num_other / num_colors < 0.35


def test_the_order_is_the_published_one() -> None:
    # As others have printed the first batch of the stock data set, cifar10 3.0.2.
    published = [16399, 1680, 47917, 17307, 27051, 48736, 26263, 1456, 19135, 31598, 12970, 4223]
    order = published_order(50_000)
    assert order[: len(published)] == published
    assert sorted(order) == list(range(50_000))


def test_the_order_is_that_of_the_library(tmp_path: Path) -> None:
    from tensorflow_datasets.core.shuffle import Shuffler

    shuffler = Shuffler(tmp_path, hash_salt="train")
    for at in range(50_000):
        shuffler.add(at, b"%d" % at)
    assert [int(data) for _, data in shuffler] == published_order(50_000)


def test_the_library_prepares_the_builder(
    official: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the task takes from the builder is a data set of the library's own, in this order."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.checksums import UrlInfo

    from lra_tasks._cifar_builder import Cifar10

    path = official / BINARY_ARCHIVE
    known = Cifar10.url_infos[URL]
    assert (known.size, known.checksum) == (OFFICIAL.archive.num_bytes, OFFICIAL.archive.sha256)

    class MadeUp(Cifar10, skip_registration=True):  # type: ignore[call-arg]
        url_infos: ClassVar[dict[str, Any]] = {
            URL: UrlInfo(
                size=path.stat().st_size, checksum=digest_of(path), filename=BINARY_ARCHIVE
            )
        }

    builder = MadeUp(data_dir=str(tmp_path / "library"), file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(official))
    builder.download_and_prepare(download_config=config)
    orders: dict[str, list[int]] = {}
    for part, records in (("train", TRAINING), ("test", TEST)):
        orders[part] = []
        for row in builder.as_data_source(split=part):
            at = int(row["id"].decode().removeprefix(f"{part}_"))
            orders[part].append(at)
            planes = row["image"].transpose(2, 0, 1).tobytes()
            assert bytes([row["label"]]) + planes == records[at]
    assert orders["train"] == published_order(NUM_TRAINING)
    assert orders["test"] != list(range(NUM_TEST))
    assert sorted(orders["test"]) == list(range(NUM_TEST))
    capfd.readouterr()


# What the task says of itself and of its examples.


def test_pictures(official: Path) -> None:
    task = make(official)
    examples = task.examples("test")
    record = np.frombuffer(TEST[3], np.uint8)
    expected: NDArray[np.uint8] = gray(pixels_of(record[None])).reshape(32, 32)
    picture = task.picture(examples[3])
    assert picture.dtype == np.uint8
    assert (picture == expected).all()
    # Red of the first row comes first: rows, not columns.
    assert picture[0, 31] == row_of(TEST[3])[0][31]
    # What others paint on it does not reach the data.
    picture[:] = 0
    assert (task.picture(examples[3]) == expected).all()
    assert task.decode(examples[3]).startswith("cat, 32 x 32 pixels, gray levels ")
    white = "airplane, 32 x 32 pixels, gray levels 255 to 255, mean 255.0"
    assert task.decode(examples[0]) == white


def test_black_is_no_padding(official: Path) -> None:
    examples = make(official).examples("test")
    black = examples[1]
    assert not black.inputs[0].any()
    batch = collate([black, examples[2]])
    assert batch.tokens_BIL.shape == (2, 1, 1024)
    assert batch.mask_BIL is None
    assert batch.num_tokens == 2048


def test_constructing_reads_nothing(tmp_path: Path) -> None:
    task = Image(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    spec = task.spec
    assert (spec.vocab_size, spec.max_length, spec.num_classes) == (256, 1024, 10)
    assert spec.majority_baseline == 0.1
    assert task.info().num_examples == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert not task.is_prepared()
    assert names_in(tmp_path) == set()


def test_known_archives() -> None:
    assert OFFICIAL.archive.num_bytes == 170_052_171
    assert OFFICIAL.archive.sha256.startswith("c4a38c50a1bc5f3a1c5537f2155ab9d6")
    assert OFFICIAL.jpeg_sha256.startswith("baa3320bb465a82eacac490d9542e545")
    assert OFFICIAL.counts == {"train": 50_000, "test": 10_000}
    assert OFFICIAL.url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


# What can go wrong with the files.


def test_no_file_and_no_network(data_dir: Path) -> None:
    with pytest.raises(UserError, match="no network here") as caught:
        make(data_dir).prepare()
    told = ("CIFAR-10", BINARY_ARCHIVE, "170,052,171 bytes", str(data_dir), URL, JPEG_ARCHIVE)
    for named in told:
        assert named in str(caught.value)
    assert names_in(data_dir) == names_in(data_dir.parent / "cache") == set()


def test_the_archive_is_downloaded(official: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = official / BINARY_ARCHIVE
    known = knowing(archive)
    served = archive.rename(official.parent / "elsewhere")
    monkeypatch.undo()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def translate_path(self, path: str) -> str:
            return str(served)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/{BINARY_ARCHIVE}"
            task = make(official, replace(known, url=url))
            assert info_of(task).source == "CIFAR-10"
        finally:
            server.shutdown()
            thread.join()
    assert archive.read_bytes() == served.read_bytes()


def with_label_ten() -> bytes:
    content = bytearray(FILES["data_batch_2.bin"])
    content[7 * RECORD_BYTES] = 10
    return bytes(content)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"test_batch.bin": FILES["test_batch.bin"][:-1]}, "test_batch.bin has 61,459 bytes"),
        ({"data_batch_4.bin": b""}, "data_batch_4.bin has 0 bytes"),
        ({"data_batch_2.bin": with_label_ten()}, "data_batch_2.bin, record 7: the label is 10"),
        ({"data_batch_1.bin": bytes((64 << 20) + 1)}, "at most 67,108,864"),
        ({"data_batch_5.bin": None}, "has no data_batch_5.bin"),
        (dict.fromkeys(BINARY_FILES), "has no data_batch_1.bin, data_batch_2.bin"),
    ],
)
def test_broken_records(data_dir: Path, files: dict[str, bytes | None], told: str) -> None:
    whole = {name: content for name, content in (FILES | files).items() if content is not None}
    pack(data_dir / BINARY_ARCHIVE, in_folder(whole))
    with pytest.raises(UserError) as caught:
        make(data_dir).prepare()
    assert told in str(caught.value)
    assert str(data_dir / BINARY_ARCHIVE) in str(caught.value)
    assert names_in(data_dir.parent / "cache") <= {"checksums"}


def test_an_incomplete_folder(data_dir: Path) -> None:
    folder = put_folder(data_dir, FILES)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match="is missing; put it there") as caught:
        make(data_dir).prepare()
    assert str(folder / "data_batch_3.bin") in str(caught.value)
    (folder / "data_batch_3.bin").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="has 100 bytes, no whole number of records"):
        make(data_dir).prepare()


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([*in_folder(FILES), in_folder(FILES)[1]], "is there twice"),
        ([*in_folder(FILES), ("../data_batch_1.bin", b"")], "climbs out of its folder"),
        ([*in_folder(FILES), ("/data_batch_1.bin", b"")], "climbs out of its folder"),
    ],
)
def test_refused_archives(data_dir: Path, members: Members, told: str) -> None:
    pack(data_dir / BINARY_ARCHIVE, members)
    with pytest.raises(UserError, match=told):
        make(data_dir).prepare()
    assert names_in(data_dir.parent) <= {"data", "cache"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("archive", [BINARY_ARCHIVE, JPEG_ARCHIVE])
def test_archives_with_links(data_dir: Path, archive: str, kind: bytes) -> None:
    with tarfile.open(data_dir / archive, "w:gz") as tar:
        for name in (f"{BINARY_FOLDER}/data_batch_1.bin", "train/cat/0000.jpg"):
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd"
            tar.addfile(info)
    with pytest.raises(UserError, match="is a link or no plain file"):
        make(data_dir).prepare()


@pytest.mark.parametrize("archive", [BINARY_ARCHIVE, JPEG_ARCHIVE])
def test_damaged_archives(data_dir: Path, archive: str) -> None:
    path = data_dir / archive
    pack(path, in_folder(FILES) if archive == BINARY_ARCHIVE else PICTURES)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (whole[:-1], whole[: len(whole) // 2], bytes(flipped), b"", b"not found"):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            make(data_dir).prepare()
        assert str(path) in str(caught.value)
        assert URL in str(caught.value)
    assert names_in(data_dir.parent / "cache") <= {"checksums"}


def bomb() -> bytes:
    """Return a picture whose header claims 65,000 x 65,000 pixels."""
    content = bytearray(jpeg())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = b"\xfd\xe8\xfd\xe8"
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train/cat/0001.jpg", jpeg(size=(32, 31)), "is 32 x 31, RGB, expected 32 x 32, RGB"),
        ("train/cat/0001.jpg", jpeg(mode="L"), "is 32 x 32, L, expected 32 x 32, RGB"),
        ("train/cat/0001.jpg", jpeg(mode="CMYK"), "is 32 x 32, CMYK, expected 32 x 32, RGB"),
        ("train/cat/0001.jpg", jpeg(format="PNG"), "no whole JPEG picture (no JPEG header)"),
        ("train/cat/0001.jpg", jpeg()[:-20], "no whole JPEG picture (image file is truncated"),
        ("train/cat/0001.jpg", b"", "no whole JPEG picture"),
        ("train/cat/0001.jpg", b"\xff\xd8\xff" + b"garbage" * 9, "no whole JPEG picture"),
        ("train/cat/0001.jpg", bomb(), "no whole JPEG picture (Image size"),
        ("train/cat/0001.jpg", jpeg() + bytes(1 << 16), "at most 65,536"),
        ("train/lion/0001.jpg", jpeg(), "is not named as expected"),
        ("train/cat/1.jpg", jpeg(), "is not named as expected"),
        ("cat/0001.jpg", jpeg(), "is not named as expected"),
        ("test/ship/0000.jpg", jpeg(), "is there twice"),
    ],
)
def test_broken_pictures(data_dir: Path, name: str, content: bytes, told: str) -> None:
    others = [member for member in PICTURES if member[0] != name or "twice" in told]
    pack(data_dir / JPEG_ARCHIVE, [*others, (name, content)])
    with pytest.raises(UserError) as caught:
        make(data_dir).prepare()
    assert told in str(caught.value)
    assert f"{data_dir / JPEG_ARCHIVE}, member {name}" in str(caught.value)


@pytest.mark.parametrize("left_out", ["train", "test", ""])
def test_pictures_of_one_part_are_missing(data_dir: Path, left_out: str) -> None:
    pack(data_dir / JPEG_ARCHIVE, [one for one in PICTURES if not one[0].startswith(left_out)])
    with pytest.raises(UserError, match=f"has no pictures in {left_out or 'train, test'}"):
        make(data_dir).prepare()


def test_too_few_to_divide(data_dir: Path) -> None:
    pack(data_dir / JPEG_ARCHIVE, [PICTURES[0], PICTURES[-1]])
    with pytest.raises(UserError, match="has 1 training picture"):
        make(data_dir).prepare()


# Damaged on purpose, by the thousand.

FEW = 1_000
MANY = pytest.param(100_000, marks=pytest.mark.slow)


@pytest.mark.parametrize("number", [FEW, MANY])
def test_fuzz_records(number: int) -> None:
    rng = np.random.default_rng(1)
    seeds = []
    for count in (1, 2, 3):
        good = rng.integers(0, 256, (count, RECORD_BYTES)).astype(np.uint8)
        good[:, 0] = rng.integers(0, 10, count)
        seeds.append(good.tobytes())
    refused = 0
    for data in mutants(seeds, number):
        labels = data[::RECORD_BYTES]
        is_good = len(data) % RECORD_BYTES == 0 < len(data) and max(labels) < 10
        records: Records | None = None
        try:
            records = records_of(data, "here", "do")
        except UserError:
            refused += 1
        assert (records is not None) == is_good
        assert records is None or records.tobytes() == data
    assert number // 10 < refused < number


@pytest.mark.parametrize("number", [FEW, MANY])
def test_fuzz_pictures(number: int) -> None:
    exif = Pictures.Exif()
    exif[0x011A] = 72
    seeds = [
        jpeg(1),
        jpeg(2, quality=95, progressive=True),
        jpeg(3, quality=50, subsampling=0, exif=exif.tobytes()),
        jpeg(4, comment=b"?", dpi=(72, 72)),
    ]
    refused = 0
    for data in mutants(seeds, number):
        try:
            record = record_of_jpeg(data, 3, "here", "do")
        except UserError:
            refused += 1
        else:
            # Nothing in a picture tells that its pixels are others; the archive's checksum does.
            assert (len(record), record[0]) == (RECORD_BYTES, 3)
    assert number // 10 < refused < number


@pytest.mark.parametrize("number", [500, MANY])
@pytest.mark.parametrize("archive", [BINARY_ARCHIVE, JPEG_ARCHIVE])
def test_fuzz_archives(tmp_path: Path, archive: str, number: int) -> None:
    """Not compressed, so that the damage gets past the checksum of gzip."""
    seeds = []
    for size in (1, 2):
        files = {name: content[: size * RECORD_BYTES] for name, content in FILES.items()}
        pack(tmp_path / "tar", in_folder(files) if archive == BINARY_ARCHIVE else PICTURES[-size:])
        if archive == JPEG_ARCHIVE:
            pack(tmp_path / "tar", [PICTURES[0], *PICTURES[-size:]])
        seeds.append((tmp_path / "tar").read_bytes().rstrip(b"\0") + bytes(2048))
    path = tmp_path / archive
    refused = 0
    for data in mutants(seeds, number):
        path.write_bytes(data)
        source = find(tmp_path)
        assert source is not None
        try:
            parts = read(source, lambda progress: None)
        except UserError:
            refused += 1
        else:
            for records in parts.values():
                assert records.shape == (len(records), RECORD_BYTES)
                assert len(records)
                assert records[:, 0].max() < 10
    assert number // 10 < refused < number


# The real files.


def real_dir(name: str) -> Path:
    folder = os.environ.get("LRA_BENCH_DATA")
    if not folder:
        pytest.skip(f"LRA_BENCH_DATA does not name a folder with {name}")
    if not (Path(folder) / name).exists():
        pytest.skip(f"there is no {Path(folder) / name}")
    return Path(folder)


@pytest.fixture(scope="module")
def real_copy(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("data")
    (folder / JPEG_ARCHIVE).symlink_to(real_dir(JPEG_ARCHIVE) / JPEG_ARCHIVE)
    task = Image(data_dir=folder, cache_dir=tmp_path_factory.mktemp("cache"))
    task.prepare()
    return task


def labels_of(task: Image, split: Split) -> list[int]:
    examples = task.examples(split)
    return [int(examples[at].target) for at in range(len(examples))]


@pytest.mark.slow
def test_real_copy(real_copy: Image) -> None:
    info = real_copy.info()
    assert (info.source, info.warning) == ("CIFAR-10 (JPEG copy)", "")
    # If this changes, PREPARATION_VERSION must change too, or old caches pass for new ones; or
    # Pillow's JPEG decoder rounds otherwise than that of its wheels does today.
    expected = "6e095f0cae131c190047f6c1eb1e1b1ba156a84f4845188b9a985fa26d4f4177"
    assert real_copy.fingerprint() == expected
    assert [check.problem for check in real_copy.verify()] == [None] * 3


@pytest.mark.slow
def test_real_copy_is_evenly_divided(real_copy: Image) -> None:
    assert set(Counter(labels_of(real_copy, "test")).values()) == {1_000}
    held_out = Counter(labels_of(real_copy, "validation"))
    training = Counter(labels_of(real_copy, "train"))
    assert {held_out[label] + training[label] for label in range(10)} == {5_000}
    # Drawn without regard to the class: four standard deviations.
    assert max(abs(held_out[label] - 500) for label in range(10)) < 4 * 21
    # Nor is there any order to it.
    first = Counter(labels_of(real_copy, "validation")[:1_000])
    assert max(abs(first[label] - 100) for label in range(10)) < 4 * 9.5


@pytest.mark.slow
def test_real_copy_has_the_pictures_of_the_archive(real_copy: Image) -> None:
    expected = Counter[tuple[bytes, int]]()
    with tarfile.open(real_copy.data_dir / JPEG_ARCHIVE) as tar:
        for number, member in enumerate(tar):
            if not member.name.startswith("test/") or number % 10:
                continue
            file = tar.extractfile(member)
            assert file is not None
            pixels = np.asarray(Pictures.open(io.BytesIO(file.read())))
            label = CLASSES.index(member.name.split("/")[1])
            expected[gray(pixels).tobytes(), label] += 1
    assert sum(expected.values()) == 1_000
    assert expected <= Counter(rows_of(real_copy, "test"))


@pytest.mark.slow
def test_real_official_archive(tmp_path: Path) -> None:
    task = Image(data_dir=real_dir(BINARY_ARCHIVE), cache_dir=tmp_path)
    if info_of(task).source != "CIFAR-10":
        pytest.skip("the archive is not the official one")
    assert set(Counter(labels_of(task, "test")).values()) == {1_000}
    # As others have printed the first picture of the stock data set: a horse, and its first pixels.
    first = task.examples("train")[0]
    assert CLASSES[int(first.target)] == "horse"
    corner = np.array([(143, 96, 70), (141, 96, 72), (135, 93, 72)], np.uint8)
    assert first.inputs[0][:3].tolist() == gray(corner).tolist()
