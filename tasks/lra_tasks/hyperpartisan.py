"""Hyperpartisan: does a news article follow one side blindly? Labeled by hand, article by article.

Source: Kiesel et al., SemEval-2019 task 4; as a task for long documents, arXiv 2004.05150.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError
from lra_bench.types import SPLITS, DataInfo, ProgressCallback, Split
from lra_tasks import _hyperpartisan
from lra_tasks._hyperpartisan import Article, Found
from lra_tasks._options import check_choice
from lra_tasks._same_text import key_of
from lra_tasks._spool import spooling
from lra_tasks._symbols_task import SymbolsTask
from lra_tasks.cached_task import Source, Writer

# Raised when the same files and options would give other ids.
PREPARATION_VERSION = 1
DIVISIONS = ("official", "released")
COUNTS: Mapping[str, Mapping[Split, int]] = {
    "official": {"train": 580, "validation": 65, "test": 628},
    "released": {"train": 516, "validation": 64, "test": 65},
}
# An input without tokens cannot be.
_EMPTY_TEXT = b" "


class Hyperpartisan(SymbolsTask[Found]):
    """Articles, prepared as Longformer's authors did; class 1 is hyperpartisan.

    ``official`` trains on the 645 training articles, a tenth of each class held out for validation
    by the SHA-256 of their ids, and tests on the official test set of 628. ``released`` is the
    division of the 645 that was released with Longformer; most of its test articles are also
    training articles, and what is prepared says how many.

    Pieces of words are the default: 1,024 of them hold two of three articles whole, as many bytes
    one of eight.

    Args:
        data_dir: Folder that holds ``hyperpartisan_byarticle.tar.gz``, or the four official files.
        cache_dir: Folder of prepared data.
        split: ``official`` or ``released``.
        tokens: ``bpe``, pieces of a vocabulary, or ``bytes``.
        max_length: Articles are cut to this [tokens].
        vocab_size: Ids with ``bpe``, padding and separator among them.
        vocabulary: A file, or a folder of prepared data that has one; empty to learn it.

    Raises:
        UserError: A number is out of range, or the vocabulary does not fit.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        split: str = "official",
        tokens: str = "bpe",
        max_length: int = 4_096,
        vocab_size: int = 4_096,
        vocabulary: str = "",
    ) -> None:
        check_choice("split", split, DIVISIONS)
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.split = split
        self.set_symbols(
            "hyperpartisan",
            tokens,
            vocab_size,
            vocabulary,
            max_length,
            num_classes=2,
            metrics=("accuracy", "f1_of_1"),
            majority_baseline=0.5 if split == "official" else None,
        )

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return DataInfo(
            origin=f"Hyperpartisan news, {_hyperpartisan.ARCHIVE_NAME}",
            terms=_hyperpartisan.TERMS,
            num_examples=COUNTS[self.split],
        )

    def words(self) -> str:
        """See `CachedTask.words`."""
        return f"task={'hyperpartisan' if self.split == 'official' else 'hyperpartisan_released'}"

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {"version": PREPARATION_VERSION, "split": self.split, **self.symbol_options()}

    def source(self) -> Source[Found] | None:
        """See `CachedTask.source`."""
        return _hyperpartisan.find(
            self.data_dir, self.cache_dir, with_splits=self.split == "released"
        )

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        raise UserError(
            f"neither {_hyperpartisan.ARCHIVE_NAME} nor {', '.join(_hyperpartisan.FILES)} (or .zip "
            f"of each) is in {self.data_dir}; put them there, from {_hyperpartisan.URL}, or name "
            f"another folder with data_dir="
        )

    def encode(self, source: Source[Found], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        self.check_library()
        contents = _hyperpartisan.read(source.files)
        training = _hyperpartisan.articles_of(contents, "training")
        if self.split == "released":
            splits = _hyperpartisan.released_splits(contents, training)
        else:
            splits = with_validation(training)
            splits["test"] = _hyperpartisan.articles_of(contents, "test")
        with spooling(self.cache_dir) as spool:
            rows = {
                split: [(spool.add(one.text or _EMPTY_TEXT), one.label) for one in some]
                for split, some in splits.items()
            }
            details = self.write_texts(writer, spool, rows, progress)
            baselines = self.bag_of_words(spool, rows, progress)
        return DataInfo(
            source="Hyperpartisan, by article" + (", released split" * (self.split == "released")),
            warning=self._warning(contents, splits),
            details=_told(splits) | details,
            baselines=baselines,
        )

    def _warning(
        self, contents: Mapping[str, bytes], splits: Mapping[Split, Sequence[Article]]
    ) -> str:
        """Say why a number on these is none on the official set; nothing if it is."""
        said = []
        test = {one.id for one in splits["test"]}
        leaked = {
            split: len(test & {one.id for one in splits[split]})
            for split in ("train", "validation")
        }
        if self.split == "released" and any(leaked.values()):
            said.append(
                f"{leaked['train']} of the {len(test)} test articles are training articles, and "
                f"{leaked['validation']} are validation articles: a number on this division "
                f"measures what is remembered; task=hyperpartisan has the official test set"
            )
        sums = {name: hashlib.sha256(contents[name]).hexdigest() for name in _hyperpartisan.FILES}
        if other := [name for name in sums if sums[name] != _hyperpartisan.OFFICIAL[name]]:
            said.append(f"{', '.join(other)} is not the official file (another SHA-256)")
        return "; ".join(said)


def with_validation(training: Sequence[Article]) -> dict[Split, list[Article]]:
    """Hold out a tenth of each class, by the SHA-256 of the ids.

    Raises:
        UserError: A class has too few articles.
    """
    held_out: set[str] = set()
    for label in (0, 1):
        own = [one.id for one in training if one.label == label]
        if len(own) < 2:
            raise UserError(
                f"class {label} has {len(own)} training articles, at least 2 are needed"
            )
        own.sort(key=lambda number: hashlib.sha256(number.encode()).digest())
        held_out.update(own[: max(1, round(len(own) / 10))])
    return {
        "train": [one for one in training if one.id not in held_out],
        "validation": [one for one in training if one.id in held_out],
    }


def _told(splits: Mapping[Split, Sequence[Article]]) -> dict[str, str]:
    """Return what a record says of texts that stand twice (letters and digits), or are empty."""
    keys = {split: Counter(key_of(one.text) for one in splits[split]) for split in SPLITS}
    learned = keys["train"] + keys["validation"]
    again = sum(number for key, number in keys["test"].items() if key in learned)
    inside = sum(number - 1 for number in learned.values())
    empty = sum(not one.text for some in splits.values() for one in some)
    return {
        "test_texts_also_in_training_or_validation": f"{again:,}",
        "texts_twice_in_training_and_validation": f"{inside:,}",
        "empty_texts": f"{empty:,}",
    }
