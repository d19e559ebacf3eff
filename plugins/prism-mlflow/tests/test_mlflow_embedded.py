"""The database in the project: made whole and once, by however many processes, and refused where it is unfit."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
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

WORKER = """
import json, sys
from pathlib import Path
from prism.protocols import Record, RunRef, TrackedRun
from prism_mlflow.tracker import MlflowTracker

project, number = Path(sys.argv[1]), int(sys.argv[2])
ref = RunRef(f"run-{number}", project / "runs" / str(number))
run = TrackedRun(ref, project, "together", f"r{number}", 1_700_000_000_000)
tracker = MlflowTracker()
print(json.dumps(tracker.open(run).id), flush=True)
records = [
    Record("a1-rank0.jsonl", n, 1_700_000_000_000 + n, "metrics", {"step": n, "metrics": {"loss": n / 7}})
    for n in range(1, 51)
]
tracker.deliver(records, {"a1-rank0.jsonl": 50})
tracker.close("FINISHED", 1_700_000_009_000)
"""


@pytest.mark.timeout(400)
def test_eight_processes_start_together_on_no_database(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), str(number)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(8)
    ]  # fmt: skip
    ended = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, "\n".join(error for _, error in ended)
    ids = [json.loads(output) for output, _ in ended]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        counts = dict(database.execute("SELECT run_uuid, count(*) FROM metrics GROUP BY run_uuid"))
        assert counts == {run_id: 50 for run_id in ids}
        assert database.execute("SELECT count(*) FROM experiments WHERE name = 'together'").fetchone() == (1,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert sorted(path.name for path in tmp_path.iterdir() if "mlflow" in path.name) == ["mlflow.db"]


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
