"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# Before torch: the package settles how threads wait.
from lra_bench.compose import Request, compose  # isort: split

import made_up_tasks

# The tests must not find what the person who runs them has prepared.
for name in ("LRA_BENCH_CACHE", "WANDB_MODE", "WANDB_API_KEY"):
    os.environ.pop(name, None)

# A shell without job control starts what runs in the background deaf to Ctrl-C, and processes hand
# that on: the tests of Ctrl-C need it heard.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Compose = Callable[..., Request]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run side by side, one on each core."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one cache for all tests that only read from it."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def smoke(cache_dir: Path, tmp_path: Path) -> Compose:
    """Return a function that composes a run of seconds on ListOps."""

    def composing(*words: str, model: str = "transformer") -> Request:
        return compose(
            [
                "task=listops",
                f"model={model}",
                "setting=smoke",
                f"cache_dir={cache_dir}",
                f"results_dir={tmp_path / 'results'}",
                "quiet=true",
                *words,
            ]
        )

    return composing


@pytest.fixture(scope="session")
def made_up_conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with configurations of tasks that need no data; see `made_up_tasks`."""
    return made_up_tasks.write_configurations(tmp_path_factory.mktemp("made up") / "conf")


@pytest.fixture
def made_up(made_up_conf: Path, tmp_path: Path) -> Compose:
    """Return a function that composes a run of seconds on a task that needs no data."""

    def composing(*words: str, task: str = "first", model: str = "local") -> Request:
        return compose(
            [
                f"task={task}",
                f"model={model}",
                "setting=smoke",
                f"results_dir={tmp_path / 'results'}",
                "quiet=true",
                *words,
            ],
            config_dirs=[made_up_conf],
        )

    return composing
