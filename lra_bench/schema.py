"""The layout of a run's configuration: a sentence, the unit and the range of every field.

The values stand in ``conf/`` alone; here stands what they may be. Types are strict: a text is no
number, and a number no truth value. Needs neither Hydra nor torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lra_bench.errors import UserError
from lra_bench.identity import NAMES

Positions = Literal["learned", "sinusoidal", "none", "rotary"]
Input = Literal["symbols", "linear"]
Norm = Literal["layer", "batch", "scale"]
NormPlace = Literal["pre", "post"]
Pooling = Literal["cls", "first", "mean", "max"]
Interaction = Literal["concatenate", "nli"]
ScheduleName = Literal["rsqrt", "cosine", "epoch_cosine", "one_cycle", "linear", "constant"]
Decay = Literal["all", "matrices"]
KernelDecay = Literal["all", "input", "none"]
Activation = Literal["relu", "gelu"]
Extension = Literal["refuse", "tile"]
Precision = Literal["float32", "bfloat16"]

Count = Annotated[int, Field(ge=1)]
NumberOrMore = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Folder = Annotated[str, Field(min_length=1)]

# What a node of the configuration describes by its `_target_`; `lra_bench.build` makes it.
Node = dict[str, Any]


class Section(BaseModel):
    """A part of a configuration: nothing unknown, nothing missing, nothing converted."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class TrunkConfig(Section):
    """Sizes that a setting gives to every model."""

    num_layers: Count
    """Number of layers."""
    width: Count
    """Width of the states."""
    num_heads: Count
    """Number of attention heads; divides ``qkv_width``."""
    qkv_width: Count
    """Width of all heads together."""
    ffn_width: Count
    """Hidden width of the feed-forward part."""
    dropout: Probability
    """Probability on embeddings and residual branches, in [0, 1)."""
    attention_dropout: Probability
    """Probability on attention weights, in [0, 1); above 0 the CPU's fused kernels are left out."""
    positions: Positions
    """A learned table that is added, sinusoids, nothing, or queries and keys that are turned."""
    input: Input
    """A row of a table for each id, or a linear map of the one number that an id stands for."""
    norm: Norm
    """Norm over the width of a state, over all real tokens of a batch, or by a state's length."""
    norm_place: NormPlace
    """Before each part of a layer, and once at the end; or after each part and its residual."""
    tied_dropout: bool
    """Drop a feature at all positions of a sequence or at none."""


class HeadConfig(Section):
    """From states to answers."""

    pooling: Pooling
    """The state of a class token put in front, of the first token, or mean or maximum of all."""
    hidden_width: Count
    """Width of the head's hidden layer."""
    num_hidden_layers: Annotated[int, Field(ge=0, le=2)] | None
    """Hidden layers, each half as wide as the one before; null for as many as inputs, 1 or 2."""
    activation: Activation
    """What stands between the layers of the head."""
    interaction: Interaction
    """What the head sees of two inputs: both states, or also their product and difference."""


class TrainConfig(Section):
    """How long and how; a step is an update, a batch size is a number of examples."""

    num_steps: Count
    """Updates."""
    batch_size: Count
    """Examples of an update."""
    eval_batch_size: Count
    """Examples evaluated at once; changes no number."""
    eval_every: Count
    """Updates between two evaluations on validation; the last update is always followed by one."""
    bucketing: bool
    """Put examples of similar length into one batch, to save padding."""
    learning_rate: Positive
    """The base of the schedule."""
    schedule: ScheduleName
    """The learning rate as a function of the step; see `lra_bench.optim.make_schedule`."""
    num_warmup_steps: NumberOrMore
    """Length of the warm-up [updates]."""
    weight_decay: NotNegative
    """Decoupled weight decay, times the learning rate."""
    decay: Decay
    """What decays: all parameters, or matrices but no biases, norms and vectors."""
    diagonal_learning_rate: Positive | None
    """The base for the diagonals of state spaces (A), scheduled alike; null for the common one."""
    input_learning_rate: Positive | None
    """The base for what enters the states (B); null for the common one."""
    step_learning_rate: Positive | None
    """The base for the steps of state spaces (dt); null for the common one."""
    kernel_decay: KernelDecay
    """Which of these three decay if `decay` lets them: all, what enters the states, or none."""
    beta1: Probability
    """Decay of the mean of the gradients, in [0, 1)."""
    beta2: Probability
    """Decay of the mean of their squares, in [0, 1)."""
    eps: Positive
    """Added to the denominator of an update."""
    max_grad_norm: Positive | None
    """Largest global norm of a gradient; null for no clipping."""
    precision: Precision
    """Type of the matrix products; bfloat16 for GPUs, and for wide models on a CPU that has it."""
    compile: bool
    """Compile the encoder; see `lra_bench.compiling`."""


class RunConfig(Section):
    """A run. What stands above ``tracker`` can change the number."""

    task: Node
    """What ``conf/task`` says."""
    model: Node
    """What ``conf/model`` says."""
    objective: Node
    """What ``conf/objective`` says."""
    trunk: TrunkConfig
    """Sizes of the encoder."""
    head: HeadConfig
    """Pooling and head."""
    train: TrainConfig
    """Training."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """Seed of initialization, order and dropout, from 0 to 2**63 - 1."""
    tracker: Node
    """What ``conf/tracker`` says."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")]
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None
    """Threads of the CPU, 1024 at most; null for one a core that the machine or Slurm gives."""
    num_processes: Annotated[int, Field(ge=1, le=4096)]
    """Processes that share each batch, on this machine; leave it out under torchrun or srun."""
    data_dir: Folder | None
    """Where raw files lie or are downloaded to; null for the default."""
    cache_dir: Folder | None
    """Where prepared data lie; null for the default."""
    results_dir: Folder
    """Where records go."""
    checkpoint_seconds: NotNegative
    """Time between two checkpoints, at least [seconds]."""
    checkpoint_share: Annotated[float, Field(gt=0, le=1)]
    """Largest share of the time of a run that checkpoints may take, from above 0 to 1."""
    init_from: Annotated[str, Field(min_length=1)] | None
    """Run whose encoder this one begins from: its record, its id, a folder with its weights, or
    the words in which it was another run, as in ``objective=denoising``; null for fresh weights."""
    init_positions: Extension
    """Where that one has another number of positions: ``refuse``; ``tile`` repeats or cuts them."""
    keep_weights: bool
    """Keep the encoder that validation chose, for runs that begin from it; see ``init_from``."""
    force: bool
    """Run again although there is a record."""
    wait: bool
    """Wait for the same run where another process is at it; false to say so at once and stop."""
    quiet: bool
    """Print the result only."""


# Of many mistakes, how many are said.
_MOST_SAID = 4

# The groups whose files give a run its names; tracker is one too, but changes no number.
NAMED_GROUPS = NAMES
GROUPS = (*NAMED_GROUPS, "tracker")
# The options that hold a folder.
PATHS = ("data_dir", "cache_dir", "results_dir")
# The options that are taken as they are written, whatever Hydra's grammar would read in them.
VERBATIM = (*PATHS, "init_from")
# What of a configuration can change the number; the seed is kept apart.
SECTIONS = ("task", "model", "objective", "trunk", "head", "train")
# The sections that a setting fills.
OF_THE_SETTING = ("trunk", "head", "train")


def check(content: Mapping[str, Any]) -> RunConfig:
    """Return the typed configuration of plain data.

    Raises:
        UserError: A value is missing, unknown, of the wrong type or out of range; the text names
            each key with its value.
    """
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        lines = explain(error)
        more = f"; and {len(lines) - _MOST_SAID} more" if len(lines) > _MOST_SAID else ""
        raise UserError("; ".join(lines[:_MOST_SAID]) + more) from error


def explain(error: ValidationError, prefix: str = "") -> list[str]:
    """Return a line a mistake, with the key, the value and what may stand there.

    Args:
        error: What pydantic found.
        prefix: The key of the whole.
    """
    by_key: dict[str, list[Any]] = {}
    # What nothing reads comes first: it may be what is missing, misspelt or in the wrong place.
    problems = error.errors(include_url=False)
    for problem in sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden"):
        # What tells the members of a union apart is no part of the key.
        parts = [part for part in problem["loc"] if not _names_a_type(part)]
        by_key.setdefault(".".join([*([prefix] if prefix else []), *map(str, parts)]), []).append(
            problem
        )
    return [_in_words(key, problems) for key, problems in by_key.items()]


def _names_a_type(part: int | str) -> bool:
    return isinstance(part, str) and (
        part in ("int", "float", "str", "bool", "none", "list", "tuple", "dict")
        or "[" in part
        or part.startswith("constrained-")
    )


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "none": "null",
    "dict": "a section",
    "list": "a list",
    "tuple": "a list",
    "model": "a section",
    "callable": "a section with a _target_",
}


def _in_words(key: str, problems: list[Any]) -> str:
    first = problems[0]
    kind, value, limits = first["type"], first["input"], first.get("ctx", {})
    if kind == "missing":
        return f"{key} has no value; the setting must give one"
    if kind == "extra_forbidden":
        return f"a configuration file sets {key}, which nothing reads"
    shown = f"{key}={literal(value)}"
    if kind == "greater_than_equal":
        return f"{shown} must be at least {limits['ge']:g}"
    if kind == "greater_than":
        return f"{shown} must be greater than {limits['gt']:g}"
    if kind == "less_than_equal":
        return f"{shown} must be at most {limits['le']:g}"
    if kind == "less_than":
        return f"{shown} must be less than {limits['lt']:g}"
    if kind == "finite_number":
        return f"{shown} is no finite number"
    if kind == "string_pattern_mismatch" and key == "device":
        return f"{shown} is not one of auto, cpu, cuda, cuda:N"
    if kind == "string_too_short":
        what = "run" if key == "init_from" else "folder"
        return f"{key} is empty; name a {what}, or leave it out"
    wanted = [_wanted(problem) for problem in problems]
    return f"{shown} is not {' or '.join(dict.fromkeys(wanted))}"


def _wanted(problem: Any) -> str:
    kind = str(problem["type"])
    if kind == "literal_error":
        return "one of " + str(problem["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
    return _KINDS.get(kind.split("_")[0], str(problem["msg"]).lower())


def literal(value: Any) -> str:
    """Return a plain value as it is written on the command line."""
    import re

    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./:-]*", value):
        escaped = value.replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)
