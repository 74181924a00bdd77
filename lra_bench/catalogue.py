"""What there is to choose from: tasks, models and settings as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lra_bench import experiments, paths
from lra_bench.about import file_of, first_sentence
from lra_bench.build import build_task
from lra_bench.compose import compose_task
from lra_bench.console import Align, Screen, in_bytes, table
from lra_bench.errors import UserError
from lra_bench.files import size_of
from lra_bench.schema import GROUPS
from lra_bench.types import SPLITS, DataInfo, Split, Target, Task, TaskSpec
from lra_bench.words import options

_HEADER = ("task", "longest", "classes", "train", "valid.", "test", "majority", "prepared")
_ALIGN: tuple[Align, ...] = ("left", *6 * ("right",))
_LEGEND = (
    "longest: input [tokens]; majority: always giving the most frequent answer\n"
    "classes: of an example, or of each token; spans and candidates have none"
)


# Tasks.


@dataclass(frozen=True)
class Entry:
    """A task of the catalogue.

    Args:
        name: How it is asked for.
        task: What was built; None if it cannot be.
        problem: Why not.
        data_dir: Where its raw files lie.
        cache_dir: Where its prepared data lie.
    """

    name: str
    task: Task | None = None
    problem: str = ""
    data_dir: str = field(default_factory=paths.default_data_dir)
    cache_dir: str = field(default_factory=paths.default_cache_dir)


def tasks_of(words: Sequence[str] = (), *, config_dirs: Sequence[Path] = ()) -> list[Entry]:
    """Build every task with the options that some words give; what is broken is said.

    Raises:
        UserError: None can be built: the words are to blame.
    """
    entries = [
        _entry(name, words, config_dirs) for name in options("task", config_dirs=config_dirs)
    ]
    if all(entry.task is None for entry in entries):
        raise UserError(entries[0].problem)
    return entries


def _entry(name: str, words: Sequence[str], config_dirs: Sequence[Path]) -> Entry:
    try:
        request = compose_task([*words, f"task={name}"], config_dirs=config_dirs)
        task = build_task(request)
    except UserError as error:
        return Entry(name, problem=str(error))
    return Entry(
        name,
        task,
        data_dir=request.data_dir or paths.default_data_dir(),
        cache_dir=request.cache_dir or paths.default_cache_dir(),
    )


@dataclass(frozen=True)
class Summary:
    """What the table of tasks says about one.

    Args:
        name: How the task is asked for.
        spec: None if the task cannot be built.
        num_examples: Of each split, where known.
        prepared: ``yes`` and the size on disk, ``no``, ``broken``, or ``-`` if the task does not
            tell.
        origin: Where the data come from.
        terms: License or terms of use.
        notes: What everybody must know about them.
    """

    name: str
    spec: TaskSpec | None = None
    num_examples: Mapping[Split, int] = field(default_factory=dict)
    prepared: str = "no"
    origin: str = ""
    terms: str = ""
    notes: Sequence[str] = ()


def summarize(entry: Entry) -> Summary:
    """Say what can be known of a task without preparing anything; what is broken is said, too."""
    task = entry.task
    if task is None:
        return Summary(entry.name, prepared="broken", notes=[f"problem: {entry.problem}"])
    info, numbers, prepared, problem = DataInfo(), {}, "no", ""
    try:
        info = task.info()
        is_prepared = task.is_prepared()
        if is_prepared is None:
            prepared = "-"
        elif is_prepared:
            numbers = {split: len(task.examples(split)) for split in SPLITS}
            # Once they are opened, the data say what they are.
            info = task.info()
            folder = task.folder()
            prepared = "yes" if folder is None else f"yes, {in_bytes(size_of(folder))}"
    except (UserError, OSError) as error:
        prepared, problem = "broken", str(error)
    reached = ", ".join(f"{name} {value:.1%}" for name, value in info.baselines.items())
    said = (
        ("on test", reached),
        ("warning", info.warning),
        ("note", info.note),
        ("problem", problem),
    )
    return Summary(
        entry.name,
        task.spec,
        numbers or info.num_examples,
        prepared,
        info.source or info.origin,
        info.terms,
        [f"{kind}: {text}" for kind, text in said if text],
    )


def table_of(summaries: Sequence[Summary], screen: Screen) -> str:
    """Return the numbers of all tasks, one line each, and below where their data come from."""
    rows = [_row(summary) for summary in summaries]
    numbers = table(rows, screen, header=_HEADER, align=_ALIGN)
    name_width = max(len(name) for name in [_HEADER[0], *(summary.name for summary in summaries)])
    lines = [numbers, "", "where the data come from, and their terms"]
    indent = " " * (4 + name_width)
    for summary in summaries:
        terms = f" (terms: {summary.terms})" if summary.terms else ""
        first = f"  {summary.name.ljust(name_width)}  "
        for text in filter(None, [f"{summary.origin}{terms}".strip(), *summary.notes]):
            lines += textwrap.wrap(
                screen.printable(text),
                max(screen.width, 60),
                initial_indent=first,
                subsequent_indent=indent,
            )
            first = indent
    return "\n".join([*lines, "", _LEGEND])


def _row(summary: Summary) -> Sequence[str]:
    numbers = [
        f"{summary.num_examples[split]:,}" if split in summary.num_examples else "?"
        for split in SPLITS
    ]
    spec = summary.spec
    if spec is None:
        return (summary.name, "?", "?", *numbers, "?", summary.prepared)
    about = (_longest(spec), _classes(spec), *numbers, _majority(spec, "?"))
    return (summary.name, *about, summary.prepared)


def _longest(spec: TaskSpec) -> str:
    inputs = f"{spec.num_inputs} x " if spec.num_inputs > 1 else ""
    return f"{inputs}{spec.max_length:,}"


_WITHOUT_CLASSES: Mapping[Target, str] = {
    "span": "answers are spans",
    "spans": "answers are spans",
    "choice": "answers are candidates",
}


def _classes(spec: TaskSpec) -> str:
    if spec.is_corpus:
        return "none"
    if spec.target in _WITHOUT_CLASSES:
        return "candidates" if spec.target == "choice" else "span"
    return f"{spec.num_classes:,}{'/token' if spec.target == 'tokens' else ''}"


def _majority(spec: TaskSpec, unknown: str) -> str:
    return unknown if spec.majority_baseline is None else f"{spec.majority_baseline:.1%}"


# What else can be chosen.


def choices(group: str, screen: Screen, *, config_dirs: Sequence[Path] = ()) -> str:
    """Return the options of a group as a table, each with what its file says about itself.

    Args:
        group: One of `schema.GROUPS`, or ``experiment``.
        screen: What it is printed on.
        config_dirs: Folders that are searched besides ``conf/``.
    """
    assert group in (*GROUPS, experiments.GROUP)
    if group == experiments.GROUP:
        return _experiments(screen, config_dirs)
    if group == "task":
        entries = tasks_of(config_dirs=config_dirs)
        about = {entry.name: _about(entry) for entry in entries}
    else:
        about = dict.fromkeys(options(group, config_dirs=config_dirs), "")
    rows = [
        (name, " ".join(filter(None, (first_sentence(file_of(group, name, config_dirs)), more))))
        for name, more in about.items()
    ]
    return table(rows, screen, indent=2)


def _experiments(screen: Screen, config_dirs: Sequence[Path]) -> str:
    """Return each experiment with what it does, its command, its cost and what is expected."""
    lines = []
    for name in experiments.names(config_dirs):
        one = experiments.read(name, config_dirs=config_dirs)
        about = first_sentence(file_of(experiments.GROUP, name, config_dirs))
        lines.append(f"  {name}: {screen.printable(about)}")
        told = (("do it", one.command), ("cost", one.cost), ("expected", one.expected))
        lines.append(table(told, screen, indent=4))
    return "\n".join(lines)


def _about(entry: Entry) -> str:
    if entry.task is None:
        return f"Broken: {entry.problem}"
    spec = entry.task.spec
    if spec.is_corpus:
        return f"Up to {_longest(spec)} tokens, for objectives that ask something themselves."
    asked = f"{spec.num_classes:,} classes"
    if spec.target != "class":
        asked = _WITHOUT_CLASSES.get(spec.target, f"{asked} a token")
    return (
        f"Up to {_longest(spec)} tokens, {asked}, majority baseline {_majority(spec, 'unknown')}"
        f"{', in no average' if spec.is_diagnostic else ''}."
    )
