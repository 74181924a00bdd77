"""From words to a request: names, changes, identity; what is wrong is one line."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from lra_bench.compose import Request, compose, compose_task, files_of
from lra_bench.errors import UserError
from lra_bench.paths import conf_dir
from lra_bench.words import expand_sweep, nearest, options, quote_paths, spell_out_globs

BASE = ("task=listops", "model=local", "setting=smoke")


def composed(*words: str) -> Request:
    return compose([*BASE, *words])


def test_names_changes_and_values() -> None:
    request = composed("train.num_steps=9", "model.mixer.block_size=7", "seed=3", "quiet=true")
    assert request.names == {
        "setting": "smoke", "task": "listops", "model": "local", "objective": "cross_entropy",
        "tracker": "none",
    }  # fmt: skip
    assert request.changes == {"train.num_steps": 9, "model.mixer.block_size": 7}
    assert request.labels["setting"] == "smoke(train.num_steps=9)"
    assert request.labels["model"] == "local(block_size=7)"
    assert (request.config.seed, request.config.train.num_steps) == (3, 9)


def test_the_command_asks_for_the_same_run() -> None:
    words = ("train.max_grad_norm=null", "train.learning_rate=1e-5", "model.mixer.layout=strided")
    request = composed(*words, "seed=7")
    program, verb, *repeated = shlex.split(request.command())
    assert (program, verb) == ("lra-bench", "run")
    again = compose(repeated)
    assert again.request_id == request.request_id
    assert (again.config.train, again.config.model) == (request.config.train, request.config.model)


def test_what_can_change_the_number_changes_the_identity_and_nothing_else() -> None:
    own = composed().request_id
    assert len(own) == 16
    for word in (
        "seed=1", "train.num_steps=7", "trunk.width=32", "head.pooling=max",
        "model.mixer.block_size=7", "task.num_train=9", "objective=sar", "train.compile=true",
    ):  # fmt: skip
        assert composed(word).request_id != own, word
    for word in (
        "results_dir=elsewhere", "cache_dir=x", "data_dir=y", "quiet=true", "force=true",
        "wait=false", "device=cpu", "num_threads=2", "checkpoint_seconds=1", "tracker=wandb",
        # Written in another way, the value is the file's own.
        "train.weight_decay=1e-2", "train.num_steps=6",
    ):  # fmt: skip
        assert composed(word).request_id == own, word


def test_where_a_class_lies_is_no_part_of_the_identity() -> None:
    request = composed()
    assert "_target_" in request.sections["model"]
    moved = Request(
        request.config.model_copy(
            update={"model": {**request.config.model, "_target_": "elsewhere.TransformerEncoder"}}
        ),
        request.names,
        request.changes,
        request.words,
    )
    assert moved.request_id == request.request_id


def test_a_whole_number_is_the_same_as_a_fraction_without_one() -> None:
    for first, second in (("objective.alpha=2", "objective.alpha=2.0"), ("seed=0", "seed=0")):
        one, other = (composed("objective=sar", word) for word in (first, second))
        assert one.request_id == other.request_id
        assert one.labels == other.labels
    assert not composed("objective=sar", "objective.alpha=1").changes


def test_composing_a_second_time_sees_what_was_edited(tmp_path: Path) -> None:
    (tmp_path / "setting").mkdir()
    path = tmp_path / "setting/mine.yaml"
    text = (conf_dir() / "setting/smoke.yaml").read_text()
    path.write_text(text)
    words = ["task=listops", "model=local", "setting=mine"]
    first = compose(words, config_dirs=[tmp_path])
    path.write_text(text.replace("width: 16", "width: 24"))
    second = compose(words, config_dirs=[tmp_path])
    assert (first.config.trunk.width, second.config.trunk.width) == (16, 24)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["model=local"], "task= is missing; choose one of "),
        (["task=listops"], "model= is missing; choose one of bigbird, "),
        ([*BASE, "model=locl"], "there is no model 'locl'; did you mean local?"),
        ([*BASE, "train.num_stepss=1"], "'train.num_stepss'; did you mean train.num_steps?"),
        ([*BASE, "trane.num_steps=1"], "there is no option 'trane.num_steps'"),
        ([*BASE, "train.num_steps=abc"], "train.num_steps=abc is not a whole number"),
        ([*BASE, "seed=1,2"], "seed=1,2 lists several values; add -m"),
        (["task=listops,text", "model=local"], "names several; add -m"),
        ([*BASE, "+train.extra=1"], "there is no option 'train.extra'"),
        ([*BASE, "~train.num_steps"], "options can be changed, not added or removed"),
        ([*BASE, "hydra.job.num=3"], "belongs to sweeps; add -m"),
        ([*BASE, "train={"], "cannot read 'train={': expected key=value"),
        ([*BASE, "seed"], "cannot read 'seed'"),
        (["task=listops", "model=local", "setting=lra2021"], "there is no setting 'lra2021'"),
        ([*BASE, "train.num_steps=${nothing}"], "nothing"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], text: str) -> None:
    with pytest.raises(UserError) as caught:
        compose(words)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    ["trunk: [", "- a list", "trunk:\n  wdth: 3\n", "\xff\xfe", "seed: ${a", "defaults: 5"],
)
def test_a_broken_setting_file_is_one_line(tmp_path: Path, broken: str) -> None:
    (tmp_path / "setting").mkdir()
    (tmp_path / "setting/mine.yaml").write_text(f"# @package _global_\n{broken}", "latin-1")
    with pytest.raises(UserError) as caught:
        compose(["task=listops", "model=local", "setting=mine"], config_dirs=[tmp_path])
    assert "\n" not in str(caught.value)


NAMES = [
    "plain", "with blank", "a,b", "a=b", "it's", 'say "hi"', "[x]", "{x}", "a${b}", "a\\${b}",
    "${oc.env:HOME}", "(x)", "a:b", "#x", "ü", "back\\slash", "null_", "~x",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(name: str) -> None:
    request = composed(f"results_dir=/somewhere/{name}")
    assert request.config.results_dir == f"/somewhere/{name}"
    # As a sweep hands it on.
    (again,) = quote_paths([f"results_dir=/somewhere/{name}"])
    assert composed(again).config.results_dir == f"/somewhere/{name}"


def test_folders_of_configurations_may_hold_what_editors_leave(tmp_path: Path) -> None:
    folder = tmp_path / "o'brien"
    (folder / "setting").mkdir(parents=True)
    (folder / "setting/.#mine.yaml").symlink_to("somebody@somewhere.1:2")
    (folder / "setting/mine.yaml").write_text((conf_dir() / "setting/smoke.yaml").read_text())
    words = ["task=listops", "model=local", "setting=mine"]
    assert compose(words, config_dirs=[folder]).names["setting"] == "mine"


def test_a_folder_of_a_user_who_is_not_there_is_a_clear_line() -> None:
    with pytest.raises(UserError, match="~nobody-of-that-name/x: there is no such user"):
        composed("results_dir=~nobody-of-that-name/x")


def test_a_task_without_a_model() -> None:
    task = compose_task(
        ["task=text", "setting=lra2020", "data_dir=~/data", "task.num_validation=7"]
    )
    assert task.name == "text"
    assert (task.node["max_length"], task.node["num_validation"]) == (1000, 7)
    assert task.data_dir == str(Path("~/data").expanduser())
    assert task.cache_dir is None
    with pytest.raises(UserError, match=r"there is no option 'train\.num_steps'"):
        compose_task(["task=text", "train.num_steps=3"])
    with pytest.raises(UserError, match="task= is missing"):
        compose_task([])


def test_the_files_that_made_a_section(tmp_path: Path) -> None:
    files = files_of(compose(["task=image", "model=local", "setting=lra2020"]))
    assert files["model"] == ["model/local.yaml", "setting/lra2020/image/local.yaml"]
    assert files["trunk"] == [
        "run.yaml", "setting/lra2020.yaml", "setting/lra2020/image.yaml",
        "setting/lra2020/image/local.yaml",
    ]  # fmt: skip
    assert files["train"][0] == "run.yaml"
    (tmp_path / "model").mkdir()
    text = (conf_dir() / "model/local.yaml").read_text()
    (tmp_path / "model/mine.yaml").write_text(text)
    mine = compose(["task=image", "model=mine"], config_dirs=[tmp_path])
    assert files_of(mine)["model"] == [str(tmp_path / "model/mine.yaml")]


def compose_each(choices: Iterable[tuple[str, str, str, str]]) -> None:
    """Compose each choice of names; no two of them may have one identity."""
    seen = set()
    for setting, task, model, objective in choices:
        words = [f"task={task}", f"model={model}", f"setting={setting}", f"objective={objective}"]
        request = compose(words)
        assert not request.changes
        seen.add(request.request_id)
    assert len(seen) > 1


SETTINGS, TASKS, MODELS = options("setting"), options("task"), options("model")
OBJECTIVES = options("objective")


def test_every_setting_has_every_task_and_every_model() -> None:
    choices = {
        (setting, task, MODELS[0], "cross_entropy") for setting in SETTINGS for task in TASKS
    }
    # All with all: tests/models/test_contract.py, where time does not matter.
    choices |= {("smoke", "listops", model, "sar") for model in MODELS}
    for path in conf_dir().glob("setting/*/*/*.yaml"):
        setting, task, special = path.parts[-3], path.parts[-2], path.stem
        if special in MODELS:
            choices.add((setting, task, special, "cross_entropy"))
        else:
            choices.add((setting, task, MODELS[0], special))
    compose_each(sorted(choices))


def test_what_a_setting_has_for_a_model_or_an_objective_is_for_one_that_exists() -> None:
    assert not set(MODELS) & set(OBJECTIVES)
    for path in conf_dir().glob("setting/*/*/*.yaml"):
        assert path.stem in {*MODELS, *OBJECTIVES}, path
        assert path.parts[-2] in TASKS, path
    for path in conf_dir().glob("objective/*/*.yaml"):
        assert (path.parts[-2] in OBJECTIVES, path.stem in TASKS) == (True, True), path


def test_an_objective_has_its_own_options_for_a_task() -> None:
    shares = {
        task: compose([f"task={task}", "model=local", "objective=denoising"]).config.objective
        for task in ("listops", "text", "image")
    }
    assert [of["share"] for of in shares.values()] == [0.10, 0.15, 0.50]
    # Nor is that a change of the objective.
    request = compose(["task=image", "model=local", "objective=denoising", "objective.share=0.5"])
    assert not request.changes


def test_a_setting_for_other_data_takes_the_numbers_of_the_task_it_stands_in_for() -> None:
    for setting in ("small", "lra2020", "s4"):
        own = {path.stem for path in conf_dir().glob(f"setting/{setting}/retrieval/*.yaml")}
        for model in sorted({"transformer", *own}):
            one, other = (
                compose([f"task={task}", f"model={model}", f"setting={setting}"]).config
                for task in ("retrieval", "review_pairs")
            )
            assert (one.train, one.trunk, one.head) == (other.train, other.trunk, other.head)


def test_sweeps_are_spelt_out(tmp_path: Path) -> None:
    runs = expand_sweep(["task=listops,text", "seed=range(0,2)", "model=local"])
    assert runs == [
        [f"task={task}", f"seed={seed}", "model=local"]
        for task in ("listops", "text")
        for seed in (0, 1)
    ]
    (tmp_path / "model").mkdir()
    (tmp_path / "model/locality.yaml").write_text("# x\n_target_: x\n")
    words = spell_out_globs(["model=glob(loc*)", "seed=1"], [tmp_path])
    assert words == ["model=local,locality", "seed=1"]
    with pytest.raises(UserError, match="matches no model"):
        spell_out_globs(["model=glob(x*)"])


def test_words_that_are_near() -> None:
    assert nearest("lisops", ["listops", "text"]) == "; did you mean listops?"
    assert nearest("qqq", ["listops", "text"]) == ""
