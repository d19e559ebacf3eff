"""Plain MLflow code profits from a Prism project around it, and notices nothing where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.config import find_config
from prism.project import open_project

PLAIN_CODE = """
import json, logging, os, sys, warnings

class Kept(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []
    def emit(self, record):
        self.lines.append(record.getMessage())

kept = Kept()
logging.getLogger().addHandler(kept)
with warnings.catch_warnings(record=True) as raised:
    warnings.simplefilter("always")
    import mlflow
ours = [str(w.message) for w in raised if "prism" in str(w.message).lower() or "cpfs" in str(w.message).lower()]
heavy = ("prism.project", "prism_mlflow.plain.facts", "cattrs", "ruamel.yaml", "pluggy")
loaded = [name for name in heavy if name in sys.modules]

def visit(folder, gone=False):
    kept.lines.clear()
    os.chdir(folder)
    if gone:
        os.rmdir(folder)
    with mlflow.start_run() as active:
        mlflow.log_metric("loss", 0.5)
    with mlflow.start_run():
        pass
    found = mlflow.get_run(active.info.run_id)
    experiment = mlflow.get_experiment(found.info.experiment_id).name
    tags = {key: value for key, value in found.data.tags.items() if key.startswith("prism.")}
    told = [line for line in kept.lines if "Prism" in line or "yaml" in line]
    return {"experiment": experiment, "tags": tags, "warnings": told}

root = sys.argv[1]
told = {"import": ours, "loaded": loaded, **{name: visit(os.path.join(root, name)) for name in sys.argv[2:]}}
told["gone"] = visit(os.path.join(root, "gone"), gone=True)

os.chdir(os.path.join(root, "project"))
mlflow.set_experiment("chosen")
with mlflow.start_run() as active:
    import mlflow.data.meta_dataset
    source = mlflow.data.dataset_source_registry.resolve_dataset_source("prism://facts.jsonl")
    mlflow.log_input(mlflow.data.meta_dataset.MetaDataset(source, name="facts"), context="train")
(used,) = mlflow.get_run(active.info.run_id).inputs.dataset_inputs
again = mlflow.data.get_source(used.dataset)
told["dataset"] = {"type": used.dataset.source_type, "source": json.loads(used.dataset.source), "path": again.load()}
told["chosen"] = mlflow.get_experiment(mlflow.get_run(active.info.run_id).info.experiment_id).name

os.environ["PRISM_CPFS_ROOTS"] = os.path.join(root, "cpfs")
mlflow.set_experiment(experiment_id=mlflow.create_experiment("on cpfs", artifact_location="cpfs://team/runs"))
with mlflow.start_run() as active:
    mlflow.log_text("as it was", "notes/day one.txt")
    told["artifact"] = mlflow.artifacts.load_text(active.info.artifact_uri + "/notes/day one.txt")
told["artifact_uri"] = active.info.artifact_uri
print(json.dumps(told))
"""
IMPORT_TWICE = """
import importlib, json, sys, time
began = time.process_time()
import mlflow
whole = time.process_time() - began
ours = [name for name in sys.modules if name.split(".")[0] in ("prism", "prism_mlflow")]
assert "prism_mlflow.plain.run_context" in ours and "prism_mlflow.plain.cpfs" in ours, ours
for name in ours:
    del sys.modules[name]
began = time.process_time()
for name in ours:
    importlib.import_module(name)
print(json.dumps([whole, time.process_time() - began]))
"""
FOLDERS = ("project", "project/deep/inside", "outside", "broken", "no_plugin")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "init.defaultBranch=trunk"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in git with changes since its commit, and folders that are none or are broken."""
    root = tmp_path_factory.mktemp("places")
    for name in (*FOLDERS, "gone", "cpfs"):
        (root / name).mkdir(parents=True)
    (root / "project" / "facts.jsonl").write_text('{"q": 1}\n')
    (root / "project" / "sais_foundation.yaml").write_text(
        dedent(
            """
            foundation: {experiment_name: Größe}
            unified_data_access:
              data_access: {dataset_names: [facts.jsonl, "era5@3f2a11"]}
            ml: {security: {enabled: true, username: ada, password: not to be seen}}
            """
        )
    )
    (root / "broken" / "sais_foundation.yaml").write_text("foundation: {experiment_nam: x}\n")
    (root / "no_plugin" / "sais_foundation.yaml").write_text("plugins: {local: [./gone.py]}\n")
    git(root / "project", "init", "--quiet")
    git(root / "project", "add", ".")
    git(root / "project", "commit", "--quiet", "--message", "first")
    (root / "project" / "facts.jsonl").write_text('{"q": 2}\n')
    return root


@pytest.fixture(scope="module")
def told(place: Path, made_database: Path) -> dict[str, Any]:
    """What plain MLflow code, run in one process in all those folders, has found."""
    shutil.copy(made_database, place / "tracking.db")
    script = place / "plain.py"
    script.write_text(PLAIN_CODE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PRISM"))}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / 'tracking.db'}"
    done = subprocess.run(
        [sys.executable, script, place, *FOLDERS], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_import_mlflow_brings_nothing_of_a_project_with_it(told: dict[str, Any]) -> None:
    assert told["import"] == []  # MLflow warns of a plugin that it cannot register
    assert told["loaded"] == []


def test_import_mlflow_takes_hardly_longer() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_TWICE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole, own = json.loads(done.stdout)
    assert own < 0.03 * whole  # measured 0.5 %; it is the share that a busy machine does not change


@pytest.mark.parametrize("folder", ["project", "project/deep/inside"])
def test_a_run_in_a_project_belongs_to_it(told: dict[str, Any], place: Path, folder: str) -> None:
    found = told[folder]
    address = {"MLFLOW_TRACKING_URI": f"sqlite:///{place / 'tracking.db'}"}  # stands in for ml.tracking_uri
    config = open_project(place / "project" / "sais_foundation.yaml", environ=address).config
    assert found["experiment"] == "Größe" and found["warnings"] == []
    data = json.loads(found["tags"].pop("prism.data"))
    assert data == [{"name": "facts.jsonl"}, {"name": "era5", "version": "3f2a11"}]
    assert found["tags"] == {
        "prism.project": str(place / "project"),
        "prism.config_file": "sais_foundation.yaml",
        "prism.config_digest": config.digest,
        "prism.git.commit": git(place / "project", "rev-parse", "HEAD"),
        "prism.git.branch": "trunk",
        "prism.git.dirty": "true",
    }
    assert "not to be seen" not in json.dumps(told)


@pytest.mark.parametrize("folder", ["outside", "gone"])
def test_a_run_outside_of_a_project_is_as_without_prism(told: dict[str, Any], folder: str) -> None:
    assert told[folder] == {"experiment": "Default", "tags": {}, "warnings": []}


@pytest.mark.parametrize(("folder", "said"), [("broken", "experiment_nam"), ("no_plugin", "gone.py")])
def test_a_wrong_configuration_is_told_once_and_stops_nothing(told: dict[str, Any], folder: str, said: str) -> None:
    found = told[folder]
    assert found["experiment"] == "Default" and found["tags"].keys() == {"prism.project"}
    (warning,) = found["warnings"]
    assert said in warning and "sais_foundation.yaml" in warning


def test_what_the_user_chose_comes_first(told: dict[str, Any]) -> None:
    assert told["chosen"] == "chosen"


def test_a_dataset_of_the_project_is_the_source_of_mlflows_dataset(told: dict[str, Any], place: Path) -> None:
    found = told["dataset"]
    assert found["type"] == "prism" and found["source"]["digest"].startswith("sha256:")
    assert found["source"]["uri"] == f"prism://facts.jsonl@{found['source']['version']}"
    assert Path(found["path"]).read_text() == (place / "project" / "facts.jsonl").read_text()


def test_artifacts_of_an_experiment_on_cpfs(told: dict[str, Any], place: Path) -> None:
    assert told["artifact"] == "as it was"
    assert told["artifact_uri"].startswith("cpfs://team/runs/")
    (kept,) = (place / "cpfs").rglob("day one.txt")
    assert kept.is_relative_to(place / "cpfs" / "team" / "runs")


def test_these_tests_look_from_a_folder_without_a_project_above(place: Path) -> None:
    assert find_config(place) is None
