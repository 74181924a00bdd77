"""Sweeps: what runs there are, and handing them to Hydra.

Hydra's sweepers choose the runs and its launchers say where they run. What a run does is handed in.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lra_bench.compose import Request, compose
from lra_bench.errors import UserError
from lra_bench.hardware import num_cores
from lra_bench.paths import conf_dir
from lra_bench.words import expand_sweep, quote_paths, search_words, spell_out_globs

# Does a run, given its words, and returns what a sweeper that searches maximizes.
Job = Callable[[Sequence[str]], float]

_SWEEPER, _LOGGING = "hydra/sweeper=", "hydra/job_logging="
_LAUNCHER = "hydra/launcher"
EXTRA = "pip install 'lra_bench[sweeps]'"


class WorkerDied(Exception):
    """A process that did runs of a sweep was killed."""


class RunFailed(Exception):
    """A run of a sweep ended without a result, and has said so.

    An exception, because that is what every launcher carries back from where the run was.
    """


def spelt_out(words: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the words of a sweep as Hydra can take them: folders quoted, names for globs.

    Raises:
        UserError: A word cannot be parsed, or nothing matches.
    """
    return spell_out_globs(quote_paths(words), config_dirs)


def chooses_itself(words: Sequence[str]) -> bool:
    """Return whether a sweeper was asked for that chooses its runs as it goes."""
    return any(word.startswith(_SWEEPER) for word in words)


def expand(words: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> list[Request]:
    """Compose every run of a sweep over listed values, so that no mistake is found in the last.

    Args:
        words: As `spelt_out` returns them.
        config_dirs: Folders that are searched besides ``conf/``.

    Raises:
        UserError: A run cannot be composed.
    """
    return [compose(run, config_dirs=config_dirs) for run in expand_sweep(words)]


def for_launcher(words: Sequence[str], cores: int | None = None) -> list[str]:
    """Return the words of a sweep with what runs side by side on this machine need.

    They share its cores instead of fighting for them, and do not draw bars into one another.

    Args:
        words: As `spelt_out` returns them.
        cores: Of the machine; None to ask it.
    """
    options = dict(word.split("=", 1) for word in words)
    if options.get(_LAUNCHER) != "joblib":
        return list(words)
    each = options.get("num_processes", "1")
    shares = num_workers(words, cores) * (int(each) if re.fullmatch(r"[1-9]\d{0,3}", each) else 1)
    more = {"num_threads": str(max(1, (cores or num_cores()) // shares)), "quiet": "true"}
    return [*words, *(f"{key}={value}" for key, value in more.items() if key not in options)]


def num_workers(words: Sequence[str], cores: int | None = None) -> int:
    """Return how many runs a sweep does side by side on this machine.

    Args:
        words: As `spelt_out` returns them.
        cores: Of the machine; None to ask it.
    """
    options = dict(word.split("=", 1) for word in words)
    if options.get(_LAUNCHER) != "joblib":
        return 1
    asked = options.get("hydra.launcher.n_jobs", "-1")
    jobs = int(asked) if re.fullmatch(r"-?[1-9]\d*", asked) else -1
    # Below zero it counts from the number of cores down, -1 being all.
    return jobs if jobs > 0 else max(1, (cores or num_cores()) + 1 + jobs)


def launch(words: Sequence[str], job: Job, *, config_dirs: Sequence[Path] = ()) -> None:
    """Hand a sweep to Hydra.

    Args:
        words: As `spelt_out` returns them.
        job: Does a run; a launcher may send it to another process or machine.
        config_dirs: Folders that are searched besides ``conf/``.

    Raises:
        RunFailed: A run had no result; the others were done all the same.
        WorkerDied: A process that did runs was killed, which ends all runs under way.
        UserError: The launcher or sweeper is not there, or does not take its options.
    """
    import hydra
    from hydra.errors import HydraException

    def do(_: Any) -> float:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        # As they were written: a folder may have a name that would be read as an interpolation.
        run = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
        assert isinstance(run, list)
        return job([str(word) for word in run])

    line = ["lra-bench", "-m", *words, *search_words(config_dirs)]
    if not any(word.startswith(_LOGGING) for word in words):
        # What a run has to say is in its record; an empty log file a run would be in the way, and
        # has a name that Hydra reads `${` in.
        line.append(f"{_LOGGING}none")
    try:
        with _command_line(line):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="run")(do)()
    except BrokenExecutor as error:
        raise WorkerDied from error
    except RuntimeError as error:
        # Not imported for it: who uses another launcher need not have it.
        if type(error).__module__.split(".")[0] != "submitit":
            raise
        raise WorkerDied from error
    except HydraException as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{first}; launchers and sweepers come with {EXTRA}") from error


@contextmanager
def _command_line(line: list[str]) -> Iterator[None]:
    """Give Hydra its command line in the only way that it takes one, and have errors come back."""
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Otherwise it ends the process with a traceback of its own.
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = line, "1"
    try:
        yield
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
