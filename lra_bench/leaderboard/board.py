"""What a board compares: which tasks make an average, which settings are no results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lra_bench import plain
from lra_bench.errors import UserError
from lra_bench.paths import conf_dir


@dataclass(frozen=True)
class Average:
    """A mean over tasks; it needs all of them, each on one set of data that is not marked.

    Args:
        name: Heads its column.
        metric: What is averaged.
        tasks: Plain names.
    """

    name: str
    metric: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """How published numbers were made.

    Args:
        name: As published rows call it.
        title: What it is, in words.
        settings: Our settings that follow it; a setting with changed options follows none.
    """

    name: str
    title: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """What is compared.

    Args:
        averages: In the order of their columns.
        same_task: Changes of a task, by option, with which it still is what an average means.
        diagnostics: Plain names of tasks that have a table of their own, and enter no average.
        ask_themselves: Plain names of objectives that ask something of their own about the data
            of a task: what comes out is no result on the task, and stands apart.
        left_out: Plain names of settings that are not shown.
        protocols: Of published numbers, in the order of their tables.
    """

    averages: tuple[Average, ...] = ()
    same_task: tuple[Mapping[str, Any], ...] = ()
    diagnostics: tuple[str, ...] = ()
    ask_themselves: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    protocols: tuple[Protocol, ...] = ()

    def counts_as(self, task: str, objective: str, changes: Mapping[str, Any]) -> str | None:
        """Return the task that averages take this one for, or None if they know none.

        Args:
            task: Plain name.
            objective: Plain name.
            changes: All changes of the run, by dotted key.
        """
        if task in self.diagnostics or objective in self.ask_themselves:
            return None
        own = {
            key.removeprefix("task."): value
            for key, value in changes.items()
            if key.startswith("task.")
        }
        return task if not own or own in self.same_task else None

    def place_of(self, task: str) -> int:
        """Return where a task stands: those of averages in their order, then all others."""
        tasks = list(dict.fromkeys(name for average in self.averages for name in average.tasks))
        return tasks.index(task) if task in tasks else len(tasks)


def read_board(path: Path | None = None) -> Board:
    """Read what is compared.

    Args:
        path: A YAML file; by default that of Long Range Arena.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    path = conf_dir() / "board" / "lra.yaml" if path is None else path
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    kinds: dict[str, Any] = {
        "averages": Mapping[str, Mapping[str, Any]],
        "same_task": Sequence[Mapping[str, Any]],
        "diagnostics": Sequence[str],
        "ask_themselves": Sequence[str],
        "left_out": Sequence[str],
        "protocols": Mapping[str, Mapping[str, Any]],
    }
    content = _checked(content, kinds, str(path))
    diagnostics = tuple(content["diagnostics"])
    averages, protocols = [], []
    for name, of in content["averages"].items():
        where = f"{path}: averages.{name}"
        of = _checked(of, {"metric": str, "tasks": Sequence[str]}, where)
        if barred := sorted(set(of["tasks"]) & set(diagnostics)):
            raise UserError(f"{where} holds {barred[0]}, which is among the diagnostics")
        averages.append(Average(name, of["metric"], tuple(of["tasks"])))
    for name, of in content["protocols"].items():
        of = _checked(of, {"title": str, "settings": Sequence[str]}, f"{path}: protocols.{name}")
        protocols.append(Protocol(name, of["title"], tuple(of["settings"])))
    return Board(
        tuple(averages),
        tuple(content["same_task"]),
        diagnostics,
        tuple(content["ask_themselves"]),
        tuple(content["left_out"]),
        tuple(protocols),
    )


def _checked(content: Any, kinds: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return an object that has the keys, and no others, of these kinds."""
    if not isinstance(content, Mapping) or set(content) != set(kinds):
        raise UserError(f"{where} must have the keys {', '.join(kinds)}, and no others")
    for key, hint in kinds.items():
        if not plain.fits(content[key], hint):
            raise UserError(f"{where}: {key} must be {plain.in_words(hint)}")
    return content
