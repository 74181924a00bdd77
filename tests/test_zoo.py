"""Models as a table: what the shipped ones state is so, and every screen shows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from models.made_up import make_spec

from lra_bench import paths
from lra_bench.about import FACTS, facts_of, file_of
from lra_bench.build import build, build_task
from lra_bench.compose import compose
from lra_bench.console import Screen
from lra_bench.models.encoder import SequenceEncoder
from lra_bench.runner import assemble
from lra_bench.words import options
from lra_bench.zoo import Model, models_of, num_parameters, table_of

MODELS = options("model")
MADE_UP = Model(
    "mine",
    "A model that nobody has.",
    {"family": "mine", "cost": "L", "limits": "little " * 30, "topologies": "one, two"},
)


def built(name: str, max_length: int) -> SequenceEncoder:
    node = compose([f"model={name}", "task=listops", "setting=smoke"]).config.model
    with torch.device("meta"):
        encoder = build(node, "model", spec=make_spec(max_length=max_length))
    assert isinstance(encoder, SequenceEncoder)
    return encoder


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_states_is_so(name: str) -> None:
    path = file_of("model", name, [])
    facts = facts_of(path)
    missing = set(FACTS) - {"topologies"} - set(facts)
    assert not missing, f"{path.name} states no {missing}"
    paper = re.fullmatch(r"arXiv (\d\d)\d\d\.\d{5}", facts["paper"])
    assert paper is not None
    assert facts["year"] == f"20{paper[1]}"
    encoder = built(name, 2048)
    assert facts.get("topologies", "") == ", ".join(encoder.topologies)
    # A model that can be causal has an option for it, which all call by one name.
    assert facts["causal"] == ("option" if "bidirectional:" in path.read_text() else "no")
    sizes = [
        {
            key: tuple(value.shape) if isinstance(value, torch.Tensor) else ()
            for key, value in each.state_dict().items()
            if key != "embedding.positions"
        }
        for each in (encoder, built(name, 4096))
    ]
    assert facts["length"] == ("any" if sizes[0] == sizes[1] else "bound")
    module = paths.conf_dir().parent / f"lra_bench/models/{name}.py"
    source = module.read_text()
    assert facts["paper"] in source or facts["paper"].split()[1] in source


def test_counting_makes_no_numbers_and_is_right() -> None:
    for words in (["model=bigbird"], ["model=performer"], ["model=reformer"], ["model=s5"]):
        request = compose([*words, "task=listops", "setting=smoke"])
        model = assemble(request.config, build_task(request).spec)
        assert num_parameters(request) == sum(each.numel() for each in model.parameters())
    # A gigabyte, if it were made.
    request = compose(["model=synthesizer", "task=retrieval", "setting=lra2020"])
    assert num_parameters(request) == 257_087_618


LOOKS = """
from torch import nn
from lra_bench.models.transformer import DenseAttention


class Looks(DenseAttention):
    def __init__(self, spec):
        super().__init__(spec)
        self.scale = nn.Parameter(self.projections.out.weight.detach().std().item() * nn.Parameter(
            self.projections.out.weight.detach().clone()))
"""


def test_a_model_that_looks_at_its_numbers_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "looking_model.py").write_text(LOOKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "model/looks.yaml").write_text(
        "_target_: lra_bench.models.trunk.TransformerEncoder\n"
        "mixer:\n  _target_: looking_model.Looks\n  _partial_: true\n"
    )
    (tmp_path / "model/lost.yaml").write_text("# Gone.\n_target_: nowhere.Lost\n")
    words = ["task=listops", "setting=smoke"]
    models = {each.name: each for each in models_of(words, config_dirs=[tmp_path])}
    plain = models["transformer"].num_parameters
    assert plain is not None
    # 16 * 16 more in both layers.
    assert models["looks"].num_parameters == plain + 512
    assert models["looks"].sentence == ""
    assert models["lost"].num_parameters is None
    assert "cannot import nowhere.Lost" in models["lost"].problem
    line = table_of([models["lost"]], Screen(), counted=True).splitlines()[1]
    assert "cannot be built: model: cannot import nowhere.Lost" in line


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("counted", [False, True])
def test_no_terminal_is_too_narrow(width: int, counted: bool) -> None:
    text = table_of([MADE_UP, *models_of()], Screen(width, is_terminal=True), counted=counted)
    assert max(map(len, text.splitlines())) <= width
    for name in ("mine", *MODELS):
        assert f"\n  {name}" in f"\n{text}"
    assert text.count("little") == 30
    assert "topologies one, two" in " ".join(text.split())
    # A table where there is room, paragraphs where there is none.
    assert text.startswith("  model ") == (width == 120)


def test_a_pipe_gets_a_line_a_model() -> None:
    text = table_of([MADE_UP, *models_of()], Screen(40))
    assert len(text.splitlines()) == 2 + len(MODELS)


def row_of(model: Model) -> str:
    """Return the row of a model as docs/models.md has it."""
    facts = model.facts
    number = facts["paper"].removeprefix("arXiv ")
    topologies = ", ".join(f"`{name}`" for name in facts.get("topologies", "").split(", ") if name)
    cells = [f"`{model.name}`", facts["family"], facts["year"]]
    cells += [f"[{number}](https://arxiv.org/abs/{number})", facts["cost"], facts["length"]]
    return f"| {' | '.join([*cells, facts['causal'], topologies or '-'])} |"


def test_the_page_for_choosing_says_the_same() -> None:
    """Its table, row by row, and a word about each model below the heading of its family."""
    page = (paths.conf_dir().parent / "docs/models.md").read_text(encoding="utf-8")
    models = models_of()
    assert [line for line in page.splitlines() if line.startswith("| `")] == list(
        map(row_of, models)
    )
    sections = {part.split("\n")[0].lower(): part for part in page.split("\n## ")[1:]}
    for model in models:
        assert f"`{model.name}`" in sections[model.facts["family"].lower()], model.name
    assert set(sections) == {model.facts["family"].lower() for model in models}
