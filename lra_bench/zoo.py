"""Models as a table: what each states about itself, and how many parameters it has somewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lra_bench.about import FACTS, facts_of, file_of, first_sentence
from lra_bench.compose import Request, compose
from lra_bench.console import Align, Screen, table
from lra_bench.errors import UserError
from lra_bench.words import options

# What is not known; a cell is never empty, so that columns can be told apart by blanks.
_UNKNOWN = "-"
# The last columns may be long: topologies and limits.
_LONG, _INDENT = 2, 2
LEGEND = (
    "cost: of mixing, in the length L, at the options of the file\n"
    "length: bound, if there are weights or draws for every position or block of the longest\n"
    "  sequence, so that what is trained takes nothing longer\n"
    "causal: whether a position can see the past alone (model.mixer.bidirectional=false)\n"
    "topologies: other attention patterns of the same weights, for objective=sar"
)


@dataclass(frozen=True)
class Model:
    """A model of the table.

    Args:
        name: How it is asked for.
        sentence: What its file says first.
        facts: What its file states, by the names in `lra_bench.about.FACTS`.
        num_parameters: With its head, where it was asked for; None if it cannot be built.
        problem: Why not.
    """

    name: str
    sentence: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    num_parameters: int | None = None
    problem: str = ""


def models_of(words: Sequence[str] = (), *, config_dirs: Sequence[Path] = ()) -> list[Model]:
    """Return all models, in the order of their names.

    Args:
        words: ``setting=``, ``task=`` and options for which parameters are counted; without any
            nothing is built, and PyTorch is not needed.
        config_dirs: Folders that are searched besides ``conf/``.

    Raises:
        UserError: No model can be built: the words are to blame.
    """
    models = []
    for name in options("model", config_dirs=config_dirs):
        path = file_of("model", name, config_dirs)
        number, problem = None, ""
        if words:
            try:
                number = num_parameters(compose([*words, f"model={name}"], config_dirs=config_dirs))
            except UserError as error:
                problem = str(error)
        models.append(Model(name, first_sentence(path), facts_of(path), number, problem))
    if models and all(model.problem for model in models):
        raise UserError(models[0].problem)
    return models


def num_parameters(request: Request) -> int:
    """Return the number of parameters of encoder and head, without making their numbers.

    Raises:
        UserError: An option is wrong, or two do not go together.
    """
    import torch

    from lra_bench.build import build_task
    from lra_bench.runner import assemble

    task = build_task(request).spec
    try:
        with torch.device("meta"):
            model = assemble(request.config, task)
    except RuntimeError:
        # Somebody's model may look at the numbers that it starts with.
        model = assemble(request.config, task)
    return sum(parameter.numel() for parameter in model.parameters())


def table_of(models: Sequence[Model], screen: Screen, *, counted: bool = False) -> str:
    """Return a table with a row a model; for a terminal, what may be long stands below it.

    A terminal that is too narrow even for the rest gets a paragraph a model.

    Args:
        models: What to show.
        screen: What it is printed on.
        counted: Whether there is a column of parameters.
    """
    header = [name for name, _ in _cells(Model(""), counted)]
    rows = [[cell for _, cell in _cells(model, counted)] for model in models]
    align: list[Align] = ["right" if name == "parameters" else "left" for name in header]
    if not screen.is_terminal:
        return table(rows, screen, header=header, align=align, indent=_INDENT)
    short = [row[:-_LONG] for row in (header, *rows)]
    width = _INDENT + sum(max(map(len, column)) + 2 for column in zip(*short, strict=True))
    if width > screen.width:
        return "\n".join(_paragraph(model, screen, counted) for model in models)
    numbers = table(short[1:], screen, header=short[0], align=align, indent=_INDENT)
    name_width = max(len(model.name) for model in models)
    below = [
        _wrapped(_long_cells(model, counted), screen, f"  {model.name.ljust(name_width)}  ")
        for model in models
    ]
    return "\n".join([numbers, "", "  limits and topologies", *filter(None, below)])


def _cells(model: Model, counted: bool) -> list[tuple[str, str]]:
    """Return the columns of a model and what stands in them; what may be long comes last."""
    cells = [("model", model.name)]
    for name in FACTS:
        cells.append((name, model.facts.get(name) or _UNKNOWN))
        if name == "cost" and counted:
            number = model.num_parameters
            cells.append(("parameters", _UNKNOWN if number is None else f"{number:,}"))
    if model.problem:
        cells[-1] = (FACTS[-1], f"cannot be built: {model.problem}")
    return cells


def _long_cells(model: Model, counted: bool) -> str:
    """Return what may be long, as a text; nothing if nothing is known."""
    (name, topologies), (_, limits) = _cells(model, counted)[-_LONG:]
    known = (limits, "" if topologies == _UNKNOWN else f"{name} {topologies}")
    return "; ".join(text for text in known if text not in ("", _UNKNOWN))


def _paragraph(model: Model, screen: Screen, counted: bool) -> str:
    """Return the name of a model and below it what is known."""
    cells = _cells(model, counted)[1:-_LONG]
    known = ", ".join(f"{name} {cell}" for name, cell in cells if cell != _UNKNOWN)
    texts = (model.sentence, known, _long_cells(model, counted))
    wrapped = (_wrapped(text, screen, "    ") for text in texts)
    return "\n".join([f"  {screen.printable(model.name)}", *filter(None, wrapped)])


def _wrapped(text: str, screen: Screen, before: str) -> str:
    """Return a text broken between words behind what stands before its first line, if any."""
    return textwrap.fill(
        screen.printable(text),
        max(screen.width, 40),
        initial_indent=before,
        subsequent_indent=" " * len(before),
    )
