"""A model is registered once its run has succeeded: with the next version, and never where it must not be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prism_mlflow")

SCRIPT = """
import json
import struct
import sys
import prism

@prism.experiment
def train(run: prism.Run) -> None:
    folder = run.scratch / "model"
    folder.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = struct.pack("<f", float(run.params.weight))
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + weights)
    run.log_model(folder)
    if run.params.weight == 13:
        raise RuntimeError("unlucky")
"""
CONFIG = """
foundation: {experiment_name: registration}
ml:
  system_tracing: false
  parameters: {weight: 1.0}
  model_repo: {name: small, version: "", tag: {kind: test}}
"""


def prism(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prism", "--project", str(project), *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=150, check=False)


def versions(project: Path) -> list[str]:
    answer = prism(project, "models", "list", "small", "--json")
    return [version["version"] for version in json.loads(answer.stdout)]


def model_of_newest(project: Path) -> dict[str, Any]:
    newest = max(path.name for path in (project / "artifacts" / "runs").iterdir() if not path.name.startswith("."))
    found: dict[str, Any] = json.loads(prism(project, "runs", "show", newest, "--json").stdout)["model"]
    return found


def test_versions_refusals_and_what_is_never_registered(tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text(CONFIG)
    (tmp_path / "train.py").write_text(SCRIPT)

    first = prism(tmp_path, "run", "train.py:train")
    assert first.returncode == 0 and "small 1.0.0  registered" in first.stdout, first.stderr
    second = prism(tmp_path, "run", "train.py:train", "ml.parameters.weight=2.0")
    assert second.returncode == 0 and "small 1.0.1  registered" in second.stdout, second.stderr

    taken = prism(tmp_path, "run", "train.py:train", "ml.parameters.weight=3.0", "ml.model_repo.version=1.0.1")
    assert taken.returncode == 3 and "refused" in taken.stdout, taken.stderr
    assert model_of_newest(tmp_path)["state"] == "refused"

    broken = prism(tmp_path, "run", "train.py:train", "ml.parameters.weight=nan")
    assert broken.returncode == 0 and "non-finite weights" in broken.stderr
    assert model_of_newest(tmp_path)["state"] == "kept"

    failed = prism(tmp_path, "run", "train.py:train", "ml.parameters.weight=13")
    assert failed.returncode == 1
    assert versions(tmp_path) == ["1.0.0", "1.0.1"]
