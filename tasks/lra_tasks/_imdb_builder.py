"""The labelled IMDB reviews as a tensorflow-datasets builder that needs no TensorFlow.

The stock builder reads archives through TensorFlow; this one has the same texts, labels and splits
and reads with tarfile. It must be prepared with ``file_format="array_record"``, the one format
that neither needs TensorFlow nor loses examples.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
NUM_LABELLED = 50_000
_MEMBER = re.compile(r"aclImdb/(train|test)/(neg|pos)/\d+_\d+\.txt")


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
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                found = _MEMBER.fullmatch(member.name)
                if found is None or found[1] != split:
                    continue
                file = tar.extractfile(member)
                assert file is not None, f"{member.name} is not a file"
                # The stock builder strips white space too.
                text = file.read().strip()
                yield member.name, {"id": member.name, "text": text, "label": found[2]}
                self._num_read += 1
                self.count(self._num_read)
