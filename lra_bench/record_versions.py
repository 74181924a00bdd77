"""Versions of the record: which there were, and older ones as today's.

A field that a newer minor version has added is kept, and written back.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lra_bench import identity, plain
from lra_bench.identity import NAMES
from lra_bench.metrics import Evaluation, measured

# Major and minor. A new field, or a new metric, is a new minor version; a field that is gone or
# means something else is a new major one, and needs a function in `_UPGRADES`.
SCHEMA_VERSION = "2.2"


class BadRecord(ValueError):
    """A file is no run record that this program can read; the text says why, and follows "it"."""


def upgrade(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a record in the layout of this version.

    Args:
        content: Of any version up to this one, or of a newer minor version.

    Raises:
        BadRecord: The version is unknown.
        ValueError: The content is not what its version says.
    """
    content = dict(content)
    while _major(content["schema_version"]) in _UPGRADES:
        content = _UPGRADES[_major(content["schema_version"])](content)
    if _major(content["schema_version"]) != _major(SCHEMA_VERSION):
        raise BadRecord(
            f"has schema_version {content['schema_version']!r:.60}, this program reads up to "
            f"{SCHEMA_VERSION}; a newer one may read it"
        )
    for minor, name, value in _ADDED:
        if _minor(content["schema_version"]) < minor:
            content.setdefault(name, copy.copy(value))
    if _minor(content["schema_version"]) < 2 and "sessions" in content:
        content["sessions"] = _with_processes(content["sessions"], content.get("num_processes"))
    if not is_newer(content["schema_version"]):
        content["schema_version"] = SCHEMA_VERSION
    return content


def _with_processes(sessions: Any, num_processes: Any) -> Any:
    """Return what version 2.2 says of sessions; what is something else is told of later."""
    if not plain.fits(sessions, Sequence[Mapping[str, Any]]):
        return sessions
    return [{"num_processes": num_processes, **session} for session in sessions]


def _major(version: Any) -> int | None:
    """Return the number before the point, or None; the first version was the plain number 1."""
    if plain.fits(version, int) and version == 1:
        return 1
    parts = re.fullmatch(r"(\d{1,9})\.\d{1,9}", version) if isinstance(version, str) else None
    return int(parts[1]) if parts else None


def is_newer(version: str) -> bool:
    """Return whether a version has a higher minor number than this program's."""
    return _minor(version) > _minor(SCHEMA_VERSION)


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def _from_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Upgrade version 1; its ``run_id`` hashed classes and the whole fingerprint, and is gone."""
    kinds: dict[str, Any] = {"seed": int, "data_sha256": str, "data": Mapping[str, str]}
    kinds |= {name: str for name in NAMES}
    kinds |= {name: Mapping[str, Any] for name in ("changes", "config")}
    if missing := {*kinds, "test", "validation"} - set(content):
        raise ValueError(f"missing fields {', '.join(sorted(missing))}")
    for name, hint in kinds.items():
        if not plain.fits(content[name], hint):
            raise ValueError(f"{name} must be {plain.in_words(hint)}, not {content[name]!r:.60}")
    names = {group: _plain_name_1(content[group], group, content["changes"]) for group in NAMES}
    request = identity.request_id(names, content["changes"], content["config"], content["seed"])
    sums = {split: _sums_1(content[split]) for split in ("test", "validation")}
    evaluations = {
        split: None if of is None else Evaluation.from_dict(of) for split, of in sums.items()
    }
    told = {name: content["data"].get(name, "") for name in ("source", "warning", "note")}
    details = {name: text for name, text in content["data"].items() if name not in told}
    return {
        **content,
        **names,
        **sums,
        "schema_version": "2.0",
        "request_id": request,
        "run_id": identity.run_id(request, content["data_sha256"]),
        "config_sha256": identity.config_sha256(content["config"]),
        "data": {**told, "details": details},
        "ranking_metric": "accuracy",
        "metrics": measured(["accuracy"], **evaluations),
        "parent": None,
        "num_processes": 1,
    }


def _plain_name_1(name: str, group: str, changes: Mapping[str, Any]) -> str:
    """Return a name without the bracket that version 1 put behind it for its changes."""
    starts = []
    for key in changes:
        section = key.split(".")[0]
        if group == (section if section in NAMES else "setting"):
            starts.append(name.find(f"({key.removeprefix(f'{group}.').removeprefix('mixer.')}="))
    return name[: min((start for start in starts if start > 0), default=None)]


def _sums_1(sums: Any) -> dict[str, Any] | None:
    """Return the sums of an evaluation of one class an example."""
    if sums is None:
        return None
    if not isinstance(sums, Mapping) or set(sums) != {"num_examples", "num_correct", "loss_sum"}:
        raise ValueError(f"{sums!r:.200} are not the sums of an evaluation")
    number, right = sums["num_examples"], sums["num_correct"]
    return {
        "examples": number,
        "targets": number,
        "correct": right,
        "exact": right,
        "loss": sums["loss_sum"],
    }


# What turns a major version into the next one.
_UPGRADES: dict[int | None, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_1}


# What minor versions of the present major one have added, with what older records are given.
_ADDED: Sequence[tuple[int, str, Any]] = (
    (1, "sessions", []),
    (2, "pretraining", None),
    (2, "weights_sha256", None),
)
