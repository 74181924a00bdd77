"""Files are whole or as they were, whoever writes and however a write ends."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lra_bench.errors import UserError
from lra_bench.files import (
    atomic,
    check_writable,
    draft_of,
    reason,
    remove_abandoned_drafts,
    sha256_of,
    size_of,
    write_atomically,
)

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file.txt"
    write_atomically(path, "first")
    write_atomically(path, "zweite Fassung: ä".encode())
    assert path.read_text(encoding="utf-8") == "zweite Fassung: ä"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic(path) as draft:
            draft.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_two_drafts_share_a_name(tmp_path: Path) -> None:
    drafts = {draft_of(tmp_path / ("long name " * 40)) for _ in range(100)}
    assert len(drafts) == 100
    for draft in drafts:
        draft.write_bytes(b"")


def test_only_drafts_that_nobody_writes_any_more_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    old, living, other = draft_of(path), draft_of(path), draft_of(tmp_path / "other.pt")
    for draft in (old, living, other):
        draft.write_bytes(b"half")
    days_ago = time.time() - 3 * 24 * 3600
    os.utime(old, (days_ago, days_ago))
    os.utime(other, (days_ago, days_ago))
    remove_abandoned_drafts(path)
    assert sorted(tmp_path.iterdir()) == sorted([living, other])


def test_drafts_of_a_process_that_has_ended_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "run[1].pt"
    code = (
        "import sys; from pathlib import Path; from lra_bench.files import draft_of\n"
        "draft_of(Path(sys.argv[1])).write_bytes(b'half')"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=ENVIRONMENT)
    (dead,) = tmp_path.iterdir()
    elsewhere = path.with_name(dead.name.replace(socket.gethostname()[:40], "elsewhere"))
    elsewhere.write_bytes(b"half")
    remove_abandoned_drafts(path)
    assert list(tmp_path.iterdir()) == [elsewhere]


def test_the_old_file_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "file.previous"
    for content in (b"1", b"2", b"3"):
        with atomic(path, previous=previous) as draft:
            draft.write_bytes(content)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    check_writable(tmp_path / "made", "results_dir")
    assert list((tmp_path / "made").iterdir()) == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write to results_dir=.*file: .*another folder"):
        check_writable(tmp_path / "file", "results_dir")


def test_reasons_name_the_remedy() -> None:
    assert reason(OSError(errno.ENOSPC, "No space left on device")) == "the disk is full"
    assert "quota" in reason(OSError(errno.EDQUOT, "x"))
    assert reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
    assert reason(OSError("said without a number")) == "said without a number"


def test_hash_and_size(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(content)
    (tmp_path / "other").write_bytes(b"12345")
    assert sha256_of(tmp_path / "a/file") == hashlib.sha256(content).hexdigest()
    assert size_of(tmp_path) == len(content) + 5
    with pytest.raises(OSError, match="nothing"):
        sha256_of(tmp_path / "nothing")
