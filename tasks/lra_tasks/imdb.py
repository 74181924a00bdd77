"""IMDB: is a film review positive? The Large Movie Review Dataset in pieces of words.

Source: Maas et al., ACL 2011; as a downstream task of long-document encoders, arXiv 2004.05150.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lra_bench.types import DataInfo, ProgressCallback, Split
from lra_tasks import _imdb, _imdb_splits
from lra_tasks._options import check_seed
from lra_tasks._spool import spooling
from lra_tasks._symbols_task import SymbolsTask
from lra_tasks.cached_task import Source, Writer

# Raised when the same archive and options would give other ids.
PREPARATION_VERSION = 1


class Imdb(SymbolsTask[Path]):
    """IMDB reviews as pieces of a vocabulary; the reviews and the splits are those of ``text``.

    The vocabulary is learned on the training reviews that are not held out, unless one is given:
    that of a corpus, so that an encoder trained on it knows the ids.

    Args:
        data_dir: Folder that holds ``aclImdb_v1.tar.gz``; it is downloaded there if it does not.
        cache_dir: Folder of prepared data.
        max_length: Reviews are cut to this [tokens].
        vocab_size: Ids, padding and separator among them.
        vocabulary: A file, or a folder of prepared data that has one; empty to learn it.
        num_validation: Training reviews held out, an even number.
        validation_seed: Which ones.
        official: What the official reviews are.

    Raises:
        UserError: A number is out of range, or the vocabulary does not fit.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        max_length: int = 1_024,
        vocab_size: int = 4_096,
        vocabulary: str = "",
        num_validation: int = 2_500,
        validation_seed: int = 0,
        official: _imdb.Official = _imdb.OFFICIAL,
    ) -> None:
        check_seed(validation_seed, name="validation_seed")
        _imdb_splits.check_number(num_validation, official)
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.num_validation = num_validation
        self.validation_seed = validation_seed
        self.official = official
        self.set_symbols(
            "imdb",
            "bpe",
            vocab_size,
            vocabulary,
            max_length,
            num_classes=2,
            majority_baseline=0.5,
        )

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return _imdb_splits.about(self.num_validation, self.official)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {
            "version": PREPARATION_VERSION,
            "num_validation": self.num_validation,
            "validation_seed": self.validation_seed,
            **self.symbol_options(),
        }

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        return _imdb.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        _imdb.fetch(self.data_dir, self.official)

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        self.check_library()
        path = source.files
        reviews = _imdb_splits.read(path, self.cache_dir, progress)
        splits = _imdb_splits.divided(reviews, self.num_validation, self.validation_seed, path)
        with spooling(self.cache_dir) as spool:
            rows: dict[Split, list[tuple[int, int]]] = {
                split: [(spool.add(text), label) for text, label in some]
                for split, some in splits.items()
            }
            details = self.write_texts(writer, spool, rows, progress)
            baselines = self.bag_of_words(spool, rows, progress)
        told = _imdb_splits.told(self.num_validation, self.validation_seed)
        return DataInfo(
            source="IMDB reviews",
            warning=_imdb_splits.warning_of(reviews, path, self.official),
            details=_imdb.details_of(source, self.official) | {"validation": told} | details,
            baselines=baselines,
        )
