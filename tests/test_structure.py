"""Who may import whom; the words that must not appear; adding a model and a task from outside."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lra_bench.cli import main

ROOT = Path(__file__).parents[1]
# Beside the standard library and `lra_bench.types`, which everybody may import.
CORE = "lra_bench"
ROOMS: dict[str, set[str]] = {
    "lra_bench/__init__.py": set(),
    "lra_bench/types.py": {"torch", "numpy"},
    "lra_bench/paths.py": {"platformdirs"},
    "lra_bench/data.py": {"torch", "numpy"},
    "lra_bench/models/__init__.py": set(),
    "lra_bench/models/encoder.py": {"torch"},
    "lra_bench/models/*.py": {"torch", "lra_bench.models.encoder"},
    "lra_bench/classifier.py": {"torch", "lra_bench.models.encoder"},
    "lra_bench/objective.py": {"torch", "lra_bench.classifier"},
    "lra_bench/optim.py": {"torch"},
    "lra_bench/trainer.py": {
        "torch",
        "lra_bench.checkpoint",
        "lra_bench.classifier",
        "lra_bench.data",
        "lra_bench.objective",
        "lra_bench.optim",
        "lra_bench.tracking",
    },
    "lra_bench/checkpoint.py": {"torch"},
    "lra_bench/tracking.py": {"wandb"},
    "lra_bench/record.py": set(),
    "lra_bench/provenance.py": {"torch"},
    "lra_bench/leaderboard.py": {"pandas", "lra_bench.record"},
    "lra_bench/show.py": {"numpy", "PIL"},
    "lra_bench/config.py": {"hydra", "omegaconf", "yaml"},
    "lra_bench/completion.py": {"hydra", "lra_bench.config", "lra_bench.paths"},
    "lra_bench/runner.py": {
        "hydra",
        "torch",
        "lra_bench.checkpoint",
        "lra_bench.classifier",
        "lra_bench.config",
        "lra_bench.data",
        "lra_bench.models.encoder",
        "lra_bench.objective",
        "lra_bench.optim",
        "lra_bench.paths",
        "lra_bench.provenance",
        "lra_bench.record",
        "lra_bench.tracking",
        "lra_bench.trainer",
    },
    "lra_bench/cli.py": {
        "hydra",
        "omegaconf",
        "lra_bench",
        "lra_bench.completion",
        "lra_bench.config",
        "lra_bench.leaderboard",
        "lra_bench.paths",
        "lra_bench.record",
        "lra_bench.runner",
        "lra_bench.show",
        "lra_bench.tracking",
    },
    "tasks/lra_tasks/__init__.py": set(),
    "tasks/lra_tasks/*.py": {"numpy", "PIL", "tensorflow_datasets", "lra_tasks"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if inner.exists() else node.module


def allowed(path: Path) -> set[str]:
    name = path.relative_to(ROOT).as_posix()
    if name in ROOMS:
        return ROOMS[name]
    return ROOMS[f"{path.parent.relative_to(ROOT).as_posix()}/*.py"]


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("lra_bench/**/*.py"), *ROOT.glob("tasks/**/*.py")]),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_rooms_keep_their_doors(path: Path) -> None:
    doors = allowed(path) | {"lra_bench.types"}
    for name in imports(path):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            continue
        known = name if top == CORE else top
        assert known in doors, f"{path.relative_to(ROOT)} may not import {name}"


def test_the_core_never_names_a_task() -> None:
    for path in ROOT.glob("lra_bench/**/*.py"):
        assert not [name for name in imports(path) if name.startswith("lra_tasks")], path


def test_every_option_file_has_a_comment_and_is_yaml() -> None:
    for path in ROOT.glob("conf/**/*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#"), f"{path} does not say what it is"
        assert isinstance(yaml.safe_load(text), dict), path


def test_links_in_the_documentation_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "tasks/README.md"]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_the_documentation_has_no_blanks_to_fill() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "tasks/README.md"]:
        found = re.findall(r"TODO|TBD|\w+_SHA\b|\bCPU_\w+", path.read_text(encoding="utf-8"))
        assert not found, path


MODEL = '''
"""Half of what is near: a moving average."""

import torch.nn.functional as F

from lra_bench.models.encoder import EncoderSpec, Mixer


class MovingAverage(Mixer):
    def __init__(self, spec: EncoderSpec, *, radius: int = 1) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x_BLD, mask_BL=None):
        if mask_BL is not None:
            x_BLD = x_BLD * mask_BL[..., None]
        size = 2 * self.radius + 1
        return F.avg_pool1d(x_BLD.mT, size, 1, self.radius, count_include_pad=True).mT
'''
MODEL_YAML = """
# A moving average.
_target_: lra_bench.models.encoder.TransformerEncoder
mixer:
  _target_: my_model.MovingAverage
  _partial_: true
  radius: 2
"""
TASK = '''
"""Is the first token also the last?"""

import hashlib

import numpy as np

from lra_bench.types import Example, Task, TaskSpec


class FirstIsLast(Task):
    def __init__(self, *, num_examples: int = 64) -> None:
        self.spec = TaskSpec("first_is_last", vocab_size=5, max_length=30, num_classes=2)
        self.num_examples = num_examples

    def examples(self, split):
        rng = np.random.default_rng({"train": 0, "validation": 1, "test": 2}[split])
        rows = [rng.integers(1, 5, rng.integers(5, 30)) for _ in range(self.num_examples)]
        return [Example((row,), int(row[0] == row[-1])) for row in rows]

    def fingerprint(self):
        return hashlib.sha256(b"first is last").hexdigest()
'''
TASK_YAML = """
# Is the first token also the last?
_target_: my_task.FirstIsLast
num_examples: 48
"""


def test_a_model_and_a_task_from_outside(tmp_path: Path) -> None:
    """One file and one yaml each, no change to the repository."""
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "my_task.py").write_text(TASK)
    for group, name, text in (("model", "average", MODEL_YAML), ("task", "first", TASK_YAML)):
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / f"{name}.yaml").write_text(text)
    words = ["run", "--config-dir", "my_conf", "task=first", "model=average", "setting=smoke"]
    run = [sys.executable, "-m", "lra_bench.cli", *words]
    done = subprocess.run(
        [*run, "model.mixer.radius=3", "task.num_examples=40"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    record = json.loads(path.read_text())
    assert (record["task"], record["model"]) == ("first(num_examples=40)", "average(radius=3)")
    assert record["test"]["num_examples"] == 40
    # In the process itself, a wrong option of a class from outside is a clear line, too.
    wrong = subprocess.run(
        [*run, "model.mixer.radius=wide"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "model.mixer.radius=wide is not a whole number" in wrong.stderr


def test_a_missing_class_is_a_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    for text, expected in (
        ("_target_: nowhere.Nothing", "cannot import nowhere.Nothing"),
        ("block_size: 3", "has no _target_"),
        ("_target_: lra_bench.models.ernie_sparse.ErnieSparseEncoder\nblok: 3", "model.blok"),
    ):
        (tmp_path / "model/mine.yaml").write_text(text)
        words = ["run", "--config-dir", str(tmp_path), "task=listops", "model=mine"]
        assert main([*words, "setting=smoke", f"results_dir={tmp_path / 'results'}"]) == 2
        assert expected in capsys.readouterr().err


def test_a_setting_that_says_nothing_about_a_task_is_a_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task/first.yaml").write_text(TASK_YAML)
    words = ["run", "--config-dir", str(tmp_path), "task=first", "model=local"]
    assert main([*words, "setting=lra2020"]) == 2
    assert "the setting must give one" in capsys.readouterr().err


def test_the_wheel_runs_from_an_empty_folder(tmp_path: Path) -> None:
    """Built, installed in an environment of its own, used where no checkout is near."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    inside = next((home / "lib").glob("python3*")) / "site-packages"
    here = [path for path in sys.path if path.endswith("site-packages")]
    # The dependencies are borrowed; the package itself must come from the wheel.
    (inside / "borrowed.pth").write_text("\n".join(here) + "\n")
    python = home / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    pip += ["--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LRA_"))
    } | {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home/cache")}

    def call(*words: str) -> str:
        command = [str(home / "bin/lra-bench"), *words]
        done = subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [str(python), "-c", "import lra_bench, lra_tasks; print(lra_bench.__file__)"],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(inside) in where
    assert "listops" in call("ls", "tasks")
    call("run", "task=listops", "model=ernie_sparse", "setting=smoke")
    call("run", "-m", "task=listops", "model=local", "setting=smoke", "seed=1,2", "quiet=true")
    call("leaderboard")
    records = list((empty / "results/runs").rglob("*.json"))
    assert len(records) == 3
    record = json.loads(records[0].read_text())
    assert record["git_commit"] is None
    assert record["versions"]["lra_bench"]
