"""A sweep: which runs it has, doing them in rounds, and what has become of them.

A job leaves what became of its run in the folder of the sweep, so that it can be done wherever a
launcher likes. Runs that another process is at are left for a second round; after a job that was
killed, what is left is handed out again.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from lra_bench.cli.parsing import EXIT_FAILED, make_importable
from lra_bench.compose import Request, compose
from lra_bench.console import count, duration
from lra_bench.errors import UserError
from lra_bench.interrupt import SIGNALS, Interrupted, sigterm_raises
from lra_bench.places import speaks
from lra_bench.sweep_folder import FINAL, Outcome, OutcomeState, Planned, SweepFolder, planned

# Rounds in a row that bring nothing before a sweep gives up.
_MAX_IDLE_ROUNDS = 3
_IN_WORDS = {
    "waiting": "not begun",
    "running": "interrupted",
    "deferred": "under way elsewhere",
    "interrupted": "interrupted",
}


def sweep(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Do every run that words list, or that a search chooses, and return the exit code.

    Raises:
        UserError: A word is wrong; no run has been started.
        Interrupted: A signal came; what was under way has been saved.
    """
    from lra_bench import experiments
    from lra_bench import sweep as sweeps

    stages = [
        [sweeps.spelt_out(part, config_dirs=config_dirs) for part in stage]
        for stage in experiments.stages(words, config_dirs=config_dirs)
    ]
    for part in (part for stage in stages[1:] for part in stage):
        # What a later run begins from may not be there yet; all else can be refused now.
        alone = [word for word in part if not word.startswith("init_from=")]
        sweeps.expand(alone, config_dirs=config_dirs)
    for parts in stages:
        if code := _stage(parts, config_dirs):
            return code
    return 0


def _stage(parts: Sequence[Sequence[str]], config_dirs: Sequence[Path]) -> int:
    """Do the runs of some sweeps, and return the exit code."""
    from lra_bench import slurm
    from lra_bench import sweep as sweeps

    if any(map(sweeps.chooses_itself, parts)):
        return max(_search(part, config_dirs) for part in parts)
    requests = {
        request.request_id: request
        for part in parts
        for request in sweeps.expand(part, config_dirs=config_dirs)
    }
    _check(list(requests.values()))
    runs = [Planned(key, one.title, one.command()) for key, one in requests.items()]
    print(count(len(runs), "run"), file=sys.stderr)
    began = time.monotonic()
    first = next(iter(requests.values()))
    over_slurm = [part for part in parts if slurm.is_asked_for(part, first.words, config_dirs)]
    with planned(Path(first.config.results_dir), runs) as folder, _stopping(folder):
        _note_finished(requests.values(), folder)
        if over_slurm:
            _over_a_cluster(over_slurm[0], config_dirs, folder, requests)
        else:
            _rounds(parts, config_dirs, folder, runs, may_wait=first.config.wait)
        outcomes = {run: folder.outcome(run.request_id) for run in runs}
        stopped = folder.stopped_by()
    _summarize(outcomes, time.monotonic() - began)
    if stopped is not None:
        raise Interrupted(stopped)
    return 0 if all(one.state in ("done", "reused") for one in outcomes.values()) else EXIT_FAILED


def _check(requests: Sequence[Request]) -> None:
    """Find a class that cannot be had, or an option that it does not take, before a run starts.

    Raises:
        UserError: There is one.
    """
    from lra_bench.build import build_task, check_options

    seen = set()
    for request in requests:
        choice = repr((request.sections["task"], request.sections["model"]))
        if choice not in seen:
            seen.add(choice)
            build_task(request)
            check_options(request.config.model, "model", {"spec"})


@contextmanager
def _stopping(folder: SweepFolder) -> Iterator[None]:
    """Hand signals on to all jobs, wherever they are; a second Ctrl-C ends the sweep as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        folder.stop(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note_finished(requests: Iterable[Request], folder: SweepFolder) -> None:
    """Note the runs that need no job because their records are there."""
    for request in requests:
        if _is_done(request):
            folder.note(request.request_id, Outcome("reused"))


def _is_done(request: Request) -> bool:
    """Return whether a run has a result."""
    from lra_bench.runner import finished

    try:
        record = finished(request)
    except (UserError, OSError):
        # The job will say so.
        return False
    return record is not None and record.status == "completed"


def _over_a_cluster(
    asked: Sequence[str],
    config_dirs: Sequence[Path],
    folder: SweepFolder,
    requests: Mapping[str, Request],
) -> None:
    """Hand out the runs as jobs of a cluster, until nothing is left to do.

    Raises:
        UserError: The cluster, or what was asked of it, is not there.
    """
    from lra_bench import slurm
    from lra_bench.cli.cluster import Watch

    first = next(iter(requests.values()))
    Watch(
        slurm.Queue(asked, first.words, config_dirs),
        folder,
        requests,
        # It must not wait: what waits holds a machine that others could use.
        partial(_job, config_dirs, folder, False, alone=True),
        is_done=_is_done,
        may_wait=first.config.wait,
    ).until_all_have_ended()


def _rounds(
    parts: Sequence[Sequence[str]],
    config_dirs: Sequence[Path],
    folder: SweepFolder,
    runs: Sequence[Planned],
    *,
    may_wait: bool,
) -> None:
    """Hand out the runs, until nothing is left to do or nothing comes of it any more."""
    from lra_bench import sweep as sweeps

    def left() -> set[str]:
        states = {run.request_id: folder.outcome(run.request_id) for run in runs}
        return {key for key, outcome in states.items() if outcome.state not in FINAL}

    idle, wait, todo = 0, False, left()
    while todo and folder.stopped_by() is None and idle < _MAX_IDLE_ROUNDS:
        job = partial(_job, config_dirs, folder, wait and may_wait)
        try:
            for part in parts:
                sweeps.launch(sweeps.for_launcher(part), job, config_dirs=config_dirs)
        except sweeps.WorkerDied:
            if folder.stopped_by() is None:
                print("a job was killed; handing out again what is left", file=sys.stderr)
        wait, before, todo = True, todo, left()
        if not may_wait and {folder.outcome(key).state for key in todo} == {"deferred"}:
            return
        idle = idle + 1 if before == todo else 0


def _job(
    config_dirs: Sequence[Path],
    folder: SweepFolder,
    wait: bool,
    words: Sequence[str],
    *,
    alone: bool = False,
) -> float:
    """Do a run of a sweep, wherever it was launched, and note what has become of it.

    Args:
        config_dirs: Folders that are searched besides ``conf/``.
        folder: Where that is noted.
        wait: Wait for a process that is at the same run.
        words: The run.
        alone: A signal means this job and not the sweep, as where a cluster pre-empts it.
    """
    from lra_bench.cli.reporting import run_and_report
    from lra_bench.runs import UnderWay

    make_importable(config_dirs)
    # Composed again from the words of this run: Hydra's own object lacks the changes.
    request = compose([*words, f"wait={str(wait).lower()}"], config_dirs=config_dirs)
    key = request.request_id
    if not speaks():
        return _accompany(request, folder)
    if not folder.begin(key, _last_from_step(request)):
        return 0.0
    state: OutcomeState = "done"
    reason = ""
    try:
        with sigterm_raises() if alone else nullcontext():
            record, reused = run_and_report(request, stop_file=folder.stop_file)
        if record.status != "completed":
            state, reason = (
                "diverged" if record.status == "diverged" else "failed",
                record.error or "",
            )
        elif reused:
            state = "reused"
    except UnderWay as error:
        state, reason = "deferred", str(error)
    except Interrupted as error:
        if not alone:
            folder.stop(error.signal_number)
        state = "interrupted"
    except (UserError, OSError) as error:
        print(f"lra-bench: {error}", file=sys.stderr)
        state, reason = "failed", str(error)
    except Exception as error:
        # A defect of one model must not cost the others their runs; the traceback tells of it.
        import traceback

        traceback.print_exc()
        state, reason = "failed", f"{type(error).__name__}: {error}"
    folder.end(key, state, reason)
    return 0.0


def _accompany(request: Request, folder: SweepFolder) -> float:
    """Do what is another process's of a run than the first's, which notes what becomes of it."""
    from lra_bench.runner import run_or_reuse

    if folder.is_wanted(request.request_id):
        # The first has been told the same, or why.
        with sigterm_raises(), suppress(UserError, OSError, Interrupted):
            run_or_reuse(request)
    return 0.0


def _last_from_step(request: Request) -> int:
    """Return the step that the last process of a run that has not ended went on from."""
    from lra_bench.runs import LiveStatus, RunFolder

    folder = RunFolder(Path(request.config.results_dir), request.names, request.request_id)
    live = LiveStatus.read(folder.live_path)
    return live.from_step if live is not None else 0


def _summarize(outcomes: dict[Planned, Outcome], seconds: float) -> None:
    """Say how many runs ended how, and why those that did not end well."""
    by_word: dict[str, list[Planned]] = {}
    for run, outcome in outcomes.items():
        by_word.setdefault(_IN_WORDS.get(outcome.state, outcome.state), []).append(run)
    told = ", ".join(f"{len(runs):,} {word}" for word, runs in by_word.items())
    print(f"{told}, in {duration(seconds)}", file=sys.stderr)
    for word, runs in by_word.items():
        for run in runs:
            reason = outcomes[run].reason
            if word not in ("done", "reused"):
                print(f"  {word}: {run.title}{f': {reason}' if reason else ''}", file=sys.stderr)
    words = set(by_word) - {"done", "reused"}
    if words - {"diverged"}:
        print("the same line does what is left, and tries again what failed", file=sys.stderr)
    elif words:
        print("a run that diverged does so again; force=true repeats it", file=sys.stderr)


def _search(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Let a sweeper choose runs by their validation, and write down the best as a setting."""
    from lra_bench import search
    from lra_bench import sweep as sweeps

    study = search.begin(words, config_dirs=config_dirs)
    stopped, lost = None, False
    with study.lock(), planned(study.results_dir, []) as folder, _stopping(folder):
        todo = study.words_for_what_is_left()
        if todo:
            job = partial(_trial, config_dirs, folder)
            try:
                sweeps.launch(sweeps.for_launcher(todo), job, config_dirs=config_dirs)
            except sweeps.RunFailed:
                # A trial that fails is one point less.
                pass
            except sweeps.WorkerDied:
                lost = True
        stopped = folder.stopped_by()
    if stopped is not None:
        raise Interrupted(stopped)
    if lost:
        print("a job was killed; the same line goes on with the search", file=sys.stderr)
        return EXIT_FAILED
    told, found = study.conclude()
    print(told, file=sys.stderr)
    return 0 if found else EXIT_FAILED


def _trial(config_dirs: Sequence[Path], folder: SweepFolder, words: Sequence[str]) -> float:
    """Do a run that a search has chosen, and return what the search maximizes.

    Raises:
        RunFailed: There is no result, which has been said.
        Interrupted: The search is to end.
    """
    from lra_bench.cli.reporting import run_and_report
    from lra_bench.metrics import metric
    from lra_bench.sweep import RunFailed

    make_importable(config_dirs)
    if (number := folder.stopped_by()) is not None:
        raise Interrupted(number)
    try:
        request = compose(words, config_dirs=config_dirs)
        record, _ = run_and_report(request, stop_file=folder.stop_file, split="validation")
    except Interrupted as error:
        folder.stop(error.signal_number)
        raise
    except (UserError, OSError) as error:
        print(f"lra-bench: {error}", file=sys.stderr)
        raise RunFailed(str(error)) from None
    if record.status != "completed" or record.validation is None:
        raise RunFailed(record.error)
    # Of validation: a search must not see the test result.
    value = record.validation[record.ranking_metric]
    return value if metric(record.ranking_metric).higher_is_better else -value
