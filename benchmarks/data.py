"""How fast text becomes batches, against a straight rebuild of what the S4 ports do.

    python benchmarks/data.py
    python benchmarks/data.py --data-dir folder/with/the/archive --json data.json

Encoding. Text: the rebuild makes a list of characters, cuts it at 4,095, counts a vocabulary with
a minimum frequency of 15 and looks every character up; ours turns bytes into ids. ListOps: the
rebuild drops the round brackets, splits at blanks and looks every token up; ours does the same on
bytes, without and with evaluating every expression. The rebuild is spared the data set library
through which the ports do this, and which costs several times as much again.

An epoch. Padded int64 batches of 32 in the same shuffled order: ours from the cache through the
loader, with the mask, and once more with examples grouped by length; the rebuild makes a tensor of
the list of ids of each example and pads these, and once more from int64 arrays. The bound is the
time to fill as many bytes as the batches have, at the rate measured for a buffer of the mean size
of a batch.

Opening. A prepared ListOps of 100,000 examples, with its fingerprint; wall time.

All sides take turns in one process with one thread; times are CPU seconds, ratios are between
medians. The texts are the IMDB reviews if --data-dir or LRA_BENCH_DATA names a folder with
their archive, else random letters of the same distribution of lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lra_bench.data import Loader, TrainingPlan
from lra_bench.types import SPLITS, Batch
from lra_tasks import _bytes
from lra_tasks._imdb import ARCHIVE_NAME
from lra_tasks._store import Chunk, FlatCache, FlatExamples
from lra_tasks._store_writer import writing
from lra_tasks.listops import ListOps, chunk_of, encode
from lra_tasks.text import Text

# The oracles of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from oracles import listops as oracle

MAX_LENGTH = 4_000
MIN_FREQUENCY = 15
SPECIALS = ("<pad>", "<unk>", "<eos>")
UNKNOWN = SPECIALS.index("<unk>")

TextRows = list[tuple[bytes, int]]


@dataclass(frozen=True)
class Row:
    """A line of the result: examples per CPU-second over the turns."""

    what: str
    who: str
    examples_per_cpu_second: float
    least: float
    most: float


# The texts.


def real_texts(data_dir: Path, number: int) -> TextRows:
    """Return training reviews from all over the set; reads the archive, half a minute."""
    with tempfile.TemporaryDirectory() as folder:
        task = Text(data_dir=data_dir, cache_dir=Path(folder), max_length=1_000_000)
        task.prepare()
        examples = task.examples("train")
        at = np.linspace(0, len(examples) - 1, min(number, len(examples))).astype(int).tolist()
        some = [examples[index] for index in at]
        return [((one.inputs[0] - np.uint8(1)).tobytes(), int(one.target)) for one in some]


def synthetic_texts(number: int) -> TextRows:
    """Return random letters and blanks with lengths as the reviews have them."""
    rng = np.random.default_rng(0)
    # Log-normal with the median and the mean of the reviews: 971 and 1,310 bytes.
    lengths = np.exp(rng.normal(np.log(971), np.sqrt(2 * np.log(1310 / 971)), number))
    letters = np.frombuffer(b"etaoinshrdlucmfwygpbvk      ,.", np.uint8)
    return [
        (rng.choice(letters, max(1, round(length))).tobytes(), int(rng.integers(2)))
        for length in lengths
    ]


# The rebuild.


def rebuilt_vocabulary(examples: Iterable[list[str]]) -> dict[str, int]:
    """Number the tokens that are frequent enough, after the special ones."""
    counted = Counter(token for tokens in examples for token in tokens)
    frequent = [token for token, number in counted.most_common() if number >= MIN_FREQUENCY]
    return {token: number for number, token in enumerate([*SPECIALS, *frequent])}


def rebuilt_ids(examples: list[list[str]]) -> list[list[int]]:
    vocabulary = rebuilt_vocabulary(examples)
    return [[vocabulary.get(token, UNKNOWN) for token in [*tokens, "<eos>"]] for tokens in examples]


def rebuilt_text(texts: list[str]) -> list[list[int]]:
    return rebuilt_ids([list(text)[:4095] for text in texts])


def rebuilt_listops(sources: list[str]) -> list[list[int]]:
    table = {ord("]"): "X", ord("("): None, ord(")"): None}
    return rebuilt_ids([source.translate(table).split()[:2047] for source in sources])


def rebuilt_batch(
    ids: Sequence[list[int]] | Sequence[NDArray[np.int64]], labels: list[int], indices: list[int]
) -> tuple[Tensor, Tensor]:
    """Get the examples one by one and pad them."""
    rows = [(torch.tensor(ids[at]), labels[at]) for at in indices]
    tokens = pad_sequence([row for row, _ in rows], batch_first=True, padding_value=0)
    return tokens, torch.tensor([label for _, label in rows])


# Ours.


def our_text(rows: TextRows) -> list[Chunk]:
    return list(_bytes.chunks_of((((text,), label) for text, label in rows), first_id=0))


def our_listops(sources: list[bytes]) -> Chunk:
    encoded = [encode(source) for source in sources]
    lengths = np.array([len(one) for one in encoded], np.int64)
    return Chunk(np.frombuffer(b"".join(encoded), np.uint8), lengths, np.zeros(0, np.int64))


def our_listops_checked(sources: list[bytes], labels: list[int]) -> Chunk:
    rows = [(encode(source), label) for source, label in zip(sources, labels, strict=True)]
    return chunk_of(rows, "none", 2)


# Timing.


def in_turn(
    what: str, number: int, sides: dict[str, Callable[[], Any]], turns: int
) -> dict[str, Row]:
    """Time the sides in turn, after one turn to warm up, and print a line for each."""
    rates: dict[str, list[float]] = {who: [] for who in sides}
    for turn in range(-1, turns):
        for who, work in sides.items():
            started = time.process_time()
            work()
            if turn >= 0:
                rates[who].append(number / (time.process_time() - started))
    rows = {
        who: Row(what, who, statistics.median(some), min(some), max(some))
        for who, some in rates.items()
    }
    base = rows["rebuild"].examples_per_cpu_second
    print(f"{what}: {number:,} examples; examples per CPU-second, median (least to most)")
    for who, row in rows.items():
        rate = row.examples_per_cpu_second
        print(
            f"  {who:<24} {rate:>10,.0f} ({row.least:,.0f} to {row.most:,.0f})"
            f"{'' if who == 'rebuild' else f'  {rate / base:.1f} times the rebuild'}"
        )
    return rows


def fill_seconds_per_byte(num_bytes: int) -> float:
    """Return the least time of filling a buffer of that size, per byte."""
    buffer = np.empty(num_bytes, np.uint8)
    taken = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(50):
            buffer.fill(1)
        taken.append((time.perf_counter() - started) / 50)
    return min(taken) / num_bytes


def size_of(batch: Batch) -> int:
    tensors = [batch.tokens_BIL, batch.targets]
    if batch.mask_BIL is not None:
        tensors.append(batch.mask_BIL)
    return sum(tensor.nbytes for tensor in tensors)


def make_cache(folder: Path, rows: TextRows) -> FlatExamples:
    place = folder / "text"
    with writing(place) as writer:
        writer.add("train", our_text(rows))
        writer.add("validation", [])
        writer.add("test", [])
    return FlatCache(place, remedy="").examples("train", max_length=MAX_LENGTH)


def epochs(examples: FlatExamples, batch_size: int, turns: int) -> list[dict[str, Any]]:
    """Time an epoch of each side and compare ours with the bound."""
    device = torch.device("cpu")
    spec = _bytes.spec_of("text", max_length=MAX_LENGTH, majority_baseline=0.5)
    loaders = {
        bucketing: Loader(
            examples, batch_size=batch_size, bucketing=bucketing, device=device, spec=spec
        )
        for bucketing in (False, True)
    }
    plan = TrainingPlan(examples.lengths(), batch_size, 0, False)
    order = [batch.tolist() for batch in plan.epoch(0)]
    arrays = [examples[at].inputs[0].astype(np.int64) for at in range(len(examples))]
    lists = [array.tolist() for array in arrays]
    labels = [int(examples[at].target) for at in range(len(examples))]

    def ours(bucketing: bool) -> int:
        batches = loaders[bucketing].training(seed=0, start=0, stop=plan.steps_per_epoch)
        return sum(map(size_of, batches))

    def rebuild(ids: Sequence[list[int]] | Sequence[NDArray[np.int64]]) -> None:
        for indices in order:
            rebuilt_batch(ids, labels, indices)

    # Both make the same batches.
    for batch, indices in zip(
        loaders[False].training(seed=0, start=0, stop=9), order, strict=False
    ):
        tokens, classes = rebuilt_batch(lists, labels, indices)
        assert torch.equal(batch.tokens_BIL[:, 0], tokens)
        assert torch.equal(batch.targets, classes)

    sides: dict[str, Callable[[], Any]] = {
        "rebuild": lambda: rebuild(lists),
        "rebuild from arrays": lambda: rebuild(arrays),
        "ours": lambda: ours(False),
        "ours, by length": lambda: ours(True),
    }
    rows = in_turn(f"epoch of batches of {batch_size}", len(examples), sides, turns)
    results = []
    for who, row in rows.items():
        result: dict[str, Any] = asdict(row)
        if who.startswith("ours"):
            num_bytes = ours(who != "ours")
            per_byte = fill_seconds_per_byte(num_bytes // plan.steps_per_epoch)
            seconds = len(examples) / row.examples_per_cpu_second
            times = seconds / (num_bytes * per_byte)
            print(
                f"  {who}: {num_bytes / 1e6:,.0f} MB at {1e-9 / per_byte:.1f} GB/s take "
                f"{1e3 * num_bytes * per_byte:.1f} ms; the epoch took {1e3 * seconds:.1f} ms, "
                f"{times:.1f} times the bound"
            )
            result |= {"num_bytes": num_bytes, "bound_seconds": num_bytes * per_byte}
            result |= {"times_the_bound": times}
        results.append(result)
    return results


def opening(folder: Path, turns: int) -> dict[str, Any]:
    """Time how long a prepared task takes to open: all of ListOps, with its fingerprint."""
    options: dict[str, Any] = {"data_dir": folder, "cache_dir": folder}
    ListOps(**options).prepare()
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        task = ListOps(**options)
        task.prepare()
        number = sum(len(task.examples(split)) for split in SPLITS)
        task.fingerprint()
        taken.append(1e3 * (time.perf_counter() - started))
    median = statistics.median(taken)
    print(
        f"open a prepared task of {number:,} examples: {median:.0f} ms ({min(taken):.0f} to "
        f"{max(taken):.0f})"
    )
    return {"what": "open a prepared task", "milliseconds": median}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help=f"folder with {ARCHIVE_NAME}")
    parser.add_argument("--texts", type=int, default=5_000)
    parser.add_argument("--expressions", type=int, default=1_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write one object a row to this file")
    asked = parser.parse_args()
    torch.set_num_threads(1)

    data_dir = asked.data_dir
    if data_dir is None and os.environ.get("LRA_BENCH_DATA"):
        data_dir = Path(os.environ["LRA_BENCH_DATA"])
    if asked.data_dir is None and not (data_dir and (data_dir / ARCHIVE_NAME).exists()):
        origin, rows = "synthetic texts", synthetic_texts(asked.texts)
    else:
        origin, rows = "IMDB reviews", real_texts(data_dir, asked.texts)
    lengths = [len(content) for content, _ in rows]
    print(
        f"{origin}: mean {statistics.mean(lengths):,.0f} bytes, median "
        f"{statistics.median(lengths):,.0f}; {torch.get_num_threads()} thread"
    )
    strings = [content.decode() for content, _ in rows]
    drawn = oracle.draw_kept(random.Random(0), oracle.Limits(), asked.expressions)
    sources = [oracle.to_source(tree) for tree in drawn]
    encoded_sources = [source.encode() for source in sources]
    values = [oracle.evaluate(tree) for tree in drawn]

    results: list[dict[str, Any]] = []
    sides: dict[str, Callable[[], Any]] = {
        "rebuild": lambda: rebuilt_text(strings),
        "ours": lambda: our_text(rows),
    }
    results += map(asdict, in_turn("encode text", len(rows), sides, asked.turns).values())
    sides = {
        "rebuild": lambda: rebuilt_listops(sources),
        "ours": lambda: our_listops(encoded_sources),
        "ours, values checked": lambda: our_listops_checked(encoded_sources, values),
    }
    results += map(asdict, in_turn("encode ListOps", len(sources), sides, asked.turns).values())
    with tempfile.TemporaryDirectory() as folder:
        examples = make_cache(Path(folder), rows)
        results += epochs(examples, asked.batch_size, asked.turns)
        results.append(opening(Path(folder) / "listops", asked.turns))
    if asked.json:
        for result in results:
            result["texts"] = origin
        asked.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
