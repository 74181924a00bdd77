"""From files to runs: every run once, files that are no records named.

What is kept of a record is what the tables need; texts and configurations that many records
share are kept once, so that a hundred thousand records fit into memory.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra_bench import plain
from lra_bench import record as records
from lra_bench.errors import UserError
from lra_bench.identity import NAMES
from lra_bench.leaderboard.board import Board
from lra_bench.leaderboard.escape import line
from lra_bench.leaderboard.statistics import is_at_baseline
from lra_bench.metrics import metric
from lra_bench.record import BadRecord, RunRecord

# What tells one cell from another: names with what was changed about them, and the data.
CELL = (*NAMES, "data")
_NO_CHANGES: Mapping[str, Any] = {}
# No honest record is larger [bytes].
_LARGEST_FILE = 50_000_000


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What the tables need of the run that another one began from; see `record.PRETRAINING`."""

    run_id: str
    config_sha256: str
    seed: int
    num_steps: int
    train_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the tables need of a record.

    Args:
        cell: The cell that it belongs to, in the order of `CELL`.
        names: Plain names, in the order of `NAMES`.
        counts_as: The task that averages take its task for.
        warning: Why the data are not the set that the task's name promises, or nothing.
        is_official: Whether the data are the promised set, or a known copy of it.
        metric: The metric that ranks.
        test: Its value on test; None unless the run completed.
        validation: Likewise on validation.
        num_test_examples: Examples of the test split.
        baselines: What simple methods reach on the test split, by name.
        at_baseline: Whether it is no better than always giving the most frequent answer.
        config: Leaves of the configuration by dotted key; shared, not to be changed.
        changes: What was changed about the names, by dotted key; shared likewise.
        pretraining: What it began from, with the stages before; None if from fresh weights.
        torch: Version of PyTorch.
        steps: Where the curve was measured [updates].
        curve: The ranking metric on validation there.
        path: The file.
    """

    cell: tuple[str, ...]
    names: tuple[str, ...]
    counts_as: str | None
    warning: str
    is_official: bool
    metric: str
    test: float | None
    validation: float | None
    num_test_examples: int | None
    baselines: tuple[tuple[str, float], ...]
    at_baseline: bool
    config: Mapping[str, Any]
    changes: Mapping[str, Any]
    pretraining: Pretraining | None
    torch: str
    steps: Sequence[float]
    curve: Sequence[float]
    path: Path
    # As recorded.
    run_id: str
    seed: int
    status: str
    error: str | None
    parent: str | None
    majority_baseline: float | None
    num_parameters: int | None
    encoder_passes_per_step: int | None
    train_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    device: str
    data_sha256: str
    git_commit: str | None
    git_dirty: bool | None
    command: str
    started_at: str


_OF_A_PARENT = tuple(Pretraining.__slots__)
_AS_RECORDED = tuple(Run.__slots__[Run.__slots__.index("run_id") :])


@dataclass(frozen=True)
class Collection:
    """What lay below the results folders.

    Args:
        runs: Every run once, in the order of their paths.
        skipped: Files that are no records, or repeat one, and why; the text follows "it".
    """

    runs: list[Run]
    skipped: dict[Path, str]


@dataclass(frozen=True)
class Reader:
    """Makes runs of records; equal content is shared among them.

    Args:
        board: What is compared.
    """

    board: Board
    _texts: dict[Any, Any] = field(default_factory=dict)
    _configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _changes: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def run(self, record: RunRecord, path: Path = Path()) -> Run:
        """Return what is kept of a record.

        Raises:
            UserError: There is no metric of the name that ranks.
        """
        ranking = metric(record.ranking_metric).name
        values, of = record.metrics[ranking], record.test
        recorded = {name: getattr(record, name) for name in _AS_RECORDED}
        recorded["device"] = self._once(line(record.device))
        recorded["error"] = None if record.error is None else line(record.error)
        steps, curve = _curve(record)
        return Run(
            **recorded,
            cell=self._once(cell_of(record)),
            names=self._once(tuple(record.names.values())),
            counts_as=self.board.counts_as(record.task, record.objective, record.changes),
            warning=self._once(line(record.data["warning"] or record.data["note"])),
            is_official=not record.data["warning"],
            metric=self._once(ranking),
            test=values["test"],
            validation=values["validation"],
            num_test_examples=None if of is None else of.num_examples,
            baselines=self._once(
                tuple(
                    (line(name), value) for name, value in record.data.get("baselines", {}).items()
                )
            ),
            at_baseline=of is not None and is_at_baseline(of, ranking, record.majority_baseline),
            config=self._config(record),
            changes=self._change(record),
            pretraining=self._pretraining(record),
            torch=self._once(line(record.versions.get("torch", ""))),
            steps=self._once(steps),
            curve=array("d", curve),
            path=path,
        )

    def _once(self, content: Any) -> Any:
        return self._texts.setdefault(content, content)

    def _config(self, record: RunRecord) -> Mapping[str, Any]:
        key = json.dumps(record.config)
        if key not in self._configs:
            self._configs[key] = dict(plain.leaves(record.config))
        return self._configs[key]

    def _change(self, record: RunRecord) -> Mapping[str, Any]:
        if not record.changes:
            return _NO_CHANGES
        return self._changes.setdefault(json.dumps(record.changes), record.changes)

    def _pretraining(self, record: RunRecord) -> Pretraining | None:
        of = record.pretraining
        if of is None:
            return None
        found: Pretraining = self._once(Pretraining(**{name: of[name] for name in _OF_A_PARENT}))
        return found


def runs_of(made: Iterable[RunRecord], board: Board) -> list[Run]:
    """Return what the tables need of records that are in memory."""
    reader = Reader(board)
    return [reader.run(record) for record in made]


def collect(results_dirs: Iterable[Path], board: Board) -> Collection:
    """Read all records below the folders; the same run met twice counts once."""
    reader = Reader(board)
    runs: dict[str, Run] = {}
    skipped: dict[Path, str] = {}
    for path, why in _files(results_dirs):
        try:
            run = None if why else reader.run(records.read(path), path)
        except BadRecord as error:
            why = str(error)
        except UserError as error:
            why = f"cannot be ranked by this program: {error}"
        if why:
            skipped[path] = why
            continue
        assert run is not None
        known = runs.setdefault(run.run_id, run)
        if known is run:
            continue
        # Of two tries at the same run, the one with a result counts.
        if known.status == "failed" and run.status != "failed":
            runs[run.run_id], run, known = run, known, run
        skipped[run.path] = _repeats(run, known)
    return Collection(sorted(runs.values(), key=lambda run: (run.cell, run.seed)), skipped)


def _files(results_dirs: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the files below results folders, and what keeps one from being looked into."""
    for results_dir in results_dirs:
        for base, folders, names in os.walk(results_dir / "runs"):
            folders.sort()
            for path in (Path(base, name) for name in folders):
                if path.is_symlink():
                    yield path, "is a link to a folder, and those are not followed"
            for name in sorted(names):
                path = Path(base, name)
                if not name.endswith(".json") or name.startswith("."):
                    yield path, "is not a run record: its name does not end in .json"
                elif not path.is_file():
                    yield path, "is not a run record: it is no file"
                elif path.stat().st_size > _LARGEST_FILE:
                    yield path, "is not a run record: it is too large to be one"
                else:
                    yield path, ""


def _repeats(run: Run, known: Run) -> str:
    """Say what a second record of a run has to say."""
    if known.status != run.status:
        return f"is another try at run {run.run_id}, and {known.path} counts"
    if (known.test, known.validation) == (run.test, run.validation):
        return f"repeats run {run.run_id} of {known.path}, which counts"
    return (
        f"contradicts {known.path}, which counts: of run {run.run_id} it has {run.metric} "
        f"{run.test}, not {known.test}"
    )


def cell_of(record: RunRecord) -> tuple[str, ...]:
    """Return the cell that a run belongs to, in the order of `CELL`."""
    labels = record.labels
    return (*(line(labels[name]) for name in NAMES), _data_name(record))


def _data_name(record: RunRecord) -> str:
    """Return the name of the data in tables: two sets that are not the official one differ."""
    name = line(record.data["source"]) or "unknown"
    if record.data["warning"]:
        name += f", SHA-256 {record.data_sha256[:8]}"
    return name


def _curve(record: RunRecord) -> tuple[tuple[float, ...], list[float]]:
    """Return the steps and values of the learning curve; what is no number is left out."""
    key = f"validation_{record.ranking_metric}"
    points: list[tuple[Any, Any]] = [(row.get("step"), row.get(key)) for row in record.curve]
    known = [
        (float(step), float(value))
        for step, value in points
        if plain.fits(step, float) and plain.fits(value, float)
    ]
    return tuple(step for step, _ in known), [value for _, value in known]
