"""A whole run: every kind of answer, reuse, repetition, interruption, two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import Compose

from lra_bench import record as records
from lra_bench.build import build_task
from lra_bench.errors import UserError
from lra_bench.leaderboard import publish
from lra_bench.record import RunRecord
from lra_bench.runner import assemble, run
from lra_bench.runs import LiveStatus

LEARNING = (
    *("train.num_steps=150", "train.eval_every=30", "train.learning_rate=0.02"),
    *("trunk.dropout=0.0", "train.num_warmup_steps=5", "head.pooling=first"),
)


def where(request_results: Path, record: RunRecord) -> Path:
    return records.record_path(
        request_results, record.setting, record.task, record.model, record.run_id
    )


@pytest.mark.parametrize(
    ("task", "metric", "others"),
    [
        ("first", "f1_macro", ["accuracy"]),
        ("even", "f1_of_1", ["accuracy", "f1_micro"]),
        ("brackets", "exact_match", ["token_f1"]),
        ("last", "accuracy", []),
        ("any", "answer_f1", ["exact_match"]),
    ],
)
def test_every_kind_of_answer_is_learned_recorded_and_shown(
    made_up: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    task: str,
    metric: str,
    others: list[str],
) -> None:
    record = run(made_up(*LEARNING, task=task))
    assert record.status == "completed"
    assert record.test is not None
    assert record.ranking_metric == metric
    assert record.test[metric] > 0.9, record.metrics
    for name in (metric, *others):
        assert record.metrics[name]["test"] == record.test[name]
    # Validation picked by the first metric, the earliest of equals.
    best = max(row[f"validation_{metric}"] for row in record.curve)
    first = next(row["step"] for row in record.curve if row[f"validation_{metric}"] == best)
    assert record.best_step == first
    assert record.validation is not None
    assert record.validation[metric] == best
    path = where(tmp_path / "results", record)
    assert records.read(path) == record
    # The table of another person, from the file alone; smoke is in no table.
    content = json.loads(path.read_text())
    assert content["metrics"][metric]["test"] == record.test[metric]
    assert publish([tmp_path / "results"], tmp_path / "out") == 0
    assert "No runs yet" in capsys.readouterr().out


def test_the_baseline_is_that_of_the_first_metric(made_up: Compose) -> None:
    request = made_up("train.num_steps=1")
    record = run(request)
    examples = build_task(request)
    training = [int(one.target) for one in examples.examples("train")]  # type: ignore[attr-defined]
    test = [int(one.target) for one in examples.examples("test")]  # type: ignore[attr-defined]
    answer = max(range(3), key=lambda number: (training.count(number), -number))
    precision = test.count(answer) / len(test)
    assert record.majority_baseline == pytest.approx(2 * precision / (precision + 1) / 3)
    assert run(made_up("train.num_steps=1", task="brackets")).majority_baseline is None


def test_a_finished_run_is_reused_and_repeated_only_if_forced(
    made_up: Compose, tmp_path: Path
) -> None:
    first = run(made_up())
    assert run(made_up()) == first
    forced = run(made_up("force=true"))
    assert forced.run_id == first.run_id
    assert forced.started_at >= first.started_at
    assert forced.test == first.test
    assert len(list((tmp_path / "results/runs").rglob("*.json"))) == 1
    assert not list((tmp_path / "results").rglob("*.pt"))
    assert not list((tmp_path / "results/live").glob("*.json"))


def test_other_data_are_another_run(made_up: Compose) -> None:
    one = run(made_up("train.num_steps=1"))
    other = run(made_up("train.num_steps=1", "task.seed=1"))
    assert one.run_id != other.run_id
    assert one.data_sha256 != other.data_sha256


def test_a_record_says_what_was_run(made_up: Compose) -> None:
    record = run(made_up("model.mixer.block_size=7", "train.num_steps=2"))
    assert (record.setting, record.task, record.model) == ("smoke", "first", "local")
    assert record.changes == {"model.mixer.block_size": 7, "train.num_steps": 2}
    assert record.labels["model"] == "local(block_size=7)"
    assert record.run_id == f"{record.request_id}-{record.data_sha256[:8]}"
    assert record.data["source"] == "made up, seed 0"
    assert record.num_steps == 2
    assert record.num_processes == 1
    assert record.parent is None
    assert record.config["model"]["mixer"]["_target_"].endswith("LocalAttention")


@pytest.mark.parametrize("wrong", ["train.learning_rate=1e30", "train.learning_rate=1e300"])
def test_a_run_that_diverges_is_a_record_too(made_up: Compose, wrong: str) -> None:
    record = run(made_up(wrong, "train.max_grad_norm=null", "train.schedule=constant"))
    assert record.status == "diverged"
    assert record.test is None
    assert "try a smaller train.learning_rate" in str(record.error)


def test_assembling_draws_the_same_weights_whatever_came_before(made_up: Compose) -> None:
    request = made_up(model="ernie_sparse")
    spec = build_task(request).spec
    one = assemble(request.config, spec).state_dict()
    torch.rand(17)
    other = assemble(request.config, spec).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = assemble(made_up("seed=1", model="ernie_sparse").config, spec).state_dict()
    assert any(not torch.equal(one[name], third[name]) for name in one)


def test_what_does_not_go_together_is_refused_before_data(made_up: Compose) -> None:
    for words, text in (
        (["objective=sar", "objective.topology=dense"], "objective=sar with model="),
        (["trunk.num_heads=3"], "num_heads=3 does not divide"),
        (["model.mixer.block_size=0"], "block_size=0"),
        (["tracker=none", "num_threads=99999999"], "num_threads=99999999 must be at most 1024"),
        (["train.compile=true", "device=cpu"], r"train\.compile=true gains nothing on a CPU"),
        (["train.learning_rate=1e-3", "device=cuda:99"], "device=cuda:99: PyTorch sees"),
    ):
        with pytest.raises(UserError, match=text):
            run(made_up(*words, model="local"))


PROGRAM = """
import sys
from lra_bench.cli import main
sys.exit(main())
"""


def start(tmp_path: Path, conf: Path, *words: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [
            *(sys.executable, "-c", PROGRAM, "run", "--config-dir", str(conf), "setting=smoke"),
            *("task=first", "model=local", f"results_dir={tmp_path / 'results'}", *words),
        ],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


# The same number of threads everywhere: another one rounds in another way.
# Saved at every step, which makes it long enough to be looked at.
LONG = (
    *("train.num_steps=200", "train.eval_every=100", "num_threads=1"),
    *("checkpoint_seconds=0", "checkpoint_share=0.9"),
)


def wait_for_training(tmp_path: Path) -> LiveStatus:
    """Wait until the live status of the one run says that it trains, and it has been saved."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in (tmp_path / "results/live").glob("*.json"):
            live = LiveStatus.read(path)
            saved = list((tmp_path / "results/checkpoints").glob("*.pt"))
            if live is not None and live.state == "training" and saved:
                return live
        time.sleep(0.01)
    raise AssertionError("no run trains")


def test_two_at_once_do_the_work_once_and_a_killed_owner_leaves_no_lock(
    tmp_path: Path, made_up_conf: Path, made_up: Compose
) -> None:
    owner = start(tmp_path, made_up_conf, *LONG)
    live = wait_for_training(tmp_path)
    owner.send_signal(signal.SIGSTOP)
    assert live.pid == owner.pid
    # Another one that does not want to wait says who is at it.
    with pytest.raises(UserError, match=rf"process {owner.pid} on .* wait=true"):
        run(made_up(*LONG, "wait=false"))
    # A third waits; the owner is killed without a chance to clear up, and the third goes on.
    results: list[RunRecord] = []
    waiting = threading.Thread(target=lambda: results.append(run(made_up(*LONG))))
    waiting.start()
    waiting.join(1)
    assert waiting.is_alive()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    waiting.join(300)
    (record,) = results
    assert record.status == "completed"
    assert len(list((tmp_path / "results/runs").rglob("*.json"))) == 1
    # What nobody interrupted gives the same numbers.
    whole = run(made_up(*LONG, "results_dir=" + str(tmp_path / "other")))
    assert whole.test == record.test
    assert [row["train_loss"] for row in whole.curve] == [row["train_loss"] for row in record.curve]


def test_an_interrupted_run_says_so_and_goes_on(tmp_path: Path, made_up_conf: Path) -> None:
    process = start(tmp_path, made_up_conf, *LONG)
    wait_for_training(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "give the same line again to go on" in errors
    (live,) = (tmp_path / "results/live").glob("*.json")
    assert json.loads(live.read_text())["state"] == "interrupted"
    assert len(list((tmp_path / "results/checkpoints").glob("*.pt"))) == 1
    process = start(tmp_path, made_up_conf, *LONG)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "going on after step" in errors
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    assert records.read(path).num_resumes == 1
    assert not list((tmp_path / "results/live").glob("*.json"))
