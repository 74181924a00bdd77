"""The way in: help, versions, mistakes of every verb, interruptions."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from lra_bench import __version__
from lra_bench.cli import main
from lra_bench.cli.main import make_parser
from lra_bench.cli.parsing import Parser
from lra_bench.schema import GROUPS, RunConfig

VERBS = [leaf.prog.split()[1:] for leaf in make_parser().leaves()]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["runn"], "did you mean run?"),
        (["run"], "task= is missing"),
        (["run", "task=listops"], "model= is missing"),
        (["data"], "prepare, verify, show"),
        (["data", "prepare"], "task= is missing"),
        (["data", "prepare", "task=listop"], "did you mean listops?"),
        (["data", "show", "task=listops", "split=val"], "train, validation, test"),
        (["data", "show", "task=listops", "index=x"], "index=x"),
        (["data", "show", "task=listops", "index"], "cannot read 'index'"),
        (["data", "show", "task=listops", "count=0"], "between 1 and 1,000"),
        (["data", "show", "task=listops", "count=9999"], "between 1 and 1,000"),
        (["data", "show", "task=listops", "--save"], "expected one argument"),
        (["data", "show", "task=listops", "--save", "x.jpg"], ".png (pictures) or .txt"),
        (["data", "show", "task=listops", "--save", "nowhere/x.txt"], "nowhere/x.txt"),
        (["data", "show", "task=listops", "--save", "x.png"], "save them as .txt"),
        (["data", "show", "split=train"], "split=train needs task="),
        (["data", "show", "task.seed=1"], "task.seed=1 needs task="),
        (["data", "show", "--save", "x.txt"], "--save needs task="),
        (["data", "show", "setting=cpuu"], "did you mean cpu?"),
        (["data", "verify", "setting=cpuu"], "did you mean cpu?"),
        (["data", "verify", "task=listops", "index=3"], "no option 'index'"),
        (["data", "prepare", "task=listops", "--save", "x.txt"], "lra-bench data show"),
        (["ls", "everything"], "everything"),
        (["leaderboard", "nowhere"], "nowhere is not a folder"),
        (["leaderboard", "--outt", "x"], "--outt"),
        (["completion", "csh"], "bash, zsh, fish"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_of_other_verbs(
    wrong: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(wrong) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--save", "x.txt"], "--save belongs to `lra-bench data show`"),
        (["leaderboard", "--cfg"], "--cfg belongs to `lra-bench run`"),
        (["run", "seed=1", "--nothing"], "there is no option --nothing"),
        (["data", "shwo"], "did you mean show?"),
        (
            ["xyz"],
            "choose one of run, status, data, ls, leaderboard, show, compare, speed, completion",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_names_what_was_meant(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"], ["data", "-h"]], ids=" ".join)
def test_help_lists_the_verbs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    known = ("prepare", "verify", "show") if words[:1] == ["data"] else make_parser().verbs
    for verb in known:
        assert f"\n  {verb} " in said


@pytest.mark.parametrize("verb", [*VERBS, ["data"]], ids=" ".join)
def test_help_fits_a_screen(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 40
    assert max(map(len, said.splitlines())) <= 100
    assert f"\n  lra-bench {' '.join(verb)}" in said or 'eval "$(lra-bench' in said


def test_help_names_every_key_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    said = capsys.readouterr().out
    for key in {*RunConfig.model_fields, *GROUPS}:
        assert f" {key}=" in said or f" {key}.KEY=" in said, key


def test_a_sweep_has_no_one_configuration_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "task=listops", "model=local", "seed=0,1", "--cfg"]) == 2
    assert "--cfg prints the configuration of one run: leave out -m" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'hydra', 'pandas', 'numpy', 'pydantic', 'rich', 'argcomplete', 'wandb'}"
    script = (
        "import sys; from lra_bench.cli import main; "
        "[main(words) for words in ([], ['run', '--help'], ['data', '--help'])]; "
        f"found = {heavy} & set(sys.modules); sys.exit(bool(found) and str(found))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def parser_that_raises(error: BaseException) -> Parser:
    """Return a parser with a verb that ends in a certain way."""

    def fail(_: object) -> int:
        raise error

    def add(verbs: object) -> Parser:
        parser: Parser = verbs.add_parser("fail", summary="fails")  # type: ignore[attr-defined]
        parser.set_defaults(function=fail)
        return parser

    parser = Parser(prog="lra-bench")
    parser.add_verbs(add)
    return parser


class Stopped(KeyboardInterrupt):
    signal_number = signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "\ninterrupted; give the same line again to go on\n"),
        (Stopped(), 143, "\ninterrupted; give the same line again to go on\n"),
        (OSError(28, "No space left", "x"), 1, "lra-bench: [Errno 28] No space left: 'x'\n"),
    ],
    ids=["interrupted", "preempted", "system"],
)
def test_every_end_has_its_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fail"], parser=parser_that_raises(error)) == code
    assert capsys.readouterr().err == said


def test_what_we_broke_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        main(["fail"], parser=parser_that_raises(ZeroDivisionError()))
