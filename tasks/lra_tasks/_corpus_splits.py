"""Which split each document of a corpus is in: no text, and no author, is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Split


@dataclass(slots=True)
class Entry:
    """What is remembered of a document.

    Args:
        number: Where its text is kept.
        name: Its name.
        key: The same for texts with the same letters and digits.
        digest: SHA-256 of the text.
        author: Whose it is; empty where nobody says.
        part: The split that it is said to be in, or None.
    """

    number: int
    name: str
    key: bytes
    digest: bytes
    author: str = ""
    part: Split | None = None


def divide(
    entries: Sequence[Entry],
    *,
    seed: int,
    shares: Mapping[Split, float],
    where: str,
) -> tuple[dict[Split, list[Entry]], int]:
    """Return the documents of each split in their order, and how many were dropped.

    What is said of parts is kept to; else the authors are divided, and documents without one. The
    order and the division follow from the content and the seed, not from the order of files.

    Args:
        entries: The documents.
        seed: Of order and division.
        shares: How much validation and test get of the authors or documents.
        where: What the documents are of, for the messages.

    Raises:
        UserError: There are too few, or only some have a part.
    """
    said = [entry for entry in entries if entry.part is not None]
    if said and len(said) < len(entries):
        first = next(entry for entry in entries if entry.part is None)
        raise UserError(
            f"{where}: {len(entries) - len(said):,} of {len(entries):,} documents have no part, "
            f"the first of which is {first.name}; name theirs too, or take task.parts=content"
        )
    if not said:
        _deal(entries, seed, shares, where)
    # Said to be in two splits, or of two authors: it stays where it does the least harm.
    ranks = {split: rank for rank, split in enumerate(("test", "validation", "train"))}
    best: dict[bytes, Split] = {}
    for entry in entries:
        assert entry.part is not None, "all are divided"
        best[entry.key] = min(best.get(entry.key, entry.part), entry.part, key=ranks.__getitem__)
    splits: dict[Split, list[Entry]] = {split: [] for split in SPLITS}
    for entry in entries:
        if best[entry.key] == entry.part:
            splits[entry.part].append(entry)
    for split, some in splits.items():
        if not some:
            raise UserError(f"{where} has no documents for {split}")
        some.sort(key=lambda entry: (_hash(seed, entry.key), entry.digest))
    return splits, len(entries) - sum(map(len, splits.values()))


def _deal(entries: Iterable[Entry], seed: int, shares: Mapping[Split, float], where: str) -> None:
    """Give each document a part: authors stay together, and so do copies of one text."""
    groups: dict[bytes, list[Entry]] = {}
    for entry in entries:
        name = b"author " + entry.author.encode() if entry.author else b"text " + entry.key
        groups.setdefault(name, []).append(entry)
    if len(groups) < len(SPLITS):
        raise UserError(
            f"{where} has {len(groups)} documents (or authors) that differ; {len(SPLITS)} are "
            f"needed at least, one a split"
        )
    order = sorted(groups, key=lambda name: _hash(seed, name))
    numbers = {split: max(1, round(share * len(order))) for split, share in shares.items()}
    while sum(numbers.values()) >= len(order):
        numbers[max(numbers, key=numbers.__getitem__)] -= 1
    begin = 0
    for split, number in (*numbers.items(), ("train", len(order))):
        for name in order[begin : begin + number]:
            for entry in groups[name]:
                entry.part = split
        begin += number


def _hash(seed: int, name: bytes) -> bytes:
    return hashlib.sha256(b"%d " % seed + name).digest()
