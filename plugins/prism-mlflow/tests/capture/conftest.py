"""A run in this process with MLflow's own library inside it, before a server that is there, silent or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlflow
import pytest
from attrs import define, field

from prism.journal.directory import RunDirectory
from prism.journal.projection import Follower, Projection
from prism.project import open_project
from prism.protocols import Record, RunRef, TrackedRun
from prism.runs.beginning import begin_run, describe_run, enter_attempt, enter_trackers
from prism.runs.handle import Run
from prism_mlflow.access.client import Client
from prism_mlflow.access.connection import Connection
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

YAML = """
foundation: {{experiment_name: {experiment}}}
ml: {{tracking_uri: "{uri}", auto_log: {auto_log}, system_tracing: false, parameters: {{lr: 0.1, epochs: 3}}}}
trackers: [{{name: mlflow, timeout: {timeout}}}]
"""


@define
class Inside:
    """A run that this process is in, and what its delivery brings to the server."""

    run: Run
    uri: str
    _leaving: ExitStack = field(factory=ExitStack)

    def leave(self) -> None:
        """End the run, and go out of it."""
        self._leaving.close()

    def journal(self, kind: str) -> list[Record]:
        """The records of that kind, of all processes."""
        return [record for record in Follower(RunDirectory(self.run.directory)).poll() if record.kind == kind]

    def tracked(self) -> TrackedRun:
        """The run as its tracker is told of it."""
        return TrackedRun(
            ref=RunRef(self.run.run_id, self.run.directory),
            project=self.run.project,
            experiment=self.run.config.foundation.experiment_name,
            name="",
            started=1_700_000_000_000,
            settings=self.run.config.section("ml"),
        )

    def told(self) -> list[Record]:
        """The records that are for trackers."""
        directory = RunDirectory(self.run.directory)
        projection = Projection(directory)
        return [record for record in map(projection.project, Follower(directory).poll()) if record]

    def bring(self, tracker: MlflowTracker) -> str:
        """Open, deliver everything, and close; MLflow's id of the run."""
        found = tracker.open(self.tracked())
        told = self.told()
        tracker.deliver(told, {record.file: record.seq for record in told})
        tracker.close("FINISHED", 1_800_000_000_000)
        return found.id

    def deliver(self) -> tuple[Client, str]:
        """Deliver everything twice, as after a crash; the server's client and its id of the run."""
        for _ in range(2):
            mlflow_id = self.bring(MlflowTracker(TrackerOptions(timeout=60)))
        return self.client(), mlflow_id

    def client(self) -> Client:
        """A client of the server that knows nothing of the run around it."""
        return Connection.of(self.run.project, settings={"tracking_uri": self.uri}, timeout=60).client


Enter = Callable[..., Inside]


@pytest.fixture
def enter(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Enter]:
    """`enter(uri, timeout=…, auto_log=…)`: begin a run here and go inside; it ends with the test."""
    with ExitStack() as stack:

        def begin(uri: str, *, timeout: float = 30.0, auto_log: str = "false", **texts: Any) -> Inside:
            folder = tmp_path / f"project-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            experiment = f"{request.node.name[:40].replace('[', '-').rstrip(']')}-{os.urandom(3).hex()}"
            text = YAML.format(experiment=experiment, uri=uri, timeout=timeout, auto_log=auto_log)
            (folder / "sais_foundation.yaml").write_text(text + texts.get("more", ""))
            monkeypatch.chdir(folder)
            project = open_project(start=folder)
            directory = begin_run(project)
            run = enter_attempt(directory, project=project, attempt=1)
            describe_run(run.say, project)
            inside = Inside(run, uri)
            inside._leaving.callback(run.finish)
            inside._leaving.callback(enter_trackers(run, project))
            stack.callback(inside.leave)
            return inside

        stack.callback(mlflow.set_tracking_uri, None)  # where a test has said another, this process would remember
        yield begin


@pytest.fixture(params=["present", "silent", "absent"])
def anywhere(request: pytest.FixtureRequest, enter: Enter, free_port: int) -> Iterator[Inside]:
    """A run whose server answers, accepts connections and never answers, or is not there at all."""
    server = request.getfixturevalue("mlflow_server")
    with ExitStack() as stack:
        if request.param == "silent":
            stack.enter_context(server.paused())
        uri = f"http://127.0.0.1:{free_port}" if request.param == "absent" else server.uri
        timeout = 30.0 if request.param == "present" else 1.5
        yield enter(uri, timeout=timeout)
