"""Which process of a run this one is, by what torchrun and Slurm say."""

from __future__ import annotations

import pytest

from lra_bench.errors import UserError
from lra_bench.places import Place, first_host, started_place

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "gpu3",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "2",
    "SLURM_JOB_NODELIST": "gpu[003-004]",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}


def test_of_torchrun() -> None:
    assert started_place(TORCHRUN) == Place(5, 8, 1, 4, "gpu3", 29500, True)
    own = {name: value for name, value in TORCHRUN.items() if not name.startswith("TORCHELASTIC")}
    assert started_place(own) == Place(5, 8, 1, 4, "gpu3", 29500, False)


def test_of_slurm() -> None:
    assert started_place(SLURM) == Place(5, 8, 1, 4, "gpu003", 20_000 + 77 * 8 + 2, False)
    chosen = started_place(SLURM | {"MASTER_ADDR": "here", "MASTER_PORT": "4000"})
    assert chosen == Place(5, 8, 1, 4, "here", 4000, False)


def test_one_node_of_slurm_needs_no_name() -> None:
    on_one = SLURM | {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "8"}
    found = started_place(on_one)
    assert found is not None
    assert (found.address, found.local_size) == ("127.0.0.1", 8)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RANK": "3"},
        TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
        # A script of a job, which Slurm runs once, however many tasks the job may have.
        {name: value for name, value in SLURM.items() if "STEP" not in name},
    ],
)
def test_alone(environ: dict[str, str]) -> None:
    assert started_place(environ) is None


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        (TORCHRUN | {"RANK": "8"}, "rank 8 of 8"),
        (TORCHRUN | {"RANK": "x"}, "does not tell which"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "does not tell which: KeyError\\('MASTER_ADDR'\\)"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "use torchrun, srun"),
    ],
)
def test_nonsense_is_a_clear_line(environ: dict[str, str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        started_place(environ)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("gpu[003-007,9],cpu1", "gpu003"),
        ("gpu[12]", "gpu12"),
        ("rack[2-3]-gpu,login", "rack2-gpu"),
        ("login,gpu[1-2]", "login"),
        ("a-b1", "a-b1"),
    ],
)
def test_the_first_machine_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
