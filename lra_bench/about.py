"""What a file in ``conf/`` says about itself, in the comment that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lra_bench import paths


def file_of(group: str, name: str, config_dirs: Sequence[Path]) -> Path:
    """Return the file of an option; of several of that name, the one of the last folder."""
    folders = (paths.conf_dir(), *config_dirs)
    return next(
        path for folder in reversed(folders) if (path := folder / group / f"{name}.yaml").exists()
    )


def first_sentence(path: Path) -> str:
    """Return the first sentence that a configuration file says about itself."""
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comment.append(line.lstrip("# "))
    text = " ".join(comment)
    first = text.split(". ")[0]
    return first if not first or first[-1] in ".?!" else f"{first}."
