"""What an evaluation says of its model: the first source that knows it, and nothing about models from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prism.journal.directory import RunDirectory
from prism.project import Project, open_project
from prism.protocols import ModelVersion
from prism.runs.model_facts import facts_of
from prism.runs.model_folders import ModelFolder, find_model
from prism.runs.start import start_run

CONFIG = """
ml:
  enabled: true
  tracking_uri: http://127.0.0.1:9
  system_tracing: false
  parameters: {base_model: ./base}
  model_repo: {name: qa, version: "1.4.0", tag: {framework: jax, base_model: from-the-file}}
trackers: []
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "sais_foundation.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "model").mkdir()
    own = {"transformers_version": "5.0.0", "architectures": ["LlamaForCausalLM"], "_name_or_path": "from-its-config"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(own), encoding="utf-8")
    return open_project(start=tmp_path)


def made_by_a_run(project: Project) -> tuple[RunDirectory, ModelFolder]:
    folder = project.config.project
    with start_run(project.config.path) as run:
        run.log_model(folder / "model")
    return RunDirectory(run.directory), find_model(str(folder / "model"), project=project)


def test_of_a_folder_that_no_run_has_made(project: Project) -> None:
    facts = facts_of(find_model(str(project.config.project / "model"), project=project), project=project)
    assert (facts.version, facts.version_from) == ("1.4.0", "configuration")
    assert facts.tags == {"framework": "jax", "task_type": "language-model", "base_model": "from-the-file"}


def test_of_the_run_that_made_it_also_when_the_configuration_is_another_by_now(project: Project) -> None:
    run, found = made_by_a_run(project)
    assert found.run == run
    project.config.path.write_text("ml: {enabled: false}\n", encoding="utf-8")
    facts = facts_of(found, project=open_project(start=project.config.project))
    assert (facts.version, facts.version_from) == ("1.4.0", "run")
    assert facts.tags == {"framework": "jax", "task_type": "language-model", "base_model": "from-the-file"}


def test_the_newest_of_two_runs_that_made_the_same_files(project: Project) -> None:
    made_by_a_run(project)
    second, found = made_by_a_run(project)
    assert found.run == second
    (project.config.project / "model" / "more.txt").touch()
    assert find_model(str(project.config.project / "model"), project=project).run is None


@pytest.mark.parametrize(
    ("version", "shown"), [("2.0.1", "2.0.1"), ("3", "3.0.0"), ("1.0.0+mlflow.4", "1.0.0+mlflow.4")]
)
def test_of_a_registered_version(project: Project, version: str, shown: str) -> None:
    registered = ModelVersion("qa", version, tags={"base_model": "from-the-registry"})
    found = ModelFolder(project.config.project / "model", "qa", registered=registered)
    facts = facts_of(found, project=project)
    assert (facts.version, facts.version_from) == (shown, "registry")
    assert facts.tags == {"framework": "pytorch", "task_type": "language-model", "base_model": "from-the-registry"}


def test_of_a_model_on_the_hub_the_configuration_says_nothing(project: Project) -> None:
    facts = facts_of(ModelFolder(Path("owner/name"), "owner/name"), project=project)
    assert (facts.version, facts.version_from, facts.tags) == ("1.0.0", "default", {"base_model": "owner/name"})
