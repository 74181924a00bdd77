"""What every file in conf/task promises; a new one is covered unasked.

A task that reads raw files is given made-up ones: see `made_up_raw.PUT`.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_up_raw import PUT

from lra_bench.build import build_task
from lra_bench.compose import compose_task
from lra_bench.errors import UserError
from lra_bench.metrics import metric
from lra_bench.paths import conf_dir
from lra_bench.types import IGNORED, SPLITS, Example, Task, lengths_of
from lra_bench.words import options
from lra_tasks.cached_task import CachedTask

TASKS = options("task")


@dataclass(frozen=True)
class Made:
    """A task on made-up raw files.

    Args:
        name: Of its configuration.
        words: What asks for it.
    """

    name: str
    words: list[str]

    def build(self, *more: str) -> Task:
        """Return the task anew."""
        return build_task(compose_task([*self.words, *more]))

    def build_class(self, kind: type[Task]) -> Task:
        """Return the same task of a class of one's own."""
        request = compose_task(self.words)
        given = {key: value for key, value in request.node.items() if key != "_target_"}
        assert request.data_dir is not None
        assert request.cache_dir is not None
        folders = {"data_dir": Path(request.data_dir), "cache_dir": Path(request.cache_dir)}
        wanted = inspect.signature(kind).parameters
        given |= {name: folder for name, folder in folders.items() if name in wanted}
        return kind(**given)


def made_in(folder: Path, name: str) -> Made:
    data_dir = folder / "data"
    data_dir.mkdir(parents=True)
    words = PUT[name](data_dir) if name in PUT else []
    folders = [f"data_dir={data_dir}", f"cache_dir={folder / 'cache'}"]
    return Made(name, [f"task={name}", "setting=smoke", *words, *folders])


@pytest.fixture(scope="module", params=TASKS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return each task in turn, prepared once for all tests."""
    made = made_in(tmp_path_factory.mktemp(request.param), request.param)
    try:
        made.build().prepare()
    except UserError as error:
        pytest.fail(f"give the task made-up raw files in tests/made_up_raw.py: {error}")
    return made


def test_every_task_is_covered() -> None:
    assert {"listops", "text", "retrieval", "review_pairs", "image", "pathfinder"} <= set(TASKS)
    assert set(PUT) <= set(TASKS)


def rows_of(task: Task, split: Any) -> list[tuple[tuple[bytes, ...], Any]]:
    examples = task.examples(split)
    rows = []
    for at in range(len(examples)):
        example = examples[at]
        inputs = tuple(np.asarray(ids, "<i8").tobytes() for ids in example.inputs)
        rows.append((inputs, np.asarray(example.target).tolist()))
    return rows


def check_target(example: Example, task: Task) -> None:
    spec, target = task.spec, np.asarray(example.target)
    (length, *_) = map(len, example.inputs)
    if spec.target == "class":
        assert target.shape == ()
        assert 0 <= target < spec.num_classes
    elif spec.target == "choice":
        places = [np.flatnonzero(tokens == spec.candidate).tolist() for tokens in example.inputs]
        assert all(one == places[0] for one in places)
        assert 0 <= target < len(places[0])
        assert all((tokens == spec.context).sum() == 1 for tokens in example.inputs)
    elif spec.target == "spans":
        first_of_text = np.flatnonzero(example.inputs[0] == spec.context)[0] + 1
        assert target.shape == (len(target), 2)
        assert ((first_of_text <= target[:, 0]) & (target[:, 0] <= target[:, 1])).all()
        assert (target < length).all()
    elif spec.target == "span":
        assert target.shape == (2,)
        assert (target == IGNORED).all() or 0 <= target[0] <= target[1] < length
    else:
        assert target.shape == (length,)
        assert ((target == IGNORED) | ((target >= 0) & (target < spec.num_classes))).all()


class TestContract:
    def test_spec(self, made: Made) -> None:
        spec = made.build().spec
        assert spec.name
        assert spec.vocab_size > 1
        assert spec.max_length >= 1
        assert [metric(name).name for name in spec.metrics] == list(spec.metrics)
        assert spec.majority_baseline is None or 0 < spec.majority_baseline <= 1

    def test_ids_lengths_and_targets(self, made: Made) -> None:
        task = made.build()
        for split in SPLITS:
            examples = task.examples(split)
            assert len(examples)
            lengths = lengths_of(examples)
            assert lengths.shape == (len(examples),)
            for at in range(len(examples)):
                example = examples[at]
                number = task.spec.num_inputs
                fewest = 1 if task.spec.target == "choice" else number
                assert fewest <= len(example.inputs) <= number
                for ids in example.inputs:
                    assert ids.ndim == 1
                    assert np.issubdtype(ids.dtype, np.integer)
                    assert 1 <= len(ids) <= task.spec.max_length
                    assert ids.min() >= 0
                    assert ids.max() < task.spec.vocab_size
                assert lengths[at] == max(map(len, example.inputs))
                check_target(example, task)

    def test_a_fixed_order(self, made: Made) -> None:
        task, again = made.build(), made.build()
        for split in SPLITS:
            assert rows_of(task, split) == rows_of(task, split) == rows_of(again, split)
        assert task.fingerprint() == again.fingerprint()
        assert len(task.fingerprint()) == 64

    def test_nothing_is_in_two_splits(self, made: Made) -> None:
        # What is read here is distinct; of the real sets only what docs/datasets.md says.
        task = made.build()
        seen = {split: {inputs for inputs, _ in rows_of(task, split)} for split in SPLITS}
        for one, other in itertools.combinations(SPLITS, 2):
            assert not seen[one] & seen[other]

    def test_what_a_person_reads(self, made: Made) -> None:
        task = made.build()
        for split in SPLITS:
            example = task.examples(split)[0]
            text = task.decode(example)
            assert text.strip()
            if len(example.inputs) > 1:
                assert all(f"input {at}" in text for at in range(1, len(example.inputs) + 1))
            picture = task.picture(example)
            assert (picture is not None) == task.has_pictures
            if picture is not None:
                assert picture.dtype == np.uint8
                assert picture.ndim == 2

    def test_what_is_known_of_the_data(self, made: Made) -> None:
        task = made.build()
        before = task.info()
        assert before.origin
        assert before.terms
        assert set(before.num_examples) in (set(), set(SPLITS))
        assert (before.source, before.warning, before.note) == ("", "", "")
        task.prepare()
        after = task.info()
        assert (after.origin, after.terms) == (before.origin, before.terms)
        assert after.source
        texts = [after.source, after.warning, after.note, *after.details.values()]
        assert all(isinstance(text, str) for text in texts)

    def test_it_is_sound(self, made: Made) -> None:
        checks = list(made.build().verify())
        # Made-up files are not the official set.
        assert {check.what for check in checks if check.problem} <= {"official set"}
        assert sum(check.what.startswith(SPLITS) for check in checks) >= len(SPLITS)

    def test_prepared_once(self, made: Made, tmp_path: Path) -> None:
        fresh = made_in(tmp_path, made.name)
        task = fresh.build()
        if not isinstance(task, CachedTask):
            return
        encoded: list[Task] = []

        class Counted(type(task)):  # type: ignore[misc]
            def encode(self, *arguments: Any) -> Any:
                encoded.append(self)
                return super().encode(*arguments)

        assert list((tmp_path / "data").parent.iterdir()) == [tmp_path / "data"]
        assert task.is_prepared() is False
        assert task.folder() is None
        first, second = (fresh.build_class(Counted) for _ in range(2))
        first.prepare()
        first.prepare()
        second.prepare()
        assert encoded == [first]
        assert first.is_prepared() is second.is_prepared() is True
        assert first.folder() == second.folder() is not None
        assert first.fingerprint() == second.fingerprint() == made.build().fingerprint()

    def test_wrong_options_are_refused_in_a_line(self, made: Made) -> None:
        node = compose_task(made.words).node
        wrong: dict[str, Any] = {"nonsense": 1}
        for key, value in node.items():
            if key != "_target_" and not isinstance(value, bool):
                wrong[key] = -1 if isinstance(value, int) else "nonsense"
        for key, value in wrong.items():
            with pytest.raises(UserError, match=key) as caught:
                made.build(f"task.{key}={value}")
            assert "\n" not in str(caught.value)


# The files themselves.


def content_of(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((conf_dir() / "task" / f"{name}.yaml").read_text())
    return content


def defaults_of(target: str) -> Mapping[str, Any]:
    """Return the defaults of the constructor of a class."""
    module, _, name = target.rpartition(".")
    kind = getattr(__import__(module, fromlist=[name]), name)
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


@pytest.mark.parametrize("name", TASKS)
def test_values_of_the_file_are_the_defaults_of_the_class(name: str) -> None:
    content = content_of(name)
    bases = content.pop("defaults", [])
    if bases:
        # Only what is different stands there, and is an option of the other.
        (base, itself) = bases
        assert itself == "_self_"
        inherited = content_of(base)
        assert not inherited.get("defaults")
        assert set(content) < set(inherited)
        assert all(inherited[key] != value for key, value in content.items())
        return
    defaults = defaults_of(content.pop("_target_"))
    plainly = {
        key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()
    }
    assert content == {key: plainly.get(key, "no such option") for key in content}
    # What can be written in a file stands there; the rest is for tests and other programs.
    plain = {key for key, value in defaults.items() if isinstance(value, int | float | str)}
    assert plain - set(content) <= {"official_count"}
