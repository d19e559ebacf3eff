"""Whoever delivers a run later, from another shell, goes where the run went."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism.delivery.reopening import reopen_project
from prism.project import open_project
from prism.runs.beginning import begin_run

CONFIG = """
foundation: {experiment_name: x}
ml: {security: {username: ada, password: "${MLFLOW_PASSWORD:-}"}, parameters: {lr: 0.1}}
"""


@pytest.mark.parametrize("address", ["http://here.example:5000", None])
def test_another_shells_environment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    (tmp_path / "sais_foundation.yaml").write_text(CONFIG)
    environ = {"MLFLOW_PASSWORD": "long $ecret ${x}"} | ({"MLFLOW_TRACKING_URI": address} if address else {})
    project = open_project(tmp_path / "sais_foundation.yaml", environ=environ)
    directory = begin_run(project)
    assert "ecret" not in directory.config.read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere.example:5000")
    monkeypatch.setenv("PRISM__ML__PARAMETERS__LR", "9")
    again = reopen_project(directory, secrets=project.config.secrets()).config
    assert again.ml.tracking_uri == address
    assert again.ml.security.password == "long $ecret ${x}"
    assert again.ml.parameters.lr == 0.1
    assert again.project == tmp_path
