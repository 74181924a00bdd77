from __future__ import annotations

import random
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import made_up_release as made_up
import numpy as np
import pytest
from fuzzing import mutants
from pathfinders import (
    FEW_AND_MANY,
    FIELDS,
    INNER,
    as_array,
    names_in,
    official,
)

from lra_bench.errors import UserError
from lra_tasks._pathfinder_draw import (
    draw,
    parameters,
)
from lra_tasks._pathfinder_release import decode_png, parse_metadata
from lra_tasks._sources import RELEASE_URL


@pytest.fixture(scope="module")
def released() -> made_up.Files:
    return made_up.release()


# What can be wrong with a release; each change is told its files by their name in the difficulty.

HARD = f"{INNER}/curv_contour_length_14/"
Broken = Callable[[made_up.Files], None]


def without(*names: str) -> Broken:
    def change(files: made_up.Files) -> None:
        for name in names:
            del files[name]

    return change


def with_file(name: str, content: bytes) -> Broken:
    def change(files: made_up.Files) -> None:
        files[name] = content

    return change


def with_line(at: int, line: list[str]) -> Broken:
    """Change a line of metadata/7.npy."""

    def change(files: made_up.Files) -> None:
        lines = [text.split() for text in files["metadata/7.npy"].decode().splitlines()]
        lines[at] = line
        files["metadata/7.npy"] = made_up.metadata_text(lines)

    return change


def no_metadata(files: made_up.Files) -> None:
    for name in [name for name in files if name.startswith("metadata/")]:
        del files[name]


def only_the_first(number: int) -> Broken:
    def change(files: made_up.Files) -> None:
        text = made_up.metadata_text([made_up.metadata_line(1, at, 0) for at in range(number)])
        no_metadata(files)
        files["metadata/1.npy"] = text

    return change


def all_empty(files: made_up.Files) -> None:
    for name in files:
        if name.endswith(".png"):
            files[name] = b""


PIXELS = np.arange(1024, dtype=np.uint8).reshape(32, 32)
GOOD_PNG = made_up.png(PIXELS)
IMAGE = "imgs/5/sample_1.png"
LINE = made_up.metadata_line(7, 1, 0)
BROKEN = [
    pytest.param(without(IMAGE), IMAGE, "missing|lacks", id="missing image"),
    pytest.param(with_file(IMAGE, b"hello"), IMAGE, "no readable PNG", id="no PNG"),
    pytest.param(with_file(IMAGE, GOOD_PNG[:-20]), IMAGE, "cut short", id="cut PNG"),
    pytest.param(
        with_file(IMAGE, GOOD_PNG[:60] + b"\xff" + GOOD_PNG[61:]), IMAGE, "checksum", id="corrupt"
    ),
    pytest.param(with_file(IMAGE, made_up.png(PIXELS[:, :31])), IMAGE, "31 by 32", id="size"),
    pytest.param(
        with_file(IMAGE, made_up.png(np.stack([PIXELS] * 3, axis=-1))),
        IMAGE,
        "8 bits, color type 2; expected gray of 8 bits",
        id="RGB",
    ),
    pytest.param(
        with_file(IMAGE, made_up.png(PIXELS.astype(np.uint16))), IMAGE, "16 bits", id="16 bits"
    ),
    pytest.param(
        with_file(IMAGE, made_up.png(PIXELS > 9)), IMAGE, "1 bits, color type 0", id="1 bit"
    ),
    pytest.param(with_file(IMAGE, bytes(1 << 21)), IMAGE, "at most|no readable", id="huge file"),
    pytest.param(with_line(1, LINE[:-1]), "metadata/7.npy", "line 2: .*11 fields", id="10 fields"),
    pytest.param(with_line(1, [*LINE, "1"]), "metadata/7.npy", "line 2", id="12 fields"),
    pytest.param(with_line(3, []), "metadata/7.npy", "line 4", id="blank line"),
    pytest.param(
        with_line(1, [*LINE[:3], "2", *LINE[4:]]),
        "metadata/7.npy",
        "line 2: .*0 or 1",
        id="label 2",
    ),
    pytest.param(
        with_line(1, [*LINE[:3], "-1", *LINE[4:]]), "metadata/7.npy", "line 2", id="label -1"
    ),
    pytest.param(
        with_line(1, ["../..", "x.png", *LINE[2:]]), "metadata/7.npy", r"'\.\./\.\. x", id="climbs"
    ),
    pytest.param(
        with_line(1, ["imgs/7", "../../x.png", *LINE[2:]]),
        "metadata/7.npy",
        "line 2",
        id="climbs 2",
    ),
    pytest.param(
        with_line(1, ["/imgs/7", *LINE[1:]]), "metadata/7.npy", "line 2", id="absolute name"
    ),
    pytest.param(
        with_line(1, ["imgs/\u0667", *LINE[1:]]), "metadata/7.npy", "line 2", id="digit of others"
    ),
    pytest.param(
        with_line(1, made_up.metadata_line(7, 0, 1)),
        "metadata/7.npy",
        r"line 2: imgs/7/sample_0\.png was named before",
        id="twice",
    ),
    pytest.param(
        with_file("metadata/7.npy", b""), "metadata/7.npy", "is empty", id="empty metadata"
    ),
    pytest.param(
        with_file("metadata/7.npy", b"\x93NUMPY\x01\x00v\x00{'descr'"),
        "metadata/7.npy",
        "no whole array",
        id="cut array",
    ),
    pytest.param(
        with_file("metadata/7.npy", as_array(np.zeros((4, 11)))),
        "metadata/7.npy",
        "no whole array",
        id="array of numbers",
    ),
    pytest.param(
        with_file("metadata/7.npy", as_array(np.array([[{}] * 11], object))),
        "metadata/7.npy",
        "no whole array",
        id="array of objects",
    ),
    pytest.param(no_metadata, "", "no metadata", id="no metadata"),
    pytest.param(only_the_first(1), "", "1 images of .* too few", id="one image"),
    pytest.param(only_the_first(4), "", "4 images of .* too few", id="four images"),
    pytest.param(all_empty, "", "too few for three", id="all empty"),
]


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize(("change", "named", "why"), BROKEN)
def test_broken_release(
    tmp_path: Path, released: made_up.Files, change: Broken, named: str, why: str, packed: bool
) -> None:
    files = {
        name.removeprefix(HARD): content
        for name, content in released.items()
        if name.startswith(HARD)
    }
    change(files)
    data = tmp_path / "data"
    if packed:
        made_up.pack(data / "lra_release.gz", made_up.below(HARD.rstrip("/"), files).items())
    else:
        made_up.write(data, made_up.below(HARD.rstrip("/"), files))
    with pytest.raises(UserError, match=why) as caught:
        official(tmp_path).prepare()
    said = str(caught.value)
    # The file, and the remedy.
    assert str(data) in said
    assert named in said
    assert RELEASE_URL in said or "again" in said
    # Nothing of what was read before.
    assert names_in(tmp_path / "cache") <= {"checksums"}


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_a_link_is_refused(
    tmp_path: Path, released: made_up.Files, kind: bytes
) -> None:
    members: dict[str, bytes | tarfile.TarInfo] = dict(released)
    members[HARD + IMAGE] = link(kind, "/etc/passwd")
    path = tmp_path / "data/lra_release.gz"
    made_up.pack(path, members.items())
    with pytest.raises(UserError, match=r"refused: it has a member .*sample_1\.png") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert names_in(tmp_path / "cache") <= {"checksums"}


@pytest.mark.parametrize("name", [HARD + IMAGE, f"{HARD}metadata/3.npy"])
def test_an_archive_that_has_a_file_twice(
    tmp_path: Path, released: made_up.Files, name: str
) -> None:
    members = [*released.items(), (name, released[name])]
    path = tmp_path / "data/lra_release.gz"
    made_up.pack(path, members)
    with pytest.raises(UserError, match="is there twice") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert name in str(caught.value)


def test_an_archive_cut_behind_the_last_image(tmp_path: Path, released: made_up.Files) -> None:
    path = tmp_path / "data/lra_release.gz"
    made_up.pack(path, released.items())
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(UserError, match="broken or cut short"):
        official(tmp_path).prepare()
    assert names_in(tmp_path / "cache") <= {"checksums"}


def test_a_dangling_link_in_the_folder(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    path = tmp_path / "data" / (HARD + IMAGE)
    path.unlink()
    path.symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"missing; unpack the release again") as caught:
        official(tmp_path).prepare()
    assert str(path) in str(caught.value)
    assert "0 more" in str(caught.value)


@pytest.mark.parametrize("gone", ["imgs", "metadata"])
def test_a_folder_is_missing(tmp_path: Path, released: made_up.Files, gone: str) -> None:
    made_up.write(tmp_path / "data", released)
    folder = tmp_path / "data" / HARD / gone
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="unpack the release again") as caught:
        official(tmp_path).prepare()
    assert str(folder) in str(caught.value)


def test_no_release_at_all(tmp_path: Path) -> None:
    task = official(tmp_path, resolution=64, difficulty="easy")
    assert not task.is_prepared()
    with pytest.raises(UserError, match="pathfinder64/curv_baseline") as caught:
        task.prepare()
    assert str(tmp_path / "data") in str(caught.value)
    assert RELEASE_URL in str(caught.value)
    assert names_in(tmp_path) == set()


def test_disk_full_while_the_archive_is_read(tmp_path: Path, released: made_up.Files) -> None:
    made_up.pack(tmp_path / "data/lra_release.gz", released.items())
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(UserError, match="free some space"):
            official(tmp_path).prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path / "cache") <= {"checksums"}


# Bytes of strangers.


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the parts of a good PNG."""
    found, at = [], 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def some_images() -> dict[bytes, bytes]:
    """Return PNG files and their pixels."""
    rng = np.random.default_rng(0)
    arrays = [
        np.zeros((32, 32), np.uint8),
        PIXELS,
        rng.integers(256, size=(32, 32), dtype=np.uint8),
        *draw(parameters(32, "hard"), 5, 0, 0).images,
    ]
    return {made_up.png(array): array.tobytes() for array in arrays}


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_damaged_png(number: int) -> None:
    images = some_images()
    pixels = set(images.values())
    refused = 0
    for content in mutants(list(images), number):
        try:
            found = decode_png(content, 32, "x.png")
        except UserError:
            refused += 1
            continue
        # Its checksums would have told.
        assert found.tobytes() in pixels
        assert found.shape == (32, 32)
    assert refused > 0.9 * number


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_png_of_damaged_parts_with_right_checksums(number: int) -> None:
    # What the library that decodes has to stand by itself.
    more = [(b"tEXt", b"a\0b"), (b"tRNS", b"\0\1"), (b"acTL", bytes(8)), (b"gAMA", bytes(4))]
    files = [chunks_of(content) for content in some_images()]
    rng = random.Random(1)
    names = [b"IHDR", b"IDAT", b"IEND", *(name for name, _ in more)]
    damaged = mutants(
        [body for file in files for _, body in file if body] + [body for _, body in more], number
    )
    accepted = 0
    for body in damaged:
        parts = list(rng.choice(files))
        at = rng.randrange(len(parts) + 1)
        if at < len(parts) and rng.random() < 0.8:
            parts[at] = parts[at][0], body
        else:
            parts.insert(at, (rng.choice(names), body))
        content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
        try:
            found = decode_png(content, 32, "x.png")
        except UserError:
            continue
        assert found.shape == (32, 32)
        assert found.dtype == np.uint8
        accepted += 1
    assert accepted


def test_an_enormous_png_is_not_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)
    with pytest.raises(UserError, match="2147483647 by 2147483647"):
        decode_png(content + chunk(b"IEND", b""), 32, "x.png")


@pytest.mark.parametrize("number", FEW_AND_MANY)
def test_damaged_metadata(number: int) -> None:
    text = made_up.metadata_text(FIELDS)
    array = np.array(FIELDS)
    seeds = [text, text.replace(b"\n", b"\r\n"), text.rstrip()]
    seeds += [as_array(array.astype(kind)) for kind in ("U12", "S12", ">U11", "S20")]
    accepted = 0
    for content in mutants(seeds, number):
        try:
            rows = parse_metadata(content, "metadata/0.npy")
        except UserError:
            continue
        accepted += 1
        assert rows
        for at, row in enumerate(rows, start=1):
            folder, batch, name = row.name.split("/")
            assert folder == "imgs"
            assert batch.isascii()
            assert batch.isdigit()
            assert name.removeprefix("sample_").removesuffix(".png").isdigit()
            assert row.label in (0, 1)
            assert row.number == at
    assert accepted
