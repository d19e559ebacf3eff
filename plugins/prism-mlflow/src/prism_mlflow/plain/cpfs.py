"""MLflow's artifact repository `cpfs://`: files on a mounted parallel file system.

MLflow imports this module whenever it is imported itself, for everybody in the environment: what the
address means is worked out when the first file is touched.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository

_INCOMING = ".prism-incoming-"
_CHUNK = 1 << 20


class CpfsArtifactRepository(ArtifactRepository):
    """The folder that a `cpfs://` address means, which must lie under a known root.

    A file is written under a name of its own, synced, and renamed over its place, so nobody reads a part
    of one. Folders are never renamed: that is costly on such file systems, or not atomic.
    """

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        self._put(Path(local_file), self._inside(artifact_path) / Path(local_file).name)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        target = self._inside(artifact_path)
        target.mkdir(parents=True, exist_ok=True)
        for folder, folders, files in os.walk(local_dir, followlinks=True):
            place = target / os.path.relpath(folder, local_dir)
            for name in folders:
                (place / name).mkdir(exist_ok=True)
            for name in files:
                self._put(Path(folder) / name, place / name)

    def log_artifact_from_stream(
        self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None
    ) -> None:
        """Write what `stream` gives: for a server that takes an upload."""
        self._write(stream, self._inside(artifact_path) / Path(artifact_file_name).name)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What lies directly under the folder `path`, by name; nothing for a file or where there is nothing."""
        folder = self._inside(path)
        if not folder.is_dir():
            return []
        entries = (entry for entry in folder.iterdir() if not entry.name.startswith(_INCOMING))
        return [self._info(entry) for entry in sorted(entries)]

    def get_local_path(self, artifact_path: str) -> str:
        """Where the artifact lies on this machine."""
        return str(self._existing(artifact_path))

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> Any:
        """The artifact where it lies, or a copy under `dst_path` where one is asked for."""
        if dst_path is None:
            return str(self._existing(artifact_path))
        return super().download_artifacts(artifact_path, dst_path)  # type: ignore[no-untyped-call]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, or a folder with everything in it; what is not there is deleted already."""
        path = self._inside(artifact_path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        shutil.copyfile(self._existing(remote_file_path), local_path)

    def _is_directory(self, artifact_path: str) -> bool:
        return self._inside(artifact_path).is_dir()

    @cached_property
    def _folder(self) -> Path:
        from prism_mlflow.plain.cpfs_roots import folder_of  # reads the project's configuration: only who uses one

        return folder_of(self.artifact_uri)

    def _inside(self, path: str | None) -> Path:
        """The place of an artifact. Raises `MlflowException` for a path that leaves the repository."""
        parts = PurePosixPath(path or "").parts
        if "\0" in (path or "") or ".." in parts or PurePosixPath(path or "").is_absolute():
            raise _invalid(f"{path!r} is no artifact path: a relative one without '..'")
        place = self._folder.joinpath(*parts)
        if not place.resolve().is_relative_to(self._folder):  # by a symbolic link
            raise _invalid(f"{path!r} leaves the artifacts in {self._folder}")
        return place

    def _existing(self, path: str | None) -> Path:
        place = self._inside(path)
        if not place.exists():
            raise MlflowException(f"No such artifact: {path!r}", error_code=RESOURCE_DOES_NOT_EXIST)
        return place

    def _info(self, entry: Path) -> FileInfo:
        name = entry.relative_to(self._folder).as_posix()
        return FileInfo(name, True, None) if entry.is_dir() else FileInfo(name, False, entry.stat().st_size)

    def _put(self, source: Path, target: Path) -> None:
        if target.exists() and source.samefile(target):
            return
        with source.open("rb") as stream:
            self._write(stream, target)

    def _write(self, stream: BinaryIO, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = target.parent / f"{_INCOMING}{uuid.uuid4().hex}"
        try:
            with incoming.open("xb") as copy:
                for chunk in _chunks(stream):
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            incoming.replace(target)
        finally:
            with suppress(OSError):  # gone since it was renamed, or the file system is
                incoming.unlink(missing_ok=True)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _invalid(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)
