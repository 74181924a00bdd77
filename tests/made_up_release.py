"""A tiny release with the oddities of the real one: here its Pathfinder part.

Files are a dictionary from path to content, which a test changes before it is written to a folder
or packed.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Files = dict[str, bytes]

PATHFINDER_FOLDERS = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}
# More than ten metadata files: sorted as texts, 10 and 11 would come before 2.
NUM_METADATA = 12
IMAGES_EACH = 4
NUM_IMAGES = NUM_METADATA * IMAGES_EACH
# The release has such a file: of no bytes.
EMPTY = "imgs/0/sample_2.png"


def png(pixels: NDArray[np.generic]) -> bytes:
    """Return an image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def metadata_line(batch: int, at: int, label: int, *, contour_length: int = 14) -> list[str]:
    """Return the eleven fields of an image."""
    number = str(at)
    what = ["1.0", str(contour_length), str(contour_length // 3), "2", "0.5", "1", "1"]
    return [f"imgs/{batch}", f"sample_{number}.png", number, str(label), *what]


def metadata_text(lines: Iterable[list[str]], end: str = "\n") -> bytes:
    """Return a metadata file as the release has it: text."""
    return "".join(" ".join(fields) + end for fields in lines).encode()


def pathfinder(difficulty: str, *, resolution: int = 32, seed: int = 0) -> Files:
    """Return one difficulty's files: 48 random images and labels, one of the images empty."""
    rng = np.random.default_rng([seed, resolution, len(difficulty)])
    files: Files = {}
    for batch in range(NUM_METADATA):
        lines = []
        for at in range(IMAGES_EACH):
            pixels = rng.integers(256, size=(resolution, resolution), dtype=np.uint8)
            line = metadata_line(batch, at, int(rng.integers(2)))
            files[f"{line[0]}/{line[1]}"] = png(pixels)
            lines.append(line)
        # Lines end in one way or another, and the last one of a file perhaps not at all.
        text = metadata_text(lines, "\r\n" if batch % 3 == 1 else "\n")
        files[f"metadata/{batch}.npy"] = text.rstrip() if batch % 3 == 2 else text
    files[EMPTY] = b""
    return files


def below(folder: str, files: Mapping[str, bytes]) -> Files:
    """Return files moved into a folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def release(*, resolution: int = 32, outer: int = 128) -> Files:
    """Return the whole tree.

    Args:
        resolution: Side of the images in the inner copy.
        outer: Side of the images of which there is an outer copy, too, and another one.
    """
    inner = "lra_release/lra_release"
    files: Files = {}
    for difficulty, folder in PATHFINDER_FOLDERS.items():
        some = pathfinder(difficulty, resolution=resolution)
        files |= below(f"{inner}/pathfinder{resolution}/{folder}", some)
        if outer == resolution:
            other = pathfinder(difficulty, resolution=resolution, seed=1)
            files |= below(f"lra_release/pathfinder{outer}/{folder}", other)
    return files


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def pack(path: Path, files: Iterable[tuple[str, bytes | tarfile.TarInfo]]) -> None:
    """Write an archive, compressed unless it is called .tar, with members in the order given.

    A member that is no plain file comes as its header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, content in files:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    path.write_bytes(file.getvalue())
