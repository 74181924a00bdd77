"""Two tasks that live outside the repository, as files, and what is asked of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

# Nothing but what must be there.
BARE = """
import numpy as np
from lra_bench.types import Example, Task, TaskSpec


class Bare(Task):
    def __init__(self) -> None:
        self.spec = TaskSpec("bare", vocab_size=9, max_length=6, num_classes=2, num_inputs=2)

    def examples(self, split):
        rows = [(np.arange(1, 3 + n % 5), np.arange(1, 4)) for n in range(30)]
        return [Example(row, n % 2) for n, row in enumerate(rows)]

    def fingerprint(self):
        return "0" * 64
"""
# Everything there is: pictures, and a state that the test writes into a file.
FULL = """
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from lra_bench.errors import UserError
from lra_bench.types import DataInfo, Example, Progress, Task, TaskSpec, Verification


class Full(Task):
    has_pictures = True

    def __init__(self, *, cache_dir: Path, bad: str = "none", num: int = 20) -> None:
        self.spec = TaskSpec("full", 256, 64, 10, majority_baseline=0.1)
        self.place = cache_dir / "full"
        self.bad, self.num = bad, num

    def prepare(self, progress=lambda _: None):
        if self.bad == "broken" and self.place.exists():
            raise UserError(f"{self.place} is broken; delete it")
        if self.bad == "absent":
            raise UserError("there is no raw file; put it there")
        if self.bad == "slow":
            self.place.parent.mkdir(parents=True, exist_ok=True)
            (self.place.parent / "began").touch()
        for at in range(6000 if self.bad == "slow" else 1):
            progress(Progress("thinking", at, 1000))
            time.sleep(0.01)
        self.place.mkdir(parents=True, exist_ok=True)
        (self.place / "data").write_bytes(bytes(12_000))

    def is_prepared(self):
        return self.place.exists()

    def folder(self):
        return self.place if self.place.exists() else None

    def info(self):
        numbers = {"train": 7, "validation": 8, "test": 9}
        info = DataInfo("drawn at home", "do what you like", numbers)
        if not self.place.exists():
            return info
        if self.bad == "broken":
            raise UserError(f"{self.place} is broken; delete it")
        if self.bad == "unofficial":
            return replace(info, source="drawn, not the official set", warning="only 20 examples")
        return replace(info, source="drawn")

    def verify(self):
        yield Verification("train: 20 examples", None)
        if self.bad == "unofficial":
            yield Verification("official set", "only 20 examples")

    def examples(self, split):
        assert self.place.exists()
        rows = [np.full(64, 10 * n, np.uint8) for n in range(self.num)]
        return [Example((row,), n % 10) for n, row in enumerate(rows)]

    def fingerprint(self):
        return "1" * 64

    def decode(self, example):
        return f"gray {example.inputs[0][0]}"

    def picture(self, example):
        return example.inputs[0].reshape(8, 8)
"""


def write(folder: Path) -> None:
    """Write both tasks, and their configuration, into a folder."""
    (folder / "task").mkdir(parents=True)
    for name, code in (("bare", BARE), ("full", FULL)):
        (folder / f"outside_{name}.py").write_text(code)
        (folder / f"task/{name}.yaml").write_text(
            f"# A test.\n_target_: outside_{name}.{name.title()}\n"
        )
    with (folder / "task/full.yaml").open("a") as file:
        file.write("bad: none\nnum: 20\n")


def set_bad(outside: Sequence[str], bad: str) -> None:
    """Let the task ``full`` have something wrong with it."""
    path = Path(outside[1]) / "task/full.yaml"
    path.write_text(re.sub("bad: .*", f"bad: {bad}", path.read_text()))


def line_of(text: str, name: str) -> str:
    """Return the line that begins with a word."""
    return next(line for line in text.splitlines() if line.startswith(f"{name} "))
