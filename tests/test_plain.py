"""JSON that nobody vouches for, and values against type hints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from lra_bench import plain


@pytest.mark.parametrize(
    "text", ['{"a": [1, -2.5, 1e-400, null, true, "\\u00e4"]}', "0", '""', f"[{2**64 - 1}]"]
)
def test_honest_json_is_read(text: str) -> None:
    assert plain.load(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ("[1,]", "is not JSON"),
        ("[" * 51 + "]" * 51, "nested too deeply"),
        ('{"a":' * 51 + "1" + "}" * 51, "nested too deeply"),
        ("[" * 1_000_000, "nested too deeply"),
        (f"[{2**64}]", "18446744073709551616, which is too large"),
        (f"[-{'1' * 100_000}]", "which is too large"),
        ("[1e999]", "1e999, which is too large"),
        ("[NaN]", "NaN, which is no number"),
        ("[Infinity]", "Infinity, which is no number"),
        (r'["\ud800"]', "no Unicode text"),
        (r'{"\ud800": 1}', "no Unicode text"),
    ],
)
def test_other_json_is_refused_in_one_line(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        plain.load(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("hint", "good", "bad", "words"),
    [
        (int, [0, -1], [0.5, True, "1", None], "a whole number"),
        (float, [0.5, 1], [True, "1", float("nan"), float("inf")], "a number"),
        (bool, [True], [1, None], "true or false"),
        (str, [""], [1, None], "a text"),
        (float | None, [None, 1.5], ["x"], "a number or null"),
        (Literal["a", "b"], ["a"], ["c", 1, []], "one of a, b"),
        (Mapping[str, Any], [{}, {"a": []}], [[], {1: 2}], "an object"),
        (Mapping[str, int], [{"a": 1}], [{"a": "1"}], "an object (each value a whole number)"),
        (Sequence[str], [[], ("a",)], ["a", [1]], "a list (each item a text)"),
        (Any, [None, object()], [], "anything"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_fit_hints(hint: Any, good: list[Any], bad: list[Any], words: str) -> None:
    assert all(plain.fits(value, hint) for value in good)
    assert not any(plain.fits(value, hint) for value in bad)
    assert plain.in_words(hint) == words


def test_leaves_by_dotted_key() -> None:
    tree = {"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}
    assert dict(plain.leaves(tree)) == {"a": 1, "b.c": [2], "b.d.e": None}
    assert list(dict(plain.leaves(tree, inner=True))) == ["a", "b", "b.c", "b.d", "b.d.e", "f"]
