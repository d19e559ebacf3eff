"""A run's finished model: kept whole, looked at, and what is to be registered of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from prism.data.digest import digest_files, manifest_digest
from prism.journal.directory import RunDirectory, list_runs, read_summary
from prism.runs.files import keep_folder
from prism.runs.weights import non_finite_tensors

if TYPE_CHECKING:
    from prism.config import Configuration
    from prism.config.sections import ModelRepo


@frozen
class KeptModel:
    """A model in the run directory: digest of its files, bytes, and its tensors that are not finite."""

    digest: str
    size: int
    non_finite: tuple[str, ...]


def keep_model(source: Path, target: Path) -> KeptModel:
    """Copy the model folder `source` to `target`, in place of an earlier one once the new one is whole."""
    incoming = target.with_name(f"{target.name}-incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        keep_folder(source, incoming)
        files = digest_files(incoming)
    except BaseException:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    incoming.rename(target)
    return KeptModel(manifest_digest(files), sum(file.size for file in files), tuple(non_finite_tensors(target)))


def taken_by_earlier(directory: RunDirectory, intent: Mapping[str, Any], *, digest: str) -> str:
    """Why this project's registered models leave no room for another of that name and version; "" when they do."""
    if not intent["version"]:
        return ""
    for run in list_runs(directory.project):
        model = read_summary(run).get("model") or {}
        same = (model.get("name"), model.get("version")) == (intent["name"], intent["version"])
        if same and model.get("state") == "registered" and model.get("digest") != digest:
            asked = f"{intent['name']} {intent['version']}"
            return f"{asked} is of the run {run.run_id}: this model will be refused; an empty version takes the next"
    return ""


def registration_intent(config: Configuration, *, repo: ModelRepo | None = None) -> dict[str, Any] | None:
    """What `repo`, else `ml.model_repo`, asks for, as the `model` record holds it; None: nothing is registered."""
    repo = repo or config.ml.model_repo
    if not repo.registers or not config.ml.enabled:
        return None
    tags = {str(key): str(value) for key, value in repo.tag.items()}
    return {"name": repo.name, "version": repo.version, "tags": tags, "await": repo.await_registration_for}
