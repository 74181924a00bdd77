"""Searching for options: a study in a file, which goes on where it was, and its best as a setting.

Optuna proposes, through Hydra's sweeper, and is told the validation result of a run. The file is a
database below ``searches/`` in the results folder; one process at a time writes to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lra_bench import files, locks
from lra_bench.compose import Request, compose
from lra_bench.errors import UserError
from lra_bench.identity import hash_of
from lra_bench.sweep import EXTRA, num_workers
from lra_bench.words import for_hydra, parse

if TYPE_CHECKING:
    import optuna

_PREFIX = "hydra.sweeper."
_NUM_TRIALS = 20
# Attribute of a trial: the number of one that was interrupted, whose place it takes.
_INSTEAD_OF = "instead_of"
# A failed run is one point less, not the end of the search.
_ALWAYS = {"direction": "maximize", "max_failure_rate": "1.0"}
# Samplers that draw, and can be told with what.
_SEEDED = ("tpe", "random", "cmaes", "nsgaii", "motpe")


@dataclass(frozen=True)
class Search:
    """A search that was asked for.

    Args:
        name: Of the study, and of the setting that comes of it.
        words: What was asked for.
        fixed: Those of them that are the same in all runs, without what is about Hydra.
        results_dir: Where its runs write to.
        storage: The database, as Optuna names it.
        num_trials: Runs in all, those of earlier sessions included.
        seed: Of the sampler.
        config_dirs: Folders that are searched besides ``conf/``.
    """

    name: str
    words: Sequence[str]
    fixed: Sequence[str]
    results_dir: Path
    storage: str
    num_trials: int
    seed: int
    config_dirs: Sequence[Path] = ()

    @property
    def folder(self) -> Path:
        """Where the setting is written to: laid out like ``conf/``."""
        return self.results_dir / "searches" / self.name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from this search.

        Raises:
            UserError: Another process is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = locks.take(self.folder / "lock")
        if lock is None:
            raise UserError(
                f"the search {self.name} is under way in another process; wait for it, or give "
                f"this one a name of its own: {_PREFIX}study_name=NAME"
            )
        try:
            yield
        finally:
            lock.release()

    def words_for_what_is_left(self) -> list[str]:
        """Return the words that make Hydra do the trials that are not there yet; none if all are.

        What an earlier session had begun is proposed again first: those runs go on where they were.
        """
        study = self._study()
        done = self._bring_back_unfinished(study)
        left = self.num_trials - done
        if left < 1:
            return []
        options = {
            **_ALWAYS,
            "study_name": self.name,
            "storage": f"'{self.storage}'",
            "n_trials": str(left),
            "n_jobs": str(num_workers(self.words)),
        }
        sampler = dict(word.split("=", 1) for word in self.words).get(
            "hydra/sweeper/sampler", "tpe"
        )
        if sampler in _SEEDED:
            # The same seed would propose the first points again.
            options["sampler.seed"] = str(self.seed + done)
        kept = [
            word
            for word in self.words
            if word.split("=", 1)[0].removeprefix(_PREFIX) not in set(options) - set(_ALWAYS)
        ]
        given = {word.split("=", 1)[0] for word in kept}
        more = (f"{_PREFIX}{key}={value}" for key, value in options.items())
        return [*kept, *(word for word in more if word.split("=", 1)[0] not in given)]

    def conclude(self) -> tuple[str, bool]:
        """Write the best as a setting; return what to tell, and whether there is a best.

        Raises:
            OSError: The setting cannot be written.
        """
        study = self._study()
        completed, failed = _ended(study)
        told = f"search {self.name}: {completed} done, {failed} failed"
        if not completed:
            return f"{told}; nothing was found", False
        best = study.best_trial
        request = compose(
            [*self.fixed, *(f"{key}={value}" for key, value in best.params.items())],
            config_dirs=self.config_dirs,
        )
        path = write_setting(request, self.folder, self.name)
        chosen = " ".join(f"{key}={value}" for key, value in best.params.items())
        names = " ".join(
            f"{group}={request.names[group]}" for group in ("task", "model", "objective")
        )
        return (
            f"{told}; best on validation: {best.value:.4f} with {chosen}\n"
            f"setting: {path}\n"
            f"run it with new seeds: lra-bench run -m --config-dir {self.folder} {names} "
            f"setting={self.name} seed={request.config.seed + 1},{request.config.seed + 2}"
        ), True

    def _study(self) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            study_name=self.name,
            storage=self.storage,
            direction="maximize",
            load_if_exists=True,
        )

    def _bring_back_unfinished(self, study: optuna.Study) -> int:
        """Propose again what was under way when a session ended; return how many are done."""
        from optuna.trial import TrialState

        completed, failed = _ended(study)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={_INSTEAD_OF: trial.number})
        return completed + failed


def _ended(study: optuna.Study) -> tuple[int, int]:
    """Return how many trials have a result and how many failed, without those done again."""
    from optuna.trial import TrialState

    replaced = {trial.user_attrs.get(_INSTEAD_OF) for trial in study.trials}
    kept = [trial.state for trial in study.trials if trial.number not in replaced]
    return kept.count(TrialState.COMPLETE), kept.count(TrialState.FAIL)


def begin(words: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> Search:
    """Return the search that words ask for.

    Args:
        words: As `sweep.spelt_out` returns them.
        config_dirs: Folders that are searched besides ``conf/``.

    Raises:
        UserError: Optuna is not there, or a word is wrong that is the same in all runs.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(f"hydra/sweeper=optuna needs {EXTRA}") from error
    items = parse(words)
    fixed = [
        str(item.input_line)
        for item in items
        if not for_hydra(item) and not item.is_sweep_override()
    ]
    request = _composed_once(items, fixed, config_dirs)
    options = dict(word.split("=", 1) for word in words if word.startswith(_PREFIX))
    results_dir = Path(request.config.results_dir)
    searched = sorted(str(item.input_line) for item in items if item.is_sweep_override())
    content = {"runs": request.request_id, "searched": searched}
    short = f"{request.names['model']}_{request.names['task']}_{hash_of(content)[:8]}"
    name = options.get(f"{_PREFIX}study_name", short).strip("'\"")
    if not re.fullmatch(r"[\w-]+", name):
        raise UserError(f"{_PREFIX}study_name={name}: letters, digits, _ and - make a name")
    database = (results_dir / "searches" / f"{name}.db").resolve()
    return Search(
        name=name,
        words=words,
        fixed=fixed,
        results_dir=results_dir,
        storage=options.get(f"{_PREFIX}storage", f"sqlite:///{database}").strip("'\""),
        num_trials=_number(options, "n_trials", _NUM_TRIALS),
        seed=_number(options, "sampler.seed", 0),
        config_dirs=config_dirs,
    )


def _composed_once(items: Sequence[Any], fixed: Sequence[str], folders: Sequence[Path]) -> Request:
    """Compose with what is the same in all runs, so that a mistake there is found before the first.

    Raises:
        UserError: There is one.
    """
    stand_ins = []
    for item in items:
        if not item.is_sweep_override() or for_hydra(item):
            continue
        # Of several values the first, of an interval where it begins.
        first = getattr(item.value(), "start", None)
        if first is None:
            first = next(iter(item.sweep_iterator()))
        stand_ins.append(f"{item.get_key_element()}={first}")
    return compose([*fixed, *stand_ins], config_dirs=folders)


def _number(options: Mapping[str, str], key: str, default: int) -> int:
    value = options.get(f"{_PREFIX}{key}", str(default))
    if value == "null":
        return default
    if not re.fullmatch(r"\d{1,9}", value):
        raise UserError(f"{_PREFIX}{key}={value} is not a whole number")
    return int(value)


def write_setting(request: Request, folder: Path, name: str) -> Path:
    """Write the options of a run as a setting, and return its main file.

    Args:
        request: The run.
        folder: Laid out like ``conf/``; to be given as ``--config-dir``.
        name: Of the setting.

    Raises:
        OSError: It cannot be written.
    """
    sections = request.sections
    own = {key: _without_classes(sections[key]) for key in ("task", "model", "objective")}
    shared = {key: sections[key] for key in ("trunk", "head", "train")}
    head = f"# @package _global_\n# Found by the search {name}, by validation alone.\n"
    head += f"# Where it was found: {request.command()}\n"
    names = request.names
    main = folder / "setting" / f"{name}.yaml"
    special = folder / "setting" / name / names["task"] / f"{names['model']}.yaml"
    for path, content in ((main, shared), (special, own)):
        text = yaml.safe_dump({key: value for key, value in content.items() if value})
        files.write_atomically(path, head + text)
    return main


def _without_classes(tree: Any) -> Any:
    """Return options without what Hydra builds objects with."""
    if not isinstance(tree, Mapping):
        return tree
    return {
        key: _without_classes(value) for key, value in tree.items() if not str(key).startswith("_")
    }
