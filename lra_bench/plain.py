"""Plain data: JSON from a file that nobody vouches for, type hints checked, nested sections flat.

Imports nothing but the standard library.
"""

from __future__ import annotations

import collections.abc
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

# No honest whole number is larger, and no honest file is nested deeper.
_LARGEST = 2**64
_DEEPEST = 50


def load(text: str) -> Any:
    """Read JSON whose numbers are finite, whose texts can be written, and which is not too deep.

    Raises:
        ValueError: It is something else; the text says what, and follows "it".
    """
    try:
        content = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError("is not JSON; it may be half written") from error
    # Half a character can only come from an escape; other texts need not be looked at.
    may_be_halved = "\\ud" in text or "\\uD" in text
    layer, depth = [content], 0
    while layer:
        inner: list[Any] = []
        for value in layer:
            kind = type(value)
            if kind is dict:
                inner += value.values()
                if may_be_halved:
                    inner += value
            elif kind is list:
                inner += value
            elif may_be_halved and kind is str and not _can_be_written(value):
                raise ValueError(f"holds {value!r:.60}, which is no Unicode text")
        layer, depth = inner, depth + 1
        if depth > _DEEPEST:
            raise ValueError("is nested too deeply")
    return content


def _whole(digits: str) -> int:
    # The length first: reading thousands of digits is slow, and Python refuses it.
    if len(digits) > 30 or abs(int(digits)) >= _LARGEST:
        raise ValueError(f"holds the number {digits:.30}, which is too large")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(float(digits)):
        raise ValueError(f"holds the number {digits:.30}, which is too large")
    return float(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"holds {constant}, which is no number")


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def leaves(
    tree: Mapping[str, Any], prefix: str = "", *, inner: bool = False
) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested sections by dotted key; with ``inner`` the sections as well."""
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if inner:
                yield dotted, value
            yield from leaves(value, f"{dotted}.", inner=inner)
        else:
            yield dotted, value


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value, and what is inside it, is what a type hint says.

    Args:
        value: Plain data, or an object of a class that the hint names.
        hint: A class, ``Any``, a union, ``Literal``, ``Mapping`` or ``Sequence``. A bool is no
            number, and a number that is not finite is none either.
    """
    if hint is Any or (hint is str and type(value) is str):
        return True
    origin, args = _parts(hint)
    if origin is UnionType:
        return any(fits(value, one) for one in args)
    if origin is Literal:
        return value in args
    if origin is collections.abc.Mapping:
        keys, values = args
        return (type(value) is dict or isinstance(value, Mapping)) and all(
            fits(key, keys) and (values is Any or fits(inner, values))
            for key, inner in value.items()
        )
    if origin is collections.abc.Sequence:
        return isinstance(value, (list, tuple)) and all(fits(inner, args[0]) for inner in value)
    if hint in (int, float):
        kind = int if hint is int else (int, float)
        return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint)


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def in_words(hint: Any) -> str:
    """Return what a type hint asks for, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return "anything"
    if origin is UnionType:
        return " or ".join(in_words(one) for one in args)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is collections.abc.Mapping:
        return "an object" if args[1] is Any else f"an object (each value {in_words(args[1])})"
    if origin is collections.abc.Sequence:
        return f"a list (each item {in_words(args[0])})"
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return "null" if hint is NoneType else words.get(hint, hint.__name__)


def check_fields(holder: object) -> None:
    """Refuse a dataclass with a field of the wrong type, or with a negative number.

    Raises:
        ValueError: There is one; the text names it.
    """
    layout: Any = type(holder)
    for name, (hint, scalars) in _hints(layout).items():
        value = getattr(holder, name)
        # Most fields are one text or one number: a look at the type is enough.
        if type(value) not in scalars and not fits(value, hint):
            raise ValueError(f"{name} must be {in_words(hint)}, not {value!r:.60}")
        if isinstance(value, (int, float)) and value < 0:
            raise ValueError(f"{name} is {value}, which is negative")


@cache
def _hints(layout: Any) -> Mapping[str, tuple[Any, frozenset[type]]]:
    """Return the type of each field, and which plain types it may be; not numbers with a point.

    Working them out takes as long as reading ten records.
    """
    plain_types: frozenset[type] = frozenset({str, int, bool, NoneType})
    return {
        name: (
            hint,
            plain_types.intersection(get_args(hint) if isinstance(hint, UnionType) else [hint]),
        )
        for name, hint in get_type_hints(layout).items()
    }
