"""MLflow's model registry inside a run: new models and versions go to the journal, the rest is asked of the server."""

from __future__ import annotations

import secrets
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.store.model_registry.abstract_store import AbstractStore

from prism_mlflow.inside import coverage
from prism_mlflow.inside.addresses import run_directory
from prism_mlflow.inside.asking import ask_server, falling_through
from prism_mlflow.inside.entities import as_registered_model, as_version, texts
from prism_mlflow.inside.told import ToldVersion
from prism_mlflow.inside.within import Within, for_mlflow, within

_FIRST_STAND_IN = 10**9
"""Numbers from here on stand for versions whose number the server has yet to give."""


class JournalRegistryStore(AbstractStore):
    """See `prism_mlflow.inside.coverage` for what becomes of each method."""

    def __init__(self, address: str) -> None:
        super().__init__(store_uri=address, tracking_uri=address)  # type: ignore[no-untyped-call]
        self._directory = run_directory(address)

    @property
    def _within(self) -> Within:
        return within(self._directory)

    @for_mlflow
    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: str | None = None
    ) -> RegisteredModel:
        """Answered as if it were new; delivery takes the one that is there."""
        self._within.say("create_registered_model", name=name, tags=texts(tags), description=description or "")
        return self.get_registered_model(name)

    @for_mlflow
    def get_registered_model(self, name: str) -> RegisteredModel:
        here = self._within
        told = here.told.poll()
        if name not in told.registered:
            found: RegisteredModel = ask_server(here, "get_registered_model", name, kind="registry")
            return found
        versions = [version for version in told.versions.values() if version.name == name]
        return as_registered_model(told.registered[name], versions)

    @for_mlflow
    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        here = self._within
        for version in here.told.poll().versions.values():
            if version.name == name and alias in version.aliases:
                return as_version(version)
        found: ModelVersion = ask_server(here, "get_model_version_by_alias", name, alias, kind="registry")
        return found

    @for_mlflow
    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        """A version under a number that stands for the one the server will give."""
        version = str(_FIRST_STAND_IN + secrets.randbelow(_FIRST_STAND_IN))
        facts = {"source": source, "run": run_id or "", "model": model_id or "", "description": description or ""}
        self._within.say("create_version", name=name, version=version, tags=texts(tags), **facts)
        return self.get_model_version(name, version)

    @for_mlflow
    def get_model_version(self, name: str, version: str) -> ModelVersion:
        own = self._own(name, version)
        return as_version(own) if own else ask_server(self._within, "get_model_version", name, version, kind="registry")

    @for_mlflow
    def get_model_version_download_uri(self, name: str, version: str) -> str:
        own = self._own(name, version)
        if own is not None:
            return own.source
        return str(ask_server(self._within, "get_model_version_download_uri", name, version, kind="registry"))

    @for_mlflow
    def set_model_version_tag(self, name: str, version: str, tag: Any) -> None:
        self._tell_or_ask("set_model_version_tag", name, version, tag, tags={tag.key: str(tag.value)})

    @for_mlflow
    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        self._tell_or_ask("delete_model_version_tag", name, version, key, untag=key)

    @for_mlflow
    def delete_model_version(self, name: str, version: str) -> None:
        self._tell_or_ask("delete_model_version", name, version, deleted=True)

    @for_mlflow
    def update_model_version(self, name: str, version: str, description: str | None = None) -> ModelVersion:
        self._tell_or_ask("update_model_version", name, version, description, description=description or "")
        return self.get_model_version(name, version)

    @for_mlflow
    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        if self._own(name, version) is not None:
            self._within.say("update_version", name=name, version=str(version), alias=alias)
        else:
            ask_server(self._within, "set_registered_model_alias", name, alias, version, kind="registry")

    def _await_model_version_creation(self, mv: ModelVersion, await_creation_for: int) -> None:
        """Nothing to wait for: delivery makes it."""

    def _own(self, name: str, version: str) -> ToldVersion | None:
        return self._within.told.poll().versions.get((name, str(version)))

    def _tell_or_ask(self, method: str, name: str, version: str, *arguments: Any, **change: Any) -> None:
        """Journal a change of a version of ours; ask the server for one of its own."""
        if self._own(name, version) is not None:
            self._within.say("update_version", name=name, version=str(version), **change)
        else:
            ask_server(self._within, method, name, version, *arguments, kind="registry")


for _method in (*coverage.REGISTRY_FALLING_THROUGH, *coverage.REGISTRY_BEYOND):
    setattr(JournalRegistryStore, _method, falling_through("registry", _method))
