"""The loop: exact resume, the best weights, every example counted, a loss that is no number."""

from __future__ import annotations

import math
import resource
import signal
from pathlib import Path
from typing import Any

import made_up_runs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_up_runs import HEAD

from lra_bench import trainer
from lra_bench.checkpoint import Checkpoint, State
from lra_bench.data import Loader
from lra_bench.errors import UserError
from lra_bench.heads import TaskModel, make_model
from lra_bench.interrupt import Interrupt, Interrupted
from lra_bench.metrics import Evaluation
from lra_bench.models.encoder import EncoderSpec
from lra_bench.models.ernie_sparse import ErnieSparseEncoder
from lra_bench.objective import CrossEntropy, SelfAttentionRegularization
from lra_bench.optim import Optimization
from lra_bench.schema import TrainConfig
from lra_bench.tracking import Tracker
from lra_bench.trainer import Diverged
from lra_bench.types import Example, Progress, TaskSpec

NUM_STEPS = 9
TASK = TaskSpec("made up", vocab_size=9, max_length=20, num_classes=3)
CPU = torch.device("cpu")


class MadeUp:
    """Examples of different lengths whose class is their first token modulo three."""

    def __init__(self, number: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rows = [rng.integers(1, 9, rng.integers(3, 20)) for _ in range(number)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return Example((self.rows[index],), int(self.rows[index][0] % 3))


class Recorder(Tracker):
    """Stops the run where it is told to, as a signal would, and remembers what it was told."""

    def __init__(
        self, interrupt: Interrupt, stop_after: int | None = None, during: str = "training"
    ) -> None:
        self.interrupt = interrupt
        self.stop_after = stop_after
        self.during = during
        self.logged: list[int] = []
        self.said: list[str] = []

    def progress(self, progress: Progress) -> None:
        if progress.what == self.during and progress.done == self.stop_after:
            self.interrupt.signal_number = signal.SIGTERM

    def log(self, metrics: Any, *, step: int) -> None:
        self.logged.append(step)

    def message(self, text: str) -> None:
        self.said.append(text)


def make(*, seed: int, dropout: float) -> TaskModel:
    torch.manual_seed(seed)
    spec = EncoderSpec(
        vocab_size=9,
        max_length=20,
        num_layers=2,
        width=8,
        num_heads=2,
        qkv_width=8,
        ffn_width=8,
        dropout=dropout,
    )
    return make_model(ErnieSparseEncoder(spec, block_size=4), TASK, HEAD)


def config(**changes: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "num_steps": NUM_STEPS, "eval_batch_size": 8, "eval_every": 2,
        "learning_rate": 0.01, "eps": 1e-9, "max_grad_norm": 1.0,
    }  # fmt: skip
    return made_up_runs.config(**{**options, **changes})


def loader(number: int, seed: int, *, batch_size: int = 8, bucketing: bool = True) -> Loader:
    examples = MadeUp(number, seed)
    return Loader(examples, TASK, batch_size=batch_size, bucketing=bucketing, device=CPU)


class Bench:
    """One small run, which can be stopped and started again."""

    def __init__(self, folder: Path, objective: Any = None, **options: Any) -> None:
        self.path = folder / "run.pt"
        self.objective = CrossEntropy() if objective is None else objective
        self.every_seconds = options.pop("every_seconds", 1e9)
        self.config = config(**options)
        self.training, self.validation = loader(30, 0), loader(13, 1)

    def run(
        self, *, stop_after: int | None = None, during: str = "training"
    ) -> tuple[TaskModel, State, Recorder]:
        model = make(seed=5, dropout=0.2)
        optimization = Optimization(model, self.config)
        if self.path.exists():
            # What a process that starts anew would draw if nothing were restored.
            torch.manual_seed(99)
        checkpoint = Checkpoint(
            self.path,
            model,
            optimization.optimizer,
            run_id="this",
            every_seconds=self.every_seconds,
        )
        interrupt = Interrupt()
        recorder = Recorder(interrupt, stop_after, during)
        state = checkpoint.restore()
        trainer.train(
            model,
            state,
            objective=self.objective,
            optimization=optimization,
            training=self.training,
            validation=self.validation,
            config=self.config,
            seed=3,
            checkpoint=checkpoint,
            tracker=recorder,
            interrupt=interrupt,
        )
        return model, state, recorder


def evaluate(model: TaskModel, loader: Loader) -> Evaluation:
    return trainer.evaluate(
        model,
        loader,
        precision="float32",
        what="testing",
        tracker=Tracker(),
        interrupt=Interrupt(),
    )


def without_times(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key != "train_seconds"} for row in curve]


def check_same(
    one: tuple[TaskModel, State, Recorder], other: tuple[TaskModel, State, Recorder]
) -> None:
    for name, weight in one[0].state_dict().items():
        assert torch.equal(weight, other[0].state_dict()[name]), name
    assert without_times(one[1].curve) == without_times(other[1].curve)
    for name in ("examples_seen", "tokens_seen", "best_step", "best_validation"):
        assert getattr(one[1], name) == getattr(other[1], name), name


@pytest.mark.parametrize("stop_after", [1, 2, 5, 8, NUM_STEPS])
@pytest.mark.parametrize("objective", [CrossEntropy(), SelfAttentionRegularization()])
def test_resuming_is_exact(tmp_path: Path, stop_after: int, objective: Any) -> None:
    (tmp_path / "whole").mkdir()
    whole = Bench(tmp_path / "whole", objective).run()
    bench = Bench(tmp_path, objective)
    with pytest.raises(Interrupted):
        bench.run(stop_after=stop_after)
    resumed = bench.run()
    check_same(whole, resumed)
    assert (whole[1].num_resumes, resumed[1].num_resumes) == (0, 1)


def test_interrupting_an_evaluation_is_exact(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = Bench(tmp_path / "whole").run()
    bench = Bench(tmp_path)
    with pytest.raises(Interrupted):
        bench.run(stop_after=8, during="validating")
    check_same(whole, bench.run())


def test_going_on_from_a_checkpoint_on_the_way_is_exact(tmp_path: Path) -> None:
    """As after a kill, which leaves no time to save."""
    (tmp_path / "whole").mkdir()
    whole = Bench(tmp_path / "whole").run()
    bench = Bench(tmp_path, every_seconds=0.0)

    class Killed(Recorder):
        def progress(self, progress: Progress) -> None:
            if progress == Progress("training", 6, NUM_STEPS):
                raise SystemExit

    model = make(seed=5, dropout=0.2)
    optimization = Optimization(model, bench.config)
    checkpoint = Checkpoint(
        bench.path, model, optimization.optimizer, run_id="this", every_seconds=0.0
    )
    with pytest.raises(SystemExit):
        trainer.train(
            model,
            checkpoint.restore(),
            objective=bench.objective,
            optimization=optimization,
            training=bench.training,
            validation=bench.validation,
            config=bench.config,
            seed=3,
            checkpoint=checkpoint,
            tracker=Killed(Interrupt()),
            interrupt=Interrupt(),
        )
    check_same(whole, bench.run())


def test_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model, state, recorder = bench.run()
    assert recorder.logged == [2, 4, 6, 8, 9]
    accuracies = {row["step"]: row["validation_accuracy"] for row in state.curve}
    best = max(accuracies.values())
    assert state.best_step == min(step for step in accuracies if accuracies[step] == best)
    again = evaluate(model, bench.validation)
    assert again["accuracy"] == best
    assert again.sums == state.best_validation


def test_a_metric_that_should_be_small_is_followed_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path, learning_rate=0.05)
    spec = TaskSpec("made up", 9, 20, num_classes=3, metrics=("loss", "accuracy"))
    bench.validation.spec = spec
    _, state, _ = bench.run()
    losses = {row["step"]: row["validation_loss"] for row in state.curve}
    assert state.best_step == min(losses, key=lambda step: losses[step])


def test_a_kind_of_question_that_is_never_asked(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model, _, _ = bench.run()
    spec = TaskSpec(
        "made up", 9, 20, 3, target="tokens", metrics=("accuracy_of_far",), questions={"far": 8}
    )
    asked = [Example((np.array([1, 2]),), np.array([0, 1]))]
    loader = Loader(asked, spec, batch_size=1, bucketing=False, device=CPU)
    tagger = make_model(model.encoder, spec, HEAD)
    with pytest.raises(UserError, match="task made up has a split that never asks far"):
        evaluate(tagger, loader)


def test_evaluation_counts_every_example(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model, _, _ = bench.run()
    counted = evaluate(model, bench.validation)
    # One at a time, in order, by hand.
    examples, right, loss = MadeUp(13, 1), 0, 0.0
    for index in range(13):
        one = Loader([examples[index]], TASK, batch_size=1, bucketing=False, device=CPU)
        (batch,) = one.evaluation()
        logits = model(batch)
        right += int(logits.argmax() == batch.targets)
        loss += F.cross_entropy(logits, batch.targets).item()
    assert (counted.num_examples, counted.sums["correct"]) == (13, right)
    assert counted.sums["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("bucketing", [True, False])
def test_bucketing_changes_no_evaluation(tmp_path: Path, bucketing: bool) -> None:
    model, _, _ = Bench(tmp_path).run()
    expected = None
    for batch_size in (1, 4, 50):
        counted = evaluate(model, loader(13, 1, batch_size=batch_size, bucketing=bucketing))
        expected = expected or counted
        assert counted.sums["correct"] == expected.sums["correct"]
        assert counted.loss == pytest.approx(expected.loss, rel=1e-5)


class Broken(CrossEntropy):
    """A loss that is no number from the fourth step on."""

    calls = 0

    def __call__(self, model: Any, batch: Any) -> Any:
        self.calls += 1
        loss = super().__call__(model, batch)
        return type(loss)(loss.total * (math.nan if self.calls > 3 else 1.0), loss.terms)


def test_a_loss_that_is_no_number_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"nan at step 4 .*train\.learning_rate"):
        Bench(tmp_path, Broken()).run()


def test_a_disk_that_is_full_costs_a_warning(tmp_path: Path) -> None:
    """The run goes on and ends as it would have; the last good checkpoint stays."""
    whole = Bench(tmp_path / "whole").run()
    bench = Bench(tmp_path)
    with pytest.raises(Interrupted):
        bench.run(stop_after=4)
    before = bench.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What the system says is "file too large"; it comes the same way as a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        resumed = bench.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    check_same(whole, resumed)
    (warning,) = resumed[2].said
    assert warning.startswith(f"warning: cannot write the checkpoint {bench.path}: ")
    assert "another results_dir" in warning
    assert "unexpected pos" not in warning
    assert bench.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.pt", "whole"]
