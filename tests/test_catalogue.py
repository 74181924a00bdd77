"""What there is to choose from, as tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lra_bench import paths
from lra_bench.about import first_sentence
from lra_bench.catalogue import (
    Entry,
    Summary,
    choices,
    summarize,
    table_of,
    tasks_of,
)
from lra_bench.console import Screen
from lra_bench.errors import UserError
from lra_bench.schema import GROUPS
from lra_bench.types import DataInfo, Example, Examples, Split, Task, TaskSpec

SPEC = TaskSpec("made_up", 256, 64, 10, majority_baseline=0.1)
SIZES: dict[Split, int] = {"train": 7, "validation": 8, "test": 9}


class MadeUp(Task):
    """A task in whatever state."""

    def __init__(
        self,
        *,
        prepared: bool | None = None,
        folder: Path | None = None,
        info: DataInfo | None = None,
        problem: str = "",
    ) -> None:
        self.spec = SPEC
        self._prepared, self._folder, self._problem = prepared, folder, problem
        self._info = info or DataInfo("drawn at home", "do what you like", SIZES)

    def examples(self, split: Split) -> Examples:
        assert self._prepared
        return [Example((np.arange(3),), 1)] * 20

    def fingerprint(self) -> str:
        return "0" * 64

    def is_prepared(self) -> bool | None:
        if self._problem:
            raise UserError(self._problem)
        return self._prepared

    def folder(self) -> Path | None:
        return self._folder

    def info(self) -> DataInfo:
        return self._info


def test_a_task_is_summarized_in_every_state(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(12_000))
    silent = summarize(Entry("silent", MadeUp()))
    assert (silent.name, silent.prepared, silent.num_examples) == ("silent", "-", SIZES)
    assert (silent.origin, silent.terms) == ("drawn at home", "do what you like")
    assert summarize(Entry("absent", MadeUp(prepared=False))).prepared == "no"
    info = DataInfo("drawn", source="drawn, seed 3", warning="only 20", note="not the original")
    ready = summarize(Entry("ready", MadeUp(prepared=True, folder=tmp_path, info=info)))
    assert (ready.prepared, ready.origin) == ("yes, 12 kB", "drawn, seed 3")
    assert set(ready.num_examples.values()) == {20}
    assert ready.notes == ["warning: only 20", "note: not the original"]
    assert summarize(Entry("bare", MadeUp(prepared=True))).prepared == "yes"
    broken = summarize(Entry("broken", MadeUp(problem="x is broken; delete it")))
    assert (broken.prepared, broken.notes) == ("broken", ["problem: x is broken; delete it"])
    unbuilt = summarize(Entry("lost", problem="cannot import nowhere.Lost"))
    assert (unbuilt.prepared, unbuilt.spec) == ("broken", None)
    assert unbuilt.notes == ["problem: cannot import nowhere.Lost"]


def row_of(summary: Summary) -> list[str]:
    return table_of([summary], Screen()).splitlines()[1].split()


def test_every_kind_of_answer_has_its_row() -> None:
    assert row_of(Summary("a", SPEC, SIZES)) == ["a", "64", "10", "7", "8", "9", "10.0%", "no"]
    pairs = dataclasses.replace(SPEC, num_inputs=2, majority_baseline=None)
    assert row_of(Summary("b", pairs)) == ["b", "2", "x", "64", "10", *"????", "no"]
    span = TaskSpec("c", 9, 1_000, target="span")
    assert row_of(Summary("c", span, prepared="-")) == ["c", "1,000", "span", *"????", "-"]
    tokens = dataclasses.replace(SPEC, target="tokens", metrics=())
    assert row_of(Summary("d", tokens))[:3] == ["d", "64", "10/token"]
    choice = TaskSpec("f", 9, 1_000, num_inputs=2, target="choice", candidate=8)
    assert row_of(Summary("f", choice))[:5] == ["f", "2", "x", "1,000", "candidates"]
    assert row_of(Summary("e", prepared="broken")) == ["e", *"??????", "broken"]


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_is_as_wide_as_asked(width: int) -> None:
    spec = TaskSpec("review_pairs", 257, 16_384, 10, num_inputs=2, majority_baseline=0.168)
    sizes: dict[Split, int] = {"train": 160_000, "validation": 20_000, "test": 20_000}
    summary = Summary(
        "review_pairs", spec, sizes, "yes, 999 MB", "IMDB " * 30, "none " * 30, ["warning: x"]
    )
    lines = table_of([summary, summary], Screen(width)).splitlines()
    assert max(map(len, lines)) <= max(width, 81)
    # What belongs to a name is set in below it.
    assert all(line.startswith(" " * 4) for line in lines[7:9])


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of configuration with three tasks of which none can be built."""
    (tmp_path / "task").mkdir()
    (tmp_path / "task/lost.yaml").write_text(
        "# Gone. It was never there.\n_target_: nowhere.Lost\n"
    )
    (tmp_path / "task/torn.yaml").write_text("# A test.\n_target_: [\n")
    (tmp_path / "task/none.yaml").write_text("x: 3\n")
    return tmp_path


def test_one_broken_task_spoils_no_list(outside: Path) -> None:
    entries = {entry.name: entry for entry in tasks_of(config_dirs=[outside])}
    known = {path.stem for path in (paths.conf_dir() / "task").glob("*.yaml")}
    assert set(entries) == known | {"lost", "torn", "none"}
    assert {name for name, entry in entries.items() if entry.task is None} == {
        "lost",
        "torn",
        "none",
    }
    assert "cannot import nowhere.Lost" in entries["lost"].problem


def test_words_that_fit_no_task_are_to_blame() -> None:
    with pytest.raises(UserError, match=r"did you mean cpu\?"):
        tasks_of(["setting=cpuu"])


def test_tasks_are_told_where_their_data_lie(tmp_path: Path) -> None:
    words = [f"data_dir={tmp_path / 'raw'}", f"cache_dir={tmp_path / 'cache'}"]
    entry = tasks_of(words)[0]
    assert entry.data_dir == str(tmp_path / "raw")
    assert entry.cache_dir == str(tmp_path / "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_says_what_it_is(group: str) -> None:
    lines = choices(group, Screen()).splitlines()
    files = sorted((paths.conf_dir() / group).glob("*.yaml"))
    assert [line.split()[0] for line in lines] == [path.stem for path in files]
    for line, path in zip(lines, files, strict=True):
        assert first_sentence(path)
        assert first_sentence(path) in line
        assert line.startswith(f"  {path.stem}")


def test_tasks_are_listed_with_what_is_asked(outside: Path) -> None:
    lines = {
        line.split()[0]: line
        for line in choices("task", Screen(), config_dirs=[outside]).splitlines()
    }
    assert "Up to 2,000 tokens, 10 classes, majority baseline 16.8%." in lines["listops"]
    assert "Gone. Broken: task: cannot import nowhere.Lost" in lines["lost"]
