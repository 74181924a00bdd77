from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pathfinders import (
    SMALL,
    make,
    names_in,
    rows_of,
    small,
)
from PIL import Image

from lra_bench.cli import main
from lra_bench.errors import UserError
from lra_bench.types import SPLITS, Split
from lra_tasks import pathfinder
from lra_tasks._pathfinder_draw import (
    RESOLUTIONS,
)
from lra_tasks._store import Chunk
from lra_tasks._store_writer import writing

OPENING = """
    import sys
    from pathlib import Path
    sys.modules["PIL"] = None
    from lra_tasks.pathfinder import Pathfinder

    class NoDrawing(Pathfinder):
        def encode(self, source, writer, progress):
            raise AssertionError("it is prepared")

    folder = Path(sys.argv[1])
    task = NoDrawing(data_dir=folder / "data", cache_dir=folder / "cache", **eval(sys.argv[2]))
    assert task.is_prepared() and task.folder()
    task.prepare()
    example = task.examples("test")[1]
    assert task.picture(example).shape == (32, 32) and task.decode(example)
    assert "tensorflow_datasets" not in sys.modules and "torch" not in sys.modules
    print(task.fingerprint())
"""


def test_prepared_images_are_opened_without_drawing(tmp_path: Path) -> None:
    task = small(tmp_path)
    task.prepare()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OPENING), str(tmp_path), repr(SMALL)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [task.fingerprint()]


def test_what_shapes_the_images_names_the_cache(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"difficulty": "hard"},
        {"contours": "apart"},
        {"num_train": 3},
        {"num_validation": 2, "num_test": 2},
        {"resolution": 64},
    ]
    few = SMALL | {"num_train": 4, "num_validation": 1, "num_test": 1}
    fingerprints = {make(tmp_path, **few | one).fingerprint() for one in variants}
    assert len(fingerprints) == len(names_in(tmp_path / "cache")) == len(variants)


def test_what_a_generated_task_says_of_itself(tmp_path: Path) -> None:
    task = small(tmp_path, seed=4)
    assert (task.spec.name, task.spec.vocab_size, task.spec.max_length) == ("pathfinder", 256, 1024)
    assert (task.spec.num_classes, task.spec.num_inputs, task.spec.majority_baseline) == (2, 1, 0.5)
    assert task.info().num_examples == {"train": 13, "validation": 5, "test": 3}
    assert (task.info().origin, task.info().source) == ("generated here", "")
    assert names_in(tmp_path) == set()
    task.prepare()
    info = task.info()
    assert info.source == (
        "generated 32x32 easy, contours published, seed 4, generator "
        f"{pathfinder.GENERATOR_VERSION}"
    )
    assert (info.warning, info.note, info.details) == ("", "", {})
    example = task.examples("train")[0]
    picture = task.picture(example)
    assert picture.shape == (32, 32)
    assert picture.tobytes() == example.inputs[0].tobytes()
    said = {label: task.decode(replace(example, target=label)) for label in (0, 1)}
    assert said == {
        0: "the two discs sit on different contours",
        1: "the two discs sit on one contour",
    }


@pytest.mark.parametrize("size", RESOLUTIONS)
def test_of_whatever_size_it_is_one_task(tmp_path: Path, size: int) -> None:
    task = make(tmp_path, resolution=size)
    assert task.spec.name == "pathfinder"
    # What a message says can be typed.
    words = "task=pathfinder" if size == 32 else f"task=pathfinder task.resolution={size}"
    assert task.words() == words


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"resolution": 48}, "task.resolution=48 is not one of 32, 64, 128, 256"),
        ({"difficulty": "medium"}, "task.difficulty=medium is not one of easy, interm"),
        ({"source": "released"}, "task.source=released is not one of generated, official"),
        ({"contours": "far"}, "task.contours=far is not one of published, apart"),
        ({"num_train": 0}, "must be at least 1"),
        ({"num_validation": -3}, "must be at least 1"),
        ({"num_test": 0}, "must be at least 1"),
        ({"seed": -1}, "task.seed=-1 must lie between"),
        ({"seed": 1 << 32}, "task.seed=4294967296 must lie between"),
        ({"source": "official", "contours": "apart"}, "task.contours=apart is for"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        make(tmp_path, **options)
    assert names_in(tmp_path) == set()


# Verifying.


def test_verify(tmp_path: Path) -> None:
    task = small(tmp_path)
    task.prepare()
    checks = list(small(tmp_path).verify())
    assert [check.problem for check in checks] == [None] * 5
    assert [check.what for check in checks[3:]] == [
        "the first 3 test images, drawn again",
        "their contours and discs",
    ]


@pytest.mark.parametrize("name", ["train.tokens", "train.labels", "test.tokens"])
def test_verify_finds_an_edited_cache(tmp_path: Path, name: str) -> None:
    task = small(tmp_path)
    task.prepare()
    folder = task.folder()
    assert folder is not None
    path = folder / name
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    problems = {check.what: check.problem for check in task.verify() if check.problem}
    assert name in str(next(iter(problems.values())))
    assert len(problems) == (2 if name.startswith("test") else 1)


Change = Callable[[dict[Split, tuple[NDArray[np.uint8], NDArray[np.int64]]]], None]


def other_pixel(splits: Any) -> None:
    splits["test"][0][2, 500] ^= 1


def other_label(splits: Any) -> None:
    splits["test"][1][0] ^= 1


def one_less(splits: Any) -> None:
    splits["train"] = tuple(part[:-1] for part in splits["train"])


def too_few_to_compare(splits: Any) -> None:
    splits["test"] = tuple(part[:1] for part in splits["test"])


def one_less_to_test(splits: Any) -> None:
    splits["test"] = tuple(part[1:] for part in splits["test"])


def longer(splits: Any) -> None:
    splits["test"] = np.pad(splits["test"][0], ((0, 0), (0, 1))), splits["test"][1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (other_pixel, "not what the generator draws from this seed, from number 2 on"),
        (other_label, "not what the generator draws from this seed, from number 0 on"),
        (longer, "not what the generator draws"),
        (one_less, "'train': 12, .* not .*'train': 13"),
        (too_few_to_compare, "'test': 1\\b.* not .*'test': 3"),
        (one_less_to_test, "'test': 2"),
    ],
)
def test_verify_finds_images_that_the_seed_does_not_draw(
    tmp_path: Path, change: Change, problem: str
) -> None:
    task = small(tmp_path)
    task.prepare()
    place = task.folder()
    assert place is not None
    splits: dict[Split, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
    for split in SPLITS:
        rows = rows_of(task, split)
        pixels = np.array([np.frombuffer(pixels, np.uint8) for pixels, _ in rows])
        splits[split] = pixels, np.array([label for _, label in rows])
    info, options = task.info(), task.options()
    change(splits)
    shutil.rmtree(place)
    with writing(place) as cache:
        for split, (pixels, labels) in splits.items():
            lengths = np.full(len(labels), pixels.shape[1])
            cache.add(split, [Chunk(pixels.ravel(), lengths, labels)])
        cache.info, cache.options = info, options
    checks = list(small(tmp_path).verify())
    assert [check.problem for check in checks[:3]] == [None] * 3
    (found,) = [check for check in checks if check.problem]
    assert found.what == "the first 3 test images, drawn again"
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(found.problem)


# The command line.


def test_the_data_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task=pathfinder", "setting=smoke", f"cache_dir={tmp_path / 'cache'}"]
    assert main(["data", "prepare", *words]) == 0
    assert "train: 64 examples" in capsys.readouterr().out
    assert main(["data", "verify", *words]) == 0
    said = capsys.readouterr()
    assert "pathfinder: 5 checks, all good" in said.out
    assert "the first 16 test images, drawn again" in said.err
    assert main(["data", "show", *words, "index=3"]) == 0
    shown = capsys.readouterr().out
    assert "contour" in shown
    assert "1,024" in shown
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", *words, "count=4", "--save", str(sheet)]) == 0
    with Image.open(sheet) as image:
        assert image.format == "PNG"
        assert min(image.size) > 32
        assert image.convert("L").getextrema() == (0, 255)
    assert main(["data", "show", *words, "index=16"]) == 2
