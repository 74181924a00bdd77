"""What a run is called: by what can change its number, and by nothing else."""

from __future__ import annotations

import itertools
import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_records import CONFIG, DATA_SHA256, make

from lra_bench import identity, plain
from lra_bench.compose import compose
from lra_bench.record import read

NAMES = {"setting": "cpu", "task": "listops", "model": "local", "objective": "sar"}


def test_a_request_is_told_by_what_can_change_the_number() -> None:
    given: dict[str, Any] = {"names": NAMES, "changes": {"a.b": 1}, "config": CONFIG, "seed": 0}
    first = identity.request_id(**given)
    assert len(first) == 16
    assert int(first, 16) >= 0
    others: list[dict[str, Any]] = [
        *({"names": {**NAMES, group: "other"}} for group in identity.NAMES),
        {"changes": {}},
        {"changes": {"a.b": 2}},
        {"changes": {"a.b": True}},
        {"config": {**CONFIG, "train": {"learning_rate": 0.002, "num_steps": 200}}},
        {"seed": 1},
    ]
    ids = [first, *(identity.request_id(**{**given, **other}) for other in others)]
    assert len(set(ids)) == len(ids)


def test_neither_place_nor_order_changes_a_request() -> None:
    config = {"model": {"_target_": "a.B", "mixer": {"_target_": "a.C", "size": 8}, "list": [1.5]}}
    moved = {"model": {"list": (1.5,), "mixer": {"size": 8, "_target_": "z.C"}, "_target_": "z"}}
    changes = {"model.alpha": 1, "train.x": 0.5}
    turned = dict(reversed(changes.items()))
    more = {"tracker": "wandb", **NAMES}
    first = identity.request_id(NAMES, changes, config, 0)
    assert first == identity.request_id(more, turned, moved, 0)
    assert identity.without_targets({"task": [{"_target_": "x", "_partial_": True}]}) == {
        "task": [{"_partial_": True}]
    }


def test_ids_stay_what_they_are() -> None:
    """What is published under an id must be found under it for ever."""
    assert identity.hash_of({"b": [1, 2.5, None, True], "a": "ä"}) == (
        "f11879da5f07e5304f3e2fa90e91313646b96ea08b34961027ea6065eb2054b6"
    )


def test_other_data_are_another_record() -> None:
    assert identity.run_id("a" * 16, DATA_SHA256) == "a" * 16 + "-01234567"


def test_a_number_that_is_none_has_no_id() -> None:
    with pytest.raises(ValueError, match="JSON"):
        identity.hash_of({"x": math.inf})


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, {}),
        ({"model.mixer.block_size": 64}, {"model": "local(block_size=64)"}),
        ({"objective.alpha": 0.5}, {"objective": "sar(alpha=0.5)"}),
        (
            {"head.pooling": "max", "train.num_steps": 9, "trunk.width": 32},
            {"setting": "cpu(head.pooling=max,train.num_steps=9,trunk.width=32)"},
        ),
        (
            {"task.source": "official", "train.max_grad_norm": None},
            {"task": "listops(source=official)", "setting": "cpu(train.max_grad_norm=None)"},
        ),
    ],
)
def test_labels_show_the_changes(changes: dict[str, Any], label: dict[str, str]) -> None:
    assert identity.labels(NAMES, changes) == {**NAMES, **label}
    # Of a record they do not depend on the order in which its file has them.
    for order in itertools.permutations(changes.items()):
        fields: dict[str, Any] = {**NAMES, "changes": dict(order)}
        assert make(**fields).labels == {**NAMES, **label}


def test_labels_leave_other_names_alone() -> None:
    named = {**NAMES, "tracker": "wandb"}
    assert identity.labels(named, {"train.x": 1})["tracker"] == "wandb"


def test_only_the_standard_library_is_needed() -> None:
    script = (
        "import sys, lra_bench.identity; "
        "sys.exit(bool({'torch', 'hydra', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_option_that_came_later_leaves_identities_alone() -> None:
    old: dict[str, Any] = {"trunk": {"width": 64}, "model": {"mixer": {"input": "symbols"}}}
    first = identity.request_id(NAMES, {}, old, 0)
    assert {key.split(".")[0] for key in identity.CAME_LATER} >= {"trunk", "head", "train"}
    new: dict[str, Any] = {**old}
    for key, value in identity.CAME_LATER.items():
        section, *inner, name = key.split(".")
        new[section] = {**new.get(section, {})} if not inner else new[section]
        if not inner:
            new[section][name] = value
    sections = {name: tree for name, tree in new.items() if name in old}
    assert identity.request_id(NAMES, {}, sections, 0) == first
    assert identity.config_sha256(sections) == identity.config_sha256(old)
    # Another value, or a value of another kind, is another run; so is the value as a change.
    for value in ("linear", None, ["symbols"]):
        other = {**sections, "trunk": {**sections["trunk"], "input": value}}
        assert identity.request_id(NAMES, {}, other, 0) != first
    zero = {**sections, "trunk": {**sections["trunk"], "tied_dropout": 0}}
    assert identity.request_id(NAMES, {}, zero, 0) != first
    assert identity.request_id(NAMES, {"trunk.input": "symbols"}, sections, 0) != first
    # The key counts, not its last word.
    del old["model"]["mixer"]["input"]
    assert identity.request_id(NAMES, {}, old, 0) != first


def test_what_came_later_says_nothing_where_nobody_asks_for_it() -> None:
    composed: dict[str, Any] = {}
    for model in ("s5", "reformer"):
        sections = compose(["task=listops", f"model={model}", "setting=cpu"]).sections
        composed |= dict(plain.leaves(sections))
    assert {key: composed.get(key, "absent") for key in identity.CAME_LATER} == {
        **identity.CAME_LATER
    }


SHIPPED = sorted((Path(__file__).parents[1] / "results/runs").rglob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_runs_are_what_their_commands_ask_for(path: Path) -> None:
    """Whatever options came after them: repeating a command finds the record."""
    one = read(path)
    verb, *words = shlex.split(one.command)[1:]
    assert verb == "run"
    assert compose(words).request_id == one.request_id
    assert path.stem == one.run_id
