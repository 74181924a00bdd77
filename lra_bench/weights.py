"""Encoders of finished runs: kept where asked for, shared as a folder, taken up by another run.

weights/<run_id>/encoder.safetensors     the encoder that validation chose
weights/<run_id>/record.json             the record of the run, which has the checksum of the other

A folder says all there is to know, and can be copied anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench import files, lookup, plain, record
from lra_bench.errors import UserError
from lra_bench.record import BadRecord, RunRecord
from lra_bench.schema import Extension

if TYPE_CHECKING:
    from torch import Tensor, nn

ENCODER, RECORD = "encoder.safetensors", "record.json"
# Of a list of names, how many are said.
_MOST_LISTED = 4
# What of an encoder depends on the longest input, and can be extended by a rule.
_POSITIONS = ("embedding.positions", "block_positions")
# What tasks on pieces of text tell of themselves; see `DataInfo.details`.
_VOCABULARY = "vocabulary_sha256"
# What an encoder has only while something is hidden from it.
_MASK = "embedding.mask"


def folder_of(results_dir: Path, run_id: str) -> Path:
    """Return where the encoder of a run lies below a results folder."""
    return results_dir / "weights" / run_id


def are_kept(done: RunRecord, results_dir: Path) -> bool:
    """Return whether the encoder of a finished run lies there, as its record says."""
    path = folder_of(results_dir, done.run_id) / ENCODER
    return path.is_file() and files.sha256_of(path) == done.weights_sha256


def keep(encoder: nn.Module, folder: Path) -> str:
    """Write the weights of an encoder, and return the SHA-256 (hex) of the file.

    Raises:
        OSError: It cannot be written; the text says why.
    """
    from safetensors.torch import save

    # Copies: weights that are shared among layers are written under each of their names.
    weights = {name: one.detach().cpu().clone() for name, one in encoder.state_dict().items()}
    path = folder / ENCODER
    try:
        files.write_atomically(path, save(weights))
    except OSError as error:
        raise OSError(
            f"cannot keep the weights {path}: {files.reason(error)}; free some space and give the "
            f"same line again (the result itself is recorded)"
        ) from error
    return files.sha256_of(path)


def describe(made: RunRecord, folder: Path) -> None:
    """Write the record of a run beside its weights, so that the folder says what they are.

    Raises:
        OSError: It cannot be written.
    """
    text = json.dumps(record.as_dict(made), indent=1, sort_keys=True, allow_nan=False)
    files.write_atomically(folder / RECORD, f"{text}\n")


@dataclass(frozen=True)
class Parent:
    """A finished run whose encoder another one begins from.

    Args:
        record: Its record.
        folder: Where the encoder lies.
        positions: What to do where its table of positions has another length: ``refuse``;
            ``tile``, repeat the rows it has, or leave out those that are too many.
    """

    record: RunRecord
    folder: Path
    positions: Extension = "refuse"

    def pretraining(self, child: Mapping[str, str]) -> dict[str, Any]:
        """Return what a record holds of it; costs are with those of the runs before it.

        Args:
            child: The labels of the run that begins from it; see `lra_bench.identity.labels`.
        """
        of = self.record
        before: Mapping[str, Any] = of.pretraining or {}
        tokens = None
        if of.tokens_per_second is not None and of.train_seconds is not None:
            tokens = round(of.tokens_per_second * of.train_seconds)
        return {
            "run_id": of.run_id,
            "label": self._label(child),
            "positions": "as they were" if self.positions == "refuse" else self.positions,
            "config_sha256": of.config_sha256,
            "weights_sha256": of.weights_sha256,
            "seed": of.seed,
            "num_steps": of.num_steps + before.get("num_steps", 0),
            "num_tokens": _sum(tokens, before.get("num_tokens", 0)),
            "train_seconds": _sum(of.train_seconds, before.get("train_seconds", 0)),
            "command": f"{of.command} keep_weights=true",
        }

    def _label(self, child: Mapping[str, str]) -> str:
        """Return the run in a few words: what it minimized, and in what it was another run."""
        of = self.record
        apart = [of.labels[name] for name in ("task", "model") if of.labels[name] != child[name]]
        own = of.labels["setting"]
        if own != child["setting"]:
            # A setting that both have is named already; what was changed about it is not.
            is_named = child["setting"].split("(")[0] == of.setting and own != of.setting
            changed = own.removeprefix(f"{of.setting}(").replace(")", "", 1)
            apart.insert(0, changed if is_named else own)
        rest = f"({', '.join(apart)})" if apart else ""
        extended = "" if self.positions == "refuse" else f", positions {self.positions}d"
        return f"{of.labels['objective']}{rest}{extended}"


def _sum(one: float | None, other: float | None) -> Any:
    return None if one is None or other is None else one + other


def find(word: str, results_dir: Path, positions: Extension) -> Parent:
    """Return the run that ``init_from`` means.

    Args:
        word: A folder with an encoder and its record; a record; a run's id, or how one begins.
        results_dir: Where runs are looked for.
        positions: See `Parent`.

    Raises:
        UserError: There is none, it has no result, or its weights are not there or not its own.
    """
    named = Path(word).expanduser()
    folder = named.parent if named.name == ENCODER else named
    if not files.is_there(folder) or folder.is_file():
        made, path = lookup.find(
            word, [results_dir], remedy="results_dir= names another folder, init_from= may name one"
        )
        below = _results_of(made, path, results_dir)
        return of_record(made, folder_of(below, made.run_id), positions)
    if not (folder / RECORD).is_file():
        raise UserError(
            f"init_from={word} is a folder without the {RECORD} that says what it holds"
        )
    return of_record(_read(folder / RECORD), folder, positions)


def _results_of(made: RunRecord, path: Path, results_dir: Path) -> Path:
    """Return the results folder that a record lies in, or where runs are looked for."""
    if len(path.parents) > 4:
        names = made.setting, made.task, made.model
        if path == record.record_path(path.parents[4], *names, made.run_id):
            return path.parents[4]
    return results_dir


def of_record(made: RunRecord, folder: Path, positions: Extension) -> Parent:
    """Return a run as one to begin from.

    Raises:
        UserError: It has no result, or its weights are not there or not its own.
    """
    if made.status != "completed":
        raise UserError(f"init_from: run {made.run_id} is {made.status}; there is nothing to take")
    path = folder / ENCODER
    if not path.is_file():
        raise UserError(
            f"init_from: the weights of run {made.run_id} were not kept, {path} is not there; "
            f"run it with keep_weights=true: {made.command} keep_weights=true"
        )
    if files.sha256_of(path) != made.weights_sha256:
        raise UserError(
            f"init_from: {path} is not what the record of run {made.run_id} says (SHA-256 "
            f"{str(made.weights_sha256)[:16]}...); get both again, or run it anew: {made.command} "
            f"keep_weights=true force=true"
        )
    return Parent(made, folder, positions)


def _read(path: Path) -> RunRecord:
    try:
        return record.read(path)
    except BadRecord as error:
        raise UserError(f"init_from: {path} {error}") from error


def check_vocabulary(parent: Parent, details: Mapping[str, str]) -> None:
    """Refuse a run whose ids stand for something else than those that the encoder has learned.

    Args:
        parent: The run that it begins from.
        details: What is known of this run's data; see `lra_bench.types.DataInfo`.

    Raises:
        UserError: The two have different vocabularies.
    """
    theirs, ours = (
        of.get(_VOCABULARY, "none that is learned")
        for of in (parent.record.data["details"], details)
    )
    if theirs != ours:
        raise UserError(
            f"init_from: run {parent.record.run_id} has another vocabulary ({theirs[:16]}) than "
            f"this task ({ours[:16]}), whose ids stand for other pieces of text; give "
            f"task.vocabulary= the folder of the prepared data that it was learned on"
        )


def take(parent: Parent, encoder: nn.Module, config: Mapping[str, Any]) -> list[str]:
    """Give an encoder the weights of another run; all of them, or none.

    Args:
        parent: The other run.
        encoder: Changed in place.
        config: The sections of this run's configuration.

    Returns:
        What was taken, what was left, and in what the two differ: sentences.

    Raises:
        UserError: A weight is missing, is one too many, or has another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = parent.folder / ENCODER
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"init_from: {path} cannot be read: {error}") from error
    own = encoder.state_dict()
    left = [_MASK] if _MASK in given and _MASK not in own else []
    fresh = [_MASK] if _MASK in own and _MASK not in given else []
    taken = {name: tensor for name, tensor in given.items() if name not in left}
    notes = _extend_positions(taken, own, parent)
    if problems := list(_misfits(taken, own, fresh)):
        more = f"; and {len(problems) - _MOST_LISTED} more" if len(problems) > _MOST_LISTED else ""
        raise UserError(
            f"init_from: the encoder of run {parent.record.run_id} "
            f"({parent.record.labels['model']} on {parent.record.labels['task']}) does not fit "
            f"model, trunk and task of this one: "
            f"{'; '.join(problems[:_MOST_LISTED])}{more}"
        )
    encoder.load_state_dict({**own, **taken})
    number = sum(tensor.numel() for tensor in taken.values())
    return [
        f"begun from run {parent.record.run_id} ({parent.record.objective} on "
        f"{parent.record.task}, {parent.record.num_steps:,} updates): {len(taken)} tensors with "
        f"{number:,} numbers taken; left: {', '.join(left) or 'nothing'} and the head; new: "
        f"{', '.join([*fresh, 'the head'])}",
        *notes,
        *_differences(parent.record.config, config),
    ]


def _extend_positions(
    taken: dict[str, Tensor], own: Mapping[str, Tensor], parent: Parent
) -> list[str]:
    """Bring tables of positions to the length that is needed, if a rule says how."""
    import torch

    notes = []
    for name in _POSITIONS:
        theirs, wanted = taken.get(name), own.get(name)
        if theirs is None or wanted is None or len(theirs) == len(wanted):
            continue
        if parent.positions == "refuse":
            raise UserError(
                f"init_from: run {parent.record.run_id} has {len(theirs):,} positions ({name}), "
                f"this one needs {len(wanted):,}; give both the same task.max_length, or "
                f"init_positions=tile, which repeats the rows of its table"
            )
        taken[name] = theirs[torch.arange(len(wanted)) % len(theirs)]
        notes.append(f"note: {len(theirs):,} {name} became {len(wanted):,}, repeated or cut")
    return notes


def _misfits(
    taken: Mapping[str, Tensor], own: Mapping[str, Tensor], fresh: Sequence[str]
) -> Iterator[str]:
    """Yield what does not fit, with its name and shapes."""
    for name, tensor in taken.items():
        if name not in own:
            yield f"{name} {tuple(tensor.shape)} is there and not here"
        elif tensor.shape != own[name].shape:
            yield f"{name} is {tuple(tensor.shape)} there and {tuple(own[name].shape)} here"
        elif tensor.dtype != own[name].dtype:
            yield f"{name} is of {tensor.dtype} there and of {own[name].dtype} here"
        elif not tensor.isfinite().all():
            yield f"{name} holds what is no finite number"
    for name in own:
        if name not in taken and name not in fresh:
            yield f"{name} {tuple(own[name].shape)} is here and not there"


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """Yield options of the encoder that have changed, though the weights fit."""
    absent = object()
    for section in ("model", "trunk"):
        before, now = (dict(plain.leaves(of.get(section, {}))) for of in (theirs, ours))
        for key in sorted({*before, *now}):
            if before.get(key, absent) != now.get(key, absent) and not key.endswith("_target_"):
                yield (
                    f"note: {section}.{key} was {before.get(key, 'not there')}, is "
                    f"{now.get(key, 'not there')}"
                )
