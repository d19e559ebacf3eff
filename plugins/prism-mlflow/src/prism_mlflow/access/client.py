"""MLflow's client as delivery uses it: its calls, over stores and artifact repositories of our choosing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.tracing.client import TracingClient
from mlflow.tracking import MlflowClient
from mlflow.tracking._model_registry.client import ModelRegistryClient
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from prism_mlflow.access.artifacts import Artifacts, download

# MLflow's constructor builds a store for its address, and holds a lock of the whole process meanwhile: for this one
# it contacts nobody, and what it built is replaced
_NOWHERE = "http://nowhere.invalid"


class Client(MlflowClient):
    """`MlflowClient` that uses these stores; nothing of it is shared with MLflow's own clients of the address."""

    def __init__(self, uri: str, *, store: Any, registry: Callable[[], Any], artifacts: Artifacts) -> None:
        super().__init__(tracking_uri=_NOWHERE, registry_uri=_NOWHERE)
        self._registry_uri = uri
        self._artifacts = artifacts
        self._tracking_client = _Tracking(uri, store=store, artifacts=artifacts)
        self._tracing_client = _Tracing(uri, store=store)
        self._registry_of = registry

    def _get_registry_client(self) -> ModelRegistryClient:
        if (made := getattr(self, "_registry_client_lazy", None)) is None:
            made = self._registry_client_lazy = _Registry(self.tracking_uri, store=self._registry_of())
        return made

    @property
    def store(self) -> Any:
        """The store for runs, for calls on which this class would only spend time."""
        return self._tracking_client.store

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """The run's files and folders directly under `path`."""
        return list(self._tracking_client.list_artifacts(run_id, path))  # type: ignore[no-untyped-call]

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """Bring a file or folder of the run's to `dst_path` (a new folder if there is none); returns where it is."""
        return str(self._tracking_client.download_artifacts(run_id, path, dst_path))

    def repository(self, uri: str) -> Any:
        """The artifact repository for an address."""
        return self._artifacts.repository(uri)


class _Tracking(TrackingServiceClient):
    """MLflow's part for runs, with the store that it is given."""

    def __init__(self, uri: str, *, store: Any, artifacts: Artifacts) -> None:
        self._store, self._artifacts = store, artifacts
        self._places: dict[str, str] = {}
        super().__init__(uri)  # type: ignore[no-untyped-call]

    @property
    def store(self) -> Any:
        return self._store

    def _get_artifact_repo(self, resource_id: str, *, resource: str = "run") -> Any:
        if resource_id not in self._places:
            if resource == "logged_model":
                place = self.get_logged_model(resource_id).artifact_location
            else:
                place = self.get_run(resource_id).info.artifact_uri  # type: ignore[no-untyped-call]
            self._places[resource_id] = place
        return self._artifacts.repository(self._places[resource_id])

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        return list(self._get_artifact_repo(run_id).list_artifacts(path))

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        into = Path(dst_path or tempfile.mkdtemp(prefix="prism-"))
        return str(download(self._get_artifact_repo(run_id), path, into))

    def _log_url(self, run_id: str) -> None:
        """Not on standard output, which is the command's."""


class _Tracing(TracingClient):
    """MLflow's part for traces, with the store that it is given."""

    def __init__(self, uri: str, *, store: Any) -> None:
        self._store = store
        super().__init__(uri)

    @property
    def store(self) -> Any:
        return self._store


class _Registry(ModelRegistryClient):
    """MLflow's part for registered models, with the store that it is given."""

    def __init__(self, uri: str, *, store: Any) -> None:
        self._store = store
        super().__init__(uri, uri)  # type: ignore[no-untyped-call]

    @property
    def store(self) -> Any:
        return self._store
