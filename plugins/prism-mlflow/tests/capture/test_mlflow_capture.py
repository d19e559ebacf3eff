"""MLflow's own calls inside a run: in the journal at once, at the server once, whatever the server does meanwhile."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from matplotlib.figure import Figure  # MLflow requires it
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from campaigns.proxy import FaultProxy
from campaigns.servers import MlflowServer
from prism.errors import Unreachable
from prism.project import open_project
from prism_mlflow.inside.addresses import journal_address
from prism_mlflow.options import TrackerOptions
from prism_mlflow.tracker import MlflowTracker


def log_everything(folder: Path) -> None:
    """What scripts call most."""
    mlflow.log_metric("loss", 0.5, step=3)
    mlflow.log_metrics({"acc": 0.9, "f1": 0.8}, step=3, synchronous=False)
    mlflow.log_param("optimizer", "adam")
    mlflow.log_params({"lr": 0.1, "depth": 4})
    mlflow.set_tag("team", "drugs")
    mlflow.set_tags({"a": "1", "b": "2"})
    mlflow.log_text("hello", "notes/hello.txt")
    mlflow.log_dict({"x": [1, 2]}, "x.json")
    (folder / "out").mkdir()
    (folder / "out" / "table.csv").write_text("a\n1\n")
    mlflow.log_artifact(str(folder / "out" / "table.csv"), "tables")
    mlflow.log_artifacts(str(folder / "out"), "all")
    mlflow.log_table({"question": ["q"], "answer": ["a"]}, "table.json")
    mlflow.log_figure(Figure(figsize=(1, 1)), "figures/loss.png")
    mlflow.log_image(np.zeros((2, 2, 3), dtype=np.uint8), "image.png")
    mlflow.log_input(mlflow.data.from_numpy(np.zeros((2, 2)), name="zeros"), context="training")


def test_calls_never_wait_for_the_server(anywhere: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run = anywhere.run
    before = time.monotonic()
    log_everything(tmp_path)
    assert mlflow.active_run().info.run_id == run.run_id
    mlflow.end_run()
    mlflow.log_metric("after the end", 1.0)
    # nothing was asked of a server: a silent one would have cost a time-out, and most calls would be over it
    assert time.monotonic() - before < (60 if "present" in request.node.name else 30)
    told = mlflow.get_run(run.run_id)
    assert told.data.metrics == {"loss": 0.5, "acc": 0.9, "f1": 0.8, "after the end": 1.0}
    assert told.data.params == {"lr": "0.1", "optimizer": "adam", "depth": "4"}
    assert told.data.tags["team"] == "drugs" and told.info.status == "RUNNING"
    assert [dataset.dataset.name for dataset in told.inputs.dataset_inputs] == ["zeros"]
    listed = {file.path for file in mlflow.artifacts.list_artifacts(run_id=run.run_id)}
    assert listed == {"notes", "x.json", "tables", "all", "table.json", "image.png", "figures"}
    assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/notes/hello.txt") == "hello"
    assert mlflow.artifacts.load_dict(f"{told.info.artifact_uri}/x.json") == {"x": [1, 2]}
    if "present" not in request.node.name:
        began = time.monotonic()
        for _ in range(3):  # one time-out, then refused at once
            with pytest.raises(MlflowException, match="is in its journal all the same"):
                mlflow.search_runs()
        assert time.monotonic() - began < 15
        assert mlflow.get_experiment(told.info.experiment_id).name == run.config.foundation.experiment_name


def test_everything_is_delivered_once(enter: Any, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    inside = enter(mlflow_server.uri)
    log_everything(tmp_path)
    client, mlflow_id = inside.deliver()
    found = client.get_run(mlflow_id)
    assert found.data.metrics == {"loss": 0.5, "acc": 0.9, "f1": 0.8}
    assert [(point.step, point.value) for point in client.get_metric_history(mlflow_id, "loss")] == [(3, 0.5)]
    assert found.data.params == {"lr": "0.1", "optimizer": "adam", "depth": "4"}
    assert found.data.tags["team"] == "drugs"
    assert [one.dataset.name for one in found.inputs.dataset_inputs] == ["zeros"]
    assert {file.path for file in client.list_artifacts(mlflow_id, "all")} == {"all/table.csv"}
    (figure,) = client.list_artifacts(mlflow_id, "figures")
    assert (figure.path, figure.file_size > 100) == ("figures/loss.png", True)
    assert len(client.search_runs([found.info.experiment_id])) == 1


def test_values_that_mlflow_would_refuse_never_raise(enter: Any, mlflow_server: MlflowServer) -> None:
    inside = enter(mlflow_server.uri)
    mlflow.log_metric("a[0]@β", float("nan"), step=1)
    mlflow.log_metric("inf", float("-inf"))
    mlflow.log_metric("n" * 300, np.float32(0.1), step=2)
    mlflow.log_param("p" * 300, "v" * 10_000)
    for lr in (0.1, 0.5, 0.7):  # changed
        mlflow.log_param("lr", lr)
    mlflow.set_tag("t" * 300, "v" * 9_000)
    mlflow.MlflowClient().log_batch(inside.run.run_id, [Metric("late", 1.0, 1_700_000_000_000, 7)], [Param("x", "1")])
    with mlflow.start_run(nested=True), mlflow.start_run(nested=True) as kid:
        mlflow.log_metric("k[1]", float("inf"))
        mlflow.log_param("lr", 1)
        mlflow.log_param("lr", 2)
        mlflow.log_param("long", "v" * 10_000)
    assert mlflow.get_run(inside.run.run_id).data.params["lr"] == "0.7"
    client, mlflow_id = inside.deliver()
    found = client.get_run(mlflow_id)
    assert found.data.params["lr"] == "0.1"
    assert len(found.data.metrics) == 4
    late = client.get_metric_history(mlflow_id, "late")
    assert [(point.timestamp, point.step, point.value) for point in late] == [(1_700_000_000_000, 7, 1.0)]
    (nested,) = client.search_runs([found.info.experiment_id], f"tags.`prism.run_id` = '{kid.info.run_id}'")
    assert nested.data.params["lr"] == "1"
    assert nested.data.tags["prism.changed.lr"] == "2"
    assert nested.data.params["long"].endswith("all of them in the journal]")


def test_parameters_with_the_text_that_is_known_are_no_second_ones(enter: Any, mlflow_server: MlflowServer) -> None:
    inside = enter(mlflow_server.uri)
    inside.run.log_params({"lr": 0.1, "epochs": 3})  # as from the YAML
    mlflow.log_params({"lr": 0.1, "epochs": 3, "batch": 8})
    mlflow.log_params({"batch": "8"})
    said = [record.data["params"] for record in inside.journal("params")]
    assert said == [{"lr": 0.1, "epochs": 3}, {"batch": "8"}]


def test_custom_metrics_are_computed_from_what_mlflow_is_told(
    enter: Any, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISM__ML__CUSTOM_METRICS", "[{name: perplexity, expression: exp(loss)}]")
    inside = enter(f"http://127.0.0.1:{free_port}")
    for step in (1, 2):
        mlflow.log_metric("loss", 0.0, step=step)
    mlflow.MlflowClient().log_batch(inside.run.run_id, [Metric("loss", 0.0, 1_700_000_000_000, 3)])
    inside.run.finish()
    said = [record.data for record in inside.journal("metrics") if "perplexity" in record.data["metrics"]]
    assert [(data["step"], data["metrics"]["perplexity"]) for data in said] == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_one_launch_is_one_run(enter: Any, mlflow_server: MlflowServer, capsys: pytest.CaptureFixture[str]) -> None:
    inside = enter(mlflow_server.uri)
    own = inside.run.run_id
    mlflow.set_experiment("somewhere else")
    for _ in range(2):
        with mlflow.start_run(run_name="mine") as active:
            assert active.info.run_id == own
        assert os.environ["MLFLOW_RUN_ID"] == own
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("a third one")
    made = client.create_run(experiment, tags={"color": "red", "mlflow.user": "nobody"})
    assert made.info.run_id == own
    client.set_terminated(own, "FAILED")
    threading.Thread(target=mlflow.log_metric, args=("of a thread", 1.0)).start()
    client.update_run(own, status="KILLED")
    with pytest.raises(MlflowException, match="would come back"):
        client.delete_run(own)
    server, mlflow_id = inside.deliver()
    found = server.get_run(mlflow_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "mine")
    assert found.data.tags["color"] == "red" and found.data.tags["mlflow.user"] != "nobody"
    assert found.data.metrics == {"of a thread": 1.0}
    assert server.get_experiment_by_name("somewhere else") is None
    assert capsys.readouterr().err.count("'somewhere else' is not used") == 1


def test_an_experiment_set_late_does_not_disturb_the_end(enter: Any, mlflow_server: MlflowServer) -> None:
    inside = enter(mlflow_server.uri)
    mlflow.log_metric("loss", 1.0)
    mlflow.set_experiment("somewhere else")
    mlflow.log_metric("loss", 0.5, step=1)  # at the end MLflow asks for the run, the first time since
    inside.run.finish()
    inside.leave()
    assert mlflow.active_run() is None


def test_an_experiment_set_late_is_said_once(enter: Any, free_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    inside = enter(f"http://127.0.0.1:{free_port}")
    mlflow.log_metric("loss", 1.0)
    mlflow.set_experiment("somewhere else")
    for step in (1, 2):
        mlflow.log_metric("loss", 0.5, step=step)
        assert mlflow.get_run(inside.run.run_id).data.metrics["loss"] == 0.5
    mlflow.end_run()
    with mlflow.start_run() as active:
        assert active.info.run_id == inside.run.run_id
    said = "MLflow's experiment 'somewhere else' is not used"
    assert len([one for one in inside.journal("warning") if said in one.data["message"]]) == 1
    assert capsys.readouterr().err.count(said) == 1


def test_nested_runs(enter: Any, mlflow_server: MlflowServer) -> None:
    inside = enter(mlflow_server.uri)
    with mlflow.start_run() as parent:
        for lr in (1, 2):
            with mlflow.start_run(nested=True, run_name=f"lr {lr}", tags={"try": str(lr)}) as child:
                mlflow.log_param("lr", lr)
                for step in range(3):
                    mlflow.log_metric("loss", lr / (step + 1), step=step)
                mlflow.log_text("child", "note.txt")
                with mlflow.start_run(nested=True):
                    mlflow.log_metric("deep", 1.0)
        forgotten = mlflow.start_run(nested=True, run_name="never ended")
    assert mlflow.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert mlflow.get_run(child.info.run_id).info.status == "FINISHED"
    assert [point.value for point in mlflow.MlflowClient().get_metric_history(child.info.run_id, "loss")] == [
        2,
        1,
        2 / 3,
    ]
    assert mlflow.artifacts.load_text(f"runs:/{child.info.run_id}/note.txt") == "child"
    assert {run.info.run_name for run in mlflow.search_runs(filter_string="params.lr = '2'", output_format="list")} == {
        "lr 2"
    }
    del forgotten
    client, mlflow_id = inside.deliver()
    found = client.search_runs([client.get_run(mlflow_id).info.experiment_id])
    named = {run.info.run_name: run for run in found}
    assert len(found) == 6
    assert {run.info.status for run in found} == {"FINISHED"}
    assert named["lr 1"].data.tags["mlflow.parentRunId"] == named["lr 2"].data.tags["mlflow.parentRunId"] == mlflow_id
    assert named["lr 2"].data.params == {"lr": "2"} and named["lr 2"].data.tags["try"] == "2"
    assert len(client.get_metric_history(named["lr 2"].info.run_id, "loss")) == 3
    assert [file.path for file in client.list_artifacts(named["lr 2"].info.run_id)] == ["note.txt"]


def make_models(folder: Path, run_id: str, *, name: str) -> Any:
    """A LoggedModel with everything, registered under `name` with an alias; asked for again where it was made."""
    client = mlflow.MlflowClient()
    with mlflow.start_run():
        model = mlflow.initialize_logged_model(name="checkpoint", params={"depth": "4"}, tags={"kind": "test"})
        mlflow.log_metric("acc", 0.75, step=5, model_id=model.model_id)
        mlflow.log_model_params({"width": "8"}, model_id=model.model_id)
        folder.mkdir()
        described = Model(artifact_path=f"models:/{model.model_id}", run_id=run_id, model_id=model.model_id)
        described.save(str(folder / "MLmodel"))
        (folder / "weights.bin").write_bytes(b"weights")
        client.log_model_artifacts(model.model_id, str(folder))
        mlflow.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [mlflow.entities.LoggedModelOutput(model.model_id, 5)])
        version = mlflow.register_model(f"models:/{model.model_id}", name, tags={"stage": "try"})
        client.set_registered_model_alias(name, "champion", version.version)
        client.set_model_version_tag(name, version.version, "note", "good")
    assert client.get_model_version_by_alias(name, "champion").version == version.version
    return mlflow.get_logged_model(model.model_id)


def test_models_are_there_at_once(anywhere: Any, tmp_path: Path) -> None:
    name = f"m{os.urandom(4).hex()}"
    model = make_models(tmp_path / "model", anywhere.run.run_id, name=name)
    assert (model.status, model.params, model.tags["kind"]) == ("READY", {"depth": "4", "width": "8"}, "test")
    assert [found.model_id for found in mlflow.search_logged_models(output_format="list")] == [model.model_id]
    got = Path(mlflow.artifacts.download_artifacts(f"models:/{name}@champion", dst_path=str(tmp_path / "got")))
    assert (got / "weights.bin").read_bytes() == b"weights"


def test_models_are_delivered_once(enter: Any, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    inside = enter(mlflow_server.uri)
    name = f"m{os.urandom(4).hex()}"
    model = make_models(tmp_path / "model", inside.run.run_id, name=name)
    server, mlflow_id = inside.deliver()
    (found,) = server.search_logged_models([server.get_run(mlflow_id).info.experiment_id])
    assert (found.name, found.status, found.params) == ("checkpoint", "READY", {"depth": "4", "width": "8"})
    assert (found.source_run_id, found.tags["prism.model_id"]) == (mlflow_id, model.model_id)
    assert [(metric.key, metric.value, metric.step) for metric in found.metrics] == [("acc", 0.75, 5)]
    assert [(out.model_id, out.step) for out in server.get_run(mlflow_id).outputs.model_outputs] == [
        (found.model_id, 5)
    ]
    brought = Path(server.repository(found.artifact_location).download_artifacts("", str(tmp_path)))
    loaded = Model.load(str(brought))
    assert (loaded.model_id, loaded.run_id) == (found.model_id, mlflow_id)
    (entry,) = server.search_model_versions(f"name = '{name}'")
    assert entry.tags["stage"] == "try" and entry.tags["note"] == "good"
    assert server.get_model_version_by_alias(name, "champion").version == entry.version
    assert str(entry.version) in found.tags["mlflow.modelVersions"]


def test_searches_find_what_is_there_and_what_was_just_said(enter: Any, mlflow_server: MlflowServer) -> None:
    inside = enter(mlflow_server.uri)
    experiment = inside.run.config.foundation.experiment_name
    assert [run.info.run_id for run in mlflow.search_runs(output_format="list")] == [inside.run.run_id]
    mlflow.log_metric("loss", 2.0, step=1)
    client, mlflow_id = inside.deliver()
    other = client.create_run(client.get_run(mlflow_id).info.experiment_id, run_name="another")
    client.log_metric(other.info.run_id, "loss", 1.0)
    client.log_text(other.info.run_id, "theirs", "a.txt")
    mlflow.log_metric("loss", 0.5, step=2)  # not delivered yet
    found = mlflow.search_runs(
        experiment_names=[experiment], filter_string="metrics.loss < 3", order_by=["metrics.loss"], output_format="list"
    )
    assert [(run.info.run_id, run.data.metrics["loss"]) for run in found] == [
        (inside.run.run_id, 0.5),
        (other.info.run_id, 1.0),
    ]
    assert {run.info.experiment_id for run in found} == {mlflow.get_experiment_by_name(experiment).experiment_id}
    assert mlflow.artifacts.load_text(f"runs:/{other.info.run_id}/a.txt") == "theirs"
    assert mlflow.get_run(other.info.run_id).info.run_name == "another"
    mlflow.MlflowClient().log_metric(other.info.run_id, "from here", 3.0)
    assert client.get_run(other.info.run_id).data.metrics["from here"] == 3.0


def test_searches_before_anything_is_delivered_find_this_run(enter: Any) -> None:
    inside = enter("sqlite:///mlflow.db")  # nothing has made it yet
    mlflow.log_table({"question": ["a", "b"]}, "asked.json")
    mlflow.log_table({"question": ["c"]}, "asked.json")
    assert [run.info.run_id for run in mlflow.search_runs(output_format="list")] == [inside.run.run_id]
    assert list(mlflow.load_table("asked.json")["question"]) == ["a", "b", "c"]
    assert not (inside.run.project / "mlflow.db").exists()


def test_an_address_in_the_script_is_this_runs_or_its_own_business(
    enter: Any, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = enter(mlflow_server.uri)
    mlflow.set_tracking_uri(f"{mlflow_server.uri}/")
    with mlflow.start_run() as active:
        mlflow.log_metric("loss", 1.0)
        mlflow.log_text("a", "a.txt")
    assert active.info.run_id == inside.run.run_id
    assert len(inside.journal("metrics")) == len(inside.journal("file")) == 1
    mlflow.set_tracking_uri("http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        mlflow.get_run("x")
    assert "MLflow was told to use http://127.0.0.1:1, which is not this run's" in capsys.readouterr().err


def test_traces_are_dropped_without_an_exception(
    enter: Any, mlflow_server: MlflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = enter(mlflow_server.uri)
    with mlflow.start_run():
        for _ in range(3):
            with mlflow.start_span("work") as span:
                span.set_inputs({"a": 1})
    mlflow.flush_trace_async_logging()
    assert len(inside.journal("warning")) == 1
    assert "traces" in capsys.readouterr().err


def test_when_a_run_ends_mlflow_is_as_it_was(
    enter: Any, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@elsewhere.example:5000")
    inside = enter(mlflow_server.uri)
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == journal_address(inside.run.directory)
    assert os.environ["PRISM_OUTER_TRACKING_URI"] == "http://elsewhere.example:5000"
    mlflow.set_experiment("x")
    mlflow.set_tracking_uri(mlflow.get_tracking_uri())  # as Lightning's logger does
    mlflow.start_run()
    inside.leave()
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == "http://user:secret@elsewhere.example:5000"
    assert not {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PRISM_OUTER_TRACKING_URI"} & os.environ.keys()


def test_a_run_within_a_run_remembers_the_first_address(
    enter: Any, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@elsewhere.example:5000")
    outer = enter(mlflow_server.uri)
    inner = enter(mlflow_server.uri)
    assert os.environ["PRISM_OUTER_TRACKING_URI"] == "http://elsewhere.example:5000"
    mlflow.log_metric("loss", 1.0)
    inner.leave()
    mlflow.log_metric("loss", 2.0)
    assert [len(inside.journal("metrics")) for inside in (outer, inner)] == [1, 1]


def test_a_run_begun_inside_another_goes_to_what_stood_there_before(tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text("foundation: {experiment_name: x}\n")
    inside = {"MLFLOW_TRACKING_URI": journal_address(tmp_path / "run")}
    assert open_project(start=tmp_path, environ=inside).config.ml.tracking_uri is None
    inside["PRISM_OUTER_TRACKING_URI"] = "http://before.example:5000"
    assert open_project(start=tmp_path, environ=inside).config.ml.tracking_uri == "http://before.example:5000"


def test_what_was_said_to_an_absent_server_is_delivered_once(
    enter: Any, fault_proxy: FaultProxy, tmp_path: Path
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    fault_proxy.refuse()
    inside = enter(fault_proxy.uri, timeout=1.5, auto_log="true")
    log_everything(tmp_path)
    mlflow.end_run()
    name = f"m{os.urandom(4).hex()}"
    model = make_models(tmp_path / "model", inside.run.run_id, name=name)
    with mlflow.start_run(), mlflow.start_run(nested=True, run_name="child"):
        mlflow.log_metric("loss", 0.25)
    linear_model.LogisticRegression(C=0.5).fit(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 0, 1]))
    inside.leave()
    with pytest.raises(Unreachable):
        inside.bring(MlflowTracker(TrackerOptions(timeout=60)))
    fault_proxy.accept()
    client, mlflow_id = inside.deliver()
    found = client.get_run(mlflow_id)
    assert {name: found.data.metrics[name] for name in ("loss", "acc", "f1")} == {"loss": 0.5, "acc": 0.75, "f1": 0.8}
    assert [len(client.get_metric_history(mlflow_id, name)) for name in ("loss", "f1", "training_score")] == [1, 1, 1]
    assert (found.data.params["C"], found.data.params["optimizer"], found.data.params["lr"]) == ("0.5", "adam", "0.1")
    assert {one.dataset.name for one in found.inputs.dataset_inputs} == {"zeros", "dataset"}
    listed = {file.path for file in client.list_artifacts(mlflow_id)}
    assert listed >= {"notes", "x.json", "tables", "all", "table.json", "image.png", "figures"}
    (child, own) = sorted(client.search_runs([found.info.experiment_id]), key=lambda run: len(run.data.params))
    assert (child.info.run_name, child.data.metrics, own.info.run_id) == ("child", {"loss": 0.25}, mlflow_id)
    (there,) = client.search_logged_models([found.info.experiment_id])
    assert there.tags["prism.model_id"] == model.model_id
    (entry,) = client.search_model_versions(f"name = '{name}'")
    assert client.get_model_version_by_alias(name, "champion").version == entry.version
