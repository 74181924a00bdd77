"""One model, stepped; in this process, over a connection whose other end asks."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import made_up_models
import pytest
import torch

from lra_bench.compose import compose
from lra_bench.speed.worker import (
    Failure,
    Hello,
    Order,
    Peak,
    Ready,
    Round,
    Stepper,
    Steps,
    made_up_batch,
    serve,
)
from lra_bench.types import Target, TaskSpec

SPEC = TaskSpec("made up", vocab_size=11, max_length=24, num_classes=3)


def order(*words: str, device: str = "cpu") -> Order:
    request = compose(["task=text", "setting=smoke", "model=local", f"device={device}", *words])
    return Order(request.config, SPEC, batch_size=2, memory_limit_bytes=None)


def asked(first: Order, *commands: Any) -> Sequence[Any]:
    """Return the answers of a worker that nobody asks anything more."""
    ours, theirs = multiprocessing.Pipe()
    worker = threading.Thread(target=serve, args=(theirs,))
    worker.start()
    answers = [ours.recv()]
    for command in (first, *commands):
        ours.send(command)
        answers.append(ours.recv())
    ours.close()
    worker.join(60)
    assert not worker.is_alive()
    return answers


def test_an_answer_to_each_command() -> None:
    hello, ready, inference, train, peak, again = asked(
        order(), Steps("inference", 2), Steps("train", 3), Peak(), Peak()
    )
    assert hello == Hello()
    assert isinstance(ready, Ready)
    assert ready.num_parameters > 100
    for done in (inference, train):
        assert isinstance(done, Round)
        assert done.seconds > 0
        assert done.cpu_seconds >= 0
    # The highest use since the last time: nothing was done in between.
    assert again is None or again <= peak


def test_what_cannot_be_built_or_stepped_is_said() -> None:
    wrong = order("model.mixer.block_size=-1")
    _, failure = asked(wrong)
    assert isinstance(failure, Failure)
    assert failure.trouble == "failed"
    assert "block_size" in failure.reason
    assert "\n" not in failure.reason


def test_whatever_a_model_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_up_models.write(tmp_path)
    monkeypatch.syspath_prepend(str(folder))
    words = ["task=text", "setting=smoke", "device=cpu"]
    for kind, trouble, reason in (
        ("raises", "failed", "ValueError: no such luck: it broke"),
        ("greediest", "out_of_memory", "allocate memory"),
    ):
        request = compose([*words, f"model=odd_{kind}"], config_dirs=[folder])
        *_, failure = asked(Order(request.config, SPEC, 2, None), Steps("inference", 1))
        assert isinstance(failure, Failure)
        assert failure.trouble == trouble
        assert reason in failure.reason


def test_training_moves_the_weights_and_inference_does_not() -> None:
    stepper = Stepper(order())
    before = [one.detach().clone() for one in stepper.model.parameters()]
    stepper.round(Steps("inference", 2))
    assert all(map(torch.equal, before, stepper.model.parameters()))
    assert not stepper.model.training
    stepper.round(Steps("train", 3))
    assert not all(map(torch.equal, before, stepper.model.parameters()))
    assert stepper.num_updates == 3
    assert stepper.model.training


@pytest.mark.parametrize(
    ("target", "num_inputs", "num_classes", "shape"),
    [
        ("class", 1, 3, (2,)),
        ("class", 2, 3, (2,)),
        ("span", 1, 0, (2, 2)),
        ("tokens", 1, 3, (2, 24)),
        ("choice", 2, 0, (2,)),
        ("spans", 1, 0, (2, 1, 2)),
    ],
)
def test_made_up_batches_fit_every_task(
    target: Target, num_inputs: int, num_classes: int, shape: tuple[int, ...]
) -> None:
    marks: dict[str, Any] = {"choice": {"candidate": 9}, "spans": {"answer_length": 3}}
    marks = marks.get(target, {})
    spec = TaskSpec("x", 11, 24, num_classes, num_inputs, target, **marks)
    batch = made_up_batch(spec, 2, seed=0)
    assert batch.tokens_BIL.shape == (2, num_inputs, 24)
    assert batch.mask_BIL is None
    assert batch.num_tokens == 48 * num_inputs
    assert batch.tokens_BIL.max() < 11
    assert batch.targets.shape == shape
    if target == "span":
        assert (batch.targets[:, 0] <= batch.targets[:, 1]).all()
    if target == "choice":
        assert batch.candidates_BC is not None
        assert batch.candidates_BC.shape[0] == 2
        assert batch.targets.max() < batch.candidates_BC.shape[1]
    same = made_up_batch(spec, 2, seed=0)
    assert torch.equal(batch.tokens_BIL, same.tokens_BIL)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_waited_for_and_its_memory_measured() -> None:
    stepper = Stepper(order(device="cuda"))
    done = stepper.round(Steps("train", 2))
    assert done.seconds > 0
    peak = stepper.peak()
    assert peak is not None
    assert peak >= sum(one.numel() * 4 for one in stepper.model.parameters())
