"""The layers: what the core's extras bring, requirements.txt, and what is said in environments that lack a layer.

The environments are real: an interpreter without its site-packages, and a folder with the core and what that requires.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from prism.plugins import EXTRAS, Plugins
from prism.providers import Provider
from prism.runs.preflight import absent_modules

ROOT = Path(__file__).parents[1]
LAYERS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def project_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def name_of(requirement: str) -> str:
    return re.split(r"[\s<>=~;\[!]", requirement)[0]


# ---------------------------------------------------------------- what is written down


def brought_by(extra: str) -> set[str]:
    """The distributions that an extra of the core brings, extras of the core in it opened."""
    extras = project_of(ROOT)["optional-dependencies"]
    found = set()
    for line in extras[extra]:
        inner = re.fullmatch(r"sais-prism-core\[(.+)\]", line)
        found |= {one for each in inner[1].split(",") for one in brought_by(each)} if inner else {name_of(line)}
    return found


def test_each_built_in_is_in_the_extra_that_messages_name() -> None:
    plugins = Plugins.load()
    ours = {project_of(folder)["name"] for folder in LAYERS}
    offered = {(p.kind, p.name): r.distribution for r in plugins.records for p in r.provides if r.distribution in ours}
    assert set(EXTRAS) == set(offered)
    assert not [key for key, extra in EXTRAS.items() if offered[key] not in brought_by(extra)]


def test_the_layers_together_are_the_whole_and_evaluating_needs_one_alone() -> None:
    assert set(project_of(ROOT)["optional-dependencies"]) == {"mlflow", "train", "eval", "all"}
    plugins = {project_of(folder)["name"] for folder in LAYERS} - {"sais-prism-sdk"}
    assert brought_by("all") == plugins
    assert plugins < {name_of(line) for line in project_of(ROOT / "plugins/sais-prism-sdk")["dependencies"]}
    evaluating = {("predictor", "generate"), ("data_client", "local"), ("evaluator", "rouge"), ("evaluator", "bleu")}
    offered = {(p.kind, p.name): r.distribution for r in Plugins.load().records for p in r.provides}
    assert {offered[key] for key in evaluating} <= brought_by("eval")


def test_requirements_are_the_distributions_of_this_repository() -> None:
    lines = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    here = ["-e ."] + [f"-e ./{folder.relative_to(ROOT)}" for folder in LAYERS]
    assert lines == ["--constraint constraints.txt", *here]


# ---------------------------------------------------------------- environments that lack a layer


@frozen
class Environment:
    """A folder that is all that an interpreter finds beside the standard library."""

    site: Path

    def lay(self, folder: Path, package: Path) -> Sequence[str]:
        """Install a distribution of this repository, without what it requires, which is returned."""
        project = project_of(folder)
        info = self.site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        points = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["prism"].items())
        (info / "entry_points.txt").write_text(f"[prism]\n{points}")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        (self.site / package.name).symlink_to(package)
        required: list[str] = project["dependencies"]
        return required

    def link(self, requirement: str) -> None:
        """Link what this interpreter has for a requirement, with all that it requires in turn."""
        try:
            found = distribution(name_of(requirement))
        except PackageNotFoundError:  # required by a marker, of another Python for instance
            return
        tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
        new = [top for top in tops if not (self.site / top).exists()]
        for top in new:
            (self.site / top).symlink_to(Path(str(found.locate_file(top))))
        for each in found.requires or () if new else ():
            if "extra ==" not in each:
                self.link(each)

    def prism(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PRISM", "MLFLOW", "PYTHON"))}
        command = [sys.executable, "-S", "-m", "prism", *arguments]
        environ = {**kept, "PYTHONPATH": str(self.site)}
        return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60)

    def lacks(self, folder: Path) -> dict[str, str]:
        """What `prism doctor` says is missing → the line that installs it."""
        done = self.prism("doctor", "--json", folder=folder)
        assert done.returncode == 1, done.stdout + done.stderr
        return {
            one["text"]: one["hint"]
            for one in json.loads(done.stdout)["checks"]
            if one["check"] == "layers" and one["state"] == "failed"
        }


@pytest.fixture
def core_alone(tmp_path: Path) -> Iterator[Environment]:
    """What `pip install sais-prism-core` gives."""
    environment = Environment(tmp_path / "site")
    environment.site.mkdir()
    for requirement in environment.lay(ROOT, ROOT / "prism"):
        environment.link(requirement)
    yield environment


def line(extra: str) -> str:
    return f"pip install 'sais-prism-core[{extra}]'"


DEFAULT = "evaluation: {data: [a.jsonl]}\n"
NAMED: Mapping[str, str] = {
    "trainer": "trainer: {name: accelerate, task: sft}",
    "launcher": "launcher: {name: accelerate, processes: 2}",
    "tracker": "trackers: [{name: mlflow, timeout: 3}]",
    "data client": "unified_data_access: {client: {name: cpfs, roots: [/cpfs01]}, data_access: [a]}",
    "predictor": "evaluation: {data: [a], predictor: {name: generate, batch_size: 3}, evaluators: []}",
    "evaluator": "ml: {custom_metrics: [{name: m, evaluator: bleu, predictions: a, references: b}]}",
}


def test_the_core_alone_names_every_layer_that_the_defaults_need(core_alone: Environment, tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text(DEFAULT)
    assert core_alone.lacks(tmp_path) == {
        "no plugin provides a launcher named 'accelerate'": line("train"),
        "no plugin provides a trainer named 'accelerate'": line("train"),
        "no plugin provides a data client named 'local'": line("train"),
        "no plugin provides a tracker named 'mlflow'": line("mlflow"),
        "no plugin provides a predictor named 'generate'": line("eval"),
        "no plugin provides an evaluator named 'rouge'": line("eval"),
        "no plugin provides an evaluator named 'bleu'": line("eval"),
    }
    ran = core_alone.prism("run", folder=tmp_path)
    assert ran.returncode == 4 and line("train") in ran.stderr, ran.stderr
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("kind", NAMED)
def test_what_a_base_file_names_is_named_with_its_place(core_alone: Environment, tmp_path: Path, kind: str) -> None:
    (tmp_path / "institute.yaml").write_text(f"# the institute's\n{NAMED[kind]}\n")
    (tmp_path / "team.yaml").write_text("extends: [institute.yaml]\nfoundation: {experiment_name: e}\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "sais_foundation.yaml").write_text("extends: [../team.yaml]\n")
    (text,) = [text for text in core_alone.lacks(project) if f" {kind} named" in text]
    assert text.endswith(f", as {tmp_path}/institute.yaml:2 asks")


def test_a_wrong_key_is_told_before_what_is_missing(core_alone: Environment, tmp_path: Path) -> None:
    (tmp_path / "sais_foundation.yaml").write_text("trainer: accelerate\nmll: {}\n")
    assert core_alone.lacks(tmp_path) == {}  # the project's finding has all of it
    assert "unknown key 'mll'" in core_alone.prism("doctor", folder=tmp_path).stdout


def test_a_module_in_a_package_that_is_not_here_is_absent_too() -> None:
    provider = Provider("x", target="json:loads", requires=("nowhere_at_all.part", "importlib.metadata"))
    assert absent_modules(provider) == ["nowhere_at_all.part"]


LIBRARIES = {
    "mlflow": {"the tracker 'mlflow' needs mlflow, not installed here": line("mlflow")},
    "accelerate": {
        "the trainer 'accelerate' needs torch, accelerate, not installed here": line("train"),
        "the predictor 'generate' needs torch, transformers, not installed here": line("eval"),
    },
    "textmetrics": {"the evaluator 'bleu' needs sacrebleu, not installed here": line("eval")},
}


@pytest.mark.parametrize("short", LIBRARIES)
def test_a_plugin_whose_library_is_not_here(core_alone: Environment, tmp_path: Path, short: str) -> None:
    (package,) = (ROOT / "plugins" / f"prism-{short}" / "src").glob("prism_*")
    core_alone.lay(ROOT / "plugins" / f"prism-{short}", package)
    (tmp_path / "sais_foundation.yaml").write_text(DEFAULT)
    found = core_alone.lacks(tmp_path)
    assert {text: hint for text, hint in found.items() if "needs" in text} == LIBRARIES[short]
    ran = core_alone.prism("run", folder=tmp_path)
    assert ran.returncode == 4 and "Traceback" not in ran.stderr
