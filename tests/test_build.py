"""From a node to an object: options are checked by the signature, and the node stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from lra_bench.build import as_user_error, build, build_task
from lra_bench.compose import compose_task
from lra_bench.errors import UserError

HERE = "test_build"


class Part:
    """Something with an option of every kind."""

    def __init__(
        self,
        spec: str,
        *,
        size: int = 1,
        rate: float = 0.5,
        kind: Literal["round", "square"] = "round",
        name: str | None = None,
        is_on: bool = False,
        widths: Sequence[int] = (),
        pair: tuple[int, int] = (1, 2),
        anything: object = None,
    ) -> None:
        if size < 0:
            raise ValueError(f"size={size} must not be negative")
        self.options = (spec, size, rate, kind, name, is_on, tuple(widths), tuple(pair), anything)


class Whole:
    """Something made of parts."""

    def __init__(self, part: Any, other: Any = None) -> None:
        self.part = part("from the whole")
        self.other = other


class Needing:
    """Something that needs an option."""

    def __init__(self, *, needed: int) -> None:
        self.needed = needed


def node(target: str = "Part", **options: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.{target}", **options}


def test_building_gives_the_options_and_changes_no_node() -> None:
    asked = node(size=3, rate=2, kind="square", name="x", widths=[1, 2], pair=[3, 4])
    before = copy.deepcopy(asked)
    part = build(asked, "model", spec="s", unused=5)
    assert part.options == ("s", 3, 2, "square", "x", False, (1, 2), (3, 4), None)
    assert asked == before
    assert type(asked["rate"]) is int


def test_parts_are_checked_and_made_by_the_whole() -> None:
    asked = node("Whole", part=node(_partial_=True, size=7))
    assert build(asked, "model").part.options[:2] == ("from the whole", 7)
    asked["part"]["size"] = "big"
    with pytest.raises(UserError, match=r"model\.part\.size=big is not a whole number"):
        build(asked, "model")
    assert build(node("Whole", part=node(_partial_=True), other=None), "model").other is None


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (node(size="x"), "model.size=x is not a whole number"),
        (node(size=1.5), "model.size=1.5 is not a whole number"),
        (node(size=True), "model.size=true is not a whole number"),
        (node(rate="fast"), "model.rate=fast is not a number"),
        (node(rate=float("nan")), "model.rate="),
        (node(kind="oval"), "model.kind=oval is not one of round, square"),
        (node(name=3), "model.name=3 is not a text"),
        (node(is_on=1), "model.is_on=1 is not true or false"),
        (node(widths=["a"]), "is not a whole number"),
        (node(pair=[1]), "model.pair"),
        (node(size=-1), "model: size=-1 must not be negative"),
        (node(sise=1), "model.sise: test_build.Part takes no such option; did you mean size?"),
        (node("Needing"), "model: test_build.Needing also needs needed"),
        (
            node("Whole", part=node(size=7)),
            "model.part: test_build.Part is made for each layer, with sizes that are not known "
            "yet; add `_partial_: true` beside its _target_",
        ),
        (node(_partial_=5), "model._partial_=5 is not true or false"),
        ({"_target_": "builtins.dict"}, "builtins.dict is nothing that can be built"),
        ({"_target_": "sys.exit", "size": 1}, "model.size: sys.exit takes no such option"),
        ({"_target_": "leaving_module.Part"}, "cannot import leaving_module.Part"),
        ({"size": 1}, "model has no _target_"),
        ({"_target_": "nowhere.Nothing"}, "model: cannot import nowhere.Nothing"),
        ({"_target_": "test_build.Nothing"}, "model: cannot import test_build.Nothing"),
        ({"_target_": "broken_module.Part"}, "cannot import broken_module.Part: division by zero"),
    ],
)
def test_what_is_wrong_is_one_line(
    asked: dict[str, Any], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (tmp_path / "leaving_module.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as caught:
        build(asked, "model", spec="s")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_of_the_program_is_none_of_the_user() -> None:
    def fail() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        as_user_error(fail, "model")


class NoTask:
    """Nothing of use."""


def test_a_task_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task/mine.yaml").write_text("# x\n_target_: test_build.NoTask\n")
    request = compose_task(["task=mine"], config_dirs=[tmp_path])
    with pytest.raises(UserError, match=r"task=mine must build an lra_bench\.types\.Task"):
        build_task(request)
