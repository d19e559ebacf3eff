"""What a project says of itself to plain MLflow code: its experiment, and tags of configuration, data and code."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from prism.data.references import parse_reference
from prism.errors import DataError, PrismError
from prism.project import open_project
from prism_mlflow.naming import MAX_TAG, cut, text

if TYPE_CHECKING:
    from prism.config import Configuration

GIT_SECONDS = 5
_GIT_FRESH_SECONDS = 10.0  # an autologged search makes hundreds of runs: git is not asked for each


@frozen
class ProjectFacts:
    """A project as far as its configuration tells without any heavy work.

    `problem` says why the configuration could not be read; then `experiment` is "".
    """

    folder: Path
    experiment: str = ""
    configured: Mapping[str, str] = field(factory=dict)
    problem: str = ""

    def tags(self) -> Mapping[str, str]:
        """The tags of a run that begins now."""
        now = int(time.monotonic() / _GIT_FRESH_SECONDS)
        return {"prism.project": text(self.folder), **self.configured, **_git_tags(self.folder, now)}


def read_facts(config: Path) -> ProjectFacts:
    """The facts of the project whose configuration is the file `config`."""
    try:
        configuration = open_project(config).config
    except PrismError as error:
        return ProjectFacts(config.parent, problem=str(error))
    return ProjectFacts(
        configuration.project,
        experiment=configuration.redact(configuration.foundation.experiment_name),
        configured=_configured(configuration),
    )


def _configured(configuration: Configuration) -> dict[str, str]:
    tags = {
        "prism.config_file": os.path.relpath(configuration.path, configuration.project),
        "prism.config_digest": configuration.digest,
    }
    data = json.dumps(_datasets(configuration), ensure_ascii=False)
    if data != "[]":
        tags["prism.data"] = cut(text(configuration.redact(data)), limit=MAX_TAG, whole="the configuration")
    return tags


def _datasets(configuration: Configuration) -> list[dict[str, str]]:
    """Each dataset that the configuration names, and the version (or the digits of a digest) where it names one."""
    data, evaluation = configuration.data, configuration.evaluation.data
    names = [*configuration.unified_data_access.data_access.dataset_names, data.train, data.validation, *evaluation]
    return [_reference(name) for name in dict.fromkeys(name for name in names if name)]


def _reference(name: str) -> dict[str, str]:
    try:
        reference = parse_reference(name)
    except DataError:  # an empty version, say: whoever loads the data is told
        return {"name": name}
    return {"name": reference.name, **({"version": reference.version} if reference.version else {})}


@lru_cache(maxsize=8)
def _git_tags(folder: Path, _now: int) -> Mapping[str, str]:
    """The commit, the branch, and whether files under version control were changed since; nothing outside git."""
    lines = _git(folder, ["status", "--porcelain=v2", "--branch", "--untracked-files=no"])
    heads = dict(line.removeprefix("# branch.").split(" ", 1) for line in lines if line.startswith("# branch."))
    if heads.get("oid", "(initial)") == "(initial)":
        return {}
    changed = any(not line.startswith("#") for line in lines)
    branch = heads.get("head", "(detached)")
    tags = {"prism.git.commit": heads["oid"], "prism.git.dirty": "true" if changed else "false"}
    return tags if branch == "(detached)" else {**tags, "prism.git.branch": text(branch)}


def _git(folder: Path, arguments: Sequence[str]) -> list[str]:
    """The lines that git prints; none where it is not there, fails or takes too long."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # looking must not be in the way of a commit
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []
