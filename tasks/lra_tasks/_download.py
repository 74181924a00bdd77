"""Downloading a file of known content into the data folder, or saying how to put it there."""

from __future__ import annotations

import http.client
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench.errors import UserError

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Archive:
    """An archive of known content.

    Args:
        name: What it is, for records.
        num_bytes: Its size.
        sha256: Its checksum (hex).
    """

    name: str
    num_bytes: int
    sha256: str


def url_infos(url: str, archive: Archive, filename: str) -> dict[str, Any]:
    """Return what tensorflow-datasets must know of an archive to download and check it.

    Args:
        url: Where it is.
        archive: What it must be.
        filename: What it is called.
    """
    from tensorflow_datasets.core import units
    from tensorflow_datasets.core.download.checksums import UrlInfo

    size = units.Size(archive.num_bytes)
    return {url: UrlInfo(size=size, checksum=archive.sha256, filename=filename)}


def download(url: str, target: Path, archive: Archive, *, what: str, otherwise: str = "") -> None:
    """Download an archive; it appears whole or not at all.

    tensorflow-datasets does it, and checks size and checksum.

    Args:
        url: Where it is.
        target: Where it is to be, under the name that the task looks for.
        archive: What it must be.
        what: What it holds, for the messages.
        otherwise: What else would do, for the messages.

    Raises:
        UserError: There is no network, the server refuses, or the checksum differs.
    """
    by_hand = (
        f"put {target.name} ({archive.num_bytes:,} bytes, from {url}) into {target.parent}"
        f"{otherwise} and run again, or name the folder that has it with data_dir="
    )
    # The library below retries for minutes before it gives up; ask once, briefly, first.
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise UserError(f"cannot download {what} ({why}): {by_hand}") from error
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            manager = tfds.download.DownloadManager(
                download_dir=folder,
                url_infos=url_infos(url, archive, target.name),
                dataset_name="lra_bench",
            )
            Path(manager.download(url)).replace(target)
    except NonMatchingChecksumError as error:
        raise UserError(f"the download failed (wrong checksum): {by_hand}") from error
    except (OSError, tfds.download.DownloadError, ValueError) as error:
        raise UserError(f"the download failed ({error}): {by_hand}") from error
