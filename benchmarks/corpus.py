"""How fast documents become tokens: ours beside the bare loop that does no more than it must.

Bytes. Ours: all of `data prepare task=corpus`, which reads and checks the documents, looks for
copies, divides them, and writes a cache with checksums. The bare loop: reads the same files, and
writes their bytes into one file.

Encoding. Ours: pieces of a vocabulary for all documents, as they are stored. The bare loop: the
library `tokenizers`, given batches of whole documents, and arrays of what it returns.

Learning. Ours: a vocabulary from all documents. The bare loop: the library given the same texts.

All in one process, in turn; the library uses one thread unless --threads says otherwise. Seconds
are of CPU. The documents are those of --path (relative to --data-dir or LRA_BENCH_DATA), or made
up: books of random words.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lra_tasks._documents import Document, find
from lra_tasks._vocabulary import Vocabulary, learn
from lra_tasks.corpus import Corpus


def made_up(folder: Path, num_megabytes: int) -> str:
    """Write documents of random words and return their path."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 9))) for _ in range(20_000)]
    for at in range(10 * num_megabytes):
        # The first words are the most frequent.
        chosen = (words[int(20_000 * rng.random() ** 3)] for _ in range(18_000))
        text = "".join(f"{word}\n" if rng.random() < 0.05 else f"{word} " for word in chosen)
        (folder / f"{at % 10}").mkdir(parents=True, exist_ok=True)
        (folder / f"{at % 10}/{at}.txt").write_text(text[:100_000], encoding="utf-8")
    return str(folder)


def in_turn(
    what: str, num_bytes: int, sides: dict[str, Callable[[], Any]], turns: int
) -> dict[str, Any]:
    """Time the sides in turn, and print a line for each and the ratio of the last to the first."""
    taken: dict[str, list[float]] = {who: [] for who in sides}
    for _ in range(turns):
        for who, work in sides.items():
            started = time.process_time()
            work()
            taken[who].append(time.process_time() - started)
    rates = {who: num_bytes / 1e6 / statistics.median(some) for who, some in taken.items()}
    bare, ours = rates["bare loop"], rates["ours"]
    print(f"{what}: {num_bytes / 1e6:,.1f} MB; MB per CPU-second, median of {turns}")
    for who, rate in rates.items():
        print(f"  {who:<12} {rate:>8,.2f}")
    print(f"  ours / bare loop: {ours / bare:.2f}")
    return {"what": what, "megabytes": num_bytes / 1e6, "rates": rates, "ratio": ours / bare}


def bare_bytes(texts: Callable[[], list[bytes]], folder: Path) -> None:
    with (folder / "tokens").open("wb") as file:
        for text in texts():
            file.write(text)


def bare_library(vocabulary: Vocabulary) -> Any:
    """Return the library's own object with the pieces of a vocabulary."""
    import tokenizers

    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    pieces = dict.fromkeys([*sorted(alphabet), *(a + b for a, b in vocabulary.merges)])
    ids = {piece: number for number, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=list(vocabulary.merges)))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def bare_encoding(library: Any, texts: list[bytes]) -> int:
    total = 0
    for start in range(0, len(texts), 100):
        batch = [text.decode() for text in texts[start : start + 100]]
        found = library.encode_batch_fast(batch, add_special_tokens=False)
        total += sum(len(np.array(one.ids, np.uint32)) for one in found)
    return total


def bare_learning(texts: list[bytes], vocab_size: int) -> None:
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    made.train_from_iterator((text.decode() for text in texts), trainer)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--path", help="of the documents; made up if it is not given")
    parser.add_argument("--megabytes", type=int, default=20, help="of made-up documents")
    parser.add_argument("--vocab-size", type=int, default=4_096)
    parser.add_argument("--threads", type=int, default=1, help="of the library")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write one object a row to this file")
    asked = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if asked.threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(asked.threads)
    data_dir = asked.data_dir or Path(os.environ.get("LRA_BENCH_DATA", "."))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = asked.path or made_up(folder / "documents", asked.megabytes)
        place = find(data_dir, path)
        if place is None:
            parser.error(f"there is no {data_dir / path}")

        def texts() -> list[bytes]:
            return [one.text for one in place.read() if isinstance(one, Document)]

        def prepare() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                Corpus(data_dir=data_dir, cache_dir=Path(cache), path=path).prepare()

        def bare() -> None:
            if place.path.is_dir():
                files = sorted(one for one in place.path.rglob("*") if one.is_file())
                bare_bytes(lambda: [one.read_bytes() for one in files], folder)
            else:
                bare_bytes(texts, folder)

        known = texts()
        num_bytes = sum(map(len, known))
        print(f"{len(known):,} documents; the library has {asked.threads} thread(s)")
        results = [in_turn("bytes", num_bytes, {"bare loop": bare, "ours": prepare}, asked.turns)]
        vocabulary = learn(known, asked.vocab_size, "")
        library = bare_library(vocabulary)
        sides: dict[str, Callable[[], Any]] = {
            "bare loop": lambda: bare_encoding(library, known),
            "ours": lambda: sum(map(len, vocabulary.encode(known))),
        }
        assert sides["bare loop"]() == sides["ours"](), "both give the same number of pieces"
        results.append(in_turn("encoding", num_bytes, sides, asked.turns))
        sides = {
            "bare loop": lambda: bare_learning(known, asked.vocab_size - 2),
            "ours": lambda: learn(known, asked.vocab_size, ""),
        }
        results.append(in_turn("learning", num_bytes, sides, asked.turns))
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
