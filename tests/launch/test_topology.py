"""Recorded environments and the topology each of them means."""

from __future__ import annotations

import pytest

from prism.errors import EnvironmentUnfit, UsageError
from prism.launch.topology import detect

TORCHRUN = {
    "LOCAL_RANK": "1",
    "RANK": "3",
    "GROUP_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29411",
    "TORCHELASTIC_RUN_ID": "none",
}
PYTORCHJOB = {
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "8",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "job-master-0",
    "PET_MASTER_PORT": "23456",
}
DLC = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "NPROC_PER_NODE": "8",
    "MASTER_ADDR": "dlc-master-0",
    "MASTER_PORT": "23456",
}
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_LAUNCH_NODE_IPADDR": "10.1.1.1"}
SRUN = {**SALLOC, "SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environ", "processes", "expected"),
    [
        ({}, None, ("local", 1, 1, 0, False)),
        ({}, 4, ("explicit", 4, 1, 0, False)),
        (TORCHRUN, None, ("worker", 2, 2, 1, True)),
        (TORCHRUN, 2, ("worker", 2, 2, 1, True)),
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, None, ("worker", 2, 1, 0, True)),
        (PYTORCHJOB, None, ("pet", 8, 2, 1, False)),
        (PYTORCHJOB, 4, ("pet", 4, 2, 1, False)),
        ({**PYTORCHJOB, **TORCHRUN}, None, ("worker", 2, 2, 1, True)),
        (DLC, None, ("dlc", 8, 2, 1, False)),
        ({**DLC, "WORLD_SIZE": "1", "RANK": "0"}, None, ("dlc", 8, 1, 0, False)),
        (SALLOC, None, ("local", 1, 1, 0, False)),
        (SALLOC, 2, ("explicit", 2, 1, 0, False)),
        ({**SRUN, "SLURM_NTASKS": "1"}, None, ("local", 1, 1, 0, False)),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None, ("local", 1, 1, 0, False)),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None, ("local", 1, 1, 0, False)),
    ],
)
def test_what_an_environment_means(environ, processes, expected):
    found = detect(environ, processes=processes)
    assert (found.source, found.processes, found.nodes, found.node_rank, found.launched) == expected
    assert found.reason


def test_the_master_is_the_one_that_the_environment_names():
    assert (detect(PYTORCHJOB, processes=None).master_address, detect(DLC, processes=None).master_port) == (
        "job-master-0",
        23456,
    )


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (SRUN, "Slurm has started this process as number 2 of 4"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "MPI has started this process"),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "MPI has started this process"),
        ({**DLC, "MASTER_ADDR": ""}, "MASTER_ADDR does not name the first"),
        ({**PYTORCHJOB, "PET_NODE_RANK": "2"}, "2 nodes, and that this is number 2"),
        ({**PYTORCHJOB, "PET_NPROC_PER_NODE": "auto"}, "PET_NPROC_PER_NODE=auto in the environment is not a number"),
    ],
)
def test_what_is_recognised_and_not_supported_is_an_error(environ, message):
    with pytest.raises(EnvironmentUnfit, match=message):
        detect(environ, processes=None)


def test_more_processes_than_the_launcher_has_started_is_an_error():
    with pytest.raises(UsageError, match="4 processes were asked for, and this launcher has started 2"):
        detect(TORCHRUN, processes=4)
