"""What is saved is restored to the bit; what is damaged is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lra_bench.checkpoint import Checkpoint, State


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(path: Path, *, every_seconds: float = 10.0, clock: Clock | None = None) -> Checkpoint:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    return Checkpoint(path, module, optimizer, every_seconds=every_seconds, clock=clock or Clock())


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


@pytest.mark.parametrize("damage", ["half", "other", "format", "shape"])
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
