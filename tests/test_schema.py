"""Every field says what it is; what cannot be meant is refused by key and value."""

from __future__ import annotations

from typing import Any

import pytest

from lra_bench.compose import compose
from lra_bench.errors import UserError
from lra_bench.schema import HeadConfig, RunConfig, TrainConfig, TrunkConfig, check, literal


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    request = compose(["task=listops", "model=local", "setting=smoke"])
    return request.config.model_dump()


@pytest.mark.parametrize("section", [RunConfig, TrunkConfig, HeadConfig, TrainConfig])
def test_every_field_says_what_it_is(section: Any) -> None:
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no sentence"
        assert field.description.endswith("."), name
        # Values stand in conf/ alone.
        assert field.is_required(), name


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("train.num_steps", "abc", "train.num_steps=abc is not a whole number"),
        ("train.num_steps", 1.5, "train.num_steps=1.5 is not a whole number"),
        ("train.num_steps", True, "train.num_steps=true is not a whole number"),
        ("train.num_steps", 0, "train.num_steps=0 must be at least 1"),
        ("train.batch_size", None, "train.batch_size=null is not a whole number"),
        ("train.bucketing", 1, "train.bucketing=1 is not true or false"),
        ("train.learning_rate", "fast", "train.learning_rate=fast is not a number"),
        ("train.learning_rate", float("nan"), "train.learning_rate=nan is no finite number"),
        ("train.learning_rate", 0.0, "train.learning_rate=0.0 must be greater than 0"),
        ("train.beta2", 1.0, "train.beta2=1.0 must be less than 1"),
        ("train.weight_decay", -0.1, "train.weight_decay=-0.1 must be at least 0"),
        ("train.max_grad_norm", "x", "train.max_grad_norm=x is not a number"),
        ("train.max_grad_norm", 0, "train.max_grad_norm=0 must be greater than 0"),
        (
            "train.schedule",
            "cosin",
            "is not one of rsqrt, cosine, epoch_cosine, one_cycle, linear, cons",
        ),
        ("train.precision", "float16", "is not one of float32, bfloat16"),
        ("trunk.positions", "turned", "is not one of learned, sinusoidal, none, rotary"),
        ("trunk.norm", "group", "is not one of layer, batch, scale"),
        ("head.num_hidden_layers", 3, "head.num_hidden_layers=3 must be at most 2"),
        ("trunk.dropout", 1.0, "trunk.dropout=1.0 must be less than 1"),
        ("head.pooling", "last", "is not one of cls, first, mean, max"),
        ("seed", -1, "seed=-1 must be at least 0"),
        ("seed", 1 << 63, "must be less than"),
        ("num_threads", 0, "num_threads=0 must be at least 1"),
        ("num_threads", "all", "num_threads=all is not a whole number"),
        ("device", "tpu", "device=tpu is not one of auto, cpu, cuda, cuda:N"),
        ("results_dir", "", "results_dir is empty"),
        ("results_dir", None, "results_dir=null is not a text"),
        ("train", 3, "train=3 is not a section"),
        ("train.stepps", 3, "sets train.stepps, which nothing reads"),
        ("trane", 3, "sets trane, which nothing reads"),
    ],
)
def test_what_cannot_be_meant(plain: dict[str, Any], key: str, value: Any, text: str) -> None:
    *sections, last = key.split(".")
    changed = {**plain, **{name: dict(plain[name]) for name in sections}}
    (changed[sections[0]] if sections else changed)[last] = value
    with pytest.raises(UserError) as caught:
        check(changed)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once(plain: dict[str, Any]) -> None:
    train = {**plain["train"], "num_steps": 0, "eps": -1.0}
    del train["decay"]
    with pytest.raises(UserError) as caught:
        check({**plain, "train": train})
    for text in ("train.num_steps=0", "train.eps=-1.0", "train.decay has no value"):
        assert text in str(caught.value)


def test_a_configuration_cannot_be_changed_behind_its_identity(plain: dict[str, Any]) -> None:
    config = check(plain)
    with pytest.raises(ValueError, match="frozen"):
        config.train.num_steps = 3


def test_values_are_written_as_the_command_line_reads_them() -> None:
    values = (None, True, 1, 1e-05, "mean", "a b's", [1, "x"])
    assert [*map(literal, values)] == [
        "null", "true", "1", "1e-05", "mean", "'a b\\'s'", "[1,x]",
    ]  # fmt: skip
