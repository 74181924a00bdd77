"""Models that are said to be less than quadratic make no tensor that is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lra_bench.build import build
from lra_bench.compose import compose
from models.made_up import largest_tensor, make_spec

LENGTHS = (2048, 4096)
# With the options of their files unless some are given, and how often the largest tensor of twice
# the length contains that of the length: 2 is linear, 4 quadratic.
MODELS: list[tuple[str, Sequence[str], float]] = [
    ("local", (), 2.1),
    ("ernie_sparse", (), 2.1),
    ("linear_transformer", (), 2.1),
    ("linformer", (), 2.1),
    # Of a stride that does not grow with the length, a part is quadratic, L * L / stride.
    ("sparse", ("model.mixer.stride=128", "model.mixer.num_summaries=8"), 3.1),
    ("sparse", ("model.mixer.stride=128", "model.mixer.pattern=strided"), 2.2),
    ("longformer", (), 2.1),
    ("bigbird", (), 2.1),
    ("performer", (), 2.1),
    ("reformer", (), 2.1),
    ("sinkhorn", (), 2.1),
    ("fnet", (), 2.1),
    ("nystromformer", (), 2.1),
    ("cosformer", (), 2.1),
    ("skyformer", (), 2.1),
    ("luna", (), 2.1),
    ("h_transformer_1d", (), 2.1),
    ("s4d", (), 2.1),
    ("s5", (), 2.1),
    ("mamba", (), 2.1),
    ("mega", ("model.chunk_size=128",), 2.1),
]


@pytest.mark.parametrize(
    ("model", "words", "limit"), MODELS, ids=["-".join((name, *words)) for name, words, _ in MODELS]
)
def test_the_largest_tensor_grows_slower_than_the_square(
    model: str, words: Sequence[str], limit: float
) -> None:
    node = compose([f"model={model}", "task=listops", "setting=smoke", *words]).config.model
    sizes = [
        largest_tensor(build(node, "model", spec=make_spec(max_length=length)), length)
        for length in LENGTHS
    ]
    assert sizes[1] < limit * sizes[0], sizes
    # The square itself, in numbers of four bytes, for the one example and both heads.
    assert sizes[1] < LENGTHS[1] ** 2 * 4 * 2
