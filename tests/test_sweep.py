"""Sweeps: which runs there are, and handing them to Hydra."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lra_bench import sweep
from lra_bench.errors import UserError

RUN = ["task=listops", "setting=smoke"]


def test_every_combination_is_expanded() -> None:
    words = sweep.spelt_out([*RUN, "model=glob([loc*,trans*],exclude=x*)", "seed=range(0,3)"])
    requests = sweep.expand(words)
    assert [(request.names["model"], request.config.seed) for request in requests] == [
        (model, seed) for model in ("local", "transformer") for seed in (0, 1, 2)
    ]
    assert len({request.request_id for request in requests}) == 6


def test_words_about_hydra_are_no_part_of_a_run() -> None:
    words = [*RUN, "model=local", "seed=0,1", "hydra/launcher=basic", "hydra.sweep.dir=x"]
    assert len(sweep.expand(sweep.spelt_out(words))) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=local", "seed=0,1,x"], "seed=x is not a whole number"),
        (["model=local,nothing"], "no model 'nothing'"),
        (["model=glob(nothing*)"], "matches no model"),
        (["model=local", "seed=interval(0,1)"], "cannot sweep"),
        (["model=local", "seed"], "cannot read 'seed'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_in_any_run_is_found_before_the_first(words: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        sweep.expand(sweep.spelt_out([*RUN, *words]))


def test_globs_match_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/local2.yaml").write_text("_target_: x.Y\n")
    words = sweep.spelt_out([*RUN, "model=glob(loc*)"], config_dirs=[tmp_path])
    assert words[-1] == "model=local,local2"
    requests = sweep.expand(words, config_dirs=[tmp_path])
    assert [request.config.model["_target_"] for request in requests][1] == "x.Y"


def test_a_sweeper_that_searches_chooses_itself() -> None:
    assert sweep.chooses_itself([*RUN, "hydra/sweeper=optuna"])
    assert not sweep.chooses_itself([*RUN, "hydra/launcher=joblib"])


def launched(tmp_path: Path, words: Sequence[str], failing: str = "") -> list[list[str]]:
    """Return the words of the runs that Hydra has started."""
    started: list[list[str]] = []

    def job(run: Sequence[str]) -> float:
        started.append(list(run))
        if failing in run:
            raise sweep.RunFailed(failing)
        return 0.5

    words = sweep.spelt_out([*RUN, f"results_dir={tmp_path / 'odd,(name)'}", *words])
    try:
        sweep.launch(words, job)
    finally:
        assert [Path(path).name for path in tmp_path.iterdir()] in ([], ["odd,(name)"])
    return started


def test_each_run_is_given_its_own_words(tmp_path: Path) -> None:
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    started = launched(tmp_path, ["model=local,transformer", "seed=1,2"])
    assert [run[-2:] for run in started] == [
        [f"model={model}", f"seed={seed}"] for model in ("local", "transformer") for seed in (1, 2)
    ]
    # The folder is still one word, and Hydra has left the process as it was.
    (request,) = {str(sweep.expand([*run])[0].config.results_dir) for run in started}
    assert request == str(tmp_path / "odd,(name)")
    assert (sys.argv, os.environ.get("HYDRA_FULL_ERROR")) == before


def test_a_run_that_fails_is_told_at_the_end(tmp_path: Path) -> None:
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    with pytest.raises(sweep.RunFailed):
        launched(tmp_path, ["model=local", "seed=1,2"], failing="seed=2")
    assert (sys.argv, os.environ.get("HYDRA_FULL_ERROR")) == before


def test_workers_share_the_cores() -> None:
    parallel = [*RUN, "hydra/launcher=joblib"]
    for words, threads in (
        (parallel, 1),
        ([*parallel, "hydra.launcher.n_jobs=2"], 4),
        ([*parallel, "hydra.launcher.n_jobs=-2"], 1),
        ([*parallel, "hydra.launcher.n_jobs=100"], 1),
        ([*parallel, "hydra.launcher.n_jobs=2", "num_processes=2"], 2),
    ):
        assert sweep.for_launcher(words, 8) == [*words, f"num_threads={threads}", "quiet=true"]
    own = [*parallel, "num_threads=3", "quiet=false"]
    assert sweep.for_launcher(own, 8) == own
    assert sweep.for_launcher(RUN, 8) == RUN


def test_a_job_that_a_cluster_has_lost_is_a_worker_that_died(tmp_path: Path) -> None:
    utils = pytest.importorskip("submitit.core.utils")
    words = sweep.spelt_out([*RUN, f"results_dir={tmp_path}", "model=local", "seed=1,2"])

    def launch(error: Exception) -> None:
        def job(run: Sequence[str]) -> float:
            raise error

        sweep.launch(words, job)

    with pytest.raises(sweep.WorkerDied):
        launch(utils.UncompletedJobError("Job 7 has not produced any output"))
    with pytest.raises(RuntimeError, match="a defect"):
        launch(RuntimeError("a defect"))
