"""Several processes make of a batch what one makes of it, whatever share each of them has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_runs import TASKS, config, loader, model_for, train, without_times
from made_up_tasks import EvenTokens, FirstToken
from together import together
from torch import Tensor, nn

from lra_bench import randomness, trainer
from lra_bench.checkpoint import Checkpoint, State
from lra_bench.distributed import ALONE, World, check_norms
from lra_bench.errors import UserError
from lra_bench.heads import TaskModel
from lra_bench.interrupt import Interrupt
from lra_bench.models.layers import BatchNorm
from lra_bench.objective import CrossEntropy, Objective, SelfAttentionRegularization
from lra_bench.optim import Optimization
from lra_bench.tracking import Tracker
from lra_bench.trainer import Diverged
from lra_bench.types import Batch

# What float32 leaves of a weight; eps is large enough that no update divides by what rounding left.
RELATIVE, ABSOLUTE = 1e-4, 2e-6


def check_close(found: Sequence[Any], whole: tuple[dict[str, Tensor], State]) -> None:
    """Compare processes with one another, to the bit, and with one that does it all."""
    (weights, state), *others = found
    for theirs, other_state in others:
        for name in weights:
            assert torch.equal(weights[name], theirs[name]), name
        assert without_times(state.curve) == without_times(other_state.curve)
        assert state.best_validation == other_state.best_validation
    for name in weights:
        torch.testing.assert_close(
            weights[name], whole[0][name], rtol=RELATIVE, atol=ABSOLUTE, msg=name
        )
    for row, wanted in zip(state.curve, whole[1].curve, strict=True):
        for name in set(row) - {"train_seconds"}:
            assert row[name] == pytest.approx(wanted[name], rel=1e-5), name
    assert state.best_step == whole[1].best_step
    for name in ("examples_seen", "tokens_seen"):
        assert getattr(state, name) == getattr(whole[1], name), name


@pytest.mark.parametrize(
    ("size", "target", "objective", "options", "settings"),
    [
        (2, "tokens", None, {}, {}),
        # Three do not divide eight, and four of seven batches leave somebody with one fewer.
        pytest.param(*(3, "class", SelfAttentionRegularization(), {}, {}), marks=pytest.mark.slow),
        # Batches with fewer examples than processes.
        (3, "span", None, {}, {"batch_size": 2}),
        (3, "tokens", None, {"norm": "batch"}, {"batch_size": 4}),
        pytest.param(
            *(3, "class", None, {"norm": "batch"}, {"batch_size": 2, "max_grad_norm": None}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_same_as_one_process(
    tmp_path: Path,
    size: int,
    target: str,
    objective: Objective | None,
    options: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    asked = (target, objective, options, settings)
    (tmp_path / "whole").mkdir()
    whole = train(ALONE, tmp_path / "whole", *asked)
    check_close(together(size, train, tmp_path, *asked), whole)


@pytest.mark.parametrize("target", TASKS)
@pytest.mark.parametrize(("batch_size", "size"), [(8, 2), (8, 3), (2, 3)])
def test_shares_are_the_batch(target: str, batch_size: int, size: int) -> None:
    """Every example is in one share, padded as in the whole batch; the rest counts for nothing."""
    task = TASKS[target](num_examples=30)
    whole = loader(task, ALONE, "train", batch_size).training(seed=3, start=2, stop=20)
    shares = [
        loader(task, World(rank, size), "train", batch_size).training(seed=3, start=2, stop=20)
        for rank in range(size)
    ]
    num_stand_ins = 0
    for batch, *parts in zip(whole, *shares, strict=True):
        of_rank = [part if part.num_tokens else None for part in parts]
        num_stand_ins += of_rank.count(None)
        assert all(part.tokens_BIL.shape[-1] == batch.tokens_BIL.shape[-1] for part in parts)
        assert sum(part.num_tokens for part in parts) == batch.num_tokens
        for rank, part in enumerate(of_rank):
            if part is None:
                assert batch.size <= rank
                continue
            assert torch.equal(part.tokens_BIL, batch.tokens_BIL[rank::size])
            assert torch.equal(part.targets, batch.targets[rank::size])
            assert torch.equal(mask_of(part), mask_of(batch)[rank::size])
    assert bool(num_stand_ins) == (batch_size < size)


def mask_of(batch: Batch) -> Tensor:
    shape = batch.tokens_BIL.shape
    return torch.ones(shape, dtype=torch.bool) if batch.mask_BIL is None else batch.mask_BIL


def evaluate(world: World, num_examples: int) -> Any:
    task = EvenTokens(num_examples=num_examples)
    model = model_for(task)
    return trainer.evaluate(
        model,
        loader(task, world, "test", 4),
        precision="float32",
        what="testing",
        tracker=Tracker(),
        interrupt=Interrupt(),
        world=world,
    )


@pytest.mark.parametrize("num_examples", [13, 2])
def test_every_example_is_evaluated_once(num_examples: int) -> None:
    alone = evaluate(ALONE, num_examples)
    for found in together(3, evaluate, num_examples):
        assert found.num_examples == num_examples
        for name, value in alone.sums.items():
            if name == "loss":
                assert found.sums[name] == pytest.approx(value, rel=1e-6)
            else:
                assert (found.sums[name], type(found.sums[name])) == (value, int), name


def norm_share(world: World, x_BLD: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of what is normed, that of the weight, and the variance remembered."""
    norm = BatchNorm(x_BLD.shape[-1])
    world.synchronize(norm)
    mine = slice(world.rank, None, world.size)
    x = x_BLD[mine] if world.rank < len(x_BLD) else x_BLD[:1]
    x = x.clone().requires_grad_()
    mask = mask_BL[mine] if world.rank < len(x_BLD) else mask_BL[:1]
    world.begin_share(is_none=world.rank >= len(x_BLD))
    weights = torch.linspace(-1, 2, x_BLD[0].numel()).view_as(x_BLD[0])
    loss = ((norm(x, mask) * weights) ** 2)[mask].sum() * float(world.rank < len(x_BLD))
    loss.backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
    return x.grad, norm.weight.grad, norm.variance_D


def test_a_norm_over_a_batch_is_over_the_whole(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x_BLD = torch.randn(2, 5, 3, generator=generator)
    mask_BL = torch.arange(5) < torch.tensor([[5], [3]])
    whole = norm_share(ALONE, x_BLD, mask_BL)
    shares = together(3, norm_share, x_BLD, mask_BL)
    torch.testing.assert_close(torch.cat([shares[0][0], shares[1][0]]), whole[0])
    assert not shares[2][0].any()
    torch.testing.assert_close(shares[0][1] + shares[1][1] + shares[2][1], whole[1])
    for _, _, variance_D in shares:
        torch.testing.assert_close(variance_D, whole[2])


def test_a_norm_that_sees_one_share_is_refused() -> None:
    with pytest.raises(UserError, match="BatchNorm1d norms the share of one process"):
        check_norms(nn.Sequential(nn.BatchNorm1d(3)))


class BreaksInOne(CrossEntropy):
    """No number in one process from the fourth step on."""

    calls = 0

    def __call__(self, model: TaskModel, batch: Batch) -> Any:
        self.calls += 1
        loss = super().__call__(model, batch)
        is_it = self.calls > 3 and bool((batch.targets == 2).any())
        return replace(loss, total=loss.total * (math.nan if is_it else 1.0))


def test_a_loss_that_is_no_number_in_one_process_stops_all(tmp_path: Path) -> None:
    found = together(2, train, tmp_path, "class", BreaksInOne())
    assert [type(error) for error in found] == [Diverged] * 2
    assert len({str(error) for error in found}) == 1


class Silent(CrossEntropy):
    """Does not tell what its loss is a mean of."""

    def __call__(self, model: TaskModel, batch: Batch) -> Any:
        return replace(super().__call__(model, batch), number=None)


class Sometimes(CrossEntropy):
    """Leaves a part of the model out where the first example is of the first class."""

    def __call__(self, model: TaskModel, batch: Batch) -> Any:
        loss = super().__call__(model, batch)
        if batch.tokens_BIL[0, 0, 0] == 1:
            unpadded = replace(batch, mask_BIL=None)
            total = model.head(torch.zeros(1, 1, 1, 8), torch.zeros(1, 1, 8), unpadded).sum()
            return replace(loss, total=total)
        return loss


@pytest.mark.parametrize(
    ("objective", "text"),
    [(Silent(), "does not tell how many answers"), (Sometimes(), "uses some parameters in one")],
)
def test_objectives_that_cannot_be_shared(tmp_path: Path, objective: Any, text: str) -> None:
    for error in together(2, train, tmp_path, "class", objective, {}, {"batch_size": 2}):
        assert isinstance(error, UserError)
        assert text in str(error)


def draw(world: World, folder: Path) -> list[Tensor]:
    """Begin, save, and return what is drawn next; then what is drawn having gone on from there."""
    model = model_for(FirstToken(), dropout=0.5)
    optimization = Optimization(model, config(), world=world)
    checkpoint = Checkpoint(
        folder / "run.pt",
        model,
        optimization.optimizer,
        run_id="this",
        every_seconds=0.0,
        world=world,
        seed=3,
    )
    state = checkpoint.restore()
    drawn = [torch.rand(3)]
    checkpoint.save(state)
    drawn.append(torch.rand(3))
    randomness.seed_all(0)
    checkpoint.restore()
    return [*drawn, torch.rand(3), torch.from_numpy(np.random.rand(2))]  # noqa: NPY002


def test_each_process_draws_numbers_of_its_own_and_goes_on_with_them(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    alone = draw(ALONE, tmp_path / "one")
    first, second = together(2, draw, tmp_path)
    for begun, before, after, _ in (first, second):
        assert not torch.equal(begun, before)
        assert torch.equal(before, after)
    assert not any(torch.equal(*pair) for pair in zip(first, second, strict=True))
    # The first draws what one process would.
    assert all(torch.equal(*pair) for pair in zip(first, alone, strict=True))


def test_going_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """Who was there draws on, who is new draws what nobody has drawn."""
    drawn: dict[str, list[Any]] = {}
    for name, size in (("two", 2), ("three", 3)):
        drawn[name] = together(size, resume, tmp_path)
    (first, second), (again, second_again, third) = drawn["two"], drawn["three"]
    assert torch.equal(again, first)
    assert torch.equal(second_again, second)
    assert not torch.equal(third, second)
    assert not torch.equal(third, first)


def resume(world: World, folder: Path) -> Tensor:
    model = model_for(FirstToken())
    optimization = Optimization(model, config(), world=world)
    checkpoint = Checkpoint(
        folder / "run.pt",
        model,
        optimization.optimizer,
        run_id="this",
        every_seconds=0.0,
        world=world,
        seed=3,
    )
    state = checkpoint.restore()
    if not state.num_resumes:
        checkpoint.save(state)
    return torch.rand(3)
