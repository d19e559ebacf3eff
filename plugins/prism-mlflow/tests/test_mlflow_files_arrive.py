"""Files that a run logs arrive at MLflow as they were logged, whatever the script does to them afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from prism.journal.directory import list_runs
from prism.journal.state import read_state

WITHIN = 180
SCRIPT = """
import os
from pathlib import Path
from prism.runs.files import KeptFiles

def work(run):
    run._kept = KeptFiles(run.directory, run._kept.stem, limit=1000)  # above it by a hard link, not only above 1 GiB
    folder = Path("out")
    folder.mkdir()
    def log(name, content, after):
        (folder / "it").write_bytes(content)
        run.log_artifact(folder / "it", name=name)
        after(folder / "it")
    def overwrite(path):
        with path.open("r+b") as stream:
            stream.write(b"CHANGED")
    replace = lambda path: (folder / "new").write_bytes(b"CHANGED") and (folder / "new").replace(path)
    for size, kind in ((10, "small"), (2000, "large")):
        log(f"{kind}/deleted", b"d" * size, lambda path: path.unlink())
        log(f"{kind}/replaced", b"r" * size, replace)
        (folder / "it").unlink()
    log("small/overwritten", b"o" * 10, overwrite)
    (folder / "it").unlink()
    log("large/overwritten", b"o" * 2000, overwrite)
    (folder / "it").unlink()
    log("größe 数据/zeile\\nzwei[0]@k.txt", b"odd", lambda path: path.unlink())
    log("long/" + "n" * 300, b"long", lambda path: path.unlink())
    child = os.fork()
    if child == 0:
        log("of a child", b"child", lambda path: path.unlink())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for number in range(3):
        log("same name", b"%d" % number, lambda path: path.unlink())
"""


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory, mlflow_server: Any) -> tuple[dict[str, bytes], dict[str, str]]:
    """The run's artifacts at a real server by their names there, and its tags."""
    project = tmp_path_factory.mktemp("project")
    (project / "train.py").write_text(SCRIPT, encoding="utf-8")
    (project / "sais_foundation.yaml").write_text(
        f"foundation: {{experiment_name: files arrive}}\nml: {{tracking_uri: '{mlflow_server.uri}', auto_log: false}}\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PRISM"))}
    environment = {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])}
    for command in (["run", "train.py:work"], ["sync"]):
        done = subprocess.run(
            [sys.executable, "-m", "prism", *command],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert done.returncode == 0, done.stderr
    (directory,) = list_runs(project)
    state = read_state(directory)
    assert state.pending == 0 and state.status == "FINISHED"
    client, run_id = MlflowClient(mlflow_server.uri), state.trackers["mlflow"].run_id
    place = Path(client.download_artifacts(run_id, "", str(tmp_path_factory.mktemp("downloaded"))))
    files = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return files, dict(client.get_run(run_id).data.tags)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("small/deleted", b"d" * 10),
        ("small/replaced", b"r" * 10),
        ("small/overwritten", b"o" * 10),
        ("large/deleted", b"d" * 2000),
        ("large/replaced", b"r" * 2000),
        ("of a child", b"child"),
        ("same name", b"2"),
    ],
)
def test_a_file_arrives_as_it_was_logged(arrived: Any, name: str, content: bytes) -> None:
    assert arrived[0][name] == content


def test_odd_names_arrive_under_readable_ones(arrived: Any) -> None:
    contents = {content: name for name, content in arrived[0].items()}
    assert contents[b"odd"].startswith("größe 数据/zeile") and contents[b"long"].startswith("long/nnn")


def test_what_was_written_into_a_linked_file_is_said_and_not_delivered(arrived: Any) -> None:
    files, tags = arrived
    assert "large/overwritten" not in files
    assert tags["prism.file.large/overwritten"].startswith("changed since it was logged")
    assert not [name for name in tags if name.startswith("prism.file.") and "overwritten" not in name]
