from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_bench.files import sha256_of
from lra_tasks._checksums import identity_of

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class Checksums:
    """Makes checksums, and remembers of which files."""

    def __init__(self) -> None:
        self.made: list[Path] = []

    def __call__(self, path: Path) -> str:
        self.made.append(path)
        return sha256_of(path)


def write_to(folder: Path, content: bytes, name: str = "archive") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_checksum_is_remembered(tmp_path: Path) -> None:
    checksums = Checksums()
    path = write_to(tmp_path, b"hello")
    cache_dir = tmp_path / "cache"
    for _ in range(3):
        assert identity_of(path, cache_dir, checksum_of=checksums) == HELLO
    # By another name of the same file, too.
    (tmp_path / "link").symlink_to("archive")
    assert identity_of(tmp_path / "link", cache_dir, checksum_of=checksums) == HELLO
    assert checksums.made == [path]
    assert [found.name for found in cache_dir.iterdir()] == ["checksums"]
    assert [found.suffix for found in (cache_dir / "checksums").iterdir()] == [".json"]
    # Elsewhere nothing is known of it.
    assert identity_of(path, tmp_path / "other", checksum_of=checksums) == HELLO
    assert len(checksums.made) == 2


def test_changed_files_get_another_checksum(tmp_path: Path) -> None:
    checksums = Checksums()
    path, cache_dir = write_to(tmp_path, b"hello"), tmp_path / "cache"
    first = identity_of(path, cache_dir, checksum_of=checksums)
    status = path.stat()
    # Of another size at the same time.
    path.write_bytes(b"hello!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = identity_of(path, cache_dir, checksum_of=checksums)
    # Of the same size at another time.
    path.write_bytes(b"HELLO!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    third = identity_of(path, cache_dir, checksum_of=checksums)
    # Another file of the same size and time in its place.
    other = write_to(tmp_path, b"hallo!", "other")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    other.replace(path)
    fourth = identity_of(path, cache_dir, checksum_of=checksums)
    assert len({first, second, third, fourth}) == 4
    assert len(checksums.made) == 4


def the_note(cache_dir: Path) -> Path:
    (note,) = (cache_dir / "checksums").iterdir()
    return note


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"{}", b'{"seen": 3}', b"[" * 100_000],
)
def test_broken_notes_are_ignored(tmp_path: Path, content: bytes) -> None:
    path, cache_dir = write_to(tmp_path, b"hello"), tmp_path / "cache"
    identity_of(path, cache_dir)
    sound = the_note(cache_dir).read_bytes()
    the_note(cache_dir).write_bytes(content)
    assert identity_of(path, cache_dir) == HELLO
    assert the_note(cache_dir).read_bytes() == sound


@pytest.mark.parametrize("key", ["seen", "sha256", "check"])
@pytest.mark.parametrize("value", [None, 3, "", "0" * 64, [*HELLO], {"a": 1}])
def test_edited_notes_are_ignored(tmp_path: Path, key: str, value: Any) -> None:
    path, cache_dir = write_to(tmp_path, b"hello"), tmp_path / "cache"
    identity_of(path, cache_dir)
    note = json.loads(the_note(cache_dir).read_text())
    the_note(cache_dir).write_text(json.dumps(note | {key: value}))
    assert identity_of(path, cache_dir) == HELLO
    assert json.loads(the_note(cache_dir).read_text()) == note


def test_note_of_another_file(tmp_path: Path) -> None:
    first, second = write_to(tmp_path, b"hello", "a"), write_to(tmp_path, b"other", "b")
    identity_of(second, tmp_path / "other")
    identity_of(first, tmp_path / "cache")
    note = the_note(tmp_path / "cache")
    note.write_bytes(the_note(tmp_path / "other").read_bytes())
    assert identity_of(first, tmp_path / "cache") == HELLO


@pytest.mark.parametrize("blocked", ["cache", "cache/checksums"])
def test_checksum_without_a_place_to_remember_it(tmp_path: Path, blocked: str) -> None:
    path = write_to(tmp_path, b"hello")
    write_to(tmp_path, b"a file where a folder should be", blocked)
    assert identity_of(path, tmp_path / "cache") == HELLO


def test_checksum_with_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_to(tmp_path, b"hello")

    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    assert identity_of(path, tmp_path / "cache") == HELLO


def test_checksum_of_a_name_that_is_no_text(tmp_path: Path) -> None:
    checksums = Checksums()
    path = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        path.write_bytes(b"hello")
    except OSError:
        pytest.skip("this file system has no such names")
    for _ in range(2):
        assert identity_of(path, tmp_path / "cache", checksum_of=checksums) == HELLO
    assert checksums.made == [path]


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing", "link to nothing"])
def test_checksum_of_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to("nothing")
    with pytest.raises(UserError, match="cannot read") as caught:
        identity_of(path, tmp_path / "cache")
    assert str(path) in str(caught.value)


# Damage of every kind.

# Fewer than elsewhere: each makes a new note, which waits for the disk.
MANY = pytest.mark.parametrize("number", [250, pytest.param(20_000, marks=pytest.mark.slow)])


@MANY
def test_damaged_notes(tmp_path: Path, number: int) -> None:
    path, cache_dir = write_to(tmp_path, b"hello"), tmp_path / "cache"
    identity_of(path, cache_dir)
    note = the_note(cache_dir)
    for content in mutants([note.read_bytes(), b'{"seen": "", "sha256": ""}'], number):
        note.write_bytes(content)
        assert identity_of(path, cache_dir) == HELLO
