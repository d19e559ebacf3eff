"""The launcher `accelerate`: a job becomes one Python process, or several under torch.distributed.run."""

from __future__ import annotations

import sys

from prism.protocols import Job, LaunchPlan, Topology
from prism_accelerate.options import LauncherOptions


class AccelerateLauncher:
    """Role `Launcher`. Starts nothing and asks nothing of the machine: a plan is pure data."""

    def __init__(self, options: LauncherOptions | None = None) -> None:
        self.options = options or LauncherOptions()

    def plan(self, job: Job, topology: Topology) -> LaunchPlan:
        """The command for this node: a plain worker, or the elastic agent that starts `topology.processes`.

        The environment holds the job's own, and `PRISM_PROCESSES`, the number of workers on all
        nodes together, which the trainer holds against the process group that came to be.
        """
        total = topology.processes * topology.nodes
        env = dict(job.environment)
        if not topology.launched:
            env["PRISM_PROCESSES"] = str(total)
        if self.options.device == "cpu":
            env["ACCELERATE_USE_CPU"] = "true"
        alone = topology.launched or total == 1
        start = (sys.executable,) if alone else (*_agent(topology), *_program(job))
        return LaunchPlan(argv=(*start, *job.arguments), env=env)


def _agent(topology: Topology) -> tuple[str, ...]:
    """torch.distributed.run with its rendezvous: its own on one node, the given master on several."""
    agent = (sys.executable, "-m", "torch.distributed.run")
    if topology.nodes == 1:
        return (*agent, "--standalone", "--nproc_per_node", str(topology.processes))
    return (
        *agent,
        *("--nnodes", str(topology.nodes), "--node_rank", str(topology.node_rank)),
        *("--master_addr", topology.master_address, "--master_port", str(topology.master_port)),
        *("--nproc_per_node", str(topology.processes)),
    )


def _program(job: Job) -> tuple[str, ...]:
    """What stands between the agent's options and the job's arguments.

    The agent takes `-m module` and `script.py` as they are; any other interpreter option only
    behind an explicit interpreter.
    """
    first = job.arguments[0] if job.arguments else ""
    return ("--no-python", sys.executable) if first.startswith("-") and first != "-m" else ()
