"""How the processes of one run come together, what they tell each other besides numbers, and leave.

torchrun or Slurm has started them all, or the first one starts the others. They meet at a store of
PyTorch's, where the first says how far things are, and whoever fails says why:

prepared    the data are there: the others may read them
ready/R     process R could start now, and what it would do
go          all are ready: they connect
failed      what ended a process, as JSON
outcome     the record, as JSON
over        the first has written everything
"""

# PyTorch is imported inside the functions: whoever is alone needs nothing of this.
from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from lra_bench import processes
from lra_bench.errors import UserError
from lra_bench.interrupt import Interrupt, Interrupted
from lra_bench.places import Place

if TYPE_CHECKING:
    import torch

    from lra_bench.distributed import World

# Time between two looks at the store [seconds].
_PAUSE_SECONDS = 0.05
# Importing takes seconds, on a machine that is not idle many [seconds].
_START_SECONDS = 600.0
# The first may wait for the same run elsewhere, and prepare data for hours [seconds].
_PREPARE_SECONDS = 7 * 24 * 3600.0
# Time for which one process may wait for another in a step, an evaluation or a save.
_TOGETHER = timedelta(minutes=30)
# Time that processes are given to leave, and one that has failed to say why [seconds].
_LEAVE_SECONDS, _WHY_SECONDS = 10.0, 2.0
# What the processes that are started need.
_PRELOADED = ["lra_bench.runner", "lra_bench.trainer", "torch._dynamo", "torch.distributed"]
# By address and port: the same processes may do several runs.
_stores: dict[tuple[str, int], Any] = {}


class RankLost(ConnectionError):
    """Another process of the run has failed or is gone."""


class Team(AbstractContextManager["Team"]):
    """What the processes of a run tell each other; does nothing where there is one.

    However a process leaves, the others learn it, and leave as well.

    Args:
        here: Where this process stands.
        start: Is another process of the run, given its place and nothing else; of the top level of
            a module or partial. None where all have been started.
    """

    def __init__(self, here: Place, start: Callable[[Place], object] | None = None) -> None:
        self.here, self.start = here, start
        self.store: Any = None
        self.others: list[Any] = []
        self.has_group = self.has_lost = self.is_closing = self.on_gpu = False
        self._looked_at = float("-inf")

    def __enter__(self) -> Team:
        """Meet those who have been started."""
        if self.here.port:
            self._connect(self.here)
        return self

    def _connect(self, here: Place) -> None:
        import torch.distributed as dist

        store = _stores.get((here.address, here.port))
        try:
            store = store or dist.TCPStore(  # type: ignore[attr-defined]
                here.address,
                here.port,
                is_master=here.rank == 0 and not here.is_hosted,
                timeout=timedelta(seconds=_START_SECONDS),
                wait_for_workers=False,
            )
        except RuntimeError as error:
            raise UserError(
                f"process {here.rank} of {here.size} cannot meet the first at {here.address}:"
                f"{here.port}: {_first_line(error)}; MASTER_ADDR and MASTER_PORT name another place"
            ) from error
        if here.port:
            _stores[here.address, here.port] = store
        self.here = replace(here, port=store.port)
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = dist.PrefixStore(  # type: ignore[attr-defined]
            f"lra_bench/{again}/{here.number}", store
        )

    # What the first does.

    def begin(self, what: str, device: torch.device, interrupt: Interrupt) -> World:
        """Let the others come, and connect with them: the data are prepared.

        Args:
            what: What the others must be about to do, too.
            device: Where this process computes.
            interrupt: Asks to stop.

        Raises:
            UserError: Another process refuses, or would do something else.
            RankLost: One failed.
            Interrupted: A signal came.
        """
        from lra_bench.distributed import ALONE

        if self.here.size == 1:
            return ALONE
        if self.store is None:
            self._connect(replace(self.here, address="127.0.0.1"))
            self._start_others()
        self._set("prepared", "")
        for rank in range(1, self.here.size):
            theirs = self._wait(f"ready/{rank}", _START_SECONDS, interrupt)
            if theirs != what:
                raise UserError(
                    f"process {rank} of {self.here.size} would do something else ({theirs}, and "
                    f"the first {what}); start all with the same words, code and data"
                )
        self._set("go", "")
        return self._group(device)

    def _start_others(self) -> None:
        assert self.start is not None
        # Forked from one that has imported what takes seconds, and has computed nothing.
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(_PRELOADED)
        for rank in range(1, self.here.size):
            place = replace(self.here, rank=rank, local_rank=rank)
            process = forks.Process(
                target=_be_another, args=(self.start, place, list(sys.path)), name=f"rank {rank}"
            )
            processes.start(process)
            self.others.append(process)

    def end(self, outcome: Mapping[str, Any]) -> None:
        """Tell the others what has come of it, plain data."""
        if self.store is not None:
            self._set("outcome", json.dumps(outcome))

    # What the others do.

    def follow(self, interrupt: Interrupt) -> bool:
        """Wait until the data are prepared; return False if there is nothing to do.

        Raises:
            UserError: The first refuses.
            RankLost: It failed.
            Interrupted: A signal came.
        """
        return self._wait_any(("prepared", "outcome"), _PREPARE_SECONDS, interrupt)[0] == "prepared"

    def join(self, what: str, device: torch.device, interrupt: Interrupt) -> World:
        """Say that this process is ready, and connect with the others; see `begin`."""
        self._set(f"ready/{self.here.rank}", what)
        self._wait("go", _START_SECONDS, interrupt)
        return self._group(device)

    def outcome(self, interrupt: Interrupt) -> Any:
        """Return what the first tells at its end."""
        return json.loads(self._wait("outcome", _START_SECONDS, interrupt))

    # What all do.

    def check(self, interrupt: Interrupt) -> None:
        """Raise if a signal has come, or another process has failed; looked for now and then.

        Raises:
            Interrupted: A signal came, here or there.
            UserError: Another process refuses.
            RankLost: Another failed.
        """
        interrupt.check()
        if self.store is not None and time.monotonic() - self._looked_at > 1.0:
            self._looked_at = time.monotonic()
            self._raise_failure()

    def _group(self, device: torch.device) -> World:
        import torch
        import torch.distributed as dist

        from lra_bench.distributed import Group

        self.on_gpu = device.type == "cuda"
        if self.on_gpu:
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "nccl" if self.on_gpu else "gloo",
                store=dist.PrefixStore("group", self.store),  # type: ignore[attr-defined]
                rank=self.here.rank,
                world_size=self.here.size,
                timeout=_TOGETHER,
            )
            self.has_group = True
            world = Group(self.here.rank, self.here.size, device=device, explain=self.why)
        except RuntimeError as error:
            raise self.why(error) from error
        if self.on_gpu and self.others:
            threading.Thread(target=self._watch, daemon=True).start()
        return world

    def _watch(self) -> None:
        """Free this process from waiting on a GPU for one that is gone."""
        while not self.is_closing:
            if connection.wait([process.sentinel for process in self.others], timeout=1.0):
                break
        if not self.is_closing and any(process.exitcode for process in self.others):
            self._abort()

    def _abort(self) -> None:
        """Give up what a GPU waits for."""
        from torch.distributed import distributed_c10d

        # What PyTorch cannot give up any more has ended.
        with suppress(RuntimeError, ValueError):
            distributed_c10d._get_default_group().abort()

    def why(self, error: RuntimeError) -> Exception:
        """Return what another process says of its end, having met an error of PyTorch's."""
        self.has_lost = True
        # Others may be waiting for this process, and not for the one that is gone.
        self._close_group()
        until = time.monotonic() + _WHY_SECONDS
        while time.monotonic() < until:
            try:
                self._raise_failure()
            except (UserError, RankLost) as known:
                return known
            except Interrupted as stopped:
                return RankLost(f"another process was ended by signal {stopped.signal_number}")
            time.sleep(_PAUSE_SECONDS)
        return RankLost(f"another process of this run is gone ({_first_line(error)})")

    def _raise_failure(self) -> None:
        """Raise what another process has said of its end, or what is known of it.

        Raises:
            Interrupted: A signal ended it.
            UserError: It refuses.
            RankLost: Anything else.
        """
        text = self._get("failed")
        if text is not None:
            failure = json.loads(text)
            if failure["signal"]:
                raise Interrupted(failure["signal"])
            if failure["is_mistake"]:
                raise UserError(failure["text"])
            raise RankLost(f"process {failure['rank']} of {self.here.size}: {failure['text']}")
        for rank, process in enumerate(self.others, 1):
            if process.exitcode:
                how = (
                    f"was killed by signal {-process.exitcode}"
                    if process.exitcode < 0
                    else f"ended with code {process.exitcode}"
                )
                raise RankLost(f"process {rank} of {self.here.size} {how}")

    def _wait(self, key: str, seconds: float, interrupt: Interrupt) -> str:
        return self._wait_any((key,), seconds, interrupt)[1]

    def _wait_any(
        self, keys: tuple[str, ...], seconds: float, interrupt: Interrupt
    ) -> tuple[str, str]:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            interrupt.check()
            for key in keys:
                if (text := self._get(key)) is not None:
                    return key, text
            self._raise_failure()
            time.sleep(_PAUSE_SECONDS)
        raise RankLost(
            f"process {self.here.rank} of {self.here.size} has waited {seconds:,.0f} s for the "
            f"others to say {' or '.join(keys)}"
        )

    def _get(self, key: str) -> str | None:
        try:
            if not self.store.check([key]):
                return None
            text: bytes = self.store.get(key)
        except RuntimeError as error:
            raise RankLost("the first process of this run is gone") from error
        return text.decode()

    def _set(self, key: str, text: str) -> None:
        try:
            self.store.set(key, text)
        except RuntimeError as error:
            raise RankLost("the first process of this run is gone") from error

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Leave: say why, if it is before the end; the first leaves last."""
        self.is_closing = True
        if self.store is None:
            return
        with suppress(RankLost):
            if error is not None and self._get("failed") is None:
                self._set("failed", json.dumps(_failure(self.here.rank, error)))
            if self.here.rank:
                # What the first has to write may take longer than what is left to this one.
                if isinstance(error, Interrupted):
                    self._until(lambda: self._get("over") is not None, _START_SECONDS)
                self._close_group()
                self._set(f"left/{self.here.rank}", "")
            else:
                self._close_group()
                self._set("over", "")
                # Whoever is gone for good cannot say that it has left.
                self._until(self._have_left, _WHY_SECONDS if self.has_lost else _LEAVE_SECONDS)
        self._close_group()
        for process in self.others:
            process.join(_LEAVE_SECONDS if self._get_left(process) else 0.0)
            if process.exitcode is None:
                process.kill()
                process.join()
            process.close()
        self.others = []
        self.store = None

    def _have_left(self) -> bool:
        left = range(1, self.here.size)
        if self.others:
            left = [rank for rank in left if self.others[rank - 1].is_alive()]  # type: ignore[assignment]
        return all(self._get(f"left/{rank}") is not None for rank in left)

    def _get_left(self, process: Any) -> bool:
        return self._get(f"left/{self.others.index(process) + 1}") is not None

    def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not is_so() and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)

    def _close_group(self) -> None:
        import torch.distributed as dist

        if self.has_group:
            self.has_group = False
            if self.has_lost and self.on_gpu:
                self._abort()
            # One that is broken may complain.
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _failure(rank: int, error: BaseException) -> dict[str, Any]:
    number = getattr(error, "signal_number", None)
    if number is None and isinstance(error, KeyboardInterrupt):
        number = int(signal.SIGINT)
    text = " ".join(str(error).split())
    is_plain = isinstance(error, (UserError, OSError))
    return {
        "rank": rank,
        "signal": number,
        "is_mistake": isinstance(error, UserError),
        "text": text if is_plain else f"{type(error).__name__}: {text}",
    }


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())[:200]


def _be_another(start: Callable[[Place], object], here: Place, path: list[str]) -> None:
    """Be a process that the first has started, which ends when the first does."""
    processes.end_with_parent()
    processes.hear_interrupts()
    sys.path[:] = path
    code = 1
    try:
        start(here)
        code = 0
    except KeyboardInterrupt:
        # Expected, and said by the first; likewise the next.
        code = 130
    except (UserError, OSError):
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        sys.exit(code)
