"""Artifacts of runs and models: behind MLflow's server over our own transport, elsewhere as MLflow brings them."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.utils.mime_type_utils import _guess_mime_type
from mlflow.utils.uri import validate_path_is_safe

from prism_mlflow.access.bounded import Bounded
from prism_mlflow.access.guarded import Guarded
from prism_mlflow.access.location import Location
from prism_mlflow.access.transport import SERVER_SPEED, Transport, content_of, raise_refusal

_ROOT = "/api/2.0/mlflow-artifacts/artifacts"
_BLOCK = 1 << 20


@define
class Artifacts:
    """Where a connection's artifacts are: one repository for each address, made on first use."""

    location: Location
    transport: Transport
    bounded: Bounded
    _known: dict[str, Any] = field(factory=dict)

    def repository(self, uri: str) -> Any:
        """MLflow's `ArtifactRepository` for an address."""
        if uri not in self._known:
            self._known[uri] = self._make(uri)
        return self._known[uri]

    def _make(self, uri: str) -> Any:
        if uri.startswith("mlflow-artifacts:") and self.location.is_server:
            return ServedArtifacts(uri, self.transport)
        found = get_artifact_repository(uri, tracking_uri=self.location.uri)
        is_local = "://" not in uri or uri.startswith("file:")
        return found if is_local else Guarded(found, self._bound)

    def _bound(self, name: str, call: Callable[..., Any]) -> Any:
        given = getattr(call, "args", ())
        size = _size(Path(given[0])) if name.startswith("log_artifact") and given else 1 << 30
        return self.bounded.call(call, size=size / SERVER_SPEED)


class ServedArtifacts(ArtifactRepository):
    """Artifacts that MLflow's server keeps or passes on (`mlflow-artifacts:`), streamed in both directions."""

    def __init__(self, uri: str, transport: Transport) -> None:
        host = transport.creds().host
        super().__init__(uri, tracking_uri=host)
        resolved: str = MlflowArtifactsRepository.resolve_uri(uri, host)  # type: ignore[no-untyped-call]
        self._folder = resolved.split(_ROOT, maxsplit=1)[1].strip("/")
        self._transport = transport

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Send one file; one of the same name is replaced. Whoever is cut off sends it again from its beginning."""
        verify_artifact_path(artifact_path)  # type: ignore[no-untyped-call]
        name = posixpath.join(artifact_path or "", posixpath.basename(local_file))
        headers = {"Content-Type": _guess_mime_type(name)}  # type: ignore[no-untyped-call]
        with Path(local_file).open("rb") as content:
            self._transport.request("PUT", self._endpoint(name), data=content, headers=headers)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Send a folder's files."""
        root = Path(local_dir).absolute()
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            below = path.parent.relative_to(root).as_posix()
            folder = posixpath.normpath(posixpath.join(artifact_path or "", below))
            self.log_artifact(str(path), None if folder == "." else folder)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What is directly under `path`."""
        folder = posixpath.join(self._folder, path) if path else self._folder
        response = self._transport.request("GET", _ROOT, params={"path": folder})
        found = [self._info(entry, path) for entry in content_of(response).get("files", [])]
        if len(found) == 1 and path and found[0].path == posixpath.join(path, posixpath.basename(path)):
            return []  # `path` is itself a file
        return sorted(found, key=lambda entry: str(entry.path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or folder."""
        self._transport.request("DELETE", self._endpoint(artifact_path or ""))

    def _info(self, entry: dict[str, Any], path: str | None) -> FileInfo:
        name = validate_path_is_safe(entry["path"])  # type: ignore[no-untyped-call]
        size = int(entry["file_size"]) if "file_size" in entry else None
        return FileInfo(posixpath.join(path or "", name), entry.get("is_dir", False), size)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with self._transport.stream("GET", self._endpoint(remote_file_path)) as response:
            raise_refusal(response, remote_file_path)
            with Path(local_path).open("wb") as content:
                for block in response.iter_content(_BLOCK):
                    content.write(block)

    def _endpoint(self, name: str) -> str:
        return posixpath.join(_ROOT, self._folder, name)


def download(repository: Any, path: str, into: Path) -> Path:
    """Bring the artifact `path`, a file or a folder, to the folder `into`; returns where it is.

    As MLflow's own, without its progress bar.
    """
    target = into / posixpath.basename(path.rstrip("/")) if path else into
    entries = repository.list_artifacts(path or None)
    if not entries and path:
        repository._download_file(path, str(target))
        return target
    target.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        if entry.is_dir:
            download(repository, entry.path, target)
        else:
            repository._download_file(entry.path, str(target / posixpath.basename(entry.path)))
    return target


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
