from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import mutants

from lra_bench.errors import UserError
from lra_tasks._vocabulary import (
    FILE_NAME,
    FIRST_PIECE,
    LEAST_SIZE,
    SEPARATOR,
    ByteSymbols,
    Vocabulary,
    learn,
    read_vocabulary,
)

TEXTS = [
    b"the cat saw the dog, and the dog saw the cat's tail. " * 20,
    "caf\u00e9 \u65e5\u672c\u8a9e \U0001f600 na\u00efve ".encode() * 20,
    b"  two  blanks\n\nand\tlines \r\n" * 20,
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return learn(TEXTS, 320, "made-up texts")


def ids_of(vocabulary: Vocabulary, text: bytes) -> list[int]:
    (ids,) = vocabulary.encode([text])
    found: list[int] = ids.tolist()
    return found


def slowly(vocabulary: Vocabulary, word: bytes) -> list[bytes]:
    """Return the pieces of what is no text of several words, merging the first pair that can be."""
    byte_of = {piece: bytes([byte]) for byte, piece in enumerate(characters())}
    ranks = {
        tuple(b"".join(byte_of[one] for one in part) for part in pair): rank
        for rank, pair in enumerate(vocabulary.merges)
    }
    pieces = [bytes([byte]) for byte in word]
    while True:
        pairs = [
            (ranks[pair], at) for at, pair in enumerate(itertools.pairwise(pieces)) if pair in ranks
        ]
        if not pairs:
            return pieces
        _, at = min(pairs)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def characters() -> list[str]:
    """Return what stands for each byte, as GPT-2 has it, written in another way."""
    found, hidden = [], 0
    for byte in range(256):
        if chr(byte).isprintable() and byte != 32 and not 127 <= byte < 161 and byte != 173:
            found.append(chr(byte))
        else:
            found.append(chr(256 + hidden))
            hidden += 1
    return found


def test_texts_come_back(vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    texts = [*TEXTS, b"a", b" ", b"\n", "\u0000\u00ff\uffff".encode()]
    texts += ["".join(chr(rng.randrange(1, 0x500)) for _ in range(50)).encode() for _ in range(50)]
    for text, ids in zip(texts, vocabulary.encode(texts), strict=True):
        assert ids.min() >= FIRST_PIECE
        assert ids.max() < vocabulary.size <= 320
        assert vocabulary.decode(ids).encode() == text
        sizes = vocabulary.bytes_of(320)
        assert sum(sizes[number] for number in ids.tolist()) == len(text)


def test_pieces_are_those_of_the_merges(vocabulary: Vocabulary) -> None:
    for word in ("the", "saw", "caf\u00e9", "\u65e5\u672c\u8a9e", "xyz", "tail", "thethethe"):
        pieces = slowly(vocabulary, word.encode())
        found = [vocabulary.decode(np.array([one])) for one in ids_of(vocabulary, word.encode())]
        if all(piece.isascii() for piece in pieces):
            assert found == [piece.decode() for piece in pieces]
        assert len(found) == len(pieces)


def test_how_many_bytes_ids_stand_for(vocabulary: Vocabulary) -> None:
    sizes = vocabulary.bytes_of(400)
    assert len(sizes) == 400
    assert sizes[:FIRST_PIECE] == (0, 0)
    assert set(sizes[FIRST_PIECE : FIRST_PIECE + 256]) == {1}
    assert min(sizes[FIRST_PIECE + 256 : vocabulary.size]) >= 2
    assert set(sizes[vocabulary.size :]) == {0}
    of_bytes = ByteSymbols()
    assert of_bytes.bytes_of(257) == (0,) + (1,) * 255 + (0,)


def test_special_ids_are_no_text(vocabulary: Vocabulary) -> None:
    # Whatever stands in a text, it is not taken for padding or a separator.
    for text in (b"<pad> <mask> [SEP] </s>", b"\x00", b"\n=====\n"):
        assert min(ids_of(vocabulary, text)) >= FIRST_PIECE
    shown = vocabulary.decode(np.array([SEPARATOR, *ids_of(vocabulary, b"x")]))
    assert shown == "\n=====\nx"
    assert ByteSymbols().decode(np.array([121, 256, 122])) == "x\n=====\ny"


def test_order_of_texts_makes_no_difference(vocabulary: Vocabulary) -> None:
    again = learn(reversed(TEXTS), 320, "other words for them")
    assert again.merges == vocabulary.merges
    assert again.sha256 == vocabulary.sha256


def test_the_number_of_threads_makes_no_difference(vocabulary: Vocabulary) -> None:
    program = (
        f"from lra_tasks._vocabulary import learn;print(learn({TEXTS!r}, 320, 'threads').sha256)"
    )
    for parallel in ("true", "false"):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TOKENIZERS_PARALLELISM": parallel,
            "RAYON_NUM_THREADS": "3",
        }
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [vocabulary.sha256]


def test_long_texts_are_encoded_in_parts(vocabulary: Vocabulary) -> None:
    rng = random.Random(0)
    signs = ["the", " ", "  ", "\n", "\n\n", " \n", "cat's", ".", "...", "\u00e9", "\t", "\u3000"]
    text = "".join(rng.choices(signs, k=120_000)).encode()
    whole = ids_of(vocabulary, text)
    library: Any = pytest.importorskip("tokenizers")
    # The library, on the whole text at once.
    plain = library.Tokenizer(
        library.models.BPE(
            vocab={
                piece: FIRST_PIECE + at
                for at, piece in enumerate(
                    dict.fromkeys([*characters(), *(a + b for a, b in vocabulary.merges)])
                )
            },
            merges=list(vocabulary.merges),
        )
    )
    plain.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert len(text) > 3 << 16
    assert whole == plain.encode(text.decode()).ids


def test_a_text_without_a_place_to_cut(vocabulary: Vocabulary) -> None:
    text = "\u65e5".encode() * 50_000
    assert vocabulary.decode(next(iter(vocabulary.encode([text])))).encode() == text


def test_short_texts_give_fewer_pieces() -> None:
    found = learn([b"ab ab ab"], 5_000, "")
    assert LEAST_SIZE < found.size < LEAST_SIZE + 10
    assert found.vocab_size == 5_000


def test_the_file(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(vocabulary.to_bytes())
    for place in (path, tmp_path):
        again = read_vocabulary(place)
        assert again.merges == vocabulary.merges
        assert again.sha256 == vocabulary.sha256
        assert (again.vocab_size, again.learned_on) == (320, "made-up texts")


def test_a_damaged_file_is_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    path = tmp_path / FILE_NAME
    good = vocabulary.to_bytes()
    accepted = 0
    for content in mutants([good], 400):
        path.write_bytes(content)
        try:
            found = read_vocabulary(path)
        except UserError:
            continue
        accepted += 1
        # What it was learned on is for people; all else has a checksum.
        assert found.merges == vocabulary.merges
        assert found.vocab_size == vocabulary.vocab_size
    assert accepted < 100


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "WordPiece"}, "expected 'byte-level BPE"),
        ({"vocab_size": 100}, "checksum"),
        ({"merges": [["a", "b"]]}, "checksum"),
        ({"merges": [["a"]]}, "no vocabulary"),
        ({"merges": 3}, "no vocabulary"),
        ({"merges": [["\u4e00", "b"]]}, "no vocabulary"),
    ],
)
def test_an_edited_file_is_refused(
    tmp_path: Path, vocabulary: Vocabulary, change: dict[str, Any], why: str
) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps({**json.loads(vocabulary.to_bytes()), **change}))
    with pytest.raises(UserError, match=why):
        read_vocabulary(path)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        read_vocabulary(tmp_path / "nowhere.json")


def test_a_fork_after_encoding_makes_no_noise(vocabulary: Vocabulary) -> None:
    program = (
        "import os; from lra_tasks._vocabulary import learn;"
        f"one = learn({TEXTS!r}, 320, ''); list(one.encode({TEXTS!r} * 9));"
        "child = os.fork();"
        "os._exit(0) if not child else os.waitpid(child, 0);"
        "print(os.environ['TOKENIZERS_PARALLELISM'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TOKENIZERS_PARALLELISM", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["false"]
    assert done.stderr == ""


def test_without_the_library(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from lra_bench.errors import UserError\n"
        "from lra_tasks._vocabulary import learn\n"
        "try: learn([b'x'], 300, '')\n"
        "except UserError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert 'pip install "lra_bench[corpus]"' in done.stdout
    assert len(done.stdout.splitlines()) == 1
