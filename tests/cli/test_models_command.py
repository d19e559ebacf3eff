"""`prism models`: against a registry of the test's own, and against a real MLflow that is there, stopped or absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from prism.cli.main import main

PLUGIN = """
    import json
    from pathlib import Path
    from prism.hookspecs import hookimpl
    from prism.protocols import ModelVersion
    from prism.providers import Provider

    class Registry:
        def open(self, project, settings):
            self.models = json.loads((project / "models.json").read_text())
        def names(self):
            return sorted(self.models)
        def versions(self, name):
            return [ModelVersion(name, **one) for one in self.models.get(name, [])]

    class Nowhere:
        pass

    @hookimpl
    def prism_trackers():
        return [Provider("shelf", target="shelf_plugin:Nowhere")]

    @hookimpl
    def prism_model_registries():
        return [Provider("shelf", target="shelf_plugin:Registry")]
"""
CONFIG = """
foundation: {experiment_name: qa}
trackers: [shelf]
plugins: {local: [./shelf_plugin.py]}
"""
MODELS: dict[str, list[dict[str, Any]]] = {
    "qa_llama": [
        {"version": "1.0.0", "digest": "sha256:" + "a" * 64, "run_id": "r1", "created": 1_700_000_000_000},
        {"version": "1.0.1", "digest": "sha256:" + "b" * 64, "run_id": "r2", "aliases": ["champion"],
         "tags": {"task": "sft"}, "uri": "file:///m", "url": "http://host/m"},
    ],
    "weather": [{"version": "3"}],
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sais_foundation.yaml").write_text(CONFIG)
    (tmp_path / "shelf_plugin.py").write_text(dedent(PLUGIN))
    (tmp_path / "models.json").write_text(json.dumps(MODELS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(project: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def models(*arguments: str) -> tuple[int, str, str]:
        code = main(["models", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return models


def test_the_list_has_every_version_of_every_model(call: Call) -> None:
    code, out, _ = call("list")
    heading, *rows = out.splitlines()
    assert code == 0 and heading.split() == ["NAME", "VERSION", "ALIASES", "CREATED", "RUN", "DIGEST"]
    assert [row.split()[:2] for row in rows] == [["qa_llama", "1.0.0"], ["qa_llama", "1.0.1"], ["weather", "3"]]
    assert rows[1].index("champion") == heading.index("ALIASES") and "sha256:" + "b" * 12 in rows[1]


def test_the_list_as_json_has_stable_keys(call: Call) -> None:
    code, out, _ = call("list", "qa_llama", "--json")
    found = json.loads(out)
    assert code == 0 and [one["version"] for one in found] == ["1.0.0", "1.0.1"]
    keys = ["name", "version", "aliases", "created", "run_id", "digest", "uri", "url", "tags"]
    assert all(list(one) == keys for one in found)
    assert found[1]["tags"] == {"task": "sft"} and found[1]["aliases"] == ["champion"]


@pytest.mark.parametrize(
    ("reference", "version"),
    [("qa_llama", "1.0.1"), ("qa_llama@1.0.0", "1.0.0"), ("qa_llama@champion", "1.0.1"), ("weather@3", "3")],
)
def test_a_version_by_every_name(call: Call, reference: str, version: str) -> None:
    code, out, _ = call("show", reference, "--json")
    assert (code, json.loads(out)["version"]) == (0, version)


def test_a_version_for_people(call: Call) -> None:
    code, out, _ = call("show", "qa_llama@champion")
    assert code == 0
    assert out.splitlines()[:3] == ["name      qa_llama", "version   1.0.1", "aliases   champion"]
    assert "tag       task = sft" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "qa_lama"), "no registered model 'qa_lama'\n  hint: did you mean 'qa_llama'?"),
        (("list", "nothing-like-it"), "hint: there are: qa_llama, weather"),
        (("show", "qa_llama@1.0.2"), "hint: did you mean '1.0.1'?"),
        (("show", "qa_llama@champ"), "hint: did you mean 'champion'?"),
    ],
)
def test_what_is_not_there_is_exit_1_with_a_hint(call: Call, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (1, "") and told in err


def test_an_empty_registry(call: Call, project: Path) -> None:
    (project / "models.json").write_text("{}")
    assert call("list", "--json")[:2] == (0, "[]\n")
    assert "no model is registered yet" in call("show", "qa_llama")[2]


def prism(project: Path, *arguments: str, uri: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"OMP_NUM_THREADS": "1"} | ({"MLFLOW_TRACKING_URI": uri} if uri else {})
    command = [sys.executable, "-m", "prism", "--project", str(project), "models", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)


@pytest.fixture
def mlflow_project(tmp_path: Path) -> Path:
    pytest.importorskip("prism_mlflow")
    folder = tmp_path / "mlflow-project"
    folder.mkdir()
    (folder / "sais_foundation.yaml").write_text("foundation: {experiment_name: qa}\n")
    return folder


@pytest.mark.timeout(300)
def test_a_real_server_that_is_there_and_then_stopped(mlflow_server: Any, mlflow_project: Path) -> None:
    there = prism(mlflow_project, "list", "--json", uri=mlflow_server.uri)
    assert there.returncode == 0, there.stderr
    assert isinstance(json.loads(there.stdout), list) and there.stderr == ""
    with mlflow_server.paused():
        stopped = prism(mlflow_project, "list", uri=mlflow_server.uri)
    assert (stopped.returncode, stopped.stdout) == (4, "")
    assert f"MLflow at {mlflow_server.uri} did not list the models: no answer in time" in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.timeout(200)
def test_a_server_that_is_absent(mlflow_project: Path, free_port: int) -> None:
    begun = time.monotonic()
    absent = prism(mlflow_project, "show", "qa", uri=f"http://ada:secret@127.0.0.1:{free_port}")
    assert absent.returncode == 4 and "Connection refused" in absent.stderr and "secret" not in absent.stderr
    assert time.monotonic() - begun < 60  # the imports are most of it, on a busy machine


@pytest.mark.timeout(200)
def test_the_project_without_a_server(mlflow_project: Path) -> None:
    found = prism(mlflow_project, "list", "--json")
    assert (found.returncode, json.loads(found.stdout), found.stderr) == (0, [], "")
    assert [path.name for path in mlflow_project.iterdir()] == ["sais_foundation.yaml"]  # only looked
