"""Where a number comes from: the commit of the code, and versions."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("lra_bench", "torch", "numpy", "tensorflow-datasets", "hydra-core", "wandb", "pandas")


def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the code and whether it was changed since; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        # A package that merely lies inside somebody's repository has no history there.
        if _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
            return None, None
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--", ":/lra_bench", ":/tasks", ":/conf")
    except FileNotFoundError:
        return None, None
    return commit, None if changed is None else bool(changed)


def _git(folder: Path, *arguments: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
