"""The labelled IMDB reviews as a tensorflow-datasets builder that needs no TensorFlow.

The stock builder reads archives through TensorFlow; this one has the same texts, labels and splits
and reads archives itself. It must be prepared with ``file_format="array_record"``, the one format
that neither needs TensorFlow nor loses examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from lra_tasks._imdb_archive import ARCHIVE_NAME, Review, read_archive

NUM_LABELLED = 50_000


class LraImdb(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """50,000 reviews, half of them for training, half of each positive.

    ``count`` is called with the number of reviews read so far.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {ARCHIVE_NAME} into manual_dir."

    count: Callable[[int], None] = staticmethod(lambda done: None)
    _num_read = 0

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=["neg", "pos"]),
                }
            ),
            supervised_keys=("text", "label"),
            citation="Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Any]]]:
        archive = Path(dl_manager.manual_dir) / ARCHIVE_NAME
        return {split: self._generate_examples(archive, split) for split in ("train", "test")}

    def _generate_examples(self, archive: Path, split: str) -> Iterator[tuple[str, Any]]:
        for name, text, label in labeled_reviews(archive, split):
            yield name, {"id": name, "text": text, "label": label}
            self._num_read += 1
            self.count(self._num_read)


def labeled_reviews(archive: Path, split: str) -> Iterator[tuple[str, bytes, str]]:
    """Yield the name, the text and the label of the reviews of a split, as the archive has them.

    Raises:
        UserError: The archive is broken, or holds what is no review.
    """
    for found in read_archive(archive):
        if isinstance(found, Review) and found.part == split:
            yield found.name, found.text, found.mood
