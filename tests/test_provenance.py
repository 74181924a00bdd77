"""The commit of the code, whether it was changed, and versions."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lra_bench import provenance


def test_versions() -> None:
    versions = provenance.versions()
    assert versions["python"] == platform.python_version()
    assert set(versions) <= {"python", *provenance.PACKAGES}
    assert versions["torch"]


def git(folder: Path, *words: str) -> None:
    names = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)


STATE = "from lra_bench.provenance import git_state; print(*git_state())"


def state_in(folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", STATE], cwd=folder, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_whether_the_code_was_changed(tmp_path: Path) -> None:
    package = Path(provenance.__file__).parent
    (tmp_path / "lra_bench").mkdir()
    for name in ("__init__.py", "errors.py", "hardware.py", "provenance.py"):
        shutil.copy(package / name, tmp_path / "lra_bench" / name)
    assert state_in(tmp_path) == ["None", "None"]
    git(tmp_path, "init", "-q")
    # A package that merely lies inside somebody's repository has no history there.
    assert state_in(tmp_path) == ["None", "None"]
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "add", "lra_bench/*.py", ".gitignore")
    git(tmp_path, "commit", "-qm", "x")
    (tmp_path / "elsewhere.txt").write_text("not the code")
    commit, dirty = state_in(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
    assert dirty == "False"
    with (tmp_path / "lra_bench/errors.py").open("a") as file:
        file.write("# changed\n")
    assert state_in(tmp_path) == [commit, "True"]
