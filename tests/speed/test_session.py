"""Two processes that take turns, one of which gives up."""

from __future__ import annotations

from pathlib import Path

import made_up_models
import pytest

from lra_bench.compose import compose
from lra_bench.speed.session import Companion, Effort, measure
from lra_bench.speed.worker import Order
from lra_bench.types import TaskSpec

EFFORT = Effort(
    num_rounds=2, round_seconds=0, warmup_steps=1, limit_seconds=120, memory_limit_bytes=None
)


def test_models_are_measured_although_the_baseline_has_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_up_models.write(tmp_path)
    monkeypatch.syspath_prepend(str(folder))

    def order(kind: str) -> Order:
        words = ["task=text", "setting=smoke", "num_threads=1", f"model=odd_{kind}"]
        request = compose(words, config_dirs=[folder])
        return Order(request.config, TaskSpec("made up", 11, 16, 3), 2, None)

    companion = Companion(order("raises"), EFFORT, check=lambda: None)
    measured = measure(order("fine"), companion)
    assert companion.gave_up == "ValueError: no such luck: it broke"
    # Once and for all.
    assert companion.join() is None
    assert (measured.baseline_train, measured.baseline_inference) == (None, None)
    assert len(measured.train.seconds_per_step) == 2
    assert measured.inference.steps_per_round == 1
    companion.close()


def test_somebody_who_asks_to_stop_is_heard_while_a_model_is_waited_for() -> None:
    def check() -> None:
        raise KeyboardInterrupt

    request = compose(["task=text", "setting=smoke", "num_threads=1", "model=local"])
    order = Order(request.config, TaskSpec("made up", 11, 16, 3), 2, None)
    with pytest.raises(KeyboardInterrupt):
        measure(order, Companion(order, EFFORT, check))
