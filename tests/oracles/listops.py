"""The published ListOps generator, written from its description: the slow obvious version.

Plain Python, one expression at a time, by recursion. Tests compare the package with it, the
benchmark is timed against it; nothing else uses it, and nothing here is taken from the package.

Source: arXiv 2011.04006 and the generator released with it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
DIGITS = tuple("0123456789")
# As the tokens are after preprocessing; in the text form the closing bracket is "]".
CLOSE = "X"


@dataclass(frozen=True)
class Operation:
    """An operator and its arguments."""

    operator: str
    arguments: tuple[Tree, ...]


Tree: TypeAlias = int | Operation


@dataclass(frozen=True)
class Limits:
    """Which expressions are kept; the lengths are exclusive. The defaults are the published ones.

    Args:
        min_length: Kept expressions are longer than this [tokens].
        max_length: Kept expressions are shorter than this [tokens].
        max_depth: Nodes at this depth are digits; the root has depth 1.
        max_args: Most arguments of an operator; the fewest are two.
    """

    min_length: int = 500
    max_length: int = 2000
    max_depth: int = 10
    max_args: int = 10


def draw(rng: random.Random, limits: Limits, depth: int = 1) -> tuple[Tree, int]:
    """Draw a tree, whatever its length, and return it with its length [tokens]."""
    if depth == limits.max_depth or rng.random() > 0.25:
        return rng.randrange(10), 1
    length = 2
    arguments = []
    for _ in range(rng.randint(2, limits.max_args)):
        argument, argument_length = draw(rng, limits, depth + 1)
        arguments.append(argument)
        length += argument_length
    return Operation(rng.choice(OPERATORS), tuple(arguments)), length


def draw_kept(rng: random.Random, limits: Limits, number: int) -> list[Tree]:
    """Draw until there are ``number`` distinct trees of a length within the limits."""
    kept: dict[Tree, None] = {}
    while len(kept) < number:
        tree, length = draw(rng, limits)
        if limits.min_length < length < limits.max_length:
            kept[tree] = None
    return list(kept)


def evaluate(tree: Tree) -> int:
    """Return the value of a tree."""
    if isinstance(tree, int):
        return tree
    values = [evaluate(argument) for argument in tree.arguments]
    if tree.operator == "[MIN":
        return min(values)
    if tree.operator == "[MAX":
        return max(values)
    if tree.operator == "[SM":
        return sum(values) % 10
    assert tree.operator == "[MED"
    values.sort()
    middle = len(values) // 2
    if len(values) % 2:
        return values[middle]
    return int((values[middle - 1] + values[middle]) / 2)


def tokens(tree: Tree) -> list[str]:
    """Return the tokens of a tree as they are after preprocessing."""
    if isinstance(tree, int):
        return [str(tree)]
    found = [tree.operator]
    for argument in tree.arguments:
        found += tokens(argument)
    return [*found, CLOSE]


def to_source(tree: Tree) -> str:
    """Return the text form: the operator is paired with its arguments one after the other."""
    if isinstance(tree, int):
        return str(tree)
    source = tree.operator
    for argument in tree.arguments:
        source = f"( {source} {to_source(argument)} )"
    return f"( {source} ] )"


def nesting(tree: Tree) -> int:
    """Return how deep operators nest in a tree; 0 for a digit."""
    if isinstance(tree, int):
        return 0
    return 1 + max(nesting(argument) for argument in tree.arguments)


def parse(found: Sequence[str]) -> Tree | None:
    """Return the tree that tokens stand for, None if they are not exactly one expression."""
    tree, stop = _parse_one(found, 0)
    return tree if stop == len(found) else None


def _parse_one(found: Sequence[str], at: int) -> tuple[Tree | None, int]:
    """Return the tree that begins at a position, None if none does, and where it ends."""
    if at == len(found):
        return None, at
    first, at = found[at], at + 1
    if first in DIGITS:
        return int(first), at
    if first not in OPERATORS:
        return None, at
    arguments = []
    while at < len(found) and found[at] != CLOSE:
        argument, at = _parse_one(found, at)
        if argument is None:
            return None, at
        arguments.append(argument)
    if at == len(found) or not arguments:
        return None, at
    return Operation(first, tuple(arguments)), at + 1
