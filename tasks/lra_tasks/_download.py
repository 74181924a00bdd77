"""Downloading a file of known content into the data folder, or saying how to put it there."""

from __future__ import annotations

import http.client
import tempfile
import urllib.request
from pathlib import Path

from lra_bench.errors import UserError

_CONNECT_SECONDS = 10.0


def download(
    url: str, target: Path, *, what: str, num_bytes: int, sha256: str, otherwise: str = ""
) -> None:
    """Download a file; it appears whole or not at all.

    Args:
        url: Where it is.
        target: Where it is to be, under the name that the task looks for.
        what: What it holds, for the messages.
        num_bytes: Its size.
        sha256: Its checksum (hex).
        otherwise: What else would do, for the messages.

    Raises:
        UserError: There is no network, the server refuses, or the checksum differs.
    """
    by_hand = (
        f"put {target.name} ({num_bytes:,} bytes, from {url}) into {target.parent}{otherwise} and "
        f"run again, or name the folder that has it with data_dir="
    )
    # The library below retries for minutes before it gives up; ask once, briefly, first.
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_CONNECT_SECONDS).close()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"cannot download {what} ({reason}): {by_hand}") from error
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import units
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    known = UrlInfo(size=units.Size(num_bytes), checksum=sha256, filename=target.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
            manager = tfds.download.DownloadManager(
                download_dir=folder, url_infos={url: known}, dataset_name="lra_bench"
            )
            Path(manager.download(url)).replace(target)
    except NonMatchingChecksumError as error:
        raise UserError(f"the download failed (wrong checksum): {by_hand}") from error
    except (OSError, tfds.download.DownloadError, ValueError) as error:
        raise UserError(f"the download failed ({error}): {by_hand}") from error
