"""Who may import whom; sizes; private names; adding a model and a task from outside."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from lra_bench.cli import main

ROOT = Path(__file__).parents[1]
MAX_LINES, MAX_LINES_OF_A_FUNCTION = 450, 60
# One algorithm, which would be no clearer in pieces.
LONG = {"tasks/lra_tasks/_pathfinder_draw.py"}
# Of the core, all that tasks may import; and what everybody may.
FOR_TASKS, FOR_ALL = {"errors", "types", "files"}, {"errors", "types"}
# Where a package's modules lie.
PLACES = {"lra_bench": ROOT / "lra_bench", "lra_tasks": ROOT / "tasks/lra_tasks"}


@dataclass(frozen=True)
class Room:
    """A row of a table in CONTRIBUTING.md.

    Args:
        place: The number of the row.
        pattern: The file, below its package; ``<name>`` stands for any name.
        doors: What it may import: modules of its package, or packages of others.
    """

    place: int
    pattern: str
    doors: frozenset[str]

    def holds(self, path: str) -> bool:
        return re.fullmatch(re.sub("<[a-z]+>", "[a-z0-9_]+", self.pattern), path) is not None

    @property
    def is_named(self) -> bool:
        return "<" not in self.pattern


def module_of(path: str) -> str:
    """Return how a file is imported below its package, for example ``models.trunk``."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") or "__init__"


def rooms() -> dict[str, list[Room]]:
    """Return the tables of rooms by package."""
    tables: dict[str, list[Room]] = {}
    rows: list[Room] = []
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 3:
            continue
        if cells[0].endswith("/`"):
            rows = tables.setdefault(cells[0].strip("`").split("/")[-2], [])
            continue
        doors: set[str] = set(re.findall("`([^`]+)`", cells[2]))
        if "any of these" in cells[2]:
            doors |= {module_of(room.pattern) for room in rows}
        rows.append(Room(len(rows), cells[0].strip("`"), frozenset(doors)))
    return tables


ROOMS = rooms()


def files_of(package: str) -> list[str]:
    place = PLACES[package]
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*.py"))


def room_of(package: str, path: str) -> Room:
    """Return the row of a file: one that names it, or else one whose pattern fits."""
    fitting = [room for room in ROOMS[package] if room.holds(path)]
    assert fitting, f"{package}/{path} has no row in CONTRIBUTING.md"
    return next((room for room in fitting if room.is_named), fitting[0])


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else node.module


def is_module(name: str) -> bool:
    package, *parts = name.split(".")
    if package not in PLACES:
        return False
    place = PLACES[package].joinpath(*parts)
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def inner_imports(package: str, path: str) -> set[str]:
    """Return the modules of its own package that a file imports."""
    names = {name for name in imports(PLACES[package] / path) if name.split(".")[0] == package}
    return {name.partition(".")[2] or "__init__" for name in names}


ALL = [(package, path) for package in PLACES for path in files_of(package)]


@pytest.mark.parametrize(("package", "path"), ALL, ids=lambda value: value)
def test_rooms_keep_their_doors(package: str, path: str) -> None:
    doors = room_of(package, path).doors
    for name in imports(PLACES[package] / path):
        top, _, inner = name.partition(".")
        if top in sys.stdlib_module_names:
            continue
        if top == "lra_bench" and package == "lra_tasks":
            allowed, known = FOR_TASKS, inner
        else:
            # Of other people's packages the name counts, of one's own the module.
            allowed, known = {*doors, *FOR_ALL}, (inner or "__init__") if top == package else top
        assert known in allowed, f"{package}/{path} may not import {name}"


@pytest.mark.parametrize(("package", "path"), ALL, ids=lambda value: value)
def test_arrows_point_upwards(package: str, path: str) -> None:
    own = room_of(package, path)
    rows = {module_of(file): room_of(package, file) for file in files_of(package)}
    for name in inner_imports(package, path):
        assert rows[name].place < own.place, f"{name} stands below {path} in CONTRIBUTING.md"


@pytest.mark.parametrize("package", PLACES)
def test_there_is_no_circle(package: str) -> None:
    arrows = {module_of(path): inner_imports(package, path) for path in files_of(package)}
    # Names the modules of a circle, if there is one.
    TopologicalSorter(arrows).prepare()


@pytest.mark.parametrize("package", PLACES)
def test_every_room_exists(package: str) -> None:
    files = set(files_of(package))
    named = [room.pattern for room in ROOMS[package] if room.is_named]
    assert len(named) == len(set(named))
    assert not set(named) - files, "rows without a file in CONTRIBUTING.md"


def test_the_core_never_names_a_task() -> None:
    for path in files_of("lra_bench"):
        names = imports(PLACES["lra_bench"] / path)
        assert not [name for name in names if name.startswith("lra_tasks")], path


@pytest.mark.parametrize(("package", "path"), ALL, ids=lambda value: value)
def test_no_file_and_no_function_is_too_long(package: str, path: str) -> None:
    file = PLACES[package] / path
    text = file.read_text(encoding="utf-8")
    if file.relative_to(ROOT).as_posix() not in LONG:
        assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            first, last = node.body[0], node.end_lineno
            # What a docstring says of arguments makes nothing longer to follow.
            described = ast.get_docstring(node) is not None and first.end_lineno is not None
            hidden = (first.end_lineno or 0) - first.lineno + 1 if described else 0
            length = last - node.lineno + 1 - hidden
            assert length <= MAX_LINES_OF_A_FUNCTION, f"{node.name} has {length} lines"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


FROM_OUTSIDE = sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])


@pytest.mark.parametrize("path", FROM_OUTSIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_private_names_stay_private(path: Path) -> None:
    """A module may have a private name; what is private in a module is nobody else's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module.split(".")[0] not in PLACES:
            continue
        for alias in node.names:
            if is_module(f"{node.module}.{alias.name}"):
                modules.add(alias.asname or alias.name)
            else:
                assert not is_private(alias.name), f"{alias.name} of {node.module} is private"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of_a_module = node.value.id in modules and is_private(node.attr)
            assert not of_a_module, f"{node.value.id}.{node.attr} is private"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            replaced = node.args[0] if node.func.attr == "setattr" and node.args else None
            of_ours = isinstance(replaced, ast.Name) and replaced.id in modules
            name = str(replaced.value) if isinstance(replaced, ast.Constant) else ""
            assert not of_ours, f"line {node.lineno} replaces something in a module"
            assert name.split(".")[0] not in PLACES, f"line {node.lineno} replaces {name}"


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
_target_: lra_bench.models.trunk.TransformerEncoder
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


def test_a_model_and_a_task_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file and one yaml each, no change to the repository."""
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "my_task.py").write_text(TASK)
    for group, name, text in (("model", "average", MODEL_YAML), ("task", "first", TASK_YAML)):
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / f"{name}.yaml").write_text(text)
    words = ["run", "--config-dir", "my_conf", "task=first", "model=average", "setting=smoke"]
    changes = ["model.mixer.radius=3", "task.num_examples=40"]
    done = subprocess.run(
        [sys.executable, "-m", "lra_bench.cli", *words, *changes],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    assert path.parent == tmp_path / "results/runs/smoke/first/average"
    record = json.loads(path.read_text())
    assert (record["task"], record["model"]) == ("first", "average")
    assert record["changes"] == {"model.mixer.radius": 3, "task.num_examples": 40}
    assert record["test"]["examples"] == 40
    # A wrong option of a class from outside is a clear line, too.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    assert main([*words, "model.mixer.radius=wide"]) == 2
    assert "model.mixer.radius=wide is not a whole number" in capsys.readouterr().err


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
