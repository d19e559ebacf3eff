"""The database in the project: made whole and once, by however many processes, and refused where it is unfit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prism.errors import EnvironmentUnfit
from prism.protocols import TrackedRun
from prism_mlflow.access.embedded import prepare
from prism_mlflow.tracker import MlflowTracker

Make = Callable[..., TrackedRun]


@pytest.mark.timeout(200)
def test_a_process_killed_while_making_it_leaves_nothing_half_made(tmp_path: Path) -> None:
    command = "import sys, pathlib, prism_mlflow.access.embedded as e; e.prepare(pathlib.Path(sys.argv[1]), artifacts='file:///x')"
    database = tmp_path / "mlflow.db"
    worker = subprocess.Popen([sys.executable, "-c", command, str(database)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    while not (tmp_path / ".mlflow.db.new").exists() and time.monotonic() < until:
        time.sleep(0.01)
    worker.send_signal(signal.SIGKILL)
    worker.wait(timeout=30)
    assert not database.exists()
    prepare(database, artifacts="file:///x")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_what_is_no_database_is_said_at_once(tmp_path: Path, make_run: Make) -> None:
    (tmp_path / "mlflow.db").write_text("not a database at all, but long enough to look like a file" * 20)
    begun = time.monotonic()
    with pytest.raises(EnvironmentUnfit, match=r"mlflow\.db: MLflow's database cannot be made or opened: file is not"):
        MlflowTracker().open(make_run(tmp_path))
    assert time.monotonic() - begun < 10


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path, make_run: Make) -> None:
    (tmp_path / "file").write_text("")
    run = make_run(tmp_path, settings={"tracking_uri": "sqlite:///file/mlflow.db"})
    with pytest.raises(EnvironmentUnfit, match="cannot be made or opened"):
        MlflowTracker().open(run)


@pytest.mark.timeout(200)
def test_a_project_path_with_odd_characters(tmp_path: Path, make_run: Make) -> None:
    project = tmp_path / "my project 100%20 损"
    project.mkdir()
    tracker = MlflowTracker()
    opened = tracker.open(make_run(project))
    assert (project / "mlflow.db").is_file()
    assert (project / "artifacts" / "mlflow" / opened.id / "artifacts" / "config.yaml").is_file()
