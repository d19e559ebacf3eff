"""MLflow's calls on their way to the server, where replies are lost: what they make is made once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import LoggedModelOutput, ViewType

from campaigns.proxy import FaultProxy
from campaigns.servers import MlflowServer
from prism.errors import Unanswered, Unreachable
from prism_mlflow.access.client import Client
from prism_mlflow.access.stores import ServerStore
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker

CALLS: tuple[tuple[type, str, str], ...] = (
    (Client, "create_run", "runs/create"),  # of the run itself
    (Client, "create_run", "runs/create"),  # of the first nested one
    (Client, "create_logged_model", "mlflow/logged-models"),
    (Client, "create_registered_model", "registered-models/create"),
    (Client, "_create_model_version", "model-versions/create"),
    (Client, "log_outputs", "runs/outputs"),
    (Client, "log_inputs", "runs/log-inputs"),
    (Client, "log_batch", "runs/log-batch"),
    (Client, "set_terminated", "runs/update"),
    (Client, "log_model_artifact", "mlflow-artifacts"),
    (ServerStore, "log_batch", "runs/log-batch"),
)
"""What makes something at the server: where it is called, and the path of its request."""


def log_much(run_id: str, folder: Path, *, name: str) -> None:
    """Nested runs, a model with everything, and a version of `name` with an alias."""
    client = mlflow.MlflowClient()
    with mlflow.start_run():
        mlflow.log_metric("loss", 1.0, step=1)
        with mlflow.start_run(nested=True, run_name="child", tags={"try": "1"}):
            mlflow.log_param("lr", 2)
            for step in range(3):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_text("child", "note.txt")
            with mlflow.start_run(nested=True, run_name="grandchild"):
                mlflow.log_metric("deep", 1.0)
        model = mlflow.initialize_logged_model(name="checkpoint", params={"depth": "4"}, tags={"kind": "test"})
        mlflow.log_metric("acc", 0.75, step=5, model_id=model.model_id)
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"weights")
        client.log_model_artifacts(model.model_id, str(folder))
        mlflow.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 5)])
        mlflow.log_input(mlflow.data.from_numpy(np.zeros((2, 2)), name="zeros"))
        version = mlflow.register_model(f"models:/{model.model_id}", name, tags={"stage": "try"})
        client.set_registered_model_alias(name, "champion", version.version)


def check_once(server: Client, mlflow_id: str, *, name: str, view: int = ViewType.ALL) -> None:
    """One of each thing that `log_much` made is at the server, with everything in it."""
    own = server.get_run(mlflow_id)
    experiment = own.info.experiment_id
    found = server.search_runs([experiment], run_view_type=view)
    runs = {run.info.run_name: run for run in found}
    assert len(found) == len(runs) == 3
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    child = runs["child"]
    assert (child.data.params, child.data.tags["try"]) == ({"lr": "2"}, "1")
    assert runs["grandchild"].data.tags["mlflow.parentRunId"] == child.info.run_id
    assert [point.step for point in server.get_metric_history(child.info.run_id, "loss")] == [0, 1, 2]
    assert [file.path for file in server.list_artifacts(child.info.run_id)] == ["note.txt"]
    assert own.data.metrics == {"loss": 1.0, "acc": 0.75}
    assert [one.dataset.name for one in own.inputs.dataset_inputs] == ["zeros"]
    (model,) = server.search_logged_models([experiment])
    assert (model.status, model.params, model.tags["kind"]) == ("READY", {"depth": "4"}, "test")
    assert [(metric.key, metric.value, metric.step) for metric in model.metrics] == [("acc", 0.75, 5)]
    assert [(out.model_id, out.step) for out in own.outputs.model_outputs] == [(model.model_id, 5)]
    repository = server.repository(model.artifact_location)
    assert [file.path for file in repository.list_artifacts()] == ["weights.bin"]
    (version,) = server.search_model_versions(f"name = '{name}'")
    assert (version.version, version.tags["stage"], version.run_id) == ("1", "try", mlflow_id)
    assert server.get_registered_model(name).aliases == {"champion": "1"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "anew"), [("reply_lost", "goes on"), ("reply_lost", "anew"), ("duplicated", "goes on")]
)
def test_what_calls_make_is_made_once(
    kind: str, anew: str, enter: Any, fault_proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of `CALLS` meets the fault once; whoever delivers goes on afterwards, or begins anew."""
    spoilt: list[tuple[type, str, str]] = []

    def spoil(owner: type, method: str, path: str) -> None:
        original: Callable[..., Any] = getattr(owner, method)

        def call(*arguments: Any, **named: Any) -> Any:
            where = owner, method, path
            if spoilt.count(where) < CALLS.count(where):
                spoilt.append(where)
                fault_proxy.fault(kind, path=path, times=1)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, method, call)

    inside = enter(fault_proxy.uri)
    name = f"m{os.urandom(4).hex()}"
    log_much(inside.run.run_id, tmp_path / "model", name=name)
    for one in dict.fromkeys(CALLS):
        spoil(*one)
    tracker, failed, unanswered = MlflowTracker(TrackerOptions(timeout=60)), 0, 0
    for _ in range(2 * len(CALLS)):
        try:
            mlflow_id = inside.bring(tracker)
        except Unreachable as error:
            failed += 1
            unanswered += isinstance(error, Unanswered)
        else:
            break
        if anew == "anew":
            tracker = MlflowTracker(TrackerOptions(timeout=60))
    assert (len(spoilt), fault_proxy.counts) == (len(CALLS), {kind: len(CALLS)})
    # of runs, models and versions another one may still be made later
    assert (failed, unanswered) == ((len(CALLS), 4) if kind == "reply_lost" else (0, 0))
    inside.bring(MlflowTracker(TrackerOptions(timeout=60)))
    check_once(inside.client(), mlflow_id, name=name)


@pytest.mark.timeout(300)
def test_what_is_made_late_is_removed_at_the_end(
    enter: Any, mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server was stalled: what we had given up and asked for again is carried out after all."""
    inside = enter(mlflow_server.uri)
    name = f"m{os.urandom(4).hex()}"
    log_much(inside.run.run_id, tmp_path / "model", name=name)
    again: list[Callable[[], Any]] = []

    def twice(method: str) -> None:
        original: Callable[..., Any] = getattr(Client, method)

        def call(*arguments: Any, **named: Any) -> Any:
            again.append(lambda: original(*arguments, **named))
            return original(*arguments, **named)

        monkeypatch.setattr(Client, method, call)

    twice("create_run")
    twice("create_logged_model")
    twice("_create_model_version")
    tracker = MlflowTracker(TrackerOptions(timeout=60))
    mlflow_id = inside.bring(tracker)
    assert len(again) == 5
    for late in again[1:]:  # but for the run itself, of which test_mlflow_once.py has its own
        late()
    tracker.close("FINISHED", 1_800_000_000_000)
    check_once(inside.client(), mlflow_id, name=name, view=ViewType.ACTIVE_ONLY)
