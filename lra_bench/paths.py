"""Where things lie."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def conf_dir() -> Path:
    """Return the folder of the configuration: in the package if installed, else beside it."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def default_data_dir() -> str:
    """Return where raw files lie or are downloaded to unless told otherwise."""
    return os.environ.get("LRA_BENCH_DATA") or str(Path(default_cache_dir()) / "raw")


def default_cache_dir() -> str:
    """Return where prepared data lie unless told otherwise."""
    return os.environ.get("LRA_BENCH_CACHE") or platformdirs.user_cache_dir(
        "lra_bench", appauthor=False
    )
