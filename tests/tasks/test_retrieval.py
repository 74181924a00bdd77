from __future__ import annotations

import io
import itertools
import random
import re
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import mutants

from lra_bench.cli import main
from lra_bench.data import Loader
from lra_bench.errors import UserError
from lra_bench.record import read as read_record
from lra_bench.types import SPLITS, DataInfo, Progress, Split
from lra_tasks._sources import Member
from lra_tasks.retrieval import RELEASED, Retrieval, TsvReader

Pair = tuple[bytes, bytes, int]
INNER, OUTER = "lra_release/lra_release/tsv_data", "lra_release/tsv_data"

# Each line and what is in it.
ODDITIES: tuple[tuple[bytes, Pair], ...] = (
    (b'1.0\ta\tb\t"quoted\t"not closed\n', (b'"quoted', b'"not closed', 1)),
    (b'0.0\t"a\tb"\t"\t""\n', (b'"', b'""', 0)),
    (b"1\ta\tb\tends with\tCR LF\r\n", (b"ends with", b"CR LF", 1)),
    (b"0\ta\tb\tCR \r inside\tat the end\r\r\n", (b"CR \r inside", b"at the end\r", 0)),
    (b"1.\ta\tb\tbytes \xff\x00\xfe\tZ\x00\xff\n", (b"bytes \xff\x00\xfe", b"Z\x00\xff", 1)),
    (
        b"1e0\ta\tb\t\xe6\x97\xa5\xe6\x9c\xac\t\xe6\x97\n",
        (b"\xe6\x97\xa5\xe6\x9c\xac", b"\xe6\x97", 1),
    ),
    (b"+0.00\t\t\t blanks \t  \n", (b" blanks ", b"  ", 0)),
    (b"0.0\ta\tb\t\tthe first is empty\n", (b" ", b"the first is empty", 0)),
    (b"1.0\ta\tb\tthe second is empty\t\r\n", (b"the second is empty", b" ", 1)),
    (b"1.0\ta\tb\t\t\n", (b" ", b" ", 1)),
)
LINES = [line for line, _ in ODDITIES]


def made_up_lines(number: int, seed: int) -> bytes:
    rng = random.Random(seed)
    lines = []
    for at in range(number):
        first, second = (bytes(rng.choices(b"abc. \"'", k=rng.randrange(1, 60))) for _ in "12")
        lines.append(b"%d.0\tP%d\tQ%d\t%s\t%s\n" % (at % 2, at, at, first, second))
    return b"".join(lines)


MADE_UP: dict[Split, bytes] = {
    "train": b"".join(LINES) + made_up_lines(30, 0),
    "validation": made_up_lines(8, 1),
    "test": made_up_lines(9, 2),
}
COUNTS: dict[Split, int] = {"train": 40, "validation": 8, "test": 9}


def naive(content: bytes) -> list[Pair] | None:
    """Read a file in the plainest way; None if it is none."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    pairs = []
    for line in lines:
        columns = (line[:-1] if line.endswith(b"\r") else line).split(b"\t")
        if len(columns) != 5 or set(columns[0]) - set(b"0123456789+-.eE"):
            return None
        try:
            label = float(columns[0])
        except ValueError:
            return None
        if label not in (0, 1):
            return None
        pairs.append((columns[3][:10_000] or b" ", columns[4][:10_000] or b" ", int(label)))
    return pairs or None


def read(content: bytes, reader: TsvReader | None = None) -> list[Pair]:
    """Read a file with the task's reader alone."""
    pairs: list[Pair] = []
    for chunk in (reader or TsvReader()).read(member(content)):
        data, ends = chunk.tokens.tobytes(), np.cumsum(chunk.lengths.ravel()).tolist()
        texts = [data[start:stop] for start, stop in itertools.pairwise([0, *ends])]
        pairs += zip(texts[::2], texts[1::2], chunk.targets.tolist(), strict=True)
    return pairs


def member(content: bytes) -> Member:
    return Member("new_aan_pairs.train.tsv", len(content), io.BytesIO(content), "some file")


def write_files(folder: Path, contents: Mapping[Split, bytes] = MADE_UP) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        (folder / RELEASED.names[split]).write_bytes(content)


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def members_below(folder: str, contents: Mapping[Split, bytes] = MADE_UP) -> dict[str, bytes]:
    return {f"{folder}/{RELEASED.names[split]}": content for split, content in contents.items()}


def make(folder: Path, **options: Any) -> Retrieval:
    return Retrieval(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def rows_of(task: Retrieval, split: Split) -> list[Pair]:
    """Return the pairs of a split as bytes again."""
    examples = task.examples(split)
    found = (examples[at] for at in range(len(examples)))
    return [(*(bytes((ids - 1).tolist()) for ids in one.inputs), int(one.target)) for one in found]  # type: ignore[misc]


def check_contents(task: Retrieval, contents: Mapping[Split, bytes] = MADE_UP) -> None:
    for split in SPLITS:
        assert rows_of(task, split) == naive(contents[split])


# Good files.


def test_oddities_are_what_they_are_said_to_be() -> None:
    assert naive(b"".join(LINES)) == [pair for _, pair in ODDITIES]
    assert read(b"".join(LINES)) == [pair for _, pair in ODDITIES]
    for line, pair in ODDITIES:
        assert read(line) == read(line.removesuffix(b"\n")) == [pair]


def test_files_of_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path / "data")
    task = make(tmp_path)
    seen: list[Progress] = []
    assert not task.is_prepared()
    task.prepare(seen.append)
    assert task.is_prepared()
    check_contents(task)
    info = task.info()
    assert info.source == "official files, not the official set"
    assert info.details == {"read": "folder data", "empty_documents": "4"}
    for said in ("'train': 40", "'train': 147086", "later literature", "folder data"):
        assert said in info.warning
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert problems == {"official set": info.warning}
    spec = task.spec
    assert (spec.num_inputs, spec.vocab_size, spec.num_classes, spec.max_length) == (
        2,
        257,
        2,
        4000,
    )


def info_of(task: Retrieval) -> DataInfo:
    task.prepare()
    return task.info()


def test_expected_counts_are_the_official_set(tmp_path: Path) -> None:
    assert RELEASED.counts == {"train": 147_086, "validation": 18_090, "test": 17_437}
    write_files(tmp_path / "data")
    task = make(tmp_path, released=replace(RELEASED, counts=COUNTS))
    info = info_of(task)
    assert (info.source, info.warning, info.note) == ("official files", "", "")
    assert info.details == {"read": "folder data", "empty_documents": "4"}
    assert [check.problem for check in task.verify()] == [None] * 3


def test_ids_of_the_protocol(tmp_path: Path) -> None:
    line = b"1.0\ta\tb\t\x61\x5a\x00\xff\t\xff\n"
    write_files(tmp_path / "data", {split: line for split in SPLITS})
    example = make(tmp_path).examples("train")[0]
    assert [ids.tolist() for ids in example.inputs] == [[98, 91, 1, 256], [256]]
    assert make(tmp_path).examples("train")[-1].inputs[1].tolist() == [256]


def test_cut_to_the_length(tmp_path: Path) -> None:
    long = b"x" * 9_999 + b"yz"
    lines = b"1\ta\tb\t%s\t%s\n0\ta\tb\tshort\t%s\n" % (long, long[::-1], long)
    write_files(tmp_path / "data", MADE_UP | {"test": lines})
    whole, cut = make(tmp_path, max_length=10_000), make(tmp_path, max_length=3)
    # Documents are cut to 10,000 bytes before anything else.
    kept = long[:10_000]
    assert rows_of(whole, "test") == [(kept, long[::-1][:10_000], 1), (b"short", kept, 0)]
    assert rows_of(cut, "test") == [(b"xxx", b"zyx", 1), (b"sho", b"xxx", 0)]
    assert cut.examples("test").lengths().tolist() == [3, 3]
    # Cutting to the length happens when the data are read: both share what was prepared.
    assert whole.fingerprint() == cut.fingerprint()
    assert len(list((tmp_path / "cache").glob("retrieval-*"))) == 1


def test_much_is_written_in_parts() -> None:
    content = MADE_UP["train"]
    reader = TsvReader(chunk_bytes=50)
    assert len(list(reader.read(member(content)))) > 10
    assert read(content, TsvReader(chunk_bytes=50)) == read(content) == naive(content)


def test_files_are_not_held_in_memory(tmp_path: Path) -> None:
    line = b"1.0\ta\tb\t%s\t%s\n" % (b"x" * 20_000, b"y" * 10_000)
    write_files(tmp_path / "data", MADE_UP | {"train": line * 2_000})
    seen: list[Progress] = []
    tracemalloc.start()
    try:
        make(tmp_path).prepare(seen.append)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The file has 60 MB, what is kept of it 40.
    assert peak < 20e6
    assert len(seen) > 5
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert {progress.total for progress in seen} == {2_000 * len(line)}


def test_what_a_person_reads(tmp_path: Path) -> None:
    write_files(tmp_path / "data")
    task = make(tmp_path)
    texts = [task.decode(task.examples("train")[at]) for at in (0, 1, 5)]
    assert texts[0] == ('input 1:\n"quoted\n\ninput 2:\n"not closed\n\nanswer: one cites the other')
    assert texts[1].endswith("answer: no citation between the two")
    # A character that was cut in two is no error.
    assert "\u65e5\u672c\n\ninput 2:\n\ufffd\n" in texts[2]
    assert "Radev" in task.info().terms
    assert task.info().num_examples == COUNTS
    assert make(tmp_path).info().num_examples == RELEASED.counts


@pytest.mark.parametrize("bucketing", [False, True])
def test_batches(tmp_path: Path, bucketing: bool) -> None:
    write_files(tmp_path / "data")
    task = make(tmp_path)
    loader = Loader(
        task.examples("train"),
        batch_size=7,
        bucketing=bucketing,
        device=torch.device("cpu"),
        spec=task.spec,
    )
    found = []
    for batch in loader.evaluation():
        assert batch.tokens_BIL.dtype == torch.int64
        assert batch.mask_BIL is not None
        assert batch.num_tokens == int(batch.mask_BIL.sum())
        for tokens_IL, mask_IL, label in zip(
            batch.tokens_BIL, batch.mask_BIL, batch.targets.tolist(), strict=True
        ):
            assert (tokens_IL[~mask_IL] == 0).all()
            texts = [
                bytes((tokens[mask] - 1).tolist())
                for tokens, mask in zip(tokens_IL, mask_IL, strict=True)
            ]
            found.append((texts[0], texts[1], label))
    assert sorted(found) == sorted(naive(MADE_UP["train"]) or [])


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path / "data")
    folders = [f"{name}_dir={tmp_path / name}" for name in ("data", "cache", "results")]
    assert main(["run", "task=retrieval", "model=transformer", "setting=smoke", *folders]) == 0
    (path,) = (tmp_path / "results/runs").rglob("*.json")
    record = read_record(path)
    assert record.task == "retrieval"
    assert record.test is not None
    assert record.test.num_examples == 9
    # A made-up set is no AAN, and everybody is told.
    assert "not the official set" in capsys.readouterr().err + path.read_text()


# Where the files may be.


@pytest.mark.parametrize("folder", [".", "tsv_data", INNER, OUTER])
def test_found_in_folders(tmp_path: Path, folder: str) -> None:
    write_files(tmp_path / "data" / folder)
    check_contents(make(tmp_path))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lra_release.gz", INNER),
        ("lra_release.tar.gz", OUTER),
        ("lra_release/lra_release.gz", INNER),
        ("tsv_data.tar.gz", "tsv_data"),
        ("tsv_data.tgz", "."),
    ],
)
def test_found_in_archives(tmp_path: Path, name: str, folder: str) -> None:
    beside = {"lra_release/lra_release/listops-1000/basic_train.tsv": b"Source\tTarget\n"}
    members = {key.removeprefix("./"): value for key, value in members_below(folder).items()}
    write_archive(tmp_path / "data" / name, beside | members)
    task = make(tmp_path)
    check_contents(task)
    inside = "" if folder == "." else f", {folder}"
    assert info_of(task).details["read"] == f"archive {Path(name).name}{inside}"


def test_the_inner_copy_is_preferred(tmp_path: Path) -> None:
    other = {split: made_up_lines(4, 9) for split in SPLITS}
    write_archive(
        tmp_path / "data/lra_release.gz", members_below(OUTER, other) | members_below(INNER)
    )
    check_contents(make(tmp_path))
    write_files(tmp_path / "folders/data" / OUTER, other)
    write_files(tmp_path / "folders/data" / INNER)
    check_contents(make(tmp_path / "folders"))


def test_prepared_data_outlive_the_files(tmp_path: Path) -> None:
    write_files(tmp_path / "data")
    fingerprint = make(tmp_path).fingerprint()
    for name in RELEASED.names.values():
        (tmp_path / "data" / name).unlink()
    assert make(tmp_path).fingerprint() == fingerprint


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    write_files(tmp_path / "data")
    first = make(tmp_path).fingerprint()
    changed = MADE_UP | {"test": MADE_UP["test"].replace(b"1.0", b"0.0", 1)}
    write_files(tmp_path / "data", changed)
    task = make(tmp_path)
    check_contents(task, changed)
    assert task.fingerprint() != first


# What can go wrong.


def test_no_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="data_dir=") as caught:
        make(tmp_path).prepare()
    for named in (*RELEASED.names.values(), str(tmp_path / "data"), "lra_release"):
        assert named in str(caught.value)
    assert not make(tmp_path).is_prepared()


def test_a_file_is_missing(tmp_path: Path) -> None:
    write_files(tmp_path / "data", {split: MADE_UP[split] for split in ("train", "test")})
    with pytest.raises(UserError, match=r"new_aan_pairs\.eval\.tsv is missing"):
        make(tmp_path).prepare()
    members = members_below(INNER)
    del members[f"{INNER}/new_aan_pairs.test.tsv"]
    write_archive(tmp_path / "other/data/lra_release.gz", members)
    with pytest.raises(UserError, match=r"has no new_aan_pairs\.test\.tsv"):
        make(tmp_path / "other").prepare()
    assert not list((tmp_path / "other/cache").glob("retrieval-*"))


def test_a_member_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "data/tsv_data.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, content in [*members_below("tsv_data").items()] * 2:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with pytest.raises(UserError, match="there twice"):
        make(tmp_path).prepare()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"1.0\ta\tb\ttext\n", "found 4"),
        (b"1.0\ta\tb\ttext\ttext\ttext\n", "found more"),
        (b"\n", "found 1"),
        (b"\r\n", "found 1"),
        (b"label a b text text\n", "found 1"),
        (b"1.0\ta\tb", "found 3"),
        (b"2\ta\tb\tc\td\n", "label is '2'"),
        (b"0.5\ta\tb\tc\td\n", "label is '0.5'"),
        (b"-1\ta\tb\tc\td\n", "label is '-1'"),
        (b"nan\ta\tb\tc\td\n", "label is 'nan'"),
        (b"inf\ta\tb\tc\td\n", "label is 'inf'"),
        (b"1e999\ta\tb\tc\td\n", "label is '1e999'"),
        (b"0_1\ta\tb\tc\td\n", "label is '0_1'"),
        (b" 1\ta\tb\tc\td\n", "label is ' 1'"),
        (b"\xd9\xa1\ta\tb\tc\td\n", r"label is '\\xd9\\xa1'"),
        (b"x\ta\tb\tc\td\n", "label is 'x'"),
        (b"\ta\tb\tc\td\n", "label is ''"),
        (b"label\tid1\tid2\ttext1\ttext2\n", "label is 'label'"),
    ],
)
@pytest.mark.parametrize("at", [0, 17, 40])
def test_damaged_line(tmp_path: Path, line: bytes, said: str, at: int) -> None:
    lines = MADE_UP["train"].split(b"\n")[:-1]
    content = b"".join(one + b"\n" for one in lines[:at]) + line
    if line.endswith(b"\n"):
        content += b"".join(one + b"\n" for one in lines[at:])
    write_files(tmp_path / "data", MADE_UP | {"train": content})
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        make(tmp_path).prepare()
    path = tmp_path / "data/new_aan_pairs.train.tsv"
    assert str(caught.value).startswith(f"{path}, line {at + 1}: ")
    # Nothing is left behind.
    assert not list((tmp_path / "cache").glob("*retrieval-*"))


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    content = MADE_UP["test"]
    last = content.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(content)):
        pairs = naive(content[:end])
        if end == last or content[last:end].count(b"\t") == 4:
            # Nobody can tell: the counts do.
            assert read(content[:end]) == pairs
        else:
            with pytest.raises(UserError, match=f"line {COUNTS['test']}: .* cut short"):
                read(content[:end])


def test_an_empty_file(tmp_path: Path) -> None:
    write_files(tmp_path / "data", MADE_UP | {"validation": b""})
    with pytest.raises(UserError, match="holds no examples"):
        make(tmp_path).prepare()


def test_a_line_without_end() -> None:
    line = b"1\ta\tb\tc\t"
    exactly = line + b"x" * (63 - len(line)) + b"\n"
    assert len(read(exactly * 2, TsvReader(max_line_bytes=64))) == 2
    for content in (exactly[:-1] + b"xx\n", b"\t" * 1000, b"\0" * 1000, exactly[:-1] + b"x"):
        with pytest.raises(UserError, match="longer than 64 bytes"):
            read(exactly + content, TsvReader(max_line_bytes=64))


@pytest.mark.parametrize("max_length", [-1, 0, 10_001])
def test_options_out_of_range(tmp_path: Path, max_length: int) -> None:
    with pytest.raises(UserError, match=f"task.max_length={max_length} "):
        make(tmp_path, max_length=max_length)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [5_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_damaged_files(number: int) -> None:
    """A file is refused with a clear error, or read exactly as the plainest reader does."""
    seeds = [*LINES, b"".join(LINES), made_up_lines(5, 3), b"".join(LINES[::3]).rstrip()]
    outcomes = Counter[str]()
    for content in mutants(seeds, number):
        expected = naive(content)
        try:
            found = read(content)
        except UserError:
            assert expected is None, content
            outcomes["refused"] += 1
        else:
            assert found == expected, content
            outcomes["read"] += 1
    assert min(outcomes["refused"], outcomes["read"]) > number // 10
