"""What is saved is restored to the bit; what is damaged is refused by name."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lra_bench.checkpoint import Checkpoint, State


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(
    path: Path,
    *,
    run_id: str = "this",
    every_seconds: float = 10.0,
    max_share: float = 1.0,
    clock: Clock | None = None,
) -> Checkpoint:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    return Checkpoint(
        path,
        module,
        optimizer,
        run_id=run_id,
        every_seconds=every_seconds,
        max_share=max_share,
        clock=clock or Clock(),
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    one = made(tmp_path / "new/run.pt")
    one.module(torch.ones(1, 3)).sum().backward()
    one.optimizer.step()
    state = State(step=7, best_weights={"w": torch.arange(3.0)}, started_at="2026-01-01")
    one.save(state)
    expected = torch.rand(4)
    other = made(tmp_path / "new/run.pt")
    restored = other.restore()
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(other.module.weight, one.module.weight)  # type: ignore[arg-type]
    assert (restored.step, restored.started_at, restored.num_resumes) == (7, "2026-01-01", 1)
    assert restored.best_weights is not None
    assert torch.equal(restored.best_weights["w"], torch.arange(3.0))
    moments = other.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, one.optimizer.state_dict()["state"][0]["exp_avg"])
    other.remove()
    assert other.restore() == State()


def test_saving_is_due_now_and_then(tmp_path: Path) -> None:
    clock = Clock()
    one = made(tmp_path / "run.pt", clock=clock)
    assert not one.is_due()
    clock.now = 11.0
    assert one.is_due()
    one.save(State())
    assert not one.is_due()


def test_saving_takes_no_more_than_its_share(tmp_path: Path) -> None:
    class Slow(Clock):
        """Each look takes a second: a save takes one from its first look to its last."""

        def __call__(self) -> float:
            self.now += 1.0
            return self.now

    clock = Slow()
    one = made(tmp_path / "run.pt", every_seconds=0.0, max_share=0.1, clock=clock)
    saves = 0
    while clock.now < 1000:
        if one.is_due():
            one.save(State())
            saves += 1
    assert 80 <= saves <= 100


def test_every_generator_comes_back(tmp_path: Path) -> None:
    def drawn() -> list[float]:
        return [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: NPY002

    one = made(tmp_path / "run.pt")
    # Half of a pair of normal numbers is waiting in each.
    random.gauss(0, 1)
    np.random.normal()  # noqa: NPY002
    one.save(State())
    expected = [*drawn(), random.gauss(0, 1), np.random.normal()]  # noqa: NPY002
    drawn()
    one.restore()
    assert [*drawn(), random.gauss(0, 1), np.random.normal()] == expected  # noqa: NPY002


def test_the_one_before_is_taken_where_the_newest_is_torn(tmp_path: Path) -> None:
    one = made(tmp_path / "run.pt")
    one.save(State(step=1))
    one.save(State(step=2))
    said: list[str] = []
    assert made(one.path).restore(said.append).step == 2
    assert not said
    one.path.write_bytes(one.path.read_bytes()[:-100])
    assert made(one.path).restore(said.append).step == 1
    (text,) = said
    assert f"cannot go on from {one.path} (" in text
    assert "going on from the checkpoint before it" in text
    # A process may end between two renamings.
    one.path.unlink()
    assert made(one.path).restore(said.append).step == 1
    one.previous.write_bytes(b"torn as well")
    one.path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot go on from .* nor from .*; delete both to"):
        made(one.path).restore()


def test_a_file_of_another_run_is_not_taken(tmp_path: Path) -> None:
    made(tmp_path / "run.pt", run_id="that").save(State(step=1))
    with pytest.raises(ValueError, match="it is of another run, that"):
        made(tmp_path / "run.pt").restore()


@pytest.mark.parametrize("damage", ["half", "other", "format", "shape", "edited", "list"])
def test_what_is_damaged_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    one = made(tmp_path / "run.pt")
    one.save(State(step=3))
    content = one.path.read_bytes()
    if damage == "half":
        one.path.write_bytes(content[: len(content) // 2])
    elif damage == "other":
        one.path.write_bytes(b"PK\x03\x04 something else")
    else:
        loaded = torch.load(one.path, weights_only=True)
        if damage == "format":
            loaded["format"] = 1
        elif damage == "edited":
            loaded["state"]["step"] = 4
        elif damage == "list":
            loaded = [1, 2]
        else:
            loaded["weights"]["weight"] = torch.zeros(5)
        torch.save(loaded, one.path)
    with pytest.raises(ValueError, match=r"cannot go on from .*run\.pt .*delete the file"):
        made(one.path).restore()


def test_a_draft_of_somebody_who_lives_is_left_alone(tmp_path: Path) -> None:
    draft = tmp_path / ".run.pt.elsewhere-17-abcd.tmp"
    draft.write_bytes(b"half")
    made(tmp_path / "run.pt").restore()
    assert draft.exists()
