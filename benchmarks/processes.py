"""A step of one process with two threads against one of two processes with one thread each.

    python benchmarks/processes.py --words task=listops model=ernie_sparse setting=cpu

Both share the same cores, compute with the same batches, make the same updates, and take turns.
The loss after the same number of steps, without dropout, is printed beside: the two may differ by
rounding alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

# Before torch: the package settles how threads wait.
from lra_bench.compose import Request, compose  # isort: split

import numpy as np
import torch
from numpy.typing import NDArray

from lra_bench import processes
from lra_bench.build import build_task
from lra_bench.data import Loader
from lra_bench.distributed import World
from lra_bench.hardware import describe, keep_freed_memory
from lra_bench.interrupt import Interrupt
from lra_bench.optim import Optimization
from lra_bench.places import Place
from lra_bench.ranks import Team
from lra_bench.runner import assemble, build_objective

CPU = torch.device("cpu")


def serve(here: Place, request: Request, num_threads: int, orders: Connection) -> None:
    """Be a process of an arm: make as many steps as is asked for, until nothing is."""
    processes.end_with_parent()
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    with Team(here) as team:
        if here.rank:
            team.follow(Interrupt())
            world = team.join("this", CPU, Interrupt())
        else:
            world = team.begin("this", CPU, Interrupt())
        step(world, request, orders)


def step(world: World, request: Request, orders: Connection) -> None:
    """Make steps, and tell what they took and the last loss."""
    config = request.config
    task = build_task(request)
    task.prepare()
    model = assemble(config, task.spec)
    model.train()
    objective = build_objective(request)
    optimization = Optimization(model, config.train, world=world)
    loader = Loader(
        task.examples("train"),
        task.spec,
        batch_size=config.train.batch_size,
        bucketing=config.train.bucketing,
        device=CPU,
        rank=world.rank,
        size=world.size,
    )
    world.synchronize(model)
    batches = loader.training(seed=config.seed, start=0, stop=config.train.num_steps)
    done = 0
    while number := orders.recv():
        began = time.perf_counter()
        for _ in range(number):
            batch = next(batches)
            world.begin_share(is_none=not batch.num_tokens)
            found = objective(model, batch)
            count = found.number if batch.num_tokens else 0
            loss = optimization.step(found.total, done, number=count)
            done += 1
        orders.send((time.perf_counter() - began, loss.item()))
    flat = torch.cat([parameter.detach().double().reshape(-1) for parameter in model.parameters()])
    orders.send(flat.numpy())


class Arm:
    """Processes that share each batch.

    Args:
        size: How many.
        num_threads: Threads of each.
        request: What they train.
    """

    def __init__(self, size: int, num_threads: int, request: Request) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        self.orders = []
        self.seconds: list[float] = []
        self.losses: list[float] = []
        for rank in range(size):
            ours, theirs = multiprocessing.Pipe()
            here = Place(rank, size, rank, size, "127.0.0.1", port if size > 1 else 0)
            arguments: Any = (here, request, num_threads, theirs)
            context.Process(target=serve, args=arguments).start()
            self.orders.append(ours)

    def round(self, num_steps: int) -> float:
        """Return the time of a step [seconds]."""
        for orders in self.orders:
            orders.send(num_steps)
        answers = [orders.recv() for orders in self.orders]
        self.losses.append(answers[0][1])
        longest: float = max(seconds for seconds, _ in answers)
        return longest / num_steps

    def weights(self) -> NDArray[np.float64]:
        """Let the processes end, and return all weights, which are the same in each."""
        for orders in self.orders:
            orders.send(0)
        first: NDArray[np.float64]
        first, *others = [orders.recv() for orders in self.orders]
        assert all((first == other).all() for other in others)
        return first


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--words", nargs="+", default=["task=listops", "model=ernie_sparse", "setting=cpu"]
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="steps of a round")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    request = compose([*asked.words, "trunk.dropout=0", "trunk.attention_dropout=0"])
    task = build_task(request)
    task.prepare()
    model = assemble(request.config, task.spec)
    begun = np.concatenate([x.detach().double().numpy().ravel() for x in model.parameters()])
    arms = [Arm(1, asked.processes, request), Arm(asked.processes, 1, request)]
    for arm in arms:
        arm.round(2)
    ratios = []
    for _ in range(asked.rounds):
        for arm in arms:
            arm.seconds.append(arm.round(asked.steps))
        ratios.append(arms[0].seconds[-1] / arms[1].seconds[-1])
    print(f"{request.title}; {describe(CPU)}\n")
    print("| | ms a step, median (min to max) | loss after the last step |\n| --- | ---: | ---: |")
    names = (f"1 process, {asked.processes} threads", f"{asked.processes} processes, 1 thread each")
    for name, arm in zip(names, arms, strict=True):
        ms = [1000 * seconds for seconds in arm.seconds]
        print(
            f"| {name} | {statistics.median(ms):.1f} ({min(ms):.1f} to {max(ms):.1f}) | "
            f"{arm.losses[-1]:.7f} |"
        )
    one, several = (arm.weights() for arm in arms)
    num_steps = 2 + asked.rounds * asked.steps
    print(
        f"\nafter {num_steps} steps the largest difference of a weight is "
        f"{np.abs(one - several).max():.1e}, of weights up to {np.abs(one).max():.1f} that have "
        f"moved by up to {np.abs(one - begun).max():.1e}"
    )
    print(
        f"\n{asked.processes} processes are {statistics.median(ratios):.2f} times as fast "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
