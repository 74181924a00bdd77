"""Who holds a lock is known to everybody, and a lock ends with its owner."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

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


# What a file system without locks answers; the system is told to say so for this process.
WITHOUT_LOCKS = """
import ctypes, struct, sys
from pathlib import Path

number = int(sys.argv[2])
FLOCK, REFUSE, ALLOW = 73, 0x00050000 | number, 0x7FFF0000
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, FLOCK), (0x06, 0, 0, REFUSE), (0x06, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(77)

from lra_bench import locks
from lra_bench.errors import UserError

path = Path(sys.argv[1])
with locks.held(
    path, wait=False, owner=str, refusal=UserError, risk="nothing", say=print, check=print
) as held:
    print(held, locks.is_held(path), path.read_text() == "")
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="asks Linux for it"
)
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path: Path, number: int) -> None:
    """Nothing is left there that would look like a lock."""
    path = tmp_path / "lock"
    command = [sys.executable, "-W", "error", "-c", WITHOUT_LOCKS, str(path), str(number)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 77:
        pytest.skip("this machine does not let a process refuse calls")
    assert not done.stderr
    warning, rest = done.stdout.splitlines()
    assert warning.startswith(f"warning: {path} cannot be locked (")
    assert rest == "False None True"
