"""Runs that began from another: what may be one cell, what they cost in all, what that buys.

A pretrained model and one from scratch are never in one table. They stand side by side in one
place alone: where both made as many updates in all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lra_bench import identity
from lra_bench.identity import NAMES
from lra_bench.leaderboard.collect import CELL, Pretraining, Run
from lra_bench.leaderboard.escape import line
from lra_bench.leaderboard.statistics import mean_of_all, summarize

LENGTH = "train.num_steps"
# Words of a command that say what it begins from, or that a run from scratch says anew.
_NOT_FROM_SCRATCH = ("init_from", "init_positions", LENGTH, "seed")


def mixed(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what the pretrainings of a cell have not in common and must have."""
    if len({run.parent is None for run in runs}) > 1:
        yield "parent, which some have and some have not"
    parents = _parents(runs)
    if len({parent.config_sha256 for parent in parents}) > 1:
        yield "pretraining.config_sha256"
    if len({parent.num_steps for parent in parents}) > 1:
        yield "pretraining.num_steps"
    if len({parent.run_id.rpartition("-")[2] for parent in parents}) > 1:
        yield "pretraining.run_id, for other data"
    elif len({parent.seed for parent in parents}) < len(parents):
        yield "pretraining.run_id, for the same seed of pretraining"


def _parents(runs: Sequence[Run]) -> list[Pretraining]:
    """Return the distinct runs that some began from."""
    found = {run.pretraining.run_id: run.pretraining for run in runs if run.pretraining}
    return list(found.values())


def costs_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the runs of a cell cost together with those that they began from.

    Args:
        runs: Of one cell, all of them.
    """
    completed = [run for run in runs if run.status == "completed"]
    num_steps = runs[0].config.get(LENGTH)
    costs: dict[str, Any] = {
        "num_steps": num_steps if type(num_steps) is int else None,
        "num_pretrainings": len(_parents(completed)),
        "pretraining_steps": None,
        "pretraining_seconds_mean": None,
        "total_steps": None,
        "total_train_seconds_mean": None,
        "test_std_of_runs": None,
    }
    if parents := _parents(runs):
        before = mean_of_all([parent.train_seconds for parent in _parents(completed)])
        own = mean_of_all([run.train_seconds for run in completed])
        costs |= {
            "pretraining_steps": parents[0].num_steps,
            "pretraining_seconds_mean": before,
            "test_std_of_runs": summarize(run.test for run in completed).std,
        }
        if costs["num_steps"] is not None:
            costs["total_steps"] = parents[0].num_steps + costs["num_steps"]
        if before is not None and own is not None:
            costs["total_train_seconds_mean"] = before + own
    return costs


def equal_in_cost(
    rows: Sequence[Mapping[str, Any]], runs: Mapping[tuple[str, ...], Sequence[Run]]
) -> list[dict[str, Any]]:
    """Return the pretrained cells, each with the one from scratch that made as many updates.

    That is the cell of the same model, task, data, objective and setting, changes included, but
    for the number of updates, which is that of pretraining and fine-tuning together.

    Args:
        rows: All cells.
        runs: The runs of each.

    Returns:
        The values of `CELL`; ``total_steps``; ``scratch_setting``, the setting of the cell from
        scratch, and nothing if there is none; ``command``, which makes it then.
    """
    pretrained = [row for row in rows if row["total_steps"] and not row["is_pretraining"]]
    if not pretrained:
        return []
    scratch: dict[tuple[Any, ...], str] = {}
    for row in rows:
        if row["pretraining_steps"] is None:
            key = _with_as_many(row, runs, row["num_steps"])
            scratch.setdefault(key, row["setting"])
    found = []
    for row in pretrained:
        setting = scratch.get(_with_as_many(row, runs, row["total_steps"]), "")
        command = "" if setting else _from_scratch(runs[_key(row)], row["total_steps"])
        found.append(
            {
                **{name: row[name] for name in CELL},
                "total_steps": row["total_steps"],
                "scratch_setting": setting,
                "command": command,
            }
        )
    return found


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in CELL)


def _with_as_many(
    row: Mapping[str, Any], runs: Mapping[tuple[str, ...], Sequence[Run]], num_steps: int | None
) -> tuple[Any, ...]:
    """Return what tells a cell from others if it is from scratch and makes so many updates."""
    first = runs[_key(row)][0]
    changes = {key: value for key, value in first.changes.items() if key != LENGTH}
    labels = identity.labels(dict(zip(NAMES, first.names, strict=True)), changes)
    return (*(labels[name] for name in NAMES), row["data"], row["metric"], num_steps)


def _from_scratch(runs: Sequence[Run], num_steps: int) -> str:
    """Return the command of the same runs from scratch, with more updates; nothing if unknown."""
    try:
        words = shlex.split(runs[0].command)
    except ValueError:
        return ""
    if words[:2] != ["lra-bench", "run"]:
        return ""
    kept = [word for word in words[2:] if word.partition("=")[0] not in _NOT_FROM_SCRATCH]
    seeds = ",".join(str(run.seed) for run in runs)
    several = ["-m"] if len(runs) > 1 else []
    new = [f"{LENGTH}={num_steps}", f"seed={seeds}"]
    return line(shlex.join([*words[:2], *several, *kept, *new]))
