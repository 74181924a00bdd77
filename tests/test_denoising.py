"""Denoising: what is hidden is a function of seed, step and document, and the model finds it."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Compose
from models.made_up import TRUNK, head_of, model_of

from lra_bench.data import Loader, collate
from lra_bench.denoising import Denoising, DenoisingTask, Rule
from lra_bench.errors import UserError
from lra_bench.heads import TaskModel
from lra_bench.interrupt import Interrupted
from lra_bench.models.encoder import EncoderSpec
from lra_bench.models.layers import Embedding
from lra_bench.objective import CrossEntropy, Loss
from lra_bench.runner import run
from lra_bench.types import IGNORED, Batch, DataInfo, Example, Quantities, Split, Task, TaskSpec

V = 9


class Rows(Task):
    """Random rows; the validation and test splits of a task that is no corpus are not to be read.

    Args:
        spec: What is promised.
        number: Examples of the training split.
    """

    def __init__(self, number: int = 200, **spec: Any) -> None:
        made: dict[str, Any] = {"num_classes": 2, **spec}
        self.spec = TaskSpec("rows", V, 40, **made)
        self.number = number

    def examples(self, split: Split) -> Sequence[Example]:
        if split != "train" and not self.spec.is_corpus:
            raise AssertionError(f"{split} was read")
        rng = np.random.default_rng((5, len(split)))
        inputs = range(self.spec.num_inputs)
        return [
            Example(tuple(rng.integers(1, V, rng.integers(1, 41)) for _ in inputs), 0)
            for _ in range(self.number)
        ]

    def fingerprint(self) -> str:
        return "0" * 64

    def info(self) -> DataInfo:
        return DataInfo(source="rows", num_examples={"train": self.number})


def asked(task: Task, **options: Any) -> DenoisingTask:
    made = Denoising(**options).ask(task)
    assert isinstance(made, DenoisingTask)
    return made


def hidden(example: Example) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.asarray(example.target) != IGNORED
    return found


def test_what_is_hidden_is_asked_and_nothing_else() -> None:
    task = asked(Rows(), share=0.4)
    documents = {tuple(example.inputs[0].tolist()) for example in Rows().examples("train")}
    for example in (task.examples("train")[index] for index in range(50)):
        (tokens,), target = example.inputs, np.asarray(example.target)
        assert ((tokens == V) == (target != IGNORED)).all()
        assert hidden(example).any()
        restored = np.where(target != IGNORED, target, tokens)
        assert tuple(restored.tolist()) in documents


def test_training_draws_anew_and_evaluation_does_not() -> None:
    examples = asked(Rows(), share=0.5).examples("train")
    longest = int(examples.lengths().argmax())

    def drawn(seed: int, step: int) -> list[int]:
        return list(examples.draw(longest, seed=seed, step=step).inputs[0])

    assert drawn(1, 7) == drawn(1, 7)
    assert len({tuple(drawn(seed, step)) for seed in range(5) for step in range(5)}) == 25
    first, again = examples[longest], asked(Rows(), share=0.5).examples("train")[longest]
    assert first.inputs[0].tolist() == again.inputs[0].tolist()
    assert len(first.inputs[0]) == len(drawn(0, 0)) == examples.lengths()[longest]


def test_the_loader_draws_by_seed_and_step_wherever_it_begins() -> None:
    task = asked(Rows())
    loader = Loader(
        task.examples("train"), task.spec, batch_size=16, bucketing=True,
        device=torch.device("cpu"),
    )  # fmt: skip
    whole = list(loader.training(seed=3, start=0, stop=30))
    tail = list(loader.training(seed=3, start=21, stop=30))
    for one, other in zip(whole[21:], tail, strict=True):
        assert torch.equal(one.tokens_BIL, other.tokens_BIL)
        assert torch.equal(one.targets, other.targets)
    # An epoch later the same documents have other holes.
    per_epoch = len(whole) - 30 + len(loader) // 16 + 1
    assert any(not torch.equal(whole[0].targets, later.targets) for later in whole[per_epoch:])
    evaluated = [[batch.tokens_BIL for batch in loader.evaluation()] for _ in range(2)]
    assert all(map(torch.equal, *evaluated))


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("span", [1, 4])
def test_the_share_is_met_and_neighbors_go_together(share: float, span: int) -> None:
    rng = np.random.default_rng(0)
    rule = Rule(share, "mask", span)
    rows = [hidden(rule.hide(np.ones(1_000, np.int64), rng, num_symbols=V)) for _ in range(200)]
    assert np.mean(rows) == pytest.approx(share, abs=0.02)
    # A position agrees with its right neighbor as often as the groups say.
    same = share**2 + (1 - share) ** 2
    together = np.mean([(row[1:] == row[:-1]).mean() for row in rows])
    assert together == pytest.approx((span - 1 + same) / span, abs=0.02)


def test_mixed_symbols() -> None:
    rule, tokens = Rule(0.5, "mixed", 1), np.full(20_000, 3)
    example = rule.hide(tokens, np.random.default_rng(0), num_symbols=V)
    shown = example.inputs[0][hidden(example)]
    assert (shown == V).mean() == pytest.approx(0.8, abs=0.02)
    # A tenth stays, and so does one in V of the tenth that is replaced.
    assert (shown == 3).mean() == pytest.approx(0.1 + 0.1 / V, abs=0.02)
    assert set(shown.tolist()) == set(range(V + 1))
    assert (example.inputs[0][~hidden(example)] == 3).all()


def test_the_shortest_document_is_hidden_whole() -> None:
    example = Rule(0.01, "mask", 3).hide(np.array([4]), np.random.default_rng(0), num_symbols=V)
    assert example.inputs[0].tolist() == [V]
    assert np.asarray(example.target).tolist() == [4]


def test_held_out_documents_are_of_the_training_split_and_in_one_part_only() -> None:
    task = asked(Rows(number=200), share=0.01, num_held_out=7)
    parts = {split: task.examples(split) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [186, 7, 7]
    chosen = np.concatenate([part._chosen for part in parts.values()])
    assert sorted(chosen.tolist()) == list(range(200))
    # At most a twentieth, however many were asked for.
    assert len(asked(Rows(number=200)).examples("test")) == 10
    with pytest.raises(UserError, match=r"rows has 19 training examples, too few .* needs 20"):
        asked(Rows(number=19)).examples("train")


def test_a_corpus_is_used_as_it_is_divided() -> None:
    corpus = Rows(is_corpus=True, num_classes=1)
    task = asked(corpus)
    for split in ("train", "validation", "test"):
        assert len(task.examples(split)) == 200
    with pytest.raises(UserError, match=r"rows is a corpus, .* give objective=denoising"):
        CrossEntropy().ask(corpus)


def test_two_inputs_are_two_documents() -> None:
    pairs = Rows(number=40, num_inputs=2)
    task = asked(pairs, num_held_out=2)
    train = task.examples("train")
    assert task.spec.num_inputs == 1
    assert len(train) == 2 * (40 - 4)
    row = int(train._chosen[5])
    for which in (0, 1):
        example = train[2 * 5 + which]
        target = np.asarray(example.target)
        restored = np.where(target == IGNORED, example.inputs[0], target)
        assert restored.tolist() == pairs.examples("train")[row].inputs[which].tolist()
    assert train.lengths().tolist() == [len(train[index].inputs[0]) for index in range(len(train))]


def test_what_is_known_of_the_task() -> None:
    spec = asked(Rows()).spec
    assert (spec.vocab_size, spec.num_classes, spec.has_mask) == (V + 1, V, True)
    assert spec.metrics == ("loss", "accuracy")
    assert asked(Rows(symbol_bytes=())).spec.metrics == ("bits_per_byte", "loss", "accuracy")
    assert asked(Rows(symbol_bytes=(1,) * V)).spec.symbol_bytes == (*(1,) * V, 0)
    details = asked(Rows(), share=0.3).info().details
    assert details["hidden"].startswith("30.0% of the positions, all by the mask; ")
    assert details["documents"] == "of the training split alone, some of them held out"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.span=41 is more than the longest input of"):
        Denoising(span=41).ask(Rows())
    for options, said in (
        ({"share": 0.0}, r"objective\.share=0\.0 must lie between 0 and 1"),
        ({"share": 1.0}, r"objective\.share=1\.0 must lie"),
        ({"span": 0}, r"objective\.span=0 must be at least 1"),
        ({"num_held_out": 0}, r"objective\.num_held_out=0 must be at least 1"),
    ):
        with pytest.raises(UserError, match=said):
            Denoising(**options)


# The state of what is hidden.


@pytest.mark.parametrize("has_cls", [False, True])
@pytest.mark.parametrize("kind", ["symbols", "linear"])
def test_the_mask_has_a_state_of_its_own(kind: Any, has_cls: bool) -> None:
    if kind == "linear" and has_cls:
        pytest.skip("a class token is no number")
    sizes = {name: getattr(TRUNK, name) for name in ("num_layers", "width", "num_heads")}
    spec = EncoderSpec(
        **sizes, qkv_width=8, ffn_width=8, vocab_size=V + 1 + has_cls, max_length=6,
        has_cls=has_cls, has_mask=True, input=kind, quantities=Quantities(4.0, 2.0),
    )  # fmt: skip
    torch.manual_seed(0)
    masked = Embedding(spec)
    torch.manual_seed(0)
    plain = Embedding(spec.model_copy(update={"has_mask": False, "vocab_size": V + has_cls}))
    assert masked.mask is not None
    # All but the mask is there, and drawn alike, so that the weights of one fit the other.
    state = masked.state_dict()
    assert not state.pop("mask").any()
    assert all(map(torch.equal, state.values(), plain.state_dict().values()))
    assert state.keys() == plain.state_dict().keys()
    with torch.no_grad():
        masked.mask.add_(5.0)
    tokens = torch.tensor([[1, V, 3]])
    found, others = masked(tokens), plain(torch.tensor([[1, 0, 3]]))
    positions = masked.positions
    assert positions is not None
    assert torch.equal(found[:, [0, 2]], others[:, [0, 2]])
    torch.testing.assert_close(found[0, 1], masked.mask + positions[1])
    if has_cls:
        # The class token is one id further on, and the same row.
        assert torch.equal(masked(torch.tensor([[V + 1]])), plain(torch.tensor([[V]])))


def test_a_linear_head_over_hidden_positions() -> None:
    task = asked(Rows(), share=0.3)
    model = model_of(task.spec, head_of("cls"))
    width = model.encoder.width
    assert [tuple(one.shape) for one in model.head.parameters()] == [(V, width), (V,)]
    batch = collate([task.examples("validation")[index] for index in range(4)], target="tokens")
    logits = model(batch)
    assert logits.shape == (int((batch.targets != IGNORED).sum()), V)
    # By hand, with the class token in front: its id follows that of the mask.
    tokens = torch.cat((torch.full((4, 1), V + 1), batch.tokens_BIL[:, 0]), dim=1)
    mask = None if batch.mask_BIL is None else F.pad(batch.mask_BIL[:, 0], (1, 0), value=True)
    states = model.encoder(tokens, mask)[:, 1:]
    layers: Any = model.head.layers
    torch.testing.assert_close(logits, layers(states[batch.targets != IGNORED]))


# The whole road.


def test_a_run_learns_what_is_hidden_and_is_measured_against_frequencies(
    made_up: Compose,
) -> None:
    record = run(
        made_up(
            "objective=denoising",
            "objective.share=0.2",
            "task.num_examples=200",
            "train.num_steps=30",
            "train.eval_every=10",
            task="even",
        )
    )
    assert record.status == "completed"
    assert record.ranking_metric == "loss"
    assert record.majority_baseline == pytest.approx(math.log(6), abs=0.1)
    assert record.test is not None
    assert record.test.num_examples == 10
    assert record.test.sums["targets"] < record.test.num_examples * 20 * 0.5
    assert "hidden" in record.data["details"]
    assert record.best_step in (10, 20, 30)


def test_an_interrupted_run_sees_what_it_would_have_seen(
    made_up: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        *("objective=denoising", "keep_weights=true", "task.num_examples=60"),
        *("train.num_steps=12", "train.eval_every=4", "trunk.dropout=0.1"),
    ]
    undisturbed = run(made_up(*words, f"results_dir={tmp_path / 'undisturbed'}"))
    made, step = 0, Denoising.__call__

    def counted(self: Denoising, model: TaskModel, batch: Batch) -> Loss:
        nonlocal made
        made += 1
        if made == 7:
            signal.raise_signal(signal.SIGTERM)
        return step(self, model, batch)

    monkeypatch.setattr(Denoising, "__call__", counted)
    with pytest.raises(Interrupted):
        run(made_up(*words))
    resumed = run(made_up(*words))
    assert (made, resumed.num_resumes) == (12, 1)
    assert resumed.test == undisturbed.test
    assert resumed.weights_sha256 == undisturbed.weights_sha256
    for one, other in zip(resumed.curve, undisturbed.curve, strict=True):
        assert {**one, "train_seconds": 0} == {**other, "train_seconds": 0}
