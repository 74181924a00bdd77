"""The verb ``completion``, and what may follow on a line."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import argcomplete.io
import pytest
from argcomplete.finders import CompletionFinder

from lra_bench.cli import main
from lra_bench.cli.completion import answer
from lra_bench.cli.main import make_parser
from lra_bench.words import options


class Finder(CompletionFinder):
    """argcomplete's finder, which otherwise takes file descriptor 9 for what it says to itself."""

    def _init_debug_stream(self) -> None:
        argcomplete.io.debug_stream = io.StringIO()


@pytest.fixture
def line_at(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let argcomplete be asked as a shell asks it, with whole words for answers."""
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setenv("_ARGCOMPLETE_IFS", "\n")
    monkeypatch.setenv("_ARGCOMPLETE_SUPPRESS_SPACE", "1")
    return monkeypatch


def complete(line: str, environment: pytest.MonkeyPatch) -> list[str]:
    environment.setenv("COMP_LINE", line)
    environment.setenv("COMP_POINT", str(len(line)))
    said = io.StringIO()
    answer(make_parser(), Finder(), exit_method=lambda *_: None, output_stream=said)
    return [word for word in said.getvalue().split("\n") if word]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lra-bench r", ["run"]),
        ("lra-bench data v", ["verify"]),
        ("lra-bench ls mod", ["models"]),
        ("lra-bench ls models se", ["setting=", "seed="]),
        ("lra-bench ls models setting=small task=te", ["task=text"]),
        (
            "lra-bench run task=",
            [f"task={name}" for name in options("task")],
        ),
        ("lra-bench run model=ernie", ["model=ernie_sparse"]),
        ("lra-bench run task=text setting=l", ["setting=lra2020"]),
        ("lra-bench run train.num_s", ["train.num_steps="]),
        ("lra-bench run model=ernie_sparse model.blo", ["model.block_size="]),
        ("lra-bench run -m task=listops model=local model.mixer.b", ["model.mixer.block_size="]),
        ("lra-bench run -m experiment=bo", ["experiment=board_cpu"]),
        ("lra-bench run -m exp", ["experiment="]),
        ("lra-bench data show task=l", ["task=listops"]),
        ("lra-bench data ", ["prepare", "verify", "show"]),
        ("lra-bench data show sp", ["split="]),
        (
            "lra-bench data show task=listops split=",
            ["split=train", "split=validation", "split=test"],
        ),
        ("lra-bench data show split=test index=3 task=l", ["task=listops"]),
        ("lra-bench data show task=listops --s", ["--save"]),
        ("lra-bench data show task=listops --save ", []),
        ("lra-bench data show split=test task=listops task.num_te", ["task.num_test="]),
        ("lra-bench data prepare task=l", ["task=listops"]),
        ("lra-bench data verify --", ["--config-dir"]),
        ("lra-bench run --c", ["--config-dir", "--cfg"]),
        (
            "lra-bench ",
            [
                "run",
                "status",
                "data",
                "ls",
                "leaderboard",
                "show",
                "compare",
                "speed",
                "completion",
            ],
        ),
        ("lra-bench speed le", ["length="]),
        ("lra-bench speed length=1024,2", ["length=1024,2048"]),
        ("lra-bench speed model=local,ernie", ["model=local,ernie_sparse"]),
        ("lra-bench speed --r", ["--rounds", "--round-seconds"]),
        ("lra-bench completion ", ["bash", "zsh", "fish"]),
        ("lra-bench leaderboard --", ["--out", "--published", "--pictures", "--check"]),
        ("lra-bench show --", ["--results"]),
        ("lra-bench compare --", ["--results"]),
        ("lra-bench run --config-dir ", []),
        ("lra-bench run tr", ["tracker=", "train.", "trunk."]),
        # There is one way on.
        ("lra-bench run model=local model.mi", ["model.mixer.block_size=", "model.mixer.layout="]),
        ("lra-bench run model=local -m model.mixer.b", ["model.mixer.block_size="]),
        ("lra-bench run -m task=listops,te", ["task=listops,text"]),
        ("lra-bench run -m model=local,loc", []),
        ("lra-bench run train.precision=", ["train.precision=float32", "train.precision=bfloat16"]),
        ("lra-bench run trunk.positions=s", ["trunk.positions=sinusoidal"]),
        ("lra-bench run train.compile=", ["train.compile=true", "train.compile=false"]),
        ("lra-bench run force=", ["force=true", "force=false"]),
        ("lra-bench run task=listops task.seed=", ["task.seed=0"]),
        ("lra-bench run train.num_steps=", []),
        ("lra-bench run setting=nowhere train.num_s", ["train.num_steps="]),
        ("lra-bench run nothing", []),
        ("lra-bench run -m hydra/l", ["hydra/launcher="]),
        ("lra-bench run -m hydra/sweeper=b", ["hydra/sweeper=basic"]),
        ("lra-bench data show mod", []),
        ("lra-bench data show s", ["split=", "setting="]),
        ("lra-bench data prepare cache", ["cache_dir="]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_completion(line: str, expected: list[str], line_at: pytest.MonkeyPatch) -> None:
    assert complete(line, line_at) == expected


def test_folders_of_ones_own_are_completed(tmp_path: Path, line_at: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("_target_: my.Model\nrate: 0.5\n")
    line = f"lra-bench run --config-dir {tmp_path} model=mine model."
    assert complete(line.removesuffix(" model."), line_at) == ["model=mine"]
    assert complete(line, line_at) == ["model.rate="]
    assert complete(f"{line}rate=", line_at) == ["model.rate=0.5"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert "lra-bench" in said
    assert "_ARGCOMPLETE" in said


BASH = r"""
set -e
eval "$(lra-bench completion bash)"
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
for line in "lra-bench run task=li" "lra-bench run train.num_s" "lra-bench data show split="; do
    COMP_LINE="$line" COMP_POINT=${#line} COMP_TYPE=9
    COMPREPLY=()
    _python_argcomplete lra-bench
    printf '[%s]' "${COMPREPLY[@]}"
    echo
done
"""


def test_bash_completes_words_that_it_breaks(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    program = tmp_path / "lra-bench"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom lra_bench.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": f"{root}:{root / 'tasks'}",
    }
    done = subprocess.run(
        [bash, "--norc", "-c", BASH], capture_output=True, text=True, check=True, env=environment
    )
    # Outside a prompt bash cannot be told to leave out the blank.
    assert done.stdout.splitlines() == [
        "[listops ]",
        "[train.num_steps=]",
        "[train][validation][test]",
    ]


def test_completion_needs_no_torch() -> None:
    script = (
        "import os, sys; from lra_bench.cli.main import make_parser; "
        "from lra_bench.cli.completion import answer; "
        "line = 'lra-bench run train.'; "
        "os.environ.update(_ARGCOMPLETE='1', COMP_LINE=line, COMP_POINT=str(len(line)), "
        "_ARGCOMPLETE_STDOUT_FILENAME=os.devnull); "
        "answer(make_parser(), exit_method=lambda *_: None); "
        "assert 'hydra' in sys.modules; "
        "sys.exit(bool({'torch', 'pydantic', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
