"""Every method of MLflow's stores is looked at: a new MLflow with a new one fails here."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from types import ModuleType
from typing import Any

import mlflow.tracking._model_registry.client as registry_client
import mlflow.tracking._tracking_service.client as tracking_client
import pytest
from mlflow.store.model_registry.abstract_store import AbstractStore as RegistryStore
from mlflow.store.tracking.abstract_store import AbstractStore as TrackingStore

from prism_mlflow.inside import coverage
from prism_mlflow.inside.registry import JournalRegistryStore
from prism_mlflow.inside.store import JournalStore

TRACKING = (
    *(coverage.JOURNALLED, coverage.ANSWERED, coverage.MERGED, coverage.DROPPED, tuple(coverage.REFUSED)),
    coverage.FALLING_THROUGH,
)
REGISTRY = (
    *(coverage.REGISTRY_JOURNALLED, coverage.REGISTRY_ANSWERED, coverage.REGISTRY_JOURNALLED_FOR_NEW),
    coverage.REGISTRY_FALLING_THROUGH,
)
# These stand on others of the class that are listed, or need no run.
INHERITED = {
    *("log_metric_async", "log_param_async", "set_tag_async", "search_runs", "supports_trace_archival"),
    *("supports_workspaces", "_evenly_spaced_indices", "get_metric_history_bulk_interval"),
    *("get_metric_history_bulk_interval_from_steps", "_await_model_version_creation_impl"),
    "_parse_experiment_id_filter",
}


def methods(store: type) -> set[str]:
    return {name for name in dir(store) if not name.startswith("__")}


@pytest.mark.parametrize(("abstract", "lists"), [(TrackingStore, TRACKING), (RegistryStore, REGISTRY)])
def test_every_method_stands_in_one_list(abstract: type, lists: tuple[tuple[str, ...], ...]) -> None:
    counted = Counter(name for names in lists for name in names)
    assert methods(abstract) - counted.keys() == set(), "MLflow has methods that nobody has looked at"
    assert counted.keys() - methods(abstract) == set(), "MLflow has no such methods any more"
    assert not [name for name, count in counted.items() if count > 1]


@pytest.mark.parametrize(("abstract", "ours"), [(TrackingStore, JournalStore), (RegistryStore, JournalRegistryStore)])
def test_every_method_is_our_own(abstract: type, ours: Any) -> None:
    def of_ours(name: str) -> bool:
        return bool(inspect.getattr_static(ours, name) is not inspect.getattr_static(abstract, name))

    inherited = {name for name in methods(abstract) if not of_ours(name)}
    assert inherited == INHERITED & methods(abstract)


@pytest.mark.parametrize(("client", "ours"), [(tracking_client, JournalStore), (registry_client, JournalRegistryStore)])
def test_what_mlflows_clients_call_is_there(client: ModuleType, ours: type) -> None:
    """Clients call some methods that the abstract class does not declare."""
    called = set(re.findall(r"self\.store\.(\w+)\(", inspect.getsource(client)))
    of_servers_only = {"get_host_creds"}
    assert {name for name in called if not hasattr(ours, name)} == of_servers_only & called
    abstract, beyond = (TrackingStore, coverage.BEYOND)
    if ours is JournalRegistryStore:
        abstract, beyond = (RegistryStore, coverage.REGISTRY_BEYOND)
    assert called - methods(abstract) - of_servers_only == set(beyond)


def test_signatures_take_what_mlflow_gives() -> None:
    """What is written by hand has MLflow's parameters, in MLflow's order."""
    for ours, abstract in ((JournalStore, TrackingStore), (JournalRegistryStore, RegistryStore)):
        made = {*coverage.FALLING_THROUGH, *coverage.REGISTRY_FALLING_THROUGH, *coverage.REFUSED}
        for name in methods(abstract) - made - INHERITED:
            mine = list(inspect.signature(getattr(ours, name)).parameters)
            theirs = list(inspect.signature(getattr(abstract, name)).parameters)
            assert mine == theirs, name
