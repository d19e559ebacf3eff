"""A server that stops answering, and a worker that is killed: nothing said is lost, and the status is true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

pytest.importorskip("prism_mlflow")
from mlflow.tracking import MlflowClient

POINTS = 200
SCRIPT = f"""
import time
import prism

@prism.experiment
def train(run: prism.Run) -> None:
    note = run.project / "note.txt"
    note.write_text("as it was logged")
    run.log_artifact(note)
    note.write_text("overwritten since")
    for step in range({POINTS}):
        run.log_metrics({{"loss": 1.0 / (step + 1)}}, step=step)
    (run.project / "ready").touch()
    time.sleep(120)
"""


class Server(Protocol):
    uri: str

    def pause(self) -> None: ...
    def resume(self) -> None: ...


def prism(project: Path, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prism", "--project", str(project), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def wait_for(condition: Callable[[], Any], *, seconds: float) -> float:
    """Seconds until `condition()` holds; fails the test after `seconds`."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - began


def show(project: Path) -> dict[str, Any]:
    (run,) = [path for path in (project / "artifacts" / "runs").iterdir() if not path.name.startswith(".")]
    answer = prism(project, "runs", "show", run.name, "--json")
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def ended_records(project: Path) -> list[dict[str, Any]]:
    files = project.glob("artifacts/runs/*/journal/node-*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["kind"] == "end"]


@pytest.fixture
def project(tmp_path: Path, mlflow_server: Server) -> Iterator[Path]:
    config = {"foundation": {"experiment_name": tmp_path.name}, "ml": {"tracking_uri": mlflow_server.uri}}
    (tmp_path / "sais_foundation.yaml").write_text(json.dumps(config))
    (tmp_path / "train.py").write_text(SCRIPT)
    yield tmp_path
    mlflow_server.resume()


@pytest.fixture
def stopped_run(project: Path, mlflow_server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose server is stopped before its first step, at the end of its work."""
    mlflow_server.pause()
    run = subprocess.Popen(
        [sys.executable, "-m", "prism", "run", "train.py:train"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for((project / "ready").exists, seconds=60)
    yield run
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait(20)


def worker_pid(project: Path) -> int:
    (journal,) = project.glob("artifacts/runs/*/journal/a1-rank0.jsonl")
    pid: int = json.loads(journal.read_text().splitlines()[0])["process"]["pid"]
    return pid


@pytest.mark.parametrize("whom", ["the worker", "the whole process group"])
def test_killed_while_the_server_is_stopped(
    project: Path, mlflow_server: Server, stopped_run: subprocess.Popen[bytes], whom: str
) -> None:
    if whom == "the worker":
        os.kill(worker_pid(project), signal.SIGKILL)
    else:
        os.killpg(stopped_run.pid, signal.SIGKILL)
    waited = wait_for(lambda: ended_records(project), seconds=10)
    assert waited < 2.0
    assert ended_records(project)[0]["status"] == "FAILED"
    state = show(project)
    assert state["status"] == "FAILED"
    assert state["trackers"]["mlflow"]["pending"] > POINTS
    mlflow_server.resume()
    synced = prism(project, "sync")
    assert synced.returncode == 0, synced.stderr
    assert show(project)["pending"] == 0

    client = MlflowClient(mlflow_server.uri)
    experiment = client.get_experiment_by_name(project.name)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    points = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [(i, 1.0 / (i + 1)) for i in range(POINTS)]
    assert run.info.status == "FAILED"
    logged = client.download_artifacts(run.info.run_id, "note.txt", str(project))
    assert Path(logged).read_text() == "as it was logged"


def test_sync_says_that_the_server_is_out_of_reach(
    project: Path, mlflow_server: Server, stopped_run: subprocess.Popen[bytes]
) -> None:
    os.killpg(stopped_run.pid, signal.SIGKILL)
    wait_for(lambda: ended_records(project), seconds=10)
    answer = prism(project, "sync", seconds=150)
    assert answer.returncode == 4
    assert mlflow_server.uri in answer.stderr
    assert show(project)["pending"] > POINTS
