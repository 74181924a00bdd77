"""Every model keeps the contract, and equals its slow, obvious version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import naive_models
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lra_bench.classifier import SequenceClassifier
from lra_bench.config import compose, options
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.ernie_sparse import ErnieSparseEncoder
from lra_bench.models.layers import Dropout, sinusoids
from lra_bench.models.local import LocalAttention
from lra_bench.models.transformer import DenseAttention
from lra_bench.models.trunk import TransformerEncoder
from lra_bench.paths import conf_dir
from lra_bench.runner import _assemble, build
from lra_bench.tracking import Tracker
from lra_bench.types import Batch, TaskSpec

MODELS = options("model", conf_dir=conf_dir())
SETTINGS = [name for name in options("setting", conf_dir=conf_dir())]
TASKS = options("task", conf_dir=conf_dir())
# No multiples of any block size, with padding inside a block and whole blocks of it.
LENGTHS = (13, 1, 6)
MAX_LENGTH = 30


def make_spec(**changes: Any) -> EncoderSpec:
    sizes: dict[str, Any] = {
        "vocab_size": 11,
        "max_length": MAX_LENGTH,
        "num_layers": 2,
        "width": 12,
        "num_heads": 2,
        "qkv_width": 8,
        "ffn_width": 10,
    }
    return EncoderSpec(**(sizes | changes))


def make_encoder(name: str, **changes: Any) -> SequenceEncoder:
    torch.manual_seed(0)
    composed = compose([f"model={name}", "task=listops", "setting=smoke"], conf_dir=conf_dir())
    encoder = build(composed.config["model"], "model", spec=make_spec(**changes))
    assert isinstance(encoder, SequenceEncoder)
    return encoder


def padded(padding: int = 9) -> tuple[Tensor, Tensor]:
    """Return sequences of different lengths, padded further than the longest."""
    longest = max(LENGTHS) + padding
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 11, (len(LENGTHS), longest), generator=generator)
    mask = torch.arange(longest) < torch.tensor(LENGTHS)[:, None]
    return tokens, mask


def test_every_model_is_covered() -> None:
    assert {"transformer", "local", "ernie_sparse"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
class TestContract:
    """What every file in conf/model promises."""

    def test_padding_changes_no_state(self, name: str) -> None:
        encoder = make_encoder(name).eval()
        tokens, mask = padded()
        other = torch.where(mask, tokens, (tokens + 3) % 11)
        states, changed = encoder(tokens, mask), encoder(other, mask)
        for row, length in enumerate(LENGTHS):
            alone = encoder(tokens[row : row + 1, :length])[0]
            torch.testing.assert_close(states[row, :length], alone, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(changed[row, :length], alone, atol=1e-5, rtol=1e-5)

    def test_no_mask_is_the_full_mask(self, name: str) -> None:
        encoder = make_encoder(name).eval()
        tokens = torch.arange(26).reshape(2, 13) % 11
        masked = encoder(tokens, torch.ones(2, 13, dtype=torch.bool))
        torch.testing.assert_close(encoder(tokens), masked, atol=1e-5, rtol=1e-5)

    def test_a_batch_is_its_examples(self, name: str) -> None:
        encoder = make_encoder(name).eval()
        tokens, mask = padded()
        order = [2, 0, 1]
        states = encoder(tokens, mask)[order]
        shuffled = encoder(tokens[order], mask[order])
        for row, at in enumerate(order):
            torch.testing.assert_close(
                states[row, : LENGTHS[at]], shuffled[row, : LENGTHS[at]], atol=1e-5, rtol=1e-5
            )

    def test_every_parameter_learns(self, name: str) -> None:
        encoder = make_encoder(name)
        tokens, mask = padded()
        states = encoder(tokens, mask) * mask[..., None]
        (states * torch.randn_like(states)).sum().backward()
        for key, parameter in encoder.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key

    def test_padding_has_no_gradient(self, name: str) -> None:
        encoder = make_encoder(name)
        tokens, mask = padded()
        # One row of the embedding serves padding alone.
        tokens = torch.where(mask, tokens % 10, 10)
        (encoder(tokens, mask) * mask[..., None]).square().sum().backward()
        table = encoder.embedding.tokens.weight  # type: ignore[union-attr]
        assert isinstance(table, nn.Parameter)
        assert table.grad is not None
        assert table.grad[10].abs().max() < 1e-6

    def test_too_long_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"max_length={MAX_LENGTH}"):
            make_encoder(name)(torch.ones(1, MAX_LENGTH + 1, dtype=torch.int64))

    @pytest.mark.parametrize("topology", [None, "other"])
    def test_every_topology_runs_padded(self, name: str, topology: str | None) -> None:
        encoder = make_encoder(name).eval()
        tokens, mask = padded()
        for other in encoder.topologies if topology else ():
            states = encoder(tokens, mask, topology=other)  # type: ignore[call-arg]
            alone = encoder(tokens[:1, : LENGTHS[0]], topology=other)  # type: ignore[call-arg]
            torch.testing.assert_close(states[0, : LENGTHS[0]], alone[0], atol=1e-5, rtol=1e-5)

    def test_bfloat16_keeps_the_meaning(self, name: str) -> None:
        encoder = make_encoder(name).eval()
        tokens, mask = padded()
        exact = encoder(tokens, mask)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(tokens, mask)
        difference = (rough.float() - exact)[mask].abs()
        assert difference.mean() < 0.02
        assert difference.max() < 0.2

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_a_gpu_gives_the_same(self, name: str) -> None:
        encoder = make_encoder(name).eval()
        tokens, mask = padded()
        expected = encoder(tokens, mask)[mask]
        found = encoder.cuda()(tokens.cuda(), mask.cuda())[mask.cuda()].cpu()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    @pytest.mark.slow
    def test_compiled_is_the_same(self, name: str) -> None:
        encoder = make_encoder(name)
        tokens, mask = padded()

        def states_and_gradients(length: int) -> list[Tensor]:
            encoder.zero_grad()
            states = encoder(tokens[:, :length], mask[:, :length])[mask[:, :length]]
            states.square().sum().backward()
            grads = [parameter.grad for parameter in encoder.parameters()]
            return [states, *(grad.clone() for grad in grads if grad is not None)]

        expected = [states_and_gradients(length) for length in (22, 17)]
        encoder.compile(dynamic=True)
        for wanted, length in zip(expected, (22, 17), strict=True):
            found = states_and_gradients(length)
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
def test_every_combination_can_be_built(name: str, task: str, setting: str) -> None:
    composed = compose([f"model={name}", f"task={task}", f"setting={setting}"], conf_dir=conf_dir())
    parts = _assemble(composed, Tracker())
    assert parts.task.spec.name == task


@pytest.mark.parametrize("task", ["listops", "text"])
@pytest.mark.parametrize("name", MODELS)
def test_parameters_stay_within_the_rules(name: str, task: str) -> None:
    """The benchmark allows ten per cent more than the Transformer; its counts are published."""
    published = {"listops": 8_948_746, "text": 3_486_722}[task]
    composed = compose([f"model={name}", f"task={task}", "setting=lra2020"], conf_dir=conf_dir())
    classifier = _assemble(composed, Tracker()).classifier
    count = sum(parameter.numel() for parameter in classifier.parameters())
    if name in ("transformer", "local"):
        assert count == published
    assert count <= 1.1 * published


Reference = Callable[[Any, Tensor], Tensor]


def check_against(encoder: Any, reference: Reference, topology: str | None = None) -> None:
    """Compare states and all gradients with a reference, sequence by sequence, in float64."""
    encoder = encoder.double().eval()
    tokens, mask = padded()
    options = {} if topology is None else {"topology": topology}
    states = encoder(tokens, mask, **options)
    weights = torch.randn(states.shape, dtype=torch.float64)
    (states * weights)[mask].sum().backward()
    found = {key: parameter.grad for key, parameter in encoder.named_parameters()}
    encoder.zero_grad()
    for row, length in enumerate(LENGTHS):
        expected = reference(encoder, tokens[row, :length])
        torch.testing.assert_close(states[row, :length], expected, atol=1e-9, rtol=1e-9)
        (expected * weights[row, :length]).sum().backward()
    for key, parameter in encoder.named_parameters():
        grad = found[key]
        if parameter.grad is None:
            assert grad is None or not grad.any(), key
            continue
        assert grad is not None, key
        torch.testing.assert_close(grad, parameter.grad, atol=1e-8, rtol=1e-8, msg=key)


def test_dense_is_the_naive_one() -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(make_spec(), mixer=DenseAttention)
    check_against(encoder, lambda e, tokens: naive_models.trunk(e, tokens, lambda *_: True))


@pytest.mark.parametrize("block_size", [1, 4, 7, 40])
def test_contiguous_local_is_the_naive_one(block_size: int) -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        make_spec(), mixer=lambda spec: LocalAttention(spec, block_size=block_size)
    )

    def same_block(at: int, other: int) -> bool:
        return at // block_size == other // block_size

    check_against(encoder, lambda e, tokens: naive_models.trunk(e, tokens, same_block))


@pytest.mark.parametrize(("length", "changed"), [(24, [5, 12, 19]), (23, [5, 11, 17])])
def test_strided_local_has_the_released_groups(length: int, changed: list[int]) -> None:
    torch.manual_seed(0)
    mixer = LocalAttention(make_spec(), block_size=4, layout="strided")
    x = torch.randn(1, length, 12)
    other = x.clone()
    other[0, 5] += 1.0
    difference = (mixer(x) - mixer(other)).abs().sum(-1)[0]
    assert torch.nonzero(difference > 1e-6).flatten().tolist() == changed


@pytest.mark.parametrize("topology", [None, *ErnieSparseEncoder.topologies])
@pytest.mark.parametrize(
    "switches",
    [
        {"block_size": 4},
        {"block_size": 5, "num_representatives": 2, "share_projections": False},
        {"block_size": 3, "window_radius": 2},
        {"block_size": 4, "window_radius": 0},
        {"block_size": 64},
        {"block_size": 4, "context": "global_tokens", "num_representatives": 3},
        {"block_size": 4, "context": "none"},
    ],
    ids=lambda switches: "-".join(map(str, switches.values())),
)
def test_ernie_sparse_is_the_naive_one(switches: dict[str, Any], topology: str | None) -> None:
    torch.manual_seed(0)
    encoder = ErnieSparseEncoder(make_spec(), **switches)
    check_against(
        encoder, lambda e, tokens: naive_models.ernie_sparse(e, tokens, topology), topology
    )


def test_ernie_sparse_in_float32() -> None:
    torch.manual_seed(0)
    encoder = ErnieSparseEncoder(make_spec(), block_size=4).eval()
    tokens, mask = padded()
    states = encoder(tokens, mask)
    for row, length in enumerate(LENGTHS):
        expected = naive_models.ernie_sparse(encoder, tokens[row, :length])
        torch.testing.assert_close(states[row, :length], expected, atol=1e-5, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, Tensor):
                # What it occupies: an expanded dimension costs nothing.
                self.largest = max(self.largest, item.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("name", ["local", "ernie_sparse"])
def test_sparse_models_make_no_square_tensor(name: str) -> None:
    length = 4096
    encoder = make_encoder(name, max_length=length)
    mask = torch.arange(length)[None] < length - 100
    with LargestTensor() as seen:
        encoder(torch.ones(1, length, dtype=torch.int64), mask).sum().backward()
    assert seen.largest < length * length


def test_wrong_options_are_refused() -> None:
    wrongs: list[dict[str, Any]]
    wrongs = [{"block_size": 0}, {"num_representatives": 0}, {"window_radius": -1}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ErnieSparseEncoder(make_spec(), **wrong)
    with pytest.raises(ValueError, match="topology"):
        make_encoder("ernie_sparse")(torch.ones(1, 4, dtype=torch.int64), topology="sideways")  # type: ignore[call-arg]
    wrongs = [{"qkv_width": 9}, {"width": 0}, {"dropout": 1.0}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"\d"):
            make_spec(**wrong)


def test_sinusoids() -> None:
    table = sinusoids(50, 8)
    assert table.shape == (50, 8)
    angle = 7 * 10_000 ** (-4 / 8)
    expected = torch.tensor([angle]).sin().item(), torch.tensor([angle]).cos().item()
    assert table[7, 4].item() == pytest.approx(expected[0], abs=1e-5)
    assert table[7, 5].item() == pytest.approx(expected[1], abs=1e-5)


class TestDropout:
    def test_share_and_scale(self) -> None:
        torch.manual_seed(0)
        x = torch.ones(100_003, requires_grad=True)
        dropped = Dropout(0.1)(x)
        share = (dropped == 0).float().mean().item()
        # Four standard errors.
        assert abs(share - 0.1) < 4 * (0.09 / len(x)) ** 0.5
        assert dropped.max().item() == pytest.approx(1 / 0.9, rel=1e-4)
        dropped.sum().backward()
        assert x.grad is not None
        assert torch.equal(x.grad, dropped.detach())

    def test_elements_are_independent(self) -> None:
        torch.manual_seed(0)
        kept = (Dropout(0.5)(torch.ones(1 << 18)) != 0).float()
        # Four neighbors come from one 64-bit number.
        for shift in (1, 2, 3, 4):
            agree = (kept[shift:] == kept[:-shift]).float().mean().item()
            assert abs(agree - 0.5) < 4 * 0.5 / len(kept) ** 0.5

    def test_the_seed_decides(self) -> None:
        torch.manual_seed(3)
        first = Dropout(0.5)(torch.ones(1000))
        torch.manual_seed(3)
        assert torch.equal(first, Dropout(0.5)(torch.ones(1000)))
        assert not torch.equal(first, Dropout(0.5)(torch.ones(1000)))

    def test_off_in_evaluation(self) -> None:
        x = torch.randn(10)
        assert torch.equal(Dropout(0.5).eval()(x), x)


def classifier_of(pooling: Any, num_inputs: int, interaction: Any = "concatenate") -> Any:
    torch.manual_seed(0)
    has_cls = pooling == "cls"
    spec = make_spec(vocab_size=11 + has_cls, max_length=MAX_LENGTH + has_cls, has_cls=has_cls)
    task = TaskSpec("made up", 11, MAX_LENGTH, num_classes=3, num_inputs=num_inputs)
    return SequenceClassifier(
        TransformerEncoder(spec, mixer=DenseAttention),
        task,
        width=12,
        hidden_width=8,
        pooling=pooling,
        interaction=interaction,
    ).eval()


@pytest.mark.parametrize("pooling", ["mean", "first", "max", "cls"])
@pytest.mark.parametrize("num_inputs", [1, 2])
def test_pooling_sees_no_padding(pooling: str, num_inputs: int) -> None:
    classifier = classifier_of(pooling, num_inputs)
    tokens, mask = padded()
    tokens, mask = (x[:, None].repeat(1, num_inputs, 1) for x in (tokens, mask))
    labels = torch.zeros(3, dtype=torch.int64)
    logits = classifier(Batch(tokens, mask, labels, 0))
    assert logits.shape == (3, 3)
    for row, length in enumerate(LENGTHS):
        alone = Batch(tokens[row : row + 1, :, :length], None, labels[:1], 0)
        torch.testing.assert_close(logits[row], classifier(alone)[0], atol=1e-5, rtol=1e-5)


def test_two_inputs_and_their_order() -> None:
    classifier = classifier_of("mean", 2, "nli")
    tokens = torch.randint(1, 11, (4, 2, 9))
    labels = torch.zeros(4, dtype=torch.int64)
    logits = classifier(Batch(tokens, None, labels, 0))
    swapped = classifier(Batch(tokens.flip(1), None, labels, 0))
    assert not torch.allclose(logits, swapped)
    states = [classifier.encoder(tokens[:, at]).mean(1) for at in (0, 1)]
    features = torch.cat((*states, states[0] * states[1], states[0] - states[1]), dim=1)
    torch.testing.assert_close(logits, classifier.head(features))


def test_the_class_token_starts_at_zero() -> None:
    classifier = classifier_of("cls", 1)
    assert not classifier.encoder.embedding.tokens.weight[11].any()
