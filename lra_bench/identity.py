"""What a run is called: its identity as a hash, and its names with their changes as a label.

What a class is called and where its file lies is no part of a run: ``_target_`` is recorded, and
not hashed. Nor are data: an identity is known before any are prepared. Nor is an option that came
later, as long as it leaves things as they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# The names that every run has.
NAMES = ("setting", "task", "model", "objective")
# Options that came when there were runs already, and the value that says what was so without them.
# With that value they are no part of an identity, so that a run keeps the one it has. An option
# that is added goes into this list.
CAME_LATER: Mapping[str, Any] = {
    "trunk.input": "symbols",
    "trunk.norm": "layer",
    "trunk.norm_place": "pre",
    "trunk.tied_dropout": False,
    "head.num_hidden_layers": None,
    "head.activation": "relu",
    "train.diagonal_learning_rate": None,
    "train.input_learning_rate": None,
    "train.step_learning_rate": None,
    "train.kernel_decay": "all",
    "model.reversible": False,
    "model.mixer.activation": "half_glu1",
    "model.mixer.output_init": "fan_in",
}
_ID_LENGTH = 16


def hash_of(content: Any) -> str:
    """Return the SHA-256 (hex) of plain data, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def without_targets(tree: Any) -> Any:
    """Return plain data without the ``_target_`` of any section."""
    if isinstance(tree, (str, int, float)) or tree is None:
        return tree
    if isinstance(tree, Mapping):
        return {key: without_targets(value) for key, value in tree.items() if key != "_target_"}
    if isinstance(tree, (list, tuple)):
        return [without_targets(value) for value in tree]
    return tree


def content_of(config: Mapping[str, Any]) -> Any:
    """Return of a configuration what is hashed: no ``_target_``, and nothing of `CAME_LATER`."""

    def kept(tree: Any, prefix: str) -> Any:
        if not isinstance(tree, Mapping):
            return tree
        return {
            key: kept(value, f"{prefix}{key}.")
            for key, value in tree.items()
            if not _says_nothing(f"{prefix}{key}", value)
        }

    return kept(without_targets(config), "")


def _says_nothing(path: str, value: Any) -> bool:
    before = CAME_LATER.get(path, NotImplemented)
    # False is no 0 here, as it is none in the text that is hashed.
    return type(value) is type(before) and bool(value == before)


def config_sha256(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of what a configuration says, whatever options there were then."""
    return hash_of(content_of(config))


def request_id(
    names: Mapping[str, str],
    changes: Mapping[str, Any],
    config: Mapping[str, Any],
    seed: int,
    parent: str | None = None,
) -> str:
    """Return the identity of what was asked for, 16 hexadecimal digits.

    Args:
        names: The chosen file of each group of `NAMES`.
        changes: Options that differ from what the names stand for, by dotted key.
        config: The sections that can change the number, with or without ``_target_``. Numbers
            must have the type that the option has: 1 and 1.0 are two texts.
        seed: The seed.
        parent: What it began from, if not from fresh weights; see `parent_id`.
    """
    content = {
        "names": {name: names[name] for name in NAMES},
        "changes": dict(changes),
        "config": content_of(config),
        "seed": seed,
    }
    if parent is not None:
        content["parent"] = parent
    return hash_of(content)[:_ID_LENGTH]


def run_id(request: str, data_sha256: str) -> str:
    """Return the identity of a run: what was asked for, and the data that it met."""
    return f"{request}-{data_sha256[:8]}"


def parent_id(pretraining: Mapping[str, Any] | None) -> str | None:
    """Return what the identity of a run has of the run that it began from.

    Args:
        pretraining: What is recorded of that run; see `lra_bench.weights.Parent`.
    """
    if pretraining is None:
        return None
    found, positions = str(pretraining["run_id"]), pretraining["positions"]
    return found if positions == "as they were" else f"{found}+{positions}"


def title(
    names: Mapping[str, str], changes: Mapping[str, Any], seed: int, pretraining: str = ""
) -> str:
    """Return a run in one line for people; see `labels`."""
    shown = labels({name: names[name] for name in NAMES}, changes, pretraining)
    return (
        f"{shown['model']} on {shown['task']}, setting {shown['setting']}, objective "
        f"{shown['objective']}, seed {seed}"
    )


def labels(
    names: Mapping[str, str], changes: Mapping[str, Any], pretraining: str = ""
) -> dict[str, str]:
    """Return the names with what was changed about them, for people.

    Options of the trunk, the head and the training belong to the setting; so does what a run began
    from, since nothing without it may be compared with it unseen.

    Args:
        names: The chosen file of each group.
        changes: Options that differ from what the names stand for, by dotted key.
        pretraining: What it began from, in a few words; nothing if from fresh weights.
    """
    shown: dict[str, list[str]] = {name: [] for name in names}
    for key, value in sorted(changes.items()):
        section = key.split(".")[0]
        owner = section if section in shown else "setting"
        short = key.removeprefix(f"{owner}.").removeprefix("mixer.")
        shown.setdefault(owner, []).append(f"{short}={value}")
    found = {
        name: f"{chosen}({','.join(shown[name])})" if shown[name] else chosen
        for name, chosen in names.items()
    }
    if pretraining:
        found["setting"] += f" + {pretraining}"
    return found
