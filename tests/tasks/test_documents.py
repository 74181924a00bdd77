from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import mutants
from made_up_documents import Members, documents, pack, write

from lra_bench.errors import UserError
from lra_tasks._documents import Document, Index, Place, check_path, find
from lra_tasks._same_text import key_of, letters_and_digits


def zipped(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


PACKED: dict[str, Callable[[Path, Members], Path]] = {
    "folder": write,
    "x.tar": lambda path, members: pack(path, members, "w"),
    "x.tar.gz": pack,
    "x.tar.xz": lambda path, members: pack(path, members, "w:xz"),
    "x.zip": zipped,
}


def read(path: Path, pattern: str = "*") -> tuple[dict[str, Document], Counter[str]]:
    seen: Counter[str] = Counter()
    found = [one for one in Place(path, pattern).read(seen=seen) if isinstance(one, Document)]
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}, seen


def index_of(path: Path) -> list[Index]:
    return [one for one in Place(path).read() if isinstance(one, Index)]


ODD: Members = {
    "a/b/c/deep.txt": b"\xef\xbb\xbf marked \n",
    "a/empty.txt": b"",
    "a/blank.md": b" \n\t ",
    "a/latin.txt": b"caf\xe9",
    "a/picture.png": b"\x89PNG",
    "a/.hidden.txt": b"hidden",
    "README": b"read me",
    "lines.jsonl": b'{"text": "one", "author": "A", "part": "dev"}\n\n{"text": " "}\n'
    b'{"text": "\\ud800"}\n{"id": 3, "text": "caf\\u00e9", "author": 7}',
}


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_read(tmp_path: Path, kind: str) -> None:
    found, seen = read(PACKED[kind](tmp_path / kind, ODD))
    assert {name: one.text.decode() for name, one in found.items()} == {
        "a/b/c/deep.txt": "marked",
        "lines.jsonl:1": "one",
        "lines.jsonl:5": "caf\u00e9",
    }
    one = found["lines.jsonl:1"]
    assert (one.author, one.part) == ("A", "validation")
    assert (found["lines.jsonl:5"].author, found["lines.jsonl:5"].part) == ("", None)
    assert seen["empty"] == 3
    assert seen["not UTF-8"] == 2
    # Of a folder they are not even looked at.
    assert seen["other files"] == (0 if kind == "folder" else 3)


def test_single_files(tmp_path: Path) -> None:
    for name, content in {"x.txt": b"one", "y.jsonl": b'{"text": "two"}\n'}.items():
        (tmp_path / name).write_bytes(content)
    assert [one.text for one in read(tmp_path / "x.txt")[0].values()] == [b"one"]
    assert [one.text for one in read(tmp_path / "y.jsonl")[0].values()] == [b"two"]
    (tmp_path / "z.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="ends in none of"):
        read(tmp_path / "z.bin")


@pytest.mark.parametrize("kind", PACKED)
def test_patterns(tmp_path: Path, kind: str) -> None:
    path = PACKED[kind](tmp_path / kind, documents())
    names = set(read(path)[0])
    assert set(read(path, "some/1/*")[0]) == {name for name in names if "some/1/" in name}
    assert set(read(path, "*.md")[0]) == {name for name in names if name.endswith(".md")}


def test_ten_thousand_files(tmp_path: Path) -> None:
    members = {f"{at % 100}/{at}.txt": b"text %d" % at for at in range(10_000)}
    place = Place(write(tmp_path / "many", members))
    assert sum(1 for _ in place.read()) == 10_000
    cache_dir = tmp_path / "cache"
    identity = place.identity(cache_dir)
    assert place.identity(cache_dir) == identity
    # One note, not one a file.
    assert len(list((cache_dir / "checksums").iterdir())) == 1
    (tmp_path / "many/7/7.txt").write_bytes(b"another")
    assert place.identity(cache_dir) != identity


def test_the_identity_of_a_folder_is_that_of_its_documents(tmp_path: Path) -> None:
    first, second = (Place(write(tmp_path / name, documents())) for name in "ab")
    (tmp_path / "a/notes.pdf").write_bytes(b"no document")
    identities = [one.identity(tmp_path / "cache") for one in (first, second)]
    assert identities[0] == identities[1]
    (tmp_path / "a/some/0/0.txt").rename(tmp_path / "a/some/0/00.txt")
    assert first.identity(tmp_path / "cache") != identities[0]


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    check_path(tmp_path, "folder", "task.path")
    check_path(tmp_path, "later.tar.xz", "task.path")
    check_path(tmp_path, "", "task.path")
    assert find(tmp_path, "") is None
    assert find(tmp_path, "later.tar.xz") is None
    place = find(tmp_path / "other", str(tmp_path / "folder"))
    assert place is not None
    assert place.path == tmp_path / "folder"
    with pytest.raises(UserError, match=r"task\.path=nowhere: there is no such folder"):
        check_path(tmp_path, "nowhere", "task.path")


@pytest.mark.parametrize("kind", PACKED)
def test_an_index(tmp_path: Path, kind: str) -> None:
    text = "\ufeffFile\tyear\tAuthor\tsplit\na.txt\t1\tX\ttrain\nb/c.txt\t2\t\ttest\n"
    members = {"set/index.tsv": text.encode(), "set/a.txt": b"a", "set/b/c.txt": b"c"}
    (index,) = index_of(PACKED[kind](tmp_path / kind, members))
    assert index.authors == {"set/a.txt": "X", "set/b/c.txt": ""}
    assert index.parts == {"set/a.txt": "train", "set/b/c.txt": "test"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the first line must name the columns"),
        ("file\tyear\na\t1", "the first line must name the columns"),
        ("author\tpart\na\ttrain", "the first line must name the columns"),
        ("file\tpath\tpart\na\ta\ttrain", "the first line must name the columns"),
        ("file\tpart\na", "line 2 has 1 columns"),
        ("file\tpart\na\ttrain\na\ttest", "line 3: a stands there twice"),
        ("file\tpart\na\teverything", "line 2: the part 'everything' is not one of"),
        ("file\tpart\na\t\udcff", "not UTF-8"),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, text: str, why: str) -> None:
    path = write(tmp_path / "x", {"index.tsv": text.encode("utf-8", "surrogateescape")})
    with pytest.raises(UserError, match=why):
        index_of(path)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "line 2 is not JSON"),
        (b"[" * 100_000, "line 2 is not JSON"),
        (b"\xff", "line 2 is not JSON"),
        (b"3", "line 2 is no object with a `text`"),
        (b'{"Text": "x"}', "line 2 is no object with a `text`"),
        (b'{"text": 3}', "line 2 is no object with a `text`"),
        (b'{"text": "x", "part": "x"}', "line 2: the part 'x' is not one of"),
        (b'{"text": "x", "split": 3}', "line 2: the part 3 is not one of"),
    ],
)
def test_lines_that_are_none(tmp_path: Path, line: bytes, why: str) -> None:
    path = write(tmp_path / "x", {"x.jsonl": b'{"text": "x"}\n' + line})
    with pytest.raises(UserError, match=why) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def names_in_zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return path


@pytest.mark.parametrize("name", ["../up.txt", "/root.txt", "a/../../b.txt", "a\\b.txt"])
def test_zip_archives_that_climb_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="climbs out"):
        read(names_in_zip(tmp_path / "x.zip", name))


def test_an_encrypted_zip_archive(tmp_path: Path) -> None:
    path = names_in_zip(tmp_path / "x.zip", "a.txt")
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        read(path)


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.xz"])
def test_damaged_archives(tmp_path: Path, kind: str) -> None:
    members = {"a.txt": b"first", "b/c.md": b"second" * 9, "l.jsonl": b'{"text": "third"}'}
    path = PACKED[kind](tmp_path / kind, members)
    good = path.read_bytes()
    texts = {one.text for one in read(path)[0].values()}
    refused = 0
    for content in mutants([good], 300):
        path.write_bytes(content)
        try:
            found = read(path)[0]
        except UserError:
            refused += 1
            continue
        assert {one.text for one in found.values()} <= texts
    assert refused > 100


def test_damaged_lines(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"text": "one", "author": "A"}, {"text": "two", "part": "test"}]
    path = tmp_path / "x.jsonl"
    refused = 0
    for content in mutants(["\n".join(map(json.dumps, lines)).encode()], 500):
        path.write_bytes(content)
        try:
            for one in read(path)[0].values():
                assert one.text.decode().strip()
        except UserError:
            refused += 1
    assert refused > 100


def test_the_same_text() -> None:
    assert letters_and_digits(b"It's 10 o'clock_-\n") == b"its10oclock"
    assert letters_and_digits("CAF\u00c9 \u2014 \u65e5\u672c!".encode()) == (
        "caf\u00e9\u65e5\u672c".encode()
    )
    assert key_of(b"A b.") == key_of(b"ab") != key_of(b"abc")
    # Texts of signs alone are not all the same.
    assert key_of(b"...") != key_of(b"!!!")
    assert key_of(b"...") != key_of(b"")
