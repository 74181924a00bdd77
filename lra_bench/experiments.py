"""Ready sweeps: the words of ``conf/experiment``, with what they cost and what is expected.

An experiment is short for its words: its runs are those of the same words written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lra_bench import plain
from lra_bench.about import file_of
from lra_bench.errors import UserError
from lra_bench.words import nearest, options

GROUP = "experiment"
_LAYOUT = {"sweeps": Sequence[Sequence[str]], "cost": str, "expected": str}
# What a file may leave out.
_OPTIONAL = {"then": Sequence[Sequence[str]]}


@dataclass(frozen=True)
class Experiment:
    """Sweeps that belong together.

    Args:
        name: Of its file.
        sweeps: The words of each.
        cost: What it takes.
        expected: What should come out, and from where that is known.
        then: Sweeps that begin from runs of the first ones, and come after them.
    """

    name: str
    sweeps: Sequence[Sequence[str]]
    cost: str
    expected: str
    then: Sequence[Sequence[str]] = ()

    @property
    def command(self) -> str:
        """The line that does it."""
        return f"lra-bench run -m {GROUP}={self.name}"


def names(config_dirs: Sequence[Path] = ()) -> list[str]:
    """Return the experiments that there are."""
    return options(GROUP, config_dirs)


def read(name: str, *, config_dirs: Sequence[Path] = ()) -> Experiment:
    """Return an experiment.

    Raises:
        UserError: There is none of that name, or its file is not as it must be.
    """
    known = names(config_dirs)
    if name not in known:
        raise UserError(
            f"there is no experiment {name!r}{nearest(name, known)} "
            f"(choose from {', '.join(known)})"
        )
    path = file_of(GROUP, name, config_dirs)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    for key, hint in _LAYOUT.items():
        if not isinstance(content, dict) or not plain.fits(content.get(key), hint):
            raise UserError(f"{path}: {key} must be {plain.in_words(hint)}")
    for key, hint in _OPTIONAL.items():
        if key in content and not plain.fits(content[key], hint):
            raise UserError(f"{path}: {key} must be {plain.in_words(hint)}")
    if unknown := set(content) - set(_LAYOUT) - set(_OPTIONAL):
        raise UserError(f"{path} sets {', '.join(sorted(unknown))}, which nothing reads")
    return Experiment(name, **content)


def stages(words: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> list[list[list[str]]]:
    """Return the words of each sweep that words stand for, in stages that follow one another.

    Words beside the experiment replace its own.

    Raises:
        UserError: There is no such experiment, or several are named.
    """
    named = [word.partition("=")[2] for word in words if word.startswith(f"{GROUP}=")]
    others = [word for word in words if not word.startswith(f"{GROUP}=")]
    if not named:
        return [[others]]
    if len(named) > 1 or "," in named[0]:
        raise UserError(f"{GROUP}= takes one name at a time")
    own = {word.partition("=")[0] for word in others}
    experiment = read(named[0], config_dirs=config_dirs)
    return [
        [
            [*(word for word in sweep if word.partition("=")[0] not in own), *others]
            for sweep in stage
        ]
        for stage in (experiment.sweeps, experiment.then)
        if stage
    ]
