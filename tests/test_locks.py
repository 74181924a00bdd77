"""Who holds a lock is known to everybody, and a lock ends with its owner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lra_bench import locks

HOLD = (
    "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
    "print(flush=True); input()"
)


def test_a_lock_is_held_until_its_owner_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.is_held(path) is False
    assert not path.exists()
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert locks.is_held(path) is True
        assert locks.take(path) is None
        owner.kill()
    assert locks.is_held(path) is False
    lock = locks.take(path)
    assert lock is not None
    assert locks.is_held(path) is True
    lock.release()
    assert locks.is_held(path) is False


def test_what_cannot_be_looked_at_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert locks.is_held(tmp_path / "file/lock") is None
