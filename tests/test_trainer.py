"""The loop: exact resume, the best weights, every example counted, a loss that is no number."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lra_bench.classifier import SequenceClassifier

from lra_bench import checkpoint, trainer
from lra_bench.checkpoint import State
from lra_bench.data import Loader
from lra_bench.models.encoder import EncoderSpec
from lra_bench.models.ernie_sparse import ErnieSparseEncoder
from lra_bench.objective import CrossEntropy, SelfAttentionRegularization
from lra_bench.optim import make_optimizer, make_schedule
from lra_bench.tracking import Tracker
from lra_bench.trainer import Diverged, Evaluation, Interrupt, Interrupted
from lra_bench.types import Example, TaskSpec

NUM_STEPS = 9
TASK = TaskSpec("made up", vocab_size=9, max_length=20, num_classes=3)


class MadeUp:
    """Examples of different lengths whose label is their first token modulo three."""

    def __init__(self, number: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rows = [rng.integers(1, 9, rng.integers(3, 20)) for _ in range(number)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return Example((self.rows[index],), int(self.rows[index][0] % 3))


class Recorder(Tracker):
    """Stops the run after a step, as a signal would, and remembers what it was told."""

    stop_during = "training"

    def __init__(self, interrupt: Interrupt, stop_after: int | None = None) -> None:
        self.interrupt = interrupt
        self.stop_after = stop_after
        self.logged: list[int] = []
        self.left: list[float | None] = []

    def progress(self, what: str, done: int, total: int, seconds_left: float | None) -> None:
        self.left.append(seconds_left)
        if what == self.stop_during and done == self.stop_after:
            self.interrupt.signal_number = signal.SIGTERM

    def log(self, metrics: Any, *, step: int) -> None:
        self.logged.append(step)


def make_classifier(*, seed: int, dropout: float) -> SequenceClassifier:
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
    return SequenceClassifier(
        ErnieSparseEncoder(spec, block_size=4), TASK, width=8, hidden_width=8, pooling="mean"
    )


class Bench:
    """One small run, which can be stopped and started again."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "run.pt"
        self.options = options
        loaders = {"batch_size": 8, "bucketing": True, "device": torch.device("cpu")}
        self.training = Loader(MadeUp(30, 0), **loaders)  # type: ignore[arg-type]
        self.validation = Loader(MadeUp(13, 1), **loaders)  # type: ignore[arg-type]

    def run(self, *, stop_after: int | None = None) -> tuple[SequenceClassifier, State, Recorder]:
        classifier = make_classifier(seed=5, dropout=0.2)
        optimizer = make_optimizer(
            classifier, weight_decay=0.1, decay="all", betas=(0.9, 0.98), eps=1e-9
        )
        if self.path.exists():
            # What a process that starts anew would draw if nothing were restored.
            torch.manual_seed(99)
        state = checkpoint.restore(self.path, classifier, optimizer)
        interrupt = Interrupt()
        recorder = Recorder(interrupt, stop_after)
        options: dict[str, Any] = {
            "objective": CrossEntropy(),
            "schedule": make_schedule(
                "cosine", learning_rate=0.01, num_warmup_steps=2, num_steps=NUM_STEPS
            ),
            "max_grad_norm": 1.0,
            "precision": "float32",
            "eval_every": 2,
            **self.options,
        }
        trainer.train(
            classifier,
            optimizer=optimizer,
            training=self.training,
            validation=self.validation,
            num_steps=NUM_STEPS,
            seed=3,
            checkpoint_path=self.path,
            checkpoint_seconds=1e9,
            num_final_examples=5,
            state=state,
            tracker=recorder,
            interrupt=interrupt,
            **options,
        )
        return classifier, state, recorder


def without_times(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key != "train_seconds"} for row in curve]


@pytest.mark.parametrize("stop_after", [1, 2, 5, 8, NUM_STEPS])
@pytest.mark.parametrize("objective", [CrossEntropy(), SelfAttentionRegularization()])
def test_resuming_is_exact(tmp_path: Path, stop_after: int, objective: Any) -> None:
    (tmp_path / "whole").mkdir()
    whole, whole_state, _ = Bench(tmp_path / "whole", objective=objective).run()
    bench = Bench(tmp_path, objective=objective)
    with pytest.raises(Interrupted):
        bench.run(stop_after=stop_after)
    resumed, state, _ = bench.run()
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert without_times(whole_state.curve) == without_times(state.curve)
    assert (state.examples_seen, state.tokens_seen) == (
        whole_state.examples_seen,
        whole_state.tokens_seen,
    )
    assert (whole_state.num_resumes, state.num_resumes) == (0, 1)


def test_interrupting_an_evaluation_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole, whole_state, _ = Bench(tmp_path / "whole").run()
    bench = Bench(tmp_path)
    with monkeypatch.context() as during:
        during.setattr(Recorder, "stop_during", "validating")
        with pytest.raises(Interrupted):
            bench.run(stop_after=8)
    resumed, state, _ = bench.run()
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert without_times(whole_state.curve) == without_times(state.curve)


def test_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    classifier, state, recorder = bench.run()
    assert recorder.logged == [2, 4, 6, 8, 9]
    accuracies = {row["step"]: row["validation_accuracy"] for row in state.curve}
    best = max(accuracies.values())
    assert state.best_step == min(step for step in accuracies if accuracies[step] == best)
    assert state.best_validation is not None
    again = trainer.evaluate(
        classifier,
        bench.validation,
        precision="float32",
        interrupt=Interrupt(),
        progress=lambda done, total: None,
    )
    assert again.accuracy == best
    assert again.num_correct == state.best_validation["num_correct"]


def test_evaluation_counts_every_example(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    classifier, _, _ = bench.run()
    found = trainer.evaluate(
        classifier,
        bench.validation,
        precision="float32",
        interrupt=Interrupt(),
        progress=lambda done, total: None,
    )
    # One at a time, in order, by hand.
    examples, right, loss = MadeUp(13, 1), 0, 0.0
    for index in range(13):
        one = Loader([examples[index]], batch_size=1, bucketing=False, device=torch.device("cpu"))
        (batch,) = one.evaluation()
        logits = classifier(batch)
        right += int(logits.argmax() == batch.targets)
        loss += F.cross_entropy(logits, batch.targets).item()
    assert (found.num_examples, found.num_correct) == (13, right)
    assert found.loss_sum == pytest.approx(loss, rel=1e-5)
    assert Evaluation(4, 3, 1.0).accuracy == 0.75


@pytest.mark.parametrize("bucketing", [True, False])
def test_bucketing_changes_no_evaluation(tmp_path: Path, bucketing: bool) -> None:
    bench = Bench(tmp_path)
    classifier, _, _ = bench.run()
    expected = None
    for batch_size in (1, 4, 50):
        loader = Loader(
            MadeUp(13, 1), batch_size=batch_size, bucketing=bucketing, device=torch.device("cpu")
        )
        found = trainer.evaluate(
            classifier,
            loader,
            precision="float32",
            interrupt=Interrupt(),
            progress=lambda done, total: None,
        )
        expected = expected or found
        assert found.num_correct == expected.num_correct
        assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-5)


class Broken(CrossEntropy):
    """A loss that is no number from the fourth step on."""

    calls = 0

    def __call__(self, classifier: Any, batch: Any) -> Any:
        self.calls += 1
        loss = super().__call__(classifier, batch)
        return type(loss)(loss.total * (math.nan if self.calls > 3 else 1.0), loss.terms)


def test_a_loss_that_is_no_number_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"nan at step 4 .*train\.learning_rate"):
        Bench(tmp_path, objective=Broken()).run()


def test_time_left_shrinks(tmp_path: Path) -> None:
    _, _, recorder = Bench(tmp_path).run()
    left = [seconds for seconds in recorder.left if seconds is not None]
    assert len(left) > NUM_STEPS
    assert left[-1] < max(left)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Interrupted):
        bench.run(stop_after=4)
    whole = bench.path.read_bytes()
    bench.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"run\.pt.*delete the file"):
        bench.run()


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Interrupted):
        bench.run(stop_after=4)
    before = bench.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        bench.run()
    assert bench.path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [bench.path]


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            interrupt.check()
        assert caught.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


class TestObjectives:
    def batch(self) -> tuple[SequenceClassifier, Any]:
        classifier = make_classifier(seed=0, dropout=0.0)
        loader = Loader(MadeUp(6, 2), batch_size=6, bucketing=False, device=torch.device("cpu"))
        return classifier, next(loader.evaluation())

    @pytest.mark.parametrize("topology", ErnieSparseEncoder.topologies)
    def test_regularization_is_its_formula(self, topology: str) -> None:
        classifier, batch = self.batch()
        found = SelfAttentionRegularization(alpha=0.7, topology=topology)(classifier, batch)
        first = classifier(batch).softmax(-1)
        second = classifier(batch, topology=topology).softmax(-1)
        rows = range(len(batch.targets))
        expected = divergence = 0.0
        for row in rows:
            p, q, label = first[row], second[row], batch.targets[row]
            both = (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
            divergence += both.item() / 2 / len(rows)
            expected -= (p[label].log().item() + q[label].log().item()) / 2 / len(rows)
        assert found.terms["divergence"].item() == pytest.approx(divergence, rel=1e-3)
        assert found.terms["divergence"].item() > 0
        assert found.terms["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)
        assert found.total.item() == pytest.approx(expected + 0.7 * divergence, rel=1e-5)

    def test_cross_entropy_is_the_mean(self) -> None:
        classifier, batch = self.batch()
        expected = F.cross_entropy(classifier(batch), batch.targets)
        torch.testing.assert_close(CrossEntropy()(classifier, batch).total, expected)

    def test_passes_are_stated(self) -> None:
        assert CrossEntropy.passes_per_step == 1
        assert SelfAttentionRegularization.passes_per_step == 2

    def test_what_cannot_be_trained_is_refused(self) -> None:
        objective = SelfAttentionRegularization(topology="shifted")
        objective.check(("shifted", "wide"))
        with pytest.raises(ValueError, match="model=ernie_sparse"):
            objective.check(())
        with pytest.raises(ValueError, match="choose from wide"):
            objective.check(("wide",))
        with pytest.raises(ValueError, match="alpha=-1"):
            SelfAttentionRegularization(alpha=-1.0)
