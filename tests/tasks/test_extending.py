"""The tasks that docs/extending.md shows, done as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from lra_bench.cli import main
from lra_bench.record import read

PAGE = Path(__file__).parents[2] / "docs/extending.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the section on tasks."""
    folder = tmp_path_factory.mktemp("mine")
    section = PAGE.read_text(encoding="utf-8").split("## A task\n")[1].split("## A setting\n")[0]
    files = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, re.DOTALL))
    assert set(files) >= {"my_task.py", "my_tags.py", "my_conf/task/tags.yaml"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "commands").write_text("\n".join(re.findall(r"^    (.+)$", section, re.MULTILINE)))
    return folder


def test_every_command_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LRA_BENCH_CACHE", str(folder / "cache"))
    verbs = []
    for line in (folder / "commands").read_text().splitlines():
        if line.startswith("lra-bench "):
            words = shlex.split(line)[1:]
            verbs.append(words[0])
            assert main(words) == 0, capsys.readouterr().err
        elif line.startswith("for "):
            subprocess.run(["bash", "-c", line], check=True)
    assert verbs == ["run", "data", "data", "run"]
    assert "labels at 5 of 5 tokens" in capsys.readouterr().out
    records = [read(path) for path in (folder / "results").rglob("*.json")]
    assert sorted(record.task for record in records) == ["first", "tags"]
    assert all(record.test is not None for record in records)
