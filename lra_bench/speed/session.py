"""Measuring a cell: two processes that take turns, one of the model and one of the baseline."""

from __future__ import annotations

import math
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lra_bench import processes
from lra_bench.speed.record import MODES, Mode, Status, Timing
from lra_bench.speed.worker import Failure, Hello, Order, Peak, Ready, Round, Steps, begin

# How long an answer is waited for before somebody looks whether to stop [seconds].
_PAUSE_SECONDS = 0.2
_MOST_STEPS_A_ROUND = 10_000
# Processes are forked from one that has imported what takes seconds, and has computed nothing: no
# threads, no memory of a model, no GPU.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["lra_bench.speed.worker", "lra_bench.runner", "torch._dynamo"])
# Importing takes seconds, on a machine that is not idle many [seconds].
_START_SECONDS = 300.0


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        num_rounds: Turns of each model.
        round_seconds: A turn has as many steps as fit into this, and at least one.
        warmup_steps: Steps of each mode before the first turn, at least one.
        limit_seconds: Time that a model may take for a cell, from being built on.
        memory_limit_bytes: Memory that its process may get; None for no limit.
    """

    num_rounds: int
    round_seconds: float
    warmup_steps: int
    limit_seconds: float
    memory_limit_bytes: int | None


class NoResult(Exception):
    """A model ran out of time or memory, or failed.

    Args:
        status: Which of them.
        reason: One line.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Process:
    """A process that steps one model; to be closed.

    Args:
        order: What it builds.
        effort: Its limits.
        check: Called while waiting; may raise, to stop.
    """

    def __init__(self, order: Order, effort: Effort, check: Callable[[], None]) -> None:
        self.check, self.seconds_left = check, effort.limit_seconds
        self.effort, self.order = effort, order
        self.connection, theirs = multiprocessing.Pipe()
        # Closed with the process.
        self.said = tempfile.NamedTemporaryFile()  # noqa: SIM115
        self.process = _FORKS.Process(target=begin, args=(theirs, self.said.name), daemon=True)
        processes.start(self.process)
        theirs.close()

    def build(self) -> Ready:
        """Build the model.

        Raises:
            NoResult: It cannot be built, or not in time.
        """
        hello = self._answer(_START_SECONDS, "its process did not start in time", "failed")
        assert isinstance(hello, Hello)
        ready: Ready = self._ask(self.order)
        return ready

    def round(self, mode: Mode, number: int) -> Round:
        """Make so many steps.

        Raises:
            NoResult: They fail, or take too long.
        """
        done: Round = self._ask(Steps(mode, number))
        return done

    def peak(self) -> int | None:
        """Return the highest memory use since the last time [bytes], None if it is not known.

        Raises:
            NoResult: The process has ended.
        """
        peak: int | None = self._ask(Peak())
        return peak

    def close(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()
        self.said.close()

    def _ask(self, command: Any) -> Any:
        began = time.monotonic()
        try:
            self.connection.send(command)
        except OSError:
            self.check()
            raise self._ended() from None
        late = f"more than the {self.effort.limit_seconds:g} s allowed"
        answer = self._answer(self.seconds_left, late, "out_of_time")
        self.seconds_left -= time.monotonic() - began
        if isinstance(answer, Failure):
            raise NoResult(answer.trouble, answer.reason)
        return answer

    def _answer(self, seconds: float, late: str, status: Status) -> Any:
        """Return what the process sends.

        Raises:
            NoResult: It has ended, or sends nothing in time.
        """
        began = time.monotonic()
        # Also where answers come so fast that nobody waits.
        self.check()
        try:
            while not self.connection.poll(_PAUSE_SECONDS):
                self.check()
                if time.monotonic() - began > seconds:
                    raise NoResult(status, late)
            return self.connection.recv()
        except (EOFError, OSError):
            # A signal to all of us may have ended it; then that is the reason.
            self.check()
            raise self._ended() from None

    def _ended(self) -> NoResult:
        self.process.join()
        code = self.process.exitcode
        text = Path(self.said.name).read_text(encoding="utf-8", errors="replace")
        lines = text.strip().splitlines()
        last = " ".join(lines[-1].split())[:300] if lines else ""
        # Linux ends whoever needs too much, without asking.
        if code == -signal.SIGKILL or "bad_alloc" in last:
            return NoResult(
                "out_of_memory", f"the system ended the process for want of memory {last}".strip()
            )
        return NoResult("failed", f"its process ended with code {code}: {last or 'no word'}")


class _Rounds(NamedTuple):
    """A round of each mode."""

    train: Round
    inference: Round


class Subject:
    """A model in its process, warmed up.

    Args:
        process: Ended by `close`, also where this raises.

    Raises:
        NoResult: It does not get so far.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.steps: dict[Mode, int] = {}
        self.peaks: dict[Mode, int | None] = {}
        effort = process.effort
        try:
            self.ready = process.build()
            # Inference first: what it needs is not hidden behind what training keeps.
            for mode in ("inference", "train"):
                if effort.warmup_steps > 1:
                    process.round(mode, effort.warmup_steps - 1)
                seconds = process.round(mode, 1).seconds
                number = math.ceil(effort.round_seconds / max(seconds, 1e-9))
                self.steps[mode] = min(max(number, 1), _MOST_STEPS_A_ROUND)
                self.peaks[mode] = process.peak()
        except BaseException:
            process.close()
            raise

    def rounds(self) -> _Rounds:
        """Make a round of each mode.

        Raises:
            NoResult: One fails, or takes too long.
        """
        return _Rounds(*(self.process.round(mode, self.steps[mode]) for mode in MODES))

    def timing(self, mode: Mode, rounds: Sequence[_Rounds]) -> Timing:
        """Return what rounds took."""
        number, of = self.steps[mode], [getattr(one, mode) for one in rounds]
        joules = [one.joules for one in of]
        return Timing(
            seconds_per_step=[one.seconds / number for one in of],
            cpu_seconds_per_step=[one.cpu_seconds / number for one in of],
            steps_per_round=number,
            joules_per_step=None if None in joules else [one / number for one in joules],
            peak_memory_bytes=self.peaks[mode],
        )


@dataclass
class Measured:
    """What came out of a cell.

    Args:
        train: Of the model.
        inference: Likewise.
        baseline_train: Of the baseline; None where it gave up.
        baseline_inference: Likewise.
        ready: What was built.
        other_cores: Cores that others kept busy, None where the system does not tell.
    """

    train: Timing
    inference: Timing
    baseline_train: Timing | None
    baseline_inference: Timing | None
    ready: Ready
    other_cores: float | None


@dataclass
class Companion:
    """The baseline at one length, which takes turns with one model after the other.

    Its process is started when it is first needed, and once it gives up it is not tried again:
    the models that follow have no ratio.

    Args:
        order: What it builds.
        effort: How much is measured; each model gives it time anew.
        check: Called while waiting; may raise, to stop.
    """

    order: Order
    effort: Effort
    check: Callable[[], None]
    subject: Subject | None = field(default=None, init=False)
    gave_up: str = field(default="", init=False)

    def join(self) -> Subject | None:
        """Return the baseline, ready for its turn; None if it has given up."""
        if self.gave_up:
            return None
        try:
            if self.subject is None:
                self.subject = Subject(Process(self.order, self.effort, self.check))
        except NoResult as error:
            self.gave_up = error.reason
            return None
        self.subject.process.seconds_left = self.effort.limit_seconds
        return self.subject

    def give_up(self, reason: str) -> None:
        """End it for good."""
        self.gave_up = reason
        self.close()

    def close(self) -> None:
        """End its process."""
        if self.subject is not None:
            self.subject.process.close()
            self.subject = None


def measure(order: Order, companion: Companion) -> Measured:
    """Measure a model in turn with the baseline.

    Args:
        order: The model.
        companion: The baseline.

    Raises:
        NoResult: The model has none.
    """
    effort = companion.effort
    baseline = companion.join()
    own = Subject(Process(order, effort, companion.check))
    try:
        taken: list[_Rounds] = []
        of_baseline: list[_Rounds] = []
        for number in range(effort.num_rounds):
            # Who begins changes, so that a drift of the machine favors nobody.
            if baseline is not None and number % 2:
                baseline = _baseline_turn(companion, baseline, of_baseline)
            taken.append(own.rounds())
            if baseline is not None and not number % 2:
                baseline = _baseline_turn(companion, baseline, of_baseline)
    finally:
        own.process.close()
    both = taken + of_baseline
    return Measured(
        own.timing("train", taken),
        own.timing("inference", taken),
        None if baseline is None else baseline.timing("train", of_baseline),
        None if baseline is None else baseline.timing("inference", of_baseline),
        own.ready,
        _other_cores([one for rounds in both for one in rounds]),
    )


def _baseline_turn(companion: Companion, baseline: Subject, taken: list[_Rounds]) -> Subject | None:
    """Let the baseline take its turn; None once it gives up."""
    try:
        taken.append(baseline.rounds())
    except NoResult as error:
        companion.give_up(error.reason)
        return None
    return baseline


def _other_cores(rounds: Sequence[Round]) -> float | None:
    """Return how many cores others kept busy during rounds."""
    others = [one.other_cpu_seconds for one in rounds]
    known = [seconds for seconds in others if seconds is not None]
    if len(known) < len(others):
        return None
    return sum(known) / sum(one.seconds for one in rounds)
