"""The command line: verbs, help, exit codes. Thin, and quick to start."""

# Help and completion must not pay for torch, Hydra or pandas: imports stand where they are used.
from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lra_bench.config import Composed
    from lra_bench.record import RunRecord

EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_PREEMPTED = 1, 2, 130, 143

_OVERVIEW = """\
lra-bench: a benchmark for encoders of long sequences

  lra-bench run task=listops model=ernie_sparse          one benchmark run
  lra-bench run -m task=listops,text 'model=glob(*)' seed=0,1,2     a sweep
  lra-bench leaderboard                                  the comparison tables

verbs
  run          train a model on a task, choose by validation, test once, write a record
  data         prepare, verify or show the data of a task
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
usage: lra-bench data prepare|verify|show task=TASK [KEY=VALUE ...] [--config-dir DIR]

  prepare   find, download or generate the data and put them into the cache
  verify    read the prepared data again and compare with what was written down about them
  show      print an example as a person can read it, with its label and length

  lra-bench data prepare task=listops
  lra-bench data prepare task=text data_dir=$HOME/datasets
  lra-bench data show task=listops split=test index=3

Raw files are looked for in data_dir (default: $LRA_BENCH_DATA, else the user's cache folder);
prepared data go to cache_dir (default: $LRA_BENCH_CACHE, else the user's cache folder).
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
        print("\ninterrupted; the same line goes on from here", file=sys.stderr)
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
    from lra_bench.types import UserError

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
        from lra_bench.record import accuracy
        from lra_bench.runner import run
        from lra_bench.types import UserError

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
        f"frequent class: {record.majority_baseline:.2%})\nrecord: {path}"
    )


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


def _data(words: Sequence[str]) -> int:
    from lra_bench.config import compose
    from lra_bench.paths import conf_dir
    from lra_bench.runner import build_task
    from lra_bench.tracking import ConsoleTracker
    from lra_bench.types import SPLITS, Progress, Split

    parser = _Parser()
    parser.add_argument("--config-dir", action="append", default=[], type=Path)
    parser.add_argument("words", nargs="*")
    asked = parser.parse_intermixed_args(words)
    actions = ("prepare", "verify", "show")
    if not asked.words or asked.words[0] not in actions:
        raise _Mistake(f"data takes one of {', '.join(actions)} (lra-bench data --help)")
    action, rest = asked.words[0], asked.words[1:]
    shown: dict[str, str] = {"split": "test", "index": "0"}
    if action == "show":
        for word in [word for word in rest if word.split("=")[0] in shown and "=" in word]:
            key, value = word.split("=", 1)
            shown[key] = value
            rest.remove(word)
    split: Split = shown["split"]  # type: ignore[assignment]
    if split not in SPLITS or not shown["index"].isdecimal():
        raise _Mistake(
            f"split={split} must be one of {', '.join(SPLITS)} and index={shown['index']} a number"
        )
    _make_importable(asked.config_dir)
    # A task is not composed alone: its options come from the setting too.
    composed = compose(
        ["model=transformer", *rest], conf_dir=conf_dir(), config_dirs=asked.config_dir
    )
    task = build_task(composed)
    console = ConsoleTracker()

    def show(progress: Progress) -> None:
        console.progress(progress.what, progress.done, progress.total, None)

    task.prepare(show)
    if action == "verify":
        bad = 0
        for found in task.verify():
            bad += found.problem is not None
            console.message(f"{'BAD ' if found.problem else 'ok  '}{found.what}")
            if found.problem:
                console.message(f"    {found.problem}")
        return EXIT_FAILED if bad else 0
    if action == "show":
        examples, index = task.examples(split), int(shown["index"])
        if index >= len(examples):
            raise _Mistake(f"index={index}: {split} has {len(examples):,} examples")
        example = examples[index]
        lengths = ", ".join(f"{len(tokens):,}" for tokens in example.inputs)
        print(task.decode(example))
        print(f"\nlabel {example.label}, length {lengths} tokens, {split} example {index}")
        return 0
    for key, value in task.provenance().items():
        print(f"{key}: {value}")
    for name in SPLITS:
        print(f"{name}: {len(task.examples(name)):,} examples")
    print(f"sha256: {task.fingerprint()}")
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
