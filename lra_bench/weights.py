"""Encoders of finished runs: kept where asked for, shared as a folder, taken up by another run.

weights/<run_id>/encoder.safetensors     the encoder that validation chose
weights/<run_id>/record.json             the record of the run, which has the checksum of the other

A folder says all there is to know, and can be copied anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lra_bench import files, record
from lra_bench.record import RunRecord

if TYPE_CHECKING:
    from torch import nn

ENCODER, RECORD = "encoder.safetensors", "record.json"
# Of a list of names, how many are said.
_MOST_LISTED = 4

Extension = Literal["refuse", "tile"]


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

    weights = {name: one.detach().cpu().contiguous() for name, one in encoder.state_dict().items()}
    path = folder / ENCODER
    try:
        files.write_atomically(path, save(weights))
    except OSError as error:
        raise OSError(
            f"cannot keep the weights {path}: {files.reason(error)}; free some space, or leave "
            f"out keep_weights=true"
        ) from error
    return files.sha256_of(path)


def describe(made: RunRecord, folder: Path) -> None:
    """Write the record of a run beside its weights, so that the folder says what they are.

    Raises:
        OSError: It cannot be written.
    """
    text = json.dumps(record.as_dict(made), indent=1, sort_keys=True, allow_nan=False)
    files.write_atomically(folder / RECORD, f"{text}\n")
