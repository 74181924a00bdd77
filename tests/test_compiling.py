"""Compiling: few lengths, few graphs, the same numbers, and no silent giving up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from models.made_up import batch_of, head_of, make_spec, model_of, spec_of
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from lra_bench.compiling import MAX_LENGTHS, compile_encoder, padded_lengths
from lra_bench.errors import UserError
from lra_bench.heads import TaskModel, make_model
from lra_bench.models.ernie_sparse import ErnieSparseEncoder
from lra_bench.models.local import LocalAttention
from lra_bench.models.trunk import TransformerEncoder
from lra_bench.types import Batch

# Compiling begins with the first call, on whatever device the model is then.
GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Leave PyTorch as it was found."""
    limit = torch._dynamo.config.recompile_limit
    yield
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.config.fail_on_recompile_limit_hit = False


@pytest.mark.parametrize("max_length", [1, 50, 64, 65, 100, 1_024, 2_000, 4_096, 65_536])
def test_lengths_rise_to_the_longest(max_length: int) -> None:
    lengths = padded_lengths(max_length)
    assert list(lengths) == sorted(set(lengths))
    assert lengths[-1] == max_length
    assert len(lengths) <= MAX_LENGTHS
    assert all(length % 64 == 0 for length in lengths[:-1])
    steps = zip((0, *lengths), lengths, strict=False)
    assert max(high - low for low, high in steps) <= max_length / MAX_LENGTHS + 64


def test_padded_lengths_are_few_tokens_more() -> None:
    assert padded_lengths(4_096) == (704, 1_408, 2_048, 2_752, 3_456, 4_096)


def test_a_cpu_is_refused() -> None:
    model = model_of(spec_of("class"), head_of())
    with pytest.raises(UserError, match=r"train\.compile=true gains nothing on a CPU"):
        compile_encoder(model, device=torch.device("cpu"), max_length=30, say=print)


def batch_at(length: int, size: int) -> Batch:
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(1, 11, (size, 1, length), generator=generator)
    mask = torch.arange(length).expand(size, 1, -1) < length - 2
    return Batch(tokens, mask, torch.zeros(size, dtype=torch.int64), size * length)


def made(kind: str) -> TaskModel:
    torch.manual_seed(0)
    spec = make_spec()
    encoder: Any
    if kind == "ernie_sparse":
        encoder = ErnieSparseEncoder(spec, block_size=4)
    elif kind == "local":
        encoder = TransformerEncoder(spec, mixer=lambda spec: LocalAttention(spec, block_size=4))
    else:
        norms = {"norm": "batch"} if kind == "batch_norm" else {}
        return model_of(spec_of("class"), head_of(), **norms)
    return make_model(encoder, spec_of("class"), head_of()).eval()


def logits_and_gradients(model: TaskModel, batch: Batch) -> list[Tensor]:
    model.zero_grad()
    logits = model(batch)
    logits.square().sum().backward()
    grads = [parameter.grad for parameter in model.parameters()]
    return [logits.detach(), *(grad.clone() for grad in grads if grad is not None)]


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("transformer", "eager"),
        pytest.param("transformer", "aot_eager", marks=pytest.mark.slow),
        pytest.param("local", "aot_eager", marks=pytest.mark.slow),
        pytest.param("ernie_sparse", "aot_eager", marks=pytest.mark.slow),
    ],
)
def test_a_length_is_compiled_once(kind: str, backend: str) -> None:
    """Also if the last batch of an epoch is smaller."""
    model, plain = made(kind), made(kind)
    names = list(model.state_dict())
    said: list[str] = []
    counter = CompileCounterWithBackend(backend)
    compile_encoder(model, device=GPU, max_length=30, say=said.append, backend=counter)
    assert list(model.state_dict()) == names
    for length, size in ((16, 4), (30, 4), (16, 3), (30, 1), (16, 2), (16, 4)):
        batch = batch_at(length, size)
        expected = logits_and_gradients(plain, batch)
        for found, wanted in zip(logits_and_gradients(model, batch), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert counter.frame_count == 2
    assert not said


@pytest.mark.slow
def test_a_second_pattern_is_compiled_too() -> None:
    model, plain = made("ernie_sparse"), made("ernie_sparse")
    said: list[str] = []
    counter = CompileCounterWithBackend("eager")
    compile_encoder(model, device=GPU, max_length=30, say=said.append, backend=counter)
    for topology in (None, "shifted", None, "shifted"):
        torch.testing.assert_close(
            model(batch_of("class"), topology=topology), plain(batch_of("class"), topology=topology)
        )
    assert counter.frame_count == 2
    assert not said


def test_giving_up_is_said_once_and_changes_no_number() -> None:
    model, plain = made("transformer"), made("transformer")
    said: list[str] = []
    compile_encoder(
        model, device=GPU, max_length=30, say=said.append, backend="eager", max_graphs=2
    )
    for length in (10, 12, 14, 16):
        batch = batch_at(length, 3)
        torch.testing.assert_close(model(batch), plain(batch))
    (message,) = said
    assert "gave up compiling" in message
    assert "lengths 10, 12, 14)" in message


def test_evaluation_has_a_batch_size_of_its_own() -> None:
    model = made("transformer")
    counter = CompileCounterWithBackend("eager")
    compile_encoder(model, device=GPU, max_length=30, say=print, backend=counter)
    for training, size in ((True, 2), (False, 5), (True, 2), (False, 5), (True, 1), (False, 3)):
        model.train(training)
        with torch.set_grad_enabled(training):
            assert model(batch_at(10, size)).shape == (size, 3)
    assert counter.frame_count == 2


def test_a_run_does_not_count_the_shapes_of_the_last() -> None:
    said: list[str] = []
    for _ in range(2):
        model = made("transformer")
        compile_encoder(
            model, device=GPU, max_length=30, say=said.append, backend="eager", max_graphs=2
        )
        for length in (10, 12):
            model(batch_at(length, 3))
    assert not said


def test_no_example_counts_twice_where_a_norm_sees_the_batch() -> None:
    model, plain = made("batch_norm"), made("batch_norm")
    compile_encoder(model, device=GPU, max_length=30, say=print, backend="eager")
    for size in (4, 3):
        logits = [one.train()(batch_at(10, size)) for one in (model, plain)]
        torch.testing.assert_close(*logits)
    for seen, wanted in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(seen, wanted)
