"""The process of one model: ``python -m lra_bench.speed N`` serves the connection of number N."""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection

from lra_bench.speed.worker import serve


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, which holds the other end of stdin."""
    sys.stdin.buffer.read(1)
    os._exit(1)


if __name__ == "__main__":
    # What the code of a model prints must not be lost in somebody's pipe.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve(Connection(int(sys.argv[1])))
