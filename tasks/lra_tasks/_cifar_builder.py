"""CIFAR-10 as a tensorflow-datasets builder that needs no TensorFlow.

The stock builder reads and writes through TensorFlow; this one has the same pixels, labels, splits
and keys, hence the same order, and reads the files itself. It must be prepared with
``file_format="array_record"``, the one format that neither needs TensorFlow nor loses examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from lra_bench.types import ProgressCallback, ignore_progress
from lra_tasks._cifar_files import CLASSES, SIDE, Records, read
from lra_tasks._sources import Source


class LraCifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """60,000 pictures of ten kinds of things, 10,000 of them for the test.

    ``source`` must be set before it is prepared. ``progress`` is told how far reading is, ``count``
    is called with the number of pictures stored so far and of all.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First."}

    source: Source
    progress: ProgressCallback = staticmethod(ignore_progress)
    count: Callable[[int, int], None] = staticmethod(lambda done, total: None)
    _num_stored = 0

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
        parts = read(self.source, self.progress)
        total = sum(map(len, parts.values()))
        return {
            part: self._generate_examples(part, records, total) for part, records in parts.items()
        }

    def _generate_examples(
        self, part: str, records: Records, total: int
    ) -> Iterator[tuple[int, Any]]:
        # The running number is the stock builder's key: it decides the order.
        for number, record in enumerate(records):
            image = record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            yield number, {"id": f"{part}_{number:05d}", "image": image, "label": int(record[0])}
            self._num_stored += 1
            if self._num_stored % 500 == 0 or self._num_stored == total:
                self.count(self._num_stored, total)
