"""The wheel, installed where no checkout is near, and used from an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What makes a run of the setting cpu take seconds.
SHORT = ["train.num_steps=4", "train.eval_every=4", "train.batch_size=8"]
SMALL = ["task.num_train=64", "task.num_validation=16", "task.num_test=16"]

Call = Callable[[Path, Sequence[str]], str]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Return what runs a program of an environment of its own, with the wheel, in some folder."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = place.glob("*.whl")
    home = place / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    inside = next((home / "lib").glob("python3*")) / "site-packages"
    here = [path for path in sys.path if path.endswith("site-packages")]
    # The dependencies are borrowed; the package itself must come from the wheel.
    (inside / "borrowed.pth").write_text("\n".join(here) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install", "--quiet"]
    pip += ["--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LRA_"))
    } | {"HOME": str(place / "home"), "XDG_CACHE_HOME": str(place / "home/cache")}

    def program(folder: Path, words: Sequence[str]) -> str:
        command = [str(home / "bin" / words[0]), *words[1:]]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return program


def test_it_runs_from_an_empty_folder(call: Call, tmp_path: Path) -> None:
    script = "import lra_bench, lra_tasks; print(lra_bench.__file__)"
    assert "site-packages/lra_bench" in call(tmp_path, ["python", "-c", script])
    assert "listops" in call(tmp_path, ["lra-bench", "ls", "tasks"])
    run = ["lra-bench", "run"]
    call(tmp_path, [*run, "task=listops", "model=ernie_sparse", "setting=smoke"])
    words = ["-m", "task=listops", "model=local", "setting=smoke", "seed=1,2", "quiet=true"]
    call(tmp_path, [*run, *words])
    call(tmp_path, ["lra-bench", "leaderboard"])
    records = list((tmp_path / "results/runs").rglob("*.json"))
    assert len(records) == 3
    record = json.loads(records[0].read_text())
    assert record["git_commit"] is None
    assert record["versions"]["lra_bench"]


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_of_ones_own_comes_into_the_table(
    call: Call, tmp_path: Path, is_whole: bool
) -> None:
    """The section of docs/extending.md, word for word; shorter runs where nothing else is said."""
    page = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    section = page.split("## A model\n")[1].split("## A task\n")[0]
    files = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL))
    assert set(files) == {"my_model.py", "my_conf/model/average.yaml"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    said = []
    for line in re.findall(r"^    (lra-bench .+)$", section, re.MULTILINE):
        words = shlex.split(line)
        if words[1] == "run" and "setting=smoke" not in words and not is_whole:
            words += [*SHORT, *SMALL]
        said.append((words[1], call(tmp_path, words)))
    assert [verb for verb, _ in said] == ["ls", "run", "run", "run", "leaderboard"]
    (row,) = re.findall(r"^  average  .*$", said[0][1], re.MULTILINE)
    cells = re.split("  +", row.strip())
    assert cells[1:5] == ["fixed patterns", "-", "-", "L"]
    # A mixer without parameters: the four matrices of both layers are what the others have more.
    (local,) = re.findall(r"^  local  .*$", said[0][1], re.MULTILINE)
    numbers = [int(re.split("  +", one.strip())[5].replace(",", "")) for one in (local, row)]
    assert numbers[0] - numbers[1] == 2 * 4 * 64 * 64
    table = [line for line in said[-1][1].splitlines() if line.startswith("|")]
    names = {line.split("|")[1].strip() for line in table}
    assert {"average(radius=3)", "local"} <= names
