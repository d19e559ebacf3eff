"""What MLflow calls for `prism-journal:` addresses: its plugin points for tracking, registry and artifacts.

MLflow imports this module while it is being imported itself, so the stores are imported when one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The store behind the tracking address of a run's journal."""
    from prism_mlflow.inside.store import JournalStore

    store: Any = JournalStore  # its other methods are made from the lists of `prism_mlflow.inside.coverage`
    return store(store_uri)


def registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    """The store behind the registry address of a run's journal."""
    from prism_mlflow.inside.registry import JournalRegistryStore

    store: Any = JournalRegistryStore
    return store(store_uri)


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    """The artifacts at an address within a run."""
    from prism_mlflow.inside.artifacts import open_artifacts

    return open_artifacts(artifact_uri)


def for_run(kind: str, address: str) -> Callable[..., Any]:
    """A builder of the store of that kind ("tracking", "registry") for a run, whatever address MLflow gives it."""
    return partial(_build, tracking_store if kind == "tracking" else registry_store, address)


def _build(build: Callable[[str], Any], address: str, **_: Any) -> Any:
    return build(address)
