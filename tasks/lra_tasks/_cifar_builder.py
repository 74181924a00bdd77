"""CIFAR-10 as a tensorflow-datasets builder that needs no TensorFlow.

The stock builder reads through TensorFlow. This one has the same pixels, labels, splits and keys,
hence the same order, and reads the files itself; the image task takes its examples as they come,
and the library prepares it like any other data set of its own (``file_format="array_record"``, the
one format that neither needs TensorFlow nor loses examples).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from lra_bench.types import ignore_progress
from lra_tasks._cifar import BINARY_ARCHIVE, CLASSES, OFFICIAL, PARTS, SIDE, Records, archive, read
from lra_tasks._download import url_infos


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """60,000 pictures of ten kinds of things, 10,000 of them for the test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}
    url_infos: ClassVar[dict[str, Any]] = url_infos(OFFICIAL.url, OFFICIAL.archive, BINARY_ARCHIVE)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Tensor(shape=(SIDE, SIDE, 3), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        parts = read(archive(Path(dl_manager.download(OFFICIAL.url))), ignore_progress)
        return {part: self._generate_examples(part, parts[part]) for part in PARTS}

    def _generate_examples(self, part: str, records: Records) -> Iterator[tuple[int, Any]]:
        # The running number is the stock builder's key: it decides the order.
        return enumerate(self.raw_examples(part, records))

    def raw_examples(self, part: str, records: Records) -> Iterator[dict[str, Any]]:
        """Yield the examples of a part in the order of its records."""
        for number, record in enumerate(records):
            image = record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            yield {"id": f"{part}_{number:05d}", "image": image, "label": int(record[0])}

    def examples(self, part: str, records: Records) -> Iterator[dict[str, Any]]:
        """Yield the same as the features encode it: what the library would store."""
        return map(self.info.features.encode_example, self.raw_examples(part, records))
