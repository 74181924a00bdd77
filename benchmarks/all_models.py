"""A training step of every model against what else there is: time, memory, ratio.

    python benchmarks/all_models.py --models bigbird --lengths 4096
    python benchmarks/all_models.py --json cells.json
    python benchmarks/all_models.py --table cells.json

`peers.py` says what each model is compared with, and the ratio at 4,096 tokens that we hold
ourselves to; the packages come with the extra ``peers``. Both sides have the same sizes (2 layers,
width 64, 2 heads, feed-forward 128, batch 8, 256 bytes without padding), the same optimizer, the
same dropout on embeddings and residual branches, none on weights of attention (but where a line
says so), and the allocator and the waiting threads of a run. They take turns, step by step, in one
process; the ratio is between medians, its spread that of the pairs. Memory is the peak over what a
process held before the model was built, in a fresh process for each side. A pair that takes longer
than its limit, or more memory, is a line that says so.

``--against bfloat16`` compares each model with itself at ``train.precision=bfloat16`` instead, and
``--words trunk.width=512,trunk.ffn_width=2048`` gives both other sizes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# First, since it settles how the threads of the others wait.
from lra_bench import hardware  # isort: skip
import torch
from peers import PEERS, Peer
from train_step import Step, make_step, random_bytes, step_of

from lra_bench.words import options

BATCH_SIZE = 8
GOAL_LENGTH = 4096
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Asked:
    """What is the same for all cells."""

    dropout: float
    repeats: int
    threads: int
    clock: str
    limit_seconds: float
    limit_bytes: int
    measure: str


@dataclass(frozen=True)
class Cell:
    """A model against a peer at one length; times in milliseconds, memory in MB."""

    model: str
    peer: str
    length: int
    required: float | None
    stretch: float | None
    ours_ms: list[float]
    peer_ms: list[float]
    ours_mb: float | None
    peer_mb: float | None
    remark: str
    machine: str

    @property
    def ratio(self) -> float | None:
        """Return ours / peer, between medians."""
        if not self.ours_ms or not self.peer_ms:
            return None
        return statistics.median(self.ours_ms) / statistics.median(self.peer_ms)

    @property
    def line(self) -> list[str]:
        """Return the cells of a row of the table."""
        ratio = "-"
        if self.ratio is not None:
            pairs = [a / b for a, b in zip(self.ours_ms, self.peer_ms, strict=True)]
            ratio = f"{self.ratio:.2f} ({min(pairs):.2f}-{max(pairs):.2f})"
        held = [f"{goal:g}" if goal is not None else "-" for goal in (self.required, self.stretch)]
        verdict = self.remark
        if self.ratio is not None and self.required is not None:
            met = "stretch" if self.stretch and self.ratio <= self.stretch else "required"
            verdict = met if self.ratio <= self.required else "missed"
        return [
            self.model,
            self.peer,
            f"{self.length:,}",
            _spread(self.ours_ms, self.ours_mb),
            _spread(self.peer_ms, self.peer_mb),
            ratio,
            *held,
            verdict,
        ]


HEADER = [
    *("model", "peer", "length", "ours: ms", "peer: ms", "ours / peer"),
    *("required", "stretch", "met"),
]


def _spread(taken: Sequence[float], memory: float | None) -> str:
    if not taken:
        return "-"
    held = "" if memory is None else f", {memory:,.0f} MB"
    return f"{statistics.median(taken):,.0f} ({min(taken):,.0f}-{max(taken):,.0f}){held}"


def make(model: str, peer: Peer, side: str, length: int, dropout: float) -> Step:
    """Return a step of ours, or of the peer."""
    if side == "ours" or peer.name.startswith("bfloat16"):
        words = (*peer.words, f"trunk.dropout={dropout}")
        return make_step(model, length, BATCH_SIZE, CPU, words, bfloat16=side != "ours")
    torch.manual_seed(0)
    return step_of(peer.make(length, dropout), *random_bytes(length, BATCH_SIZE, CPU))


def times(asked: Asked, model: str, peer: Peer, length: int) -> list[list[float]]:
    """Return the milliseconds of steps of ours and of the peer, taken in turn after one each."""
    steps = [make(model, peer, side, length, asked.dropout) for side in ("ours", "peer")]
    clock = CLOCKS[asked.clock]
    taken: list[list[float]] = [[], []]
    for turn in range(-1, asked.repeats):
        for number, step in enumerate(steps):
            started = clock()
            step()
            if turn >= 0:
                taken[number].append(1e3 * (clock() - started))
    return taken


def memory(asked: Asked, model: str, peer: Peer, length: int, side: str) -> float | None:
    """Return the peak of three steps over the base of this process [MB]."""
    # What the libraries take on first use belongs to the base.
    torch.ones(64, 64, requires_grad=True).matmul(torch.ones(64, 64)).sum().backward()
    hardware.reset_peak_memory(CPU)
    base = hardware.peak_memory_bytes(CPU)
    step = make(model, peer, side, length, asked.dropout)
    for _ in range(3):
        step()
    peak = hardware.peak_memory_bytes(CPU)
    return None if base is None or peak is None else (peak - base) / 1e6


def _child(sender: Connection, asked: Asked, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(asked.threads)
    hardware.keep_freed_memory()
    resource.setrlimit(resource.RLIMIT_DATA, (asked.limit_bytes, asked.limit_bytes))
    try:
        sender.send((work(asked, *arguments), ""))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        sender.send((None, f"more than {asked.limit_bytes / 1e9:.0f} GB"))


def in_a_process(asked: Asked, work: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return what a function returns, or None and why not.

    The process is forked from one that has imported everything and computed nothing, so that it
    starts at once and has threads of its own.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, asked, work, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(asked.limit_seconds):
            return None, f"more than {asked.limit_seconds:.0f} s"
        result: tuple[Any, str] = receiver.recv()
        return result
    except EOFError:
        process.join()
        return None, f"ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()


def measure(asked: Asked, model: str, peer: Peer, length: int) -> Cell:
    """Measure a model against a peer at one length."""
    taken: list[list[float]] = [[], []]
    held: list[float | None] = [None, None]
    remark = f"{peer.missing} is not installed" if peer.missing else ""
    if not remark:
        peer.load()
    if not remark and asked.measure != "memory":
        answer, remark = in_a_process(asked, times, model, peer, length)
        taken = answer or taken
    if not remark and asked.measure != "time":
        for number, side in enumerate(("ours", "peer")):
            held[number], remark = in_a_process(asked, memory, model, peer, length, side)
    machine = (
        f"{hardware.describe(CPU)}, PyTorch {torch.__version__}, {time.strftime('%Y-%m-%d')}, "
        f"dropout {asked.dropout:g}, {asked.clock} time"
    )
    goals = (peer.required, peer.stretch) if length == GOAL_LENGTH else (None, None)
    return Cell(
        model,
        peer.name,
        length,
        goals[0],
        goals[1],
        ours_ms=taken[0],
        peer_ms=taken[1],
        ours_mb=held[0],
        peer_mb=held[1],
        remark=remark,
        machine=machine,
    )


def table_of(cells: Sequence[Cell]) -> str:
    """Return a Markdown table, and before it the machine."""
    machines = "\n".join(dict.fromkeys(cell.machine for cell in cells))
    rows = [HEADER, ["---"] * 2 + ["---:"] * 6 + ["---"], *(cell.line for cell in cells)]
    return machines + "\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def stored(path: Path) -> list[Cell]:
    """Return the cells of a file; none if there is none."""
    if not path.exists():
        return []
    return [Cell(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))]


def key_of(cell: Cell) -> tuple[int, str, str]:
    """Return what two cells of the same name have in common."""
    return cell.length, cell.model, cell.peer


def store(path: Path, cell: Cell) -> None:
    """Put a cell into a file; what it has not measured stays as it was there."""
    others = []
    for one in stored(path):
        if key_of(one) != key_of(cell):
            others.append(one)
        elif not cell.ours_ms:
            cell = replace(one, ours_mb=cell.ours_mb, peer_mb=cell.peer_mb, remark=cell.remark)
        elif cell.ours_mb is None:
            cell = replace(cell, ours_mb=one.ours_mb, peer_mb=one.peer_mb)
    cells = sorted([*others, cell], key=key_of)
    path.write_text(json.dumps([asdict(one) for one in cells], indent=1) + "\n", encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", help="default: all")
    parser.add_argument("--lengths", default="1024,2048,4096")
    parser.add_argument("--against", choices=("peers", "bfloat16"), default="peers")
    parser.add_argument("--words", help="of --against bfloat16: what else is asked for")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--measure", choices=("both", "time", "memory"), default="both")
    parser.add_argument("--go-on", action="store_true", help="leave out what --json has times of")
    parser.add_argument("--limit-seconds", type=float, default=120.0, help="for each process")
    parser.add_argument("--limit-gb", type=float, default=12.0, help="for each process")
    parser.add_argument("--json", type=Path, help="keep the cells in this file, beside older ones")
    parser.add_argument("--table", type=Path, help="only print the cells of this file")
    given = parser.parse_args()
    if given.go_on and not given.json:
        parser.error("--go-on needs --json")
    if given.words and given.against != "bfloat16":
        parser.error("--words needs --against bfloat16: peers have the sizes that they have")
    return given


def main() -> None:
    """Measure and print."""
    given = _parse()
    if given.table:
        print(table_of(stored(given.table)))
        return
    asked = Asked(
        given.dropout,
        given.repeats,
        given.threads,
        given.clock,
        given.limit_seconds,
        round(given.limit_gb * 1e9),
        given.measure,
    )
    names = given.models.split(",") if given.models else options("model")
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        sys.exit(f"peers.py has nothing to compare {', '.join(unknown)} with")
    known = {key_of(cell) for cell in stored(given.json) if cell.ours_ms} if given.go_on else set()
    words = tuple(given.words.split(",")) if given.words else ()
    itself = Peer(" ".join(("bfloat16", *words)), lambda *_: torch.nn.Identity(), words=words)
    cells = []
    for length in map(int, given.lengths.split(",")):
        for name in names:
            for peer in (itself,) if given.against == "bfloat16" else PEERS[name]:
                if (length, name, peer.name) in known:
                    continue
                cell = measure(asked, name, peer, length)
                print(" | ".join(cell.line), flush=True)
                cells.append(cell)
                if given.json:
                    store(given.json, cell)
    print(f"\n{table_of(cells)}")


if __name__ == "__main__":
    main()
