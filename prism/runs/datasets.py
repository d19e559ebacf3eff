"""A run's datasets: from the name in the configuration to a verified path."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from prism.data.digest import digest_files, manifest_digest
from prism.data.versions import version_of
from prism.errors import DataError
from prism.protocols import DataClient, DatasetFile, DatasetVersion
from prism.writing import write_whole

if TYPE_CHECKING:
    from prism.project import Project

_locks: dict[int, threading.Lock] = {}
"""One for each process: what another thread held at a fork would never be let go in the child."""


@frozen
class Dataset:
    """A dataset version that is here: `path` is its file or folder."""

    name: str
    version: str
    digest: str
    uri: str
    path: Path
    files: tuple[DatasetFile, ...]

    def as_version(self) -> DatasetVersion:
        return DatasetVersion(self.name, self.version, self.uri, self.digest, self.files)


def find_dataset(project: Project, name: str, *, client: DataClient | None = None) -> Dataset:
    """Resolve and fetch `name` through `client`, else through the one that the configuration names.

    With `unified_data_access.enabled: false` a name is a path, relative to the project.
    """
    access = project.config.unified_data_access
    if not access.enabled:
        return _as_path(name, project.config.project)
    client = client or project.build("data_client", access.client)
    version = client.resolve(name)
    path = client.fetch(version)
    return Dataset(version.name, version.version, version.digest, version.uri, Path(path), version.files)


def keep_version(file: Path, version: DatasetVersion) -> None:
    """Add a version to a run's `data.json`, beside those that earlier attempts and evaluations have put there."""
    with _locks.setdefault(os.getpid(), threading.Lock()):
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        kept = {(one["name"], one["digest"]): one for one in (*known, asdict(version))}
        write_whole(file, json.dumps(list(kept.values()), indent=1) + "\n")


def _as_path(name: str, folder: Path) -> Dataset:
    path = (folder / name).resolve()
    if not path.exists():
        raise DataError(f"there is no dataset at {path}", hint="unified_data_access.enabled is false: names are paths")
    files = digest_files(path)
    digest = manifest_digest(files)
    return Dataset(name, version_of(digest), digest, path.as_uri(), path, files)
