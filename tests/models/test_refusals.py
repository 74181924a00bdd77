"""What does not fit is refused when a model is built, with its value and what would fit.

For every yaml in ``conf/model``; and what looks odd but means something is not refused.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lra_bench.build import build, build_task
from lra_bench.cli import main
from lra_bench.compose import compose
from lra_bench.errors import UserError
from lra_bench.runner import assemble
from lra_bench.schema import explain
from lra_bench.words import options
from models.made_up import MAX_LENGTH, make_spec

MODELS = options("model")


def node_of(name: str) -> Mapping[str, Any]:
    return compose([f"model={name}", "task=listops", "setting=smoke"]).config.model


def numbers_of(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options that are numbers, or that could be null instead, by their dotted key."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from numbers_of(value, f"{prefix}{key}.")
        elif not key.startswith("_") and not isinstance(value, (bool, str)):
            yield f"{prefix}{key}", value


def changed(node: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(dict(node))
    inner: Any = copied
    *sections, name = key.split(".")
    for section in sections:
        inner = inner[section]
    assert name in inner
    inner[name] = value
    return copied


@pytest.mark.parametrize("name", MODELS)
def test_no_number_may_be_negative(name: str) -> None:
    node = node_of(name)
    for key, value in numbers_of(node):
        wrong = -1.0 if isinstance(value, float) else -1
        says = re.escape(f"{key.split('.')[-1]}={wrong}")
        with pytest.raises(UserError, match=says):
            build(changed(node, key, wrong), "model", spec=make_spec())


@pytest.mark.parametrize(
    ("name", "key", "value", "says"),
    [
        ("bigbird", "mixer.block_size", 5, "num_random_blocks=3 does not fit.*at most 1"),
        ("bigbird", "mixer.num_window_blocks", 2, "num_window_blocks=2 must be odd"),
        ("h_transformer_1d", "mixer.block_size", 5, "block_size=5 must be even"),
        ("linformer", "mixer.rank", 31, "rank=31 .* at most the longest sequence, 30 tokens"),
        ("longformer", "mixer.window", 5, "window=5 must be even"),
        ("longformer", "mixer.dilation", 31, "dilation=31 .* at most .* 30 tokens"),
        ("longformer", "mixer.num_global_tokens", 31, "num_global_tokens=31 .* 30 tokens"),
        ("nystromformer", "mixer.kernel_size", 4, "kernel_size=4 must be odd"),
        ("nystromformer", "mixer.num_iterations", 64, "num_iterations=64 .* at most 16"),
        ("reformer", "mixer.num_buckets", 5, "num_buckets=5 must be even"),
        ("s4d", "mixer.min_step", 0.5, "min_step=0.5 .* at most max_step=0.1"),
        ("s4d", "feed_forward", 3, "model.feed_forward=3 is not a section with a _target_"),
        ("s5", "mixer.state_size", 12, "state_size=12 must be a multiple of twice num_blocks=4"),
        ("skyformer", "mixer.num_landmarks", 5, "num_landmarks=5 must be even"),
        ("sparse", "mixer.stride", 5, "num_summaries=10 .* at most stride=5"),
        ("synthesizer", "mixer.rank", 31, "rank=31 .* at most the longest sequence, 30 tokens"),
        ("local", "mixer.layout", "round", "layout=round is not one of contiguous, strided"),
    ],
)
def test_what_does_not_fit_the_sequence_or_another_option(
    name: str, key: str, value: Any, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        build(changed(node_of(name), key, value), "model", spec=make_spec())


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        # A block that holds the whole sequence, and is padded up to its size: dense attention.
        ("local", "mixer.block_size", 64),
        ("sinkhorn", "mixer.block_size", 64),
        ("ernie_sparse", "block_size", 64),
        ("h_transformer_1d", "mixer.block_size", 64),
        ("reformer", "mixer.chunk_size", 64),
        ("bigbird", "mixer.block_size", 64),
        ("sparse", "mixer.stride", 64),
        # A window over both ends.
        ("longformer", "mixer.window", 512),
        ("nystromformer", "mixer.kernel_size", 129),
        # A landmark a token.
        ("nystromformer", "mixer.num_landmarks", 64),
        ("skyformer", "mixer.num_landmarks", 128),
        ("luna", "num_memory", 64),
        ("performer", "mixer.num_features", 1),
        ("mamba", "mixer.kernel_size", 64),
    ],
)
def test_more_than_the_sequence_has_is_no_mistake(name: str, key: str, value: Any) -> None:
    """A model meets tasks of all lengths; what is longer than one of them is all of it."""
    torch.manual_seed(0)
    encoder = build(changed(node_of(name), key, value), "model", spec=make_spec())
    states = encoder(torch.arange(2 * MAX_LENGTH).reshape(2, MAX_LENGTH) % 11)
    assert states.isfinite().all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 1, "qkv_width": 1, "num_heads": 1, "ffn_width": 1},
        {"width": 7, "qkv_width": 5, "num_heads": 5, "positions": "sinusoidal"},
        {"max_length": 257, "num_layers": 1},
    ],
    ids=str,
)
def test_no_size_of_the_trunk_is_too_odd(name: str, sizes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    encoder = build(node_of(name), "model", spec=make_spec(**sizes))
    length = 257 if "max_length" in sizes else 21
    mask = torch.arange(length) < torch.tensor([[length], [length // 2]])
    states = encoder(torch.arange(2 * length).reshape(2, length) % 11, mask)
    assert states[mask].isfinite().all()
    (states * mask[..., None]).sum().backward()
    grads = [each.grad for each in encoder.parameters() if each.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)


def test_heads_must_divide_their_width() -> None:
    says = r"num_heads=3 does not divide .* qkv_width=8; .*: 1, 2, 4, 8$"
    with pytest.raises(ValidationError) as raised:
        make_spec(num_heads=3)
    assert re.search(says, explain(raised.value)[0])


def test_it_is_refused_before_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no data to read; that is not what is said."""
    folders = [f"{kind}_dir={tmp_path / kind}" for kind in ("data", "cache", "results")]
    words = ["run", "task=text", "setting=smoke", "model=linformer", *folders]
    for change, says in (
        ("model.mixer.rank=500", "rank=500 must be at least 1 and at most the longest sequence"),
        ("trunk.num_heads=3", "num_heads=3 does not divide the attention width qkv_width=16"),
    ):
        assert main([*words, change]) == 2
        said = capsys.readouterr().err
        assert re.search(says, said)
        assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["s4d", "s5", "mamba"])
@pytest.mark.parametrize(("pooling", "token"), [("cls", "class token"), ("first", "first token")])
def test_no_answer_is_read_where_a_causal_model_has_seen_nothing(
    name: str, pooling: str, token: str
) -> None:
    words = [f"model={name}", "task=listops", "setting=smoke", f"head.pooling={pooling}"]
    for change, refused in (("true", False), ("false", True)):
        asked = compose([*words, f"model.mixer.bidirectional={change}"])
        spec = build_task(asked).spec
        if refused:
            with pytest.raises(UserError, match=f"bidirectional=false lets the {token}.*mean"):
                assemble(asked.config, spec)
        else:
            assemble(asked.config, spec)
