"""The verb ``run``: results, mistakes, interruptions, sweeps."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.conftest import records_in
from cli.outside import set_bad
from lra_bench.cli import main
from lra_bench.compose import compose
from lra_bench.schema import RunConfig

Cli = list[str]


def test_a_run_writes_its_record(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "seed=3"]) == 0
    (record,) = records_in(tmp_path)
    said = capsys.readouterr()
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    assert path.parent == tmp_path / "results/runs/smoke/listops/ernie_sparse"
    assert said.out.endswith(f"record: {path}\n")
    assert record.test is not None
    right = record.test.sums["correct"]
    assert (
        f"ernie_sparse on listops, setting smoke, seed 3: test accuracy {right / 40:.2%} "
        f"({right} of 40; always answering the most frequent class: "
    ) in said.out
    assert (record.setting, record.task, record.model, record.seed) == (
        "smoke",
        "listops",
        "ernie_sparse",
        3,
    )
    assert record.status == "completed"
    assert record.test.num_examples == 40
    assert record.num_steps == 6
    assert [row["step"] for row in record.curve] == [3, 6]
    assert record.versions["torch"]
    assert record.data["source"].startswith("generated, seed 0")
    assert record.config["train"]["num_steps"] == 6
    # Nothing in a record says where it was made.
    assert str(tmp_path) not in path.read_text()
    # Nothing but the record is left, and the file that was locked.
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert sorted(files) == [tmp_path / f"results/live/{record.request_id}.lock", path]


def test_the_second_time_reuses_the_record(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    first = records_in(tmp_path)
    assert main(words) == 0
    assert "already done" in capsys.readouterr().err
    assert records_in(tmp_path) == first
    assert main([*words, "force=true"]) == 0
    (again,) = records_in(tmp_path)
    assert again.test == first[0].test
    assert again.run_id == first[0].run_id
    # A record that is broken is not taken for the result, nor written over.
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    path.write_text("{")
    assert main(words) == 2
    assert "delete it to run again" in capsys.readouterr().err


def test_the_command_of_a_record_repeats_it(words: Cli, tmp_path: Path) -> None:
    assert main([*words, "train.learning_rate=0.002", "model.block_size=8", "seed=5"]) == 0
    (record,) = records_in(tmp_path)
    assert (record.setting, record.model) == ("smoke", "ernie_sparse")
    assert record.changes == {"train.learning_rate": 0.002, "model.block_size": 8}
    assert record.labels["setting"] == "smoke(train.learning_rate=0.002)"
    assert record.labels["model"] == "ernie_sparse(block_size=8)"
    assert record.command.startswith("lra-bench run ")
    assert main([*record.command.split()[1:], *words[-2:], "force=true"]) == 0
    (again,) = records_in(tmp_path)
    assert (again.test, again.validation) == (record.test, record.validation)


def test_what_changes_no_number_changes_no_identity(words: Cli) -> None:
    other = ["results_dir=x", "cache_dir=y", "checkpoint_seconds=1", "quiet=true", "tracker=wandb"]
    other += ["checkpoint_share=0.5"]
    plain, changed = compose(words[1:]), compose([*words[1:5], *other])
    assert plain.request_id == changed.request_id
    assert plain.request_id != compose([*words[1:], "seed=1"]).request_id


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["task=listop"], "did you mean listops?"),
        (["model=ernie-sparse"], "did you mean ernie_sparse?"),
        (["setting=cpuu"], "did you mean cpu?"),
        (["objective=saar"], "did you mean sar?"),
        (["tracker=wanb"], "did you mean wandb?"),
        (["train.stepss=3"], "did you mean train.num_steps?"),
        (["modell=local"], "did you mean model?"),
        (["+train.new=3"], "no option 'train.new'"),
        (["+train.num_steps=3"], "write train.num_steps=VALUE"),
        (["~seed"], "write seed=VALUE"),
        (["hydra/launcher=joblib"], "add -m"),
        (["-m", "seed=interval(0,1)"], "cannot sweep"),
        (["train.beta1=1.5"], "train.beta1=1.5"),
        (["train.eps=0"], "train.eps=0"),
        (["objective=sar", "objective.alpha=nan"], "objective.alpha=nan"),
        (["seed=99999999999999999999"], "seed=99999999999999999999"),
        (["train.num_steps=abc"], "train.num_steps=abc is not a whole number"),
        (["train.learning_rate=fast"], "train.learning_rate=fast is not a number"),
        (["seed=1.5"], "seed=1.5"),
        (["model.block_size=big"], "model.block_size=big is not a whole number"),
        (["model.context=sideways"], "representatives, global_tokens, none"),
        (["model.block_size=0"], "block_size=0"),
        (["task.seed=x"], "task.seed=x is not a whole number"),
        (["task.min_length=5000"], "task.min_length=5000"),
        (["trunk.num_heads=3"], "num_heads=3 does not divide"),
        (["trunk.positions=turned"], "learned, sinusoidal, none, rotary"),
        (["trunk.input=linear"], "those of this task are symbols; choose trunk.input=symbols"),
        (["head.pooling=median"], "cls, first, mean, max"),
        (["train.schedule=cosin"], "rsqrt, cosine, epoch_cosine, one_cycle, linear, constant"),
        (["train.batch_size=0"], "train.batch_size=0 must be at least 1"),
        (["train.max_grad_norm=-1"], "train.max_grad_norm=-1.0 must be greater than 0"),
        (["train.precision=float16"], "float32, bfloat16"),
        (["seed=-1"], "seed=-1"),
        (["device=cuda:7"], "device=cuda:7"),
        (["device=tpu"], "device=tpu"),
        (["num_threads=0"], "num_threads=0"),
        (["num_processes=0"], "num_processes=0 must be at least 1"),
        (["seed=0,1"], "add -m"),
        (["model=local,transformer"], "add -m"),
        (["seed"], "cannot read 'seed'"),
        (["model=["], "cannot read"),
        (["--nonsense"], "--nonsense"),
        (["--config-dir", "nowhere"], "nowhere is not a folder"),
        (["objective=sar", "model=transformer"], "like model=ernie_sparse"),
        (["objective=sar", "objective.topology=sideways"], "choose from shifted"),
        (["task.source=official", "data_dir=nowhere"], "basic_train.tsv"),
        (["-m", "seed=0,1", "train.num_steps=x"], "train.num_steps=x"),
        (["-m", "seed=0,1", "model=local,nothing"], "no model 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_clear_line(
    words: Cli,
    wrong: Cli,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = {word.split("=")[0] for word in wrong if "=" in word}
    kept = [word for word in words if word.split("=")[0] not in keys]
    assert main([*kept, *wrong]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert expected in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert "Traceback" not in said.err
    assert not list(tmp_path.rglob("*.json"))


def test_an_unwritable_place_is_found_at_once(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([*words[:-1], f"results_dir={tmp_path / 'file' / 'results'}"]) == 2
    assert "results_dir=" in capsys.readouterr().err


def test_a_broken_cache_is_one_clear_line(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    own = [*words[:-2], f"cache_dir={cache}", words[-1]]
    assert main(own) == 0
    (tokens,) = cache.rglob("train.tokens")
    tokens.write_bytes(tokens.read_bytes()[:-1])
    capsys.readouterr()
    assert main([*own, "seed=1"]) == 2
    said = capsys.readouterr().err
    assert "train.tokens" in said
    assert "delete the folder" in said


def test_a_run_that_diverges_is_recorded(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = [*words, "train.learning_rate=1e30", "train.max_grad_norm=null"]
    assert main(wild) == 1
    (record,) = records_in(tmp_path)
    assert record.status == "diverged"
    assert record.test is None
    assert record.error is not None
    assert "step" in record.error
    assert "diverged: the loss is" in capsys.readouterr().err
    # It would diverge again.
    assert main(wild) == 1


@pytest.mark.parametrize("every", [1, 2])
def test_weights_that_break_are_found_by_the_evaluation(
    words: Cli, tmp_path: Path, every: int
) -> None:
    wild = [*words, "train.learning_rate=1e30", "train.max_grad_norm=null"]
    assert main([*wild, f"train.eval_every={every}", f"train.num_steps={every + 1}"]) == 1
    (record,) = records_in(tmp_path)
    assert record.status == "diverged"


def test_folders_may_have_any_name(words: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "it's ${here}, a(b)=c"
    assert main([*words[:-1], f"results_dir={folder}", "quiet=true"]) == 0
    assert main([*words[:-1], f"results_dir={folder}", "-m", "seed=1"]) == 0
    assert len(list((folder / "runs").rglob("*.json"))) == 2


def test_a_task_that_breaks_its_promise_is_a_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "task").mkdir()
    (tmp_path / "task/broken.yaml").write_text("_target_: broken_task.Broken\nhow: none\n")
    (tmp_path / "broken_task.py").write_text(
        """
import numpy as np
from lra_bench.types import Example, Task, TaskSpec

class Broken(Task):
    def __init__(self, *, how: str) -> None:
        self.how = how
        self.spec = TaskSpec("broken", vocab_size=5, max_length=9, num_classes=2)

    def examples(self, split):
        row = {"id": [1, 5], "long": [1] * 10, "none": [1], "empty": []}.get(self.how, [1])
        return [Example((np.array(row),), 2 if self.how == "label" else 0)] * (self.how != "split")

    def fingerprint(self):
        return "0" * 64
"""
    )
    words = ["run", "--config-dir", str(tmp_path), "task=broken", "model=local", "setting=smoke"]
    words += [f"results_dir={tmp_path / 'results'}", "quiet=true"]
    for how, expected in (
        ("id", "token id of 5"),
        ("label", "class of 2"),
        ("long", "10 tokens"),
        ("empty", "without tokens"),
        ("split", "without examples"),
    ):
        assert main([*words, f"task.how={how}"]) == 2
        assert expected in capsys.readouterr().err
    assert main([*words, "task.how=none"]) == 0


def test_a_sweep_over_a_folder_of_ones_own(tmp_path: Path, words: Cli) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/local2.yaml").write_text(
        "_target_: lra_bench.models.trunk.TransformerEncoder\nmixer:\n"
        "  _target_: lra_bench.models.local.LocalAttention\n  _partial_: true\n"
    )
    sweep = [word for word in words if not word.startswith("model=")]
    sweep += ["--config-dir", str(tmp_path / "mine"), "-m", "quiet=true"]
    assert main([*sweep, "model=glob(*cal2)"]) == 0
    assert [record.model for record in records_in(tmp_path)] == ["local2"]
    assert main([*sweep, "model=glob(nothing*)"]) == 2


def test_a_closed_console_ends_no_run(words: Cli, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lra_bench.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdout is not None
        process.stdout.read()
    assert [record.status for record in records_in(tmp_path)] == ["completed"]


def test_a_reader_who_leaves_ends_no_sweep(
    words: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main([*words, "-m", "seed=1,2", "quiet=true"]) == 0
    assert [record.status for record in records_in(tmp_path)] == ["completed"] * 2


def test_a_full_disk_costs_the_checkpoint_alone(
    words: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    assert main(words) == 0
    (record,) = records_in(tmp_path)
    assert record.status == "completed"
    said = capsys.readouterr().err
    assert "warning: cannot write the checkpoint" in said
    assert "the disk is full; free some space" in said


def test_a_record_that_cannot_be_written_is_a_failed_run(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"results_dir={tmp_path / 'elsewhere'}"]) == 0
    (written,) = (tmp_path / "elsewhere").rglob("runs/**/*.json")
    in_the_way = tmp_path / "results" / written.relative_to(tmp_path / "elsewhere")
    in_the_way.mkdir(parents=True)
    # Seen before anything is done; and where that was not to be looked at, at the end.
    assert main(words) == 2
    assert main([*words, "force=true"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    in_the_way.rmdir()
    # What was trained is not lost.
    assert main([*words, "force=true"]) == 0
    assert "going on after step 6 of 6" in capsys.readouterr().err
    (record,) = records_in(tmp_path)
    assert record.status == "completed"


@pytest.mark.parametrize(
    ("number", "code", "tracker"), [(signal.SIGINT, 130, "none"), (signal.SIGTERM, 143, "wandb")]
)
def test_interrupted_and_gone_on(
    words: Cli,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    tracker: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = [*words, "train.num_steps=60", "train.eval_every=20", "seed=4", "num_threads=1"]
    command = [sys.executable, "-m", "lra_bench.cli", *long, f"tracker={tracker}"]
    with subprocess.Popen(
        [*command, "checkpoint_seconds=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        # The first of three evaluations is behind it.
        before = next(line for line in process.stderr if "step 20:" in line)
        process.send_signal(number)
        out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert err.endswith("\ninterrupted; give the same line again to go on\n")
    assert "Traceback" not in f"{before}{err}"
    assert out == ""
    results = tmp_path / "results"
    assert not list((results / "runs").rglob("*"))
    assert not list(results.rglob("*.tmp"))
    names = sorted(path.name for path in (results / "checkpoints").iterdir())
    assert [name.split(".", 1)[1] for name in names] == ["pt", "pt.previous"]

    assert main([*long, f"tracker={tracker}"]) == 0
    assert "going on after step" in capsys.readouterr().err
    (resumed,) = records_in(tmp_path)
    assert resumed.num_resumes == 1
    if tracker == "wandb":
        assert [row["step"] for row in mirrored(results)] == [20, 40, 60]
        return
    assert main([*long, "force=true"]) == 0
    (whole,) = records_in(tmp_path)
    assert whole.num_resumes == 0
    assert (resumed.test, resumed.best_step) == (whole.test, whole.best_step)
    assert not list((results / "checkpoints").iterdir())


def mirrored(results: Path) -> list[dict[str, float]]:
    """Return the rows that the last part of a run has given to wandb."""
    folders = (results / "wandb").glob("offline-run-*")
    last = max(folders, key=lambda path: path.stat().st_mtime)
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(last)]
    done = subprocess.run(inspect, capture_output=True, text=True, check=True)
    entries = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    return [entry["history"]["item"] for entry in entries if entry["type"] == "history"]


def test_a_sweep_runs_every_combination(
    words: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = [word for word in words if not word.startswith("model=")]
    assert main([*sweep, "-m", "model=glob(loc*)", "seed=0,1", "quiet=true"]) == 0
    done = records_in(tmp_path)
    assert {(record.model, record.seed) for record in done} == {("local", 0), ("local", 1)}
    # The seed decides the number.
    assert len({record.test.loss for record in done if record.test}) == 2
    said = capsys.readouterr()
    assert re.fullmatch(r"2 runs\n2 done, in \d+s\n", said.err)
    assert said.out.count("\nrecord: ") == 2


def test_the_whole_configuration_can_be_seen(
    words: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--cfg", "seed=9", "task=image", "model=local", "setting=lra2020"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# lra-bench run setting=lra2020 task=image model=local")
    content = yaml.safe_load(said)
    assert list(content) == list(RunConfig.model_fields)
    assert content["seed"] == 9
    # Above each section the files that made it, in the order in which they were read.
    settings = ("", "/image", "/image/local")
    files = ", ".join(("# run.yaml", *(f"setting/lra2020{name}.yaml" for name in settings)))
    assert f"{files}\ntrunk:" in said or f"{files}\ntrain:" in said
    assert "\n# task/image.yaml\ntask:" in said


def test_wandb_mirrors_the_record(words: Cli, tmp_path: Path) -> None:
    assert main([*words, "tracker=wandb", "seed=2"]) == 0
    (record,) = records_in(tmp_path)
    (folder,) = (tmp_path / "results/wandb").glob("offline-run-*")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary"]
    done = subprocess.run([*inspect, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert record.run_id in done.stdout
    assert record.test is not None
    assert f"{record.test.sums['loss']}" in done.stdout
    assert "validation_accuracy" in done.stdout


def test_the_run_names_data_that_are_not_the_promised(
    outside: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_bad(outside, "unofficial")
    words = ["run", "task=full", "model=local", "setting=smoke", "quiet=true", *outside]
    assert main([*words, f"results_dir={tmp_path / 'results'}"]) == 0
    assert "\ndata: drawn, not the official set\n" in capsys.readouterr().out
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    assert json.loads(path.read_text())["data"]["warning"] == "only 20 examples"
