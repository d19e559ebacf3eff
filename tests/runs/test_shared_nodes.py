"""Two nodes with one run directory: the figures of both machines are in the one run; none where they are not wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

ANOTHER_MACHINE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
METERS = """
import json
from prism.delivery import system_metrics
from prism.hookspecs import hookimpl
from prism.protocols import TrackerRun
from prism.providers import Provider

system_metrics.SAMPLE_SECONDS = 0.2

class Meters:
    def open(self, run):
        self.told = run.project / "told.jsonl"
        return TrackerRun(id="here", url="")

    def position(self):
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        return json.loads(lines[-1])["position"] if lines else {}

    def deliver(self, records, position):
        names = [name for record in records if record.kind == "metrics" for name in record.data["metrics"]]
        with self.told.open("a") as stream:
            stream.write(json.dumps({"names": names, "position": dict(position)}) + "\\n")

    def close(self, status, ended):
        pass

    def system_metrics(self):
        return {"system/cpu": 0.5}

@hookimpl
def prism_trackers():
    return [Provider("meters", target="meters:Meters")]
"""
CONFIGURATION = """
foundation: {{experiment_name: figures}}
trackers: [meters]
plugins: {{local: [meters.py]}}
ml: {{system_tracing: {tracing}}}
"""
TRAIN = """
import time
import prism

run = prism.start_run()
run.log_metrics({"loss": 0.5}, step=1)

def nodes():
    return list((run.directory / "journal").glob("node-*.jsonl"))

def sampled():
    return sum(b'"system/' in path.read_bytes() for path in nodes())

deadline = time.monotonic() + 60
while len(nodes()) < run.world_size or (run.config.ml.system_tracing and sampled() < run.world_size):
    assert time.monotonic() < deadline
    time.sleep(0.05)
time.sleep(0 if run.config.ml.system_tracing else 2)  # ten times as long as between two samples
run.finish()
"""


def told(project: Any) -> set[str]:
    """The names of all metrics that the tracker was told."""
    path = project.path / "told.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {name for line in lines for name in json.loads(line)["names"]}


def prepare(project: Any, *, tracing: str) -> None:
    project.configure(CONFIGURATION.format(tracing=tracing))
    project.write("meters.py", METERS)
    project.write("train.py", TRAIN)


@pytest.mark.timeout(200)
def test_two_nodes_with_one_run_directory_have_their_figures_in_the_one_run(project: Any) -> None:
    apart = ANOTHER_MACHINE
    if subprocess.run([*apart, "true"], capture_output=True, timeout=30, check=False).returncode:
        apart = ()
    prepare(project, tracing="true")
    nodes = []
    for rank in (0, 1):
        launched = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1}
        # the other machine ends with its command: what it was delivering is taken over after a lease
        environ = {"PRISM_RUN_ID": "20260101-000000-abcdef", "PRISM_LEASE_SECONDS": "6"}
        environ |= {name: str(value) for name, value in launched.items()}
        nodes.append(project.start([*(apart if rank else ()), sys.executable, "train.py"], **environ))
    assert [node.finish(within=120).code for node in nodes] == [0, 0]
    project.await_status("FINISHED", within=60)
    project.until(lambda: project.state().pending == 0, within=60, what="the end of the delivery")
    assert told(project) == {"loss", "system/node0/cpu", "system/node1/cpu"}
    assert set(project.state().metrics) == told(project)


def test_no_figures_of_the_machine_where_they_are_not_wanted(project: Any) -> None:
    prepare(project, tracing="false")
    done = project.python("train.py")
    assert done.code == 0, done.err
    project.until(lambda: project.state().pending == 0, within=60, what="the end of the delivery")
    assert told(project) == set(project.state().metrics) == {"loss"}
