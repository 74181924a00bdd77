"""Doing runs while something goes wrong, at the front door: words in, exit code and files out.

`Bench` starts the command line in processes that are forked from one that has imported everything,
so that a run begins within a tenth of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lra_bench import record as records
from lra_bench.record import RunRecord


@dataclass(frozen=True)
class Fault:
    """What befalls a process.

    Args:
        below: The folder whose files it is about; the word is part of their path.
        dies_at: It is killed just before it touches files there for this many times.
        dies_after_bytes: It is killed when a file grows beyond.
        refused_after_bytes: The system refuses to let a file grow beyond.
    """

    below: str = "checkpoints"
    dies_at: int | None = None
    dies_after_bytes: int | None = None
    refused_after_bytes: int | None = None


NOTHING = Fault()
# What Python tells of before it touches a file.
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.scandir")


def enter(words: Sequence[str], fault: Fault, log: Path, environ: Mapping[str, str]) -> None:
    """Be the process: befall it, do what the words say, and end with the exit code."""
    os.environ.update(environ)
    # Whoever interrupts the tests is not to interrupt this one.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    _befall(fault)
    from lra_bench.cli import main

    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _befall(fault: Fault) -> None:
    import resource

    limit = fault.dies_after_bytes or fault.refused_after_bytes
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    if fault.dies_after_bytes is not None:
        # Python lives on and gets an error, unless it is told otherwise.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if fault.dies_at is not None:
        seen = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event not in _EVENTS or f"/{fault.below}" not in str(arguments[0]):
                return
            seen += 1
            if seen == fault.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)


def start_server(context: ForkServerContext) -> None:
    """Start the process that others are forked from, unless it runs already."""
    context.set_forkserver_preload(["faults.preloaded"])
    before = os.environ.get("PYTHONPATH")
    # It is not told where this process imports from.
    os.environ["PYTHONPATH"] = import_path()
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def import_path() -> str:
    """Return where this process imports from, as other processes are told."""
    return os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])


class Bench:
    """One results folder, and the processes that write to it.

    Args:
        folder: Where the results folder is made.
        words: What every process is asked for, ``results_dir`` left out.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.results = folder / "results"
        self.words = [*words, f"results_dir={self.results}"]
        self.log = folder / "log"
        self.context = multiprocessing.get_context("forkserver")
        start_server(self.context)

    def start(
        self, *words: str, fault: Fault = NOTHING, environ: Mapping[str, str] = MappingProxyType({})
    ) -> ForkServerProcess:
        """Start a process; more words may follow those of all."""
        asked = [*self.words, *words]
        process = self.context.Process(target=enter, args=(asked, fault, self.log, dict(environ)))
        process.start()
        return process

    def run(self, *words: str, fault: Fault = NOTHING) -> int:
        """Return the exit code of a process; minus the signal, where one has killed it."""
        process = self.start(*words, fault=fault)
        process.join(120)
        assert process.exitcode is not None, self.said()
        return process.exitcode

    def said(self) -> str:
        """Return everything that the processes have said, and forget it."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return text

    def records(self) -> list[RunRecord]:
        """Return the records; each must be whole."""
        return [records.read(path) for path in sorted((self.results / "runs").rglob("*.json"))]

    def record(self) -> RunRecord:
        """Return the one record."""
        (record,) = self.records()
        return record

    def leftovers(self) -> list[str]:
        """Return the files that belong to nothing that is done or under way."""
        files = (path for path in self.results.rglob("*") if path.is_file())
        kept = ("runs/", "sweeps/")
        names = [path.relative_to(self.results).as_posix() for path in files]
        return [
            name
            for name in names
            if name.endswith(".tmp") or not (name.startswith(kept) or name.endswith(".lock"))
        ]


def numbers(record: RunRecord) -> dict[str, Any]:
    """Return every number of a record that is no time and no memory, to be compared to the bit."""
    return {
        "run_id": record.run_id,
        "status": record.status,
        "test": record.test,
        "validation": record.validation,
        "metrics": record.metrics,
        "best_step": record.best_step,
        "num_steps": record.num_steps,
        "majority_baseline": record.majority_baseline,
        "curve": [
            {name: value for name, value in row.items() if name != "train_seconds"}
            for row in record.curve
        ],
    }
