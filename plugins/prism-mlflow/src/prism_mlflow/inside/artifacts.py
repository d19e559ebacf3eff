"""Artifacts inside a run: kept with the run when they are logged, listed and read from there."""

from __future__ import annotations

import posixpath
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from prism_mlflow.inside.addresses import Place, parse_artifact_address
from prism_mlflow.inside.entities import as_files
from prism_mlflow.inside.within import Within, for_mlflow, within


class JournalArtifacts(ArtifactRepository):
    """What a run of ours, one nested in it, or a LoggedModel of ours has as artifacts."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._place = parse_artifact_address(address)

    @for_mlflow
    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Keep a file as it is now."""
        source = Path(local_file)
        self._keep(source, posixpath.join(self._place.path, artifact_path or "", source.name))

    @for_mlflow
    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Keep every file of a folder as it is now."""
        folder = Path(local_dir)
        for source in sorted(folder.rglob("*")):
            if source.is_file():
                inner = source.relative_to(folder).as_posix()
                self._keep(source, posixpath.join(self._place.path, artifact_path or "", inner))

    def _log_artifact_async(self, filename: str, artifact_path: str | None = None, artifact: Any = None) -> Any:
        return super()._log_artifact_async(filename, artifact_path, artifact)  # type: ignore[no-untyped-call]

    @for_mlflow
    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What lies directly under `path`."""
        root = self._place.path
        prefix = f"{root}/" if root else ""
        names = {name.removeprefix(prefix): facts for name, facts in self._files().items() if name.startswith(prefix)}
        return as_files(names, path or "")

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        name = posixpath.join(self._place.path, remote_file_path)
        facts = self._files().get(name)
        if facts is None:
            raise MlflowException(f"the run has no artifact {name!r}", error_code=RESOURCE_DOES_NOT_EXIST)
        shutil.copyfile(self._within.told.recorded.kept_path(facts), local_path)

    @for_mlflow
    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        raise MlflowException("artifacts of a run that goes on cannot be deleted: the journal keeps what was logged")

    @property
    def _within(self) -> Within:
        return within(self._place.directory)

    def _keep(self, source: Path, name: str) -> None:
        here, owner = self._within, self._place.id
        if self._place.kind == "model":
            here.keep_file(source, name=name, model=owner)
        elif owner == here.run.run_id:
            here.run.log_artifact(source, name=name)
        else:
            here.keep_file(source, name=name, run=owner)

    def _files(self) -> Mapping[str, Mapping[str, Any]]:
        told = self._within.told.poll()
        owners: Mapping[str, Any] = told.models if self._place.kind == "model" else told.runs
        owner = owners.get(self._place.id)
        return owner.files if owner is not None else {}


class ServerArtifacts(ArtifactRepository):
    """Artifacts at the server, in bounded time and with the run's own access."""

    def __init__(self, address: str, place: Place) -> None:
        super().__init__(address)
        self._server = within(place.directory).server
        self._address = posixpath.join(place.id, place.path) if place.path else place.id

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What lies directly under `path`."""
        found = self._server.wait("list artifacts", lambda: self._repository().list_artifacts(path))
        return list(found)

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Bring a file or folder here; 1 GiB is given the time it takes."""
        work = lambda: self._repository().download_artifacts(artifact_path, dst_path)  # noqa: E731
        return str(self._server.wait("give artifacts", work, size=1 << 30))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload at once: it is not this run's, so nothing would deliver it."""
        size = Path(local_file).stat().st_size
        self._server.wait("take a file", lambda: self._repository().log_artifact(local_file, artifact_path), size=size)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload at once, as `log_artifact`."""
        size = sum(path.stat().st_size for path in Path(local_dir).rglob("*") if path.is_file())
        self._server.wait("take files", lambda: self._repository().log_artifacts(local_dir, artifact_path), size=size)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        work = lambda: self._repository()._download_file(remote_file_path, local_path)  # noqa: E731
        self._server.wait("give a file", work, size=1 << 30)

    def _repository(self) -> Any:
        return self._server.repository(self._address)


def open_artifacts(address: str) -> ArtifactRepository:
    """The repository behind an artifact address."""
    place = parse_artifact_address(address)
    return ServerArtifacts(address, place) if place.kind == "there" else JournalArtifacts(address)
