"""Everything that MLflow's stores would ask the server for, while the server is away: an exception in time."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from enum import Enum
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
from mlflow.entities import ExperimentTag, Feedback, GatewayResourceType
from mlflow.entities.model_registry import ModelVersion, PromptVersion
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from mlflow.exceptions import MlflowException
from mlflow.genai.label_schemas import InputCategorical
from mlflow.store.model_registry.abstract_store import AbstractStore as RegistryStore
from mlflow.store.tracking.abstract_store import AbstractStore as TrackingStore

from campaigns.servers import MlflowServer
from prism_mlflow.inside import coverage
from prism_mlflow.inside.addresses import journal_address
from prism_mlflow.inside.registry import JournalRegistryStore
from prism_mlflow.inside.store import JournalStore
from prism_mlflow.inside.within import Within, within

EVENT = WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED)
GIVEN: dict[str, Any] = {
    **{name: ["7"] for name in ("experiment_ids", "trace_ids", "item_ids", "scorer_ids", "dataset_record_ids")},
    **{name: [] for name in ("aggregations", "records", "mcp_servers", "model_configs", "locations")},
    "archive_existing_versions": False,
    "assessment": Feedback("x", value=1.0),
    "duration": SimpleNamespace(to_proto=lambda: None),
    "event": EVENT,
    "events": [EVENT],
    "input": InputCategorical(["a"]),
    "model_config": SimpleNamespace(to_proto=lambda: None),
    "resource_type": GatewayResourceType.SCORER,
    "prompt_versions": [PromptVersion("x", 1, "text")],
    "secret_value": {"api_key": "x"},
    "server_json": {"name": "x", "version": "1"},
    "src_mv": ModelVersion("x", "1", 0),
    "tag": ExperimentTag("k", "v"),
    "tags": {"k": "v"},
    "version": "1",
    "view_type": "TRACES",
}
"""What is given for a parameter of that name; otherwise what its type asks for."""
OPTIONAL = {
    "delete_traces": {"trace_ids": ["7"]},
    "search_traces": {"experiment_ids": ["7"]},
    "get_gateway_model_definition": {"model_definition_id": "x"},
}
"""What has a default that MLflow does not take."""


SERVERS_LACK = {
    *("find_completed_sessions", "get_active_online_scorers", "get_mcp_server_versions_for_trace"),
    *("get_online_trace_details", "link_mcp_server_versions_to_trace", "sum_gateway_trace_cost"),
    *("unlink_traces_from_run", "registry list_webhooks_by_event"),
}
"""What MLflow's own store of a server does not have: `NotImplementedError`, as without Prism."""


def plausible(parameter: inspect.Parameter) -> Any:
    """A value for a parameter that has no default."""
    kind = parameter.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if kind in (int, float):
        return kind(1)
    return GIVEN.get(parameter.name, "x")


def calls_of(store: Any, abstract: type, names: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each method, ready to be called."""
    for name in names:
        parameters = list(inspect.signature(getattr(abstract, name)).parameters.values())[1:]
        given = {one.name: plausible(one) for one in parameters if one.default is one.empty}
        yield name, lambda name=name, given=given: getattr(store, name)(**given | OPTIONAL.get(name, {}))  # type: ignore[misc]


def ask(here: Within, call: Callable[[], Any]) -> tuple[str, float]:
    """What a call raises, and after how many seconds; really asked, whatever was asked before."""
    here.server._refusing_until = 0.0
    began = time.monotonic()
    try:
        found = call()
    except MlflowException as error:
        return str(error), time.monotonic() - began
    except NotImplementedError:  # as with the server's store itself
        return "NotImplementedError", time.monotonic() - began
    return f"returned {found!r}", time.monotonic() - began


def stores(here: Within) -> tuple[Any, Any]:
    address = journal_address(here.run.directory)
    registry: Any = JournalRegistryStore
    return JournalStore(address), registry(address)


def test_whatever_is_asked_of_an_absent_server_raises(enter: Any, free_port: int) -> None:
    """Every method of the table, with nobody listening: each fails at once, and nothing goes on trying behind it."""
    inside = enter(f"http://127.0.0.1:{free_port}", timeout=10)
    here = within(inside.run.directory)
    tracking, registry = stores(here)
    calls = {
        **dict(calls_of(tracking, TrackingStore, coverage.FALLING_THROUGH)),
        **{
            f"registry {name}": call
            for name, call in calls_of(registry, RegistryStore, coverage.REGISTRY_FALLING_THROUGH)
        },
    }
    said = {name: ask(here, call) for name, call in calls.items()}
    assert {name for name, (text, _) in said.items() if text == "NotImplementedError"} == SERVERS_LACK
    wrong = {n: text for n, (text, _) in said.items() if n not in SERVERS_LACK and "cannot answer" not in text}
    assert wrong == {}
    # one that tried again, as MLflow does for minutes, would have been given up after ten seconds
    assert {name for name, (text, _) in said.items() if "timed out" in text} == set()
    assert {name: seconds for name, (_, seconds) in said.items() if seconds > 10} == {}


def test_what_is_asked_of_a_silent_server_raises_in_time(enter: Any, mlflow_server: MlflowServer) -> None:
    inside = enter(mlflow_server.uri, timeout=0.5)
    here = within(inside.run.directory)
    tracking, registry = stores(here)
    some = ("search_experiments", "get_trace_info", "create_mcp_server", "get_online_scoring_configs")
    with mlflow_server.paused():
        for name, call in (
            *calls_of(tracking, TrackingStore, some),
            *calls_of(registry, RegistryStore, ("search_registered_models", "get_latest_versions", "list_webhooks")),
            ("get_prompt", lambda: registry.get_prompt("x")),  # MLflow itself would say that there is no such prompt
        ):
            text, seconds = ask(here, call)
            assert "cannot answer" in text, name
            assert seconds < 5, name


def test_what_is_refused_says_why(enter: Any, free_port: int) -> None:
    """Nothing is asked of a server: there is none."""
    inside = enter(f"http://127.0.0.1:{free_port}", timeout=10)
    here = within(inside.run.directory)
    given = {"run_id": inside.run.run_id, "experiment_id": here.experiment}
    (store, _) = stores(here)
    for name, why in coverage.REFUSED.items():
        parameters = list(inspect.signature(getattr(TrackingStore, name)).parameters.values())[1:]
        arguments = {one.name: given.get(one.name, "x") for one in parameters if one.default is one.empty}
        with pytest.raises(MlflowException) as raised:
            getattr(store, name)(**arguments)
        assert str(raised.value) == f"{name}() {why}"
