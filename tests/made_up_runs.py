"""A small run at the level of the trainer, by one process or by several."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from made_up_tasks import Brackets, EvenTokens, FirstToken, MadeUp
from torch import Tensor

from lra_bench import randomness, trainer
from lra_bench.checkpoint import Checkpoint, State
from lra_bench.data import Loader
from lra_bench.distributed import World
from lra_bench.heads import TaskModel, make_model
from lra_bench.interrupt import Interrupt
from lra_bench.models.encoder import EncoderSpec, SequenceEncoder
from lra_bench.models.ernie_sparse import ErnieSparseEncoder
from lra_bench.models.local import LocalAttention
from lra_bench.models.trunk import TransformerEncoder
from lra_bench.objective import CrossEntropy, Objective
from lra_bench.optim import Optimization
from lra_bench.schema import HeadConfig, Norm, TrainConfig
from lra_bench.tracking import Tracker
from lra_bench.types import Split

CPU = torch.device("cpu")
HEAD = HeadConfig(
    pooling="mean",
    hidden_width=8,
    num_hidden_layers=None,
    activation="relu",
    interaction="concatenate",
)
TASKS: dict[str, type[MadeUp]] = {"class": FirstToken, "tokens": EvenTokens, "span": Brackets}


def config(**changes: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "num_steps": 7, "batch_size": 8, "eval_batch_size": 4, "eval_every": 3,
        "bucketing": True, "learning_rate": 0.003, "schedule": "cosine", "num_warmup_steps": 2,
        "weight_decay": 0.1, "decay": "all", "diagonal_learning_rate": None,
        "input_learning_rate": None, "step_learning_rate": None, "kernel_decay": "all",
        "beta1": 0.9, "beta2": 0.98, "eps": 1e-3,
        "max_grad_norm": 0.5, "precision": "float32", "compile": False,
    }  # fmt: skip
    return TrainConfig(**{**options, **changes})


def model_for(task: MadeUp, *, norm: Norm = "layer", dropout: float = 0.0) -> TaskModel:
    randomness.seed_all(5)
    spec = EncoderSpec(
        vocab_size=9,
        max_length=20,
        num_layers=2,
        width=8,
        num_heads=2,
        qkv_width=8,
        ffn_width=8,
        dropout=dropout,
        norm=norm,
    )
    encoder: SequenceEncoder
    if norm == "layer":
        encoder = ErnieSparseEncoder(spec, block_size=4)
    else:
        encoder = TransformerEncoder(spec, mixer=partial(LocalAttention, block_size=4))
    return make_model(encoder, task.spec, HEAD)


def loader(task: MadeUp, world: World, split: Split, batch_size: int, ahead: int = 0) -> Loader:
    return Loader(
        task.examples(split),
        task.spec,
        batch_size=batch_size,
        bucketing=True,
        device=CPU,
        ahead=ahead,
        rank=world.rank,
        size=world.size,
    )


def train(
    world: World,
    folder: Path,
    target: str = "class",
    objective: Objective | None = None,
    options: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    ahead: int = 0,
    every_seconds: float = 1e9,
) -> tuple[dict[str, Tensor], State]:
    """Train on 30 examples, four batches of which the last is short; return weights and state."""
    task = TASKS[target](num_examples=30)
    model = model_for(task, **(options or {}))
    training = config(**(settings or {}))
    optimization = Optimization(model, training, world=world)
    checkpoint = Checkpoint(
        folder / "run.pt",
        model,
        optimization.optimizer,
        run_id="this",
        every_seconds=every_seconds,
        world=world,
        seed=3,
    )
    state = checkpoint.restore()
    trainer.train(
        model,
        state,
        objective=objective or CrossEntropy(),
        optimization=optimization,
        training=loader(task, world, "train", training.batch_size, ahead),
        validation=loader(task, world, "validation", training.eval_batch_size, ahead),
        config=training,
        seed=3,
        checkpoint=checkpoint,
        tracker=Tracker(),
        interrupt=Interrupt(),
        world=world,
    )
    return {**model.state_dict()}, state


def without_times(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in row if key != "train_seconds"} for row in curve]
