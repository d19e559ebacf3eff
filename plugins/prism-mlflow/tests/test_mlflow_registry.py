"""The model registry against the embedded database and against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from campaigns.proxy import FaultProxy
from campaigns.servers import MlflowServer
from prism.data.digest import digest_files, manifest_digest
from prism.errors import GateRefused, Unreachable, UsageError, WorkFailed
from prism.protocols import ModelVersion, RunRef, TrackedRun
from prism_mlflow.options import TrackerOptions
from prism_mlflow.registry import MlflowRegistry
from prism_mlflow.tracker import MlflowTracker

Make = Callable[..., TrackedRun]


@pytest.fixture(params=["embedded", "server"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"tracking_uri": request.getfixturevalue("mlflow_server").uri if request.param == "server" else None}


@pytest.fixture
def registry(settings: dict[str, Any], embedded: Path) -> MlflowRegistry:
    found = MlflowRegistry(timeout=60)
    found.open(embedded, settings)
    return found


@pytest.fixture
def run(settings: dict[str, Any], embedded: Path, make_run: Make) -> TrackedRun:
    return make_run(embedded, f"run-{time.time_ns()}", settings=settings)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"m-{request.node.name}-{time.time_ns()}"


def client_of(run: TrackedRun) -> MlflowClient:
    return MlflowClient(run.settings["tracking_uri"] or f"sqlite:///{run.project}/mlflow.db")


def model(folder: Path, content: str) -> tuple[Path, str]:
    """A model folder with that content, and its digest."""
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(content)
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    return folder, manifest_digest(digest_files(folder))


def register(
    registry: MlflowRegistry, run: TrackedRun, files: tuple[Path, str], *, name: str, version: str = ""
) -> ModelVersion:
    return registry.register(files[0], name=name, version=version, digest=files[1], tags={"task": "sft"}, run=run)


def test_versions_begin_at_one_and_take_the_next_patch(
    registry: MlflowRegistry, run: TrackedRun, make_run: Make, name: str, tmp_path: Path
) -> None:
    opened = MlflowTracker(TrackerOptions(timeout=60)).open(run)
    first = register(registry, run, model(tmp_path / "a", "1"), name=name)
    assert (first.version, first.run_id, dict(first.tags)) == ("1.0.0", run.ref.run_id, {"task": "sft"})
    assert client_of(run).get_model_version(name, "1").run_id == opened.id
    assert client_of(run).get_run(opened.id).info.status == "RUNNING"  # the tracker's business
    other = make_run(run.project, f"{run.ref.run_id}-other", settings=run.settings)
    files = model(tmp_path / "b", "2")
    assert register(registry, other, files, name=name).version == "1.0.1"
    assert register(registry, run, files, name=name, version="2.1.0").version == "2.1.0"
    assert register(registry, run, model(tmp_path / "c", "3"), name=name).version == "2.1.1"
    assert [version.version for version in registry.versions(name)] == ["1.0.0", "1.0.1", "2.1.0", "2.1.1"]
    assert name in registry.names()


def test_the_same_run_and_files_again_is_the_same_version(
    registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path
) -> None:
    files = model(tmp_path / "a", "1")
    first = register(registry, run, files, name=name)
    assert register(registry, run, files, name=name) == first
    assert register(registry, run, files, name=name, version="1.0.0") == first
    assert len(registry.versions(name)) == 1


def test_a_taken_version_is_refused(registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path) -> None:
    register(registry, run, model(tmp_path / "a", "1"), name=name, version="1.0.1")
    with pytest.raises(GateRefused, match=r"already has a version 1\.0\.1") as caught:
        register(registry, run, model(tmp_path / "b", "2"), name=name, version="1.0.1")
    assert "1.0.2" in caught.value.hint
    assert [version.version for version in registry.versions(name)] == ["1.0.1"]


@pytest.mark.parametrize("version", ["1.0", "latest", "v1.0.0", "1"])
def test_what_is_no_semantic_version(
    registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path, version: str
) -> None:
    with pytest.raises(UsageError, match="no semantic version"):
        register(registry, run, model(tmp_path / "a", "1"), name=name, version=version)


def test_each_version_keeps_its_own_files(registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path) -> None:
    """Two models of one run (it was resumed) must not lie over each other."""
    first = register(registry, run, model(tmp_path / "a", "1"), name=name)
    (tmp_path / "a" / "extra.bin").write_text("x")
    second = register(registry, run, model(tmp_path / "a", "2"), name=name)
    for version, content in ((first, "1"), (second, "2")):
        found = registry.fetch(version, tmp_path / f"out-{version.version}")
        assert (found / "model.safetensors").read_text() == content
        assert manifest_digest(digest_files(found)) == version.digest
    with pytest.raises(WorkFailed, match="is not empty"):
        registry.fetch(first, tmp_path / "out-1.0.0")


def test_damaged_files_are_not_given_out(registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path) -> None:
    version = register(registry, run, model(tmp_path / "a", "1"), name=name)
    found = client_of(run)
    mlflow_id = found.get_model_version(name, "1").run_id
    found.log_text(mlflow_id, "tampered", "model/model.safetensors")
    with pytest.raises(WorkFailed, match="are not what was registered"):
        registry.fetch(version, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_aliases(registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path) -> None:
    for content in "12":
        register(registry, run, model(tmp_path / content, content), name=name)
    registry.alias(name, "champion", "1.0.0")
    registry.alias(name, "latest-good", "1.0.1")
    registry.alias(name, "champion", "1.0.1")
    assert [version.aliases for version in registry.versions(name)] == [(), ("champion", "latest-good")]
    with pytest.raises(UsageError, match=r"no version '9\.9\.9'"):
        registry.alias(name, "champion", "9.9.9")


def test_versions_that_prism_did_not_make(registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path) -> None:
    opened = MlflowTracker(TrackerOptions(timeout=60)).open(run)
    client = client_of(run)
    files, _ = model(tmp_path / "a", "foreign")
    client.log_artifacts(opened.id, str(files), "theirs")
    client.create_registered_model(name)
    source = f"{client.get_run(opened.id).info.artifact_uri}/theirs"
    client.create_model_version(name, source, run_id=opened.id)
    register(registry, run, model(tmp_path / "b", "1"), name=name)
    foreign, ours = registry.versions(name)
    assert (foreign.version, foreign.digest, ours.version) == ("1", "", "1.0.0")
    registry.alias(name, "old", "1")
    assert registry.versions(name)[0].aliases == ("old",)
    assert (registry.fetch(foreign, tmp_path / "out") / "model.safetensors").read_text() == "foreign"


def test_no_such_model(registry: MlflowRegistry) -> None:
    assert list(registry.versions("nobody's model")) == []


def test_two_entries_with_one_version_come_apart(
    registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path
) -> None:
    """What two registrations at the same time leave: MLflow takes both."""
    first = register(registry, run, model(tmp_path / "a", "1"), name=name)
    client = client_of(run)
    files = model(tmp_path / "b", "2")
    tags = {"prism.version": "1.0.0", "prism.digest": files[1], "prism.run_id": "late"}
    client.create_model_version(name, first.uri, run_id=client.get_model_version(name, "1").run_id, tags=tags)
    assert [version.version for version in registry.versions(name)] == ["1.0.0", "1.0.0+mlflow.2"]
    late = TrackedRun(ref=RunRef("late", run.ref.directory), project=run.project, experiment="exp",
                      name="late", started=1, settings=run.settings)  # fmt: skip
    assert register(registry, late, files, name=name).version == "1.0.1"
    assert [version.digest for version in registry.versions(name)] == [first.digest, files[1]]


WORKER = """
import json, sys
from pathlib import Path
from prism.errors import GateRefused
from prism.protocols import RunRef, TrackedRun
from prism_mlflow.registry import MlflowRegistry

project, uri, name, number, wanted = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5]
files = project / f"model-{number}"
files.mkdir()
(files / "weights").write_text(number)
run = TrackedRun(RunRef(f"{name}-{number}", project), project, "race", number, 1, settings={"tracking_uri": uri})
registry = MlflowRegistry(timeout=60)
registry.open(project, run.settings)
registry.names()
print("ready", flush=True)
sys.stdin.readline()
try:
    made = registry.register(files, name=name, version=wanted, digest=f"sha256:{number}", tags={}, run=run)
    print(json.dumps([made.version, made.digest]))
except GateRefused as error:
    print(json.dumps(["refused", f"sha256:{number}"]))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("wanted", ["", "1.0.0"])
def test_registrations_at_the_same_time(mlflow_server: Any, tmp_path: Path, name: str, wanted: str) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), mlflow_server.uri, f"{name}{wanted}", str(number), wanted],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for number in range(3)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout and worker.stdout.readline() == "ready\n"
    told = [json.loads(worker.communicate("go\n", timeout=200)[0]) for worker in workers]
    registry = MlflowRegistry()
    registry.open(tmp_path, {"tracking_uri": mlflow_server.uri})
    found = [[version.version, version.digest] for version in registry.versions(f"{name}{wanted}")]
    if wanted:
        assert sorted(version for version, _ in told) == ["1.0.0", "refused", "refused"]
        assert found == [entry for entry in told if entry[0] == "1.0.0"]
    else:
        assert sorted(told) == found and [version for version, _ in found] == ["1.0.0", "1.0.1", "1.0.2"]


def test_a_model_of_a_run_that_is_not_tracked(
    registry: MlflowRegistry, run: TrackedRun, name: str, tmp_path: Path
) -> None:
    version = register(registry, run, model(tmp_path / "a", "1"), name=name)
    mlflow_id = client_of(run).get_model_version(name, "1").run_id
    assert client_of(run).get_run(mlflow_id).info.status == "FINISHED"
    assert version.run_id == run.ref.run_id


def test_looking_makes_no_database(tmp_path: Path) -> None:
    registry = MlflowRegistry()
    registry.open(tmp_path, {})
    assert (list(registry.names()), list(registry.versions("any"))) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_an_absent_registry_is_out_of_reach(free_port: int, tmp_path: Path) -> None:
    registry = MlflowRegistry()
    registry.open(tmp_path, {"tracking_uri": f"http://127.0.0.1:{free_port}"})
    with pytest.raises(Unreachable, match="did not list the models: no connection"):
        registry.names()


def test_a_stopped_registry_is_out_of_reach(mlflow_server: Any, tmp_path: Path) -> None:
    registry = MlflowRegistry()
    registry.open(tmp_path, {"tracking_uri": mlflow_server.uri})
    with mlflow_server.paused():
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="no answer in time"):
            registry.versions("any")
        assert time.monotonic() - begun < 15


@pytest.mark.timeout(200)
def test_replies_lost_while_a_model_is_registered(
    fault_proxy: FaultProxy, mlflow_server: MlflowServer, embedded: Path, make_run: Make, name: str, tmp_path: Path
) -> None:
    """Whoever registers again ends with one version of one model, in one run that has ended."""
    registry = MlflowRegistry(timeout=60)
    registry.open(embedded, {"tracking_uri": fault_proxy.uri})
    run = make_run(embedded, name, settings={"tracking_uri": fault_proxy.uri}, experiment=name)
    files = model(tmp_path / "a", "1")
    ways = ("experiments/create", "runs/create", "runs/set-tag", "registered-models/create", "model-versions/create")
    for path in ways:
        fault_proxy.fault("reply_lost", path=path, times=1)
        with pytest.raises(Unreachable):
            register(registry, run, files, name=name)
    made = register(registry, run, files, name=name)
    assert (made.version, fault_proxy.counts) == ("1.0.0", {"reply_lost": len(ways)})
    client = MlflowClient(mlflow_server.uri)
    experiment = client.get_experiment_by_name(name).experiment_id
    (found,) = client.search_runs([experiment], run_view_type=ViewType.ALL)
    (entry,) = client.search_model_versions(f"name = '{name}'")
    assert (found.info.status, entry.run_id) == ("FINISHED", found.info.run_id)
    assert len(client.search_registered_models(f"name = '{name}'")) == 1
