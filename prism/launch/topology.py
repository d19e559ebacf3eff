"""One topology from whatever launched us: read from the environment, in an order that never guesses.

Clusters reuse torch's names with other meanings (PAI-DLC's `WORLD_SIZE` counts nodes), so each
environment is recognised by what only it has, the surest first. What is recognised and cannot be
run yet is an error that says so, never one process where many were meant.
"""

from __future__ import annotations

from collections.abc import Mapping

from prism.errors import EnvironmentUnfit, UsageError
from prism.launch.membership import membership
from prism.protocols import Topology

_PORT = 29500  # torch's own default
_NOT_YET = "start the processes with torchrun or `accelerate launch --multi_gpu`, and `-m prism run …` in them"

Environ = Mapping[str, str]


def detect(environ: Environ, *, processes: int | None) -> Topology:
    """Where a job started from here runs.

    `processes` is how many workers on each node were asked for, None if nothing was said. The
    topology's `processes` counts the workers on each node. Raises `UsageError` when what was asked
    contradicts the launcher that has started us, `EnvironmentUnfit` for an environment that is
    recognised and not supported.
    """
    for recognise in (_worker, _pet, _dlc, _slurm, _mpi):
        found = recognise(environ, processes)
        if found is not None:
            return found
    if processes is not None:
        return Topology("explicit", f"{processes} processes were asked for", processes=processes)
    return Topology("local", "nothing was asked for and no launcher is recognised: one process")


def first_rank(topology: Topology, environ: Environ) -> int:
    """The rank of this process where it is a worker, else of the first worker that it is going to start."""
    return membership(environ).rank if topology.launched else topology.node_rank * topology.processes


def node_name(topology: Topology) -> str:
    """What this node is called among the run's: "node0", "node1", …; "" when it is the only one."""
    return f"node{topology.node_rank}" if topology.nodes > 1 else ""


def node_of_worker(environ: Environ) -> str:
    """`node_name` for a process that a launcher has started as a worker; "" for any other."""
    topology = _worker(environ, None)
    return node_name(topology) if topology is not None else ""


def _worker(environ: Environ, processes: int | None) -> Topology | None:
    """torchrun, accelerate launch and their like have started this process as one of several."""
    if "LOCAL_RANK" not in environ:
        return None
    world = _count(environ, "WORLD_SIZE", default=1)
    local = _count(environ, "LOCAL_WORLD_SIZE", default=world)
    if processes is not None and processes > local:
        raise UsageError(
            f"{processes} processes were asked for, and this launcher has started {local} on this node",
            hint="let the launcher start as many, or leave the launcher away",
        )
    return Topology(
        "worker",
        f"LOCAL_RANK={environ['LOCAL_RANK']}: a launcher has started this process as one of {world}",
        processes=local,
        nodes=max(1, world // local),
        node_rank=_count(environ, "GROUP_RANK", default=0),
        master_address=environ.get("MASTER_ADDR", ""),
        master_port=_count(environ, "MASTER_PORT", default=0),
        launched=True,
    )


def _pet(environ: Environ, processes: int | None) -> Topology | None:
    """A Kubernetes PyTorchJob, which sets torchrun's own variables on every node."""
    if "PET_NNODES" not in environ and "PET_NPROC_PER_NODE" not in environ:
        return None
    return _on_nodes(
        environ,
        source="pet",
        names="PET_*",
        nodes=_count(environ, "PET_NNODES", default=1),
        node_rank=_count(environ, "PET_NODE_RANK", default=0),
        processes=processes or _count(environ, "PET_NPROC_PER_NODE", default=1),
        master=("PET_MASTER_ADDR", "PET_MASTER_PORT"),
    )


def _dlc(environ: Environ, processes: int | None) -> Topology | None:
    """PAI-DLC: WORLD_SIZE and RANK count nodes there, and NPROC_PER_NODE the processes on each."""
    if "NPROC_PER_NODE" not in environ or "WORLD_SIZE" not in environ:
        return None
    return _on_nodes(
        environ,
        source="dlc",
        names="WORLD_SIZE (here: nodes) and NPROC_PER_NODE without LOCAL_RANK",
        nodes=_count(environ, "WORLD_SIZE", default=1),
        node_rank=_count(environ, "RANK", default=0),
        processes=processes or _count(environ, "NPROC_PER_NODE", default=1),
        master=("MASTER_ADDR", "MASTER_PORT"),
    )


def _on_nodes(
    environ: Environ, *, source: str, names: str, nodes: int, node_rank: int, processes: int, master: tuple[str, str]
) -> Topology:
    address, port = environ.get(master[0], ""), _count(environ, master[1], default=_PORT)
    if nodes > 1 and not address:
        raise EnvironmentUnfit(f"{names} say {nodes} nodes, and {master[0]} does not name the first")
    if node_rank >= nodes:
        raise EnvironmentUnfit(f"{names} say {nodes} nodes, and that this is number {node_rank} (counted from 0)")
    reason = f"{names}: {nodes} nodes of {processes} processes, this is node {node_rank}"
    return Topology(source, reason, processes, nodes, node_rank, address, port)


def _slurm(environ: Environ, _: int | None) -> Topology | None:
    """A Slurm step of several tasks; an interactive step or a batch script is one task and local."""
    _refuse(environ, name="Slurm", count="SLURM_NTASKS", member="SLURM_PROCID", inside="SLURM_STEP_ID")
    return None


def _mpi(environ: Environ, _: int | None) -> Topology | None:
    open_mpi = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")
    for count, member in (open_mpi, ("PMI_SIZE", "PMI_RANK")):
        _refuse(environ, name="MPI", count=count, member=member, inside=member)
    return None


def _refuse(environ: Environ, *, name: str, count: str, member: str, inside: str) -> None:
    """Raise when this is one of several processes that `name` started; a single one is an ordinary process."""
    if member in environ and inside in environ and _count(environ, count, default=1) > 1:
        raise EnvironmentUnfit(
            f"{name} has started this process as number {environ[member]} of {environ[count]} "
            f"({count}={environ[count]}), and Prism does not join such processes yet",
            hint=_NOT_YET,
        )


def _count(environ: Environ, name: str, *, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise EnvironmentUnfit(f"{name}={text} in the environment is not a number")
    return int(text)
