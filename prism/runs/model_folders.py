"""Finds the folder of a model that was named: a folder, a run, a registered version, a hub name; and who made it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from prism.data.digest import digest_files, manifest_digest
from prism.delivery.registration import open_registry
from prism.errors import DataError, UsageError
from prism.journal.directory import RunDirectory, find_run, list_runs
from prism.journal.state import read_cached, read_state
from prism.protocols import ModelRegistry, ModelVersion

if TYPE_CHECKING:
    from prism.project import Project


@frozen
class ModelFolder:
    """A model that is here: its folder (or hub name), what reports call it, and who made it, where that is known."""

    path: Path
    name: str
    run: RunDirectory | None = None
    registered: ModelVersion | None = None


def find_model(text: str, *, project: Project) -> ModelFolder:
    """The model that `text` names, looked for in this order.

    A folder; `name@version` or `name@alias` in the registry; a run by its id or the beginning of it; a
    registered name (its newest version); a hub name of the form `owner/name`. Raises `UsageError` when
    it is none of these.
    """
    folder = Path(text).expanduser()
    if folder.is_dir():
        return _in_folder(folder, project=project)
    if "@" in text:
        name, _, version = text.rpartition("@")
        return _registered(name, version, project=project)
    if _is_path(text):
        raise UsageError(f"there is no model folder {folder.absolute()}")
    if any(run.run_id.startswith(text) for run in list_runs(project.config.project)):
        return _of_run(find_run(project.config.project, text))
    if text.count("/") == 1:
        return ModelFolder(Path(text), text)
    return _registered(text, "", project=project)


def _in_folder(folder: Path, *, project: Project) -> ModelFolder:
    """A run's own folder, or one with the same files as the model of a run, belongs to that run."""
    runs = list(list_runs(project.config.project))
    run = next((run for run in runs if _holds(run, folder)), None)
    if run is not None:
        return _of_run(run)
    digest = _digest(folder)
    maker = next((run for run in runs if _model_digest(run) == digest), None)
    return ModelFolder(folder, f"{maker.run_id if maker else folder.resolve().name} {digest}", maker)


def _holds(run: RunDirectory, folder: Path) -> bool:
    return folder.resolve() in (run.model.resolve(), run.path.resolve())


def _model_digest(run: RunDirectory) -> str:
    """The digest of the model that a run has logged, "" where it has none or cannot be read."""
    try:
        summary = read_cached(run) or {"model": read_state(run).model}
    except (UsageError, OSError):  # one that a newer Prism wrote, or that is being deleted: it is not ours to say
        return ""
    model = summary["model"]
    return str(model["digest"]) if model else ""


def _of_run(run: RunDirectory) -> ModelFolder:
    if not run.model.is_dir():
        raise UsageError(f"the run {run.run_id} has no model", hint="it logs one with run.log_model, or by a trainer")
    return ModelFolder(run.model, f"{run.run_id} {_digest(run.model)}", run)


def _registered(name: str, version: str, *, project: Project) -> ModelFolder:
    registry = open_registry(project)
    found = _choose(registry.versions(name), name=name, version=version, registry=registry)
    folder = project.config.project / "artifacts" / "models" / name / found.version
    if not _is_whole(folder, found):
        shutil.rmtree(folder, ignore_errors=True)
        registry.fetch(found, folder)
    run = _run_of(found, project=project)
    return ModelFolder(folder, f"{name}@{found.version} {_digest(folder)}", run, registered=found)


def _choose(versions: Sequence[ModelVersion], *, name: str, version: str, registry: ModelRegistry) -> ModelVersion:
    if not versions:
        known = ", ".join(registry.names()) or "none"
        raise UsageError(
            f"{name!r} is no folder, run, registered model or hub name (owner/name)",
            hint=f"prism runs list shows the runs; registered models: {known}",
        )
    fitting = [one for one in versions if version in (one.version, *one.aliases)] if version else list(versions)
    if not fitting:
        there = ", ".join("@".join((one.version, *one.aliases)) for one in versions)
        raise UsageError(f"there is no {name}@{version}", hint=f"there are: {there}")
    return fitting[-1]


def _is_whole(folder: Path, version: ModelVersion) -> bool:
    return bool(version.digest) and folder.is_dir() and _digest(folder) == version.digest


def _run_of(version: ModelVersion, *, project: Project) -> RunDirectory | None:
    """The run that made it, where this project still has it."""
    return next((run for run in list_runs(project.config.project) if run.run_id == version.run_id), None)


def _digest(folder: Path) -> str:
    try:
        files = digest_files(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
    if not files:
        raise UsageError(f"the model folder {folder} is empty")
    return manifest_digest(files)


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith("/") or text.count("/") > 1
