"""How threads wait is settled before torch is there, and said; devices by name; memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lra_bench import hardware
from lra_bench.errors import UserError

PRINT = """
import os, sys
{before}
import lra_bench
assert ("torch" in sys.modules) == {loaded}
print(os.environ.get("OMP_WAIT_POLICY"))
"""


@pytest.mark.parametrize(
    ("before", "loaded", "own", "expected"),
    [
        ("", False, None, "PASSIVE"),
        ("", False, "active", "active"),
        # Too late to change anything: then nothing is claimed.
        ("sys.modules['torch'] = sys", True, None, "None"),
    ],
)
def test_threads_wait_passively_unless_somebody_said_otherwise(
    before: str, loaded: bool, own: str | None, expected: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if own is not None:
        environment["OMP_WAIT_POLICY"] = own
    environment["PYTHONPATH"] = str(Path(hardware.__file__).parents[1])
    program = PRINT.format(before=before, loaded=loaded)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_this_very_process_waits_passively_or_as_it_was_told() -> None:
    assert os.environ.get("OMP_WAIT_POLICY"), "torch was imported before lra_bench"
    policy = os.environ["OMP_WAIT_POLICY"].lower()
    assert f"waiting {policy}ly" in hardware.describe(torch.device("cpu"))


def test_devices_by_name() -> None:
    assert hardware.choose_device("cpu").type == "cpu"
    assert hardware.choose_device("auto").type in ("cpu", "cuda")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=rf"device={missing}: PyTorch sees .* use device=cpu"):
        hardware.choose_device(missing)


def test_the_description_says_how_many_threads() -> None:
    assert f"{torch.get_num_threads()} thread" in hardware.describe(torch.device("cpu"))


def test_the_peak_follows_what_is_used() -> None:
    cpu = torch.device("cpu")
    hardware.reset_peak_memory(cpu)
    before = hardware.peak_memory_bytes(cpu)
    block = torch.ones(30_000_000)
    after = hardware.peak_memory_bytes(cpu)
    assert before is not None
    assert after is not None
    assert after - before > 0.9 * 4 * len(block)


def test_the_allocator_says_whether_it_listened() -> None:
    assert isinstance(hardware.keep_freed_memory(), bool)


@pytest.mark.parametrize(
    ("told", "cores"),
    [
        ({}, None),
        # Of the job that started a shell, perhaps: nothing is known of this machine.
        ({"SLURM_CPUS_PER_TASK": "3"}, None),
        ({"SLURM_JOB_ID": "7"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "6"}, 3),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "6"}, 6),
        (
            {
                "SLURM_JOB_ID": "7",
                "SLURM_CPUS_ON_NODE": "6",
                "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
            },
            3,
        ),
    ],
)
def test_slurm_tells_how_many_cores_there_are(told: dict[str, str], cores: int | None) -> None:
    assert hardware.cores_from_slurm(told) == cores
    machine = hardware.num_cores({})
    assert hardware.num_cores(told) == min(machine, cores or machine)


def test_each_process_has_a_gpu_of_its_own() -> None:
    """One that is named, or fewer than processes, is refused; without a GPU all share the CPU."""
    assert hardware.choose_device("cpu", local_rank=1, local_size=2) == torch.device("cpu")
    with pytest.raises(UserError, match="each of 2 processes has its own; use cuda"):
        hardware.choose_device("cuda:1", local_rank=1, local_size=2)
    too_many = torch.cuda.device_count() + 2
    with pytest.raises(UserError, match=f"each of {too_many} processes needs one"):
        hardware.choose_device("cuda", local_rank=0, local_size=too_many)
