"""Datasets of the project around the current folder, for MLflow's dataset source `prism://`."""

from __future__ import annotations

from pathlib import Path

from prism.config import find_config
from prism.data.references import DatasetReference
from prism.errors import DataError
from prism.project import Project, open_project
from prism.protocols import DatasetVersion
from prism.runs.datasets import Dataset, find_dataset


def fetch_dataset(name: str, *, version: str, digest: str) -> Path:
    """The path of that version, through the project's data client.

    Raises `DataError` when it is not there or has another digest, `UsageError` outside a project.
    """
    found = _find(open_project(), name, version=version)
    if digest and found.digest != digest:
        raise DataError(
            f"{name}@{found.version} has the digest {found.digest}, not {digest}", hint="the data were changed since"
        )
    return found.path


def current_version(name: str) -> DatasetVersion | None:
    """The version that the name means now; None outside a project. Raises `DataError`."""
    return _find(open_project(), name, version="").as_version() if find_config(Path.cwd()) is not None else None


def _find(project: Project, name: str, *, version: str) -> Dataset:
    if project.config.unified_data_access.enabled:
        return find_dataset(project, str(DatasetReference(name, version)))
    found = find_dataset(project, name)  # a path, which has no versions to choose from
    if version and not found.digest.removeprefix("sha256:").startswith(version.removeprefix("sha256:")):
        raise DataError(f"{name}@{version} is not what lies there: that is version {found.version}")
    return found
