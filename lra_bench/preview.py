"""Examples as people see them: text, pictures in a terminal or a file, lengths of a split.

Shapes: H height, W width, N examples.
"""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lra_bench.console import Screen
from lra_bench.errors import UserError
from lra_bench.files import draft_of, reason, write_atomically
from lra_bench.promises import question_length
from lra_bench.types import (
    IGNORED,
    Example,
    Examples,
    Progress,
    ProgressCallback,
    Split,
    Task,
    TaskSpec,
    ignore_progress,
    lengths_of,
)

Picture = NDArray[np.uint8]

# From black to white, for a light font on a dark ground.
_RAMP = np.array(list(" .:-=+*#%@"))
_UPPER_HALF, _BAR = "▀", "█"
_RESET = "\x1b[0m"
_MAX_BINS = 10
_MAX_BAR = 40
_MAX_LABELS = 50
# Of a contact sheet: pictures a row, about how large each becomes, and the rest [pixels].
_SHEET_COLUMNS, _SHEET_SIDE, _SHEET_GAP, _SHEET_CAPTION = 8, 128, 6, 14
_SHEET_GROUND, _SHEET_INK = 208, 0


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
    chosen = [examples[place] for place in indices]
    pictures = [picture_of(task, example) for example in chosen] if task.has_pictures else []
    known = [picture for picture in pictures if picture is not None]
    return Selection(task, split, indices, chosen, known if len(known) == len(chosen) else ())


def as_text(selection: Selection, screen: Screen) -> str:
    """Return the examples as they can be printed, each with its target, length and place."""
    texts = []
    for index, example in zip(selection.indices, selection.examples, strict=True):
        lengths = " and ".join(f"{len(tokens):,}" for tokens in example.inputs)
        target = target_in_words(selection.task.spec, example)
        about = f"{target}, length {lengths} tokens, {selection.split} example {index}"
        said = screen.printable(selection.task.decode(example))
        if not selection.pictures:
            answer = screen.printable(_answer(selection.task, example))
            parts = [screen.wrapped(said), *([screen.wrapped(answer)] if answer else []), about]
            texts.append("\n\n".join(parts))
        elif "\n" not in said and len(said) <= screen.width:
            # What a picture shows may have a name; its tokens tell nothing.
            about = f"{said}\n{about}"
    if not selection.pictures:
        return f"\n\n{'-' * 20}\n\n".join(texts)
    if len(selection.pictures) == 1:
        return f"{_side_by_side(selection.pictures, [''], screen)}\n{about}"
    return _side_by_side(selection.pictures, _captions(selection), screen)


def target_in_words(spec: TaskSpec, example: Example) -> str:
    """Return what is to be answered about an example, in a few words."""
    if spec.is_corpus:
        return "nothing is asked"
    if spec.target == "class":
        return f"label {example.target}"
    target = np.asarray(example.target)
    if spec.target == "choice":
        number = int((example.inputs[0] == spec.candidate).sum())
        return f"candidate {target + 1:,} of {number:,}"
    if spec.target == "spans":
        return f"answers at {len(target):,} places"
    if spec.target == "span":
        return f"answer at tokens {target[0]:,} to {target[1]:,}"
    return f"labels at {int((target != IGNORED).sum()):,} of {len(target):,} tokens"


def _answer(task: Task, example: Example) -> str:
    """Return an answer that is longer than a few words; nothing if there is no such answer."""
    if task.spec.target == "class":
        return ""
    target = np.asarray(example.target)
    if task.spec.target == "tokens":
        labels = ("." if label == IGNORED else str(label) for label in target.tolist())
        return f"labels: {' '.join(labels)}"
    tokens = example.inputs[0]
    if task.spec.target == "choice":
        starts = np.flatnonzero(tokens == task.spec.candidate)
        ends = [*starts[1:], (question_length(tokens, task.spec.context) or len(tokens) + 1) - 1]
        spans = [(starts[int(target)] + 1, ends[int(target)] - 1)]
    else:
        spans = np.reshape(target, (-1, 2)).tolist()
    # An answer alone is an example as well, of which it is the whole.
    answers = (
        task.decode(Example((tokens[first : last + 1],), np.array([0, last - first])))
        for first, last in spans
    )
    said = ", ".join(dict.fromkeys(answers))
    return f"answer: {said or 'none'}"


def as_sheet(selection: Selection) -> bytes:
    """Return a PNG file of the pictures in rows, each enlarged and with its caption below."""
    return _contact_sheet(selection.pictures, _captions(selection))


def _captions(selection: Selection) -> list[str]:
    return [
        f"{index}: {target_in_words(selection.task.spec, example)}"
        for index, example in zip(selection.indices, selection.examples, strict=True)
    ]


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
        row = blocks[start : start + columns]
        empty = [" " * width for width, _ in row]
        for line in zip_longest(*(block for _, block in row)):
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
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _SHEET_GAP + place % columns * cell_width
        top = _SHEET_GAP + place // columns * cell_height
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
    probe = draft_of(path)
    try:
        probe.write_bytes(b"")
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def save(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: It cannot be written; what was there before is untouched.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write --save {path}: {reason(error)}; name another file")


# A whole split.


@dataclass(frozen=True)
class Statistics:
    """What is counted over a split.

    Args:
        lengths: Of the longest input of each example [tokens], shape (N,).
        label_counts: How often each label is an answer, or the candidate of each number, from 1;
            nothing where answers are spans.
        answer_lengths: Of the spans [tokens], shape (N,), or (0,) where answers are none.
    """

    lengths: NDArray[np.int64]
    label_counts: Mapping[int, int]
    answer_lengths: NDArray[np.int64]


def statistics_of(
    examples: Examples, spec: TaskSpec, progress: ProgressCallback = ignore_progress
) -> Statistics:
    """Count over all examples; their tokens are read only where the lengths are not known."""
    labels = Counter[int]()
    spans = []
    for index in range(len(examples)):
        target = examples[index].target
        if spec.target in ("span", "spans"):
            ends = np.reshape(target, (-1, 2))
            spans += (ends[:, 1] - ends[:, 0] + 1).tolist()
        else:
            given = np.atleast_1d(target) + (spec.target == "choice")
            values, counts = np.unique(given[given != IGNORED], return_counts=True)
            labels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if index % 1000 == 999:
            progress(Progress("counting examples", index + 1, len(examples)))
    return Statistics(lengths_of(examples), labels, np.array(spans, np.int64))


def overview_of(statistics: Statistics, split: Split, spec: TaskSpec, screen: Screen) -> str:
    """Return how long the examples of a split are, and how often each answer is right."""
    lengths = statistics.lengths
    if not len(lengths):
        return f"{split} has no examples"
    number = f"{len(lengths):,} {split} examples"
    if lengths.min() == lengths.max():
        lines = [f"{number}, all of {lengths[0]:,} tokens"]
    else:
        inputs = "the longer input of each; " if spec.num_inputs > 1 else ""
        lines = [f"{number}, lengths [tokens]: {inputs}{_spread(lengths)}"]
        lines += _bars(lengths, screen)
        lines.append(_cut(lengths, spec.max_length))
    if len(statistics.answer_lengths):
        lines.append(f"answers [tokens]: {_spread(statistics.answer_lengths)}")
    if statistics.label_counts and not spec.is_corpus:
        lines += _labels(statistics.label_counts, screen.width)
    return "\n".join(lines)


def _spread(lengths: NDArray[np.int64]) -> str:
    middle, mean = np.median(lengths), lengths.mean()
    return f"{lengths.min():,} to {lengths.max():,}, median {middle:,.0f}, mean {mean:,.0f}"


def _cut(lengths: NDArray[np.int64], max_length: int) -> str:
    full = int((lengths == max_length).sum())
    if not full:
        return f"none is cut (max_length={max_length:,})"
    return (
        f"{full:,} ({full / len(lengths):.1%}) have max_length={max_length:,} tokens: cut to it, "
        f"or just as long"
    )


def _labels(counts: Mapping[int, int], width: int) -> Iterator[str]:
    """Yield the lines that say how often each label is an answer."""
    shown = sorted(counts.items())
    if len(shown) > _MAX_LABELS:
        shown = sorted(Counter(counts).most_common(_MAX_LABELS))
    # A label and its number stay together.
    pairs = [f"{label}:\0{number:,}" for label, number in shown]
    if left := len(counts) - len(shown):
        pairs.append(f"and\0{left:,}\0rarer\0ones")
    for line in textwrap.wrap(f"labels  {', '.join(pairs)}", width, subsequent_indent=" " * 8):
        yield line.replace("\0", " ")


def _bars(lengths: NDArray[np.int64], screen: Screen) -> Iterator[str]:
    low, high = int(lengths.min()), int(lengths.max())
    step = next(step for step in _round_numbers() if high // step - low // step < _MAX_BINS)
    first = low // step
    heights = np.bincount(lengths // step - first).tolist()
    starts = [step * (first + number) for number in range(len(heights))]
    edges = [(f"{max(low, start):,}", f"{min(high, start + step - 1):,}") for start in starts]
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
