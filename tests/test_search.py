"""A search goes on where it was, looks at validation alone, and ends in a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Compose

from lra_bench import search
from lra_bench.compose import compose
from lra_bench.errors import UserError

optuna = pytest.importorskip("optuna")

SPACE = ["train.learning_rate=tag(log,interval(1e-4,1e-2))", "head.pooling=choice(mean,first)"]


def begun(tmp_path: Path, *more: str) -> search.Search:
    words = ["task=listops", "model=local", "setting=smoke", f"results_dir={tmp_path}"]
    return search.begin([*words, "hydra/sweeper=optuna", *SPACE, *more])


def study_of(one: search.Search) -> Any:
    return optuna.load_study(study_name=one.name, storage=one.storage)


def told(words: list[str], key: str) -> str:
    (value,) = [
        word.partition("=")[2] for word in words if word.startswith(f"hydra.sweeper.{key}=")
    ]
    return value


def test_the_same_line_is_the_same_search(tmp_path: Path) -> None:
    one = begun(tmp_path)
    assert one.name == begun(tmp_path, "hydra.sweeper.n_trials=7", "hydra/launcher=joblib").name
    assert one.name != begun(tmp_path, "seed=1").name
    assert one.name != begun(tmp_path, "train.beta1=interval(0.8,0.9)").name
    assert begun(tmp_path, "hydra.sweeper.study_name=mine").name == "mine"
    assert one.storage == f"sqlite:///{tmp_path}/searches/{one.name}.db"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("hydra.sweeper.study_name=a/b", "letters, digits"),
        ("hydra.sweeper.n_trials=many", "n_trials=many is not a whole number"),
        ("train.stepss=3", "did you mean train.num_steps"),
        ("train.stepss=interval(1,3)", "did you mean train.num_steps"),
    ],
)
def test_mistakes_are_found_before_the_first_run(tmp_path: Path, word: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        begun(tmp_path, word)
    assert not list(tmp_path.iterdir())


def test_what_is_left_is_done_and_what_was_under_way_comes_first(tmp_path: Path) -> None:
    one = begun(tmp_path, "hydra.sweeper.n_trials=5", "hydra.sweeper.sampler.seed=10")
    with one.lock():
        words = one.words_for_what_is_left()
        assert (told(words, "n_trials"), told(words, "sampler.seed")) == ("5", "10")
        with pytest.raises(UserError, match="is under way in another process"), one.lock():
            pass
    study = study_of(one)
    space = {
        "train.learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "head.pooling": optuna.distributions.CategoricalDistribution(["mean", "first"]),
    }
    for value in (0.25, None):
        trial = study.ask(space)
        study.tell(trial, value, state=None if value else optuna.trial.TrialState.FAIL)
    killed = study.ask(space)
    words = one.words_for_what_is_left()
    # One has a result and one failed.
    assert (told(words, "n_trials"), told(words, "sampler.seed")) == ("3", "12")
    again = study_of(one).ask(space)
    assert again.params == killed.params
    study.tell(again.number, 0.5)
    # Nothing is counted twice.
    words = one.words_for_what_is_left()
    assert told(words, "n_trials") == "2"
    text, found = one.conclude()
    assert found
    assert text.startswith(f"search {one.name}: 2 done, 1 failed; best on validation: 0.5000 with ")
    best = compose(
        ["task=listops", "model=local", f"setting={one.name}"], config_dirs=[one.folder]
    ).config
    assert best.train.learning_rate == killed.params["train.learning_rate"]
    assert best.head.pooling == killed.params["head.pooling"]
    for _ in range(2):
        study.tell(study.ask(space), 0.1)
    assert one.words_for_what_is_left() == []


def test_where_nothing_was_found_that_is_said(tmp_path: Path) -> None:
    one = begun(tmp_path)
    one.folder.mkdir(parents=True)
    text, found = one.conclude()
    assert not found
    assert text.endswith("nothing was found")


def test_a_setting_holds_all_that_a_run_had(tmp_path: Path, smoke: Compose) -> None:
    request = smoke(
        "model.block_size=8", "train.beta2=0.9", "task.num_train=100", model="ernie_sparse"
    )
    search.write_setting(request, tmp_path, "found")
    again = compose(["task=listops", "model=ernie_sparse", "setting=found"], config_dirs=[tmp_path])
    assert again.sections == request.sections
    assert again.changes == {}
