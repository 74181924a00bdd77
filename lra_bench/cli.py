"""The command line: verbs, help, exit codes. Thin, and quick to start."""

# Help and completion must not pay for torch, Hydra or pandas: imports stand where they are used.
from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lra_bench.config import Composed
    from lra_bench.record import RunRecord
    from lra_bench.types import Split, Task

EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_PREEMPTED = 1, 2, 130, 143

_OVERVIEW = """\
lra-bench: a benchmark for encoders of long sequences

  lra-bench run task=listops model=ernie_sparse          one benchmark run
  lra-bench run -m task=listops,text 'model=glob(*)' seed=0,1,2     a sweep
  lra-bench leaderboard                                  the comparison tables

verbs
  run          train a model on a task, choose by validation, test once, write a record
  data         show, prepare or verify the data of the tasks
  ls           list tasks, models, settings, objectives
  leaderboard  make the tables from the records
  completion   print what makes a shell complete groups, options and keys

`lra-bench VERB --help` tells more. Exit codes: 0 done, 1 the run failed, 2 a mistake in what was
asked for, 130 interrupted (ask again to go on), 143 pre-empted after saving.
"""

_RUN = """\
usage: lra-bench run [KEY=VALUE ...] [-m] [--config-dir DIR] [--cfg]

Train a model on a task under a setting, keep the weights that were best on validation, evaluate
the test split once with them, and write a record below results_dir.

  lra-bench run task=listops model=ernie_sparse
  lra-bench run task=text model=transformer setting=small seed=3 device=cuda
  lra-bench run task=text model=ernie_sparse objective=sar model.block_size=32
  lra-bench run -m task=listops,text 'model=glob(*)' seed=0,1,2

groups: `lra-bench ls` lists their options
  task=     model=     setting=cpu     objective=cross_entropy     tracker=none
keys
  seed=0  device=auto  num_threads=  results_dir=results  data_dir=  cache_dir=
  train.KEY=  trunk.KEY=  head.KEY=  task.KEY=  model.KEY=  objective.KEY=
  force=true runs again what has been done; quiet=true prints the result only

  -m, --multirun     run every combination of the listed values (Hydra's sweeps and launchers)
  --config-dir DIR   also take groups from this folder; may be given several times
  --cfg              print the whole configuration and stop

A run that was interrupted goes on when the same line is given again.
"""

_DATA = """\
usage: lra-bench data prepare|verify|show [task=TASK] [KEY=VALUE ...] [--config-dir DIR]

  show               a table of all tasks: sizes, where the data come from, what is prepared
  show task=TASK     an example, its label, and how long the examples of the split are
  prepare task=TASK  find, download or generate the data and put them into the cache
  verify [task=TASK] read prepared data again and compare with what was written down about them;
                     without a task, all that are prepared with the options given here, or none

  lra-bench data show
  lra-bench data prepare task=text data_dir=$HOME/datasets
  lra-bench data show task=listops split=test index=3
  lra-bench data show task=image split=train count=16 --save sheet.png

  split=test  train, validation or test
  index=0     the first example to show
  count=1     how many; 16 for a sheet
  --save      a file in the place of the terminal: .png for pictures in rows, .txt for the
              examples as text; a file that is there is replaced

Raw files are looked for in data_dir (default: $LRA_BENCH_DATA, else the user's cache folder);
prepared data go to cache_dir (default: $LRA_BENCH_CACHE, else the user's cache folder).
Exit code 1: verify found something.
"""

_LS = """\
usage: lra-bench ls [tasks|models|settings|objectives|trackers] [--config-dir DIR]

  lra-bench ls            all of them
  lra-bench ls tasks      with what always answering the most frequent class is worth
"""

_LEADERBOARD = """\
usage: lra-bench leaderboard [RESULTS_DIR ...] [--out DIR]

Read every record below the results folders (default: results) and print the comparison tables;
write leaderboard.md and leaderboard.csv to DIR (default: the first results folder).

  lra-bench leaderboard
  lra-bench leaderboard results ../cluster/results --out tables

A line is a model: mean test accuracy and standard deviation over seeds, their number, and what
they cost. Settings are never mixed; a setting or model with changed options is a line of its own.
Runs that failed, diverged or stayed at the majority baseline are counted. Files that are not
records are named and skipped; setting=smoke is left out.
"""

_COMPLETION = """\
usage: lra-bench completion bash|zsh|fish

  eval "$(lra-bench completion bash)"             # in ~/.bashrc
  eval "$(lra-bench completion zsh)"              # in ~/.zshrc, after compinit
  lra-bench completion fish | source              # in ~/.config/fish/config.fish
"""


class _Mistake(Exception):
    """The words on the command line make no sense; the text is one line."""


class RunFailed(Exception):
    """A run of a sweep ended without a result, and has said so.

    An exception, because that is what every launcher carries back from where the run was.
    """


def main(words: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit code."""
    try:
        code = _call(list(sys.argv[1:] if words is None else words))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of stdout has gone, as `head` does; what it did not read is not missed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        number = getattr(error, "signal_number", signal.SIGINT)
        # A run goes on where it was; data that were not ready are begun again.
        print("\ninterrupted; give the same line again to go on", file=sys.stderr)
        return EXIT_PREEMPTED if number == signal.SIGTERM else EXIT_INTERRUPTED
    except OSError as error:
        # An unreadable file, a full disk: the system's own words name the file.
        print(f"lra-bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    except Exception as error:
        if not _is_mistake(error):
            raise
        print(f"lra-bench: {error}", file=sys.stderr)
        return EXIT_MISTAKE


def _call(words: list[str]) -> int:
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(_OVERVIEW, end="")
        return 0
    if verb == "--version":
        from lra_bench import __version__

        print(__version__)
        return 0
    if verb not in _VERBS:
        from lra_bench.config import nearest

        raise _Mistake(f"there is no verb {verb!r}{nearest(verb, _VERBS)} (lra-bench --help)")
    usage, function = _VERBS[verb]
    if any(word in ("-h", "--help") for word in rest):
        print(usage, end="")
        return 0
    return function(rest)


def _is_mistake(error: Exception) -> bool:
    from lra_bench.errors import UserError

    # Looked up, not imported: without Hydra loaded there can be no such error.
    config = sys.modules.get("lra_bench.config")
    kinds: tuple[type[Exception], ...] = (_Mistake, UserError)
    return isinstance(error, kinds if config is None else (*kinds, config.ConfigError))


def _run(words: Sequence[str]) -> int:
    from lra_bench.config import compose, expand_sweep, quote_paths, spell_out_globs
    from lra_bench.paths import conf_dir

    parser = _Parser()
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", action="append", default=[], type=Path)
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("overrides", nargs="*")
    asked = parser.parse_intermixed_args(words)
    _make_importable(asked.config_dir)

    def composing(overrides: Sequence[str]) -> Composed:
        return compose(overrides, conf_dir=conf_dir(), config_dirs=asked.config_dir)

    if not asked.multirun:
        composed = composing(asked.overrides)
        if asked.cfg:
            return _print_config(composed)
        return _run_one(composed)
    overrides = spell_out_globs(
        quote_paths(asked.overrides), conf_dir=conf_dir(), config_dirs=asked.config_dir
    )
    if not any(word.startswith("hydra/sweeper=") for word in overrides):
        # A mistake in the last run of a sweep is found before the first one starts.
        sweep = expand_sweep(overrides, conf_dir=conf_dir(), config_dirs=asked.config_dir)
        for words_of_run in sweep:
            composing(words_of_run)
        print(f"{len(sweep)} runs", file=sys.stderr)
    return _sweep(overrides, asked.config_dir, composing)


def _run_one(composed: Composed) -> int:
    from lra_bench.runner import run

    record = run(composed)
    _report(record, composed.config["results_dir"])
    return 0 if record.status == "completed" else EXIT_FAILED


def _sweep(
    overrides: Sequence[str],
    config_dirs: Sequence[Path],
    composing: Callable[[Sequence[str]], Composed],
) -> int:
    """Hand a sweep to Hydra: its sweepers choose the runs, its launchers say where they run."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from lra_bench.config import search_words
    from lra_bench.paths import conf_dir

    def job(_: Any) -> float:
        from lra_bench.errors import UserError
        from lra_bench.record import accuracy
        from lra_bench.runner import run

        _make_importable(config_dirs)
        # Composed again from the words of this run: Hydra's own object lacks the changes.
        composed = composing(list(HydraConfig.get().overrides.task))
        try:
            record = run(composed)
        except (UserError, OSError) as error:
            print(f"lra-bench: {error}", file=sys.stderr)
            raise RunFailed(str(error)) from None
        _report(record, composed.config["results_dir"])
        if record.status != "completed" or record.validation is None:
            raise RunFailed(record.error)
        # What a sweeper that searches maximizes; never the test result.
        return accuracy(record.validation)

    words = ["lra-bench", "-m", *overrides, *search_words(config_dirs)]
    if "hydra/sweeper=optuna" in overrides:
        # A failed run is one point less, not the end of the search.
        for key, value in (("direction", "maximize"), ("max_failure_rate", "1.0")):
            if not any(word.startswith(f"hydra.sweeper.{key}=") for word in overrides):
                words.append(f"hydra.sweeper.{key}={value}")
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Let errors come back to here instead of ending the process with a traceback.
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = words, "1"
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="run")(job)()
    except RunFailed:
        print("some runs of the sweep failed", file=sys.stderr)
        return EXIT_FAILED
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
    return 0


def _report(record: RunRecord, results_dir: str) -> None:
    """Print the outcome: the result on stdout, a failure on stderr."""
    path = record.path(Path(results_dir))
    if record.test is None:
        print(f"{record.status}: {record.error}\nrecord: {path}", file=sys.stderr)
        return
    right, number = record.test["num_correct"], record.test["num_examples"]
    print(
        f"{record.model} on {record.task}, setting {record.setting}, seed {record.seed}: "
        f"test accuracy {right / number:.2%} ({right:,} of {number:,}; always answering the most "
        f"frequent class: {record.majority_baseline:.2%})"
    )
    if "warning" in record.data or "note" in record.data:
        print(f"data: {record.data.get('source', 'unknown')}")
    print(f"record: {path}")


def _print_config(composed: Composed) -> int:
    from omegaconf import OmegaConf

    print(f"# {composed.command()}")
    print(OmegaConf.to_yaml(OmegaConf.create(composed.config)), end="")
    return 0


def _make_importable(config_dirs: Sequence[Path]) -> None:
    """Let classes named in a user's own configuration be imported from beside it.

    At the end of the path, so that nothing there can hide an installed package.
    """
    for folder in (Path.cwd(), *config_dirs):
        if str(folder.resolve()) not in sys.path:
            sys.path.append(str(folder.resolve()))


# What `data show` takes beside the keys of a run.
_CHOOSING = ("split=", "index=", "count=")
_MAX_SHOWN = 1_000
_SHOWN_ON_A_SHEET = 16


@dataclass(frozen=True)
class _Chosen:
    """Which examples to show, and where to: None for the default, or the terminal."""

    split: Split
    index: int
    count: int | None
    save: Path | None


def _data(words: Sequence[str]) -> int:
    parser = _Parser()
    parser.add_argument("--config-dir", action="append", default=[], type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("words", nargs="*")
    asked = parser.parse_intermixed_args(words)
    actions = ("prepare", "verify", "show")
    if not asked.words or asked.words[0] not in actions:
        raise _Mistake(f"data takes one of {', '.join(actions)} (lra-bench data --help)")
    action, rest = asked.words[0], asked.words[1:]
    choosing = [word for word in rest if action == "show" and word.startswith(_CHOOSING)]
    if action == "show":
        rest = [word for word in rest if word not in choosing]
    elif asked.save is not None:
        raise _Mistake(f"--save {asked.save} belongs to `lra-bench data show`")
    chosen = _choose(choosing, asked.save)
    _make_importable(asked.config_dir)
    if action == "prepare":
        return _prepare(_task_of(rest, asked.config_dir)[1])
    if any(word.startswith("task=") for word in rest):
        task = _task_of(rest, asked.config_dir)[1]
        return _show(task, chosen) if action == "show" else _verify_one(task)
    needing = [*choosing, *(word for word in rest if word.startswith("task."))]
    if needing or asked.save is not None:
        raise _Mistake(f"{needing[0] if needing else '--save'} needs task= beside it")
    return _every_task(action, rest, asked.config_dir)


def _choose(words: Sequence[str], save: Path | None) -> _Chosen:
    """Read which examples are wanted, and find out at once whether they could be saved."""
    from lra_bench.types import SPLITS

    given = dict(word.split("=", 1) for word in words)
    split, index, count = given.get("split", "test"), given.get("index"), given.get("count")
    for name, value in (("index", index), ("count", count)):
        if value is not None and not (value.isdecimal() and len(value) < 19):
            raise _Mistake(f"{name}={value} is not a whole number")
    chosen: Split | None = next((known for known in SPLITS if known == split), None)
    if chosen is None:
        raise _Mistake(f"split={split} is not one of {', '.join(SPLITS)}")
    if count is not None and not 1 <= int(count) <= _MAX_SHOWN:
        raise _Mistake(f"count={count} must lie between 1 and {_MAX_SHOWN:,}")
    if save is not None:
        from lra_bench.show import check_target

        check_target(save)
    return _Chosen(chosen, int(index or 0), None if count is None else int(count), save)


def _task_of(words: Sequence[str], config_dirs: Sequence[Path]) -> tuple[Composed, Task]:
    from lra_bench.config import compose
    from lra_bench.paths import conf_dir
    from lra_bench.runner import build_task

    # A task is not composed alone: its options come from the setting too.
    composed = compose(["model=transformer", *words], conf_dir=conf_dir(), config_dirs=config_dirs)
    return composed, build_task(composed)


def _every_task(action: str, words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Show the table of all tasks, or verify those that are prepared."""
    from lra_bench.config import ConfigError, options
    from lra_bench.errors import UserError
    from lra_bench.paths import conf_dir, default_cache_dir, default_data_dir
    from lra_bench.show import Screen, Summary, summarize, table_of

    summaries, tasks = [], []
    problems: dict[str, str] = {}
    folders = default_data_dir(), default_cache_dir()
    for name in options("task", conf_dir=conf_dir(), config_dirs=config_dirs):
        try:
            composed, task = _task_of([*words, f"task={name}"], config_dirs)
        except (ConfigError, UserError) as error:
            problems[name] = str(error)
            summaries.append(Summary(name, prepared="broken", notes=[f"problem: {error}"]))
            continue
        folders = (
            composed.config["data_dir"] or folders[0],
            composed.config["cache_dir"] or folders[1],
        )
        summaries.append(summarize(name, task))
        if summaries[-1].prepared not in ("no", "-"):
            tasks.append(task)
    if problems and len(problems) == len(summaries):
        # No task is to blame, but what was asked for.
        raise _Mistake(next(iter(problems.values())))
    if action == "verify":
        return _verify(tasks, problems, folders[1])
    print(table_of(summaries, Screen.of(sys.stdout).width))
    print(f"raw files: {folders[0]}; prepared data: {folders[1]}")
    print("lra-bench data prepare task=NAME makes one ready, data show task=NAME shows examples")
    return 0


def _prepare(task: Task) -> int:
    from lra_bench.runner import shown_on
    from lra_bench.show import in_bytes, size_of
    from lra_bench.tracking import ConsoleTracker, duration
    from lra_bench.types import SPLITS

    console = ConsoleTracker()
    was_ready, started = task.is_prepared(), time.monotonic()
    task.prepare(shown_on(console))
    taken = duration(time.monotonic() - started)
    console.message("already prepared" if was_ready else f"prepared in {taken}")
    for key, value in _without_warning(task).items():
        print(f"{key}: {value}")
    for name in SPLITS:
        print(f"{name}: {len(task.examples(name)):,} examples")
    print(f"sha256: {task.fingerprint()}")
    if (folder := task.folder()) is not None:
        print(f"folder: {folder}\nsize: {in_bytes(size_of(folder))}")
    return 0


def _without_warning(task: Task) -> dict[str, str]:
    """Return the provenance of a task; what everybody must know goes to stderr."""
    found = task.provenance()
    if "warning" in found:
        print(f"warning: {found.pop('warning')}", file=sys.stderr)
    return found


def _verify_one(task: Task) -> int:
    from lra_bench.runner import shown_on
    from lra_bench.tracking import ConsoleTracker

    # What cannot be had is a mistake; what is there and is broken has been found.
    if not task.is_prepared():
        console = ConsoleTracker()
        task.prepare(shown_on(console))
        console.message("it was not prepared; it is now")
    return _verify([task], {}, "")


def _verify(tasks: Sequence[Task], unbuilt: Mapping[str, str], cache_dir: str) -> int:
    """Read all data of prepared tasks again, and say what was found.

    Args:
        tasks: The prepared ones.
        unbuilt: Why others could not be asked, by name.
        cache_dir: For the message if there is none.
    """
    from lra_bench.errors import UserError
    from lra_bench.show import in_bytes, size_of
    from lra_bench.tracking import ConsoleTracker
    from lra_bench.types import Verification

    if not tasks and not unbuilt:
        print(f"no task is prepared in {cache_dir}; lra-bench data prepare task=NAME does it")
        return 0
    console = ConsoleTracker()

    def findings(task: Task) -> Iterator[Verification]:
        try:
            task.prepare()
            yield from task.verify()
        except UserError as error:
            yield Verification("reading", str(error))

    checks, problems = len(unbuilt), [*unbuilt]
    for name, problem in unbuilt.items():
        console.message(f"{name}\nBAD building it\n    {problem}")
    for task in tasks:
        folder = task.folder()
        where = "" if folder is None else f", {in_bytes(size_of(folder))} in {folder}"
        console.message(f"{task.spec.name}{where}")
        for found in findings(task):
            checks += 1
            console.message(f"{'BAD ' if found.problem else 'ok  '}{found.what}")
            if found.problem:
                problems.append(task.spec.name)
                console.message(f"    {found.problem}")
    names = ", ".join([*unbuilt, *(task.spec.name for task in tasks)])
    bad = f"{len(problems)} bad ({', '.join(dict.fromkeys(problems))})"
    print(f"verified {names}: {checks} checks, {bad if problems else 'all good'}")
    return EXIT_FAILED if problems else 0


def _show(task: Task, chosen: _Chosen) -> int:
    """Show examples of a split, and what is counted over all of it."""
    from lra_bench import show
    from lra_bench.runner import shown_on
    from lra_bench.tracking import ConsoleTracker
    from lra_bench.types import Task

    split, name, save = chosen.split, task.spec.name, chosen.save
    wants_pictures = save is not None and save.suffix == ".png"
    no_pictures = f"the examples of {name} are no pictures; save them as .txt"
    if wants_pictures and type(task).picture is Task.picture:
        raise _Mistake(no_pictures)
    console = ConsoleTracker()
    progress = shown_on(console)
    task.prepare(progress)
    console.clear()
    origin = _without_warning(task)
    examples = task.examples(split)
    if chosen.index >= len(examples):
        raise _Mistake(f"index={chosen.index}: {split} has {len(examples):,} examples")
    number = chosen.count or (_SHOWN_ON_A_SHEET if wants_pictures else 1)
    selection = show.select(task, examples, split, chosen.index, number)
    if wants_pictures and not selection.pictures:
        raise _Mistake(no_pictures)
    if save is None:
        print(show.as_text(selection, show.Screen.of(sys.stdout)))
    else:
        text = f"{show.as_text(selection, show.Screen())}\n".encode()
        show.save(save, show.as_sheet(selection) if wants_pictures else text)
        print(f"saved {len(selection.indices)} of {len(examples):,} {split} examples to {save}")
    statistics = show.statistics_of(examples, progress)
    console.clear()
    print(f"\n{show.overview_of(statistics, split, task.spec, show.Screen.of(sys.stdout))}")
    if "source" in origin:
        note = f"; {origin['note']}" if "note" in origin else ""
        print(f"data: {origin['source']}{note}")
    return 0


def _ls(words: Sequence[str]) -> int:
    from lra_bench.config import compose, options
    from lra_bench.paths import conf_dir
    from lra_bench.runner import build_task

    groups = ("task", "model", "setting", "objective", "tracker")
    parser = _Parser()
    parser.add_argument("--config-dir", action="append", default=[], type=Path)
    parser.add_argument("what", nargs="*")
    asked = parser.parse_intermixed_args(words)
    _make_importable(asked.config_dir)
    for what in asked.what:
        if what.removesuffix("s") not in groups:
            plural = ", ".join(f"{group}s" for group in groups)
            raise _Mistake(f"ls takes {plural}, not {what!r}")
    chosen = [what.removesuffix("s") for what in asked.what] or groups
    for group in chosen:
        print(f"{group}s")
        for name in options(group, conf_dir=conf_dir(), config_dirs=asked.config_dir):
            about = _first_comment(name, group, (conf_dir(), *asked.config_dir))
            if group == "task":
                composed = compose(
                    ["model=transformer", f"task={name}"],
                    conf_dir=conf_dir(),
                    config_dirs=asked.config_dir,
                )
                spec = build_task(composed).spec
                baseline = spec.majority_baseline
                chance = "unknown" if baseline is None else f"{baseline:.1%}"
                about = (
                    f"{about} Up to {spec.max_length:,} tokens, {spec.num_classes} classes, "
                    f"majority baseline {chance}."
                )
            print(f"  {name:<16} {about}")
    return 0


def _first_comment(name: str, group: str, folders: Sequence[Path]) -> str:
    """Return the first sentence that a configuration file says about itself."""
    path = next(
        path for folder in reversed(folders) if (path := folder / group / f"{name}.yaml").exists()
    )
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comment.append(line.lstrip("# "))
    text = " ".join(comment)
    return text.split(". ")[0].rstrip(".") + "." if text else ""


def _leaderboard(words: Sequence[str]) -> int:
    from lra_bench import leaderboard

    parser = _Parser()
    parser.add_argument("results_dirs", nargs="*", type=Path, default=[Path("results")])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(words)
    return leaderboard.publish(asked.results_dirs, asked.out or asked.results_dirs[0])


def _complete(words: Sequence[str]) -> int:
    from lra_bench import completion

    return completion.main(words)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> Any:
        raise _Mistake(f"{message} (see --help)")


_VERBS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "run": (_RUN, _run),
    "data": (_DATA, _data),
    "ls": (_LS, _ls),
    "leaderboard": (_LEADERBOARD, _leaderboard),
    "completion": (_COMPLETION, _complete),
}


if __name__ == "__main__":
    sys.exit(main())
