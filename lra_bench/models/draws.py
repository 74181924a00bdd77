"""Random numbers of a module's own, apart from those that initialize and drop out."""

from __future__ import annotations

import torch


def own_generator() -> torch.Generator:
    """Return a generator that the seed of the run decides, and that uses up one number of it.

    It draws on the CPU, so that a seed means the same on every device.
    """
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
