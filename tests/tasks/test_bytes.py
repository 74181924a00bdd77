from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lra_bench.types import SPLITS
from lra_tasks import _bytes
from lra_tasks._store import FlatCache, Layout
from lra_tasks._store_writer import writing

TEXTS = [b"caf\xc3\xa9", b"\x00\xfe", b" ", bytes(range(255)), b"x", b"yz"]


@pytest.mark.parametrize("num_inputs", [1, 2])
@pytest.mark.parametrize("first_id", [0, 1])
@pytest.mark.parametrize("chunk_bytes", [1, 1000])
def test_there_and_back(tmp_path: Path, num_inputs: int, first_id: int, chunk_bytes: int) -> None:
    """Whether bytes or their ids are stored, the ids are the same."""
    rows = [(TEXTS[start : start + num_inputs], start % 2) for start in range(0, 6, num_inputs)]
    layout = Layout(num_inputs=num_inputs, first_id=first_id)
    with writing(tmp_path / "data", layout) as writer:
        for split in SPLITS:
            writer.add(split, _bytes.chunks_of(rows, first_id=first_id, chunk_bytes=chunk_bytes))
    examples = FlatCache(tmp_path / "data", remedy="").examples("test", max_length=1000)
    for at, (texts, label) in enumerate(rows):
        example = examples[at]
        assert example.target == label
        assert [ids.tolist() for ids in example.inputs] == [
            [byte + 1 for byte in text] for text in texts
        ]
        shown = [text.decode(errors="replace") for text in texts]
        assert [_bytes.text_of(ids) for ids in example.inputs] == shown


def test_every_byte_has_an_id_of_its_own() -> None:
    spec = _bytes.spec_of("two", max_length=3, majority_baseline=None, num_inputs=2)
    assert (spec.vocab_size, spec.num_inputs, spec.num_classes) == (257, 2, 2)
    assert Layout.of(spec, first_id=_bytes.FIRST_ID).ids == "u1"
    (chunk,) = _bytes.chunks_of([((bytes([255]), bytes([0])), 1)])
    assert chunk.tokens.tolist() == [255, 0]


def test_pairs_are_told_apart() -> None:
    inputs = [np.array([byte + 1 for byte in text]) for text in (b"one", b"two")]
    assert _bytes.pair_of(inputs, "yes") == "input 1:\none\n\ninput 2:\ntwo\n\nanswer: yes"


def test_every_byte_is_a_byte_of_text() -> None:
    spec = _bytes.spec_of("x", max_length=9, majority_baseline=None)
    assert spec.symbol_bytes == (0, *[1] * 256)
