"""A run whose batches a thread makes ahead, killed now and then, ends as if nobody had."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_runs import train, without_times

from faults.harness import start_server
from lra_bench.distributed import ALONE

AHEAD = 2


def be(folder: Path, num_steps: int) -> None:
    """Train, going on from where the last process was, and write what came of it."""
    weights, state = train(
        ALONE,
        folder,
        options={"dropout": 0.2},
        settings={"num_steps": num_steps, "eval_every": 7},
        ahead=AHEAD,
        every_seconds=0.0,
    )
    torch.save([weights, without_times(state.curve), state.examples_seen], folder / "draft")
    (folder / "draft").replace(folder / "done")


def run(folder: Path, num_steps: int, seconds: float | None = None) -> bool:
    """Return whether a process ended by itself, and was not killed after a time."""
    context = multiprocessing.get_context("forkserver")
    start_server(context)
    process = context.Process(target=be, args=(folder, num_steps))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def killed(folder: Path, num_steps: int, kills: int) -> None:
    """Kill a run so often, begun anew whenever it is done, and compare each with a whole one."""
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    began = time.monotonic()
    assert run(folder / "whole", num_steps)
    longest = time.monotonic() - began
    whole: Any = torch.load(folder / "whole/done")
    rng = random.Random(0)
    while kills:
        for path in (folder / "killed").iterdir():
            path.unlink()
        while not run(
            folder / "killed", num_steps, rng.uniform(0.2, 0.7) * longest if kills else None
        ):
            kills -= 1
        weights, curve, seen = torch.load(folder / "killed/done")
        assert all(torch.equal(weights[name], whole[0][name]) for name in whole[0])
        assert (curve, seen) == (whole[1], whole[2])


def test_killed_with_batches_made_ahead(tmp_path: Path) -> None:
    killed(tmp_path, num_steps=30, kills=2)


@pytest.mark.slow
def test_killed_fifty_times_with_batches_made_ahead(tmp_path: Path) -> None:
    killed(tmp_path, num_steps=200, kills=50)
