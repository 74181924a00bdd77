"""Text: is a film review positive? The Large Movie Review Dataset, byte by byte.

Source: Maas et al., ACL 2011; as a task for long sequences, arXiv 2011.04006.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lra_bench.types import DataInfo, Example, ProgressCallback
from lra_tasks import _bytes, _imdb, _imdb_splits
from lra_tasks._options import check_length, check_seed
from lra_tasks._store import Layout
from lra_tasks.cached_task import CachedTask, Source, Writer

# Raised when the same archive and options would give other bytes.
PREPARATION_VERSION = 1


class Text(CachedTask[Path]):
    """IMDB reviews as UTF-8 bytes; id = byte + 1, 0 is padding.

    The 25,000 test reviews are the test split, whole. Validation is a fixed part of the 25,000
    training reviews, drawn with a seed and equally from both classes: unlike in the released code,
    the test reviews choose nothing.

    Args:
        data_dir: Folder that holds ``aclImdb_v1.tar.gz``; it is downloaded there if it does not.
        cache_dir: Folder of prepared data.
        max_length: Reviews are cut to this [bytes].
        num_validation: Training reviews held out, an even number.
        validation_seed: Which ones.
        official: What the official reviews are.

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        max_length: int = 4_000,
        num_validation: int = 2_500,
        validation_seed: int = 0,
        official: _imdb.Official = _imdb.OFFICIAL,
    ) -> None:
        check_length(max_length)
        check_seed(validation_seed, name="validation_seed")
        _imdb_splits.check_number(num_validation, official)
        self.spec = _bytes.spec_of("text", max_length=max_length, majority_baseline=0.5)
        self.data_dir = data_dir
        self.cache_dir = cache_dir
        self.num_validation = num_validation
        self.validation_seed = validation_seed
        self.official = official

    def about(self) -> DataInfo:
        """See `CachedTask.about`."""
        return _imdb_splits.about(self.num_validation, self.official)

    def decode(self, example: Example) -> str:
        """See `Task.decode`: the text."""
        return _bytes.text_of(example.inputs[0])

    def layout(self) -> Layout:
        """See `CachedTask.layout`: ids as they are, since UTF-8 lacks the one of 256."""
        return Layout.of(self.spec, num_ids=256)

    def options(self) -> dict[str, Any]:
        """See `CachedTask.options`."""
        return {
            "version": PREPARATION_VERSION,
            "num_validation": self.num_validation,
            "validation_seed": self.validation_seed,
        }

    def source(self) -> Source[Path] | None:
        """See `CachedTask.source`."""
        return _imdb.find(self.data_dir, self.cache_dir)

    def fetch(self) -> None:
        """See `CachedTask.fetch`."""
        _imdb.fetch(self.data_dir, self.official)

    def encode(self, source: Source[Path], writer: Writer, progress: ProgressCallback) -> DataInfo:
        """See `CachedTask.encode`."""
        reviews = _imdb_splits.read(source.files, self.cache_dir, progress)
        splits = _imdb_splits.divided(
            reviews, self.num_validation, self.validation_seed, source.files
        )
        for split, rows in splits.items():
            texts = (((text,), label) for text, label in rows)
            writer.add(split, _bytes.chunks_of(texts, first_id=writer.layout.first_id))
        validation = _imdb_splits.told(self.num_validation, self.validation_seed)
        return DataInfo(
            # Whatever it was packed in: the fingerprint tells the reviews.
            source="IMDB reviews",
            warning=_imdb_splits.warning_of(reviews, source.files, self.official),
            details=_imdb.details_of(source, self.official) | {"validation": validation},
        )
