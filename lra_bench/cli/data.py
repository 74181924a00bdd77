"""The verb ``data``: showing, preparing and verifying the data of the tasks."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench.cli.completion import KeyValueWords
from lra_bench.cli.parsing import EXIT_FAILED, Parser, add_config_dir, make_importable
from lra_bench.errors import UserError

if TYPE_CHECKING:
    from lra_bench.types import DataInfo, Split, Task, Verification

# What `data show` takes beside the options of the task, and the values that can be told.
_CHOOSING = {"split": ("train", "validation", "test"), "index": (), "count": ()}
_MAX_SHOWN = 1_000
_SHOWN_ON_A_SHEET = 16
_DESCRIPTION = """\
Show, prepare or verify the data of the tasks.

  lra-bench data show
  lra-bench data show task=listops split=test index=3
  lra-bench data show task=image split=train count=16 --save sheet.png
  lra-bench data prepare task=text data_dir=$HOME/datasets
"""
_EPILOG = """\
Each takes task=TASK, setting=cpu (whose options of the task it has), task.KEY=VALUE, data_dir=
and cache_dir=. Raw files are looked for in data_dir (default: $LRA_BENCH_DATA, else the user's
cache folder); prepared data go to cache_dir (default: $LRA_BENCH_CACHE, else the user's cache
folder).
"""
_SHOW = """\
Without task=TASK, show a table of all tasks: sizes, where the data come from, what is prepared.
With it, show an example, its label, and how long the examples of the split are.

  lra-bench data show
  lra-bench data show task=listops split=test index=3
  lra-bench data show task=image split=train count=16 --save sheet.png
"""
_SHOW_KEYS = """\
keys
  split=test  train, validation or test
  index=0     the first example to show
  count=1     how many; 16 for a sheet
  setting=  task.KEY=  data_dir=  cache_dir=
"""
_PREPARE = """\
Find, download or generate the data of a task and put them into the cache.

  lra-bench data prepare task=listops
  lra-bench data prepare task=text data_dir=$HOME/datasets
"""
_VERIFY = """\
Read prepared data again and compare with what was written down about them; without task=TASK, of
all tasks that are prepared with the options given here, or none. Exit code 1: something was found.

  lra-bench data verify
  lra-bench data verify task=image
"""


def add_to(verbs: Any) -> Parser:
    """Add the verb, and the three below it, to the others."""
    parser: Parser = verbs.add_parser(
        "data",
        summary="show, prepare or verify the data of the tasks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_verbs(_add_prepare, _add_verify, _add_show)
    return parser


def _add_prepare(verbs: Any) -> Parser:
    parser = verbs.add_parser("prepare", summary="make the data ready", description=_PREPARE)
    return _add_words(parser, _prepare)


def _add_verify(verbs: Any) -> Parser:
    parser = verbs.add_parser("verify", summary="read prepared data again", description=_VERIFY)
    return _add_words(parser, _verify)


def _add_show(verbs: Any) -> Parser:
    parser: Parser = verbs.add_parser(
        "show",
        summary="a table of all tasks, or examples of one",
        description=_SHOW,
        epilog=_SHOW_KEYS,
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="a file in the place of the terminal: .png for pictures in rows, .txt for the "
        "examples as text; a file that is there is replaced",
    )
    return _add_words(parser, _show, _CHOOSING)


def _add_words(
    parser: Parser, function: Any, keys: Mapping[str, Sequence[str]] | None = None
) -> Parser:
    words = parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="task= and the like")
    words.completer = KeyValueWords("data", keys or {})  # type: ignore[attr-defined]
    add_config_dir(parser)
    parser.set_defaults(function=function)
    return parser


def _task_of(words: Sequence[str], config_dirs: Sequence[Path]) -> Task:
    from lra_bench.build import build_task
    from lra_bench.compose import compose_task

    return build_task(compose_task(words, config_dirs=config_dirs))


def _names_a_task(words: Sequence[str]) -> bool:
    return any(word.startswith("task=") for word in words)


# Prepare.


def _prepare(parsed: argparse.Namespace) -> int:
    from lra_bench.console import ConsoleTracker, count, duration, in_bytes
    from lra_bench.files import size_of
    from lra_bench.interrupt import sigterm_raises
    from lra_bench.types import SPLITS

    make_importable(parsed.config_dir)
    task = _task_of(parsed.words, parsed.config_dir)
    console = ConsoleTracker()
    was_ready, started = task.is_prepared(), time.monotonic()
    with sigterm_raises():
        task.prepare(console.progress)
    taken = duration(time.monotonic() - started)
    console.message("already prepared" if was_ready else f"prepared in {taken}")
    info = _warned(task.info())
    for key, value in {"source": info.source, "note": info.note, **info.details}.items():
        if value:
            print(f"{key}: {value}")
    for name, reached in info.baselines.items():
        print(f"{name} reaches on test: {_shown(reached, task)}")
    for split in SPLITS:
        print(f"{split}: {count(len(task.examples(split)), 'example')}")
    print(f"sha256: {task.fingerprint()}")
    if (folder := task.folder()) is not None:
        print(f"folder: {folder}\nsize: {in_bytes(size_of(folder))}")
    return 0


def _shown(value: float, task: Task) -> str:
    """Return a value of the metric that ranks."""
    from lra_bench.metrics import metrics_of

    ranking = metrics_of(task.spec)[0]
    return f"{ranking.title} {value:{'.2%' if ranking.is_share else '.4f'}}"


def _warned(info: DataInfo) -> DataInfo:
    """Return what is known of data; what everybody must know goes to stderr."""
    if info.warning:
        print(f"warning: {info.warning}", file=sys.stderr)
    return info


# Verify.


def _verify(parsed: argparse.Namespace) -> int:
    from lra_bench.catalogue import summarize, tasks_of
    from lra_bench.console import ConsoleTracker

    make_importable(parsed.config_dir)
    console = ConsoleTracker()
    if _names_a_task(parsed.words):
        task = _task_of(parsed.words, parsed.config_dir)
        # What cannot be had is a mistake; what is there and is broken has been found.
        if not task.is_prepared():
            task.prepare(console.progress)
            console.message("it was not prepared; it is now")
        return _check([task], {}, console)
    entries = tasks_of(parsed.words, config_dirs=parsed.config_dir)
    problems = {entry.name: entry.problem for entry in entries if entry.task is None}
    prepared = [
        entry.task
        for entry in entries
        if entry.task is not None and summarize(entry).prepared not in ("no", "-")
    ]
    if not prepared and not problems:
        print(
            f"no task is prepared with these options in {entries[0].cache_dir}; "
            f"lra-bench data prepare task=NAME does it"
        )
        return 0
    return _check(prepared, problems, console)


def _check(tasks: Sequence[Task], unbuilt: Mapping[str, str], console: Any) -> int:
    """Read all data of prepared tasks again, and say what was found.

    Args:
        tasks: The prepared ones.
        unbuilt: Why others could not be asked, by name.
        console: Where to say it.
    """
    from lra_bench.console import in_bytes
    from lra_bench.files import size_of

    checks, problems = len(unbuilt), [*unbuilt]
    for name, problem in unbuilt.items():
        console.message(f"{name}\nBAD building it\n    {problem}")
    for task in tasks:
        folder = task.folder()
        where = "" if folder is None else f", {in_bytes(size_of(folder))} in {folder}"
        console.message(f"{task.spec.name}{where}")
        for finding in _findings(task):
            checks += 1
            console.message(f"{'BAD ' if finding.problem else 'ok  '}{finding.what}")
            if finding.problem:
                problems.append(task.spec.name)
                console.message(f"    {finding.problem}")
    names = ", ".join([*unbuilt, *(task.spec.name for task in tasks)])
    bad = f"{len(problems)} bad ({', '.join(dict.fromkeys(problems))})"
    print(f"verified {names}: {checks} checks, {bad if problems else 'all good'}")
    return EXIT_FAILED if problems else 0


def _findings(task: Task) -> Iterator[Verification]:
    from lra_bench.types import Verification

    try:
        task.prepare()
        yield from task.verify()
    except UserError as error:
        yield Verification("reading", str(error))


# Show.


@dataclass(frozen=True)
class _Chosen:
    """Which examples to show, and where to: None for the default, or the terminal."""

    split: Split
    index: int
    count: int | None
    save: Path | None

    @property
    def wants_pictures(self) -> bool:
        return self.save is not None and self.save.suffix == ".png"


def _show(parsed: argparse.Namespace) -> int:
    choosing = [word for word in parsed.words if "=" in word and word.split("=")[0] in _CHOOSING]
    words = [word for word in parsed.words if word not in choosing]
    chosen = _choose(choosing, parsed.save)
    make_importable(parsed.config_dir)
    if _names_a_task(words):
        return _show_examples(_task_of(words, parsed.config_dir), chosen)
    needing = [*choosing, *(word for word in words if word.startswith("task."))]
    if needing or parsed.save is not None:
        raise UserError(f"{needing[0] if needing else '--save'} needs task= beside it")
    return _show_tasks(words, parsed.config_dir)


def _choose(words: Sequence[str], save: Path | None) -> _Chosen:
    """Read which examples are wanted, and find out at once whether they could be saved."""
    from lra_bench.types import SPLITS

    given = dict(word.split("=", 1) for word in words)
    split, index, count = given.get("split", "test"), given.get("index"), given.get("count")
    for name, value in (("index", index), ("count", count)):
        if value is not None and not (value.isdecimal() and len(value) < 19):
            raise UserError(f"{name}={value} is not a whole number")
    chosen: Split | None = next((known for known in SPLITS if known == split), None)
    if chosen is None:
        raise UserError(f"split={split} is not one of {', '.join(SPLITS)}")
    if count is not None and not 1 <= int(count) <= _MAX_SHOWN:
        raise UserError(f"count={count} must lie between 1 and {_MAX_SHOWN:,}")
    if save is not None:
        from lra_bench.preview import check_target

        check_target(save)
    return _Chosen(chosen, int(index or 0), None if count is None else int(count), save)


def _show_tasks(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    from lra_bench.catalogue import summarize, table_of, tasks_of
    from lra_bench.console import Screen

    entries = tasks_of(words, config_dirs=config_dirs)
    print(table_of([summarize(entry) for entry in entries], Screen.of(sys.stdout)))
    # Every task that was built was given the same folders.
    folders = next(entry for entry in entries if entry.task is not None)
    print(f"raw files: {folders.data_dir}; prepared data: {folders.cache_dir}")
    print("lra-bench data prepare task=NAME makes one ready, data show task=NAME shows examples")
    return 0


def _show_examples(task: Task, chosen: _Chosen) -> int:
    """Show examples of a split, and what is counted over all of it."""
    from lra_bench import preview
    from lra_bench.console import ConsoleTracker, Screen

    no_pictures = f"the examples of {task.spec.name} are no pictures; save them as .txt"
    if chosen.wants_pictures and not task.has_pictures:
        raise UserError(no_pictures)
    console, screen, split = ConsoleTracker(), Screen.of(sys.stdout), chosen.split
    task.prepare(console.progress)
    console.clear()
    info = _warned(task.info())
    examples = task.examples(split)
    if chosen.index >= len(examples):
        raise UserError(f"index={chosen.index}: {split} has {len(examples):,} examples")
    number = chosen.count or (_SHOWN_ON_A_SHEET if chosen.wants_pictures else 1)
    selection = preview.select(task, examples, split, chosen.index, number)
    if chosen.wants_pictures and not selection.pictures:
        raise UserError(no_pictures)
    if chosen.save is None:
        print(preview.as_text(selection, screen))
    else:
        text = f"{preview.as_text(selection, Screen())}\n"
        preview.save(chosen.save, preview.as_sheet(selection) if chosen.wants_pictures else text)
        number = len(selection.indices)
        print(f"saved {number} of {len(examples):,} {split} examples to {chosen.save}")
    statistics = preview.statistics_of(examples, task.spec, console.progress)
    console.clear()
    print(f"\n{preview.overview_of(statistics, split, task.spec, screen)}")
    for name, reached in info.baselines.items():
        print(f"{name} reaches on test: {_shown(reached, task)}")
    if info.source:
        print(f"data: {info.source}{f'; {info.note}' if info.note else ''}")
    return 0
