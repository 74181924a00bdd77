"""Damaged copies of good files, the same on every run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

# What a reader may stumble over: the ends of number ranges, signs, and what is no number at all.
EXTREMES = (
    b"0",
    b"-1",
    b"-0",
    b"127",
    b"128",
    b"255",
    b"256",
    b"65535",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"-2147483649",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"9" * 40,
    b"77777777777",
    b"1e400",
    b"0.1",
    b"-.5e-9",
    b"NaN",
    b"Infinity",
    b"\xd9\xa3",
    b"\xc2\xb2",
    b"+7",
    b"0x10",
    b"1_0",
)
BYTES = tuple(
    bytes([number]) for number in (0, 1, 9, 10, 13, 32, 34, 44, 47, 48, 57, 92, 127, 128, 254, 255)
)
# A piece that is doubled, dropped or moved has at most this length, half of the time.
_SHORT = 16


def mutants(seeds: Sequence[bytes], number: int, seed: int = 0) -> Iterator[bytes]:
    """Yield damaged copies of the seeds: one to four changes each.

    Args:
        seeds: Good inputs, at least one.
        number: How many to make.
        seed: The same seed gives the same copies.
    """
    rng = random.Random(seed)
    # The cheapest source of chance: called up to a dozen times a copy.
    draw = rng.random
    for _ in range(number):
        data = seeds[int(draw() * len(seeds))]
        # Half of them have one change alone: after several the first check refuses all.
        changes = 1 if draw() < 0.5 else 2 + int(draw() * 3)
        for _ in range(changes):
            data = _CHANGES[int(draw() * len(_CHANGES))](data, seeds, draw)
        yield data


Draw = Callable[[], float]


def _span(length: int, draw: Draw) -> tuple[int, int]:
    """Choose a piece of at least one element, where there is one."""
    start = int(draw() * length)
    longest = min(length - start, _SHORT) if draw() < 0.5 else length - start
    return start, start + min(length - start, 1 + int(draw() * longest))


def _flip_a_bit(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    if not data:
        return data
    at = int(draw() * len(data))
    return data[:at] + bytes((data[at] ^ (1 << int(draw() * 8)),)) + data[at + 1 :]


def _change_a_byte(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    at = int(draw() * len(data))
    return data[:at] + bytes((int(draw() * 256),)) + data[at + 1 :]


def _put_a_telling_byte(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    at = int(draw() * len(data))
    return data[:at] + BYTES[int(draw() * len(BYTES))] + data[at + 1 :]


def _cut_the_end(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    if draw() < 0.5:
        return data[: int(draw() * len(data))]
    return data[: max(0, len(data) - 1 - int(draw() * _SHORT))]


def _cut_the_middle(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    start, stop = _span(len(data), draw)
    return data[:start] + data[stop:]


def _insert_bytes(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    at = int(draw() * (len(data) + 1))
    new = BYTES[int(draw() * len(BYTES))]
    return data[:at] + new * (1 + int(draw() * 4)) + data[at:]


def _insert_zeros(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    at = int(draw() * (len(data) + 1))
    return data[:at] + bytes(1 + int(draw() * 2 * _SHORT)) + data[at:]


def _overwrite_with_zeros(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    start, stop = _span(len(data), draw)
    return data[:start] + bytes(stop - start) + data[stop:]


def _double_a_piece(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    start, stop = _span(len(data), draw)
    return data[:stop] + data[start:]


def _move_a_piece(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    start, stop = _span(len(data), draw)
    piece, rest = data[start:stop], data[:start] + data[stop:]
    at = int(draw() * (len(rest) + 1))
    return rest[:at] + piece + rest[at:]


def _take_a_piece_of_another(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    other = seeds[int(draw() * len(seeds))]
    start, stop = _span(len(other), draw)
    at = int(draw() * (len(data) + 1))
    # In the place of as many bytes, or between them.
    rest = data[at + stop - start :] if draw() < 0.5 else data[at:]
    return data[:at] + other[start:stop] + rest


def _go_on_as_another(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    other = seeds[int(draw() * len(seeds))]
    at = int(draw() * (len(data) + 1))
    return data[:at] + other[min(at, len(other)) :]


def _put_an_extreme_number(data: bytes, seeds: Sequence[bytes], draw: Draw) -> bytes:
    new = EXTREMES[int(draw() * len(EXTREMES))]
    at = stop = int(draw() * (len(data) + 1))
    # A number that stands there, or follows soon, is replaced; else the new one is put in.
    while at < len(data) and at < stop + _SHORT and not 48 <= data[at] <= 57:
        at += 1
    if at == len(data) or not 48 <= data[at] <= 57:
        return data[:stop] + new + data[stop:]
    stop = at
    while stop < len(data) and stop < at + _SHORT and 48 <= data[stop] <= 57:
        stop += 1
    return data[:at] + new + data[stop:]


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], Draw], bytes], ...] = (
    _flip_a_bit,
    _change_a_byte,
    _put_a_telling_byte,
    _cut_the_end,
    _cut_the_middle,
    _insert_bytes,
    _insert_zeros,
    _overwrite_with_zeros,
    _double_a_piece,
    _move_a_piece,
    _take_a_piece_of_another,
    _go_on_as_another,
    _put_an_extreme_number,
)
