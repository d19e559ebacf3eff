"""Processes of a run: those that it starts are in it too, wherever they are, and have no credentials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from campaigns.servers import MlflowServer
from prism.journal.directory import RunDirectory, list_runs
from prism.journal.projection import Follower
from prism.journal.state import read_state
from prism_mlflow.access.connection import Connection

USER, PASSWORD = "admin", "correct horse 12"

YAML = """
foundation: {{experiment_name: {experiment}}}
ml:
  tracking_uri: "{uri}"
  auto_log: false
  system_tracing: false
  security: {{enabled: true, username: "${{TEST_MLFLOW_USER}}", password: "${{TEST_MLFLOW_WORD}}"}}
trackers: [{{name: mlflow, timeout: 90}}]
"""

SCRIPT = """
    import json, multiprocessing, os, subprocess, sys, time
    from pathlib import Path
    import mlflow

    CHILD = '''
    import json, mlflow, prism, sys
    mlflow.log_metric("of a subprocess", 2.0)
    run = prism.start_run()
    run.log_metrics({"of its handle": 3.0})
    with mlflow.start_run(nested=True, run_name="of a subprocess"):
        mlflow.log_metric("x", 1.0)
    '''

    def spawned(run_id):
        mlflow.log_metric("of a spawned process", 4.0)

    def environment(pid):
        return Path(f"/proc/{pid}/environ").read_bytes().decode()

    def main():
        if (rank := os.environ.get("RANK", "0")) != "0":
            Path(f"rank{rank}.txt").write_text(environment("self"))
            return
        seen = {"worker": environment("self"), "variables": json.dumps(dict(os.environ))}
        mlflow.log_metric("of the worker", 1.0)
        child = textwrap.dedent(CHILD)
        subprocess.run([sys.executable, "-c", child], cwd="/", check=True, timeout=120)
        seen["subprocess"] = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
        process = multiprocessing.get_context("spawn").Process(target=spawned, args=("x",))
        process.start()
        process.join(120)
        assert process.exitcode == 0
        pid = os.fork()
        if pid == 0:
            mlflow.log_metric("of a fork", 5.0)
            Path("fork.txt").write_text(environment("self"))
            os._exit(0)
        os.waitpid(pid, 0)
        seen["fork"] = Path("fork.txt").read_text()
        for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = cmdline.read_bytes()
                if b"prism.delivery.node" in words and os.environ["PRISM_RUN_ID"].encode() in words:
                    seen["beside"] = environment(cmdline.parent.name)
            except OSError:
                pass
        found = mlflow.search_runs(output_format="list")  # with the run's own access, though no variable has it
        Path("seen.json").write_text(json.dumps(seen))

    if __name__ == "__main__":
        import textwrap
        main()
"""


@pytest.mark.timeout(400)
def test_all_processes_of_a_run_are_in_it_and_have_no_credentials(
    tmp_path: Path, guarded_mlflow_server: MlflowServer
) -> None:
    experiment = f"processes-{os.urandom(4).hex()}"
    yaml = YAML.format(experiment=experiment, uri=guarded_mlflow_server.uri)
    (tmp_path / "sais_foundation.yaml").write_text(yaml)
    (tmp_path / "script.py").write_text(dedent(SCRIPT))
    environment = {
        **os.environ,
        "TEST_MLFLOW_USER": USER,
        "TEST_MLFLOW_WORD": PASSWORD,
        "MLFLOW_TRACKING_URI": "http://x",
    }
    several = ["-n", "2"] if find_spec("torch") else []  # whose launcher stands between
    command = [sys.executable, "-m", "prism", "run", *several, "script.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    ranks = [path.read_text() for path in tmp_path.glob("rank*.txt")]
    assert len(ranks) == len(several) // 2
    assert not [text for text in ranks if PASSWORD in text or "PRISM_RUN_ID" not in text]
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert set(seen) == {"worker", "variables", "subprocess", "fork", "beside"}
    assert {where for where, text in seen.items() if PASSWORD in text} == set()
    assert "TEST_MLFLOW_WORD" not in seen["subprocess"] + seen["beside"] + seen["variables"]

    (directory,) = list_runs(tmp_path)
    deadline = time.monotonic() + 120
    while (state := read_state(directory)).pending and time.monotonic() < deadline:
        time.sleep(0.5)
    assert (state.status, state.pending, state.damage) == ("FINISHED", 0, [])
    settings = {
        "tracking_uri": guarded_mlflow_server.uri,
        "security": {"enabled": True, "username": USER, "password": PASSWORD},
    }
    client = Connection.of(tmp_path, settings=settings, timeout=60).client
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert sorted(run.info.run_name for run in runs) == [directory.run_id, "of a subprocess"]
    (own,) = (run for run in runs if run.info.run_name == directory.run_id)
    assert own.data.metrics == {
        "of the worker": 1.0,
        "of a subprocess": 2.0,
        "of its handle": 3.0,
        "of a spawned process": 4.0,
        "of a fork": 5.0,
    }


def test_credentials_come_back_when_a_run_in_a_notebook_ends(tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text(YAML.format(experiment="x", uri="http://127.0.0.1:9"))
    script = """
        import os, prism
        for _ in range(2):
            run = prism.start_run()
            assert "TEST_MLFLOW_WORD" not in os.environ
        run.finish()
        assert os.environ["TEST_MLFLOW_WORD"] == "hush hush" and "MLFLOW_TRACKING_URI" not in os.environ
        print(run.config.section("ml")["security"]["password"] == "hush hush")
    """
    environment = {**os.environ, "TEST_MLFLOW_USER": USER, "TEST_MLFLOW_WORD": "hush hush"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", dedent(script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_child_joins_where_the_projects_own_file_is_gone(tmp_path: Path) -> None:
    """The run's own configuration counts: a child needs neither the YAML nor the variables that it names."""
    (tmp_path / "sais_foundation.yaml").write_text(YAML.format(experiment="x", uri="http://127.0.0.1:9"))
    script = """
        import os, subprocess, sys, prism
        run = prism.start_run()
        os.rename("sais_foundation.yaml", "away.yaml")
        child = 'import mlflow; mlflow.log_metric("of a child", 1.0); mlflow.log_text("t", "t.txt")'
        subprocess.run([sys.executable, "-c", child], cwd="/", check=True)
        print(run.run_id)
    """
    environment = {**os.environ, "TEST_MLFLOW_USER": USER, "TEST_MLFLOW_WORD": "hush hush"}
    command = [sys.executable, "-c", dedent(script)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    directory = RunDirectory(tmp_path / "artifacts" / "runs" / done.stdout.strip())
    assert read_state(directory).metrics == {"of a child": 1.0}
    assert [record.data["name"] for record in Follower(directory).poll() if record.kind == "file"] == ["t.txt"]


def test_entering_a_run_imports_nothing_heavy(tmp_path: Path) -> None:
    """A run whose code never touches MLflow does not pay for it."""
    (tmp_path / "sais_foundation.yaml").write_text("foundation: {experiment_name: x}\n")
    script = """
        import sys
        from prism.project import open_project
        from prism.runs.beginning import begin_run, enter_attempt, enter_trackers
        project = open_project()
        run = enter_attempt(begin_run(project), project=project, attempt=1)
        leave = enter_trackers(run, project)
        run.log_metrics({"loss": 1.0}, step=1)
        run.finish()
        leave()
        heavy = {"mlflow", "numpy", "pandas", "sqlalchemy", "torch"}
        print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
    """
    command = [sys.executable, "-c", dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_framework_that_mlflow_cannot_log_disturbs_nothing(tmp_path: Path) -> None:
    """Of two that only look like them: MLflow cannot patch the one, and the other is half there when MLflow comes."""
    pytest.importorskip("sklearn")
    (tmp_path / "sais_foundation.yaml").write_text(
        'foundation: {experiment_name: x}\nml: {tracking_uri: "http://127.0.0.1:9"}\n'
    )
    (tmp_path / "keras.py").write_text("__version__ = '3.0.0'\n")
    (tmp_path / "lightgbm").mkdir()
    lightgbm = """
        from sklearn import model_selection
        class Dataset:
            def __init__(self, data): ...
        def train(params, train_set): return "trained"
        import lightgbm.sklearn
        __version__ = "4.6.0"
    """
    (tmp_path / "lightgbm" / "__init__.py").write_text(dedent(lightgbm))
    (tmp_path / "lightgbm" / "sklearn.py").write_text(
        "from lightgbm import train\nclass LGBMModel:\n    def fit(self): ...\n"
    )
    script = """
        import prism
        run = prism.start_run()
        import keras, lightgbm
        print(hasattr(lightgbm.train, "__wrapped__"))
        run.finish()
    """
    command = [sys.executable, "-c", dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "MLflow cannot log keras by itself" in done.stderr
    (directory,) = list_runs(tmp_path)
    assert read_state(directory).status == "FINISHED"
