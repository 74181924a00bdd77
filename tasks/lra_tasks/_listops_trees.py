"""ListOps expressions as flat token arrays: drawing them, and evaluating them.

The published generator draws one expression at a time by recursion. Here a few thousand are drawn
at once, level by level: all nodes of one nesting depth are one array. Only integer operations on
the raw output of PCG64 are used, which NumPy promises never to change, so that a seed gives the
same bytes on every machine.

Source: the generator released with Long Range Arena (arXiv 2011.04006).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The order is fixed for ever: it decides the token ids. 0 is padding, 16 an unknown token.
TOKENS = ("[MIN", "[MAX", "[MED", "[SM", "X", *"0123456789")
IDS = {token: number for number, token in enumerate(TOKENS, start=1)}
MIN, MAX, MED, SM, CLOSE, ZERO = (IDS[token] for token in ("[MIN", "[MAX", "[MED", "[SM", "X", "0"))
UNKNOWN = len(TOKENS) + 1
VOCAB_SIZE = UNKNOWN + 1

Tokens = NDArray[np.uint8]
Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Which expressions are kept.

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


@dataclass(frozen=True)
class _Level:
    """All nodes of one depth, ordered by expression and within it from left to right."""

    tree: NDArray[np.int32]
    token: NDArray[np.uint8]
    num_args: NDArray[np.int32]

    def of(self, kept: NDArray[np.bool_]) -> _Level:
        chosen = kept[self.tree]
        return _Level(self.tree[chosen], self.token[chosen], self.num_args[chosen])


def draw(seed: int, shard: int, shape: Shape, *, num_draws: int = 4096) -> tuple[Tokens, Offsets]:
    """Draw expressions and return those that the shape keeps.

    Args:
        seed: Any non-negative integer.
        shard: Number of the shard; shards of one seed are independent.
        shape: Which expressions are kept.
        num_draws: How many to draw; about one in twelve is kept with the published shape.

    Returns:
        The tokens of all kept expressions one after the other, and where each begins, with the
        end of the last: expression i is ``tokens[offsets[i]:offsets[i + 1]]``.
    """
    bits = np.random.PCG64(np.random.SeedSequence((seed, shard)))
    levels, length = _grow(bits, shape, num_draws)
    kept = (length > shape.min_length) & (length < shape.max_length)
    return _write([level.of(kept) for level in levels], length[kept])


def _grow(
    bits: np.random.PCG64, shape: Shape, num_draws: int
) -> tuple[list[_Level], NDArray[np.int64]]:
    """Return the levels and the length of each expression, or a bound that rules it out."""
    levels = []
    length = np.zeros(num_draws, np.int64)
    tree = np.arange(num_draws, dtype=np.int32)
    for depth in range(1, shape.max_depth + 1):
        raw = bits.random_raw(len(tree))
        # One 64-bit number decides a node: two low bits whether it is an operator (probability
        # 1/4), two more which one, the high half the digit or the number of arguments.
        high = raw >> np.uint64(32)
        token = (ZERO + ((high * np.uint64(10)) >> np.uint64(32))).astype(np.uint8)
        num_args = np.zeros(len(tree), np.int32)
        if depth < shape.max_depth:
            operators = np.flatnonzero((raw & np.uint64(3)) == 0)
            token[operators] = MIN + ((raw[operators] >> np.uint64(2)) & np.uint64(3))
            num_args[operators] = 2 + (
                (high[operators] * np.uint64(shape.max_args - 1)) >> np.uint64(32)
            )
        levels.append(_Level(tree, token, num_args))
        length += np.bincount(tree, minlength=num_draws)
        operators = np.flatnonzero(num_args)
        parents, num_args = tree[operators], num_args[operators]
        length += np.bincount(parents, minlength=num_draws)  # the closing brackets
        pending = np.bincount(parents, weights=num_args, minlength=num_draws)
        hopeless = length + pending >= shape.max_length
        length[hopeless] = shape.max_length
        alive = ~hopeless[parents]
        tree = np.repeat(parents[alive], num_args[alive])
    return levels, length


def _write(levels: list[_Level], length: NDArray[np.int64]) -> tuple[Tokens, Offsets]:
    """Put the nodes of whole expressions into prefix order."""
    # Upwards: how long is the subtree below each node?
    sizes = [np.ones(len(level.tree), np.int64) for level in levels]
    for depth in reversed(range(len(levels) - 1)):
        operators = np.flatnonzero(levels[depth].num_args)
        if len(operators):
            first = _starts(levels[depth].num_args[operators])
            sizes[depth][operators] = 2 + np.add.reduceat(sizes[depth + 1], first)
    # Downwards: where does each subtree begin?
    offsets = np.concatenate(([0], np.cumsum(length)))
    tokens = np.zeros(offsets[-1], np.uint8)
    begin = offsets[:-1]
    for depth, (level, size) in enumerate(zip(levels, sizes, strict=True)):
        tokens[begin] = level.token
        operators = np.flatnonzero(level.num_args)
        if not len(operators):
            break
        tokens[begin[operators] + size[operators] - 1] = CLOSE
        num_args = level.num_args[operators]
        child_size = sizes[depth + 1]
        before = np.cumsum(child_size) - child_size
        base = begin[operators] + 1 - before[_starts(num_args)]
        begin = before + np.repeat(base, num_args)
    return tokens, offsets


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where each of several adjoining groups begins."""
    return np.cumsum(counts, dtype=np.int64) - counts


def evaluate(tokens: Tokens, offsets: Offsets) -> NDArray[np.int64]:
    """Return the value of each expression, -1 where it is not a well-formed one.

    MIN and MAX as usual, SM the sum modulo ten, MED the median, for an even number of arguments
    the mean of the middle two cut to an integer.

    Args:
        tokens: Token ids of all expressions one after the other.
        offsets: Where each begins, and the end of the last, shape (N + 1,).

    Returns:
        Digits, shape (N,).
    """
    values = np.full(len(offsets) - 1, -1, np.int64)
    if not len(tokens):
        return values
    opens = (tokens >= MIN) & (tokens <= SM)
    closes = tokens == CLOSE
    digits = (tokens >= ZERO) & (tokens < ZERO + 10)
    depth = np.cumsum(opens.astype(np.int32) - closes.astype(np.int32), dtype=np.int32)
    ok = _well_formed(opens, closes, digits, depth, offsets)
    if not ok.all():
        if ok.any():
            lengths = np.diff(offsets)
            kept = np.repeat(ok, lengths)
            values[ok] = evaluate(tokens[kept], np.concatenate(([0], np.cumsum(lengths[ok]))))
        return values

    # All nodes sorted by depth, then position; an operator counts as one level above its own.
    nodes = np.flatnonzero(~closes)
    node_depth = depth[nodes] - opens[nodes]
    if node_depth.max() < np.iinfo(np.int16).max:
        # NumPy sorts 16-bit numbers by counting, several times faster.
        node_depth = node_depth.astype(np.int16)
    order = np.argsort(node_depth, kind="stable")
    nodes = nodes[order]
    bounds = np.searchsorted(node_depth[order], np.arange(int(node_depth.max()) + 2))
    below_at = nodes[:0]
    below = np.empty(0, np.int16)
    for level in reversed(range(len(bounds) - 1)):
        at = nodes[bounds[level] : bounds[level + 1]]
        value = tokens[at].astype(np.int16) - ZERO
        operators = np.flatnonzero(opens[at])
        if len(operators):
            first = np.searchsorted(below_at, at[operators])
            value[operators] = _apply(tokens[at[operators]], below, first)
        below_at, below = at, value
    return below.astype(np.int64)


def _well_formed(
    opens: NDArray[np.bool_],
    closes: NDArray[np.bool_],
    digits: NDArray[np.bool_],
    depth: NDArray[np.int32],
    offsets: Offsets,
) -> NDArray[np.bool_]:
    lengths = np.diff(offsets)
    ok = lengths > 0
    first = offsets[:-1][ok]
    known = np.logical_and.reduceat(opens | closes | digits, first)
    # Depth is counted over the whole array: it must come back to its start, and only there.
    before = np.where(first > 0, depth[first - 1], 0)
    last = offsets[1:][ok] - 1
    inner = depth - np.repeat(before, lengths[ok])
    touches = np.add.reduceat((inner <= 0).astype(np.int32), first)
    empty = np.zeros(len(opens), np.bool_)
    empty[1:] = opens[:-1] & closes[1:]
    ok[ok] = known & (inner[last] == 0) & (touches == 1) & ~np.logical_or.reduceat(empty, first)
    return ok


def _apply(
    operator: Tokens, arguments: NDArray[np.int16], first: NDArray[np.int64]
) -> NDArray[np.int16]:
    """Apply operators to adjoining groups of arguments; group i begins at ``first[i]``."""
    results = np.empty(len(operator), np.int16)
    for token, reduce in ((MIN, np.minimum), (MAX, np.maximum)):
        chosen = operator == token
        results[chosen] = reduce.reduceat(arguments, first)[chosen]
    chosen = operator == SM
    # The sum of some thousand arguments does not fit into 16 bits.
    results[chosen] = (np.add.reduceat(arguments, first, dtype=np.int64) % 10)[chosen]
    chosen = np.flatnonzero(operator == MED)
    count = np.diff(np.append(first, len(arguments)))
    group = np.repeat(np.arange(len(first)), count)
    ranked = np.sort(group * 10 + arguments) % 10
    low = first[chosen] + (count[chosen] - 1) // 2
    high = first[chosen] + count[chosen] // 2
    results[chosen] = (ranked[low] + ranked[high]) // 2
    return results
