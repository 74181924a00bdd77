from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_bench.types import Progress
from lra_tasks._sources import (
    MAX_HEADER_BYTES,
    RELEASE_ARCHIVES,
    Member,
    RawFiles,
    archive_members,
    find_release,
    members_of,
)

REMEDY = "get it again from somewhere"
Contents = list[tuple[str, bytes]]
# Lengths around the size of a block; an empty one; one that is read in pieces.
CONTENTS: Contents = [
    ("set/a.txt", b"first\nsecond\r\nthird"),
    ("set/empty", b""),
    *((f"set/{size}.bin", bytes(range(256)) * 2 + bytes(size - 512)) for size in (512, 513, 1024)),
    ("set/511.bin", b"x" * 511),
    ("set/below/large.bin", random.Random(0).randbytes(30_000)),
    ("set/z.txt", "caf\u00e9".encode()),
]


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    """Return the header of a member, with whatever the format of the library writes before it."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    tar_format = fields.pop("tar_format", tarfile.GNU_FORMAT)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tar_format)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


END = bytes(2 * tarfile.BLOCKSIZE)


def packed(members: Iterable[tuple[str, bytes]], **fields: Any) -> bytes:
    """Return a tar archive, without compression."""
    parts = [header(name, len(content), **fields) + padded(content) for name, content in members]
    return b"".join(parts) + END


def with_checksum(block: bytes) -> bytes:
    """Return the header with the checksum that its bytes have."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def changed_field(block: bytes, start: int, value: bytes) -> bytes:
    return with_checksum(block[:start] + value + block[start + len(value) :])


def pax(records: bytes, *, kind: bytes = tarfile.XHDTYPE, claimed: int | None = None) -> bytes:
    """Return an extended header with these records."""
    size = len(records) if claimed is None else claimed
    return header("pax", size, kind) + padded(records)


def pax_record(keyword: bytes, value: bytes) -> bytes:
    rest = b" %s=%s\n" % (keyword, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def write_to(folder: Path, content: bytes, name: str = "archive") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def members(path: Path, max_bytes: int = 1 << 30) -> Iterable[Member]:
    return archive_members(path, max_bytes=max_bytes, remedy=REMEDY)


def contents(path: Path, max_bytes: int = 1 << 30) -> Contents:
    return [(member.name, member.read(1 << 30)) for member in members(path, max_bytes)]


def refusal(path: Path, max_bytes: int = 1 << 30, *, reading: bool = True) -> str:
    """Return what a person is told of an archive that is not read."""

    def walk() -> None:
        for member in members(path, max_bytes):
            if reading:
                member.read(1 << 30)

    with pytest.raises(UserError) as caught:
        walk()
    text = str(caught.value)
    assert str(path) in text
    assert text.isprintable()
    return text


def contents_or_none(path: Path, max_bytes: int = 1 << 30) -> Contents | None:
    """Return the contents, None if they are refused with a text that names the archive."""
    try:
        return contents(path, max_bytes)
    except UserError as error:
        if str(path) not in str(error):
            raise
        return None


# Reading what is in order.


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_contents(tmp_path: Path, tar_format: int, compress: Callable[[bytes], bytes]) -> None:
    path = write_to(tmp_path, compress(packed(CONTENTS, tar_format=tar_format)))
    assert contents(path) == CONTENTS
    assert [member.size for member in members(path)] == [len(content) for _, content in CONTENTS]


def test_what_other_programs_write(tmp_path: Path) -> None:
    for mode in ("w", "w:gz"):
        with tarfile.open(tmp_path / "archive", cast(Any, mode)) as tar:
            for name, content in CONTENTS:
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        assert contents(tmp_path / "archive") == CONTENTS


@pytest.mark.parametrize("wanted", range(8))
def test_members_are_read_in_part_or_not_at_all(tmp_path: Path, wanted: int) -> None:
    path = write_to(tmp_path, gzip.compress(packed(CONTENTS)))
    for at, member in enumerate(members(path)):
        assert member.name == CONTENTS[at][0]
        if at % 8 == wanted:
            assert member.file.read(7) == CONTENTS[at][1][:7]
            assert member.file.read(600) == CONTENTS[at][1][7:607]
        elif at % 3 == 0:
            assert member.file.read(0) == b""


def test_lines(tmp_path: Path) -> None:
    path = write_to(tmp_path, packed(CONTENTS))
    walk = iter(members(path))
    member = next(walk)
    assert member.file.readline() == b"first\n"
    assert member.file.readline(3) == b"sec"
    assert list(member.file) == [b"ond\r\n", b"third"]
    assert next(walk).name == CONTENTS[1][0]


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a/" + "n" * 300, "\u65e5\u672c/caf\u00e9", "d/" * 60 + "x"])
def test_long_and_foreign_names(tmp_path: Path, tar_format: int, name: str) -> None:
    path = write_to(tmp_path, packed([(name, b"1"), ("b", b"2")], tar_format=tar_format))
    assert contents(path) == [(name, b"1"), ("b", b"2")]


def test_folders_are_no_members(tmp_path: Path) -> None:
    folder = header("set", 0, tarfile.DIRTYPE, tar_format=tarfile.PAX_FORMAT)
    path = write_to(tmp_path, folder + packed(CONTENTS))
    assert contents(path) == CONTENTS


def test_empty_archive(tmp_path: Path) -> None:
    assert contents(write_to(tmp_path, END)) == []
    assert contents(write_to(tmp_path, gzip.compress(END * 10))) == []


def test_zeros_behind_the_end(tmp_path: Path) -> None:
    content = packed(CONTENTS)
    assert contents(write_to(tmp_path, content + bytes(10_000))) == CONTENTS
    assert contents(write_to(tmp_path, gzip.compress(content + bytes(10_000)))) == CONTENTS
    assert contents(write_to(tmp_path, gzip.compress(content) + bytes(10_000))) == CONTENTS


@pytest.mark.parametrize("at", [1, 100, 512, 700, 20_000])
def test_several_compressed_pieces(tmp_path: Path, at: int) -> None:
    content = packed(CONTENTS)
    pieces = [content[:at], b"", content[at : at + 99], content[at + 99 :]]
    assert contents(write_to(tmp_path, b"".join(map(gzip.compress, pieces)))) == CONTENTS


def test_progress(tmp_path: Path) -> None:
    content = packed([(f"{number}", bytes(1 << 20)) for number in range(20)])
    path = write_to(tmp_path, content)
    seen: list[Progress] = []
    for _ in archive_members(path, max_bytes=1 << 30, remedy=REMEDY, progress=seen.append):
        pass
    assert {progress.total for progress in seen} == {len(content)}
    done = [progress.done for progress in seen]
    assert 4 <= len(done) < 10
    assert done == sorted(done)
    assert done[-1] == len(content)


def test_a_member_is_read_before_the_next(tmp_path: Path) -> None:
    path = write_to(tmp_path, packed([("a", b"1" * 20_000), ("b", b"2"), ("c", b"3")]))
    first, second, _ = members(path)
    for member in (first, second):
        with pytest.raises(UserError):
            member.read(1 << 20)


def test_member_of_more_than_is_possible(tmp_path: Path) -> None:
    path = write_to(tmp_path, packed([("a", b"1" * 1000)]))
    (member,) = [member for member in members(path) if member.read(1000) == b"1" * 1000]
    for member in members(path):
        with pytest.raises(UserError, match="has 1,000 bytes, at most 999 are possible") as caught:
            member.read(999)
        assert f"{path}, member a " in str(caught.value)


# What is refused.


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "a/..", "..", "a/../b", "//x", "..\\x", "a\\b", "C:\\x"],
)
def test_names_that_climb(tmp_path: Path, name: str) -> None:
    content = packed([("good", b"1"), (name, b"2")], tar_format=tarfile.PAX_FORMAT)
    text = refusal(write_to(tmp_path, content))
    assert "climbs out of its folder" in text
    assert repr(name) in text
    assert REMEDY in text


@pytest.mark.parametrize("name", ["", ".", "./", ".//."])
def test_files_without_a_name(tmp_path: Path, name: str) -> None:
    # For a folder that is in order: it is the one that was packed.
    folder = header(name, 0, tarfile.DIRTYPE)
    assert contents(write_to(tmp_path, folder + packed([("good", b"1")]))) == [("good", b"1")]
    file = pax(pax_record(b"path", name.encode())) + packed([("good", b"1")])
    assert "has a file named" in refusal(write_to(tmp_path, file))


@pytest.mark.parametrize("value", [b"a\0b", b"good\0", b"\0"])
def test_names_with_a_zero(tmp_path: Path, value: bytes) -> None:
    content = pax(pax_record(b"path", value)) + packed([("good", b"1")])
    assert "climbs out of its folder" in refusal(write_to(tmp_path, content))


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202etxt", "\udcff"])
def test_names_are_printed_harmlessly(tmp_path: Path, name: str) -> None:
    path = write_to(tmp_path, packed([(name, b"1234")]))
    assert contents(path) == [(name, b"1234")]
    for member in members(path):
        assert member.place.isprintable()
        with pytest.raises(UserError, match="at most 3") as caught:
            member.read(3)
        assert str(caught.value).isprintable()
    assert refusal(write_to(tmp_path, packed([(f"../{name}", b"1")])))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"Z",
        b"V",
        b"M",
    ],
)
def test_no_plain_files(tmp_path: Path, kind: bytes) -> None:
    content = header("evil", 0, kind, linkname="good", devmajor=1, devminor=3)
    text = refusal(write_to(tmp_path, packed([("good", b"1")])[: -len(END)] + content + END))
    assert "member 'evil' that is a link or no plain file" in text


def test_link_to_a_member(tmp_path: Path) -> None:
    # The library would follow both, to the end of the archive and back.
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        content = header("link", 0, kind, linkname="good") + packed([("good", b"1")])
        assert "a link" in refusal(write_to(tmp_path, content))


OLD_SPARSE = changed_field(
    header("sparse", 512, tarfile.GNUTYPE_SPARSE),
    386,
    b"%011o\0%011o\0" % (0, 512) + bytes(72) + b"\0" + b"%011o\0" % (1 << 33),
)


@pytest.mark.parametrize(
    "content",
    [
        OLD_SPARSE + bytes(512),
        # It goes on in further blocks, and these go on and on.
        changed_field(OLD_SPARSE, 482, b"\1") + (b"7" * 504 + b"\1" + bytes(7)) * 100_000,
        pax(
            pax_record(b"GNU.sparse.size", b"8589934592")
            + pax_record(b"GNU.sparse.numblocks", b"1")
            + pax_record(b"GNU.sparse.offset", b"0")
            + pax_record(b"GNU.sparse.numbytes", b"512")
        )
        + header("sparse", 512)
        + bytes(512),
        pax(pax_record(b"GNU.sparse.size", b"8589934592") + pax_record(b"GNU.sparse.map", b"0,512"))
        + header("sparse", 512)
        + bytes(512),
        pax(
            pax_record(b"GNU.sparse.major", b"1")
            + pax_record(b"GNU.sparse.minor", b"0")
            + pax_record(b"GNU.sparse.name", b"sparse")
            + pax_record(b"GNU.sparse.realsize", b"8589934592")
        )
        + header("sparse", 1024)
        + padded(b"1\n0\n512\n")
        + bytes(512),
        # The list of its pieces is endless.
        pax(
            pax_record(b"GNU.sparse.major", b"1")
            + pax_record(b"GNU.sparse.minor", b"0")
            + pax_record(b"GNU.sparse.realsize", b"8589934592")
        )
        + header("sparse", 1 << 32)
        + padded(b"%d\n" % (1 << 40) + b"0\n" * 10_000_000),
    ],
    ids=["old", "old, endless", "0.0", "0.1", "1.0", "1.0, endless"],
)
def test_sparse_files(tmp_path: Path, content: bytes) -> None:
    path = write_to(tmp_path, gzip.compress(content + END))
    del content
    with most_memory() as used:
        text = refusal(path)
    assert "no plain file" in text or "a header of more than" in text
    assert used[0] < 4 << 20


@contextmanager
def most_memory() -> Iterator[list[int]]:
    """Measure the most memory that was in use at once; the number is there in the end."""
    used: list[int] = []
    tracemalloc.start()
    try:
        yield used
        used.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_long_header(tmp_path: Path) -> None:
    limit = MAX_HEADER_BYTES
    for length, is_good in ((limit // 2, True), (limit + 1, False), (100 << 20, False)):
        for record in (b"comment", b"path"):
            content = pax(pax_record(record, b"n" * length)) + packed([("a", b"1")])
            path = write_to(tmp_path, gzip.compress(content, 1))
            with most_memory() as used:
                if is_good:
                    assert [len(content) for _, content in contents(path)] == [1]
                else:
                    assert "a header of more than 32,768 bytes" in refusal(path)
            assert used[0] < 4 << 20


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_long_name_of_old_style(tmp_path: Path, kind: bytes) -> None:
    content = header("long", 1 << 33, kind) + packed([("a", b"1")])
    assert "a header of more than" in refusal(write_to(tmp_path, content))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    ],
)
@pytest.mark.parametrize(
    "size", [b"\xff" * 10 + b"\xfc\x00", b"\xff" + bytes(11), b"\x80" + b"\xff" * 11]
)
def test_absurd_size_of_a_header(tmp_path: Path, kind: bytes, size: bytes) -> None:
    good = packed([("good", b"1")])[: -len(END)]
    for before in (b"", good):
        content = before + changed_field(header("x", 0, kind), 124, size) + good + END
        refusal(write_to(tmp_path, content))
        refusal(write_to(tmp_path, gzip.compress(content)))


def test_endless_headers(tmp_path: Path) -> None:
    one = pax(pax_record(b"comment", b"1"))
    assert contents(write_to(tmp_path, one * 5 + packed([("a", b"1")]))) == [("a", b"1")]
    path = write_to(tmp_path, gzip.compress(one * 10_000 + packed([("a", b"1")])))
    assert "a header of more than" in refusal(path)


def test_headers_that_take_long_to_parse(tmp_path: Path) -> None:
    # Some versions of the library look at each digit once for each digit before it, others refuse
    # a record without an end.
    content = pax(b"1" * 30_000) + packed([("a", b"1")])
    assert contents_or_none(write_to(tmp_path, content)) in (None, [("a", b"1")])


@pytest.mark.parametrize(
    "value", [b"-1", b"-512", b"9223372036854775808", b"9" * 4000, b"8" * 5000]
)
def test_absurd_size_in_an_extended_header(tmp_path: Path, value: bytes) -> None:
    content = pax(pax_record(b"size", value)) + packed([("a", b"1"), ("b", b"2")])
    path = write_to(tmp_path, content)
    if len(value) > 4300:
        # Too long for a number: the library takes it for zero, and then finds no header.
        assert "broken" in refusal(path)
    else:
        refusal(path, reading=False)
        refusal(path, reading=True)


@pytest.mark.parametrize("record", [b"", b"5 a=b", b"0 a=b\n", b"99 a=b\n", b"\xff", b"3 =\n"])
def test_damaged_extended_header(tmp_path: Path, record: bytes) -> None:
    path = write_to(tmp_path, pax(record) + packed([("a", b"1")]))
    assert contents_or_none(path) in (None, [("a", b"1")])


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(b"\x80" + bytes(3) + (1 << 40).to_bytes(8, "big"), id="2 ** 40"),
        pytest.param(b"\x80" + b"\xff" * 11, id="2 ** 88"),
        pytest.param(b"\xff" * 11 + b"\x00", id="-256"),
        pytest.param(b"\xff" * 12, id="-1"),
        pytest.param(b"\xff" + bytes(11), id="-2 ** 88"),
        pytest.param(b"77777777777\0", id="8 GiB"),
        pytest.param(b"-0000000001\0", id="minus one"),
        pytest.param(b"9999\0", id="no octal digits"),
        pytest.param(b"abcdefgh\0", id="no digits"),
    ],
)
@pytest.mark.parametrize("reading", [True, False])
def test_absurd_size(tmp_path: Path, size: bytes, reading: bool) -> None:
    block = changed_field(header("evil"), 124, size)
    content = packed([("good", b"1")])[: -len(END)] + block + packed([("b", b"2")])
    for path in (write_to(tmp_path, content), write_to(tmp_path, gzip.compress(content), "gz")):
        refusal(path, reading=reading)


def test_a_member_of_which_8_gib_are_claimed(tmp_path: Path) -> None:
    block = changed_field(header("evil"), 124, b"77777777777\0")
    for member in members(write_to(tmp_path, block + bytes(5000))):
        assert member.size == (8 << 30) - 1
        with pytest.raises(UserError, match="has 8,589,934,591 bytes, at most 1,000"):
            member.read(1000)
        with most_memory() as used, pytest.raises(UserError, match="broken or cut short"):
            member.file.read(1 << 20)
        assert used[0] < 4 << 20
        break


@pytest.mark.parametrize("reading", [True, False])
def test_bomb(tmp_path: Path, reading: bool) -> None:
    path = write_to(tmp_path, gzip.compress(packed([("a", bytes(50 << 20)), ("b", b"2")]), 1))
    assert path.stat().st_size < 1 << 20
    with most_memory() as used:
        text = refusal(path, max_bytes=10 << 20, reading=False)
    assert "unpacks to more than the 10,485,760 bytes" in text
    assert used[0] < 4 << 20
    if reading:
        assert "10,485,760" in refusal(path, max_bytes=10 << 20)
    # What it may hold, and the headers and the end.
    assert len(contents(path, max_bytes=(50 << 20) + 4 * 512 + len(END))) == 2


def test_bomb_behind_the_end(tmp_path: Path) -> None:
    path = write_to(tmp_path, gzip.compress(packed(CONTENTS) + bytes(50 << 20), 1))
    assert "unpacks to more than" in refusal(path, max_bytes=10 << 20)


# What is broken.


def positions(length: int, number: int) -> list[int]:
    """Return some positions, the first and the last ones among them."""
    step = max(1, length // number)
    return sorted({*range(0, length, step), *range(min(20, length)), *range(length - 20, length)})


def test_compressed_archive_that_is_cut_short_anywhere(tmp_path: Path) -> None:
    content = gzip.compress(packed(CONTENTS))
    at = positions(len(content), 200)
    assert len(at) > 200
    for length in at:
        refusal(write_to(tmp_path, content[:length]))
        refusal(tmp_path / "archive", reading=False)


def test_archive_that_is_cut_short_anywhere(tmp_path: Path) -> None:
    content = packed(CONTENTS)
    blocks = range(0, len(content), tarfile.BLOCKSIZE)
    whole = len(content) - len(END)
    for length in {*positions(len(content), 200), *blocks, *range(whole - 3, whole + 4)}:
        path = write_to(tmp_path, content[:length])
        if length <= whole:
            refusal(path)
            refusal(path, reading=False)
        else:
            # A part of the end is enough to know that it is the end.
            assert contents(path) == CONTENTS


def test_flipped_bits_of_a_compressed_archive(tmp_path: Path) -> None:
    content = gzip.compress(packed(CONTENTS[:4]))
    harmless = 0
    for at in range(0, 8 * len(content), 3):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        path = write_to(tmp_path, bytes(flipped))
        found = contents_or_none(path)
        assert found in (None, CONTENTS[:4])
        harmless += found is not None
    # The time, the system, and the flags that nobody reads.
    assert harmless >= 8 * 6 // 3


def test_flipped_bits_of_the_headers(tmp_path: Path) -> None:
    content = packed(CONTENTS[:4])
    starts = [0, 1024, 1536, 2560]
    assert all(content[start + 257 : start + 262] == b"ustar" for start in starts)
    for start in starts:
        for at in range(0, 8 * tarfile.BLOCKSIZE, 11):
            flipped = bytearray(content)
            flipped[start + at // 8] ^= 1 << at % 8
            path = write_to(tmp_path, bytes(flipped))
            assert contents_or_none(path) in (None, CONTENTS[:4])


@pytest.mark.parametrize("garbage", [b"x", b"\0x", bytes(5000) + b"x", packed(CONTENTS)])
def test_garbage_behind_the_end(tmp_path: Path, garbage: bytes) -> None:
    content = packed(CONTENTS)
    assert "goes on behind its end" in refusal(write_to(tmp_path, content + garbage))
    assert "goes on" in refusal(write_to(tmp_path, gzip.compress(content + garbage)))
    assert "broken" in refusal(write_to(tmp_path, gzip.compress(content) + garbage))


@pytest.mark.parametrize("at", [0, 1024, 1536])
def test_zeros_where_a_header_was(tmp_path: Path, at: int) -> None:
    # The library takes them for the end, and the members behind for nothing.
    content = packed(CONTENTS)
    path = write_to(tmp_path, content[:at] + bytes(512) + content[at + 512 :])
    assert "goes on behind its end" in refusal(path)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        # Of what an .xz file is made, an older wrapping.
        lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
        lambda content: lzma.compress(b"words " * 1000),
        bz2.compress,
        zipped,
        lambda content: b"",
        lambda content: b"x",
        lambda content: b"<html>Not found</html>",
        lambda content: b"words " * 1000,
        lambda content: random.Random(0).randbytes(20_000),
        lambda content: gzip.compress(b"words " * 1000),
        lambda content: gzip.compress(gzip.compress(content)),
        lambda content: gzip.compress(b""),
    ],
)
def test_no_archive(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = write_to(tmp_path, change(packed(CONTENTS)))
    text = refusal(path)
    assert (
        text
        == f"{path} is refused: it is no tar archive, plain or compressed with gzip or xz; {REMEDY}"
    )


def test_archive_that_cannot_be_read(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "missing")
    assert REMEDY not in refusal(tmp_path / "missing")


def test_disk_error_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_to(tmp_path, packed([("a", bytes(100_000)), ("b", bytes(100_000))]))

    class Failing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 120_000:
                raise OSError(5, "Input/output error")
            data = super().read(size)
            assert data is not None
            return data

    monkeypatch.setattr(Path, "open", lambda path, mode: Failing(path, "rb"))
    assert refusal(path) == f"cannot read {path}: Input/output error"


@pytest.mark.slow
def test_memory_of_a_long_archive(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    number = 200_000
    with gzip.open(path, "wb", compresslevel=1) as file:
        for at in range(number):
            file.write(header(f"a/folder/with/a/name/{at}.png", 1) + padded(b"1"))
        file.write(END)
    with most_memory() as used:
        assert sum(1 for _ in members(path, 1 << 40)) == number
    # One header kept for each would be some 200 MB.
    assert used[0] < 4 << 20


# Where the files are.

FILES = ("one.tsv", "two.tsv")
INNER = "lra_release/lra_release/some-set"
OUTER = "lra_release/some-set"


def read_all(source: RawFiles | None, names: Sequence[str] = FILES) -> dict[str, bytes]:
    assert source is not None
    found = {}
    for member in members_of(source, names.__contains__, max_bytes=1 << 30, remedy=REMEDY):
        assert member.name not in found
        found[member.name] = member.read(1000)
    return found


def contents_of(mark: str) -> dict[str, bytes]:
    return {name: f"{mark} {name}".encode() for name in FILES}


def put(folder: Path, mark: str) -> None:
    for name, content in contents_of(mark).items():
        write_to(folder, content, name)


def archive_of(*folders: str) -> bytes:
    """Return an archive with these folders, each with the files marked with its name."""
    return packed(
        (f"{folder}/{name}", content)
        for folder in folders
        for name, content in contents_of(folder).items()
    )


# Where the data folder is in the tree that the release has.
DEPTHS = ["", "lra_release", "lra_release/lra_release", INNER]


@pytest.mark.parametrize("data_dir", DEPTHS)
def test_the_inner_folder_is_preferred(tmp_path: Path, data_dir: str) -> None:
    put(tmp_path / OUTER, "outer")
    put(tmp_path / INNER, "inner")
    source = find_release(tmp_path / data_dir, "some-set", FILES)
    assert source == RawFiles(tmp_path / INNER, is_archive=False)
    assert read_all(source) == contents_of("inner")
    assert source is not None
    # The record says which of two copies was read.
    below = (tmp_path / INNER).relative_to(tmp_path / data_dir).as_posix()
    assert source.description == f"folder {'some-set' if below == '.' else below}"


@pytest.mark.parametrize("data_dir", ["", "lra_release", OUTER])
@pytest.mark.parametrize("files", [FILES, ()])
def test_the_outer_folder_alone(tmp_path: Path, data_dir: str, files: Sequence[str]) -> None:
    put(tmp_path / OUTER, "outer")
    source = find_release(tmp_path / data_dir, "some-set", files)
    if data_dir == OUTER and not files:
        # Nothing tells that it is the folder itself.
        assert source is None
    else:
        assert read_all(source) == contents_of("outer")


def test_a_folder_without_the_files_does_not_count(tmp_path: Path) -> None:
    (tmp_path / INNER).mkdir(parents=True)
    write_to(tmp_path / INNER, b"", "readme")
    put(tmp_path / OUTER, "outer")
    assert read_all(find_release(tmp_path, "some-set", FILES)) == contents_of("outer")
    # One of them is enough: what is missing is to be told.
    write_to(tmp_path / INNER, b"inner", FILES[1])
    assert read_all(find_release(tmp_path, "some-set", FILES)) == {FILES[1]: b"inner"}
    # Without a list of files it does.
    source = find_release(tmp_path, "some-set")
    assert source == RawFiles(tmp_path / INNER, is_archive=False)


def test_nothing_found(tmp_path: Path) -> None:
    assert find_release(tmp_path, "some-set", FILES) is None
    assert find_release(tmp_path / "missing", "some-set") is None
    # Neither a folder of an archive's name nor a file of a folder's.
    for name in (*RELEASE_ARCHIVES, "some-set.tar.gz"):
        (tmp_path / name).mkdir()
    (tmp_path / "some-set").write_text("")
    assert find_release(tmp_path, "some-set", FILES) is None


@pytest.mark.parametrize("name", RELEASE_ARCHIVES)
@pytest.mark.parametrize("below", ["", "lra_release"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_archive_of_the_release(
    tmp_path: Path, name: str, below: str, compress: Callable[[bytes], bytes]
) -> None:
    # The outer copy comes first, and between them another set.
    content = archive_of(OUTER, "lra_release/other-set", INNER, "elsewhere/some-set")
    path = write_to(tmp_path / below, compress(content), name)
    source = find_release(tmp_path, "some-set", FILES)
    assert source is not None
    assert (source.path, source.is_archive) == (path, True)
    assert source.description == f"archive {name}"
    assert read_all(source) == contents_of(INNER)


@pytest.mark.parametrize("folder", [INNER, OUTER, "some-set"])
def test_archive_with_one_copy(tmp_path: Path, folder: str) -> None:
    write_to(tmp_path, archive_of("elsewhere/some-set", folder, "some-set-2"), "lra_release.gz")
    assert read_all(find_release(tmp_path, "some-set", FILES)) == contents_of(folder)


def test_archive_without_the_set(tmp_path: Path) -> None:
    # In the archive of the release the files belong into their folder.
    content = archive_of("elsewhere/some-set", ".")
    write_to(tmp_path, content, "lra_release.gz")
    assert read_all(find_release(tmp_path, "some-set", FILES)) == {}


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar", ".gz"])
@pytest.mark.parametrize("folder", [INNER, "some-set", "."])
def test_archive_of_one_set(tmp_path: Path, suffix: str, folder: str) -> None:
    compress = bytes if suffix == ".tar" else gzip.compress
    path = write_to(tmp_path, compress(archive_of(folder)), f"some-set{suffix}")
    # It is preferred to the one of all.
    write_to(tmp_path, archive_of(INNER, OUTER), "lra_release.gz")
    source = find_release(tmp_path, "some-set", FILES)
    assert source is not None
    assert source.path == path
    assert read_all(source) == contents_of(folder)


def test_an_unpacked_set_is_preferred_to_an_archive(tmp_path: Path) -> None:
    write_to(tmp_path, archive_of(INNER), "some-set.tar.gz")
    put(tmp_path / "some-set", "unpacked")
    assert read_all(find_release(tmp_path, "some-set", FILES)) == contents_of("unpacked")


@pytest.mark.parametrize("again", [f"{INNER}/{FILES[0]}", f"./{INNER}/./{FILES[0]}"])
def test_a_wanted_file_is_there_twice(tmp_path: Path, again: str) -> None:
    content = archive_of(INNER)[: -len(END)] + packed([(again, b"another")])
    write_to(tmp_path, content, "lra_release.gz")
    source = find_release(tmp_path, "some-set", FILES)
    with pytest.raises(UserError, match=f"{FILES[0]} is there twice; {REMEDY}"):
        read_all(source)
    # What nobody wants may be there as often as it likes.
    assert read_all(source, FILES[1:]) == {FILES[1]: contents_of(INNER)[FILES[1]]}


def test_a_file_is_named_to_a_person(tmp_path: Path) -> None:
    path = write_to(tmp_path, archive_of(INNER), "lra_release.gz")
    for source, place in (
        (RawFiles(path, is_archive=True, prefixes=[f"{INNER}/"]), f"{path}, member {INNER}/"),
        (RawFiles(tmp_path / "set", is_archive=False), f"{tmp_path}/set/"),
    ):
        put(tmp_path / "set", "folder")
        for member in members_of(source, FILES.__contains__, max_bytes=1 << 20, remedy=REMEDY):
            assert member.place == f"{place}{member.name}"


def test_files_of_a_folder_are_sorted(tmp_path: Path) -> None:
    names = ["b/2", "b/10", "a", "b.txt", "c/d/e", "c/D/e"]
    for name in names:
        write_to(tmp_path, name.encode(), name)
    source = RawFiles(tmp_path, is_archive=False)
    found = {
        member.name: member.read(100)
        for member in members_of(source, lambda name: name != "a", max_bytes=1, remedy=REMEDY)
    }
    assert list(found) == sorted(names)[1:]
    assert all(content == name.encode() for name, content in found.items())


@pytest.mark.parametrize("changed", [b"", b"1234", b"123456", b"1" * 100_000])
def test_file_of_a_folder_that_changes_while_it_is_read(tmp_path: Path, changed: bytes) -> None:
    path = write_to(tmp_path, b"12345", "a")
    source = RawFiles(tmp_path, is_archive=False)
    for member in members_of(source, lambda name: True, max_bytes=1, remedy=REMEDY):
        with pytest.raises(UserError, match="has 5 bytes, at most 4"):
            member.read(4)
        path.write_bytes(changed)
        with pytest.raises(UserError, match="was changed while it was read") as caught:
            member.read(5)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "broken link", "link to a folder"])
def test_what_is_no_file_in_a_folder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "set" / FILES[0]
    put(path.parent, "folder")
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("missing")
    if kind == "link to a folder":
        (path.parent / "missing").mkdir()
        # Like a folder: not entered, and no file.
        assert set(read_all(RawFiles(path.parent, is_archive=False))) == {FILES[1]}
        return
    with pytest.raises(UserError, match="cannot read") as caught:
        read_all(RawFiles(path.parent, is_archive=False))
    assert str(path) in str(caught.value)


def test_link_to_a_file_is_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "linked")
    (tmp_path / "set").symlink_to("elsewhere")
    assert read_all(find_release(tmp_path, "set", FILES)) == contents_of("linked")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / FILES[0]).symlink_to(tmp_path / "elsewhere" / FILES[0])
    found = read_all(RawFiles(tmp_path / "one", is_archive=False))
    assert found == {FILES[0]: contents_of("linked")[FILES[0]]}


def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "set", "folder")
    scandir = os.scandir

    def failing(path: Any) -> Any:
        if Path(path).name == "below":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    (tmp_path / "set" / "below").mkdir()
    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(UserError, match="Permission denied") as caught:
        read_all(RawFiles(tmp_path / "set", is_archive=False))
    assert str(tmp_path / "set" / "below") in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(tmp_path: Path) -> None:
    put(tmp_path / "set", "folder")
    (tmp_path / "set" / FILES[0]).chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        read_all(RawFiles(tmp_path / "set", is_archive=False))


# Damage of every kind.

MANY = pytest.mark.parametrize("number", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])


def plain_contents(path: Path) -> Contents:
    """Read an archive with the library alone, in the plainest way."""
    found = []
    with tarfile.open(path) as tar:
        for info in tar:
            if info.isreg():
                file = tar.extractfile(info)
                assert file is not None
                found.append((PurePosixPath(info.name).as_posix(), file.read()))
    return found


SMALL: Contents = [("set/a", b"first"), ("b", b"x" * 600), ("set/caf\u00e9", b""), ("c", b"3\n")]
SMALL_ARCHIVES = [
    packed(SMALL),
    packed(SMALL, tar_format=tarfile.PAX_FORMAT),
    packed([("n" * 150, b"1"), *SMALL[::-1]]),
    pax(pax_record(b"path", b"other") + pax_record(b"size", b"600")) + packed(SMALL[1:]),
    header("set", 0, tarfile.DIRTYPE) + OLD_SPARSE + bytes(512) + packed(SMALL[:1]),
    header("link", 0, tarfile.SYMTYPE, linkname="b") + packed(SMALL[:2]),
]


@MANY
def test_damaged_archives(tmp_path: Path, number: int) -> None:
    path = tmp_path / "archive"
    accepted = 0
    for content in mutants(SMALL_ARCHIVES, number):
        path.write_bytes(content)
        found = contents_or_none(path, 1 << 20)
        accepted += found is not None
        # Nothing is lost, added or confused that the library finds.
        assert found is None or found == plain_contents(path)
    assert number // 50 < accepted < number // 2


@MANY
@pytest.mark.parametrize(("compress", "fewest"), [(gzip.compress, 100), (lzma.compress, 200)])
def test_damaged_compressed_archives(
    tmp_path: Path, number: int, compress: Callable[[bytes], bytes], fewest: int
) -> None:
    path = tmp_path / "archive"
    archives = [compress(content) for content in SMALL_ARCHIVES[:4]]
    expected = []
    for content in archives:
        path.write_bytes(content)
        expected.append(contents(path))
    accepted = 0
    # The seeds are told apart by their checksums: what is accepted is one of them, unharmed.
    for content in mutants(archives, number):
        path.write_bytes(content)
        found = contents_or_none(path, 1 << 20)
        accepted += found is not None
        assert found is None or found in expected
    assert accepted > number // fewest


def test_an_xz_archive_in_several_streams(tmp_path: Path) -> None:
    content = packed(CONTENTS)
    pieces = [content[start : start + 1000] for start in range(0, len(content), 1000)]
    stream = b"".join(map(lzma.compress, pieces))
    assert contents(write_to(tmp_path, stream)) == CONTENTS
    # Zeros may stand between and behind.
    stream = bytes(8).join(map(lzma.compress, pieces)) + bytes(8)
    assert contents(write_to(tmp_path, stream)) == CONTENTS
    for garbage in (b"x", b"\xfd7zXZ"):
        assert "broken" in refusal(write_to(tmp_path, stream + garbage))


def test_a_cut_xz_archive(tmp_path: Path) -> None:
    content = lzma.compress(packed(CONTENTS))
    for end in range(6, len(content), 997):
        assert "broken" in refusal(write_to(tmp_path, content[:end]))


def test_an_xz_archive_that_wants_a_gigabyte_of_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    content = bytearray(lzma.compress(packed(CONTENTS), filters=filters))
    # The size of the dictionary stands in the header of the block, which has a checksum.
    assert content[12:16] == bytes([2, 0, 0x21, 1])
    content[16] = 36
    content[20:24] = zlib.crc32(content[12:20]).to_bytes(4, "little")
    assert "memory" in refusal(write_to(tmp_path, bytes(content))).lower()
