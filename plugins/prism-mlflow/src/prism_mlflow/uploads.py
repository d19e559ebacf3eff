"""Bringing files to a run's artifacts, as they were when they were logged."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path
from tempfile import TemporaryDirectory

from prism.errors import Unreachable
from prism_mlflow.access.client import Client
from prism_mlflow.access.connection import Connection
from prism_mlflow.projection import File

# a smaller file is quicker sent twice than noted as sent
NOTED_SIZE = 16 << 20


def upload(connection: Connection, run_id: str, file: File) -> str:
    """Upload one file, over an earlier one of the same name; the empty string, or why there is nothing to upload.

    `run_id` is MLflow's. A file that was kept by reference only may be gone or changed since.
    """
    if not file.path.is_file():
        return "missing: the file was gone when it was to be delivered"
    if file.sha256 and sha256_of(file.path) != file.sha256:
        return f"changed since it was logged (then sha256 {file.sha256})"
    put(connection, run_id, path=file.path, name=file.name)
    return ""


def put(connection: Connection, run_id: str, *, path: Path, name: str) -> None:
    """Upload the file `path` as the artifact `name` of MLflow's run `run_id`."""
    folder, base = posixpath.split(name)
    with TemporaryDirectory(prefix="prism-") as temporary:
        link = Path(temporary) / base  # MLflow names an artifact after the file it is given
        link.symlink_to(path.absolute())
        with connection.reach(f"take the file {name}") as client:
            client.log_artifact(run_id, str(link), folder or None)
            size = path.stat().st_size
            if size >= NOTED_SIZE:
                _check_size(client, run_id, name=name, size=size)


def _check_size(client: Client, run_id: str, *, name: str, size: int) -> None:
    """Raise `Unreachable` when the store says that it has another number of bytes; some stores do not say."""
    listed = client.list_artifacts(run_id, posixpath.dirname(name) or None)
    kept = next((entry.file_size for entry in listed if entry.path == name), None)
    if kept is not None and kept != size:
        raise Unreachable(f"MLflow's artifact store has {kept} of the {size} bytes of {name}")


def put_text(connection: Connection, run_id: str, *, content: str, name: str) -> None:
    """Upload a text as the artifact `name` of MLflow's run `run_id`."""
    with TemporaryDirectory(prefix="prism-") as temporary:
        path = Path(temporary) / "content"
        path.write_text(content, encoding="utf-8", newline="")
        put(connection, run_id, path=path, name=name)


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hex."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
