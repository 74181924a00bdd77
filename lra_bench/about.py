"""What a file in ``conf/`` says about itself, in the comment that it begins with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lra_bench import paths

# What a model may state about itself, in the order in which it is shown. ``cost``: what mixing
# costs in the length L, at the options of the file; ``length``: bound if there are weights or
# draws for every position or block of the longest sequence, else any; ``causal``: whether a
# position can be made to see the past alone; ``topologies``: what `objective=sar` can compare.
FACTS = ("family", "year", "paper", "cost", "length", "causal", "topologies", "limits")
_FACT = re.compile(f"(?P<name>{'|'.join(FACTS)}): (?P<text>.*)")


def file_of(group: str, name: str, config_dirs: Sequence[Path]) -> Path:
    """Return the file of an option; of several of that name, the one of the last folder."""
    folders = (paths.conf_dir(), *config_dirs)
    return next(
        path for folder in reversed(folders) if (path := folder / group / f"{name}.yaml").exists()
    )


def first_sentence(path: Path) -> str:
    """Return the first sentence that a configuration file says about itself."""
    text = " ".join(line for line in _comment(path) if not _FACT.fullmatch(line))
    first = text.split(". ")[0].strip()
    return first if not first or first[-1] in ".?!" else f"{first}."


def facts_of(path: Path) -> dict[str, str]:
    """Return what a configuration file states about itself, each in a line ``# name: text``.

    Only names of `FACTS` are facts; other lines are text.
    """
    found = (_FACT.fullmatch(line) for line in _comment(path))
    return {fact["name"]: fact["text"].strip() for fact in found if fact}


def _comment(path: Path) -> list[str]:
    """Return the lines of the comment that a file begins with."""
    comment = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comment.append(line.lstrip("# "))
    return comment
