from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
from pathlib import Path
from typing import Any

import made_up_release as made_up
import numpy as np
import pytest
from pathfinders import (
    DIFFICULTIES,
    FIELDS,
    INNER,
    Rows,
    as_array,
    names_in,
    official,
    rows_of,
)
from PIL import Image

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Progress, Split
from lra_tasks import pathfinder
from lra_tasks._pathfinder_draw import (
    Difficulty,
)
from lra_tasks._pathfinder_release import parse_metadata
from lra_tasks.pathfinder import Pathfinder


@pytest.fixture(scope="module")
def released() -> made_up.Files:
    return made_up.release()


def expected_splits(
    files: made_up.Files, difficulty: Difficulty, inside: str, *, size: int = 32
) -> dict[Split, Rows]:
    """Return what a release holds, read in the plainest way and put in the published order."""
    folder = f"{inside}/{made_up.PATHFINDER_FOLDERS[difficulty]}"
    keyed = []
    for batch in range(made_up.NUM_METADATA):
        text = files[f"{folder}/metadata/{batch}.npy"].decode()
        for number, line in enumerate(text.splitlines(), start=1):
            sub, name, _, label, *_ = line.split()
            key = hashlib.md5(f"{difficulty}{sub}_{name}_{number}".encode()).hexdigest()
            keyed.append((key, files[f"{folder}/{sub}/{name}"], int(label)))
    keyed.sort()
    assert len(keyed) == made_up.NUM_IMAGES
    # Of 48: 38.4 and 43.2, rounded.
    parts: dict[Split, Any] = {
        "train": keyed[:38],
        "validation": keyed[38:43],
        "test": keyed[43:],
    }
    return {
        split: [
            (np.asarray(Image.open(io.BytesIO(content))).tobytes(), label)
            for _, content, label in part
            if content
        ]
        for split, part in parts.items()
    }


def splits_of(task: Pathfinder) -> dict[Split, Rows]:
    return {split: rows_of(task, split) for split in SPLITS}


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_released_images(tmp_path: Path, released: made_up.Files, difficulty: Difficulty) -> None:
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path, difficulty=difficulty)
    assert not task.is_prepared()
    found = splits_of(task)
    assert found == expected_splits(released, difficulty, INNER)
    assert sum(map(len, found.values())) == made_up.NUM_IMAGES - 1
    assert task.is_prepared()
    assert official(tmp_path, difficulty=difficulty).is_prepared()


def test_the_order_is_that_of_tensorflow_datasets(tmp_path: Path, released: made_up.Files) -> None:
    hashing = pytest.importorskip("tensorflow_datasets.core.hashing")
    hasher = hashing.Hasher("hard")
    folder = f"{INNER}/curv_contour_length_14"
    keyed = []
    for batch in range(made_up.NUM_METADATA):
        for at in range(made_up.IMAGES_EACH):
            key = f"imgs/{batch}_sample_{at}.png_{at + 1}"
            content = released[f"{folder}/imgs/{batch}/sample_{at}.png"]
            keyed.append((hasher.hash_key(key), content))
    expected = [
        np.asarray(Image.open(io.BytesIO(content))).tobytes()
        for _, content in sorted(keyed)
        if content
    ]
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path)
    assert [pixels for split in SPLITS for pixels, _ in rows_of(task, split)] == expected


def test_the_order_of_the_metadata_does_not_matter(tmp_path: Path, released: made_up.Files) -> None:
    # The number counts within a file: the same lines in other files are other images.
    made_up.write(tmp_path / "data", released)
    whole = dict(released)
    folder = f"{INNER}/curv_contour_length_14/metadata"
    swapped = {"10": "2", "2": "10"}
    for name in swapped:
        whole[f"{folder}/{swapped[name]}.npy"] = released[f"{folder}/{name}.npy"]
    made_up.write(tmp_path / "other/data", whole)
    assert splits_of(official(tmp_path / "other")) == splits_of(official(tmp_path))


@pytest.mark.parametrize(
    "base", ["lra_release/lra_release", "lra_release", ""], ids=["parent", "outer", "inner"]
)
def test_found_in_a_folder(tmp_path: Path, released: made_up.Files, base: str) -> None:
    # The task is told of the parent, of the outer folder, or of the inner one.
    inside = "lra_release/lra_release"
    files = {
        str(Path(base) / Path(name).relative_to(inside)): content
        for name, content in released.items()
    }
    made_up.write(tmp_path / "data", files)
    assert splits_of(official(tmp_path)) == expected_splits(released, "hard", INNER)


def test_the_folder_itself_may_be_named(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path, released)
    for data_dir in (tmp_path, tmp_path / "lra_release", tmp_path / "lra_release/lra_release"):
        task = Pathfinder(data_dir=data_dir, cache_dir=tmp_path / "cache", source="official")
        assert splits_of(task) == expected_splits(released, "hard", INNER)


def ordered(files: made_up.Files, order: str) -> list[tuple[str, bytes]]:
    members = sorted(files.items())
    if order == "images first":
        members.sort(key=lambda member: "/metadata/" in member[0])
    if order == "metadata first":
        members.sort(key=lambda member: "/imgs/" in member[0])
    if order == "shuffled":
        random.Random(0).shuffle(members)
    return members


@pytest.mark.parametrize("order", ["images first", "metadata first", "shuffled"])
@pytest.mark.parametrize(
    "name", ["lra_release.gz", "lra_release.tar", "lra_release/lra_release.gz"]
)
def test_found_in_the_archive(
    tmp_path: Path, released: made_up.Files, name: str, order: str
) -> None:
    path = tmp_path / "data" / name
    made_up.pack(path, ordered(released, order))
    task = official(tmp_path)
    assert splits_of(task) == expected_splits(released, "hard", INNER)
    assert task.info().details["read"] == f"archive {path.name}, {INNER}/curv_contour_length_14"
    # Neither unpacked, nor anything left behind.
    assert [found for found in (tmp_path / "data").rglob("*") if found.is_file()] == [path]
    folder = task.folder()
    assert folder is not None
    assert names_in(tmp_path / "cache") == {"checksums", folder.name}


@pytest.mark.parametrize("inside", ["pathfinder32/", "", "lra_release/pathfinder32/", "./"])
@pytest.mark.parametrize("name", ["pathfinder32.tar.gz", "pathfinder32.tar", "pathfinder32.gz"])
def test_found_in_an_archive_of_its_own(
    tmp_path: Path, released: made_up.Files, name: str, inside: str
) -> None:
    files = {
        inside + key.removeprefix(f"{INNER}/"): content
        for key, content in released.items()
        if key.startswith(INNER)
    }
    made_up.pack(tmp_path / "data" / name, ordered(files, "shuffled"))
    task = official(tmp_path)
    assert splits_of(task) == expected_splits(released, "hard", INNER)
    made_up.write(tmp_path / "folder/data", released)
    assert official(tmp_path / "folder").fingerprint() == task.fingerprint()


@pytest.mark.parametrize("packed", [False, True])
def test_the_inner_copy_is_preferred(tmp_path: Path, packed: bool) -> None:
    files = made_up.release(resolution=128)
    if packed:
        # The outer copy comes first.
        members = sorted(files.items(), key=lambda member: "/lra_release/" in member[0])
        made_up.pack(tmp_path / "data/lra_release.gz", members)
    else:
        made_up.write(tmp_path / "data", files)
    task = official(tmp_path, resolution=128, difficulty="easy")
    inner, outer = (
        expected_splits(files, "easy", f"{base}/pathfinder128")
        for base in ("lra_release/lra_release", "lra_release")
    )
    assert splits_of(task) == inner != outer


@pytest.mark.parametrize("kind", ["U12", "S12", ">U14", "S60"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_metadata_as_the_generator_writes_them(
    tmp_path: Path, released: made_up.Files, kind: str, version: tuple[int, int]
) -> None:
    files = dict(released)
    for name, content in released.items():
        if name.endswith(".npy"):
            fields = [line.split() for line in content.decode().splitlines()]
            files[name] = as_array(np.array(fields).astype(kind), version)
    made_up.write(tmp_path / "data", files)
    assert splits_of(official(tmp_path)) == expected_splits(released, "hard", INNER)


def test_an_array_that_python_2_wrote() -> None:
    content = as_array(np.array(FIELDS).astype("S12"))
    old = content.replace(b"(5, 11), }  ", b"(5L, 11L), }")
    assert old != content
    assert parse_metadata(old, "x") == parse_metadata(content, "x")
    assert [(row.name, row.label, row.number) for row in parse_metadata(old, "x")] == [
        (f"imgs/3/sample_{at}.png", at % 2, at + 1) for at in range(5)
    ]


def test_same_images_from_folder_and_archive(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    made_up.pack(tmp_path / "packed/data/lra_release.gz", released.items())
    packed = official(tmp_path / "packed")
    assert packed.fingerprint() == official(tmp_path).fingerprint()


def test_a_few_images_are_no_official_set(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path)
    task.prepare()
    info = task.info()
    assert info.source == "official 32x32 hard, not the official set"
    assert info.details["empty_files"] == f"1 dropped: {made_up.EMPTY}"
    assert info.details["read"] == f"folder {INNER}, curv_contour_length_14"
    for number in ("48", "200,000", "curv_contour_length_14"):
        assert number in info.warning
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert problems == {"official set": info.warning}


def test_the_official_number_is_the_official_set(tmp_path: Path, released: made_up.Files) -> None:
    assert pathfinder.OFFICIAL_COUNT == 200_000
    made_up.write(tmp_path / "data", released)
    task = official(tmp_path, official_count=made_up.NUM_IMAGES)
    task.prepare()
    assert (task.info().source, task.info().warning) == ("official 32x32 hard", "")
    assert [check.problem for check in task.verify()] == [None] * 3


@pytest.mark.parametrize("packed", [False, True])
def test_prepared_images_outlive_the_release(
    tmp_path: Path, released: made_up.Files, packed: bool
) -> None:
    if packed:
        made_up.pack(tmp_path / "data/lra_release.gz", released.items())
    else:
        made_up.write(tmp_path / "data", released)
    task = official(tmp_path)
    task.prepare()
    shutil.rmtree(tmp_path / "data")
    again = official(tmp_path)
    assert again.is_prepared()
    assert again.folder() == task.folder()
    assert again.fingerprint() == task.fingerprint()
    # Other images are not there.
    other = official(tmp_path, difficulty="easy")
    assert not other.is_prepared()
    with pytest.raises(UserError, match="put the unpacked lra_release or its archive"):
        other.prepare()


def test_changed_files_are_read_again(tmp_path: Path, released: made_up.Files) -> None:
    made_up.write(tmp_path / "data", released)
    first = official(tmp_path).fingerprint()
    path = tmp_path / "data" / INNER / "curv_contour_length_14/metadata/4.npy"
    path.write_bytes(path.read_bytes().replace(b".png 3 0 ", b".png 3 7 ").replace(b" 7 ", b" 1 "))
    status = path.stat()
    path.write_bytes(made_up.metadata_text([made_up.metadata_line(4, at, 1) for at in range(4)]))
    # The clock of the file system may be coarser than this test is fast.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert official(tmp_path).fingerprint() != first


def test_progress_of_reading(tmp_path: Path, released: made_up.Files) -> None:
    made_up.pack(tmp_path / "data/lra_release.gz", released.items())
    told: list[Progress] = []
    official(tmp_path).prepare(told.append)
    assert told[-1] == Progress("encoding images", 47, 47)
    size = (tmp_path / "data/lra_release.gz").stat().st_size
    assert Progress("reading lra_release.gz [bytes]", size, size) in told
