"""Showing data to people: a table of tasks, texts, pictures in a terminal or a file, lengths.

Shapes: H height, W width, N examples.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, zip_longest
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from lra_bench.errors import UserError
from lra_bench.types import (
    SPLITS,
    Example,
    Examples,
    LengthsKnown,
    Progress,
    ProgressCallback,
    Split,
    Task,
    TaskSpec,
    ignore_progress,
)

Picture = NDArray[np.uint8]

# From black to white, for a light font on a dark ground.
_RAMP = np.array(list(" .:-=+*#%@"))
_UPPER_HALF, _BAR = "▀", "█"
_RESET = "\x1b[0m"
_HEADER = ("task", "longest", "classes", "train", "valid.", "test", "majority", "prepared")
_MAX_BINS = 10
_MAX_BAR = 40
# Of a contact sheet: pictures a row, about how large each becomes, and the rest [pixels].
_SHEET_COLUMNS, _SHEET_SIDE, _SHEET_GAP, _SHEET_CAPTION = 8, 128, 6, 14
_SHEET_GROUND, _SHEET_INK = 208, 0


@dataclass(frozen=True)
class Screen:
    """What can be shown where the output goes.

    Args:
        width: Columns.
        colors: How shades of gray are asked for: with 24 bits, out of 256 colors, or not at all.
        is_terminal: Whether somebody looks at it now.
        encoding: Of the characters.
    """

    width: int = 100
    colors: Literal["none", "256", "24bit"] = "none"
    is_terminal: bool = False
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """Return what a stream can show."""
        width = shutil.get_terminal_size((100, 24)).columns
        encoding = stream.encoding or "ascii"
        if not stream.isatty():
            return cls(width, encoding=encoding)
        terminal = os.environ.get("TERM", "dumb")
        colors: Literal["none", "256", "24bit"] = "none"
        if terminal != "dumb" and not os.environ.get("NO_COLOR"):
            if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
                colors = "24bit"
            elif "256color" in terminal:
                colors = "256"
        return cls(width, colors, is_terminal=True, encoding=encoding)

    def can_show(self, characters: str) -> bool:
        """Return whether the encoding has the characters."""
        try:
            characters.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True

    def printable(self, text: str) -> str:
        """Return a text whose control characters cannot act on a terminal, in the encoding."""
        safe = "".join(
            character
            if character in "\n\t" or unicodedata.category(character)[0] != "C"
            else character.encode("unicode_escape").decode()
            for character in text
        )
        return safe.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def wrapped(self, text: str) -> str:
        """Return a text broken between words for a terminal, as it is for anything else."""
        if not self.is_terminal:
            return text
        return "\n".join(
            textwrap.fill(line, self.width, replace_whitespace=False, drop_whitespace=False)
            for line in text.split("\n")
        )


# A table of tasks.


@dataclass(frozen=True)
class Summary:
    """What the table of tasks says about one.

    Args:
        name: How the task is asked for.
        spec: None if the task cannot be built.
        num_examples: Of each split, where known.
        prepared: ``yes`` and the size on disk, ``no``, ``broken``, or ``-`` if the task does not
            tell.
        origin: Where the data come from.
        terms: Licence or terms of use.
        notes: What everybody must know about them.
    """

    name: str
    spec: TaskSpec | None = None
    num_examples: Mapping[Split, int] = field(default_factory=dict)
    prepared: str = "no"
    origin: str = ""
    terms: str = ""
    notes: Sequence[str] = ()


def summarize(name: str, task: Task) -> Summary:
    """Say what can be known of a task without preparing anything; what is broken is said, too."""
    numbers: dict[Split, int] = {}
    prepared, origin, terms = "no", "", ""
    notes: list[str] = []
    try:
        about = task.about()
        numbers, origin, terms = dict(about.num_examples), about.origin, about.terms
        if type(task).is_prepared is Task.is_prepared:
            prepared = "-"
        elif task.is_prepared():
            numbers = {split: len(task.examples(split)) for split in SPLITS}
            found = task.provenance()
            origin = found.get("source", origin)
            notes = [f"{key}: {found[key]}" for key in ("warning", "note") if key in found]
            folder = task.folder()
            prepared = "yes" if folder is None else f"yes, {in_bytes(size_of(folder))}"
    except (UserError, OSError) as error:
        prepared, notes = "broken", [*notes, f"problem: {error}"]
    return Summary(name, task.spec, numbers, prepared, origin, terms, notes)


def table_of(summaries: Sequence[Summary], width: int) -> str:
    """Return the numbers of all tasks, one line each, and below where their data come from."""
    rows: list[Sequence[str]] = [_HEADER, *map(_row, summaries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(size) for cell, size in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    lines += ["", "where the data come from, and their terms"]
    indent = " " * (4 + widths[0])
    for summary in summaries:
        terms = f" (terms: {summary.terms})" if summary.terms else ""
        said = [f"{summary.origin}{terms}".strip(), *summary.notes]
        for at, text in enumerate(filter(None, said)):
            first = f"  {summary.name.ljust(widths[0])}  " if at == 0 else indent
            lines += textwrap.wrap(
                text, max(width, 60), initial_indent=first, subsequent_indent=indent
            )
    lines += [
        "",
        "longest: input [tokens]; majority: accuracy of the most frequent class",
    ]
    return "\n".join(lines)


def _row(summary: Summary) -> Sequence[str]:
    numbers = [
        f"{summary.num_examples[split]:,}" if split in summary.num_examples else "?"
        for split in SPLITS
    ]
    spec = summary.spec
    if spec is None:
        return (summary.name, "?", "?", *numbers, "?", summary.prepared)
    longest = f"{spec.max_length:,}"
    if spec.num_inputs > 1:
        longest = f"{spec.num_inputs} x {longest}"
    baseline = spec.majority_baseline
    majority = "?" if baseline is None else f"{baseline:.1%}"
    return (summary.name, longest, f"{spec.num_classes}", *numbers, majority, summary.prepared)


def size_of(folder: Path) -> int:
    """Return the size of all files below a folder [bytes]."""
    return sum(
        (Path(base) / name).stat().st_size for base, _, names in os.walk(folder) for name in names
    )


def in_bytes(number: int) -> str:
    """Return a size as people write it, for example 112 MB."""
    if number < 1000:
        return f"{number} bytes"
    power = min(int(math.log10(number)) // 3, 4)
    scaled = number / 1000**power
    return f"{scaled:.{int(scaled < 10)}f} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


# One example, or several.


@dataclass(frozen=True)
class Selection:
    """Some examples of a split.

    Args:
        task: Whose they are.
        split: Which one.
        indices: Their places in it.
        examples: The same number.
        pictures: Likewise, or none at all if not every one is a picture.
    """

    task: Task
    split: Split
    indices: range
    examples: Sequence[Example]
    pictures: Sequence[Picture]


def select(task: Task, examples: Examples, split: Split, index: int, number: int) -> Selection:
    """Take ``number`` examples of a split from ``index`` on, or as many as there are.

    Raises:
        UserError: The task gives as a picture what is none.
    """
    indices = range(index, min(index + number, len(examples)))
    chosen = [examples[at] for at in indices]
    pictures = [picture_of(task, example) for example in chosen]
    known = [picture for picture in pictures if picture is not None]
    return Selection(task, split, indices, chosen, known if len(known) == len(chosen) else ())


def as_text(selection: Selection, screen: Screen) -> str:
    """Return the examples as they can be printed, each with its label, length and place."""
    texts = []
    for index, example in zip(selection.indices, selection.examples, strict=True):
        lengths = " and ".join(f"{len(tokens):,}" for tokens in example.inputs)
        about = (
            f"label {example.target}, length {lengths} tokens, {selection.split} example {index}"
        )
        said = screen.printable(_decoded(selection.task, example))
        if not selection.pictures:
            texts.append(f"{screen.wrapped(said)}\n\n{about}")
        elif "\n" not in said and len(said) <= screen.width:
            # What a picture shows may have a name; its tokens tell nothing.
            about = f"{said}\n{about}"
    if not selection.pictures:
        return f"\n\n{'-' * 20}\n\n".join(texts)
    if len(selection.pictures) == 1:
        return f"{_side_by_side(selection.pictures, [''], screen)}\n{about}"
    return _side_by_side(selection.pictures, _captions(selection), screen)


def as_sheet(selection: Selection) -> bytes:
    """Return a PNG file of the pictures in rows, each enlarged and with its caption below."""
    return _contact_sheet(selection.pictures, _captions(selection))


def _captions(selection: Selection) -> list[str]:
    return [
        f"{index}: label {example.target}"
        for index, example in zip(selection.indices, selection.examples, strict=True)
    ]


def _decoded(task: Task, example: Example) -> str:
    """Return an example as text; the inputs of one that has several are told apart."""
    if len(example.inputs) == 1 or type(task).decode is not Task.decode:
        return task.decode(example)
    return "\n\n".join(
        f"input {number}:\n{task.decode(Example((tokens,), example.target))}"
        for number, tokens in enumerate(example.inputs, start=1)
    )


def picture_of(task: Task, example: Example) -> Picture | None:
    """Return an example as a picture, shape (H, W), or None if it is none.

    Raises:
        UserError: The task gives something else.
    """
    picture: Any = task.picture(example)
    if picture is None:
        return None
    shape, kind = getattr(picture, "shape", None), getattr(picture, "dtype", None)
    if shape is None or len(shape) != 2 or 0 in shape or kind != np.uint8:
        raise UserError(
            f"the picture of task {task.spec.name} has shape {shape} and type {kind}; it must be "
            f"an array of uint8, shape (height, width)"
        )
    return cast(Picture, picture)


def _side_by_side(pictures: Sequence[Picture], captions: Sequence[str], screen: Screen) -> str:
    """Return pictures as text, as many beside each other as there is room for."""
    blocks = []
    for picture, caption in zip(pictures, captions, strict=True):
        lines, width = _draw(picture, screen)
        # Colors have no width, so that each line is filled up by what is known of it.
        cell = max(width, len(caption))
        block = [line + " " * (cell - width) for line in lines] + [caption.ljust(cell)]
        blocks.append((cell, block))
    cell = max(cell for cell, _ in blocks)
    # Without colors, black pictures have no edges.
    gap = " | " if screen.colors == "none" else "  "
    columns = max(1, (screen.width + len(gap)) // (cell + len(gap)))
    rows = []
    for start in range(0, len(blocks), columns):
        some = blocks[start : start + columns]
        empty = [" " * width for width, _ in some]
        for line in zip_longest(*(block for _, block in some)):
            cells = [
                (part or nothing) + " " * (cell - len(nothing))
                for part, nothing in zip(line, empty, strict=True)
            ]
            rows.append(gap.join(cells).rstrip())
        rows.append("")
    return "\n".join(rows[:-1])


def _draw(picture_HW: Picture, screen: Screen) -> tuple[list[str], int]:
    """Return the lines of a picture, two rows of pixels each, and their visible width."""
    from PIL import Image

    factor = -(-picture_HW.shape[1] // screen.width)
    if factor > 1:
        picture_HW = np.asarray(Image.fromarray(picture_HW).reduce(factor))
    if picture_HW.shape[0] % 2:
        picture_HW = np.concatenate([picture_HW, np.zeros_like(picture_HW[:1])])
    upper, lower = picture_HW[::2], picture_HW[1::2]
    if screen.colors == "none" or not screen.can_show(_UPPER_HALF):
        # A line is thinner than a pair of rows: the mean would lose it.
        shades = np.maximum(upper, lower).astype(np.int64) * len(_RAMP) // 256
        return ["".join(row) for row in _RAMP[shades]], picture_HW.shape[1]
    return [
        _in_color(above, below, screen.colors)
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True)
    ], picture_HW.shape[1]


def _in_color(above: Sequence[int], below: Sequence[int], colors: str) -> str:
    parts, last = [], None
    for pair in zip(above, below, strict=True):
        if pair != last:
            top, bottom = (_color(value, colors) for value in pair)
            parts.append(f"\x1b[38;{top};48;{bottom}m")
            last = pair
        parts.append(_UPPER_HALF)
    return "".join(parts) + _RESET


def _color(value: int, colors: str) -> str:
    if colors == "24bit":
        return f"2;{value};{value};{value}"
    # Of 256 colors, 232 to 255 are the grays 8, 18 ... 238; 16 is black and 231 white.
    step = round((value - 8) / 10)
    return f"5;{16 if step < 0 else 231 if step > 23 else 232 + step}"


def _contact_sheet(pictures: Sequence[Picture], captions: Sequence[str]) -> bytes:
    """Return a PNG file of pictures in rows, each enlarged and with its caption below."""
    from PIL import Image, ImageDraw, ImageFont

    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    scale = max(1, _SHEET_SIDE // max(height, width))
    cell_width = scale * width + _SHEET_GAP
    cell_height = scale * height + _SHEET_CAPTION + _SHEET_GAP
    columns = min(len(pictures), _SHEET_COLUMNS)
    rows = -(-len(pictures) // columns)
    size = (columns * cell_width + _SHEET_GAP, rows * cell_height + _SHEET_GAP)
    sheet = Image.new("L", size, _SHEET_GROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for at, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _SHEET_GAP + at % columns * cell_width
        top = _SHEET_GAP + at // columns * cell_height
        enlarged = picture.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet.paste(Image.fromarray(enlarged), (left, top))
        pen.text((left, top + scale * height + 1), caption, fill=_SHEET_INK, font=font)
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


# Files.


def check_target(path: Path) -> None:
    """Find out at once whether a file could be saved.

    Raises:
        UserError: The suffix is unknown, or the place cannot be written.
    """
    if path.suffix not in (".png", ".txt"):
        raise UserError(
            f"--save {path}: the name must end in .png (pictures) or .txt (examples as text)"
        )
    if path.is_dir():
        raise UserError(f"--save {path} is a folder; name a file")
    probe = _draft(path)
    try:
        probe.write_bytes(b"")
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def save(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: It cannot be written; what was there before is untouched.
    """
    draft = _draft(path)
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _unwritable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(f"cannot write --save {path}: {reason}; name another file")


# A whole split.


@dataclass(frozen=True)
class Statistics:
    """What is counted over a split.

    Args:
        lengths: Of the longest input of each example [tokens], shape (N,).
        label_counts: Examples of each label.
    """

    lengths: NDArray[np.int64]
    label_counts: Mapping[int, int]


def statistics_of(examples: Examples, progress: ProgressCallback = ignore_progress) -> Statistics:
    """Count over all examples; their tokens are read only where the lengths are not known."""
    known = cast(LengthsKnown, examples).lengths() if hasattr(examples, "lengths") else None
    lengths, labels = [], Counter[int]()
    for index in range(len(examples)):
        example = examples[index]
        labels[int(example.target)] += 1
        if known is None:
            lengths.append(max(map(len, example.inputs)))
        if index % 1000 == 999:
            progress(Progress("counting examples", index + 1, len(examples)))
    return Statistics(np.array(lengths, np.int64) if known is None else known, labels)


def overview_of(statistics: Statistics, split: Split, spec: TaskSpec, screen: Screen) -> str:
    """Return how long the examples of a split are, and how many each label has."""
    lengths = statistics.lengths
    number = f"{len(lengths):,} {split} examples"
    if not len(lengths):
        return f"{split} has no examples"
    inputs = "the longer input of each; " if spec.num_inputs > 1 else ""
    low, high = int(lengths.min()), int(lengths.max())
    if low == high:
        lines = [f"{number}, all of {high:,} tokens"]
    else:
        middle, mean = np.median(lengths), lengths.mean()
        lines = [f"{number}, lengths [tokens]: {inputs}{low:,} to {high:,}"]
        lines[0] += f", median {middle:,.0f}, mean {mean:,.0f}"
        lines += _bars(lengths, screen)
        full = int((lengths == spec.max_length).sum())
        lines.append(
            f"{full:,} ({full / len(lengths):.1%}) have max_length={spec.max_length:,} tokens: cut "
            f"to it, or just as long"
            if full
            else f"none is cut (max_length={spec.max_length:,})"
        )
    counted = sorted(statistics.label_counts.items())
    # A label and its number stay together.
    labels = ", ".join(f"{label}:\0{examples:,}" for label, examples in counted)
    lines += textwrap.wrap(f"labels  {labels}", screen.width, subsequent_indent=" " * 8)
    return "\n".join(lines).replace("\0", " ")


def _bars(lengths: NDArray[np.int64], screen: Screen) -> Iterator[str]:
    low, high = int(lengths.min()), int(lengths.max())
    step = next(step for step in _round_numbers() if high // step - low // step < _MAX_BINS)
    first = low // step
    heights = np.bincount(lengths // step - first).tolist()
    edges = [
        (f"{max((first + at) * step, low):,}", f"{min((first + at + 1) * step - 1, high):,}")
        for at in range(len(heights))
    ]
    size = len(edges[-1][1])
    room = min(_MAX_BAR, max(screen.width - 2 * size - 18, 10))
    bar = _BAR if screen.can_show(_BAR) else "#"
    for (start, stop), height in zip(edges, heights, strict=True):
        # Few are not none.
        drawn = bar * max(round(room * height / max(heights)), int(height > 0))
        yield f"  {start:>{size}} to {stop:>{size}}  {f'{drawn} ' if drawn else ''}{height:,}"


def _round_numbers() -> Iterator[int]:
    for power in count():
        yield from (digit * 10**power for digit in (1, 2, 5))
