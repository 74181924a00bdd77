"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lra_bench.config import Composed, compose
from lra_bench.paths import conf_dir

# The tests must not find what the person who runs them has prepared.
for name in ("LRA_BENCH_CACHE", "WANDB_MODE", "WANDB_API_KEY"):
    os.environ.pop(name, None)
torch.set_num_threads(1)

Compose = Callable[..., Composed]


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one cache for all tests that only read from it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def smoke(cache_dir: Path, tmp_path: Path) -> Compose:
    """Return a function that composes a run of seconds on ListOps."""

    def composing(*words: str, model: str = "transformer") -> Composed:
        return compose(
            [
                "task=listops",
                f"model={model}",
                "setting=smoke",
                f"cache_dir={cache_dir}",
                f"results_dir={tmp_path / 'results'}",
                "quiet=true",
                *words,
            ],
            conf_dir=conf_dir(),
        )

    return composing
