"""Models from outside the repository that cost too much, or break, as files."""

from __future__ import annotations

from pathlib import Path

CODE = '''
import os
import signal
import time

import torch

from lra_bench.models.encoder import EncoderSpec, Mixer


class Odd(Mixer):
    """Ends in a certain way when it is used."""

    def __init__(self, spec: EncoderSpec, *, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = torch.nn.Parameter(torch.ones(spec.width))

    def forward(self, x_BLD, mask_BL=None):
        if self.kind == "slow":
            time.sleep(1000)
        if self.kind == "greedy":
            # 8 GB, which nobody touches.
            torch.empty(1 << 31)
        if self.kind == "greediest":
            # More than any machine has.
            torch.empty(1 << 50)
        if self.kind == "raises":
            raise ValueError("no such luck:\\n  it broke")
        if self.kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "dies":
            print("the last word", flush=True)
            os._exit(3)
        return x_BLD * self.weight
'''
KINDS = ("fine", "slow", "greedy", "greediest", "raises", "killed", "dies")


def write(folder: Path) -> Path:
    """Write a model of each kind into a folder that is laid out like ``conf/``, and return it."""
    (folder / "model").mkdir(parents=True)
    (folder / "made_up_odd.py").write_text(CODE)
    for kind in KINDS:
        (folder / f"model/odd_{kind}.yaml").write_text(
            "# A test.\n_target_: lra_bench.models.trunk.TransformerEncoder\nmixer:\n"
            f"  _target_: made_up_odd.Odd\n  _partial_: true\n  kind: {kind}\n"
        )
    return folder
