"""A run begins with the encoder of another: what is taken, what is refused, what it is called."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Compose
from safetensors.torch import load_file, save_file

from lra_bench import identity, weights
from lra_bench import record as records
from lra_bench.build import build_task
from lra_bench.compose import Request
from lra_bench.errors import UserError
from lra_bench.record import RunRecord
from lra_bench.runner import assemble, run, run_or_reuse

STEPS = ("train.num_steps=4", "train.eval_every=2", "task.num_examples=40")
HIDE = ("objective=denoising", *STEPS)


@pytest.fixture
def pretrained(made_up: Compose) -> RunRecord:
    return run(made_up(*HIDE, "keep_weights=true"))


def results_of(request: Request) -> Path:
    return Path(request.config.results_dir)


def test_the_encoder_is_taken_and_the_head_is_new(made_up: Compose, pretrained: RunRecord) -> None:
    request = made_up(*STEPS, f"init_from={pretrained.run_id}")
    model = assemble(request.config, build_task(request).spec)
    fresh = {name: one.clone() for name, one in model.state_dict().items()}
    assert request.parent is not None
    said = weights.take(request.parent, model.encoder, request.sections)
    given = load_file(request.parent.folder / weights.ENCODER)
    table = "embedding.tokens.weight"
    assert not torch.equal(given[table], fresh[f"encoder.{table}"])
    for name, one in model.state_dict().items():
        own = name.removeprefix("encoder.")
        assert torch.equal(one, fresh[name] if name.startswith("head.") else given[own]), name
    assert len(said) == 1
    assert re.fullmatch(
        rf"begun from run {pretrained.run_id} \(denoising on first, 4 updates\): {len(given) - 1} "
        rf"tensors with [\d,]+ numbers taken; left: embedding\.mask and the head; new: the head",
        said[0],
    )


def test_what_it_began_from_is_part_of_what_it_is(made_up: Compose, pretrained: RunRecord) -> None:
    fresh, request = made_up(*STEPS), made_up(*STEPS, f"init_from={pretrained.run_id}")
    assert request.request_id != fresh.request_id
    record = run(request)
    assert record.parent == pretrained.run_id
    assert record.labels["setting"].endswith(" + denoising")
    assert record.began_from == "denoising"
    assert record.pretraining is not None
    assert record.pretraining["num_steps"] == 4
    assert record.pretraining["weights_sha256"] == pretrained.weights_sha256
    assert record.pretraining["command"] == f"{pretrained.command} keep_weights=true"
    assert "init_from=" + pretrained.run_id in record.command
    assert "+ denoising" in request.title
    # It is found again, and reads back as itself.
    again, was_there = run_or_reuse(made_up(*STEPS, f"init_from={pretrained.run_id}"))
    assert was_there
    assert records.from_dict(json.loads(json.dumps(records.as_dict(record)))) == again


@pytest.mark.parametrize("way", ["id", "beginning", "record", "folder", "copy", "words"])
def test_a_run_is_named_in_any_way(
    made_up: Compose, pretrained: RunRecord, tmp_path: Path, way: str
) -> None:
    results = results_of(made_up())
    folder = weights.folder_of(results, pretrained.run_id)
    names = pretrained.setting, pretrained.task, pretrained.model
    if way == "copy":
        # Elsewhere, and nothing else of the run is left.
        shutil.copytree(folder, tmp_path / "shared, with = and ${x}")
        shutil.rmtree(results)
    word = {
        "id": pretrained.run_id,
        "beginning": pretrained.run_id[:7],
        "record": str(records.record_path(results, *names, pretrained.run_id)),
        "folder": str(folder),
        "copy": str(tmp_path / "shared, with = and ${x}"),
        "words": "objective=denoising train.num_steps=4 train.eval_every=2",
    }[way]
    request = made_up(*STEPS, f"init_from={word}")
    assert request.parent is not None
    assert request.parent.record.run_id == pretrained.run_id
    assert request.request_id == made_up(*STEPS, f"init_from={request.parent.folder}").request_id


def test_words_say_in_what_it_was_another_run(made_up: Compose) -> None:
    first = run(made_up(*HIDE, "keep_weights=true", "seed=3"))
    # The seed stays; what is trained and how is said anew.
    asked = ("train.num_steps=2", "train.learning_rate=0.1", "task.num_examples=40", "seed=3")
    words = "init_from=objective=denoising train.num_steps=4 train.eval_every=2"
    request = made_up(*asked, words)
    assert request.parent is not None
    assert request.parent.record.run_id == first.run_id
    with pytest.raises(UserError, match=r"no finished run of local on .* seed 4 .*run it first"):
        made_up(*asked[:-1], "seed=4", words)


def test_words_may_name_another_task_or_model(made_up: Compose, pretrained: RunRecord) -> None:
    """Its options are not those of this one's."""
    request = made_up(
        "task.num_examples=50",
        "init_from=task=first task.num_examples=40 objective=denoising train.num_steps=4 "
        "train.eval_every=2",
        task="even",
    )
    assert request.parent is not None
    assert request.parent.record.run_id == pretrained.run_id
    assert request.began_from.startswith("denoising(train.eval_every=2,train.num_steps=4, first(")
    with pytest.raises(UserError, match="cannot be read: No closing quotation"):
        made_up("init_from=objective='denoising")


def test_the_label_says_in_what_the_first_run_was_another(
    made_up: Compose, pretrained: RunRecord
) -> None:
    def label(*words: str, task: str = "first") -> str:
        return made_up(*words, f"init_from={pretrained.run_id}", task=task).began_from

    assert label(*STEPS) == "denoising"
    shorter = ("train.num_steps=2", *STEPS[1:])
    assert label(*shorter) == "denoising(train.eval_every=2,train.num_steps=4)"
    assert label(*STEPS[:2]) == "denoising(first(num_examples=40))"
    assert label(*STEPS, task="even") == "denoising(first(num_examples=40))"
    plain = run(made_up("objective=denoising", "keep_weights=true"))
    there = f"init_from={plain.run_id}"
    assert made_up(there).began_from == "denoising"
    assert made_up("trunk.dropout=0.5", there).began_from == "denoising(smoke)"


def test_a_third_run_counts_the_cost_of_all(made_up: Compose, pretrained: RunRecord) -> None:
    second = run(made_up(*HIDE, "keep_weights=true", f"init_from={pretrained.run_id}"))
    third = run(made_up(*STEPS, f"init_from={second.run_id}"))
    assert second.pretraining is not None
    assert third.pretraining is not None
    assert (second.pretraining["num_steps"], third.pretraining["num_steps"]) == (4, 8)
    assert third.pretraining["train_seconds"] == pytest.approx(
        (pretrained.train_seconds or 0) + (second.train_seconds or 0)
    )
    # The mask went along.
    assert third.labels["setting"] != second.labels["setting"]


def test_weights_that_are_not_kept_are_made_again(made_up: Compose) -> None:
    first = run(made_up(*HIDE))
    assert first.weights_sha256 is None
    with pytest.raises(UserError, match=r"weights of run .* were not kept, .* keep_weights=true"):
        made_up(*STEPS, f"init_from={first.run_id}")
    again, was_there = run_or_reuse(made_up(*HIDE, "keep_weights=true"))
    assert not was_there
    assert again.test == first.test
    assert again.weights_sha256 is not None
    assert run_or_reuse(made_up(*HIDE, "keep_weights=true"))[1]
    # Nor is it run again by somebody who does not want them.
    assert run_or_reuse(made_up(*HIDE))[1]


def test_a_file_that_was_changed_is_refused(made_up: Compose, pretrained: RunRecord) -> None:
    path = weights.folder_of(results_of(made_up()), pretrained.run_id) / weights.ENCODER
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"encoder\.safetensors is not what the record of run .*"):
        made_up(*STEPS, f"init_from={pretrained.run_id}")
    path.unlink()
    with pytest.raises(UserError, match="were not kept"):
        made_up(*STEPS, f"init_from={pretrained.run_id}")


@pytest.mark.parametrize(
    ("words", "task", "said"),
    [
        (("trunk.width=32",), "first", r"does not fit .*embedding\.\w+.* is \(.*\) there and \("),
        (("trunk.num_layers=3",), "first", r"layers\.2\S+ \(.*\) is here and not there"),
        (("trunk.num_layers=1",), "first", r"layers\.1\S+ \(.*\) is there and not here"),
        (
            ("head.pooling=cls",),
            "first",
            r"run \S+ has 20 positions \(embedding\.positions\), this one needs 21",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    made_up: Compose, pretrained: RunRecord, words: tuple[str, ...], task: str, said: str
) -> None:
    request = made_up(*STEPS, *words, f"init_from={pretrained.run_id}", task=task)
    with pytest.raises(UserError, match=f"^init_from: .*{said}"):
        run(request)


def test_nothing_is_taken_where_something_does_not_fit(
    made_up: Compose, pretrained: RunRecord
) -> None:
    request = made_up(*STEPS, "trunk.num_layers=1", f"init_from={pretrained.run_id}")
    assert request.parent is not None
    model = assemble(request.config, build_task(request).spec)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    with pytest.raises(UserError, match="does not fit"):
        weights.take(request.parent, model.encoder, request.sections)
    assert all(map(torch.equal, model.state_dict().values(), before.values()))


@pytest.mark.parametrize("length", [30, 7])
def test_positions_are_repeated_or_cut_where_that_is_asked(
    pretrained: RunRecord, made_up: Compose, length: int
) -> None:
    request = made_up(*STEPS, f"init_from={pretrained.run_id}", "init_positions=tile")
    assert request.parent is not None
    encoder = assemble(request.config, build_task(request).spec).encoder
    table = torch.nn.Parameter(torch.zeros(length, encoder.width))
    embedding = encoder.get_submodule("embedding")
    embedding.register_parameter("positions", table)
    said = weights.take(request.parent, encoder, request.sections)
    given = load_file(request.parent.folder / weights.ENCODER)["embedding.positions"]
    assert torch.equal(table[:7], given[:7])
    assert torch.equal(table[20:], given[: max(length - 20, 0)])
    assert said[1] == f"note: 20 embedding.positions became {length}, repeated or cut"
    plain = made_up(*STEPS, f"init_from={pretrained.run_id}")
    assert plain.request_id != request.request_id
    assert request.began_from.endswith(", positions tiled")


def test_options_that_changed_are_said(made_up: Compose, pretrained: RunRecord) -> None:
    request = made_up(*STEPS, "model.mixer.block_size=3", f"init_from={pretrained.run_id}")
    assert request.parent is not None
    model = assemble(request.config, build_task(request).spec)
    _, note = weights.take(request.parent, model.encoder, request.sections)
    assert re.fullmatch(r"note: model\.mixer\.block_size was \d+, is 3", note)


def test_what_cannot_be_begun_from(made_up: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file 'abcdef', and no run whose id begins so"):
        made_up("init_from=abcdef")
    with pytest.raises(UserError, match=r"init_from is empty; name a run"):
        made_up("init_from=")
    with pytest.raises(UserError, match=r"init_positions=tile says how to begin from another run"):
        made_up("init_positions=tile")
    with pytest.raises(UserError, match=r"is a folder without the record\.json"):
        made_up(f"init_from={tmp_path}")
    with pytest.raises(UserError, match="no file 'aaaa"):
        made_up(f"init_from={'a' * 5_000}")
    for words, said in (
        ("results_dir=x objective=denoising", "results_dir is nothing in which a run can be anot"),
        ("train.num_steps=abc", r"^init_from: train\.num_steps=abc is not a whole number"),
    ):
        with pytest.raises(UserError, match=said):
            made_up(f"init_from={words}")
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UserError, match=r"record\.json is not a run record"):
        made_up(f"init_from={tmp_path}")


def test_a_run_without_result_is_nothing_to_begin_from(
    made_up: Compose, pretrained: RunRecord
) -> None:
    folder = weights.folder_of(results_of(made_up()), pretrained.run_id)
    content = records.as_dict(pretrained) | {"status": "diverged", "error": "x", "test": None}
    content["metrics"] = {name: {**of, "test": None} for name, of in content["metrics"].items()}
    (folder / weights.RECORD).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run \S+ is diverged; there is nothing to take"):
        made_up(f"init_from={folder}")


def test_another_vocabulary_of_the_same_size_is_refused(
    made_up: Compose, pretrained: RunRecord
) -> None:
    parent = made_up(*STEPS, f"init_from={pretrained.run_id}").parent
    assert parent is not None
    weights.check_vocabulary(parent, {"vocabulary": "x"})
    with pytest.raises(UserError, match=r"another vocabulary \(none that is le"):
        weights.check_vocabulary(parent, {"vocabulary_sha256": "ab" * 32})
    data = {**pretrained.data, "details": {"vocabulary_sha256": "ab" * 32}}
    learned = replace(parent, record=replace(pretrained, data=data))
    weights.check_vocabulary(learned, {"vocabulary_sha256": "ab" * 32})
    for details in ({}, {"vocabulary_sha256": "cd" * 32}):
        with pytest.raises(UserError, match=r"\(abababababababab\) than this task .*task\.vocabul"):
            weights.check_vocabulary(learned, details)


def test_numbers_that_are_none_are_refused(made_up: Compose, pretrained: RunRecord) -> None:
    request = made_up(*STEPS, f"init_from={pretrained.run_id}")
    assert request.parent is not None
    path = request.parent.folder / weights.ENCODER
    model = assemble(request.config, build_task(request).spec)
    given = load_file(path)
    for changed, said in (
        (
            {name: one.double() for name, one in given.items()},
            r"is of torch\.float64 there and of torch\.float32 here",
        ),
        (
            {name: one * torch.nan for name, one in given.items()},
            "holds what is no finite number",
        ),
    ):
        other = replace(request.parent, folder=path.parent / "other")
        other.folder.mkdir(exist_ok=True)
        save_file(changed, other.folder / weights.ENCODER)
        with pytest.raises(UserError, match=said):
            weights.take(other, model.encoder, request.sections)


def test_other_weights_of_the_same_run_make_it_run_again(
    made_up: Compose, pretrained: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*STEPS, f"init_from={pretrained.run_id}")
    first = run(made_up(*words))
    assert run_or_reuse(made_up(*words))[1]
    request = made_up(*words)
    assert request.pretraining is not None
    monkeypatch.setitem(request.pretraining, "weights_sha256", "ab" * 32)
    again, was_there = run_or_reuse(request)
    assert not was_there
    assert again.run_id == first.run_id


def test_weights_that_cannot_be_written_cost_no_result(made_up: Compose) -> None:
    asked = made_up(*HIDE, "keep_weights=true")
    run_id = identity.run_id(asked.request_id, build_task(asked).fingerprint())
    in_the_way = weights.folder_of(results_of(asked), run_id)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a folder is wanted")
    with pytest.raises(OSError, match=r"cannot keep the weights .* give the same line again"):
        run(asked)
    (done,) = records.find_all(results_of(asked), asked.names, asked.request_id)
    assert done.status == "completed"
    in_the_way.unlink()
    # Another try goes on from the last checkpoint, and ends with the same.
    again = run(made_up(*HIDE, "keep_weights=true"))
    assert (again.num_resumes, again.test) == (1, done.test)
    assert again.weights_sha256 is not None
