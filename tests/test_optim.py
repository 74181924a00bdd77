"""Schedules against the published numbers, and what decays."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from models.made_up import make_spec
from torch import nn

from lra_bench.build import build
from lra_bench.compose import compose
from lra_bench.optim import SCHEDULES, Optimization, make_optimizer, make_schedule
from lra_bench.schema import TrainConfig


@pytest.mark.parametrize(
    ("name", "base", "warmup", "steps", "expected"),
    [
        # arXiv 2011.04006, released configurations, by the formulas of their code.
        ("rsqrt", 0.05, 1000, 5000, {0: 0, 1: 1.5811e-6, 500: 7.9057e-4, 1000: 1.58114e-3}),
        ("rsqrt", 0.05, 1000, 5000, {4999: 7.0718e-4}),
        ("rsqrt", 0.05, 8000, 20000, {4000: 2.7951e-4, 8000: 5.5902e-4, 19999: 3.5356e-4}),
        ("rsqrt", 0.05, 8000, 5000, {4999: 3.4932e-4}),
        ("epoch_cosine", 5e-4, 175, 35000, {87: 2.4857e-4, 175: 5e-4, 17500: 2.5393e-4}),
        ("epoch_cosine", 5e-4, 175, 35000, {34999: 3.12e-8}),
        ("epoch_cosine", 1e-3, 312, 62400, {312: 1e-3, 31200: 5.0785e-4, 62399: 6.21e-8}),
        ("cosine", 1e-3, 50, 300, {0: 0, 25: 5e-4, 50: 1e-3, 175: 5e-4, 300: 0}),
        # arXiv 2209.10655, released code, ListOps.
        ("linear", 1e-3, 3000, 90000, {0: 0, 1500: 5e-4, 3000: 1e-3, 46500: 5e-4, 90000: 0}),
        ("constant", 1e-3, 10, 100, {0: 0, 5: 5e-4, 10: 1e-3, 99: 1e-3}),
    ],
)
def test_published_rates(
    name: str, base: float, warmup: int, steps: int, expected: dict[int, float]
) -> None:
    schedule = make_schedule(name, learning_rate=base, num_warmup_steps=warmup, num_steps=steps)  # type: ignore[arg-type]
    for step, rate in expected.items():
        assert schedule(step) == pytest.approx(rate, rel=2e-3, abs=1e-12), step


def test_one_cycle_is_that_of_pytorch() -> None:
    schedule = make_schedule("one_cycle", learning_rate=1e-4, num_warmup_steps=100, num_steps=500)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-4, pct_start=100 / 500, anneal_strategy="linear", total_steps=500
    )
    for step in range(500):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
        optimizer.step()
        if step < 499:
            theirs.step()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 7, 50])
def test_rates_are_sane(name: str, warmup: int) -> None:
    schedule = make_schedule(name, learning_rate=1e-3, num_warmup_steps=warmup, num_steps=20)  # type: ignore[arg-type]
    assert all(0 <= schedule(step) <= 1e-3 for step in range(20))


def test_wrong_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="choose from"):
        make_schedule("cosin", learning_rate=1.0, num_warmup_steps=0, num_steps=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learning_rate"):
        make_schedule("cosine", learning_rate=0.0, num_warmup_steps=0, num_steps=1)
    with pytest.raises(ValueError, match="num_warmup_steps"):
        make_schedule("cosine", learning_rate=1.0, num_warmup_steps=-1, num_steps=1)


def test_what_decays() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))

    def decaying(decay: str) -> int:
        optimizer = make_optimizer(
            module,
            weight_decay=0.1,
            decay=decay,  # type: ignore[arg-type]
            betas=(0.9, 0.98),
            eps=1e-9,
        )
        groups = [group for group in optimizer.param_groups if group["weight_decay"]]
        return sum(len(group["params"]) for group in groups)

    assert decaying("all") == 4
    assert decaying("matrices") == 1


def config(**changes: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "num_steps": 5, "batch_size": 1, "eval_batch_size": 1, "eval_every": 1, "bucketing": True,
        "learning_rate": 0.1, "schedule": "cosine", "num_warmup_steps": 1, "weight_decay": 0.1,
        "decay": "matrices", "diagonal_learning_rate": None, "input_learning_rate": None,
        "step_learning_rate": None, "kernel_decay": "all", "beta1": 0.9, "beta2": 0.98, "eps": 1e-9,
        "max_grad_norm": 0.5,
        "precision": "float32", "compile": False,
    }  # fmt: skip
    return TrainConfig(**{**options, **changes})


@pytest.mark.parametrize("norm", [None, 0.5])
def test_an_update_is_a_rate_a_clipping_and_a_step(norm: float | None) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimization = Optimization(ours, config(max_grad_norm=norm))
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}]
    groups.append({"params": [theirs.bias], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-9)
    schedule = make_schedule("cosine", learning_rate=0.1, num_warmup_steps=1, num_steps=5)
    for step in range(5):
        x = torch.randn(4, 3)
        optimization.step(ours(x).square().sum(), step)
        optimizer.zero_grad()
        theirs(x).square().sum().backward()
        if norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), norm)
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.step()
        torch.testing.assert_close(ours.weight, theirs.weight)
        torch.testing.assert_close(ours.bias, theirs.bias)


class Kernel(nn.Module):
    """A part of a state space, beside something else."""

    kernel_parts: ClassVar = {"poles": "diagonal", "entry": "input", "pace": "step"}

    def __init__(self) -> None:
        super().__init__()
        for name in ("poles", "entry", "pace", "other"):
            setattr(self, name, nn.Parameter(torch.ones(2, 2)))


@pytest.mark.parametrize("kernel_decay", ["all", "input", "none"])
def test_parts_of_a_kernel_have_rates_and_decays_of_their_own(kernel_decay: str) -> None:
    module = nn.Sequential(Kernel(), nn.Linear(2, 2))
    optimization = Optimization(
        module,
        config(
            decay="all",
            diagonal_learning_rate=0.01,
            input_learning_rate=0.2,
            kernel_decay=kernel_decay,
            schedule="constant",
            num_warmup_steps=4,
        ),
    )
    optimization.step(sum((one.sum() for one in module.parameters()), torch.zeros(())), 2)
    groups = optimization.optimizer.param_groups
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in groups
        for member in group["params"]
        for name, parameter in module.named_parameters()
        if parameter is member
    }
    assert len(found) == 6
    # Half of the warm-up is over.
    rates = {"0.poles": 0.005, "0.entry": 0.1, "0.pace": 0.05, "0.other": 0.05, "1.bias": 0.05}
    for name, rate in rates.items():
        assert found[name][0] == pytest.approx(rate), name
    decaying = {name for name, (_, decay) in found.items() if decay}
    always = {"0.other", "1.weight", "1.bias"}
    kernel = {"all": {"0.poles", "0.entry", "0.pace"}, "input": {"0.entry"}, "none": set()}
    assert decaying == always | kernel[kernel_decay]


def test_rates_as_for_all_make_no_groups() -> None:
    """Checkpoints of runs from before there were such rates fit."""
    optimizer = Optimization(Kernel(), config(decay="all")).optimizer
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("model", ["s4d", "s5", "mamba"])
def test_state_spaces_name_their_kernels(model: str) -> None:
    asked = compose([f"model={model}", "task=listops", "setting=smoke"])
    encoder = build(asked.config.model, "model", spec=make_spec())
    named = [
        (kind, getattr(part, name))
        for part in encoder.modules()
        for name, kind in getattr(part, "kernel_parts", {}).items()
    ]
    assert "diagonal" in {kind for kind, _ in named}
    assert all(isinstance(parameter, nn.Parameter) for _, parameter in named)
