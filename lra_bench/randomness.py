"""Every random generator of the process as one: seeded together, saved and restored together.

The harness itself draws from PyTorch's generators alone. A task or a model from outside may draw
from Python's or NumPy's, and its runs are repeated and resumed exactly as well.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]


def seed_all(seed: int) -> None:
    """Begin every generator anew.

    Args:
        seed: From 0 to 2**63 - 1.
    """
    torch.manual_seed(seed)
    random.seed(seed)
    # Code from outside that draws from the module's own generator cannot be given another.
    np.random.seed(seed % 2**32)  # noqa: NPY002


def seed_rank(seed: int, rank: int, step: int) -> None:
    """Begin every generator anew with numbers of its own for a process that is not the first.

    Args:
        seed: Of the run.
        rank: Of the process.
        step: From which it takes part.
    """
    own = np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)
    seed_all(int(own[0]) % 2**63)


def state_of_all(device: torch.device) -> State:
    """Return where every generator stands, as plain data and tensors.

    Args:
        device: The device of the run; its generator is saved besides those of the CPU.
    """
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": [version, _tensor(numbers), gauss],
        "numpy": [str(name), _tensor(keys), int(position), int(has_gauss), float(cached)],
    }


def restore_all(state: State, device: torch.device) -> None:
    """Put every generator where it stood.

    Args:
        state: As `state_of_all` returned it; on another kind of device, too.
        device: The device of the run.

    Raises:
        Exception: The content is something else; which one, depends on what it is.
    """
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["device"] is not None:
        torch.cuda.set_rng_state(state["device"], device)
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def _tensor(numbers: Any) -> Tensor:
    return torch.tensor([int(number) for number in numbers], dtype=torch.int64)
