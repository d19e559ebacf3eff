"""Projects to track: one with its embedded database made already, and runs in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prism.protocols import RunRef, TrackedRun
from prism_mlflow.access.embedded import prepare

RunMaker = Callable[..., TrackedRun]


@pytest.fixture(autouse=True)
def _no_mlflow_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def made_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    prepare(folder / "mlflow.db", artifacts=(folder / "artifacts").as_uri())
    return folder / "mlflow.db"


@pytest.fixture
def embedded(made_database: Path, tmp_path: Path) -> Path:
    """A project folder with MLflow's database in it, as after a first run."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(made_database, project / "mlflow.db")
    return project


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """A run of a project, with its directory: `make_run(project, "id", settings={…})`."""

    def make(project: Path, run_id: str = "20261123-1", **given: Any) -> TrackedRun:
        directory = project / "artifacts" / "runs" / run_id
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.yaml").write_text("ml: {parameters: {lr: 0.1}}\n")
        values: dict[str, Any] = {"experiment": "exp", "name": "first", "started": 1_700_000_000_000, "settings": {}}
        trackers = given.pop("trackers", {})
        return TrackedRun(ref=RunRef(run_id, directory, trackers), project=project, **(values | given))

    return make
