"""Functions that several processes call at once, connected as those of a run are."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from faults.harness import start_server

from lra_bench.distributed import World
from lra_bench.interrupt import Interrupt
from lra_bench.places import Place
from lra_bench.ranks import Team

CPU = torch.device("cpu")


def places(size: int) -> list[dict[str, str]]:
    """Return what torchrun would tell each of several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what a function of the world, and of what else it is given, returns in each process.

    What it raises is returned as well.
    """
    context = multiprocessing.get_context("forkserver")
    start_server(context)
    port = int(places(size)[0]["MASTER_PORT"])
    processes, ours = [], []
    for rank in range(size):
        mine, theirs = multiprocessing.Pipe()
        here = Place(rank, size, rank, size, "127.0.0.1", port)
        process = context.Process(target=_be, args=(here, theirs, function, arguments))
        process.start()
        theirs.close()
        processes.append(process)
        ours.append(mine)
    found = []
    for process, mine in zip(processes, ours, strict=True):
        assert mine.poll(60), "no answer"
        found.append(pickle.loads(mine.recv_bytes()))
        process.join()
    return found


def _be(here: Place, answer: Connection, function: Callable[..., Any], arguments: Any) -> None:
    interrupt = Interrupt()
    found: Any
    try:
        with Team(here) as team:
            world: World
            if here.rank:
                team.follow(interrupt)
                world = team.join("this", CPU, interrupt)
            else:
                world = team.begin("this", CPU, interrupt)
            found = function(world, *arguments)
    except Exception as error:
        found = error
    # Plain: tensors would be sent as memory that ends with this process.
    answer.send_bytes(pickle.dumps(found))
    answer.close()
    os._exit(0)
