"""A compute node without a network: a login node that sees the folder delivers while the training goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

pytest.importorskip("prism_mlflow")
from mlflow.tracking import MlflowClient

from prism.journal.directory import RunDirectory, list_runs
from prism.journal.records import read_journal
from prism.journal.state import read_state

SCRIPT = """
import time
import prism

@prism.experiment
def train(run: prism.Run) -> None:
    step = 0
    while not (run.project / "enough").exists():
        run.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
        step += 1
        time.sleep(0.05)
    (run.project / "steps").write_text(str(step))
    raise SystemExit(7)
"""
ELSEWHERE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Another machine as Prism sees it, with no network at all, not even to itself."""


class Server(Protocol):
    uri: str


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ELSEWHERE, "true"], capture_output=True, timeout=30, check=False).returncode == 0


def wait_for(condition: Callable[[], Any], *, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def write_project(folder: Path, uri: str) -> None:
    config = {"foundation": {"experiment_name": folder.name}, "ml": {"tracking_uri": uri, "system_tracing": False}}
    (folder / "sais_foundation.yaml").write_text(json.dumps(config))
    (folder / "train.py").write_text(SCRIPT)


def start(project: Path, *words: str, where: list[str]) -> subprocess.Popen[bytes]:
    log = (project / f"{words[0]}.log").open("wb")
    command = [*where, sys.executable, "-m", "prism", "--project", str(project), *words]
    with log:
        return subprocess.Popen(command, cwd=project, stdout=log, stderr=log, start_new_session=True)


@pytest.fixture
def project(tmp_path: Path, mlflow_server: Server) -> Path:
    write_project(tmp_path, mlflow_server.uri)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    if not can_unshare():
        pytest.skip("no namespaces of our own here")
    process = start(project, "run", "train.py:train", where=ELSEWHERE)
    yield process
    (project / "enough").touch()
    try:
        process.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


def only_run(project: Path) -> RunDirectory:
    (directory,) = list_runs(project)
    return directory


def test_a_login_node_delivers_for_a_node_that_cannot(
    project: Path, mlflow_server: Server, run: subprocess.Popen[bytes]
) -> None:
    wait_for(lambda: list(list_runs(project)))
    directory = only_run(project)
    wait_for(lambda: "Network is unreachable" in str(read_state(directory).trackers))
    login = start(project, "sync", "--follow", where=[])
    try:
        wait_for(lambda: sum(read_state(directory).trackers["mlflow"].position.values()) > 20)
        assert read_state(directory).status == "RUNNING"
        (project / "enough").touch()
        assert run.wait(90) == 7
        wait_for(lambda: read_state(directory).status == "FAILED" and read_state(directory).pending == 0)
    finally:
        login.send_signal(signal.SIGINT)
        assert login.wait(60) == 130
    assert len(directory.delivery_files()) == 2  # the node's, and the login node's for the run's life
    assert all(read_journal(file).records[-1].kind == "end" for file in directory.delivery_files())

    client = MlflowClient(mlflow_server.uri)
    experiment = client.get_experiment_by_name(project.name)
    assert experiment is not None
    (stored,) = client.search_runs([experiment.experiment_id])
    points = client.get_metric_history(stored.info.run_id, "loss")
    steps = int((project / "steps").read_text())
    assert sorted((point.step, point.value) for point in points) == [(i, 1.0 / (i + 1)) for i in range(steps)]
    assert stored.info.status == "FAILED"
