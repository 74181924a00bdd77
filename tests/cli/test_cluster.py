"""A sweep over a cluster, whose jobs are made up: what ends without a result is handed in again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lra_bench import locks
from lra_bench.cli.cluster import Watch
from lra_bench.compose import Request, compose
from lra_bench.runs import RunFolder
from lra_bench.slurm import HELD, Refused, has_ended
from lra_bench.sweep_folder import Outcome, Planned, SweepFolder, planned


@dataclass
class MadeUp:
    """A cluster that does with each job, when it is looked at, what the test says.

    Args:
        folder: Where jobs leave what has become of their runs.
        fate: Given the run and how often it was handed in; returns the state of the job.
    """

    folder: SweepFolder
    fate: Callable[[str, int], str]
    runs: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    refuses: int = 0

    def submit(self, job: object, runs: Sequence[Sequence[str]]) -> list[str]:
        if self.refuses:
            self.refuses -= 1
            raise Refused("Slurm does not take the jobs: the queue is full")
        made = []
        for run in runs:
            made.append(str(len(self.runs)))
            self.runs[made[-1]] = run[-1]
        return made

    def handed_in(self, run: str) -> int:
        return list(self.runs.values()).count(run)

    def log(self, job: str) -> Path:
        return Path(f"{job}.err")

    def states(self) -> dict[str, str] | None:
        for job, run in self.runs.items():
            if job not in self.ended:
                state = self.fate(run, self.handed_in(run))
                self.told[job] = state
                self.ended |= {job} if has_ended(state) else set()
        return dict(self.told)

    def stop(self, jobs: Sequence[str]) -> None:
        self.stopped += jobs


class Sweep:
    """Two runs, seeds 0 and 1, and how their jobs fare."""

    def __init__(self, folder: SweepFolder, requests: dict[str, Request]) -> None:
        self.folder, self.requests = folder, requests
        self.queue = MadeUp(folder, self.fate)
        self.said: list[str] = []
        self.records: set[str] = set()
        self.looks = 0
        # By seed: what each job of it does, one after the other.
        self.fates: dict[str, list[Callable[[str], str]]] = {}

    def key(self, run: str) -> str:
        (key,) = [key for key, one in self.requests.items() if one.words[-1] == run]
        return key

    def fate(self, run: str, attempt: int) -> str:
        fates = self.fates.get(run, [])
        what = fates[attempt - 1] if len(fates) >= attempt else self.done
        return what(self.key(run))

    def done(self, key: str) -> str:
        self.folder.note(key, Outcome("done"))
        return "COMPLETED"

    def ends(self, state: str, outcome: Outcome | None = None) -> Callable[[str], str]:
        def fate(key: str) -> str:
            if outcome is not None:
                self.folder.note(key, outcome)
            return state

        return fate

    def watch(self, *, may_wait: bool = True, pause: Callable[[], None] = lambda: None) -> None:
        def passing() -> None:
            self.looks += 1
            assert self.looks < 200, "it does not end"
            pause()

        Watch(
            self.queue,
            self.folder,
            self.requests,
            lambda words: 0.0,
            is_done=lambda request: request.request_id in self.records,
            may_wait=may_wait,
            pause=passing,
        ).until_all_have_ended()

    def states(self) -> list[str]:
        return [self.folder.outcome(key).state for key in self.requests]


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    words = ("task=listops", "model=local", "setting=smoke", f"results_dir={tmp_path}")
    made = [compose([*words, f"seed={seed}"]) for seed in (0, 1)]
    requests = {request.request_id: request for request in made}
    with planned(tmp_path, [Planned(key, "", "") for key in requests]) as folder:
        yield Sweep(folder, requests)


def test_what_ended_without_a_result_is_handed_in_again(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.fates = {
        "seed=0": [
            sweep.ends("COMPLETED", Outcome("interrupted")),
            sweep.ends("NODE_FAIL", Outcome("running")),
        ],
        "seed=1": [sweep.ends("FAILED", Outcome("failed", "no data"))],
    }
    sweep.watch()
    assert sweep.states() == ["done", "failed"]
    assert list(sweep.queue.runs.values()) == ["seed=0", "seed=1", "seed=0", "seed=0"]
    said = capsys.readouterr().err
    assert "handed in 2 jobs: 0 to 1\n" in said
    assert "its job 0 ended (completed) after it had saved; handing it in again\n" in said
    assert "its job 2 ended (node_fail); handing it in again\n" in said


def test_what_is_done_is_not_handed_in(sweep: Sweep) -> None:
    first, second = sweep.requests
    sweep.folder.note(first, Outcome("reused"))
    sweep.watch()
    assert list(sweep.queue.runs.values()) == ["seed=1"]
    assert sweep.states() == ["reused", "done"]
    assert sweep.folder.outcome(second) == Outcome("done")


def test_a_cancelled_job_is_left_and_one_that_never_begins_given_up(sweep: Sweep) -> None:
    never = sweep.ends("FAILED")
    sweep.fates = {
        "seed=0": [sweep.ends("CANCELLED", Outcome("running"))],
        "seed=1": [never, never, never],
    }
    sweep.watch()
    assert sweep.states() == ["interrupted", "failed"]
    first, second = (sweep.folder.outcome(key).reason for key in sweep.requests)
    assert first == "its job 0 was cancelled"
    assert second == "3 jobs ended before they began with it; see 3.err"


def test_slurm_puts_a_job_back_and_does_not_answer_for_a_while(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["PENDING", "RUNNING", None, "RUNNING", "PENDING", HELD, HELD, "RUNNING"])

    def told() -> dict[str, str] | None:
        state = next(states, "COMPLETED")
        if state == "COMPLETED":
            for key in sweep.requests:
                sweep.done(key)
        return None if state is None else dict.fromkeys(sweep.queue.runs, state)

    sweep.queue.states = told  # type: ignore[method-assign]
    sweep.watch()
    assert sweep.states() == ["done", "done"]
    said = capsys.readouterr().err
    assert said.count("Slurm has put its job 0 back into the queue\n") == 1
    assert said.count("Slurm holds its job 0 back; scontrol release 0 lets it start") == 1
    assert list(sweep.queue.runs) == ["0", "1"]


def test_a_run_that_another_process_is_at_is_waited_for(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    key = sweep.key("seed=0")
    request = sweep.requests[key]
    folder = RunFolder(Path(request.config.results_dir), request.names, key)
    first = locks.take(folder.lock_path)
    assert first is not None

    def pause() -> None:
        if sweep.looks == 5:
            sweep.records.add(key)
            first.release()

    sweep.watch(pause=pause)
    assert list(sweep.queue.runs.values()) == ["seed=1"]
    assert sweep.states() == ["reused", "done"]
    assert capsys.readouterr().err.count("waiting for it (wait=false stops instead)\n") == 1
    # Who does not want to wait is told.
    lock = locks.take(folder.lock_path)
    assert lock is not None
    sweep.folder.note(key, Outcome())
    sweep.watch(may_wait=False)
    lock.release()
    assert sweep.states() == ["deferred", "done"]


def test_two_jobs_at_one_run(sweep: Sweep) -> None:
    """One of another sweep was there first; no machine is held to wait for it."""
    sweep.fates = {"seed=0": [sweep.ends("COMPLETED", Outcome("deferred", "elsewhere"))]}
    sweep.watch()
    assert list(sweep.queue.runs.values()) == ["seed=0", "seed=1", "seed=0"]
    assert sweep.states() == ["done", "done"]


def test_a_signal_stops_all_jobs(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.fates = {"seed=0": [lambda _: "RUNNING" if sweep.looks < 6 else "COMPLETED"]}

    def pause() -> None:
        if sweep.looks == 1:
            sweep.folder.stop(15)
        if sweep.looks == 6:
            sweep.folder.note(sweep.key("seed=0"), Outcome("interrupted"))

    sweep.watch(pause=pause)
    assert sweep.queue.stopped == ["0"]
    assert sweep.states() == ["interrupted", "done"]
    assert len(sweep.queue.runs) == 2
    assert "told 1 job to save and to end\n" in capsys.readouterr().err


def test_a_refusal_at_the_start_is_a_mistake_and_later_is_waited_for(sweep: Sweep) -> None:
    sweep.queue.refuses = 1
    with pytest.raises(Refused, match="the queue is full"):
        sweep.watch()
    assert sweep.states() == ["waiting", "waiting"]
    sweep.fates = {"seed=0": [sweep.ends("TIMEOUT", Outcome("interrupted"))]}

    def pause() -> None:
        if sweep.looks == 1:
            sweep.queue.refuses = 2

    sweep.watch(pause=pause)
    assert sweep.queue.refuses == 0
    assert sweep.states() == ["done", "done"]
