"""What a run is called, known as soon as it has been asked for: names, changes, and hashes of them.

Imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# What names a run; each is a group of ``conf/``.
NAMES = ("setting", "task", "model", "objective")


def labels(names: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, str]:
    """Return the names with what was changed about them, for people to read.

    Nothing is to be read back from these texts: they are made when they are shown.

    Args:
        names: By group; those that changes cannot belong to are returned as they are.
        changes: By dotted key, in any order. Options of the trunk, the head and the training
            belong to the setting.

    Returns:
        For example ``local(block_size=64)`` for the model.
    """
    labelled = dict(names)
    for group in NAMES:
        shown = [
            f"{shortened(key, group)}={changes[key]}"
            for key in sorted(changes)
            if owner(key) == group
        ]
        if shown:
            labelled[group] = f"{names[group]}({','.join(shown)})"
    return labelled


def owner(key: str) -> str:
    """Return which of `NAMES` a changed option belongs to."""
    section = key.split(".")[0]
    return section if section in NAMES else "setting"


def shortened(key: str, group: str) -> str:
    """Return an option's key as it stands behind the name that it belongs to."""
    return key.removeprefix(f"{group}.").removeprefix("mixer.")


def identity_of(config: Any) -> Any:
    """Return a configuration without ``_target_`` keys, at any depth.

    What a class is called and where its file lies is no part of a run: it may be moved.
    """
    if isinstance(config, Mapping):
        return {key: identity_of(value) for key, value in config.items() if key != "_target_"}
    if isinstance(config, (list, tuple)):
        return [identity_of(value) for value in config]
    return config


def hash_of(content: Any) -> str:
    """Return the SHA-256 (hex) of plain data.

    Neither the order of keys matters, nor whether a whole number is written 1 or 1.0.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(_canonical(content), sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _canonical(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_canonical(value) for value in content]
    if isinstance(content, float) and content.is_integer():
        return int(content)
    return content


def request_id(
    names: Mapping[str, str], changes: Mapping[str, Any], config: Mapping[str, Any], seed: int
) -> str:
    """Return what a run is called before its data are known, 16 hex digits.

    Args:
        names: By group; only `NAMES` count.
        changes: Options that differ from what the names stand for, by dotted key.
        config: The sections that can change the number; ``_target_`` does not count.
        seed: Seed of the run.

    Raises:
        ValueError: A number is not finite.
    """
    content = {
        "names": {group: names[group] for group in NAMES},
        "changes": changes,
        "config": identity_of(config),
        "seed": seed,
    }
    return hash_of(content)[:16]


def run_id_of(request_id: str, data_sha256: str) -> str:
    """Return what the record of a request on some data is called: other data, another record.

    Raises:
        ValueError: The fingerprint of the data is no SHA-256.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", data_sha256):
        raise ValueError(
            f"the data's fingerprint must be a SHA-256, 64 hexadecimal digits, not {data_sha256!r}"
        )
    return f"{request_id}-{data_sha256[:8]}"
