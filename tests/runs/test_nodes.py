"""A run of two nodes that share no folder: each delivers its part of the one run, with its machine's figures."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]

ANOTHER_MACHINE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
TRAIN = """
import time

def is_sampled(run):
    return any(b'"system/' in path.read_bytes() for path in (run.directory / "journal").glob("node-*.jsonl"))

def train(run):
    run.log_params({"rank": run.rank})
    for step in range(1, 21):
        run.log_metrics({"loss": run.rank + 1 / step}, step=step)
    run.log_text(f"from {run.rank}", name=f"said-{run.rank}.txt")
    if run.attempt == 1:
        raise SystemExit(7)
    deadline = time.monotonic() + 100
    while not is_sampled(run):  # MLflow takes seconds to import
        assert time.monotonic() < deadline
        time.sleep(0.1)
"""
CONFIGURATION = """
foundation: {{experiment_name: {experiment}}}
plugins: {{local: [often.py]}}
ml: {{tracking_uri: "{uri}", ranks: all}}
"""
OFTEN = """
from prism.delivery import system_metrics
from prism.hookspecs import hookimpl

system_metrics.SAMPLE_SECONDS = 0.5

@hookimpl
def prism_trackers():
    return []
"""


def can_be_another_machine() -> bool:
    try:
        return subprocess.run([*ANOTHER_MACHINE, "true"], capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


def another_port(taken: int) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := int(probe.getsockname()[1])) != taken:
                return port


@pytest.fixture
def nodes(tmp_path: Path, new_project: Callable[[Path], Any], mlflow_server: Any) -> list[Any]:
    """Two projects of the same name and configuration, in folders of their own."""
    projects = [new_project(tmp_path / f"node{number}") for number in (0, 1)]
    experiment = f"nodes-{secrets.token_hex(4)}"
    for project in projects:
        project.configure(CONFIGURATION.format(experiment=experiment, uri=mlflow_server.uri))
        project.write("train.py", TRAIN)
        project.write("often.py", OFTEN)
    return projects


def work(nodes: list[Any], ports: tuple[int, int], run_id: str) -> list[list[int]]:
    """One worker on each node, a launch that fails, one that resumes it, and a sync; the exit codes of each node.

    The second node is another machine, where this one can be two.
    """
    apart = ANOTHER_MACHINE if can_be_another_machine() else ()
    started = []
    for rank, project in enumerate(nodes):
        lines = []
        for port, more in zip(ports, ("", f"--resume {run_id}"), strict=True):
            lines.append(
                f"{sys.executable} -m torch.distributed.run --nnodes 2 --node_rank {rank} --nproc_per_node 1"
                f" --master_addr 127.0.0.1 --master_port {port} -m prism run train.py:train {more}; echo $? >>codes"
            )
        lines.append(f"{sys.executable} -m prism sync {run_id}; echo $? >>codes")
        script = project.write("node.sh", "\n".join(lines))
        started.append(project.start([*(apart if rank else ()), "sh", script], PRISM_RUN_ID=run_id))
    done = [one.finish(within=300) for one in started]
    codes = [[int(code) for code in (project.path / "codes").read_text().split()] for project in nodes]
    print(*done, sep="\n")
    return codes


def test_each_node_delivers_its_part_of_the_run(nodes: list[Any], mlflow_server: Any, free_port: int) -> None:
    from mlflow.tracking import MlflowClient

    run_id = f"20260101-000000-{secrets.token_hex(3)}"
    codes = work(nodes, (free_port, another_port(free_port)), run_id)
    assert [(first != 0, *others) for first, *others in codes] == [(True, 0, 0)] * 2
    for number, project in enumerate(nodes):
        workers = {path.stem for path in project.run().journal.glob("a*-rank*.jsonl")}
        assert workers == {f"a1-rank{number}", f"a2-rank{number}"} and project.run().run_id == run_id
        assert (project.state().status, project.state().pending) == ("FINISHED", 0)

    client = MlflowClient(tracking_uri=mlflow_server.uri)
    experiment = client.get_experiment_by_name(nodes[0].state().experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["prism.run_id"]) == ("FINISHED", run_id)
    for name, rank in (("loss", 0), ("rank1/loss", 1)):
        points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        assert sorted(points) == [(step, rank + 1 / step) for step in range(1, 21)]
    assert {name: run.data.params[name] for name in ("rank", "rank1/rank")} == {"rank": "0", "rank1/rank": "1"}
    for node in ("node0", "node1"):
        assert client.get_metric_history(run.info.run_id, f"system/{node}/cpu_utilization_percentage")
    assert not [name for name in run.data.metrics if name.startswith("system/cpu")]
    kept = [file.path for file in client.list_artifacts(run.info.run_id)]
    inside = [file.path for file in client.list_artifacts(run.info.run_id, "rank1")]
    assert "said-0.txt" in kept and inside == ["rank1/said-1.txt"]
