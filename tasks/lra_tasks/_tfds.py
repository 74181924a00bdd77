"""What the builders of tensorflow-datasets share: prepared in a corner, quietly, and read back.

The library is imported inside the functions: it takes a second, and only preparing needs it.
"""

from __future__ import annotations

import io
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError

_READ_AT_ONCE = 500
# How the C++ library that writes the files puts it; it knows no OSError.
_FAILED_WRITE = re.compile(r"\b(?:open|write|fsync|close)\(\) failed: ([^;]*)")


@contextmanager
def prepared(make: Callable[[str], Any], *, archive: Path, cache_dir: Path) -> Iterator[Any]:
    """Prepare a builder in a folder of its own, which is removed in the end.

    Args:
        make: Given that folder, builds the builder. Its ``file_format`` must be array_record, the
            one format that neither needs TensorFlow nor loses examples.
        archive: What the builder reads; it finds its folder as ``manual_dir``.
        cache_dir: Where there is room.

    Raises:
        UserError: The disk is full, or the archive has a split without examples.
    """
    import tensorflow_datasets as tfds

    with _quiet(tfds):
        folder = None
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(dir=cache_dir, prefix=".tfds-", suffix=".partial")
            builder = make(folder)
            config = tfds.download.DownloadConfig(manual_dir=str(archive.parent))
            try:
                builder.download_and_prepare(download_config=config)
            except AssertionError as error:
                if "No examples were yielded" not in str(error):
                    raise
                raise UserError(
                    f"{archive} has no examples in one of its parts; it is not what its name "
                    f"says, get it again"
                ) from error
            yield builder
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError):
                why = error.strerror or str(error)
            elif found := _FAILED_WRITE.search(str(error)):
                why = found[1]
            else:
                raise
            raise UserError(
                f"cannot prepare {archive.name} in {cache_dir}: {why}; free some space or choose "
                f"another folder with cache_dir="
            ) from error
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def rows_of(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split, in the library's order."""
    source = builder.as_data_source(split=split)
    # Some formats of the library lose examples without a word; count what can really be read.
    assert len(source) == builder.info.splits[split].num_examples, f"{split} lost examples"
    for start in range(0, len(source), _READ_AT_ONCE):
        at = range(start, min(start + _READ_AT_ONCE, len(source)))
        yield from source.__getitems__(list(at))


@contextmanager
def _quiet(tfds: Any) -> Iterator[None]:
    """Silence the library, which prints to stdout: progress is shown in one way only."""
    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tfds.enable_progress_bar()
