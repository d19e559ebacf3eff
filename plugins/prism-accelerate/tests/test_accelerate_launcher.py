"""Launch plans are pure data: from a job and a topology to the exact command and environment."""

from __future__ import annotations

import sys

import pytest

from prism.plugins import Plugins
from prism.protocols import Job, Topology
from prism_accelerate.launcher import AccelerateLauncher
from prism_accelerate.options import LauncherOptions

PYTHON = sys.executable
AGENT = (PYTHON, "-m", "torch.distributed.run")
JOB = Job(("-m", "prism.runs.worker", "/runs/a b", "--attempt", "1"), {"PRISM_RUN_ID": "20261123"})

ONE = Topology("local", "")
TWO = Topology("explicit", "", processes=2)
NODES = Topology("pet", "", processes=8, nodes=2, node_rank=1, master_address="10.0.0.1", master_port=29400)
WORKER = Topology("worker", "", processes=2, launched=True)
MASTER = ("--master_addr", "10.0.0.1", "--master_port", "29400")


@pytest.mark.parametrize(
    ("topology", "before", "processes"),
    [
        (ONE, (PYTHON,), "1"),
        (TWO, (*AGENT, "--standalone", "--nproc_per_node", "2"), "2"),
        (NODES, (*AGENT, "--nnodes", "2", "--node_rank", "1", *MASTER, "--nproc_per_node", "8"), "16"),
        (WORKER, (PYTHON,), None),
    ],
    ids=lambda value: value.source if isinstance(value, Topology) else "",
)
def test_argv_and_environment(topology, before, processes):
    plan = AccelerateLauncher().plan(JOB, topology)
    assert plan.argv == (*before, *JOB.arguments)
    assert dict(plan.env) == {"PRISM_RUN_ID": "20261123"} | ({"PRISM_PROCESSES": processes} if processes else {})
    assert plan.files == {}


def test_workers_kept_off_an_accelerator():
    plan = AccelerateLauncher(LauncherOptions(device="cpu")).plan(JOB, TWO)
    assert plan.env["ACCELERATE_USE_CPU"] == "true"


def test_a_script_is_given_to_the_agent_as_it_is_and_interpreter_options_are_kept():
    assert AccelerateLauncher().plan(Job(("train.py", "--lr", "1")), TWO).argv[-3:] == ("train.py", "--lr", "1")
    plan = AccelerateLauncher().plan(Job(("-X", "dev", "train.py")), TWO)
    assert plan.argv[-5:] == ("--no-python", PYTHON, "-X", "dev", "train.py")


def test_the_plugin_is_found_and_builds_all_it_provides():
    plugins = Plugins.load(environ={})
    (record,) = [record for record in plugins.records if record.name == "accelerate"]
    assert record.state == "ok", record.error
    assert {(each.kind, each.name) for each in record.provides} == {
        ("trainer", "accelerate"),
        ("predictor", "generate"),
        ("launcher", "accelerate"),
    }
    for kind, name in (("trainer", "accelerate"), ("predictor", "generate"), ("launcher", "accelerate")):
        options = plugins.option_type(kind, name)
        assert plugins.build(kind, name, options()) is not None
