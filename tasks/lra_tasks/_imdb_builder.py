"""The labeled IMDB reviews as a tensorflow-datasets builder that needs no TensorFlow.

The stock builder reads archives through TensorFlow. This one has the same texts, labels and splits
and reads the archive itself; the text task takes its examples as they come, in one pass, and the
library prepares it like any other data set of its own (``file_format="array_record"``, the one
format that neither needs TensorFlow nor loses examples).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from lra_bench.types import ProgressCallback, ignore_progress
from lra_tasks._download import url_infos
from lra_tasks._imdb import ARCHIVE_NAME, MOODS, OFFICIAL, PARTS, Review, read_archive


class ImdbReviews(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """50,000 reviews, half of them for training, half of each positive."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    url_infos: ClassVar[dict[str, Any]] = url_infos(
        OFFICIAL.url, OFFICIAL.archives[0], ARCHIVE_NAME
    )

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(MOODS)),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
            citation="Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, Any]]]:
        archive = Path(dl_manager.download(OFFICIAL.url))
        return {part: self._generate_examples(archive, part) for part in PARTS}

    def _generate_examples(self, archive: Path, part: str) -> Iterator[tuple[str, Any]]:
        for its_part, example in self.raw_examples(archive):
            if its_part == part:
                yield example["id"], example

    def raw_examples(
        self, archive: Path, progress: ProgressCallback = ignore_progress
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the part and the example of each review, in the order of the archive.

        Raises:
            UserError: The archive is broken, or holds what is no review.
        """
        for member in read_archive(archive, progress):
            if isinstance(member, Review):
                yield (
                    member.part,
                    {"id": member.name, "text": member.text, "label": member.mood},
                )

    def examples(
        self, archive: Path, progress: ProgressCallback = ignore_progress
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the same as the features encode it: what the library would store.

        Raises:
            UserError: The archive is broken, or holds what is no review.
        """
        features = self.info.features
        for part, example in self.raw_examples(archive, progress):
            yield part, features.encode_example(example)
