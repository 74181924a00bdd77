"""What a setting says of one task and of one model, published or from outside."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from lra_bench.build import build_task
from lra_bench.cli import main
from lra_bench.compose import Request, compose
from lra_bench.heads import TaskModel
from lra_bench.optim import Optimization, set_learning_rate
from lra_bench.record import read
from lra_bench.runner import assemble
from lra_bench.words import options


def composed(*words: str) -> Request:
    return compose(["task=image", *words])


def test_published_setting() -> None:
    dense = composed("model=transformer", "setting=lra2020").config
    assert dense.head.pooling == "cls"
    assert dense.trunk.num_heads == 8
    asked = composed("model=local", "setting=lra2020")
    local = asked.config
    assert local.head.pooling == "mean"
    assert local.trunk.num_heads == 2
    assert local.model["mixer"]["block_size"] == 64
    # What a model has of its own belongs to the setting: nobody changed anything.
    assert asked.changes == {}
    assert (asked.labels["setting"], asked.labels["model"]) == ("lra2020", "local")
    assert dense.trunk.model_copy(update={"num_heads": 2}) == local.trunk
    assert dense.train == local.train
    changed = composed("model=local", "setting=lra2020", "model.mixer.block_size=50")
    assert changed.labels["model"] == "local(block_size=50)"
    # The others keep what the model's file says.
    for words in (["task=text", "setting=lra2020"], ["task=image", "setting=small"]):
        other = compose([*words, "model=local"]).config
        assert other.model["mixer"]["block_size"] == 50


def released() -> list[dict[str, str]]:
    """Return what the released configurations come to, code defaults included, a row a model.

    Of lra_benchmarks/*/configs in google-research/long-range-arena at cd31e5c; ``mended`` says
    which number differs there, and why.
    """
    path = Path(__file__).parent / "published_settings.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", sorted({row["task"] for row in released()}))
def test_every_released_number_is_in_lra2020(task: str) -> None:
    for row in released():
        if row["task"] != task:
            continue
        words = [f"task={task}", f"model={row['model']}", "setting=lra2020"]
        config = compose(words).config
        mixer = config.model.get("mixer", {})
        ours = {**dict(config.trunk), **dict(config.head), **dict(config.train), **mixer}
        for key in set(row) - {"task", "model", "mended"}:
            # Where the configurations say nothing of it, there may be no such thing.
            if row[key]:
                wanted = row[key] if isinstance(ours[key], str) else float(row[key])
                assert ours[key] == wanted, f"{row['model']}: {key}"


def test_a_model_of_a_setting_from_outside(tmp_path: Path) -> None:
    """A folder of one's own can say what a model has of its own."""
    folder = tmp_path / "setting" / "small" / "image"
    folder.mkdir(parents=True)
    (folder / "local.yaml").write_text("# @package _global_\ntrain:\n  num_steps: 7\n")
    steps = {}
    for model in ("local", "transformer"):
        words = ["task=image", "setting=small", f"model={model}"]
        steps[model] = compose(words, config_dirs=[tmp_path]).config.train.num_steps
    assert steps == {"local": 7, "transformer": 35_000}


SHORT = """
# Short expressions.
_target_: lra_tasks.listops.ListOps
num_train: 64
num_validation: 16
num_test: 16
min_length: 5
max_length: 50
"""


def test_a_sweep_over_tasks_and_models(tmp_path: Path) -> None:
    """Hydra first composes without either, and must not ask for the files of a setting then."""
    files = {
        "task/short.yaml": SHORT,
        "task/other.yaml": SHORT + "seed: 1\n",
        "setting/smoke/short.yaml": "# @package _global_\ntrain:\n  num_steps: 3\n",
        "setting/smoke/short/local.yaml": "# @package _global_\nhead:\n  pooling: cls\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folders = [f"cache_dir={tmp_path / 'cache'}", f"results_dir={tmp_path / 'results'}"]
    words = ["run", "-m", "--config-dir", str(tmp_path), "task=short,other", "setting=smoke"]
    assert main([*words, "model=local,transformer", "quiet=true", *folders]) == 0
    records = [read(path) for path in (tmp_path / "results/runs").rglob("*.json")]
    assert {one.setting for one in records} == {"smoke"}
    configs = {(one.task, one.model): one.config for one in records}
    models = ("local", "transformer")
    steps = {names: config["train"]["num_steps"] for names, config in configs.items()}
    assert steps == {("short", model): 3 for model in models} | {
        ("other", model): 6 for model in models
    }
    pooling = {names: config["head"]["pooling"] for names, config in configs.items()}
    assert pooling == dict.fromkeys(steps, "mean") | {("short", "local"): "cls"}


def built(setting: str, task: str, model: str) -> tuple[TaskModel, Request]:
    """Return a model of one layer under a setting, and what was asked for."""
    words = [f"task={task}", f"model={model}", f"setting={setting}", "trunk.num_layers=1"]
    asked = compose(words)
    return assemble(asked.config, build_task(asked).spec), asked


@pytest.mark.parametrize("model", options("model"))
def test_every_model_can_be_built_from_pixels_as_numbers(model: str) -> None:
    encoder = built("s4", "image", model)[0].encoder
    linear = next(part for part in encoder.modules() if isinstance(part, torch.nn.Linear))
    assert linear.in_features == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", options("task"))
def test_every_model_can_be_built_for_every_task(task: str) -> None:
    for model in options("model"):
        built("s4", task, model)


@pytest.mark.parametrize(
    ("task", "model", "rates"),
    [
        # Of all others, diagonal, steps, and what enters the states; and whether they decay.
        ("listops", "s4d", [(0.01, True), (0.001, False), (0.01, False), None]),
        ("image", "s4d", [(0.01, True), (0.001, False), (0.001, False), None]),
        ("listops", "s5", [(0.003, True), (0.001, False), (0.001, False), (0.003, True)]),
        ("retrieval", "s5", [(0.002, True), (0.001, False), (0.002, False), (0.001, False)]),
        ("pathx", "s5", [(0.0018, True), (6e-4, False), (6e-4, False), (6e-4, True)]),
        ("pathx_256", "s5", [(0.0018, True), (6e-4, False), (6e-4, False), (6e-4, True)]),
        ("pathx", "mega", [(0.01, True), None, None, None]),
    ],
)
def test_kernels_have_the_rates_of_their_papers(
    task: str, model: str, rates: list[tuple[float, bool] | None]
) -> None:
    made, asked = built("s4", task, model)
    train = asked.config.train
    optimization = Optimization(made, train)
    set_learning_rate(optimization.optimizer, train.learning_rate)
    kinds = {
        id(getattr(part, name)): kind
        for part in made.modules()
        for name, kind in getattr(part, "kernel_parts", {}).items()
    }
    found: dict[str | None, set[tuple[float, bool]]] = {}
    for group in optimization.optimizer.param_groups:
        for parameter in group["params"]:
            said = round(group["lr"], 9), group["weight_decay"] > 0
            found.setdefault(kinds.get(id(parameter)), set()).add(said)
    names = (None, "diagonal", "step", "input")
    assert found == {
        name: {rate} for name, rate in zip(names, rates, strict=True) if rate is not None
    }
