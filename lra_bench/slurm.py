"""Jobs of a cluster: handing runs to Slurm by submitit, and what has become of the jobs.

Hydra's launcher for submitit tells which options there are. It is not asked to launch: it gives up
all jobs of a sweep with the first that is lost, and hands out again what has been done.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lra_bench import words
from lra_bench.errors import UserError

LAUNCHER = "hydra/launcher=submitit_slurm"
_WORD = "hydra/launcher="
_OTHERS = ("basic", "joblib", "ray", "submitit_local")
EXTRA = "pip install 'lra_bench[slurm]'"
# Slurm takes no longer arrays unless its MaxArraySize has been raised.
_MAX_ARRAY = 1000
# A state of ours: in the queue, and Slurm does not start it until somebody says so.
HELD = "HELD"
_ACTIVE = {
    HELD,
    *("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING"),
    *("STAGE_OUT", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
    *("RESV_DEL_HOLD", "REVOKED"),
}
# Options of Hydra's launcher that submitit calls the same on every cluster; the others are Slurm's.
_COMMON = {
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"),
    *("name", "stderr_to_stdout"),
}
_NOT_OF_A_JOB = {"_target_", "submitit_folder", "max_num_timeout"}


class Refused(UserError):
    """Slurm did not take a job."""


def is_asked_for(
    asked: Sequence[str], run: Sequence[str], config_dirs: Sequence[Path] = ()
) -> bool:
    """Return whether words ask for jobs of Slurm, by Hydra's launcher or one made of it.

    Args:
        asked: The words of a sweep, as `sweep.spelt_out` returns them.
        run: The words of one of its runs.
        config_dirs: Folders that are searched besides ``conf/``.

    Raises:
        UserError: There is no such launcher.
    """
    names = [word.removeprefix(_WORD) for word in asked if word.startswith(_WORD)]
    if not names or names[-1] in _OTHERS:
        return False
    return str(_options(asked, run, config_dirs).get("_target_")).endswith(".SlurmLauncher")


def has_ended(state: str | None) -> bool:
    """Return whether a job has ended, by its state; Slurm forgets those that ended a while ago."""
    return state not in _ACTIVE


class Queue:
    """Slurm, with the options of the jobs of a sweep.

    Args:
        asked: The words of the sweep, as `sweep.spelt_out` returns them.
        run: The words of one of its runs.
        config_dirs: Folders that are searched besides ``conf/``.

    Raises:
        UserError: The launcher is not there, or does not take its options; or there is no Slurm.
    """

    def __init__(
        self, asked: Sequence[str], run: Sequence[str], config_dirs: Sequence[Path] = ()
    ) -> None:
        options = _options(asked, run, config_dirs)
        self.folder = Path(options["submitit_folder"])
        import submitit

        named = {
            name if name in _COMMON else f"slurm_{name}": value
            for name, value in options.items()
            if name not in _NOT_OF_A_JOB and value is not None
        }
        try:
            self.executor = submitit.AutoExecutor(self.folder, cluster="slurm")
            self.executor.update_parameters(**named)
        except (RuntimeError, ValueError, TypeError, NameError) as error:
            raise UserError(f"{LAUNCHER}: {_first_line(error)}") from error

    def submit(self, job: Callable[[Any], Any], runs: Sequence[Any]) -> list[str]:
        """Return the jobs, as Slurm calls them, that will do ``job(run)`` for each run.

        Raises:
            Refused: Slurm does not take them.
        """
        import submitit

        ids = []
        for start in range(0, len(runs), _MAX_ARRAY):
            try:
                jobs = self.executor.map_array(job, runs[start : start + _MAX_ARRAY])
            except (submitit.core.utils.FailedJobError, subprocess.SubprocessError) as error:
                raise Refused(f"Slurm does not take the jobs: {_said(error)}") from error
            ids += [str(one.job_id) for one in jobs]
        return ids

    def log(self, job: str) -> Path:
        """Return the file that holds what a job has said."""
        return Path(str(self.folder).replace("%j", job)) / f"{job}_0_log.err"

    def states(self) -> dict[str, str] | None:
        """Return the state of each job that Slurm still knows of; None if it does not answer.

        One in the queue that waits for somebody to release it is `HELD`.
        """
        told = _call("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r")
        if told is None:
            return None
        found = {}
        for line in told.splitlines():
            job, state, reason = [*line.strip().split("|", 2), "", ""][:3]
            if state:
                found[job] = HELD if state == "PENDING" and "held" in reason.lower() else state
        return found

    def stop(self, jobs: Iterable[str]) -> None:
        """Take jobs that wait out of the queue, and ask those that run to save and to end."""
        if listed := list(jobs):
            _call("scancel", "--state=PENDING", *listed)
            # Goes to what the script of a job has started, not to the script.
            _call("scancel", "--state=RUNNING", "--signal=USR1", *listed)


def _options(
    asked: Sequence[str], run: Sequence[str], config_dirs: Sequence[Path]
) -> dict[str, Any]:
    """Return the options of the jobs as Hydra composes them.

    Raises:
        UserError: It cannot.
    """
    own = [str(item.input_line) for item in words.parse(asked) if words.for_hydra(item)]
    try:
        with words.hydra_at(config_dirs) as search:
            made = hydra_compose("run", [*run, *own, *search], return_hydra_config=True)
        options = OmegaConf.to_container(made.hydra.launcher, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        # The second line is the remedy, where there is one.
        why = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise UserError(
            f"{why.rstrip('.')}; {LAUNCHER} comes with {EXTRA}, other launchers and sweepers with "
            f"lra_bench[sweeps] and lra_bench[ray]"
        ) from error
    assert isinstance(options, dict)
    return {str(name): value for name, value in options.items()}


def _call(*command: str) -> str | None:
    """Return what a command of Slurm prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _said(error: Exception) -> str:
    """Return the line of an error in which sbatch says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("sbatch: error:")]
    return (own or lines or [type(error).__name__])[-1].removeprefix("sbatch: error:").strip()
